//! Documents, accounts, cards, plates, secrets and dates of birth.

use super::data::{Cue, FILLER, MONTH, NUMERAL, ORDINARY, STOP, UNIT};
use super::numbers::is_o;
use super::read::{Case, Gap, What};
use super::{Kind, Work};

/// Tokens that may stand between a cue and what it announces.
const FILLERS: usize = 5;
/// Most pieces after a cue, and most tokens of a piece.
const PIECES: usize = 16;
const PIECE: usize = 64;
/// Digits from which letters and digits in one piece are a document.
const DOCUMENT_DIGITS: usize = 6;
/// Digits from which something after a cue is a document, and a secret.
const CUED_DIGITS: usize = 4;
const SECRET_DIGITS: usize = 3;

pub fn find(work: &mut Work) {
    for hit in work.hits.clone() {
        match hit.cue {
            Cue::Birth => birth(work, hit.end),
            Cue::Id | Cue::Secret => cued(work, hit.end, hit.cue == Cue::Secret),
            _ => {}
        }
    }
    let mut i = 0;
    while i < work.len() {
        i = iban(work, i).or_else(|| shape(work, i)).unwrap_or(i + 1);
    }
}

/// Past what may stand between a cue and its value.
fn past_fillers(work: &Work, mut i: usize) -> usize {
    for _ in 0..FILLERS {
        let filler = match work.what(i) {
            What::Mark(':' | '=' | '-' | '#' | '.' | ',' | '°' | '(' | '\'' | '"' | '/') => true,
            // «ab 12», but not «AB12».
            What::Word => work.has(i, FILLER) && !work.piece_goes_on(i) && !work.is_series(i),
            _ => false,
        };
        if !filler {
            break;
        }
        i += 1;
    }
    i
}

/// What follows the name of a document, as long as its pieces hold digits.
fn cued(work: &mut Work, cue_end: usize, secret: bool) {
    let start = past_fillers(work, cue_end);
    let mut end = start;
    let mut digits = 0;
    let mut at = start;
    for _ in 0..PIECES {
        // One piece: everything glued.
        let mut to = at;
        let mut here = 0;
        while to < work.len().min(at + PIECE)
            && (to == at || work.glued(to))
            && work.gap(at) != Gap::Line
        {
            match work.what(to) {
                What::Digits => here += work.digits(to).len(),
                What::Word => {
                    here += work.lexicon.numeral(work.word(to)).len();
                }
                What::Mark('-' | '/' | '.' | '_')
                    if to > at && matches!(work.what(to + 1), What::Word | What::Digits) => {}
                What::Mark('*' | '#' | '@' | '$' | '_') if secret => {}
                _ => break,
            }
            to += 1;
        }
        let letters = to == at + 1 && work.is_word(at) && here == 0;
        if to == at {
            break;
        }
        if here == 0 {
            // «AB 123456»: letters of a series, only before the digits.
            let last = work.is_series(at) && !work.digits(to).is_empty();
            let series = letters
                && work.word(at).len() <= 4
                && (digits == 0 || last)
                && (!work.has(at, ORDINARY | STOP)
                    || matches!(work.case(at), Case::Capital | Case::Upper))
                && work.case(at) != Case::None;
            if !series {
                break;
            }
        } else {
            if digits >= 5
                && (work.has(to, UNIT) || here <= 2 && work.has(to, ORDINARY))
                && work.is_digits_only(at, to)
            {
                break;
            }
            digits += here;
            end = to;
        }
        at = to;
    }
    let hyphenated = matches!(work.what(start + 1), What::Mark('-' | '_'))
        && work.glued(start + 1)
        && work.glued(start + 2);
    let least = if secret { SECRET_DIGITS } else { CUED_DIGITS };
    if secret
        && work.is_word(start)
        && (!work.has(start, ORDINARY | STOP) || work.piece_goes_on(start) || hyphenated)
        && (start > cue_end || work.piece_goes_on(start) || hyphenated)
        && work.gap(start) != Gap::Line
    {
        // A password is any word that is none.
        let mut to = start + 1;
        while to < start + PIECE
            && work.glued(to)
            && matches!(
                work.what(to),
                What::Word | What::Digits | What::Mark('_' | '-' | '#' | '$' | '!')
            )
        {
            to += 1;
        }
        work.take(start, to, Kind::Id);
        return;
    }
    // «KBX 123A»
    let mixed = digits >= SECRET_DIGITS
        && !work.is_digits_only(start, end)
        && work.reading.tokens[start..end]
            .iter()
            .map(|t| t.folded.len())
            .sum::<usize>()
            >= 5;
    if digits < least && !mixed || end <= start {
        return;
    }
    let quantity =
        digits < DOCUMENT_DIGITS && work.has(end, UNIT) && work.is_digits_only(start, end);
    if !quantity {
        work.take(start, end, Kind::Id);
    }
}

/// A date after a cue of birth.
fn birth(work: &mut Work, cue_end: usize) {
    let start = past_fillers(work, cue_end);
    if let Some(end) = written_date(work, start) {
        work.take(start, end, Kind::BirthDate);
    }
}

/// End of a date that tells a day, or of a year between 1900 and 2035.
fn written_date(work: &Work, i: usize) -> Option<usize> {
    if let Some(end) = date(work, i) {
        return Some(end);
    }
    let number = |at: usize| {
        work.digits(at)
            .parse::<u32>()
            .ok()
            .filter(|_| work.gap(at) != Gap::Line || at == i)
    };
    let small =
        |at: usize| number(at).is_some_and(|n| (1..=31).contains(&n)) || work.has(at, NUMERAL);
    let year = |at: usize| {
        number(at).is_some_and(|n| (1900..=2035).contains(&n) && work.digits(at).len() == 4)
    };
    let short_year = |at: usize| work.digits(at).len() == 2;
    // Ordinal endings, «of», «de», commas, dashes.
    let past = |mut at: usize| {
        for _ in 0..2 {
            let joins = matches!(work.what(at), What::Mark(',' | '.' | '-' | '/' | '°'))
                || matches!(
                    work.word(at),
                    "of" | "de" | "del" | "st" | "nd" | "rd" | "th" | "er" | "the" | "ng"
                );
            if !joins {
                break;
            }
            at += 1;
        }
        at
    };
    if small(i) {
        let month = past(i + 1);
        if work.has(month, MONTH) {
            let at = past(month + 1);
            return Some(if year(at) || short_year(at) {
                at + 1
            } else {
                month + 1
            });
        }
        // «3 5 1985»
        let second = past(i + 1);
        let third = past(second + 1);
        if small(second) && year(third) {
            return Some(third + 1);
        }
    }
    if work.has(i, MONTH) {
        let at = past(i + 1);
        if year(at) {
            return Some(at + 1);
        }
        if small(at) {
            let last = past(at + 1);
            return Some(if year(last) { last + 1 } else { at + 1 });
        }
    }
    let glued_digits = matches!(work.digits(i).len(), 6 | 8);
    (year(i) || glued_digits).then_some(i + 1)
}

/// End of `12/03/1985`, `1985-03-12`, `12.3.85`.
pub fn date(work: &Work, i: usize) -> Option<usize> {
    let parts = [work.digits(i), work.digits(i + 2), work.digits(i + 4)];
    let marks = [work.what(i + 1), work.what(i + 3)];
    let glued = (i + 1..i + 5).all(|j| work.glued(j));
    if !glued || marks[0] != marks[1] || !matches!(marks[0], What::Mark('/' | '-' | '.')) {
        return None;
    }
    // One more group, or a group before it, and it is no date.
    let more = work.what(i + 5) == marks[0]
        && work.glued(i + 5)
        && work.glued(i + 6)
        && !work.digits(i + 6).is_empty();
    let before = i > 0
        && work.glued(i)
        && matches!(
            work.what(i - 1),
            What::Mark('/' | '-' | '.' | '+') | What::Digits
        );
    let value = |part: &str| part.parse::<u32>().unwrap_or(u32::MAX);
    let lengths = parts.map(str::len);
    let (day, month, year) = match lengths {
        [4, 1..=2, 1..=2] => (value(parts[2]), value(parts[1]), value(parts[0])),
        [1..=2, 1..=2, 4] => (value(parts[0]), value(parts[1]), value(parts[2])),
        [1..=2, 1..=2, 2] => (value(parts[0]), value(parts[1]), 2000),
        _ => return None,
    };
    let in_range =
        (1..=31).contains(&day) && (1..=31).contains(&month) && (day <= 12 || month <= 12);
    (in_range && (1900..=2100).contains(&year) && !more && !before).then_some(i + 5)
}

/// Letters and digits in one piece: `AB1234567`, `18QYF78098`, `maria5551234`. Returns where to go on.
fn shape(work: &mut Work, i: usize) -> Option<usize> {
    let part = |work: &Work, j: usize| matches!(work.what(j), What::Word | What::Digits);
    if !part(work, i) {
        return None;
    }
    let mut end = i + 1;
    while work.glued(end) && part(work, end) {
        end += 1;
    }
    let (mut letters, mut digits, mut known) = (0, 0, true);
    for j in i..end {
        digits += work.digits(j).len();
        letters += work.word(j).chars().count();
        known &= !work.is_word(j) || work.has(j, UNIT) || is_o(work, j);
    }
    let document = digits >= DOCUMENT_DIGITS && letters >= 1 && !known;
    let code = end - i >= 4 && digits >= 3 && letters + digits >= 8 && !known;
    if document || code {
        work.take(i, end, Kind::Id);
    }
    Some(end)
}

/// An IBAN, in groups or in one piece, when its check digits are right (ISO 13616, mod 97).
fn iban(work: &mut Work, i: usize) -> Option<usize> {
    if work.word(i).len() != 2 || !work.glued(i + 1) || work.digits(i + 1).len() < 2 {
        return None;
    }
    let mut text = String::new();
    let mut best = None;
    let mut at = i;
    while at < work.len() && (at == i || work.gap(at) != Gap::Line) {
        match work.what(at) {
            What::Word | What::Digits => text.push_str(work.reading.text(at)),
            What::Mark('-') => {}
            _ => break,
        }
        if text.len() > 34 {
            break;
        }
        at += 1;
        if text.len() >= 15 && checks(&text) {
            best = Some(at);
        }
    }
    let end = best?;
    work.take(i, end, Kind::Id);
    Some(end)
}

fn checks(iban: &str) -> bool {
    if !iban.is_ascii() {
        return false;
    }
    let (head, tail) = iban.split_at(4);
    let remainder = tail.bytes().chain(head.bytes()).fold(0_u32, |rest, b| {
        if b.is_ascii_digit() {
            (rest * 10 + u32::from(b - b'0')) % 97
        } else {
            (rest * 100 + u32::from(b.wrapping_sub(b'a')) + 10) % 97
        }
    });
    remainder == 1
}

impl Work<'_> {
    /// A single capital: «A 123 456».
    fn is_series(&self, i: usize) -> bool {
        self.word(i).len() == 1 && self.case(i) == Case::Capital
    }

    /// Letters or digits are glued behind it.
    pub fn piece_goes_on(&self, i: usize) -> bool {
        self.glued(i + 1) && matches!(self.what(i + 1), What::Word | What::Digits)
    }

    /// No word from `start` until before `end`.
    fn is_digits_only(&self, start: usize, end: usize) -> bool {
        (start..end).all(|i| !self.is_word(i))
    }
}
