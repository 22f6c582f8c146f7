//! Coordinates: decimal, degrees and minutes, plus codes.
//!
//! Three decimals of a degree are about a hundred metres, a minute two kilometres; coarser than that is a place
//! like any other and stays.

use super::data::{Cue, DEGREES, FILLER, HEMISPHERE, MINUTES};
use super::read::{Gap, What};
use super::{Kind, Work};

/// Letters of a plus code (Open Location Code).
const PLUS_CODE: &str = "23456789cfghjmpqrvwx";

pub fn find(work: &mut Work) {
    let mut i = 0;
    let cued: Vec<usize> = work
        .hits
        .iter()
        .filter(|hit| hit.cue == Cue::Coordinates)
        .map(|hit| hit.end)
        .collect();
    let mut next_cue = 0;
    let mut last_cue = None;
    while i < work.len() {
        while next_cue < cued.len() && cued[next_cue] <= i {
            last_cue = Some(cued[next_cue]);
            next_cue += 1;
        }
        let near = last_cue.is_some_and(|end| i - end <= 4);
        let found = sexagesimal(work, i)
            .or_else(|| decimal_pair(work, i, near))
            .or_else(|| bare_angles(work, i))
            .or_else(|| plus_code(work, i));
        match found {
            Some((start, end)) => {
                work.take(start, end, Kind::Coordinates);
                i = end;
            }
            None => i += 1,
        }
    }
}

/// A decimal number with its sign.
struct Decimal {
    value: f64,
    whole: usize,
    places: usize,
    start: usize,
    end: usize,
}

fn decimal(work: &Work, i: usize) -> Option<Decimal> {
    let whole = work.digits(i);
    let glued_before = i > 0
        && work.glued(i)
        && matches!(work.what(i - 1), What::Mark('.' | ','))
        && !work.digits(i.wrapping_sub(2)).is_empty();
    if whole.is_empty() || whole.len() > 3 || glued_before {
        return None;
    }
    let sign = i > 0 && work.is_mark(i - 1, '-') && work.glued(i);
    let start = if sign { i - 1 } else { i };
    let mut end = i + 1;
    let mut places = "";
    if work.glued(i + 1)
        && matches!(work.what(i + 1), What::Mark('.' | ','))
        && work.glued(i + 2)
        && !work.digits(i + 2).is_empty()
    {
        places = work.digits(i + 2);
        end = i + 3;
        // 1.2.3 is no number.
        if work.glued(end)
            && matches!(work.what(end), What::Mark('.'))
            && !work.digits(end + 1).is_empty()
            && work.glued(end + 1)
        {
            return None;
        }
    }
    let value: f64 = format!("{whole}.{}", &places[..places.len().min(15)])
        .parse()
        .ok()?;
    Some(Decimal {
        value,
        whole: whole.len(),
        places: places.len(),
        start,
        end,
    })
}

/// Behind a degree sign or word, if there is one.
fn degree(work: &Work, i: usize) -> Option<usize> {
    let there = matches!(work.what(i), What::Mark('°' | '*'))
        || (work.has(i, DEGREES) && work.gap(i) != Gap::Line);
    there.then_some(i + 1)
}

/// Behind a hemisphere, if there is one; a single letter has to be glued or stand in a pair.
fn hemisphere(work: &Work, i: usize) -> Option<usize> {
    (work.has(i, HEMISPHERE) && work.gap(i) != Gap::Line).then_some(i + 1)
}

fn between(work: &Work, mut i: usize) -> usize {
    for _ in 0..4 {
        let joins = matches!(work.what(i), What::Mark(',' | ';' | '/' | '|' | ':' | '='))
            || is_axis(work, i)
            || work.has(i, FILLER);
        if !joins || work.gap(i) == Gap::Line {
            break;
        }
        i += 1;
    }
    if work.is_mark(i, '-') && work.glued(i + 1) {
        i + 1
    } else {
        i
    }
}

fn breaks(work: &Work, i: usize) -> bool {
    work.gap(i) == Gap::Line
}

fn is_axis(work: &Work, i: usize) -> bool {
    matches!(
        work.word(i),
        "lat"
            | "lon"
            | "long"
            | "lng"
            | "latitude"
            | "longitude"
            | "latitud"
            | "longitud"
            | "y"
            | "and"
            | "et"
            | "e"
            | "x"
    )
}

/// «18.5392, -72.3364», «18.54N 72.33W», «lat 18.5 lon -72.3»; one number of four decimals is enough.
fn decimal_pair(work: &Work, i: usize, cued: bool) -> Option<(usize, usize)> {
    let first = decimal(work, i)?;
    let mut end = degree(work, first.end).unwrap_or(first.end);
    let side = hemisphere(work, end);
    end = side.unwrap_or(end);
    // «S 19.8436, E 34.8389»
    let letter =
        first.start > 0 && work.has(first.start - 1, HEMISPHERE) && !breaks(work, first.start);
    let start = first.start - usize::from(letter);
    let alone = first.places >= 4 && first.whole <= 3 && first.value <= 180.0;
    let next = between(work, end);
    let next = next + usize::from(work.has(next, HEMISPHERE) && !breaks(work, next));
    let pair = decimal(work, next).and_then(|second| {
        let mut to = degree(work, second.end).unwrap_or(second.end);
        let other = hemisphere(work, to);
        to = other.unwrap_or(to);
        let least = first.places.min(second.places);
        let sides = side.is_some() && other.is_some();
        let precise = least >= 3 || (cued || sides) && least >= 1;
        let possible = first.value <= 180.0
            && second.value <= 180.0
            && (first.value <= 90.0 || second.value <= 90.0);
        (precise && possible && work.gap(second.start) != Gap::Line).then_some(to)
    });
    match pair {
        Some(to) => Some((start, to)),
        None if alone || (cued && first.places >= 2) => Some((start, end)),
        None => None,
    }
}

/// «18°32'21"N», «18 deg 32.35 min north», each half by itself.
fn sexagesimal(work: &Work, i: usize) -> Option<(usize, usize)> {
    let degrees = decimal(work, i).filter(|d| d.value <= 180.0)?;
    let mut end = degree(work, degrees.end)?;
    let mut parts = 0;
    for _ in 0..2 {
        let Some(part) = decimal(work, end).filter(|d| d.value < 60.0) else {
            break;
        };
        let mark = match work.what(part.end) {
            What::Mark('\'' | '"' | '´' | '¨') => true,
            What::Word => {
                work.has(part.end, MINUTES) && work.word(part.end) != "m"
                    || work.has(part.end, HEMISPHERE)
            }
            _ => false,
        };
        if !mark {
            break;
        }
        end = part.end;
        while matches!(work.what(end), What::Mark('\'' | '"')) && work.glued(end)
            || work.has(end, MINUTES) && !work.has(end, HEMISPHERE)
        {
            end += 1;
        }
        parts += 1;
    }
    if parts == 0 {
        return None;
    }
    Some((degrees.start, hemisphere(work, end).unwrap_or(end)))
}

/// «18 32 21 N 72 20 11 W», «N18 32.35 W72 20.18».
fn bare_angles(work: &Work, i: usize) -> Option<(usize, usize)> {
    let numbers = |mut at: usize| {
        let mut count = 0;
        while count < 3 {
            let Some(number) = decimal(work, at).filter(|d| d.value <= 180.0) else {
                break;
            };
            if work.gap(at) == Gap::Line {
                break;
            }
            at = number.end;
            while matches!(work.what(at), What::Mark('\'' | '"' | '°' | '-'))
                && !work.digits(at + 1).is_empty()
            {
                at += 1;
            }
            count += 1;
        }
        (at, count)
    };
    let short = |at: usize| work.has(at, HEMISPHERE) && work.gap(at) != Gap::Line;
    if work.has(i, HEMISPHERE) {
        let (at, first) = numbers(i + 1);
        let at = between(work, at);
        if first < 2 || !short(at) {
            return None;
        }
        let (end, second) = numbers(at + 1);
        return (second >= 2).then_some((i, end));
    }
    if work.digits(i).is_empty() {
        return None;
    }
    let (at, first) = numbers(i);
    if first < 2 || !short(at) {
        return None;
    }
    let (end, second) = numbers(between(work, at + 1));
    (second >= 2 && short(end)).then_some((i, end + 1))
}

/// `76WX+2Q`, `76WXGMQ7+2Q`: four to eight letters of the code, a plus, two or three.
fn plus_code(work: &Work, plus: usize) -> Option<(usize, usize)> {
    if !work.is_mark(plus, '+') || !work.glued(plus) || !work.glued(plus + 1) {
        return None;
    }
    let fits = |i: usize| {
        let text = match work.what(i) {
            What::Word | What::Digits => work.reading.text(i),
            _ => "",
        };
        if !text.is_empty() && text.chars().all(|c| PLUS_CODE.contains(c)) {
            text.len()
        } else {
            0
        }
    };
    let (mut start, mut before) = (plus, 0);
    while start > 0 && before <= 8 && fits(start - 1) > 0 && work.glued(start) {
        start -= 1;
        before += fits(start);
    }
    let (mut end, mut after) = (plus + 1, 0);
    while after <= 3 && work.glued(end) && fits(end) > 0 {
        after += fits(end);
        end += 1;
    }
    let letters =
        (start..plus).any(|i| work.is_word(i)) || (plus + 1..end).any(|i| work.is_word(i));
    let ends = !work.glued(end) || !matches!(work.what(end), What::Word | What::Digits);
    let begins = start == 0
        || !work.glued(start)
        || !matches!(work.what(start - 1), What::Word | What::Digits);
    (matches!(before, 4 | 6 | 8) && matches!(after, 2 | 3) && letters && ends && begins)
        .then_some((start, end))
}
