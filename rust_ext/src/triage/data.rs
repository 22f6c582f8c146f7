//! The data files as written: what a language file and the rule file may hold, and the small syntax of
//! patterns and rules. Every mistake is a [`DataError`] that names file and entry.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::forms::Same;
use super::lexicon::{NUMBER, YEAR};
use super::normal::Tokens;

/// What people may need, as the labelled data names it.
pub const NEEDS: [&str; 16] = [
    "medical",
    "rescue",
    "fire",
    "violence",
    "water",
    "food",
    "shelter",
    "missing_person",
    "evacuation",
    "utilities",
    "hazard_info",
    "aid_info",
    "mental_health",
    "childbirth",
    "hygiene",
    "none",
];

/// The template for an emergency whose topic is unknown or ambiguous.
pub const GENERAL_DANGER: &str = "general_danger";

/// Longest gap `..N` a pattern may have, in words.
const MAX_GAP: u8 = 8;
/// Most elements of one pattern; matching backtracks, so this bounds its cost.
const MAX_ELEMENTS: usize = 7;
/// Default of `..`, in words.
const DEFAULT_GAP: u8 = 3;

/// A data file is wrong; the text names file and entry.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{file}: {entry}: {reason}")]
pub struct DataError {
    /// Name of the file as given.
    pub file: String,
    /// The entry inside it, such as `cues.bleeding` and the pattern.
    pub entry: String,
    /// What is wrong, and where it helps what would be right.
    pub reason: String,
}

impl DataError {
    pub(super) fn new(file: &str, entry: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            entry: entry.into(),
            reason: reason.into(),
        }
    }
}

/// A language: its words, its sets of words and the patterns of each cue.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Language {
    /// ISO 639-1 code.
    pub lang: String,
    /// Ordinary words: they tell the language and are never taken for a misspelt cue.
    #[serde(default)]
    pub stop: String,
    /// Words a pattern may skip for nothing: articles, forms of "be", intensifiers.
    #[serde(default)]
    pub fillers: String,
    /// Words a pattern never skips: negations, «but».
    #[serde(default)]
    pub blocks: String,
    /// What stands apart after an apostrophe: «ll» of «I'll», which is not «ill».
    #[serde(default)]
    pub apart: String,
    /// Ordinary words that look like a misspelt cue.
    #[serde(default)]
    pub known: String,
    /// Letters that sound alike: `ph=f`, `le$=el` at the end of a word.
    #[serde(default)]
    pub sounds: String,
    /// Endings that make no difference to what a word means: `s es ed ing`.
    #[serde(default)]
    pub endings: String,
    /// Shortest word, in letters, that a misspelling is mended to; more where words lie closer together.
    #[serde(default = "default_repair_from")]
    pub repair_from: usize,
    /// Ranges of letters that only this language (of ours) uses, such as `"ऀ-ॿ"`.
    #[serde(default)]
    pub letters: Vec<String>,
    /// Short forms and common misspellings with the words they stand for.
    #[serde(default)]
    pub short: BTreeMap<String, String>,
    /// Letters that are written for one another: what is written, apart by spaces, and how it is read. `^`
    /// before them means only at the beginning of a word, `$` after them only at its end.
    #[serde(default)]
    pub same: BTreeMap<String, String>,
    /// What is written before a word, apart by spaces, with the words it stands for; none where it says nothing.
    #[serde(default)]
    pub prefixes: BTreeMap<String, String>,
    /// Letters that must be left of a word when what is written onto it is taken away.
    #[serde(default = "default_stem_from")]
    pub stem_from: usize,
    /// What is written after a word, with the words it stands for.
    #[serde(default)]
    pub suffixes: BTreeMap<String, String>,
    /// Named sets of words; `_` joins the words of a phrase, `@name` includes another set.
    #[serde(default)]
    pub sets: BTreeMap<String, String>,
    /// Patterns of each cue, one a line.
    #[serde(default)]
    pub cues: BTreeMap<String, String>,
}

fn default_repair_from() -> usize {
    4
}

fn default_stem_from() -> usize {
    3
}

/// What cues mean together; the same for all languages.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Named alternatives of cues.
    #[serde(default)]
    pub groups: BTreeMap<String, String>,
    /// Cues that change what the cues around them say.
    #[serde(default)]
    pub scope: Vec<Scope>,
    /// Cues that hide whatever they overlap.
    #[serde(default)]
    pub mask: Vec<Mask>,
    /// Emergencies, the first that holds wins.
    #[serde(default)]
    pub emergency: Vec<Verdict>,
    /// Needs of hours or days.
    #[serde(default)]
    pub urgent: Vec<Verdict>,
    /// What an ordinary text is about.
    #[serde(default)]
    pub normal: Vec<Verdict>,
}

/// Where a scope reaches at most.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Until {
    /// The next comma, conjunction or subject.
    Clause,
    /// The next full stop.
    Sentence,
    /// Nothing stops it.
    Text,
}

/// A cue that takes away what others assert: a negation, a past time, a film.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// The cue that opens it.
    pub cue: String,
    /// Words it reaches to the left and to the right.
    #[serde(default)]
    pub before: usize,
    /// Words to the right.
    #[serde(default)]
    pub after: usize,
    /// What ends its reach.
    pub until: Until,
    /// Cues in the same sentence that take it back: «now», «still».
    #[serde(default)]
    pub lifted_by: String,
    /// Only these cues or groups are touched; empty means all.
    #[serde(default)]
    pub only: String,
    /// These cues or groups are never touched.
    #[serde(default)]
    pub spares: String,
}

/// A cue that hides other cues it overlaps, unless they are longer and hold it whole.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mask {
    /// The cue that hides.
    pub cue: String,
    /// The cues or groups it hides; empty means all.
    #[serde(default)]
    pub hides: String,
}

/// One conclusion and the combinations of cues that lead to it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// Template topic; none means general danger.
    #[serde(default)]
    pub topic: Option<String>,
    /// What is needed.
    pub needs: Vec<String>,
    /// Combinations, one a line: `a + b + !c + ?d`.
    #[serde(default)]
    pub when: String,
    /// Combinations that carry the topic only while no other topic is found.
    #[serde(default)]
    pub weak: String,
    /// Combinations that are this danger but do not carry its text: general danger is answered.
    #[serde(default)]
    pub maybe: String,
}

/// One alternative of an element: the words of a phrase.
pub type Phrase = Vec<String>;

/// One place of a pattern.
#[derive(Clone, Debug)]
pub struct Element {
    /// Words that may be skipped before it.
    pub gap: u8,
    /// What may stand here, sorted, without doubles.
    pub phrases: Vec<Phrase>,
}

/// A pattern, all optional parts resolved.
#[derive(Clone, Debug, Default)]
pub struct Pattern {
    /// Its places, in order.
    pub elements: Vec<Element>,
    /// Whether it begins a sentence (`^` before it).
    pub opens: bool,
    /// Whether it ends a sentence (`$` after it).
    pub closes: bool,
}

/// The words of a string of ordinary words, normalised.
pub fn plain_words(text: &str) -> Vec<String> {
    Tokens::of(text)
        .iter()
        .map(|(_, letters)| letters.to_owned())
        .collect()
}

impl Language {
    /// Parses one file.
    pub fn parse(file: &str, text: &str) -> Result<Self, DataError> {
        let language: Self = parse_toml(file, text)?;
        if language.lang.len() != 2 || !language.lang.bytes().all(|b| b.is_ascii_lowercase()) {
            return Err(DataError::new(
                file,
                "lang",
                "give an ISO 639-1 code of two small letters",
            ));
        }
        Ok(language)
    }

    /// Ranges of [`Language::letters`].
    pub fn letter_ranges(&self, file: &str) -> Result<Vec<(char, char)>, DataError> {
        let range = |text: &String| {
            let mut chars = text.chars();
            match (chars.next(), chars.next(), chars.next(), chars.next()) {
                (Some(low), Some('-'), Some(high), None) if low <= high => Ok((low, high)),
                _ => Err(DataError::new(
                    file,
                    format!("letters {text:?}"),
                    "write a range: \"a-z\"",
                )),
            }
        };
        self.letters.iter().map(range).collect()
    }

    /// Rules of [`Language::same`].
    pub fn equivalences(&self, file: &str) -> Result<Vec<Same>, DataError> {
        let rule = |written: &str, read: &str| {
            let letters = written.strip_prefix('^').unwrap_or(written);
            let from = letters.strip_suffix('$').unwrap_or(letters);
            if plain_words(from) != [from] || !(read.is_empty() || plain_words(read) == [read]) {
                return Err(DataError::new(
                    file,
                    format!("same.{written}"),
                    "write small letters without marks on both sides; ^ or $ tells the place",
                ));
            }
            Ok(Same {
                from: from.to_owned(),
                to: read.to_owned(),
                first: written.starts_with('^'),
                last: letters.ends_with('$'),
            })
        };
        let pairs = self.same.iter().flat_map(|(written, read)| {
            written
                .split_whitespace()
                .map(move |written| (written, read))
        });
        pairs.map(|(written, read)| rule(written, read)).collect()
    }

    /// Phrases of a set, its includes resolved.
    fn set(&self, file: &str, name: &str, depth: usize) -> Result<Vec<Phrase>, DataError> {
        let entry = || format!("sets.{name}");
        let words = self
            .sets
            .get(name)
            .ok_or_else(|| DataError::new(file, format!("@{name}"), "no such set"))?;
        if depth > 6 {
            return Err(DataError::new(file, entry(), "includes itself"));
        }
        let mut phrases = Vec::new();
        for word in words.split_whitespace() {
            phrases.extend(self.alternative(file, &entry(), word, depth)?);
        }
        if phrases.is_empty() {
            return Err(DataError::new(file, entry(), "is empty"));
        }
        Ok(phrases)
    }

    fn alternative(
        &self,
        file: &str,
        entry: &str,
        word: &str,
        depth: usize,
    ) -> Result<Vec<Phrase>, DataError> {
        if let Some(name) = word.strip_prefix('@') {
            return self.set(file, name, depth + 1).map_err(|error| {
                if error.entry.starts_with('@') {
                    DataError {
                        entry: format!("{entry} {}", error.entry),
                        ..error
                    }
                } else {
                    error
                }
            });
        }
        let phrase: Option<Phrase> = word
            .split('_')
            .map(|part| {
                if part == NUMBER || part == YEAR {
                    return Some(part.to_owned());
                }
                let mut words = plain_words(part);
                (words.len() == 1).then(|| words.remove(0))
            })
            .collect();
        phrase.map(|phrase| vec![phrase]).ok_or_else(|| {
            DataError::new(file, entry, format!("{word:?} is not words joined by _"))
        })
    }

    /// All patterns of all cues.
    pub fn patterns(&self, file: &str) -> Result<Vec<(&str, Pattern)>, DataError> {
        let mut all = Vec::new();
        for (cue, lines) in &self.cues {
            let mut any = false;
            for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
                let entry = format!("cues.{cue}: {line:?}");
                all.extend(
                    self.pattern(file, &entry, line)?
                        .into_iter()
                        .map(|p| (cue.as_str(), p)),
                );
                any = true;
            }
            if !any {
                return Err(DataError::new(
                    file,
                    format!("cues.{cue}"),
                    "has no pattern",
                ));
            }
        }
        Ok(all)
    }

    /// One line: `^ @person is|be .. bleeding? $`; each optional element doubles the patterns it stands for.
    fn pattern(&self, file: &str, entry: &str, line: &str) -> Result<Vec<Pattern>, DataError> {
        let wrong = |reason: &str| DataError::new(file, entry, reason);
        let (line, opens) = line
            .strip_prefix('^')
            .map_or((line, false), |rest| (rest, true));
        let (line, closes) = line
            .strip_suffix('$')
            .map_or((line, false), |rest| (rest, true));
        let mut patterns = vec![Pattern {
            elements: Vec::new(),
            opens,
            closes,
        }];
        let mut gap = 0;
        for part in line.split_whitespace() {
            if let Some(count) = part.strip_prefix("..") {
                gap = if count.is_empty() {
                    DEFAULT_GAP
                } else {
                    count.parse().map_err(|_| wrong("a gap is .. or ..N"))?
                };
                if gap > MAX_GAP {
                    return Err(wrong(&format!("a gap is at most {MAX_GAP} words")));
                }
                continue;
            }
            let (part, optional) = part.strip_suffix('?').map_or((part, false), |p| (p, true));
            let mut phrases = Vec::new();
            for word in part.split('|') {
                phrases.extend(self.alternative(file, entry, word, 0)?);
            }
            phrases.sort();
            phrases.dedup();
            let element = Element { gap, phrases };
            let without = optional.then(|| patterns.clone());
            for pattern in &mut patterns {
                pattern.elements.push(element.clone());
            }
            if let Some(without) = without {
                patterns.extend(without);
            }
            if !optional {
                gap = 0;
            }
        }
        if line
            .split_whitespace()
            .next_back()
            .is_some_and(|part| part.starts_with(".."))
        {
            return Err(wrong("ends in a gap"));
        }
        for pattern in &mut patterns {
            let first = pattern
                .elements
                .first_mut()
                .ok_or_else(|| wrong("could match nothing"))?;
            first.gap = 0;
            if pattern.elements.len() > MAX_ELEMENTS {
                return Err(wrong(&format!("has more than {MAX_ELEMENTS} elements")));
            }
        }
        Ok(patterns)
    }
}

impl Rules {
    /// Parses the rule file.
    pub fn parse(file: &str, text: &str) -> Result<Self, DataError> {
        parse_toml(file, text)
    }
}

fn parse_toml<T: serde::de::DeserializeOwned>(file: &str, text: &str) -> Result<T, DataError> {
    toml::from_str(text)
        .map_err(|error| DataError::new(file, "TOML", error.to_string().trim().to_owned()))
}
