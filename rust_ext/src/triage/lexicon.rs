//! Every word the data knows, and how a word as typed finds its way to one: exactly, by its short form, with
//! letters repeated, with what the language writes onto it, run together with its neighbours, or misspelt by a
//! bounded number of edits.
//!
//! A language that declares forms has words of its own, kept by their folded letters in [`Forms`]; the words
//! of all others share one table.

use rustc_hash::FxHashMap;

use super::forms::{Forms, Place};
use super::normal::{Break, Tokens};
use super::spelling::Spelling;

/// Index of a word in the lexicon.
pub type Word = u32;
/// One bit per language, in the order of the files.
pub type Langs = u16;

/// Stands for any number in a pattern.
pub const NUMBER: &str = "#";
/// Stands for a number that looks like a year.
pub const YEAR: &str = "#year";

/// Most words one token may stand for.
const MAX_READINGS: usize = 4;
/// Tokens of one text that are worth a repair; an SMS has fewer, and a longer text stays cheap.
const MAX_REPAIRS: usize = 120;
/// Words by which a language has to lead for a confidence of one half: one alone is not enough.
const HALF_SURE: f32 = 1.2;
/// What a word counts for its language when an affix had to be taken away: letters at its end may be chance.
const AFFIXED_VOTE: f32 = 0.5;
/// Letters of a token that may be words run together.
const SPLIT_LETTERS: std::ops::RangeInclusive<usize> = 5..=32;
const SPLIT_PIECES: usize = 7;

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// Languages in which the word says something about the language.
    langs: Langs,
    /// Languages in which a pattern may skip it.
    filler: Langs,
    /// Languages in which no pattern may skip it.
    blocks: Langs,
    /// Languages in which it stands apart when it follows an apostrophe.
    apart: Langs,
    /// Languages in which it is an ordinary word, never a cue's misspelling.
    stop: Langs,
    /// Languages where a misspelling may mean it.
    target: Langs,
}

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

/// The language of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guess {
    /// Index of the language.
    pub lang: usize,
    /// 0 for no evidence, towards 1 with many words that only this language has.
    pub confidence: f32,
}

/// Words of all languages, fixed after loading.
#[derive(Debug, Default)]
pub struct Lexicon {
    words: FxHashMap<Box<str>, Word>,
    entries: Vec<Entry>,
    short: FxHashMap<Box<str>, Vec<(Langs, Vec<Word>)>>,
    letters: Vec<(char, char, usize)>,
    /// Of each language that declares forms of words; bits in `formed`.
    forms: Vec<Option<Forms>>,
    formed: Langs,
    spelling: Spelling,
    languages: usize,
    number: Word,
    year: Word,
}

/// Collects the words of the files.
#[derive(Debug, Default)]
pub struct Builder {
    lexicon: Lexicon,
}

impl Builder {
    /// Starts a language; its index. `forms` is none for a language that declares none.
    pub fn language(&mut self, letters: Vec<(char, char)>, forms: Option<Forms>) -> usize {
        let lang = self.lexicon.languages;
        self.lexicon.languages += 1;
        self.lexicon
            .letters
            .extend(letters.into_iter().map(|(low, high)| (low, high, lang)));
        self.lexicon.formed |= Langs::from(forms.is_some()) << lang;
        self.lexicon.forms.push(forms);
        lang
    }

    fn word(&mut self, text: &str) -> Word {
        let next = Word::try_from(self.lexicon.entries.len()).unwrap_or(Word::MAX);
        let word = *self.lexicon.words.entry(text.into()).or_insert(next);
        if word == next {
            self.lexicon.entries.push(Entry::default());
        }
        word
    }

    /// A word of a language, and what is noted of it. Of a language with forms both the word as written and
    /// the one its letters fold to are known; the folded one is what patterns mean.
    fn mark(&mut self, lang: usize, text: &str, note: impl Fn(&mut Entry)) -> Word {
        let written = self.word(text);
        if text.starts_with('#') {
            return written;
        }
        let Lexicon { entries, forms, .. } = &mut self.lexicon;
        entries[written as usize].langs |= 1 << lang;
        note(&mut entries[written as usize]);
        let Some(forms) = &mut forms[lang] else {
            return written;
        };
        let next = Word::try_from(entries.len()).unwrap_or(Word::MAX);
        let word = forms.add(forms.fold(text), next);
        if word == next {
            entries.push(Entry::default());
        }
        entries[word as usize].langs |= 1 << lang;
        note(&mut entries[word as usize]);
        word
    }

    /// An ordinary word that tells the language.
    pub fn stop(&mut self, lang: usize, text: &str) {
        self.mark(lang, text, |entry| entry.stop |= 1 << lang);
    }

    /// An ordinary word that patterns skip for nothing.
    pub fn filler(&mut self, lang: usize, text: &str) {
        self.mark(lang, text, |entry| {
            entry.stop |= 1 << lang;
            entry.filler |= 1 << lang;
        });
    }

    /// A word that no pattern skips.
    pub fn block(&mut self, lang: usize, text: &str) {
        self.mark(lang, text, |entry| entry.blocks |= 1 << lang);
    }

    /// What always stands apart after an apostrophe: «ll» of «I'll».
    pub fn apart(&mut self, lang: usize, text: &str) {
        self.filler(lang, text);
        self.mark(lang, text, |entry| entry.apart |= 1 << lang);
    }

    /// An ordinary word that only stands guard against repairs.
    pub fn known(&mut self, lang: usize, text: &str) {
        self.mark(lang, text, |_| ());
    }

    /// A word of a pattern; `repair` if a misspelling may be read as it.
    pub fn cue(&mut self, lang: usize, text: &str, repair: bool) -> Word {
        let word = self.mark(lang, text, |_| ());
        if !text.starts_with('#') {
            self.lexicon.entries[word as usize].target |= Langs::from(repair) << lang;
        }
        word
    }

    /// A short form and the words it stands for.
    pub fn short(&mut self, lang: usize, text: &str, meaning: &[String]) {
        let words = self.meaning(lang, meaning);
        self.lexicon
            .short
            .entry(text.into())
            .or_default()
            .push((1 << lang, words));
    }

    /// What is written onto a word, before or after it, and the words it stands for.
    pub fn affix(&mut self, lang: usize, place: Place, letters: &str, meaning: &[String]) {
        let words = self.meaning(lang, meaning);
        if let Some(forms) = &mut self.lexicon.forms[lang] {
            forms.affix(place, letters, words);
        }
    }

    fn meaning(&mut self, lang: usize, words: &[String]) -> Vec<Word> {
        words
            .iter()
            .map(|word| self.mark(lang, word, |_| ()))
            .collect()
    }

    /// The lexicon, with its index of misspellings.
    pub fn finish(mut self) -> Lexicon {
        self.lexicon.number = self.word(NUMBER);
        self.lexicon.year = self.word(YEAR);
        let Lexicon { entries, forms, .. } = &mut self.lexicon;
        for forms in forms.iter_mut().flatten() {
            forms.relate(|word| entries[word as usize].stop != 0);
        }
        let Lexicon {
            words,
            entries,
            forms,
            ..
        } = &self.lexicon;
        let folded = forms.iter().flatten().flat_map(Forms::words);
        let all = words
            .iter()
            .map(|(letters, &word)| (letters.as_ref(), word));
        let targets = all.chain(folded).filter(|&(_, word)| {
            let entry = entries[word as usize];
            entry.target & !entry.stop != 0
        });
        let spelling = Spelling::of(targets.map(|(text, word)| (text.chars().collect(), word)));
        self.lexicon.spelling = spelling;
        self.lexicon
    }
}

impl Lexicon {
    fn entry(&self, word: Word) -> Entry {
        self.entries[word as usize]
    }

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
        for piece in &pieces {
            reader.read(piece);
        }
        ReadText {
            units: reader.units,
            guess,
            active,
        }
    }

    /// The language alone.
    pub fn detect(&self, tokens: &Tokens) -> Guess {
        self.language(&self.pieces(tokens)).0
    }

    fn is_known(&self, letters: &str) -> bool {
        self.words.contains_key(letters)
            || self.short.contains_key(letters)
            || self.folded(letters) != 0
    }

    /// Languages with a word that folds to the same letters.
    fn folded(&self, letters: &str) -> Langs {
        let meant = |forms: &Option<Forms>| {
            forms
                .as_ref()
                .is_some_and(|forms| forms.get(&forms.fold(letters)).is_some())
        };
        self.langs_where(meant)
    }

    /// Languages with a word in it that the letters stand for with something written onto it.
    fn affixed(&self, letters: &str) -> Langs {
        let meant = |forms: &Option<Forms>| {
            forms
                .as_ref()
                .is_some_and(|forms| forms.taken_apart(&forms.fold(letters)).is_some())
        };
        self.langs_where(meant)
    }

    fn langs_where(&self, meant: impl Fn(&Option<Forms>) -> bool) -> Langs {
        let langs = self.forms.iter().enumerate();
        langs.fold(0, |all, (lang, forms)| {
            all | (Langs::from(meant(forms)) << lang)
        })
    }

    /// Tokens, parted at an apostrophe where only the parts are words: «l'eau», «my dad's».
    fn pieces<'t>(&self, tokens: &'t Tokens) -> Vec<Piece<'t>> {
        let mut pieces = Vec::with_capacity(tokens.len());
        for (token, letters) in tokens.iter() {
            let whole = Piece {
                start: token.start,
                end: token.end,
                before: token.before,
                letters,
            };
            let stands_apart = |place: &usize| {
                let tail = &letters[place - token.letters.start..];
                self.words
                    .get(tail)
                    .is_some_and(|&word| self.entry(word).apart != 0)
            };
            if letters.is_ascii()
                && letters.bytes().any(|b| b.is_ascii_digit())
                && letters.bytes().any(|b| b.is_ascii_alphabetic())
                && !self.is_known(letters)
            {
                // «took30», «2kids»
                let mut before = token.before;
                for run in letters
                    .as_bytes()
                    .chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit())
                {
                    let letters = std::str::from_utf8(run).unwrap_or_default();
                    pieces.push(Piece {
                        before,
                        letters,
                        ..whole
                    });
                    before = Break::None;
                }
                continue;
            }
            if token.apostrophes.is_empty()
                || (self.is_known(letters) && !token.apostrophes.iter().any(stands_apart))
            {
                pieces.push(whole);
                continue;
            }
            let mut from = 0;
            let ends = token
                .apostrophes
                .iter()
                .map(|place| place - token.letters.start)
                .chain([letters.len()]);
            for end in ends {
                if end > from {
                    let before = if from == 0 { token.before } else { Break::None };
                    pieces.push(Piece {
                        before,
                        letters: &letters[from..end],
                        ..whole
                    });
                    from = end;
                }
            }
        }
        pieces
    }

    fn language(&self, pieces: &[Piece<'_>]) -> (Guess, Langs) {
        let mut scores = [0_f32; Langs::BITS as usize];
        let mut vote = |langs: Langs, weight: f32| {
            let share = weight / langs.count_ones().max(1) as f32;
            for (lang, score) in scores.iter_mut().enumerate().take(self.languages) {
                if langs & (1 << lang) != 0 {
                    *score += share;
                }
            }
        };
        for piece in pieces {
            if let Some(&word) = self.words.get(piece.letters) {
                vote(self.entry(word).langs, 1.0);
            } else if let Some(meanings) = self.short.get(piece.letters) {
                vote(meanings.iter().fold(0, |all, (lang, _)| all | lang), 1.0);
            } else {
                match self.folded(piece.letters) {
                    0 => vote(self.affixed(piece.letters), AFFIXED_VOTE),
                    langs => vote(langs, 1.0),
                }
            }
            if !piece.letters.is_ascii()
                && let Some(first) = piece.letters.chars().next()
            {
                for &(low, high, lang) in &self.letters {
                    if (low..=high).contains(&first) {
                        vote(1 << lang, 1.0);
                    }
                }
            }
        }
        let all: Langs = if self.languages >= 16 {
            Langs::MAX
        } else {
            (1 << self.languages) - 1
        };
        let mut best = 0;
        for lang in 1..self.languages {
            if scores[lang] > scores[best] + 1e-4 {
                best = lang;
            }
        }
        let top = scores[best];
        if top <= 0.0 {
            return (
                Guess {
                    lang: 0,
                    confidence: 0.0,
                },
                all,
            );
        }
        let second = (0..self.languages)
            .filter(|&l| l != best)
            .map(|l| scores[l])
            .fold(0.0, f32::max);
        let active = (0..self.languages)
            .filter(|&l| scores[l] >= top * 0.5)
            .fold(0, |all, l| all | (1 << l));
        let margin = top - second;
        let confidence = margin / (margin + HALF_SURE);
        (
            Guess {
                lang: best,
                confidence,
            },
            active,
        )
    }
}

#[derive(Clone, Copy)]
struct Piece<'t> {
    start: usize,
    end: usize,
    before: Break,
    letters: &'t str,
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
    fn read(&mut self, piece: &Piece<'_>) {
        if self.exact(piece, piece.letters, 0) {
            return;
        }
        let mut chars = piece.letters.chars();
        if chars.next().is_some_and(char::is_numeric) {
            if chars.all(char::is_numeric) {
                let readings =
                    [self.lexicon.number, self.lexicon.year].map(|word| Reading { word, edits: 0 });
                self.push(
                    piece,
                    piece.before,
                    &readings[..=usize::from(is_year(piece.letters))],
                );
                return;
            }
            self.push(piece, piece.before, &[]);
            return;
        }
        let short = collapsed(piece.letters, 2);
        if short
            .as_deref()
            .is_some_and(|short| self.exact(piece, short, 0))
        {
            return;
        }
        let shorter = collapsed(piece.letters, 1);
        if shorter
            .as_deref()
            .is_some_and(|short| self.exact(piece, short, 0))
        {
            return;
        }
        let letters = short.as_deref().unwrap_or(piece.letters);
        if self.taken_apart(piece, letters) {
            return;
        }
        if self.repairs > 0 && letters.chars().all(char::is_alphabetic) {
            self.repairs -= 1;
            let chars: Vec<char> = letters.chars().collect();
            for depth in 1..=2 {
                let readings = self.misspelt(letters, &chars, depth);
                if !readings.is_empty() {
                    self.push(piece, piece.before, &readings);
                    return;
                }
                if depth == 1 && self.run_together(piece, letters, &chars) {
                    return;
                }
            }
        }
        self.push(piece, piece.before, &[]);
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
        if readings.is_empty() {
            return false;
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
        let words = self
            .formed
            .iter()
            .find_map(|(_, forms)| forms.taken_apart(&forms.fold(letters)));
        let mut before = piece.before;
        for &word in words.iter().flatten() {
            self.push(piece, before, &[Reading { word, edits: 0 }]);
            before = Break::None;
        }
        words.is_some()
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
        let (start, end) = (piece.start, piece.end);
        self.units.push(Unit {
            start,
            end,
            before,
            skip,
            readings: kept,
            count: u8::try_from(count).unwrap_or(0),
        });
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

    /// «cantbreathe», «helpme»: the fewest known words that cover the token.
    fn run_together(&mut self, piece: &Piece<'_>, letters: &str, chars: &[char]) -> bool {
        if !SPLIT_LETTERS.contains(&chars.len()) || !letters.is_ascii() {
            return false;
        }
        let length = letters.len();
        let mut best = [(usize::MAX, 0_usize); *SPLIT_LETTERS.end() + 1];
        best[0] = (0, 0);
        for from in 0..length {
            let (count, _) = best[from];
            if count >= SPLIT_PIECES {
                continue;
            }
            for to in from + 1..=length.min(from + 14) {
                let part = &letters[from..to];
                let fits = match to - from {
                    1 => part == "i",
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
            parts.push(&letters[from..to]);
            to = from;
        }
        parts.reverse();
        let (mut ordinary, mut cue) = (false, false);
        for part in &parts {
            let folded = self
                .formed
                .iter()
                .filter_map(|(_, forms)| forms.get(&forms.fold(part)));
            for word in self
                .lexicon
                .words
                .get(*part)
                .copied()
                .into_iter()
                .chain(folded)
            {
                let entry = self.lexicon.entry(word);
                ordinary |= entry.stop & self.active != 0;
                cue |= entry.target & self.active != 0 && part.len() > 2;
            }
        }
        // Two long words need no ordinary one between them: «chestpain».
        let two_words = parts.len() == 2 && parts.iter().all(|part| part.len() > 3);
        // Short pieces are found in any letters («her-man-o»); real ones are longer on the whole.
        if !(ordinary || two_words) || !cue || parts.len() < 2 || length < 3 * parts.len() {
            return false;
        }
        let mut before = piece.before;
        for part in parts {
            self.exact(&Piece { before, ..*piece }, part, 1);
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

/// The token with each run of three or more equal letters cut to `keep`, if it has one.
fn collapsed(letters: &str, keep: usize) -> Option<String> {
    let mut out = String::with_capacity(letters.len());
    let (mut last, mut run, mut cut) = (None, 0, false);
    let mut held: usize = 0;
    for c in letters.chars() {
        if Some(c) == last {
            run += 1;
        } else {
            (last, run) = (Some(c), 1);
            held = 1;
            out.push(c);
            continue;
        }
        if run >= 3 {
            cut = true;
        }
        if held < 2 {
            held += 1;
            out.push(c);
        }
    }
    if !cut {
        return None;
    }
    if keep == 1 {
        let mut single = String::with_capacity(out.len());
        let mut before = None;
        for c in out.chars() {
            if before != Some(c) {
                single.push(c);
            }
            before = Some(c);
        }
        return Some(single);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_collapse() {
        assert_eq!(collapsed("heeelp", 1).as_deref(), Some("help"));
        assert_eq!(collapsed("bleeeeding", 2).as_deref(), Some("bleeding"));
        assert_eq!(collapsed("bleeding", 1), None);
    }
}
