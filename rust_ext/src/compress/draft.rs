//! A text under work with its facts, read once.

use std::cell::OnceCell;

use super::facts::{self, Fact};
use super::rules::{Language, Rules};

/// A text, the rules it is read by, and its facts.
#[derive(Clone)]
pub struct Draft<'r> {
    /// The text.
    pub text: String,
    /// Rules of its language.
    pub language: &'r Language,
    /// Rules of all languages.
    pub rules: &'r Rules,
    facts: OnceCell<Vec<Fact>>,
}

impl<'r> Draft<'r> {
    /// A text to be worked on.
    pub fn new(text: String, language: &'r Language, rules: &'r Rules) -> Self {
        Self {
            text,
            language,
            rules,
            facts: OnceCell::new(),
        }
    }

    /// Another text by the same rules.
    #[must_use]
    pub fn with(self, text: String) -> Self {
        if text == self.text {
            self
        } else {
            Self::new(text, self.language, self.rules)
        }
    }

    /// Another wording of this text, or None when it does not say the same: what every stage must pass.
    #[must_use]
    pub fn rephrased(&self, text: String) -> Option<Self> {
        let other = Self::new(text, self.language, self.rules);
        let same = |(a, b): (&Fact, &Fact)| a.kind == b.kind && a.key == b.key;
        let (before, after) = (self.facts(), other.facts());
        let unchanged = before.len() == after.len() && before.iter().zip(after).all(same);
        unchanged.then_some(other)
    }

    /// Facts of the text, in order.
    pub fn facts(&self) -> &[Fact] {
        self.facts
            .get_or_init(|| facts::facts(&self.text, self.language, self.rules))
    }
}
