//! Redaction: takes out of a text what tells who or exactly where a person is, before the text leaves its node.
//!
//! Deterministic and data-driven, without regular expressions: [`read`] makes tokens, [`links`],
//! [`coordinates`], [`ids`], [`numbers`] and [`names`] look at them with bounded sight, so that time is linear in
//! the length of any text. The words are in data files; adding a language is adding a file.
//!
//! A finding takes its tokens away from the detectors after it and stands as a barrier; all of them run again
//! until nothing is found, which makes redaction idempotent.

mod coordinates;
mod data;
mod ids;
mod links;
mod names;
mod numbers;
mod read;

use std::fmt::Write as _;
use std::ops::Range;

use rustc_hash::FxHashMap;

pub use data::PiiError;

use data::{Class, Cue, Lexicon};
use read::{Case, Gap, Reading, What};

/// Most rounds; two or three are usual. A text that is not finished by then is taken out as a whole.
const MAX_ROUNDS: usize = 8;
/// Digits from which a number that is left makes a text doubtful.
pub const MANY_DIGITS: usize = 7;

/// Words of so many letters tell a language; shorter ones are the same in many.
const LEAST_LETTERS: usize = 3;
/// Unknown words in a hundred from which a text is in no language of the data. Things that are asked about are
/// often unknown («quernstone»), the words around them hardly ever.
const FOREIGN_PERCENT: usize = 25;

/// Letters beyond ASCII of the languages of the data that are written in Latin.
const OWN_LETTERS: &str = "áàâãäéèêëíìîïóòôõöúùûüçñÿœæ";

/// What is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A phone number, and any number of seven digits or more that is not plainly something else.
    Phone,
    /// An e-mail address.
    Email,
    /// A person's name.
    Name,
    /// Coordinates, plus codes, geo links: a place to some hundred metres or better.
    Coordinates,
    /// A document, account, card or plate; a PIN or password.
    Id,
    /// A link.
    Url,
    /// An account of a social network.
    Handle,
    /// A date of birth.
    BirthDate,
    /// A whole text that did not come to an end within [`MAX_ROUNDS`].
    Text,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Phone,
        Self::Email,
        Self::Name,
        Self::Coordinates,
        Self::Id,
        Self::Url,
        Self::Handle,
        Self::BirthDate,
        Self::Text,
    ];

    /// What stands in the redacted text.
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Phone => "[phone]",
            Self::Email => "[email]",
            Self::Name => "[name]",
            Self::Coordinates => "[place-coordinates]",
            Self::Id => "[id]",
            Self::Url => "[url]",
            Self::Handle => "[handle]",
            Self::BirthDate => "[birth-date]",
            Self::Text => "[text]",
        }
    }

    /// Name on the wire: the placeholder without its brackets.
    pub fn name(self) -> &'static str {
        self.placeholder().trim_matches(['[', ']'])
    }
}

/// A finding, with its place in the original text in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub kind: Kind,
    /// First character.
    pub start: usize,
    /// Character after the last one.
    pub end: usize,
}

/// A redacted text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redacted {
    /// The text with placeholders; at most six times as many octets as the original.
    pub text: String,
    /// What was taken out, in the order of the text.
    pub found: Vec<Found>,
    /// Something that nobody could read is left: see [`Redactor::redact`].
    pub doubtful: bool,
    /// It is in no language of the data, as far as its words tell, so names in it may have been missed.
    pub foreign: bool,
}

/// A text with numbered placeholders, and what each stands for: whoever has both can put it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masked {
    /// The text; [`Redactor::redact`] finds nothing in it.
    pub text: String,
    /// Placeholder and what stood there first, in the order of the text. What was written alike, capitals
    /// aside, shares a placeholder.
    pub stands: Vec<(String, String)>,
    /// See [`Redacted::doubtful`].
    pub doubtful: bool,
    /// See [`Redacted::foreign`].
    pub foreign: bool,
}

/// Redaction with its data loaded; immutable, shared freely between threads.
#[derive(Debug)]
pub struct Redactor {
    lexicon: Lexicon,
}

impl Redactor {
    /// Reads the data: TOML files as name and text, and texts all of whose words are ordinary.
    ///
    /// # Errors
    /// [`PiiError`] names the file and entry that is wrong.
    pub fn new(files: &[(String, String)], ordinary: &[String]) -> Result<Self, PiiError> {
        Ok(Self {
            lexicon: Lexicon::new(files, ordinary)?,
        })
    }

    /// Redacts any text of any length, in linear time.
    ///
    /// Doubtful is a text in which a number of [`MANY_DIGITS`] digits, an `@`, a very long word, or letters
    /// of a script without data are left.
    pub fn redact(&self, text: &str) -> Redacted {
        let mut work = Work::new(&self.lexicon, Reading::of(text));
        for _ in 0..MAX_ROUNDS {
            work.cue();
            links::find(&mut work);
            coordinates::find(&mut work);
            ids::find(&mut work);
            let left = numbers::find(&mut work);
            names::find(&mut work);
            if work.spans.is_empty() {
                return work.finish(text, left);
            }
            work.collapse();
        }
        Redacted {
            text: Kind::Text.placeholder().to_owned(),
            found: vec![Found {
                kind: Kind::Text,
                start: 0,
                end: text.chars().count(),
            }],
            doubtful: true,
            foreign: true,
        }
    }

    /// Redacts like [`Self::redact`], with placeholders that can be told apart and put back: `[name1]`.
    ///
    /// A placeholder that stands in the text already is taken out like a finding, so that none of the result
    /// means two things.
    pub fn mask(&self, text: &str) -> Masked {
        let redacted = self.redact(text);
        let mut pieces: Vec<(Range<usize>, &str)> = Vec::new();
        let offsets: Vec<usize> = text
            .char_indices()
            .map(|(at, _)| at)
            .chain([text.len()])
            .collect();
        for found in &redacted.found {
            pieces.push((offsets[found.start]..offsets[found.end], found.kind.name()));
        }
        let (found, mut next) = (pieces.len(), 0);
        for token in Reading::of(text).tokens {
            if token.what != What::Placeholder(None) {
                continue;
            }
            let at = token.start..token.end;
            while next < found && pieces[next].0.end <= at.start {
                next += 1;
            }
            if next == found || pieces[next].0.start >= at.end {
                let name = text[at.clone()].trim_matches(['[', ']']);
                pieces.push((at, name.trim_end_matches(|c: char| c.is_ascii_digit())));
            }
        }
        pieces.sort_by_key(|piece| piece.0.start);
        let mut numbers: FxHashMap<(&str, String), usize> = FxHashMap::default();
        let mut counts: FxHashMap<&str, usize> = FxHashMap::default();
        let mut masked = Masked {
            text: String::with_capacity(text.len()),
            stands: Vec::new(),
            doubtful: redacted.doubtful,
            foreign: redacted.foreign,
        };
        let mut done = 0;
        for (at, kind) in pieces {
            let original = &text[at.clone()];
            let number = *numbers
                .entry((kind, original.to_lowercase()))
                .or_insert_with(|| {
                    let count = counts.entry(kind).or_default();
                    *count += 1;
                    masked
                        .stands
                        .push((format!("[{kind}{count}]"), original.to_owned()));
                    *count
                });
            masked.text.push_str(&text[done..at.start]);
            let _ = write!(masked.text, "[{kind}{number}]");
            done = at.end;
        }
        masked.text.push_str(&text[done..]);
        masked
    }
}

/// A phrase of the data found in the text, in tokens.
#[derive(Clone, Copy, Debug)]
struct Hit {
    cue: Cue,
    start: usize,
    end: usize,
}

/// A text being redacted. Every accessor takes any index: behind the end there is nothing.
struct Work<'a> {
    lexicon: &'a Lexicon,
    reading: Reading,
    classes: Vec<Class>,
    taken: Vec<bool>,
    spans: Vec<(usize, usize, Kind)>,
    hits: Vec<Hit>,
    /// Capitals tell names from words: the text is not all in capitals nor In Title Case.
    cased: bool,
}

impl<'a> Work<'a> {
    fn new(lexicon: &'a Lexicon, reading: Reading) -> Self {
        let classes: Vec<Class> = (0..reading.tokens.len())
            .map(|i| match reading.tokens[i].what {
                What::Word => lexicon.class(reading.text(i)),
                _ => 0,
            })
            .collect();
        let taken = vec![false; classes.len()];
        Self {
            lexicon,
            reading,
            classes,
            taken,
            spans: Vec::new(),
            hits: Vec::new(),
            cased: false,
        }
    }

    fn len(&self) -> usize {
        self.taken.len()
    }

    /// What a token is; a barrier when it has been taken or does not exist.
    fn what(&self, i: usize) -> What {
        match self.reading.tokens.get(i) {
            Some(token) if !self.taken[i] => token.what,
            _ => What::Placeholder(None),
        }
    }

    fn is_mark(&self, i: usize, c: char) -> bool {
        self.what(i) == What::Mark(c)
    }

    fn is_word(&self, i: usize) -> bool {
        self.what(i) == What::Word
    }

    /// Folded letters, empty for anything but a word.
    fn word(&self, i: usize) -> &str {
        if self.is_word(i) {
            self.reading.text(i)
        } else {
            ""
        }
    }

    /// ASCII digits, empty for anything but digits.
    fn digits(&self, i: usize) -> &str {
        if self.what(i) == What::Digits {
            self.reading.text(i)
        } else {
            ""
        }
    }

    fn class(&self, i: usize) -> Class {
        if self.is_word(i) { self.classes[i] } else { 0 }
    }

    fn has(&self, i: usize, class: Class) -> bool {
        self.class(i) & class != 0
    }

    /// The gap before a token.
    fn gap(&self, i: usize) -> Gap {
        self.reading
            .tokens
            .get(i)
            .map_or(Gap::Line, |token| token.gap)
    }

    fn glued(&self, i: usize) -> bool {
        self.gap(i) == Gap::Glued
    }

    fn case(&self, i: usize) -> Case {
        self.reading
            .tokens
            .get(i)
            .map_or(Case::None, |token| token.case)
    }

    /// Takes the tokens from `start` until before `end`.
    fn take(&mut self, start: usize, end: usize, kind: Kind) {
        debug_assert!(start < end && end <= self.len());
        self.taken[start..end].fill(true);
        self.spans.push((start, end, kind));
    }

    /// Finds every phrase, and how the text is written.
    fn cue(&mut self) {
        let mut hits = Vec::new();
        let (mut capital, mut small) = (0_usize, 0_usize);
        for i in 0..self.len() {
            if !self.is_word(i) {
                continue;
            }
            // «I» and the first word of a sentence are always written with a capital.
            let first = i == 0
                || matches!(self.what(i - 1), What::Mark('.' | '!' | '?'))
                || self.gap(i) == Gap::Line;
            match self.case(i) {
                Case::Lower => small += 1,
                Case::Capital | Case::Upper if !first && self.word(i).len() > 1 => capital += 1,
                _ => {}
            }
            for (rest, cue) in self.lexicon.phrases(self.word(i), self.class(i)) {
                if let Some(end) = self.matches(i + 1, rest) {
                    hits.push(Hit {
                        cue: *cue,
                        start: i,
                        end,
                    });
                }
            }
        }
        self.hits = hits;
        self.cased = small > 0 && capital <= 2 * small;
    }

    /// The token after the words of a phrase, `d.o.b` and `d-o-b` being `d o b`.
    fn matches(&self, mut at: usize, rest: &[String]) -> Option<usize> {
        for word in rest {
            if self.glued(at)
                && matches!(
                    self.what(at),
                    What::Mark('.' | '-' | '/' | '\'' | '_' | '°')
                )
            {
                at += 1;
            }
            let there =
                matches!(self.what(at), What::Word | What::Digits) && self.gap(at) != Gap::Line;
            if !there || self.reading.text(at) != word {
                return None;
            }
            at += 1;
        }
        Some(at)
    }

    /// Puts a placeholder for each finding, so that the next round sees what a reader of the result would.
    fn collapse(&mut self) {
        self.spans.sort_unstable();
        let old = std::mem::take(&mut self.reading.tokens);
        let classes = std::mem::take(&mut self.classes);
        let mut spans = std::mem::take(&mut self.spans).into_iter().peekable();
        for (i, (token, class)) in old.iter().zip(classes).enumerate() {
            match spans.peek() {
                Some(&(start, end, kind)) if start == i => {
                    let mut whole = token.clone();
                    whole.end = old[end - 1].end;
                    whole.what = What::Placeholder(Some(kind));
                    self.reading.tokens.push(whole);
                    self.classes.push(0);
                }
                Some(&(start, ..)) if start < i => {}
                _ => {
                    self.reading.tokens.push(token.clone());
                    self.classes.push(class);
                }
            }
            if spans.peek().is_some_and(|&(_, end, _)| end == i + 1) {
                spans.next();
            }
        }
        self.taken = vec![false; self.classes.len()];
    }

    fn finish(&self, text: &str, many_digits_left: bool) -> Redacted {
        let mut out = String::with_capacity(text.len());
        let mut found = Vec::new();
        let (mut done, mut chars) = (0, 0);
        for token in &self.reading.tokens {
            let What::Placeholder(Some(kind)) = token.what else {
                continue;
            };
            let before = &text[done..token.start];
            out.push_str(before);
            out.push_str(kind.placeholder());
            chars += before.chars().count();
            let start = chars;
            chars += text[token.start..token.end].chars().count();
            done = token.end;
            found.push(Found {
                kind,
                start,
                end: chars,
            });
        }
        out.push_str(&text[done..]);
        Redacted {
            text: out,
            found,
            doubtful: many_digits_left || self.something_unread(),
            foreign: self.is_foreign() || text.chars().any(is_elsewhere),
        }
    }

    /// Whether more than [`FOREIGN_PERCENT`] of its words are unknown, each different word counted once.
    fn is_foreign(&self) -> bool {
        let mut words: Vec<&str> = (0..self.len())
            .map(|i| self.word(i))
            .filter(|word| word.chars().nth(LEAST_LETTERS - 1).is_some())
            .collect();
        words.sort_unstable();
        words.dedup();
        let unknown = words
            .iter()
            .filter(|word| self.lexicon.class(word) == 0 && !self.lexicon.is_misspelt(word))
            .count();
        unknown * 100 > words.len() * FOREIGN_PERCENT
    }

    fn something_unread(&self) -> bool {
        (0..self.len()).any(|i| match self.what(i) {
            What::Mark(c) => c == '@' && (self.glued(i) || self.glued(i + 1)),
            What::Word => {
                let word = self.word(i);
                word.len() > 40 || word.chars().any(|c| c.is_alphabetic() && !is_read(c))
            }
            _ => false,
        })
    }
}

/// A letter of Latin, Arabic or Devanagari.
fn is_read(c: char) -> bool {
    matches!(c, '\0'..='\u{24f}' | '\u{600}'..='\u{77f}' | '\u{900}'..='\u{97f}' | '\u{1e00}'..='\u{1eff}')
}

/// A Latin letter that no language of the data is written with: ß, ł, ş, ơ.
fn is_elsewhere(c: char) -> bool {
    matches!(c, '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}')
        && c.is_alphabetic()
        && !c.to_lowercase().all(|low| OWN_LETTERS.contains(low))
}

#[cfg(test)]
mod tests;
