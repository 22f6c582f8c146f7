//! How a word sounds, roughly («seezure», «unconshus»), and what is left of it when only consonants are typed
//! («brthng»): keys under which a word and its misspellings meet.
//!
//! Which letters sound alike is the language's business; here runs of vowels and doubled letters become one.

use rustc_hash::FxHashMap;

use super::lexicon::Word;
use super::normal::MAX_LETTERS;

/// Consonants below which too many words sound alike.
const LEAST_CONSONANTS: usize = 3;
/// Most words one key may stand for; a more crowded key says nothing.
const MOST_WORDS: usize = 4;
/// Stands for the whole key of a language without vowels.
const SKELETON: u64 = u64::MAX;

/// Letters that must be left of a word when its ending is taken away.
const STEM_LETTERS: usize = 4;

/// Letters that sound like others, one rule an entry: `ph=f`, `le$=el` at the end of a word.
#[derive(Debug, Default)]
pub struct Rules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    typed: Vec<char>,
    at_end: bool,
    sound: Vec<char>,
}

impl Rules {
    /// Parses rules separated by white space.
    ///
    /// # Errors
    /// The entry that is no rule.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut rules = Vec::new();
        for entry in text.split_whitespace() {
            let (typed, sound) = entry.split_once('=').ok_or_else(|| entry.to_owned())?;
            let bare = typed.strip_suffix('$');
            let at_end = bare.is_some();
            let typed: Vec<char> = bare.unwrap_or(typed).chars().collect();
            if typed.is_empty() || sound.chars().count() > typed.len() + 1 {
                return Err(entry.to_owned());
            }
            let sound = sound.chars().collect();
            rules.push(Rule {
                typed,
                at_end,
                sound,
            });
        }
        rules.sort_by_key(|rule| std::cmp::Reverse((rule.typed.len(), rule.at_end)));
        Ok(Self(rules))
    }

    /// The key of a word; none if too little of it is left.
    fn key(&self, seed: usize, letters: &[char]) -> Option<u64> {
        let mut key = Key::new(seed as u64);
        let mut rest = letters;
        while let Some((&first, tail)) = rest.split_first() {
            let rule = self.0.iter().find(|rule| {
                rest.starts_with(&rule.typed) && (!rule.at_end || rest.len() == rule.typed.len())
            });
            if let Some(rule) = rule {
                rule.sound.iter().for_each(|&c| key.push(c));
                rest = &rest[rule.typed.len()..];
            } else {
                key.push(first);
                rest = tail;
            }
        }
        key.finish()
    }
}

struct Key {
    hash: u64,
    last: Option<char>,
    /// A vowel waits here: the last one of a word is dropped.
    vowel: bool,
    consonants: usize,
}

impl Key {
    fn new(seed: u64) -> Self {
        let hash = 0xcbf2_9ce4_8422_2325 ^ seed;
        Self {
            hash,
            last: None,
            vowel: false,
            consonants: 0,
        }
    }

    fn push(&mut self, c: char) {
        if matches!(c, 'a' | 'e' | 'i' | 'o' | 'u' | 'y') {
            self.vowel = true;
            return;
        }
        if self.vowel {
            self.mix('*');
            self.last = None;
            self.vowel = false;
        }
        if self.last != Some(c) {
            self.mix(c);
            self.consonants += 1;
            self.last = Some(c);
        }
    }

    fn mix(&mut self, c: char) {
        self.hash = (self.hash ^ u64::from(u32::from(c))).wrapping_mul(0x0100_0000_01b3);
    }

    fn finish(self) -> Option<u64> {
        (self.consonants >= LEAST_CONSONANTS).then_some(self.hash)
    }
}

/// A word without its ending: «mumbles», «mumbling» and «mumble» have one stem.
fn stem<'w>(letters: &'w str, endings: &[String]) -> Option<&'w str> {
    if !letters.bytes().all(|b| b.is_ascii_lowercase()) {
        return None;
    }
    let bare = (endings.iter())
        .filter_map(|ending| letters.strip_suffix(ending.as_str()))
        .find(|bare| bare.len() >= STEM_LETTERS && bare.bytes().any(|b| b"aeiouy".contains(&b)));
    let mut stem = bare.unwrap_or(letters);
    stem = stem.strip_suffix(['e', 'i', 'y']).unwrap_or(stem);
    if let [.., a, b] = stem.as_bytes()
        && a == b
        && !b"aeiou".contains(b)
    {
        stem = &stem[..stem.len() - 1];
    }
    (stem.len() >= STEM_LETTERS - 1 && letters.len() >= STEM_LETTERS).then_some(stem)
}

fn is_vowel(c: char) -> bool {
    matches!(c, 'a' | 'e' | 'i' | 'o' | 'u')
}

/// The key of the consonants alone.
fn skeleton(letters: impl Iterator<Item = char>) -> Option<u64> {
    let mut key = Key::new(SKELETON);
    let mut last = None;
    for c in letters.filter(|&c| !is_vowel(c)) {
        if last != Some(c) {
            key.mix(c);
            key.consonants += 1;
            last = Some(c);
        }
    }
    key.finish()
}

/// Words by how they sound.
#[derive(Debug, Default)]
pub struct Sounds {
    rules: Vec<(usize, Rules)>,
    words: FxHashMap<u64, Vec<Word>>,
    /// Endings of a language, the longest first.
    endings: Vec<(usize, Vec<String>)>,
    stems: FxHashMap<(usize, Box<str>), Vec<Word>>,
}

impl Sounds {
    /// Adds the rules of a language, before any of its words.
    pub fn language(&mut self, lang: usize, rules: Rules) {
        self.rules.push((lang, rules));
    }

    /// Adds the endings of a language, before any of its words.
    pub fn endings(&mut self, lang: usize, endings: &[String]) {
        let mut endings = endings.to_vec();
        endings.sort_by_key(|ending| std::cmp::Reverse(ending.len()));
        if !endings.is_empty() {
            self.endings.push((lang, endings));
        }
    }

    /// Adds the stem of a word, of some languages.
    pub fn stem(&mut self, letters: &str, word: Word, of: impl Fn(usize) -> bool) {
        for (lang, endings) in self.endings.iter().filter(|(lang, _)| of(*lang)) {
            if let Some(stem) = stem(letters, endings) {
                let words = self.stems.entry((*lang, stem.into())).or_default();
                words.push(word);
            }
        }
    }

    /// Words of one language with the same stem.
    pub fn of_stem(&self, letters: &str, lang: usize) -> &[Word] {
        (self.endings.iter())
            .find(|(known, _)| *known == lang)
            .and_then(|(_, endings)| stem(letters, endings))
            .and_then(|stem| self.stems.get(&(lang, Box::from(stem))))
            .filter(|words| words.len() <= MOST_WORDS)
            .map_or(&[], Vec::as_slice)
    }

    /// Adds a word that a misspelling may mean, of some languages.
    pub fn word(&mut self, letters: &[char], word: Word, of: impl Fn(usize) -> bool) {
        if letters.len() > MAX_LETTERS || !letters.iter().all(char::is_ascii_lowercase) {
            return;
        }
        let keys: Vec<u64> = (self.rules.iter())
            .filter(|(lang, _)| of(*lang))
            .filter_map(|(lang, rules)| rules.key(*lang, letters))
            .chain(skeleton(letters.iter().copied()))
            .collect();
        for key in keys {
            let words = self.words.entry(key).or_default();
            if !words.contains(&word) {
                words.push(word);
            }
        }
    }

    /// Words that sound like the letters in one of the languages `heard`.
    pub fn alike(&self, letters: &[char], heard: impl Fn(usize) -> bool) -> Vec<Word> {
        let mut found = Vec::new();
        if letters.len() > MAX_LETTERS || !letters.iter().all(char::is_ascii_lowercase) {
            return found;
        }
        let keys = (self.rules.iter())
            .filter(|(lang, _)| heard(*lang))
            .filter_map(|(lang, rules)| rules.key(*lang, letters));
        for key in keys {
            found.extend(self.words.get(&key).into_iter().flatten());
        }
        found
    }

    /// Words that have these consonants; the letters must be consonants only.
    pub fn of_consonants(&self, letters: &[char]) -> &[Word] {
        if letters.iter().copied().any(is_vowel) || !letters.iter().all(char::is_ascii_lowercase) {
            return &[];
        }
        skeleton(letters.iter().copied())
            .and_then(|key| self.words.get(&key))
            .filter(|words| words.len() <= MOST_WORDS)
            .map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(text: &str) -> Vec<char> {
        text.chars().collect()
    }

    #[test]
    fn a_word_is_its_stem_in_any_form() {
        let endings = ["ing", "ed", "es", "s"].map(str::to_owned);
        let of = |word| stem(word, &endings).unwrap();
        for (one, other) in [
            ("mumbles", "mumbling"),
            ("sliding", "slides"),
            ("stabbing", "stab"),
            ("carries", "carry"),
            ("boiled", "boiling"),
        ] {
            assert_eq!(of(one), of(other));
        }
        assert_eq!(stem("rap", &endings), None);
        assert_eq!(stem("is", &endings), None);
    }

    #[test]
    fn a_misspelling_by_sound_meets_its_word() {
        assert_eq!(Rules::parse("c=k sh").unwrap_err(), "sh");
        let rules = Rules::parse("scious=shus c=k ph=f").unwrap();
        let mut sounds = Sounds::default();
        sounds.language(0, rules);
        for (word, text) in [(1, "unconscious"), (2, "seizure"), (3, "breathing")] {
            sounds.word(&letters(text), word, |_| true);
        }
        assert_eq!(sounds.alike(&letters("unkonshus"), |_| true), [1]);
        assert_eq!(sounds.alike(&letters("seezure"), |_| true), [2]);
        assert!(sounds.alike(&letters("seezure"), |_| false).is_empty());
        assert_eq!(sounds.of_consonants(&letters("brthng")), [3]);
        assert!(sounds.of_consonants(&letters("brathng")).is_empty());
    }
}
