//! How a word as typed finds its way to one that is known: exactly, by its short form, with letters repeated,
//! in parts or run together with its neighbours, misspelt by a bounded number of edits, or as it sounds.

use std::borrow::Cow;

use super::forms::Forms;
use super::lexicon::{Guess, Langs, Lexicon, Word};
use super::normal::{Break, Tokens};
use super::pieces::Piece;
use super::spelling::distance;

/// Most words one token may stand for.
const MAX_READINGS: usize = 4;
/// Tokens of one text that are worth a repair; an SMS has fewer, and a longer text stays cheap.
const MAX_REPAIRS: usize = 120;
/// Letters of a token that may be words run together.
const SPLIT_LETTERS: std::ops::RangeInclusive<usize> = 5..=40;
const SPLIT_PIECES: usize = 9;
/// Octets of a word that was typed in two parts.
const JOINED_OCTETS: std::ops::RangeInclusive<usize> = 5..=30;
/// Octets of a word that is looked up with a letter doubled.
const DOUBLED_OCTETS: std::ops::RangeInclusive<usize> = 3..=6;
/// Letters of a word typed letter by letter, at most.
const SPELT_LETTERS: usize = 16;

/// What a token may be read as, and how many edits away that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The word.
    pub word: Word,
    /// Edits between it and what was typed.
    pub edits: u8,
}

/// What it costs a pattern to skip a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Nothing: an article.
    Free,
    /// One word of the gap.
    Paid,
    /// Never: a negation.
    Never,
}

/// A word of the text, ready for matching. Units of a split token or a short form share its place.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Place in the original text, in characters.
    pub start: usize,
    /// Character after it.
    pub end: usize,
    /// What stood before it.
    pub before: Break,
    /// Whether a pattern may skip it.
    pub skip: Skip,
    /// Whether it is an ordinary word of the text's language.
    pub ordinary: bool,
    readings: [Reading; MAX_READINGS],
    count: u8,
}

impl Unit {
    /// Words it may be; empty for a word nobody knows.
    pub fn readings(&self) -> &[Reading] {
        &self.readings[..usize::from(self.count)]
    }
}

/// A text as the lexicon reads it.
#[derive(Debug)]
pub struct ReadText {
    /// Its words.
    pub units: Vec<Unit>,
    /// Its language.
    pub guess: Guess,
    /// Languages whose patterns apply.
    pub active: Langs,
}

impl Lexicon {
    /// Reads a text: finds its language first, then what each token means in it.
    pub fn read(&self, tokens: &Tokens) -> ReadText {
        let pieces = self.pieces(tokens);
        let (guess, active) = self.language(&pieces);
        let mut formed: Vec<(usize, &Forms)> = self
            .forms
            .iter()
            .enumerate()
            .filter_map(|(lang, forms)| Some((lang, forms.as_ref()?)))
            .filter(|(lang, _)| active & (1 << lang) != 0)
            .collect();
        formed.sort_by_key(|&(lang, _)| lang != guess.lang);
        let mut reader = Reader {
            lexicon: self,
            lang: guess.lang,
            active,
            formed,
            repairs: MAX_REPAIRS,
            units: Vec::with_capacity(pieces.len() + 4),
        };
        let mut rest = &pieces[..];
        while let Some((first, tail)) = rest.split_first() {
            if let Some((count, whole)) = reader.joined(rest) {
                reader.read(&whole);
                rest = &rest[count..];
            } else {
                reader.read(first);
                rest = tail;
            }
        }
        ReadText {
            units: reader.units,
            guess,
            active,
        }
    }
}

struct Reader<'l> {
    lexicon: &'l Lexicon,
    /// The language of the text.
    lang: usize,
    active: Langs,
    /// Active languages with forms of words, the text's own one first.
    formed: Vec<(usize, &'l Forms)>,
    repairs: usize,
    units: Vec<Unit>,
}

impl<'l> Reader<'l> {
    /// «un conscious», «h e l p»: how many pieces are one word that a pattern asks for, and that word.
    fn joined<'t>(&self, pieces: &[Piece<'t>]) -> Option<(usize, Piece<'t>)> {
        let together = |count: usize| {
            let parts = pieces[..count].iter();
            let letters: String = parts.map(|piece| &*piece.letters).collect();
            let word = *self.lexicon.words.get(letters.as_str())?;
            let whole = Piece {
                end: pieces[count - 1].end,
                letters: Cow::Owned(letters),
                ..pieces[0].clone()
            };
            (self.lexicon.entry(word).target & self.active != 0).then_some((count, whole))
        };
        let is_letter = |piece: &Piece<'_>| {
            let mut letters = piece.letters.chars();
            letters.next().is_some_and(char::is_alphabetic) && letters.next().is_none()
        };
        let follows = |piece: &Piece<'_>| piece.before < Break::Sentence;
        let [first, second, ..] = pieces else {
            return None;
        };
        if is_letter(first) && is_letter(second) {
            let single = pieces[1..]
                .iter()
                .take(SPELT_LETTERS)
                .take_while(|piece| is_letter(piece) && follows(piece));
            let count = single.count() + 1;
            return if count > 2 { together(count) } else { None };
        }
        let ordinary = |piece: &Piece<'_>| {
            let word = self.lexicon.words.get(&*piece.letters);
            word.is_some_and(|&word| self.lexicon.entry(word).langs & (1 << self.lang) != 0)
                || self.lexicon.short.contains_key(&*piece.letters)
        };
        let letters = first.letters.len() + second.letters.len();
        let may = second.before == Break::None
            && JOINED_OCTETS.contains(&letters)
            && second.letters.len() > 2
            && !(ordinary(first) && ordinary(second));
        if may { together(2) } else { None }
    }

    fn read(&mut self, piece: &Piece<'_>) {
        let typed = &*piece.letters;
        if self.exact(piece, typed, 0) {
            return;
        }
        let mut chars = typed.chars();
        if chars.next().is_some_and(char::is_numeric) {
            let known = [self.lexicon.number, self.lexicon.year];
            let known = known.map(|word| Reading { word, edits: 0 });
            let count = if chars.all(char::is_numeric) {
                1 + usize::from(is_year(typed))
            } else {
                0
            };
            self.push(piece, piece.before, &known[..count]);
            return;
        }
        let short = collapsed(typed, 3, 2);
        let once = [short.clone(), collapsed(typed, 3, 1)];
        if (once.iter().flatten()).any(|letters| self.exact(piece, letters, 0)) {
            return;
        }
        if let Some(once) = collapsed(typed, 2, 1).filter(|once| self.belongs(once))
            && self.exact(piece, &once, 1)
        {
            return;
        }
        let letters = short.as_deref().unwrap_or(typed);
        if self.taken_apart(piece, letters) {
            return;
        }
        if self.repairs > 0 && letters.chars().all(char::is_alphabetic) {
            self.repairs -= 1;
            if self.repaired(piece, letters) {
                return;
            }
        }
        self.push(piece, piece.before, &[]);
    }

    /// What a token that is no word was meant to be.
    fn repaired(&mut self, piece: &Piece<'_>, letters: &str) -> bool {
        let chars: Vec<char> = letters.chars().collect();
        let mut readings = self.of_stem(letters);
        if readings.is_empty() {
            readings = self.doubled(letters);
        }
        if readings.is_empty() {
            readings = self.misspelt(letters, &chars, 1);
            for reading in self.of_consonants(&chars) {
                if readings.iter().all(|known| known.word != reading.word) {
                    readings.push(reading);
                }
            }
        }
        if readings.is_empty() {
            let meant = |word| self.lexicon.entry(word).target & self.active != 0;
            let found = self.lexicon.spelling.nearest(&chars, 1, meant);
            readings.extend(
                found
                    .into_iter()
                    .map(|(word, edits)| Reading { word, edits }),
            );
        }
        if readings.is_empty() && self.run_together(piece, letters, &chars) {
            return true;
        }
        if readings.is_empty() {
            readings = self.misspelt(letters, &chars, 2);
        }
        if readings.is_empty() {
            readings = self.sounding(&chars);
        }
        if !readings.is_empty() {
            self.push(piece, piece.before, &readings);
        }
        !readings.is_empty()
    }

    /// A word or short form as it stands.
    fn exact(&mut self, piece: &Piece<'_>, letters: &str, edits: u8) -> bool {
        if let Some(words) = self.short(letters) {
            let mut before = piece.before;
            for &word in words {
                self.push(piece, before, &[Reading { word, edits }]);
                before = Break::None;
            }
            return true;
        }
        let mut readings = Vec::new();
        if let Some(&word) = self.lexicon.words.get(letters)
            && (self.formed.is_empty()
                || self.lexicon.entry(word).langs & self.active & !self.lexicon.formed != 0)
        {
            readings.push(Reading { word, edits });
        }
        let folded = self
            .formed
            .iter()
            .flat_map(|(_, forms)| forms.readings(&forms.fold(letters)));
        readings.extend(folded.map(|word| Reading { word, edits }));
        // «maarket» folds to a loanword of one language and is a misspelt word of its neighbour.
        for (_, forms) in &self.formed {
            let of = self.active & !self.lexicon.formed;
            if let Some(&word) = self.lexicon.words.get(&*forms.fold(letters))
                && self.lexicon.entry(word).langs & of != 0
                && readings.iter().all(|known| known.word != word)
            {
                readings.push(Reading { word, edits });
            }
        }
        if readings.is_empty() {
            return false;
        }
        // A word that stands in no pattern may be a form of one that does.
        if edits == 0
            && let [Reading { word, .. }] = readings[..]
            && self.lexicon.entry(word).stop & self.active == 0
            && self.lexicon.entry(word).cue & self.active == 0
        {
            readings.extend(self.of_stem(letters));
        }
        if letters.bytes().all(|b| b.is_ascii_digit()) {
            let word = self.lexicon.number;
            readings.insert(1, Reading { word, edits });
        }
        self.push(piece, piece.before, &readings);
        true
    }

    /// What a short form stands for. The language of the text goes before a neighbour whose words are in it too:
    /// «pa» is Spanish «para», but Creole «not».
    fn short(&self, letters: &str) -> Option<&'l [Word]> {
        let meanings = self.lexicon.short.get(letters)?;
        let of = |langs: Langs| meanings.iter().find(|(known, _)| known & langs != 0);
        let own: Langs = 1 << self.lang;
        let is_own_word = || {
            let word = self.lexicon.words.get(letters);
            word.is_some_and(|&word| self.lexicon.entry(word).langs & own != 0)
        };
        let (_, words) = match of(own) {
            None if is_own_word() => None,
            None => of(self.active),
            own => own,
        }?;
        Some(words)
    }

    /// A word with what its language writes onto it: «والبيت», «ameniuma».
    fn taken_apart(&mut self, piece: &Piece<'_>, letters: &str) -> bool {
        let found = self.formed.iter().find_map(|&(_, forms)| {
            let words = forms.taken_apart(&forms.fold(letters))?;
            Some((forms, words))
        });
        let Some((forms, words)) = found else {
            return false;
        };
        let mut before = piece.before;
        for word in words {
            let readings = forms.with_stem(word).map(|word| Reading { word, edits: 0 });
            self.push(piece, before, &readings.collect::<Vec<_>>());
            before = Break::None;
        }
        true
    }

    fn push(&mut self, piece: &Piece<'_>, before: Break, readings: &[Reading]) {
        let mut kept = [Reading { word: 0, edits: 0 }; MAX_READINGS];
        let count = readings.len().min(MAX_READINGS);
        kept[..count].copy_from_slice(&readings[..count]);
        let (mut blocks, mut filler) = (0, 0);
        for entry in kept[..count].iter().map(|r| self.lexicon.entry(r.word)) {
            blocks |= entry.blocks;
            filler |= entry.filler;
        }
        let skip = if blocks & self.active != 0 {
            Skip::Never
        } else if filler & self.active != 0 {
            Skip::Free
        } else {
            Skip::Paid
        };
        let ordinary = (readings.iter())
            .any(|reading| self.lexicon.entry(reading.word).stop & (1 << self.lang) != 0);
        let (start, end) = (piece.start, piece.end);
        self.units.push(Unit {
            start,
            end,
            before,
            skip,
            ordinary,
            readings: kept,
            count: u8::try_from(count).unwrap_or(0),
        });
    }

    fn may_be_meant(&self, word: Word) -> bool {
        let entry = self.lexicon.entry(word);
        entry.target & !entry.stop & self.active != 0
    }

    /// The nearest words of the active languages, at most `depth` edits away.
    fn misspelt(&self, letters: &str, chars: &[char], depth: usize) -> Vec<Reading> {
        let among = |chars: &[char], langs: Langs| {
            let meant = |word: Word| {
                let entry = self.lexicon.entry(word);
                entry.target & !entry.stop & langs != 0
            };
            self.lexicon.spelling.nearest(chars, depth, meant)
        };
        let mut found = among(chars, self.active & !self.lexicon.formed);
        for &(lang, forms) in &self.formed {
            let folded: Vec<char> = forms.fold(letters).chars().collect();
            found.extend(among(&folded, 1 << lang));
        }
        found
            .into_iter()
            .map(|(word, edits)| Reading { word, edits })
            .collect()
    }

    /// The words that this one is a form of: «mumbles».
    fn of_stem(&self, letters: &str) -> Vec<Reading> {
        let words = self.lexicon.sounds.of_stem(letters, self.lang).iter();
        words.map(|&word| Reading { word, edits: 1 }).collect()
    }

    /// A short word with a letter that should be double: «egs», «fel».
    fn doubled(&self, letters: &str) -> Vec<Reading> {
        let mut readings = Vec::new();
        if !DOUBLED_OCTETS.contains(&letters.len()) || !letters.is_ascii() {
            return readings;
        }
        for at in 0..letters.len() {
            let typed = [&letters[..=at], &letters[at..]].concat();
            if let Some(&word) = self.lexicon.words.get(typed.as_str())
                && self.may_be_meant(word)
                && readings.iter().all(|known: &Reading| known.word != word)
            {
                readings.push(Reading { word, edits: 1 });
            }
        }
        readings
    }

    /// The words that have these consonants, when no vowel was typed: «brthng».
    fn of_consonants(&self, letters: &[char]) -> Vec<Reading> {
        let words = self.lexicon.sounds.of_consonants(letters).iter();
        words
            .filter(|&&word| self.may_be_meant(word))
            .map(|&word| Reading { word, edits: 1 })
            .collect()
    }

    /// The words that sound like this and are spelt not too differently: «seezure».
    fn sounding(&self, letters: &[char]) -> Vec<Reading> {
        let heard = |lang: usize| self.active & (1 << lang) != 0;
        let mut readings: Vec<Reading> = Vec::new();
        for word in self.lexicon.sounds.alike(letters, heard) {
            let Some(target) = self.lexicon.spelling.letters(word) else {
                continue;
            };
            let edits = distance(letters, target);
            if self.may_be_meant(word) && edits <= target.len() / 3 + 1 {
                let edits = u8::try_from(edits).unwrap_or(u8::MAX);
                readings.push(Reading { word, edits });
            }
        }
        let least = readings.iter().map(|reading| reading.edits).min();
        readings.retain(|reading| Some(reading.edits) == least);
        readings
    }

    /// «cantbreathe», «helpme»: the fewest known words that cover the token.
    fn run_together(&mut self, piece: &Piece<'_>, letters: &str, chars: &[char]) -> bool {
        if !SPLIT_LETTERS.contains(&chars.len()) {
            return false;
        }
        let length = chars.len();
        let places: Vec<usize> = letters
            .char_indices()
            .map(|(place, _)| place)
            .chain([letters.len()])
            .collect();
        let mut best = [(usize::MAX, 0_usize); *SPLIT_LETTERS.end() + 1];
        best[0] = (0, 0);
        for from in 0..length {
            let (count, _) = best[from];
            if count >= SPLIT_PIECES {
                continue;
            }
            for to in from + 1..=length.min(from + 14) {
                let part = &letters[places[from]..places[to]];
                let fits = match to - from {
                    1 => matches!(part, "i" | "a"),
                    _ => self.belongs(part),
                };
                if fits && count + 1 < best[to].0 {
                    best[to] = (count + 1, from);
                }
            }
        }
        if best[length].0 > SPLIT_PIECES {
            return false;
        }
        let mut parts = Vec::new();
        let mut to = length;
        while to > 0 {
            let from = best[to].1;
            parts.push((&letters[places[from]..places[to]], to - from));
            to = from;
        }
        parts.reverse();
        let (mut ordinary, mut cue) = (0, false);
        for &(part, letters) in &parts {
            let mut stop = false;
            let folded = self
                .formed
                .iter()
                .filter_map(|(_, forms)| forms.get(&forms.fold(part)));
            for word in self
                .lexicon
                .words
                .get(part)
                .copied()
                .into_iter()
                .chain(folded)
            {
                let entry = self.lexicon.entry(word);
                stop |= entry.stop & self.active != 0;
                cue |= entry.target & self.active != 0 && letters > 2;
            }
            ordinary += usize::from(stop);
        }
        let both = ordinary == parts.len();
        // Two long words need no ordinary one between them: «chestpain». Short pieces are found in any letters
        // («her-man-o»); real ones are longer on the whole, or are two words that only lack their space: «isnot»,
        // «aheart».
        let fits = if let [(_, first), (_, second)] = parts[..] {
            let each = |long: usize| first > long && second > long;
            (each(3) && cue) || (each(1) && both) || (first == 1 && second > 3 && (cue || both))
        } else {
            ordinary > 0 && cue && length >= 3 * parts.len()
        };
        if parts.len() < 2 || !fits {
            return false;
        }
        let mut before = piece.before;
        for (part, _) in parts {
            self.exact(
                &Piece {
                    before,
                    ..piece.clone()
                },
                part,
                1,
            );
            before = Break::None;
        }
        true
    }

    fn belongs(&self, part: &str) -> bool {
        self.lexicon
            .words
            .get(part)
            .is_some_and(|&word| self.lexicon.entry(word).langs & self.active != 0)
    }
}

fn is_year(digits: &str) -> bool {
    digits.len() == 4 && (digits.starts_with("19") || digits.starts_with("20"))
}

/// The token with each run of at least `from` equal letters cut to `keep`, if it has one.
fn collapsed(letters: &str, from: usize, keep: usize) -> Option<String> {
    let mut out = String::with_capacity(letters.len());
    let mut cut = false;
    let mut rest = letters;
    while let Some(first) = rest.chars().next() {
        let after = rest.trim_start_matches(first);
        let run = (rest.len() - after.len()) / first.len_utf8();
        let kept = if run >= from { keep.min(run) } else { run };
        cut |= kept < run;
        // Whoever holds a key down in one place may double letters in another.
        let kept = if from > 2 { kept.min(keep) } else { kept };
        out.extend(std::iter::repeat_n(first, kept));
        rest = after;
    }
    cut.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_collapse() {
        assert_eq!(collapsed("heeelp", 3, 1).as_deref(), Some("help"));
        assert_eq!(collapsed("bleeeeding", 3, 2).as_deref(), Some("bleeding"));
        assert_eq!(collapsed("bleeding", 3, 1), None);
        assert_eq!(collapsed("heelp", 2, 1).as_deref(), Some("help"));
    }
}
