//! From tokens to pieces: what the lexicon looks up. «dad's» is one or two, «took30» is two, «bl33ding» is a
//! word with digits for letters.

use std::borrow::Cow;

use super::lexicon::Lexicon;
use super::normal::{Break, Token, Tokens};

/// What stands for one word.
#[derive(Clone)]
pub struct Piece<'t> {
    /// Place in the original text, in characters.
    pub start: usize,
    /// Character after it.
    pub end: usize,
    /// What stood before it.
    pub before: Break,
    /// Its letters.
    pub letters: Cow<'t, str>,
}

impl Lexicon {
    /// Tokens, parted at an apostrophe where only the parts are words: «l'eau», «my dad's».
    pub(super) fn pieces<'t>(&self, tokens: &'t Tokens) -> Vec<Piece<'t>> {
        let mut pieces = Vec::with_capacity(tokens.len());
        for (token, letters) in tokens.iter() {
            let whole = Piece {
                start: token.start,
                end: token.end,
                before: token.before,
                letters: Cow::Borrowed(letters),
            };
            let mixed = letters.is_ascii()
                && letters.bytes().any(|b| b.is_ascii_digit())
                && letters.bytes().any(|b| b.is_ascii_alphabetic());
            if mixed && !self.is_known(letters) {
                if let Some(meant) = self.with_letters_for_digits(letters) {
                    pieces.push(Piece {
                        letters: Cow::Owned(meant),
                        ..whole
                    });
                } else {
                    // «took30», «2kids»
                    let runs = letters
                        .as_bytes()
                        .chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit());
                    let mut at = 0;
                    for run in runs {
                        let part = &letters[at..at + run.len()];
                        pieces.push(whole.part(at, part));
                        at += run.len();
                    }
                }
            } else if token.apostrophes.is_empty()
                || (self.is_known(letters) && !self.stands_apart(token, letters))
            {
                pieces.push(whole);
            } else {
                let ends = token.apostrophes.iter();
                let ends = ends.map(|place| place - token.letters.start);
                let mut from = 0;
                for end in ends.chain([letters.len()]) {
                    if end > from {
                        pieces.push(whole.part(from, &letters[from..end]));
                        from = end;
                    }
                }
            }
        }
        pieces
    }

    /// Whether what follows an apostrophe always stands apart: «ll» of «I'll».
    fn stands_apart(&self, token: &Token, letters: &str) -> bool {
        (token.apostrophes.iter())
            .any(|place| self.is_apart(&letters[place - token.letters.start..]))
    }

    /// «h3lp», «bl33ding», «w8», «2gether»: the known word that digits spell, if there is one.
    fn with_letters_for_digits(&self, letters: &str) -> Option<String> {
        let by_shape = |digit| match digit {
            '0' => "o",
            '1' => "i",
            '3' => "e",
            '4' => "a",
            '5' => "s",
            '7' => "t",
            _ => "",
        };
        let by_sound = |digit| match digit {
            '0' => "o",
            '1' => "one",
            '2' => "to",
            '4' => "for",
            '8' => "ate",
            _ => "",
        };
        let spelt = |name: &dyn Fn(char) -> &'static str| {
            let mut out = String::with_capacity(letters.len() + 4);
            for c in letters.chars() {
                match name(c) {
                    "" if c.is_ascii_digit() => return None,
                    "" => out.push(c),
                    name => out.push_str(name),
                }
            }
            self.is_word(&out).then_some(out)
        };
        spelt(&by_shape).or_else(|| spelt(&by_sound))
    }
}

impl<'t> Piece<'t> {
    /// A part of it, which begins `at` an octet; all parts have the place of the whole.
    fn part(&self, at: usize, letters: &'t str) -> Self {
        let before = if at == 0 { self.before } else { Break::None };
        Self {
            before,
            letters: Cow::Borrowed(letters),
            ..*self
        }
    }
}
