//! Words, numbers and marks of a text, with their places.

use std::borrow::Cow;
use std::hash::Hasher;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::{decompose_canonical, is_combining_mark};

use super::rules::Language;

/// Digits of one phone number at least; shorter ones are plain numbers.
const PHONE_DIGITS: usize = 7;

/// Digits of one phone number at most (ITU-T E.164 §6).
const MAX_PHONE_DIGITS: usize = 15;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Letters.
    Word,
    /// Letters with digits ("b12", "h2o"): a name that is kept like a number.
    Code,
    /// A number; the key is its canonical value.
    Number,
    /// A clock time; the key is `8:05`.
    Time,
    /// Seven digits or more; the key is the digits, with a leading `+`.
    Phone,
    /// A mark that is not part of a word.
    Mark(char),
}

/// One token of a text.
#[derive(Debug, Clone)]
pub struct Token<'t> {
    /// Byte offset where it begins.
    pub start: usize,
    /// Byte offset behind it.
    pub end: usize,
    /// What it is.
    pub kind: Kind,
    /// Canonical form, by which tokens are compared: lower case, without accents.
    pub key: Cow<'t, str>,
    /// The token as written.
    pub text: &'t str,
}

/// Lower case without Latin accents, with a straight apostrophe and without an English genitive.
pub fn key_of(word: &str) -> String {
    let mut key = String::with_capacity(word.len());
    if word.is_ascii() {
        key.push_str(word);
        key.make_ascii_lowercase();
    } else {
        for c in word.chars().flat_map(char::to_lowercase) {
            decompose_canonical(c, |part| match part {
                '\u{300}'..='\u{36F}' => {}
                '’' | '‘' | '`' | '´' => key.push('\''),
                'œ' => key.push_str("oe"),
                part => key.push(part),
            });
        }
        // Composed again, so that Hangul and Indic letters stay as they were written.
        key = key.nfc().collect();
    }
    if key.ends_with("'s") && key.len() > 3 {
        key.truncate(key.len() - 2);
    }
    key
}

/// [`key_of`] without copying a word that is its own key.
fn key(word: &str) -> Cow<'_, str> {
    let same = |octet: u8| octet.is_ascii_lowercase() || octet == b'-';
    if word.bytes().all(same) {
        Cow::Borrowed(word)
    } else {
        Cow::Owned(key_of(word))
    }
}

/// Keys of the words and numbers of a phrase.
pub fn keys(phrase: &str, language: &Language) -> Vec<String> {
    tokenise(phrase, language)
        .into_iter()
        .filter(|token| !matches!(token.kind, Kind::Mark('-' | ',' | '.' | '\'')))
        .map(|token| token.key.into_owned())
        .collect()
}

/// A key without the ending of its form, so that "boiling" and "boil" compare equal.
///
/// Three letters stay at least; a doubled last letter becomes single and a last `e` goes, as in "stopping" and
/// "using". What is no word of the language comes out the same each time, which is all that comparing needs.
pub fn stem(key: &str, language: &Language) -> String {
    let ending = language.endings.iter().find(|ending| {
        key.strip_suffix(ending.as_str())
            .is_some_and(|rest| rest.chars().count() >= 3)
    });
    let mut stem = ending
        .and_then(|e| key.strip_suffix(e.as_str()))
        .unwrap_or(key)
        .to_owned();
    if stem.len() < key.len() {
        let mut last = stem.chars().rev();
        if let (Some(a), Some(b)) = (last.next(), last.next())
            && a == b
            && stem.chars().count() > 3
        {
            stem.pop();
        }
    }
    if stem.ends_with('e') && stem.chars().count() > 3 {
        stem.pop();
    }
    stem
}

/// Hashes of a key and of the key with each of its letters left out: two words that share one are one slip
/// apart. Two different words have one in common by chance once in 2^64.
pub fn slips(key: &str) -> impl Iterator<Item = u64> + '_ {
    let without = move |left_out: Option<usize>| {
        let mut hasher = rustc_hash::FxHasher::default();
        for (at, c) in key.chars().enumerate() {
            if left_out != Some(at) {
                hasher.write_u32(c.into());
            }
        }
        hasher.finish()
    };
    std::iter::once(without(None)).chain((0..key.chars().count()).map(move |at| without(Some(at))))
}

/// Value of a digit in any of the scripts people text in.
pub(super) fn digit(c: char) -> Option<u8> {
    const ZEROS: [char; 17] = [
        '0', '٠', '۰', '०', '০', '੦', '૦', '୦', '௦', '౦', '೦', '൦', '๐', '໐', '༠', '၀', '０',
    ];
    if c.is_ascii() {
        return c.to_digit(10).and_then(|d| u8::try_from(d).ok());
    }
    let offset = ZEROS
        .iter()
        .map(|zero| (c as u32).wrapping_sub(*zero as u32))
        .find(|offset| *offset < 10)?;
    u8::try_from(offset).ok()
}

fn vulgar(c: char) -> Option<&'static str> {
    Some(match c {
        '½' => "1/2",
        '¼' => "1/4",
        '¾' => "3/4",
        '⅓' => "1/3",
        '⅔' => "2/3",
        '⅛' => "1/8",
        _ => return None,
    })
}

fn is_apostrophe(c: char) -> bool {
    matches!(c, '\'' | '’')
}

fn is_word(c: char) -> bool {
    (c.is_alphabetic() || is_combining_mark(c) || matches!(c, '\u{200C}' | '\u{200D}'))
        && digit(c).is_none()
}

/// Canonical value of a proper fraction "3/4": a decimal where it ends, else the fraction itself.
///
/// None when it is no proper fraction with a denominator up to 16: "120/80" and "24/7" are kept as written.
pub fn fraction(text: &str) -> Option<String> {
    let (above, below) = text.split_once('/')?;
    let (above, below): (u32, u32) = (above.parse().ok()?, below.parse().ok()?);
    if above == 0 || above >= below || below > 16 {
        return None;
    }
    let (mut rest, mut digits) = (above, String::new());
    for _ in 0..4 {
        rest *= 10;
        digits.push(char::from_digit(rest / below, 10)?);
        rest %= below;
        if rest == 0 {
            return Some(format!("0.{digits}"));
        }
    }
    Some(format!("{above}/{below}"))
}

/// All tokens of a text in order; white space is between them. Linear.
pub fn tokenise<'t>(text: &'t str, language: &Language) -> Vec<Token<'t>> {
    let mut scanner = Scanner {
        text,
        at: 0,
        language,
    };
    let mut tokens = Vec::with_capacity(text.len() / 4);
    while let Some(c) = scanner.peek() {
        if c.is_whitespace() {
            scanner.bump(c);
        } else if digit(c).is_some() || vulgar(c).is_some() || scanner.signed(c) {
            tokens.push(scanner.number());
        } else if is_word(c) {
            tokens.push(scanner.word());
        } else {
            let start = scanner.at;
            scanner.bump(c);
            tokens.push(Token {
                start,
                end: scanner.at,
                kind: Kind::Mark(c),
                key: Cow::Borrowed(&text[start..scanner.at]),
                text: &text[start..scanner.at],
            });
        }
    }
    tokens
}

struct Scanner<'t, 'r> {
    text: &'t str,
    at: usize,
    language: &'r Language,
}

impl<'t> Scanner<'t, '_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn bump(&mut self, c: char) {
        self.at += c.len_utf8();
    }

    /// A `+` directly in front of a digit begins a phone number.
    fn signed(&self, c: char) -> bool {
        c == '+'
            && self.text[self.at + 1..]
                .chars()
                .next()
                .is_some_and(|next| digit(next).is_some())
    }

    fn token(&self, start: usize, kind: Kind, key: impl Into<Cow<'t, str>>) -> Token<'t> {
        Token {
            start,
            end: self.at,
            kind,
            key: key.into(),
            text: &self.text[start..self.at],
        }
    }

    fn word(&mut self) -> Token<'t> {
        let start = self.at;
        let mut kind = Kind::Word;
        while let Some(c) = self.peek() {
            let next = || self.text[self.at + c.len_utf8()..].chars().next();
            if digit(c).is_some() {
                kind = Kind::Code;
            } else if is_apostrophe(c) && self.language.elision && next().is_none_or(is_word) {
                self.bump(c);
                return self.token(start, kind, key(&self.text[start..self.at]));
            } else if is_apostrophe(c) && next().is_some_and(is_word) {
                // Inside a word: "don't".
            } else if !is_word(c) {
                break;
            }
            self.bump(c);
        }
        self.token(start, kind, key(&self.text[start..self.at]))
    }

    /// Digits from here on in ASCII; moves behind them.
    fn digits(&mut self) -> String {
        let mut digits = String::new();
        while let Some((c, value)) = self.peek().and_then(|c| digit(c).map(|value| (c, value))) {
            digits.push(char::from(b'0' + value));
            self.bump(c);
        }
        digits
    }

    /// Whether `mark` stands here with a digit behind it.
    fn joins(&self, mark: char) -> bool {
        let mut ahead = self.text[self.at..].chars();
        ahead.next() == Some(mark) && ahead.next().is_some_and(|c| digit(c).is_some())
    }

    fn number(&mut self) -> Token<'t> {
        let start = self.at;
        if let Some(phone) = self.phone() {
            return self.token(start, Kind::Phone, phone);
        }
        if let Some(c) = self.peek()
            && let Some(part) = vulgar(c)
        {
            self.bump(c);
            return self.token(
                start,
                Kind::Number,
                fraction(part).unwrap_or_else(|| part.to_owned()),
            );
        }
        if self.peek() == Some('+') {
            self.bump('+');
        }
        let whole = self.digits();
        if self.joins(':') {
            self.bump(':');
            let minutes = self.digits();
            let hours = whole.trim_start_matches('0');
            let hours = if hours.is_empty() { "0" } else { hours };
            return self.token(start, Kind::Time, format!("{hours}:{minutes}"));
        }
        if self.joins('/') {
            self.bump('/');
            let written = format!("{whole}/{}", self.digits());
            return self.token(start, Kind::Number, fraction(&written).unwrap_or(written));
        }
        let value = self.decimal(whole);
        let value = self.mixed(value);
        self.token(start, Kind::Number, value)
    }

    /// The rest of "1,000.5" behind its first digits, as a canonical decimal.
    fn decimal(&mut self, first: String) -> String {
        let thousands = if self.language.decimal_comma {
            '.'
        } else {
            ','
        };
        let mut whole = first;
        let mut part = String::new();
        loop {
            let mark = match self.peek() {
                Some(c @ ('.' | ',' | '٫' | '٬')) if self.joins(c) => c,
                _ => break,
            };
            let back = self.at;
            self.bump(mark);
            let digits = self.digits();
            let groups = mark == thousands || mark == '٬';
            if groups
                && digits.len() == 3
                && whole.len() <= 12
                && part.is_empty()
                && !whole.starts_with('0')
            {
                whole.push_str(&digits);
            } else if part.is_empty() {
                part = digits;
            } else {
                // "1.2.3" is a version or a date; the pieces become numbers of their own.
                self.at = back;
                break;
            }
        }
        let whole = whole.trim_start_matches('0');
        let part = part.trim_end_matches('0');
        match (whole, part) {
            ("", "") => "0".to_owned(),
            (whole, "") => whole.to_owned(),
            ("", part) => format!("0.{part}"),
            (whole, part) => format!("{whole}.{part}"),
        }
    }

    /// "1½" and "1 1/2" behind their whole number.
    fn mixed(&mut self, whole: String) -> String {
        if whole.contains('.') {
            return whole;
        }
        let back = self.at;
        if self.peek() == Some(' ') {
            self.bump(' ');
        }
        let part = match self.peek() {
            Some(c) if vulgar(c).is_some() => {
                self.bump(c);
                vulgar(c).map(str::to_owned)
            }
            Some(c) if digit(c).is_some() && self.at > back => {
                let above = self.digits();
                if above.len() <= 2 && self.joins('/') {
                    self.bump('/');
                    Some(format!("{above}/{}", self.digits()))
                } else {
                    None
                }
            }
            _ => None,
        };
        let Some(value) = part.as_deref().and_then(fraction) else {
            self.at = back;
            return whole;
        };
        match value.strip_prefix('0') {
            Some(decimals) => format!("{whole}{decimals}"),
            None => format!("{whole}+{value}"),
        }
    }

    /// A phone number from here on: groups of digits joined by single marks, seven digits together.
    ///
    /// Large numbers and dates are read so too, in answer and passage alike. Moves on only when it is one.
    fn phone(&mut self) -> Option<String> {
        let start = self.at;
        let mut phone = String::new();
        if self.peek() == Some('+') {
            self.bump('+');
            phone.push('+');
        }
        let mut groups = 0;
        loop {
            let group = self.digits();
            if group.is_empty() {
                break;
            }
            phone.push_str(&group);
            groups += 1;
            // Also keeps a long row of numbers linear: each attempt reads no further than this.
            if groups > 1 && phone.len() > MAX_PHONE_DIGITS {
                break;
            }
            let ahead = &self.text[self.at..];
            let joint = [" (", ") ", "-", ".", " ", "(", ")", "/"]
                .into_iter()
                .find(|joint| {
                    let behind = ahead.strip_prefix(joint);
                    behind
                        .is_some_and(|rest| rest.chars().next().is_some_and(|c| digit(c).is_some()))
                });
            // A group of one or two digits behind a space is more often the next number than part of a phone.
            let Some(joint) = joint else { break };
            let back = self.at;
            self.at += joint.len();
            let length = self.text[self.at..]
                .chars()
                .take_while(|c| digit(*c).is_some())
                .count();
            if joint == " " && length < 2 {
                self.at = back;
                break;
            }
        }
        let digits = phone.len() - usize::from(phone.starts_with('+'));
        if digits < PHONE_DIGITS || (groups > 1 && digits > MAX_PHONE_DIGITS) {
            self.at = start;
            return None;
        }
        Some(phone)
    }
}

/// `text` in NFC without copying where it is already.
pub fn nfc(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || unicode_normalization::is_nfc(text) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.nfc().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use proptest::prelude::*;

    fn values(text: &str) -> Vec<String> {
        let numbers = |token: &Token<'_>| !matches!(token.kind, Kind::Word | Kind::Mark(_));
        let tokens = tokenise(text, testing::rules().language("en"));
        tokens
            .into_iter()
            .filter(numbers)
            .map(|token| token.key.into_owned())
            .collect()
    }

    #[test]
    fn numbers_have_one_value_however_written() {
        for (text, value) in [
            ("1,000", "1000"),
            ("1.50", "1.5"),
            ("0,5", "0.5"),
            ("1/2", "0.5"),
            ("½", "0.5"),
            ("1½", "1.5"),
            ("1 1/2", "1.5"),
            ("1/3", "1/3"),
            ("120/80", "120/80"),
            ("007", "7"),
            ("08:05", "8:05"),
            ("٣", "3"),
            ("१२", "12"),
            ("b12", "b12"),
            ("+1 (800) 222-1222", "+18002221222"),
            ("0800 123 456", "0800123456"),
        ] {
            assert_eq!(values(text), [value], "{text}");
        }
        assert_eq!(values("5ml, 10-15"), ["5", "10", "15"]);
        assert_eq!(values("1.2.3"), ["1.2", "3"]);
    }

    #[test]
    fn stems_of_one_word_agree() {
        let rules = testing::rules();
        let stem_of = |word: &str, lang: &str| stem(&key_of(word), rules.language(lang));
        for (a, b) in [
            ("boiling", "boil"),
            ("giving", "give"),
            ("stopped", "stop"),
            ("covers", "covered"),
        ] {
            assert_eq!(stem_of(a, "en"), stem_of(b, "en"), "{a} {b}");
        }
        assert_eq!(stem_of("hervir", "es"), stem_of("hervida", "es"));
        assert_ne!(stem_of("safe", "en"), stem_of("unsafe", "en"));
    }

    proptest! {
        #[test]
        fn tokens_lie_in_order_and_leave_only_space_between(text in any::<String>()) {
            let mut end = 0;
            for token in tokenise(&text, testing::rules().language("fr")) {
                prop_assert!(token.start >= end && token.end > token.start);
                prop_assert!(text[end..token.start].chars().all(char::is_whitespace));
                end = token.end;
            }
        }
    }
}
