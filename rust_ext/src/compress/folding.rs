//! Letters outside GSM 7-bit written inside it, by language, from a data file that a linguist can read.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;

use super::rules::RulesError;
use crate::sms::gsm7;
use crate::sms::segment::{Encoding, measure};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    fold: bool,
    letters: BTreeMap<char, String>,
    keep: Vec<String>,
}

/// Rules of one language; without letters nothing is folded.
#[derive(Debug, Clone, Default)]
pub struct Folding {
    letters: HashMap<char, String>,
    keep: HashSet<String>,
}

/// Rules by language code, from the text of the data file.
///
/// # Errors
/// [`RulesError`] names language and rule: a letter that needs no folding or is not replaced by plain ones, a
/// word to keep that folding would not touch.
pub fn read(text: &str) -> Result<HashMap<String, Folding>, RulesError> {
    let tables: BTreeMap<String, Table> =
        toml::from_str(text).map_err(|error| RulesError::Syntax {
            file: "folding".to_owned(),
            reason: error.to_string(),
        })?;
    tables
        .into_iter()
        .map(|(lang, table)| Folding::read(&lang, table).map(|folding| (lang, folding)))
        .collect()
}

impl Folding {
    fn read(lang: &str, table: Table) -> Result<Self, RulesError> {
        let wrong = |rule: String, reason| RulesError::Rule {
            lang: lang.to_owned(),
            rule,
            reason,
        };
        let mut folding = Self::default();
        for (letter, plain) in table.letters {
            if gsm7::cost(letter).is_some() || gsm7::septet_count(&plain).is_none() {
                let reason = "folds a letter that needs none, or to one outside GSM 7-bit";
                return Err(wrong(letter.to_string(), reason));
            }
            let mut capitals = letter.to_uppercase();
            // Some capitals are in the alphabet though the small letter is not: Ç.
            if let (Some(capital), None) = (capitals.next(), capitals.next())
                && gsm7::cost(capital).is_none()
            {
                folding.letters.insert(capital, plain.to_uppercase());
            }
            folding.letters.insert(letter, plain);
        }
        for word in table.keep {
            if word != word.to_lowercase() || !word.contains(|c| folding.letters.contains_key(&c)) {
                let reason = "is not in small letters, or has no letter that is folded";
                return Err(wrong(word, reason));
            }
            folding.keep.insert(word);
        }
        Ok(if table.fold { folding } else { Self::default() })
    }

    /// A text in NFC with its letters folded, where all of it then is GSM 7-bit and no word must be kept.
    pub fn fold(&self, text: &str) -> Option<String> {
        if self.letters.is_empty() {
            return None;
        }
        let mut words = text.split(|c: char| !c.is_alphabetic());
        if words.any(|word| !word.is_ascii() && self.keep.contains(&word.to_lowercase())) {
            return None;
        }
        let mut folded = String::with_capacity(text.len());
        for c in text.chars() {
            match self.letters.get(&c) {
                Some(plain) => folded.push_str(plain),
                None => folded.push(c),
            }
        }
        (measure(&folded).encoding == Encoding::Gsm7).then_some(folded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spanish(letters: &str, keep: &str) -> Result<HashMap<String, Folding>, RulesError> {
        read(&format!(
            "[es]\nfold = true\nletters = {letters}\nkeep = {keep}"
        ))
    }

    #[test]
    fn letters_and_their_capitals_are_folded_unless_a_word_must_be_kept() {
        let rules = spanish(r#"{ "á" = "a", "í" = "i", "ç" = "c" }"#, r#"["sí"]"#).unwrap();
        let fold = |text| rules["es"].fold(text);
        assert_eq!(fold("Más ÁGUA, Çim").as_deref(), Some("Mas AGUA, Çim"));
        assert_eq!(fold("aquí, Sí"), None);
        assert_eq!(fold("así que sin más").as_deref(), Some("asi que sin mas"));
        assert_eq!(fold("más 水"), None);
    }

    #[test]
    fn folding_can_be_turned_off() {
        let off = read("[es]\nfold = false\nletters = { \"á\" = \"a\" }\nkeep = []").unwrap();
        assert_eq!(off["es"].fold("más"), None);
    }

    #[test]
    fn wrong_rules_are_named() {
        for (letters, keep, rule) in [
            (r#"{ "é" = "e" }"#, "[]", "é"),
            (r#"{ "á" = "â" }"#, "[]", "á"),
            (r#"{ "á" = "a" }"#, r#"["bebé"]"#, "bebé"),
            (r#"{ "á" = "a" }"#, r#"["Papá"]"#, "Papá"),
        ] {
            let error = spanish(letters, keep).unwrap_err().to_string();
            assert!(error.contains(rule) && error.contains("es"), "{error}");
        }
        let error = spanish("{ ab = \"a\" }", "[]").unwrap_err().to_string();
        assert!(error.contains("folding"), "{error}");
    }
}
