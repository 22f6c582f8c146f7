//! From a text as typed to plain tokens that remember where they came from.
//!
//! Letters lose case, diacritics and compatibility forms, so that NFC and NFD, capitals and full-width
//! letters read the same. Combining marks are dropped by canonical class, which leaves vowel signs of Indic
//! scripts in place.

use std::ops::Range;

use unicode_normalization::char::{canonical_combining_class, decompose_compatible};

/// Letters of a token that count; a longer run of letters is no word of any language we know.
pub const MAX_LETTERS: usize = 40;

/// How strongly a token is separated from the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Break {
    /// White space, or nothing at all.
    None,
    /// Comma, dash, bracket, or the dots of somebody out of breath.
    Clause,
    /// Full stop, question or exclamation mark, new line.
    Sentence,
}

/// One word, number or symbol.
#[derive(Clone, Debug)]
pub struct Token {
    /// Place in the original text, counted in characters (Unicode scalar values).
    pub start: usize,
    /// Character after the last one.
    pub end: usize,
    /// Place of its letters in [`Tokens::letters`], counted in octets.
    pub letters: Range<usize>,
    /// Octet offsets in `letters` where an apostrophe stood.
    pub apostrophes: Vec<usize>,
    /// What stood before it.
    pub before: Break,
}

/// The tokens of a text over one buffer of normalised letters.
#[derive(Debug, Default)]
pub struct Tokens {
    letters: String,
    tokens: Vec<Token>,
}

impl Tokens {
    /// Reads a text; linear in its length.
    pub fn of(text: &str) -> Self {
        let mut reader = Reader::default();
        let mut chars = text.chars().peekable();
        let mut at = 0;
        while let Some(c) = chars.next() {
            let next = chars.peek().copied();
            if c.is_ascii() {
                reader.take(at, c.to_ascii_lowercase(), next);
            } else {
                decompose_compatible(c, |part| {
                    if canonical_combining_class(part) != 0 {
                        reader.extend(at);
                    } else {
                        part.to_lowercase()
                            .filter(|&low| canonical_combining_class(low) == 0)
                            .for_each(|low| reader.take(at, low, next));
                    }
                });
            }
            at += 1;
        }
        reader.close();
        reader.done
    }

    /// Each token with its letters.
    pub fn iter(&self) -> impl Iterator<Item = (&Token, &str)> {
        self.tokens
            .iter()
            .map(|token| (token, &self.letters[token.letters.clone()]))
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }
}

#[derive(Default)]
struct Reader {
    done: Tokens,
    open: Option<Token>,
    count: usize,
    pending: Option<Break>,
    dots: usize,
    lines: usize,
}

impl Reader {
    /// Takes one normalised character that stands at `at`; `next` is the raw one after it.
    fn take(&mut self, at: usize, c: char, next: Option<char>) {
        if is_invisible(c) {
            return;
        }
        if c.is_alphanumeric() || is_sign(c) {
            self.letter(at, c);
        } else if is_apostrophe(c) {
            let here = self.done.letters.len();
            if let Some(token) = &mut self.open
                && token.apostrophes.last() != Some(&here)
            {
                token.apostrophes.push(here);
            }
        } else if is_symbol(c) {
            self.close();
            self.letter(at, c);
            self.close();
        } else {
            self.close();
            self.separate(c, next);
        }
    }

    /// A mark belongs to the letter before it: the token's place in the text grows, its letters do not.
    fn extend(&mut self, at: usize) {
        if let Some(token) = &mut self.open {
            token.end = at + 1;
        }
    }

    fn letter(&mut self, at: usize, c: char) {
        let here = self.done.letters.len();
        let before = self.pending.take().unwrap_or(Break::None);
        (self.dots, self.lines) = (0, 0);
        let token = self.open.get_or_insert_with(|| Token {
            start: at,
            end: at + 1,
            letters: here..here,
            apostrophes: Vec::new(),
            before,
        });
        token.end = at + 1;
        self.count += 1;
        if self.count <= MAX_LETTERS {
            self.done.letters.push(c);
            token.letters.end = self.done.letters.len();
        }
    }

    fn close(&mut self) {
        self.count = 0;
        if let Some(mut token) = self.open.take() {
            let end = token.letters.end;
            token.apostrophes.retain(|&place| place < end);
            self.done.tokens.push(token);
        }
    }

    fn separate(&mut self, c: char, next: Option<char>) {
        let mut strength = match c {
            '.' if next.is_some_and(char::is_alphanumeric) => Break::Clause,
            // Phones wrap lines; only an empty line ends a sentence.
            '\n' if self.lines > 0 => Break::Sentence,
            '\n' => Break::Clause,
            '.' | '!' | '?' | ';' | '\u{61f}' | '\u{964}' | '\u{965}' | '\u{3002}' => {
                Break::Sentence
            }
            c if c.is_whitespace() => Break::None,
            _ => Break::Clause,
        };
        self.lines += usize::from(c == '\n');
        if c == '.' {
            self.dots += 1;
        }
        if c == '.' && self.dots > 1 {
            // An ellipsis is a breath, not an end: «cant... breathe».
            strength = Break::Clause;
            self.pending = Some(Break::Clause);
        }
        self.pending = Some(self.pending.unwrap_or(Break::None).max(strength));
    }
}

fn is_apostrophe(c: char) -> bool {
    matches!(
        c,
        '\'' | '`' | '\u{2018}' | '\u{2019}' | '\u{2bc}' | '\u{2032}'
    )
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{2066}'..='\u{206f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{640}')
}

/// Pictographs are words of their own; whether they mean something is the data's business.
fn is_symbol(c: char) -> bool {
    matches!(c, '\u{2600}'..='\u{27bf}' | '\u{1f000}'..='\u{1faff}')
}

/// Marks of class 0 that are part of a word though not alphabetic.
fn is_sign(c: char) -> bool {
    matches!(c, '\u{0900}'..='\u{0963}' | '\u{0971}'..='\u{0977}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_normalization::UnicodeNormalization;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        Tokens::of(text)
            .iter()
            .map(|(_, letters)| letters.to_owned())
            .collect()
    }

    #[test]
    fn case_diacritics_width_and_apostrophes_do_not_matter() {
        assert_eq!(
            words("Mi BEBÉ can't ｂｒｅａｔｈｅ"),
            ["mi", "bebe", "cant", "breathe"]
        );
        assert_eq!(words("it’s"), ["its"]);
        assert_eq!(words("🆘help"), ["🆘", "help"]);
    }

    #[test]
    fn offsets_point_into_the_original() {
        let text = "Ayúdame, él no respira";
        let chars: Vec<char> = text.chars().collect();
        let tokens = Tokens::of(text);
        let found: Vec<String> = tokens
            .iter()
            .map(|(t, _)| chars[t.start..t.end].iter().collect())
            .collect();
        assert_eq!(found, ["Ayúdame", "él", "no", "respira"]);
    }

    #[test]
    fn breaks_by_strength() {
        let breaks = |text| {
            Tokens::of(text)
                .tokens
                .iter()
                .map(|t| t.before)
                .collect::<Vec<_>>()
        };
        assert_eq!(breaks("a. b"), [Break::None, Break::Sentence]);
        assert_eq!(breaks("a... b"), [Break::None, Break::Clause]);
        assert_eq!(
            breaks("a\nb\r\n\r\nc"),
            [Break::None, Break::Clause, Break::Sentence]
        );
        assert_eq!(breaks("a, b"), [Break::None, Break::Clause]);
        assert_eq!(
            breaks("a.b!c"),
            [Break::None, Break::Clause, Break::Sentence]
        );
    }

    proptest! {
        #[test]
        fn composed_and_decomposed_read_the_same(text in "\\PC{0,60}") {
            let composed: String = text.nfc().collect();
            let decomposed: String = text.nfd().collect();
            prop_assert_eq!(words(&composed), words(&decomposed));
        }

        #[test]
        fn tokens_lie_in_order_inside_the_text(text in any::<String>()) {
            let count = text.chars().count();
            let mut last = 0;
            for (token, letters) in Tokens::of(&text).iter() {
                prop_assert!(token.start >= last && token.start < token.end && token.end <= count);
                prop_assert!(!letters.is_empty());
                last = token.start;
            }
        }
    }
}
