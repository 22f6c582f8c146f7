//! The forms of a language's words: letters that people use for one another, and what a language writes onto
//! its words (articles, conjunctions, subjects, tenses, possessives). All of it is data of the language file.

use std::borrow::Cow;

use rustc_hash::FxHashMap;

use super::lexicon::Word;
use super::normal::MAX_LETTERS;

/// One equivalence: at a place in the word, `from` is read as `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Same {
    /// What may be written.
    pub from: String,
    /// What it is read as.
    pub to: String,
    /// Only at the beginning of a word.
    pub first: bool,
    /// Only at the end of a word.
    pub last: bool,
}

/// Where an affix is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before the word.
    Before,
    /// After it.
    After,
}

/// What one language writes onto its words, each with the words it stands for.
type Affixes = FxHashMap<Box<str>, Vec<Word>>;

/// The words of one language by their folded letters.
#[derive(Debug)]
pub struct Forms {
    same: FxHashMap<char, Vec<Same>>,
    /// The ASCII letters among those that `same` begins with, one bit each: most letters begin none.
    ascii: u128,
    words: FxHashMap<Box<str>, Word>,
    prefixes: Affixes,
    suffixes: Affixes,
    /// Longest affix, in letters.
    longest: usize,
    /// Letters that must be left of a word when an affix is taken away.
    stem_from: usize,
    /// Words that are known as they stand and have a stem that is known, too.
    stems: FxHashMap<Word, Word>,
}

impl Forms {
    /// A language without words; longer equivalences win over shorter ones.
    pub fn of(same: Vec<Same>, stem_from: usize) -> Self {
        let mut by_first: FxHashMap<char, Vec<Same>> = FxHashMap::default();
        for rule in same {
            if let Some(first) = rule.from.chars().next() {
                by_first.entry(first).or_default().push(rule);
            }
        }
        for rules in by_first.values_mut() {
            rules.sort_by_key(|rule| {
                (
                    std::cmp::Reverse(rule.from.len()),
                    !(rule.first || rule.last),
                )
            });
        }
        let ascii = (by_first.keys()).filter(|first| first.is_ascii());
        Self {
            ascii: ascii.fold(0, |all, &first| all | (1 << u32::from(first))),
            same: by_first,
            words: FxHashMap::default(),
            prefixes: Affixes::default(),
            suffixes: Affixes::default(),
            longest: 0,
            stem_from: stem_from.max(1),
            stems: FxHashMap::default(),
        }
    }

    /// A word with every equivalence read the same way; one pass, so what comes out is not read again.
    pub fn fold<'w>(&self, letters: &'w str) -> Cow<'w, str> {
        if !letters.chars().any(|c| self.same_from(c).is_some()) {
            return Cow::Borrowed(letters);
        }
        let mut out = String::with_capacity(letters.len());
        let mut rest = letters;
        while let Some(first) = rest.chars().next() {
            let rule = self.same_from(first).and_then(|rules| {
                rules.iter().find(|rule| {
                    rest.starts_with(rule.from.as_str())
                        && (!rule.first || rest.len() == letters.len())
                        && (!rule.last || rest.len() == rule.from.len())
                })
            });
            if let Some(rule) = rule {
                out.push_str(&rule.to);
                rest = &rest[rule.from.len()..];
            } else {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        if out.is_empty() {
            out.push_str(letters);
        }
        Cow::Owned(out)
    }

    /// The equivalences that begin with a letter.
    fn same_from(&self, first: char) -> Option<&Vec<Same>> {
        if first.is_ascii() && self.ascii & (1 << u32::from(first)) == 0 {
            return None;
        }
        self.same.get(&first)
    }

    /// Adds a folded word if it is new; the word it means.
    pub fn add(&mut self, folded: String, word: Word) -> Word {
        *self.words.entry(folded.into()).or_insert(word)
    }

    /// Adds what may be written onto a word, and the words it stands for.
    pub fn affix(&mut self, place: Place, letters: &str, words: Vec<Word>) {
        self.longest = self.longest.max(letters.chars().count());
        match place {
            Place::Before => self.prefixes.insert(letters.into(), words),
            Place::After => self.suffixes.insert(letters.into(), words),
        };
    }

    /// Finds the stems of the words as they stand; `ordinary` words have none. A pattern with «umia» hears «ameumia»
    /// also where another pattern names that form.
    pub fn relate(&mut self, ordinary: impl Fn(Word) -> bool) {
        let stem = |(letters, word): (&str, Word)| match self.taken_apart(letters)?[..] {
            [stem] if stem != word && !ordinary(word) => Some((word, stem)),
            _ => None,
        };
        self.stems = self.words().filter_map(stem).collect();
    }

    /// What a token with these folded letters may be as it stands: a word, and its stem.
    pub fn readings(&self, folded: &str) -> impl Iterator<Item = Word> + use<> {
        let word = self.get(folded);
        let stem = word.and_then(|word| self.stems.get(&word).copied());
        word.into_iter().chain(stem)
    }

    /// A word, and its stem where it has one.
    pub fn with_stem(&self, word: Word) -> impl Iterator<Item = Word> + use<> {
        let stem = self.stems.get(&word).copied();
        std::iter::once(word).chain(stem)
    }

    /// Each folded word.
    pub fn words(&self) -> impl Iterator<Item = (&str, Word)> {
        self.words
            .iter()
            .map(|(letters, &word)| (letters.as_ref(), word))
    }

    /// The word with exactly these folded letters.
    pub fn get(&self, folded: &str) -> Option<Word> {
        self.words.get(folded).copied()
    }

    /// The words a folded token stands for when what is written onto it is taken away. An affix that says
    /// something goes before one that does not (Swahili «haku-umia», not hurt, before «ha-kuumia»); then the
    /// longest stem wins, and of two ways to it the one with the longer prefix.
    pub fn taken_apart(&self, folded: &str) -> Option<Vec<Word>> {
        if self.longest == 0 || folded.len() > 4 * MAX_LETTERS {
            return None;
        }
        let places: Vec<usize> = folded
            .char_indices()
            .map(|(place, _)| place)
            .chain([folded.len()])
            .collect();
        let count = places.len() - 1;
        let part = |from: usize, to: usize| &folded[places[from]..places[to]];
        let most = |letters: usize| self.longest.min(letters.saturating_sub(self.stem_from));
        let mut best: Option<((bool, usize), Vec<Word>)> = None;
        for tail in 0..=most(count) {
            let to = count - tail;
            let Some(after) = affix(&self.suffixes, part(to, count)) else {
                continue;
            };
            for outer in (0..=most(to)).rev() {
                let Some(before) = affix(&self.prefixes, part(0, outer)) else {
                    continue;
                };
                // A second prefix stands only behind a first one: Arabic «w-al-bayt», Swahili «ame-ni-uma».
                for inner in 0..=(if outer == 0 { 0 } else { most(to - outer) }) {
                    let letters = to - outer - inner;
                    if tail + outer == 0 {
                        continue;
                    }
                    let (Some(between), Some(&stem)) = (
                        affix(&self.prefixes, part(outer, outer + inner)),
                        self.words.get(part(outer + inner, to)),
                    ) else {
                        continue;
                    };
                    let says = before.len() + between.len() + after.len() > 0;
                    if best
                        .as_ref()
                        .is_none_or(|(known, _)| (says, letters) > *known)
                    {
                        let words = before.iter().chain(between).chain([&stem]).chain(after);
                        best = Some(((says, letters), words.copied().collect()));
                    }
                }
            }
        }
        best.map(|(_, words)| words)
    }
}

/// The words an affix stands for; nothing written stands for nothing.
fn affix<'a>(affixes: &'a Affixes, letters: &str) -> Option<&'a [Word]> {
    if letters.is_empty() {
        return Some(&[]);
    }
    affixes.get(letters).map(Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(from: &str, to: &str) -> Same {
        Same {
            from: from.trim_matches(['^', '$']).to_owned(),
            to: to.to_owned(),
            first: from.starts_with('^'),
            last: from.ends_with('$'),
        }
    }

    #[test]
    fn letters_fold_once_and_the_longest_rule_wins() {
        let forms = Forms::of(
            vec![
                same("a", "e"),
                same("aa", "a"),
                same("n$", ""),
                same("^kh", "k"),
            ],
            3,
        );
        assert_eq!(forms.fold("saans"), "sans");
        assert_eq!(forms.fold("nahin"), "nehi");
        assert_eq!(forms.fold("khkh"), "kkh");
        assert_eq!(forms.fold("n"), "n");
    }

    #[test]
    fn affixes_come_off_and_leave_their_words() {
        let mut forms = Forms::of(Vec::new(), 3);
        for (word, letters) in ["بيت", "uma", "umwa"].into_iter().enumerate() {
            forms.add(letters.to_owned(), u32::try_from(word).unwrap());
        }
        forms.affix(Place::Before, "و", vec![7]);
        forms.affix(Place::Before, "ال", vec![]);
        forms.affix(Place::Before, "ame", vec![]);
        forms.affix(Place::Before, "ni", vec![]);
        forms.affix(Place::After, "نا", vec![8]);
        assert_eq!(forms.taken_apart("والبيت"), Some(vec![7, 0]));
        assert_eq!(forms.taken_apart("بيتنا"), Some(vec![0, 8]));
        assert_eq!(forms.taken_apart("ameniuma"), Some(vec![1]));
        assert_eq!(forms.taken_apart("ameumwa"), Some(vec![2]));
        assert_eq!(forms.taken_apart("وال"), None);
        assert_eq!(forms.taken_apart(""), None);
    }
}
