//! Sequences of words of a rule file, found in a text.

use rustc_hash::FxHashMap as HashMap;

use super::rules::Language;
use super::tokens::{self, Kind, Token};

/// Sequences of words, found at a place in a text, the longest first.
#[derive(Debug, Clone)]
pub struct Phrases<T> {
    pub(super) by_first: HashMap<String, Vec<(Vec<String>, T)>>,
}

impl<T> Default for Phrases<T> {
    fn default() -> Self {
        Self {
            by_first: HashMap::default(),
        }
    }
}

impl<T> Phrases<T> {
    pub(super) fn insert(&mut self, phrase: &str, value: T, language: &Language) {
        let mut words = tokens::keys(phrase, language);
        if words.is_empty() {
            return;
        }
        let first = words.remove(0);
        let same = self.by_first.entry(first).or_default();
        let at = same.partition_point(|(rest, _)| rest.len() >= words.len());
        same.insert(at, (words, value));
    }

    /// Longest phrase whose words are the keys of `tokens` from the first one on, and how many those are.
    pub fn at(&self, tokens: &[Token<'_>]) -> Option<(usize, &T)> {
        let (first, _) = tokens.split_first()?;
        self.by_first
            .get(&*first.key)?
            .iter()
            .find_map(|(rest, value)| {
                let mut used = 1;
                for word in rest {
                    // A hyphen between two words of a phrase is as good as a space.
                    if tokens
                        .get(used)
                        .is_some_and(|token| token.kind == Kind::Mark('-'))
                    {
                        used += 1;
                    }
                    if tokens.get(used)?.key != *word {
                        return None;
                    }
                    used += 1;
                }
                Some((used, value))
            })
    }
}

pub(super) fn phrases<T: Clone>(list: Vec<String>, value: &T, language: &Language) -> Phrases<T> {
    let mut found = Phrases::default();
    for phrase in list {
        found.insert(&phrase, value.clone(), language);
    }
    found
}
