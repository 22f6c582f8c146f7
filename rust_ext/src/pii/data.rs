//! The data files, read once: the same optional tables in every file, merged.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use serde::Deserialize;

use super::read::{Reading, What};

/// A data file is wrong; the text names file and entry.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{file}: {entry}: {reason}")]
pub struct PiiError {
    /// Name of the file as given.
    pub file: String,
    /// The table and entry inside it.
    pub entry: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Classes of a word, as bits.
pub type Class = u32;
/// A given name or surname that is no ordinary word.
pub const NAME: Class = 1;
/// A name that is also a word or a place.
pub const ALSO_NAME: Class = 1 << 1;
/// A word that is no name.
pub const ORDINARY: Class = 1 << 2;
/// A word that ends a name even after the clearest cue.
pub const STOP: Class = 1 << 3;
/// Name of a place, a people or a thing that is written with a capital.
pub const PLACE: Class = 1 << 4;
/// Makes the name beside it the name of a place when it stands before it: street, hospital, saint.
pub const PLACE_BEFORE: Class = 1 << 5;
/// The same, standing after it.
pub const PLACE_AFTER: Class = 1 << 6;
/// Shows that a word before it is the subject of the sentence: is, has.
pub const FOLLOWS: Class = 1 << 7;
/// Part of a name between two others: de, bin.
pub const PARTICLE: Class = 1 << 8;
/// May stand between a cue and what it announces: is, now.
pub const FILLER: Class = 1 << 9;
/// Name of a month.
pub const MONTH: Class = 1 << 10;
/// What a quantity is counted in.
pub const UNIT: Class = 1 << 11;
/// A digit or small number in letters.
pub const NUMERAL: Class = 1 << 12;
/// Stands between the groups of a dictated number: then, dash.
pub const JOINER: Class = 1 << 13;
/// Last label of a host name.
pub const TLD: Class = 1 << 14;
/// The same, but an ordinary word too.
pub const WORDY_TLD: Class = 1 << 15;
/// «at» in a dictated address.
pub const AT: Class = 1 << 16;
/// «dot» in a dictated address.
pub const DOT: Class = 1 << 17;
/// North, south, east, west, or their letters.
pub const HEMISPHERE: Class = 1 << 18;
/// Degrees in letters.
pub const DEGREES: Class = 1 << 19;
/// Minutes or seconds in letters.
pub const MINUTES: Class = 1 << 20;
/// A word after `@` that is no handle.
pub const NO_HANDLE: Class = 1 << 21;
/// Stands before a name only: bin, van.
pub const KIN: Class = 1 << 24;
/// Stands between the names of several people.
pub const JOIN: Class = 1 << 23;
/// Stands before a thing, not before a name.
pub const ARTICLE: Class = 1 << 22;
/// Fewest letters of a word that may be a misspelling.
const LEAST_LETTERS: usize = 5;
/// A phrase begins with it.
const PHRASE: Class = 1 << 31;

/// What a phrase announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cue {
    /// A name, whatever it looks like.
    Name,
    /// A name if it looks like one.
    MaybeName,
    /// A name if a colon, dash or equals sign stands between.
    NameLabel,
    /// A name or a surname: Mr, Sra.
    Title,
    /// A person who may be named next: my brother, pastor.
    Role,
    /// A name that ends the text: regards.
    SignOff,
    /// What stands before it is a name: speaking.
    After,
    /// The writer's or somebody's phone number.
    Phone,
    /// A number to call.
    Call,
    /// Several small numbers: ages.
    List,
    /// A document or account.
    Id,
    /// A secret: PIN, password.
    Secret,
    /// A date of birth.
    Birth,
    /// An account of a social network.
    Handle,
    /// Coordinates.
    Coordinates,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct File {
    names: Names,
    words: Words,
    numbers: Numbers,
    ids: Ids,
    birth: Birth,
    links: Links,
    coordinates: Coordinates,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Names {
    sure: String,
    also_words: String,
    particles: String,
    kin: String,
    articles: String,
    joins: String,
    fillers: String,
    follows: String,
    cues: Vec<String>,
    maybe: Vec<String>,
    labels: Vec<String>,
    titles: Vec<String>,
    roles: Vec<String>,
    sign_offs: Vec<String>,
    after: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Words {
    ordinary: String,
    stop: String,
    places: String,
    place_before: String,
    place_after: String,
    months: String,
    units: String,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Numbers {
    digits: BTreeMap<String, String>,
    joiners: String,
    phone: Vec<String>,
    call: Vec<String>,
    lists: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Ids {
    cues: Vec<String>,
    secrets: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Birth {
    cues: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Links {
    tlds: String,
    wordy_tlds: String,
    at: String,
    dot: String,
    no_handles: String,
    handles: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Coordinates {
    hemispheres: String,
    degrees: String,
    minutes: String,
    cues: Vec<String>,
}

/// The rest of a phrase after its first word, and what it announces.
type Phrase = (Vec<String>, Cue);

/// All words and phrases of the data.
#[derive(Debug, Default)]
pub struct Lexicon {
    classes: FxHashMap<String, Class>,
    numerals: FxHashMap<String, String>,
    phrases: FxHashMap<String, Vec<Phrase>>,
}

impl Lexicon {
    /// Reads TOML files given as name and text, and texts all of whose words are ordinary.
    pub fn new(files: &[(String, String)], ordinary: &[String]) -> Result<Self, PiiError> {
        let mut lexicon = Self::default();
        let (mut names, mut cues) = (false, false);
        for (name, text) in files {
            let file: File = toml::from_str(text).map_err(|error| PiiError {
                file: name.clone(),
                entry: "TOML".to_owned(),
                reason: error.to_string(),
            })?;
            names |= !file.names.sure.trim().is_empty();
            cues |= !file.names.cues.is_empty();
            lexicon.add(name, &file)?;
        }
        for (there, entry) in [(names, "names.sure"), (cues, "names.cues")] {
            if !there {
                return Err(PiiError {
                    file: "pii".to_owned(),
                    entry: entry.to_owned(),
                    reason: "no file has any; no name would be found".to_owned(),
                });
            }
        }
        for text in ordinary {
            let reading = Reading::of(text);
            for i in 0..reading.tokens.len() {
                if reading.tokens[i].what == What::Word {
                    *lexicon
                        .classes
                        .entry(reading.text(i).to_owned())
                        .or_default() |= ORDINARY;
                }
            }
        }
        Ok(lexicon)
    }

    fn add(&mut self, file: &str, from: &File) -> Result<(), PiiError> {
        let words: [(&str, &String, Class); 24] = [
            ("names.sure", &from.names.sure, NAME),
            ("names.also_words", &from.names.also_words, ALSO_NAME),
            ("names.particles", &from.names.particles, PARTICLE),
            ("names.kin", &from.names.kin, KIN | PARTICLE),
            ("names.articles", &from.names.articles, ARTICLE | ORDINARY),
            ("names.joins", &from.names.joins, JOIN | ORDINARY),
            ("names.fillers", &from.names.fillers, FILLER),
            ("names.follows", &from.names.follows, FOLLOWS),
            ("words.ordinary", &from.words.ordinary, ORDINARY),
            ("words.stop", &from.words.stop, STOP | ORDINARY),
            ("words.places", &from.words.places, PLACE),
            (
                "words.place_before",
                &from.words.place_before,
                PLACE_BEFORE | ORDINARY,
            ),
            (
                "words.place_after",
                &from.words.place_after,
                PLACE_AFTER | ORDINARY,
            ),
            ("words.months", &from.words.months, MONTH | PLACE),
            ("words.units", &from.words.units, UNIT | ORDINARY),
            ("numbers.joiners", &from.numbers.joiners, JOINER),
            ("links.tlds", &from.links.tlds, TLD),
            ("links.wordy_tlds", &from.links.wordy_tlds, WORDY_TLD),
            ("links.at", &from.links.at, AT),
            ("links.dot", &from.links.dot, DOT),
            ("links.no_handles", &from.links.no_handles, NO_HANDLE),
            (
                "coordinates.hemispheres",
                &from.coordinates.hemispheres,
                HEMISPHERE,
            ),
            ("coordinates.degrees", &from.coordinates.degrees, DEGREES),
            ("coordinates.minutes", &from.coordinates.minutes, MINUTES),
        ];
        for (entry, list, class) in words {
            for word in list.split_whitespace() {
                let folded = one_word(word).ok_or_else(|| PiiError {
                    file: file.to_owned(),
                    entry: entry.to_owned(),
                    reason: format!("{word:?} is not one word of letters"),
                })?;
                *self.classes.entry(folded).or_default() |= class;
            }
        }
        for (word, digits) in &from.numbers.digits {
            let wrong = |reason: &str| PiiError {
                file: file.to_owned(),
                entry: format!("numbers.digits.{word}"),
                reason: reason.to_owned(),
            };
            let folded = one_word(word).ok_or_else(|| wrong("is not one word of letters"))?;
            if !(1..=2).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(wrong("stands for one or two ASCII digits"));
            }
            *self.classes.entry(folded.clone()).or_default() |= NUMERAL | ORDINARY;
            self.numerals.insert(folded, digits.clone());
        }
        let phrases: [(&str, &[String], Cue); 15] = [
            ("names.cues", &from.names.cues, Cue::Name),
            ("names.maybe", &from.names.maybe, Cue::MaybeName),
            ("names.labels", &from.names.labels, Cue::NameLabel),
            ("names.titles", &from.names.titles, Cue::Title),
            ("names.roles", &from.names.roles, Cue::Role),
            ("names.sign_offs", &from.names.sign_offs, Cue::SignOff),
            ("names.after", &from.names.after, Cue::After),
            ("numbers.phone", &from.numbers.phone, Cue::Phone),
            ("numbers.call", &from.numbers.call, Cue::Call),
            ("numbers.lists", &from.numbers.lists, Cue::List),
            ("ids.cues", &from.ids.cues, Cue::Id),
            ("ids.secrets", &from.ids.secrets, Cue::Secret),
            ("birth.cues", &from.birth.cues, Cue::Birth),
            ("links.handles", &from.links.handles, Cue::Handle),
            ("coordinates.cues", &from.coordinates.cues, Cue::Coordinates),
        ];
        for (entry, list, cue) in phrases {
            for phrase in list {
                self.learn(phrase, cue).ok_or_else(|| PiiError {
                    file: file.to_owned(),
                    entry: entry.to_owned(),
                    reason: format!("{phrase:?} has no words"),
                })?;
            }
        }
        Ok(())
    }

    fn learn(&mut self, phrase: &str, cue: Cue) -> Option<()> {
        let reading = Reading::of(phrase);
        let mut words: Vec<String> = (0..reading.tokens.len())
            .filter(|&i| matches!(reading.tokens[i].what, What::Word | What::Digits))
            .map(|i| reading.text(i).to_owned())
            .collect();
        if words.is_empty() {
            return None;
        }
        for word in &words {
            // A word of a cue is no name.
            *self.classes.entry(word.clone()).or_default() |= ORDINARY;
        }
        let first = words.remove(0);
        *self.classes.entry(first.clone()).or_default() |= PHRASE;
        let known = self.phrases.entry(first).or_default();
        if !known.contains(&(words.clone(), cue)) {
            known.push((words, cue));
            // The longest first.
            known.sort_by_key(|(rest, _)| std::cmp::Reverse(rest.len()));
        }
        Some(())
    }

    /// Classes of a folded word.
    pub fn class(&self, word: &str) -> Class {
        self.classes.get(word).copied().unwrap_or(0)
    }

    /// Whether one wrong, missing, added or exchanged letter makes it an ordinary word: «unconcious», «stres».
    ///
    /// Only words of [`LEAST_LETTERS`] ASCII letters or more; shorter ones are near to everything.
    pub fn is_misspelt(&self, word: &str) -> bool {
        let letters = word.as_bytes();
        if letters.len() < LEAST_LETTERS || !word.is_ascii() {
            return false;
        }
        let is_ordinary = |bytes: &[u8]| {
            std::str::from_utf8(bytes).is_ok_and(|word| self.class(word) & ORDINARY != 0)
        };
        let mut trial = Vec::with_capacity(letters.len() + 1);
        for at in 0..=letters.len() {
            let (head, tail) = letters.split_at(at);
            let mut with = |parts: [&[u8]; 3]| {
                trial.clear();
                for part in parts {
                    trial.extend_from_slice(part);
                }
                is_ordinary(&trial)
            };
            if let [first, rest @ ..] = tail {
                let exchanged = rest
                    .first()
                    .is_some_and(|second| with([head, &[*second, *first], &rest[1..]]));
                if exchanged || with([head, rest, &[]]) {
                    return true;
                }
            }
            for letter in b'a'..=b'z' {
                if with([head, &[letter], tail])
                    || !tail.is_empty() && with([head, &[letter], &tail[1..]])
                {
                    return true;
                }
            }
        }
        false
    }

    /// Digits that a numeral stands for.
    pub fn numeral(&self, word: &str) -> &str {
        self.numerals.get(word).map_or("", String::as_str)
    }

    /// Phrases that begin with a word, the longest first; only for a word of that class.
    pub fn phrases(&self, word: &str, class: Class) -> &[Phrase] {
        if class & PHRASE == 0 {
            return &[];
        }
        self.phrases.get(word).map_or(&[], Vec::as_slice)
    }
}

/// A word of the data, folded as the text is.
fn one_word(word: &str) -> Option<String> {
    let reading = Reading::of(word);
    let single = reading.tokens.len() == 1 && matches!(reading.tokens[0].what, What::Word);
    single.then(|| reading.text(0).to_owned())
}
