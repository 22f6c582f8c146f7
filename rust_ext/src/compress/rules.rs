//! The data files of the post-check and the fitting, read once.
//!
//! One shared file, one file per language, a list of substances and the folding of letters; the files in
//! `actors/knowledge/` explain every table. A rule that would change a protected fact is refused when it is read.

use std::collections::BTreeMap;

use rustc_hash::{FxHashMap as HashMap, FxHashSet as HashSet};
use serde::Deserialize;
use thiserror::Error;

use super::folding::{self, Folding};
use super::phrases::{Phrases, phrases};
use super::tokens::{self, Kind, Token};
use crate::sms::gsm7;

/// A data file is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RulesError {
    /// Not the TOML that is expected; the text has line and column.
    #[error("{file}: {reason}")]
    Syntax {
        /// Which of the files: `shared` or its number among the languages.
        file: String,
        /// What the parser says.
        reason: String,
    },
    /// Two files for one language.
    #[error("language {0:?} is described twice")]
    Twice(String),
    /// One rule cannot be.
    #[error("language {lang:?}, rule {rule:?}: {reason}")]
    Rule {
        /// Language code, `all` for the shared file.
        lang: String,
        /// The rule as it is written.
        rule: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SharedFile {
    typographic: BTreeMap<String, String>,
    units: BTreeMap<String, Vec<String>>,
    substances: SubstanceTable,
    check: CheckTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubstanceTable {
    endings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckTable {
    min_shared: f32,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Amount {
    Whole(u32),
    Part(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LanguageFile {
    lang: String,
    decimal: char,
    #[serde(default)]
    elision: bool,
    abbreviations: Vec<String>,
    endings: Vec<String>,
    small: Vec<String>,
    negators: Vec<String>,
    stops: Vec<String>,
    exceptives: Vec<String>,
    concord: bool,
    additions: Vec<String>,
    alternatives: Vec<String>,
    joiners: Vec<String>,
    conditions: Vec<String>,
    protected: Vec<String>,
    opposites: Vec<Vec<String>>,
    range_words: Vec<String>,
    per_words: Vec<String>,
    and_half: Vec<String>,
    fillers: Vec<String>,
    one_words: Vec<String>,
    numbers: BTreeMap<String, Amount>,
    units: BTreeMap<String, Vec<String>>,
    bounds: BoundTable,
    shorten: ShortenTable,
    drop: DropTable,
    order: OrderTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BoundTable {
    least: Vec<String>,
    most: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShortenTable {
    remove: Vec<String>,
    remove_first: Vec<String>,
    headline: BTreeMap<String, String>,
    stated: BTreeMap<String, String>,
    replace: BTreeMap<String, String>,
    units: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DropTable {
    whole: Vec<String>,
    cues: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OrderTable {
    tells: Vec<String>,
    orders: Vec<String>,
    refers: Vec<String>,
}

/// What a word in front of a number says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bound {
    /// "at least 20".
    Least,
    /// "up to 4".
    Most,
}

/// A phrase that only politeness uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cue {
    /// Nothing else is in its sentence.
    Whole,
    /// Its sentence begins so, and has no other clause.
    Begins,
}

/// A short form, and where it may stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Short {
    /// Left out anywhere.
    Remove,
    /// Left out at the beginning of a sentence.
    RemoveFirst,
    /// Written so, or left out, by a headline.
    Headline(String),
    /// Written so instead.
    Replace(String),
    /// Written so instead in a sentence that has denied nothing so far.
    Stated(String),
    /// Written so instead directly behind a number.
    Unit(String),
}

/// The rules of one language. The default one knows no words: it serves languages without a file.
#[derive(Debug, Clone, Default)]
pub struct Language {
    /// Language code; empty for the default.
    pub code: String,
    /// The mark before a fraction is a comma.
    pub decimal_comma: bool,
    /// An apostrophe ends a word ("l'eau" is two).
    pub elision: bool,
    /// Several negators in one clause are one negation.
    pub concord: bool,
    pub(super) abbreviations: HashSet<String>,
    pub(super) endings: Vec<String>,
    pub(super) small: HashSet<String>,
    pub(super) negators: HashSet<String>,
    /// Phrases that deny what follows them ("deja de").
    pub(super) stops: Phrases<()>,
    pub(super) exceptives: Phrases<()>,
    pub(super) additions: HashSet<String>,
    pub(super) alternatives: HashSet<String>,
    pub(super) joiners: HashSet<String>,
    pub(super) conditions: Phrases<()>,
    pub(super) protected: Phrases<()>,
    pub(super) opposites: HashMap<String, Vec<String>>,
    pub(super) range_words: HashSet<String>,
    pub(super) per_words: HashSet<String>,
    pub(super) and_half: Phrases<()>,
    pub(super) fillers: HashSet<String>,
    pub(super) one_words: HashSet<String>,
    pub(super) numbers: HashMap<String, String>,
    /// Words for units, read as such anywhere.
    pub(super) unit_words: Phrases<String>,
    pub(super) bounds: Phrases<Bound>,
    pub(super) folding: Folding,
    pub(super) short: Phrases<Short>,
    pub(super) drop_cues: Phrases<Cue>,
    /// Words that a sentence begins with that tells something and orders nothing.
    pub(super) tells: HashSet<String>,
    /// Words of a sentence that all the same is a step of what is to be done.
    pub(super) orders: Phrases<()>,
    /// Words that point to the sentence before.
    pub(super) refers: HashSet<String>,
}

impl Language {
    /// Whether the post-check can read negations of this language.
    pub fn known(&self) -> bool {
        !self.code.is_empty()
    }

    fn read(file: LanguageFile) -> Self {
        let mut language = Self {
            code: file.lang,
            decimal_comma: file.decimal == ',',
            elision: file.elision,
            concord: file.concord,
            ..Self::default()
        };
        let words = |list: Vec<String>, language: &Self| -> HashSet<String> {
            list.iter()
                .flat_map(|word| tokens::keys(word, language))
                .collect()
        };
        language.abbreviations = file
            .abbreviations
            .iter()
            .map(|a| a.to_lowercase())
            .collect();
        language.endings = file
            .endings
            .iter()
            .map(|ending| tokens::key_of(ending))
            .collect();
        language
            .endings
            .sort_by_key(|ending| std::cmp::Reverse(ending.len()));
        language.endings.dedup();
        language.small = words(file.small, &language);
        language.negators = words(file.negators, &language);
        language.additions = words(file.additions, &language);
        language.alternatives = words(file.alternatives, &language);
        language.joiners = words(file.joiners, &language);
        language.range_words = words(file.range_words, &language);
        language.fillers = words(file.fillers, &language);
        language.one_words = words(file.one_words, &language);
        language.per_words = words(file.per_words, &language);
        language.stops = phrases(file.stops, &(), &language);
        language.exceptives = phrases(file.exceptives, &(), &language);
        language.conditions = phrases(file.conditions, &(), &language);
        language.protected = phrases(file.protected, &(), &language);
        language.and_half = phrases(file.and_half, &(), &language);
        language.drop_cues = phrases(file.drop.whole, &Cue::Whole, &language);
        for phrase in file.drop.cues {
            let mut cues = std::mem::take(&mut language.drop_cues);
            cues.insert(&phrase, Cue::Begins, &language);
            language.drop_cues = cues;
        }
        language.tells = words(file.order.tells, &language);
        language.orders = phrases(file.order.orders, &(), &language);
        language.refers = words(file.order.refers, &language);
        for set in &file.opposites {
            let stems: Vec<String> = set
                .iter()
                .map(|word| tokens::stem(&tokens::key_of(word), &language))
                .collect();
            for stem in &stems {
                let others = stems.iter().filter(|other| *other != stem).cloned();
                language
                    .opposites
                    .entry(stem.clone())
                    .or_default()
                    .extend(others);
            }
        }
        language.set_quantities(file.numbers, file.units, file.bounds);
        language.set_short(file.shorten);
        language
    }

    fn set_quantities(
        &mut self,
        numbers: BTreeMap<String, Amount>,
        units: BTreeMap<String, Vec<String>>,
        bounds: BoundTable,
    ) {
        for (word, amount) in numbers {
            let value = match amount {
                Amount::Whole(number) => number.to_string(),
                Amount::Part(part) => tokens::fraction(&part).unwrap_or(part),
            };
            self.numbers.insert(tokens::key_of(&word), value);
        }
        let mut unit_words = Phrases::default();
        for (unit, names) in units {
            for name in names {
                unit_words.insert(&name, unit.clone(), self);
            }
        }
        self.unit_words = unit_words;
        let mut found = Phrases::default();
        for (list, bound) in [(bounds.least, Bound::Least), (bounds.most, Bound::Most)] {
            for phrase in list {
                found.insert(&phrase, bound, self);
            }
        }
        self.bounds = found;
    }

    fn set_short(&mut self, table: ShortenTable) {
        let mut short = Phrases::default();
        for phrase in &table.remove {
            short.insert(phrase, Short::Remove, self);
        }
        for phrase in &table.remove_first {
            short.insert(phrase, Short::RemoveFirst, self);
        }
        for (phrase, to) in table.headline {
            short.insert(&phrase, Short::Headline(to), self);
        }
        for (phrase, to) in table.stated {
            short.insert(&phrase, Short::Stated(to), self);
        }
        for (phrase, to) in table.replace {
            short.insert(&phrase, Short::Replace(to), self);
        }
        for (phrase, to) in table.units {
            short.insert(&phrase, Short::Unit(to), self);
        }
        self.short = short;
    }
}

/// Everything the data files say.
#[derive(Clone, Default)]
pub struct Rules {
    pub(super) languages: HashMap<String, Language>,
    /// Languages without a file of their own, whose letters may be folded all the same.
    wordless: HashMap<String, Language>,
    unknown: Language,
    /// Replacements by first character, the longest first.
    pub(super) typographic: HashMap<char, Vec<(String, String)>>,
    /// Abbreviations of units, read as such only behind a number.
    pub(super) unit_marks: HashMap<String, String>,
    pub(super) substances: Phrases<()>,
    /// Hashes of the longer names and of each with one letter left out, to recognise a misspelt one.
    pub(super) substances_nearly: HashSet<u64>,
    pub(super) substance_endings: Vec<String>,
    pub(super) min_shared: f32,
}

impl Rules {
    /// Reads the shared file, the languages' files and the list of substances (one a line, `#` comments).
    ///
    /// # Errors
    /// [`RulesError`] names the file or rule: wrong TOML, an unknown table, a language twice, a replacement
    /// outside GSM 7-bit, a short form that would change a number, unit, negation or substance.
    pub fn read(
        shared: &str,
        languages: &[String],
        substances: &str,
        folding: &str,
    ) -> Result<Self, RulesError> {
        let mut rules = Self::default();
        rules.read_shared(toml::from_str(shared).map_err(|error| syntax("shared", &error))?)?;
        let neutral = Language::default();
        for name in substances
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            rules.substances.insert(name, (), &neutral);
            let key = tokens::key_of(name);
            if key.len() >= 6 && !key.contains([' ', '-']) {
                rules.substances_nearly.extend(tokens::slips(&key));
            }
        }
        for (number, text) in languages.iter().enumerate() {
            let file: LanguageFile = toml::from_str(text)
                .map_err(|error| syntax(&format!("language file {}", number + 1), &error))?;
            let code = file.lang.clone();
            if rules.languages.contains_key(&code) {
                return Err(RulesError::Twice(code));
            }
            rules.languages.insert(code, Language::read(file));
        }
        for (code, folding) in folding::read(folding)? {
            match rules.languages.get_mut(&code) {
                Some(language) => language.folding = folding,
                None => rules.wordless.entry(code).or_default().folding = folding,
            }
        }
        for language in rules.languages.values() {
            rules.refuse_harmful(language)?;
        }
        Ok(rules)
    }

    /// Codes of the languages there are rules for, sorted.
    pub fn languages(&self) -> Vec<&str> {
        let mut codes: Vec<&str> = self.languages.keys().map(String::as_str).collect();
        codes.sort_unstable();
        codes
    }

    /// Rules of a language by its code ("es", "es-MX"); the wordless ones when there is no file.
    pub fn language(&self, code: &str) -> &Language {
        let primary = code.split(['-', '_']).next().unwrap_or_default();
        let worded = self.languages.get(primary);
        let found = worded.or_else(|| self.wordless.get(primary));
        found.unwrap_or(&self.unknown)
    }

    fn read_shared(&mut self, file: SharedFile) -> Result<(), RulesError> {
        for (from, to) in file.typographic {
            let rule = |reason| RulesError::Rule {
                lang: "all".to_owned(),
                rule: from.clone(),
                reason,
            };
            let Some(first) = from.chars().next() else {
                return Err(rule("replaces nothing"));
            };
            if gsm7::septet_count(&to).is_none() {
                return Err(rule("its replacement is not in GSM 7-bit"));
            }
            if from
                .chars()
                .next_back()
                .is_some_and(|last| to.contains(last))
                && from.chars().count() == 1
            {
                return Err(rule("is in its own replacement"));
            }
            let same = self.typographic.entry(first).or_default();
            let at = same.partition_point(|(other, _)| other.len() >= from.len());
            same.insert(at, (from, to));
        }
        for (unit, names) in file.units {
            for name in names {
                self.unit_marks.insert(tokens::key_of(&name), unit.clone());
            }
        }
        self.substance_endings = file
            .substances
            .endings
            .iter()
            .map(|ending| tokens::key_of(ending))
            .collect();
        self.min_shared = file.check.min_shared;
        Ok(())
    }

    /// A short form must keep every protected fact: this is what makes shortening safe to extend by data.
    fn refuse_harmful(&self, language: &Language) -> Result<(), RulesError> {
        for (first, same) in &language.short.by_first {
            for (rest, short) in same {
                let words = [std::slice::from_ref(first), rest].concat();
                let from = words.join(" ").replace("' ", "'");
                let to = match short {
                    Short::Remove | Short::RemoveFirst => "",
                    Short::Headline(to)
                    | Short::Replace(to)
                    | Short::Stated(to)
                    | Short::Unit(to) => to,
                };
                let facts = |text: String| -> Vec<String> {
                    super::facts::facts(&text, language, self)
                        .into_iter()
                        .map(|fact| fact.key)
                        .collect()
                };
                // Behind a number a short form may be read as a unit.
                let counted = facts(format!("2 {from}")) != facts(format!("2 {to}"));
                let changed = counted
                    || (!matches!(short, Short::Unit(_))
                        && facts(from.clone()) != facts(to.to_owned()));
                let outside = gsm7::septet_count(&tokens::key_of(to)).is_none();
                if changed || outside {
                    let reason = if changed {
                        "changes a protected fact"
                    } else {
                        "is not in GSM 7-bit"
                    };
                    return Err(RulesError::Rule {
                        lang: language.code.clone(),
                        rule: from,
                        reason,
                    });
                }
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules")
            .field("languages", &self.languages())
            .finish_non_exhaustive()
    }
}

fn syntax(file: &str, error: &toml::de::Error) -> RulesError {
    RulesError::Syntax {
        file: file.to_owned(),
        reason: error.to_string(),
    }
}

/// Whether a token is a word that carries meaning of its own in its language.
pub(super) fn is_content(token: &Token<'_>, language: &Language) -> bool {
    matches!(token.kind, Kind::Word)
        && !language.small.contains(&*token.key)
        && !language.negators.contains(&*token.key)
        && !language.joiners.contains(&*token.key)
        && !language.additions.contains(&*token.key)
        && !language.alternatives.contains(&*token.key)
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn with_english(change: impl Fn(&str) -> String) -> Result<Rules, RulesError> {
        let mut files = testing::files();
        files.languages = vec![change(&files.languages[0])];
        files.rules()
    }

    #[test]
    fn a_short_form_that_changes_a_fact_is_refused() {
        for harmful in [
            r#""do not" = "dont worry""#,
            r#""five" = "some""#,
            r#""paracetamol" = "it""#,
            r#""unless" = "when""#,
            r#""ml" = "l""#,
        ] {
            let place = "[shorten.replace]\n";
            let result = with_english(|text| text.replace(place, &format!("{place}{harmful}\n")));
            assert!(
                matches!(result, Err(RulesError::Rule { .. })),
                "{harmful}: {result:?}"
            );
        }
    }

    #[test]
    fn wrong_files_are_named() {
        let syntax = with_english(|text| text.replace("concord = false", "concord = maybe"));
        let error = syntax.unwrap_err().to_string();
        assert!(error.contains("language file 1"), "{error}");
        let unknown = with_english(|text| format!("surprise = 1\n{text}"));
        assert!(matches!(unknown, Err(RulesError::Syntax { .. })));
        let mut files = testing::files();
        files.languages = vec![files.languages[0].clone(), files.languages[0].clone()];
        assert_eq!(
            files.rules().unwrap_err(),
            RulesError::Twice("en".to_owned())
        );
        assert!(Rules::read("", &[], "", "").is_err());
    }

    #[test]
    fn a_language_is_found_with_its_region_and_an_unknown_one_is_wordless() {
        let rules = testing::rules();
        assert_eq!(rules.language("es-MX").code, "es");
        assert!(!rules.language("sw").known());
        assert_eq!(rules.languages(), ["en", "es", "fr", "pt"]);
    }
}
