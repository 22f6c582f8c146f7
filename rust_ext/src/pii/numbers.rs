//! Phone numbers, and every other long number.
//!
//! Groups of digits are collected over whatever people put between them. From seven digits on, the number is
//! taken out unless its form says what else it is: a date, a year, a round amount, decimals, a list of small
//! numbers. With fewer digits only an international prefix or «my number is» makes it a phone number, so short
//! codes such as 112 or 40404 always stay.

use super::data::{Cue, JOINER, NUMERAL, UNIT};
use super::ids::date;
use super::read::{Gap, What};
use super::{Kind, MANY_DIGITS, Work};

/// Fewest digits of a phone number after «my number is», and after an international prefix.
const CUED_DIGITS: usize = 5;
const PREFIXED_DIGITS: usize = 6;
/// Digits that no phone number exceeds (ITU-T E.164 has 15).
const PHONE_DIGITS: usize = 15;
/// Most groups of a number with words between them.
const DICTATED: usize = 32;
/// Words between a cue and its number.
const REACH: usize = 6;

/// What stands between two groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Between {
    Nothing,
    Space,
    Dash,
    Dot,
    Comma,
    List,
    Slash,
    Word,
}

/// Digits in one piece.
#[derive(Clone, Debug)]
struct Group {
    start: usize,
    end: usize,
    digits: String,
    before: Between,
    spelled: bool,
}

/// Takes numbers out; true when one of [`MANY_DIGITS`] was left.
pub fn find(work: &mut Work) -> bool {
    let mut left = false;
    let cues: Vec<(usize, Cue)> = work
        .hits
        .iter()
        .filter(|hit| matches!(hit.cue, Cue::Phone | Cue::Call | Cue::List))
        .map(|hit| (hit.end, hit.cue))
        .collect();
    let mut next = 0;
    let mut last = None;
    let mut i = 0;
    while i < work.len() {
        while next < cues.len() && cues[next].0 <= i {
            // «my number is» is not weakened by the «call» inside or after it.
            last = match last {
                Some((end, Cue::Phone)) if cues[next].1 == Cue::Call && cues[next].0 <= end + 2 => {
                    last
                }
                _ => Some(cues[next]),
            };
            next += 1;
        }
        if let Some(end) = skip(work, i) {
            i = end;
            continue;
        }
        let Some(start) = begins(work, i) else {
            i += 1;
            continue;
        };
        let cue = last
            .filter(|&(end, _)| reaches(work, end, i))
            .map(|(_, cue)| cue);
        let mut groups = collect(work, start, cue, true);
        if groups.iter().any(|g| g.before == Between::Word) && !plausible(work, i, &groups, cue) {
            groups = collect(work, start, cue, false);
        }
        let Some(last_group) = groups.last() else {
            i = start + 1;
            continue;
        };
        let run_end = last_group.end;
        if let Some((from, to, kind)) = judge(work, i, &groups, cue) {
            work.take(from, to, kind);
            i = to;
        } else {
            left |= count(&groups) >= MANY_DIGITS && groups.iter().any(|g| g.digits.len() > 4);
            i = run_end.max(i + 1);
        }
    }
    left
}

fn count(groups: &[Group]) -> usize {
    groups.iter().map(|g| g.digits.len()).sum()
}

/// Near enough, and no sentence ends between.
fn reaches(work: &Work, cue_end: usize, i: usize) -> bool {
    i - cue_end <= REACH
        && (cue_end..i).all(|j| {
            !matches!(work.what(j), What::Mark('!' | '?') | What::Placeholder(_))
                && work.gap(j) != Gap::Line
                || work.is_mark(j, ':')
        })
}

/// Past a date, a time, a blood pressure or a decimal number that is no phone number.
fn skip(work: &Work, i: usize) -> Option<usize> {
    let first = work.digits(i);
    if first.is_empty() {
        return None;
    }
    if let Some(end) = date(work, i) {
        return Some(end);
    }
    let second = |mark: char| {
        (work.is_mark(i + 1, mark) && work.glued(i + 1) && work.glued(i + 2))
            .then(|| work.digits(i + 2))
    };
    if let Some(minutes) = second(':')
        && first.len() <= 2
        && minutes.len() == 2
    {
        let seconds =
            work.is_mark(i + 3, ':') && work.digits(i + 4).len() == 2 && work.glued(i + 4);
        return Some(if seconds { i + 5 } else { i + 3 });
    }
    if let Some(lower) = second('/')
        && first.len() <= 3
        && (1..=3).contains(&lower.len())
        && first.len() + lower.len() < MANY_DIGITS
    {
        return Some(i + 3);
    }
    is_decimal(work, i).then_some(i + 3)
}

/// `37.5`, `0,25`: one mark, few digits, nothing else glued.
fn is_decimal(work: &Work, i: usize) -> bool {
    let point = |at: usize| matches!(work.what(at), What::Mark('.' | ',')) && work.glued(at);
    let places = work.digits(i + 2);
    let before = i > 0 && work.glued(i) && (matches!(work.what(i - 1), What::Mark('.' | '+')));
    let more = point(i + 3) && work.glued(i + 4) && !work.digits(i + 4).is_empty();
    point(i + 1)
        && work.glued(i + 2)
        && !places.is_empty()
        && !more
        && !before
        && work.digits(i).len() <= 3
        && places.len() <= 2
}

/// The first group of a number that begins here: digits, a numeral, or `+`, `(` before digits.
fn begins(work: &Work, i: usize) -> Option<usize> {
    match work.what(i) {
        What::Digits => Some(i),
        What::Word if work.has(i, NUMERAL) || is_o(work, i) => Some(i),
        What::Mark('+' | '(') => {
            let mut at = i + 1;
            while at < i + 4
                && matches!(work.what(at), What::Mark('+' | '(' | ')'))
                && work.gap(at) != Gap::Line
            {
                at += 1;
            }
            (!work.digits(at).is_empty() && work.gap(at) != Gap::Line).then_some(at)
        }
        _ => None,
    }
}

/// The letters o and l written for 0 and 1, glued to digits.
pub fn is_o(work: &Work, i: usize) -> bool {
    matches!(work.word(i), "o" | "oo" | "l" | "i")
        && (work.glued(i + 1) && !work.digits(i + 1).is_empty()
            || work.glued(i) && i > 0 && work.digits(i - 1).len() >= 2 && work.word(i) != "l")
}

/// Collects groups from the token `start` on, also over words such as «then».
fn collect(work: &Work, start: usize, cue: Option<Cue>, over_words: bool) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut at = start;
    let mut before = Between::Nothing;
    while let Some(group) = group_at(work, at, before) {
        at = group.end;
        groups.push(group);
        let Some((next, between)) = join(work, at, over_words) else {
            break;
        };
        let (first, last) = (&groups[0], &groups[groups.len() - 1]);
        let dialled = first.digits.starts_with('0')
            || cue == Some(Cue::Phone)
            || plus_before(work, first.start);
        if between == Between::Word && groups.len() >= DICTATED {
            break;
        }
        let goes_on = match between {
            // «seven two two, one one two»
            Between::List if last.spelled => work.has(next, NUMERAL),
            Between::List => dialled && last.digits.len() >= 3 && work.digits(next).len() >= 2,
            Between::Slash => last.digits.len() >= 4 || work.digits(next).len() >= 4,
            // «0712 345 then 678» goes on, «0712345678 and 300 people» does not.
            Between::Word => {
                count(&groups) < MANY_DIGITS
                    || work.digits(next).len() >= 3
                        && groups.iter().all(|g| g.digits.len() < MANY_DIGITS)
            }
            _ => true,
        };
        // A time, date or decimal begins a number of its own, unless a dot or dash leads to it.
        let own =
            between == Between::Space && (skip(work, next).is_some() || work.is_mark(next, '+'));
        if !goes_on || own {
            break;
        }
        at = next;
        before = between;
    }
    groups
}

fn plus_before(work: &Work, i: usize) -> bool {
    i > 0 && matches!(work.what(i - 1), What::Mark('+'))
        || i > 1 && matches!(work.what(i - 1), What::Mark('(')) && work.is_mark(i - 2, '+')
}

fn group_at(work: &Work, i: usize, before: Between) -> Option<Group> {
    let mut digits = String::new();
    let mut end = i;
    let spelled = work.has(i, NUMERAL);
    loop {
        if !work.digits(end).is_empty() {
            digits.push_str(work.digits(end));
        } else if end == i && spelled {
            digits.push_str(work.lexicon.numeral(work.word(i)));
        } else if is_o(work, end) {
            digits.push_str(&"0".repeat(work.word(end).len()));
        } else {
            break;
        }
        end += 1;
        if spelled || !work.glued(end) {
            break;
        }
    }
    (end > i).then_some(Group {
        start: i,
        end,
        digits,
        before,
        spelled,
    })
}

/// What leads from the end of a group to the beginning of the next.
fn join(work: &Work, end: usize, over_words: bool) -> Option<(usize, Between)> {
    let group = |i: usize| !work.digits(i).is_empty() || work.has(i, NUMERAL) || is_o(work, i);
    if work.gap(end) == Gap::Line {
        return None;
    }
    if group(end) {
        return Some((
            end,
            if work.glued(end) {
                Between::Nothing
            } else {
                Between::Space
            },
        ));
    }
    if work.is_word(end) {
        let mut at = end;
        while at < end + 3 && work.has(at, JOINER) && !group(at) {
            at += 1;
            if matches!(work.what(at), What::Mark(',' | ':' | '-')) {
                at += 1;
            }
        }
        return (over_words && at > end && group(at) && work.gap(at) != Gap::Line)
            .then_some((at, Between::Word));
    }
    let mut at = end;
    let mut between = Between::Nothing;
    while at < end + 4 {
        if work.gap(at) == Gap::Line {
            return None;
        }
        let glued = work.glued(at) && work.glued(at + 1);
        between = match work.what(at) {
            What::Mark('-' | '(' | ')' | '_' | '~' | '|') => Between::Dash,
            What::Mark('.') if glued || between == Between::Dot => Between::Dot,
            What::Mark('/') => Between::Slash,
            What::Mark('\'') if glued => Between::Dot,
            What::Mark(',') if glued => Between::Comma,
            What::Mark(',') => Between::List,
            _ => break,
        };
        at += 1;
    }
    (at > end && group(at) && work.gap(at) != Gap::Line).then_some((at, between))
}

/// Whether words between the groups are believed: the number began like a phone number or was announced.
fn plausible(work: &Work, i: usize, groups: &[Group], cue: Option<Cue>) -> bool {
    let all_spelled = groups.iter().all(|g| g.spelled);
    cue == Some(Cue::Phone)
        || cue == Some(Cue::Call)
        || all_spelled
        || groups[0].digits.starts_with('0')
        || work.is_mark(i, '+')
}

/// Tokens and kind of what is taken out of a run of groups that begins with the token `i`.
fn judge(
    work: &Work,
    i: usize,
    groups: &[Group],
    cue: Option<Cue>,
) -> Option<(usize, usize, Kind)> {
    let phone = matches!(cue, Some(Cue::Phone | Cue::Call));
    let plus = (work.is_mark(i, '+') || i > 0 && work.is_mark(i - 1, '+'))
        || groups[0].digits.starts_with("00");
    let groups = trim(groups, phone || plus);
    let (first, last) = (groups.first()?, groups.last()?);
    let digits: String = groups.iter().map(|g| g.digits.as_str()).collect();
    let total = digits.len();
    let mut start = first.start;
    while start > 0
        && matches!(work.what(start - 1), What::Mark('+' | '('))
        && (start > i || work.is_mark(start - 1, '+'))
    {
        start -= 1;
    }
    let mut end = last.end;
    if work.is_mark(end, ')') && (start..first.start).any(|j| work.is_mark(j, '(')) {
        end += 1;
    }
    let enough = if plus {
        total >= PREFIXED_DIGITS
    } else if cue == Some(Cue::Phone) {
        total >= CUED_DIGITS && !(total < MANY_DIGITS && work.has(last.end, UNIT))
    } else {
        total >= MANY_DIGITS
    };
    if !enough || !phone && !plus && is_something_else(work, groups, &digits, cue) {
        return None;
    }
    Some((
        start,
        end,
        if is_document(groups, &digits, phone) {
            Kind::Id
        } else {
            Kind::Phone
        },
    ))
}

/// Without counts that only stand beside the number: «3 0712345678», «555-1234 12 people».
fn trim(groups: &[Group], keep_first: bool) -> &[Group] {
    let mut groups = groups;
    // One numeral beside digits is an article or a count.
    if let [first, next, ..] = groups
        && first.spelled
        && !next.spelled
    {
        groups = &groups[1..];
    }
    if let [.., before, last] = groups
        && last.spelled
        && !before.spelled
    {
        groups = &groups[..groups.len() - 1];
    }
    while !keep_first && groups.len() > 1 {
        let [first, next, ..] = groups else { break };
        let aside = first.digits.len() <= 3
            && !first.digits.starts_with('0')
            && next.before == Between::Space;
        let whole = next.digits.len() >= MANY_DIGITS
            || first.digits.len() <= 2 && next.digits.starts_with('0') && next.digits.len() >= 3;
        if !aside || !whole || count(&groups[1..]) < MANY_DIGITS {
            break;
        }
        groups = &groups[1..];
    }
    while groups.len() > 1 {
        let last = &groups[groups.len() - 1];
        let before = &groups[groups.len() - 2];
        let rest = &groups[..groups.len() - 1];
        let aside = last.digits.len() <= 2
            && last.before == Between::Space
            && before.digits.len() > 2
            && !last.spelled;
        if !aside || count(rest) < MANY_DIGITS {
            break;
        }
        groups = rest;
    }
    groups
}

/// A form that says what the number is, when nothing announced a phone number.
fn is_something_else(work: &Work, groups: &[Group], digits: &str, cue: Option<Cue>) -> bool {
    let last = &groups[groups.len() - 1];
    let leading_zero = digits.starts_with('0');
    let significant = digits.trim_end_matches('0').len();
    let round = !leading_zero && digits.len() - significant >= 4 && significant <= 3;
    let threes = groups.len() > 1
        && groups[0].digits.len() <= 3
        && !leading_zero
        && groups[1..]
            .iter()
            .all(|g| g.digits.len() == 3 && g.before == groups[1].before);
    let thousands = threes && (groups[1].before == Between::Comma || last.digits == "000");
    let one_amount = groups.len() == 1 && round;
    let years = groups.len() >= 2
        && groups
            .iter()
            .all(|g| !g.spelled && g.digits.len() == 4 && is_year(&g.digits));
    let small = groups.iter().all(|g| g.digits.len() <= 3);
    let listed = cue == Some(Cue::List) && small && !leading_zero;
    let measured = small
        && !leading_zero
        && groups.len() <= 3
        && work.has(last.end, UNIT)
        && groups[1..]
            .iter()
            .all(|g| g.before == Between::Space || g.before == Between::Dash)
        && !threes;
    let counting = groups.iter().all(|g| g.spelled)
        && groups
            .windows(2)
            .all(|w| follows(&w[0].digits, &w[1].digits));
    let in_a_row = groups.len() >= 4
        && !groups[0].spelled
        && groups
            .windows(2)
            .all(|w| follows(&w[0].digits, &w[1].digits));
    thousands || one_amount || years || listed || measured || counting || in_a_row
}

fn is_year(digits: &str) -> bool {
    matches!(&digits[..2], "19" | "20")
}

fn follows(one: &str, next: &str) -> bool {
    match (one.parse::<u64>(), next.parse::<u64>()) {
        (Ok(one), Ok(next)) => next == one + 1,
        _ => false,
    }
}

/// A card (Luhn, ISO/IEC 7812), a number in a form that only documents have, or too long for a phone.
fn is_document(groups: &[Group], digits: &str, phone: bool) -> bool {
    let lengths: Vec<usize> = groups.iter().map(|g| g.digits.len()).collect();
    let card = (13..=19).contains(&digits.len()) && luhn(digits) && !phone;
    let form = matches!(
        &lengths[..],
        [3, 2, 4] | [4, 4, 4] | [4, 4, 4, 4] | [3, 3, 3, 2]
    ) && !phone;
    card || form || digits.len() > PHONE_DIGITS && groups.len() < 3
}

fn luhn(digits: &str) -> bool {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, b)| {
            let digit = u32::from(b - b'0');
            if place % 2 == 0 {
                digit
            } else if digit > 4 {
                digit * 2 - 9
            } else {
                digit * 2
            }
        })
        .sum();
    sum % 10 == 0
}
