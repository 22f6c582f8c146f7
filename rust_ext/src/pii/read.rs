//! From a text as typed to tokens that remember where they came from.
//!
//! Letters lose case, diacritics and compatibility forms; digits of every script become ASCII; white space and
//! invisible characters never separate the digits of one number. A token is a word, digits, one mark, or a
//! placeholder that stands in the text already.

use std::ops::Range;

use unicode_normalization::char::{canonical_combining_class, decompose_compatible};

use super::Kind;

/// Letters of a word that are kept: no word of our data is as long.
const MAX_LETTERS: usize = 48;

/// Digits of a placeholder's number: a text of 255 parts cannot hold ten thousand names.
const MAX_NUMBER_DIGITS: usize = 5;

/// What stands between a token and the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gap {
    /// Nothing.
    Glued,
    /// White space.
    Space,
    /// A line break, or the beginning of the text.
    Line,
}

/// How a word is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// A script without case.
    None,
    /// Begins with a small letter.
    Lower,
    /// Begins with a capital.
    Capital,
    /// Two capitals or more and no small letter.
    Upper,
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Letters.
    Word,
    /// Digits of any script, folded to ASCII.
    Digits,
    /// One other character, folded.
    Mark(char),
    /// A placeholder; none when it stood in the text as given.
    Placeholder(Option<Kind>),
}

/// A piece of the text.
#[derive(Clone, Debug)]
pub struct Token {
    /// First octet in the text.
    pub start: usize,
    /// Octet after the last one.
    pub end: usize,
    /// Place of its folded letters or digits in [`Reading::folded`].
    pub folded: Range<usize>,
    /// What it is.
    pub what: What,
    /// What stands before it.
    pub gap: Gap,
    /// How it is written.
    pub case: Case,
    /// Where in the folded letters the first apostrophe stood, 0 for none.
    pub joint: u8,
}

/// The tokens of a text over one buffer of folded letters.
#[derive(Debug, Default)]
pub struct Reading {
    /// Folded letters and digits of all tokens.
    pub folded: String,
    /// The tokens in order.
    pub tokens: Vec<Token>,
}

impl Reading {
    /// Reads a text; linear in its length.
    pub fn of(text: &str) -> Self {
        let mut reader = Reader {
            done: Self::default(),
            open: None,
            gap: Gap::Line,
            apostrophe: false,
        };
        let mut skip_to = 0;
        for (at, c) in text.char_indices() {
            if at < skip_to {
                continue;
            }
            if c == '['
                && let Some(length) = placeholder_at(&text[at..])
            {
                skip_to = at + length;
                reader.single(at, skip_to, What::Placeholder(None));
                continue;
            }
            let next = text[at + c.len_utf8()..].chars().next();
            reader.take(at, c, next);
        }
        reader.close();
        reader.done
    }

    /// Folded letters or digits of a token; empty for marks.
    pub fn text(&self, token: usize) -> &str {
        &self.folded[self.tokens[token].folded.clone()]
    }
}

struct Reader {
    done: Reading,
    open: Option<Token>,
    gap: Gap,
    apostrophe: bool,
}

impl Reader {
    fn take(&mut self, at: usize, c: char, next: Option<char>) {
        let end = at + c.len_utf8();
        if c.is_ascii_alphabetic() {
            self.letter(at, end, c);
        } else if let Some(digit) = digit(c) {
            self.part(at, end, What::Digits, Case::None);
            self.done.folded.push(digit);
            self.grow(end);
        } else if c.is_whitespace() {
            self.close();
            let line = matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}');
            self.gap = self.gap.max(if line { Gap::Line } else { Gap::Space });
        } else if is_invisible(c) || canonical_combining_class(c) != 0 {
            // Belongs to what is before it, so that it is taken out with it.
            if let Some(token) = &mut self.open {
                token.end = end;
            }
        } else if c.is_alphabetic() || is_sign(c) {
            self.letter(at, end, c);
        } else if is_apostrophe(c) && self.in_word() && next.is_some_and(char::is_alphabetic) {
            self.apostrophe = true;
        } else {
            self.single(at, end, What::Mark(mark(c)));
        }
    }

    fn in_word(&self) -> bool {
        self.open.as_ref().is_some_and(|t| t.what == What::Word)
    }

    fn letter(&mut self, at: usize, end: usize, c: char) {
        let case = if c.is_uppercase() {
            Case::Capital
        } else if c.is_lowercase() {
            Case::Lower
        } else {
            Case::None
        };
        self.part(at, end, What::Word, case);
        let from = self.open.as_ref().map_or(0, |t| t.folded.start);
        if std::mem::take(&mut self.apostrophe)
            && let Some(token) = &mut self.open
            && token.joint == 0
        {
            token.joint = u8::try_from(self.done.folded.len() - from).unwrap_or(0);
        }
        if self.done.folded.len() - from < MAX_LETTERS {
            let folded = &mut self.done.folded;
            if c.is_ascii() {
                folded.push(c.to_ascii_lowercase());
            } else {
                decompose_compatible(c, |part| {
                    if canonical_combining_class(part) == 0 {
                        folded.extend(
                            part.to_lowercase()
                                .filter(|&low| canonical_combining_class(low) == 0),
                        );
                    }
                });
            }
        }
        self.grow(end);
    }

    /// Opens a token unless one of this sort is open, and keeps its case up to date.
    fn part(&mut self, at: usize, end: usize, what: What, case: Case) {
        if let Some(token) = &mut self.open
            && token.what == what
        {
            token.case = match (token.case, case) {
                (Case::Capital | Case::Upper, Case::Capital) => Case::Upper,
                (Case::Upper, Case::Lower) => Case::Capital,
                (before, _) => before,
            };
            return;
        }
        self.close();
        let here = self.done.folded.len();
        self.open = Some(Token {
            start: at,
            end,
            folded: here..here,
            what,
            gap: std::mem::replace(&mut self.gap, Gap::Glued),
            case,
            joint: 0,
        });
    }

    fn grow(&mut self, end: usize) {
        if let Some(token) = &mut self.open {
            token.end = end;
            token.folded.end = self.done.folded.len();
        }
    }

    fn single(&mut self, at: usize, end: usize, what: What) {
        self.close();
        let here = self.done.folded.len();
        let gap = std::mem::replace(&mut self.gap, Gap::Glued);
        self.done.tokens.push(Token {
            start: at,
            end,
            folded: here..here,
            what,
            gap,
            case: Case::None,
            joint: 0,
        });
    }

    fn close(&mut self) {
        self.apostrophe = false;
        if let Some(token) = self.open.take() {
            self.done.tokens.push(token);
        }
    }
}

/// Length of the placeholder that the text begins with: `[name]`, or one with a number, `[name1]`.
fn placeholder_at(text: &str) -> Option<usize> {
    let (name, _) = text.strip_prefix('[')?.split_once(']')?;
    let kind = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let known = Kind::ALL.iter().any(|one| one.name() == kind);
    (known && name.len() - kind.len() <= MAX_NUMBER_DIGITS).then_some(name.len() + 2)
}

/// First digit of each block of ten, for the scripts people write numbers in.
const ZEROS: [u32; 20] = [
    0x0660, 0x06f0, 0x07c0, 0x0966, 0x09e6, 0x0a66, 0x0ae6, 0x0b66, 0x0be6, 0x0c66, 0x0ce6, 0x0d66,
    0x0e50, 0x0ed0, 0x0f20, 0x1040, 0x1090, 0x17e0, 0x1810, 0xff10,
];

fn digit(c: char) -> Option<char> {
    if c.is_ascii() {
        return c.is_ascii_digit().then_some(c);
    }
    if !c.is_numeric() {
        return None;
    }
    let point = c as u32;
    if let Some(zero) = ZEROS
        .iter()
        .find(|&&zero| (zero..zero + 10).contains(&point))
    {
        return char::from_digit(point - zero, 10);
    }
    // Superscript, circled, mathematical digits: one that decomposes into one digit.
    let (mut count, mut only) = (0, None);
    decompose_compatible(c, |part| {
        count += 1;
        only = part.is_ascii_digit().then_some(part);
    });
    only.filter(|_| count == 1)
}

fn mark(c: char) -> char {
    match c {
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}' => '-',
        '\u{2018}' | '\u{2019}' | '\u{2032}' | '\u{b4}' | '`' | '\u{2bc}' => '\'',
        '\u{201c}' | '\u{201d}' | '\u{2033}' | '\u{201e}' => '"',
        '\u{66b}' | '\u{3002}' | '\u{b7}' | '\u{2022}' => '.',
        '\u{66c}' | '\u{60c}' | '\u{3001}' => ',',
        '\u{ba}' | '\u{2da}' => '°',
        '\u{964}' | '\u{61f}' => '?',
        _ if c.is_ascii() => c,
        _ => {
            let mut first = None;
            decompose_compatible(c, |part| first = first.or(Some(part)));
            first.unwrap_or(c)
        }
    }
}

fn is_apostrophe(c: char) -> bool {
    matches!(
        c,
        '\'' | '`' | '\u{b4}' | '\u{2018}' | '\u{2019}' | '\u{2bc}' | '\u{2032}'
    )
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{640}' | '\u{20e3}')
}

/// Marks of class 0 that are part of a word though not alphabetic.
fn is_sign(c: char) -> bool {
    matches!(c, '\u{0900}'..='\u{0963}' | '\u{0971}'..='\u{0977}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<(What, String)> {
        let reading = Reading::of(text);
        (0..reading.tokens.len())
            .map(|i| (reading.tokens[i].what, reading.text(i).to_owned()))
            .collect()
    }

    #[test]
    fn digits_of_every_script_are_digits() {
        for text in [
            "0123",
            "٠١٢٣",
            "۰۱۲۳",
            "०१२३",
            "０１２３",
            "⁰¹²³",
            "0\u{200b}1\u{fe0f}\u{20e3}23",
        ] {
            assert_eq!(read(text), [(What::Digits, "0123".to_owned())], "{text}");
        }
    }

    #[test]
    fn words_lose_case_and_accents_and_keep_their_joint() {
        let reading = Reading::of("Je m’appelle JOSÉ");
        assert_eq!(reading.text(1), "mappelle");
        assert_eq!(reading.tokens[1].joint, 1);
        assert_eq!(
            (reading.text(2), reading.tokens[2].case),
            ("jose", Case::Upper)
        );
    }

    #[test]
    fn a_placeholder_is_one_token() {
        assert_eq!(
            read("x[phone]1"),
            [
                (What::Word, "x".to_owned()),
                (What::Placeholder(None), String::new()),
                (What::Digits, "1".to_owned())
            ]
        );
        assert_eq!(
            read("[name12]x")[0],
            (What::Placeholder(None), String::new())
        );
        for other in ["[fone]", "[name 1]", "[name123456]", "[1]", "[name"] {
            assert_eq!(read(other)[0].0, What::Mark('['), "{other}");
        }
    }

    proptest! {
        #[test]
        fn tokens_lie_in_order_on_character_boundaries(text in any::<String>()) {
            let mut last = 0;
            for token in Reading::of(&text).tokens {
                prop_assert!(token.start >= last && token.start < token.end && token.end <= text.len());
                prop_assert!(text.is_char_boundary(token.start) && text.is_char_boundary(token.end));
                last = token.end;
            }
        }
    }
}
