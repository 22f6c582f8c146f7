//! E-mail addresses, links and accounts of social networks.

use super::data::{AT, Cue, DOT, FILLER, NO_HANDLE, ORDINARY, STOP, TLD, WORDY_TLD};
use super::read::{Gap, What};
use super::{Kind, Work};

/// Most words of a dictated address on either side of «at».
const DICTATED: usize = 6;
/// Most tokens of a piece that may be looked at again.
const PIECE: usize = 64;

pub fn find(work: &mut Work) {
    for i in 0..work.len() {
        match work.what(i) {
            What::Mark('@') => at_sign(work, i),
            What::Word => {
                let _ = scheme(work, i) || host(work, i) || dictated(work, i);
            }
            What::Digits => {
                host(work, i);
            }
            What::Mark('/') => three_words(work, i),
            _ => {}
        }
    }
    for hit in work.hits.clone() {
        if hit.cue == Cue::Handle {
            account(work, hit.start, hit.end);
        }
    }
}

/// End of the glued run of what an address may hold, without the full stop that ends a sentence.
fn run(work: &Work, from: usize, marks: &str) -> usize {
    let mut end = from;
    while end < work.len().min(from + PIECE) && (end == from || work.glued(end)) {
        match work.what(end) {
            What::Word | What::Digits => end += 1,
            What::Mark(c) if marks.contains(c) => end += 1,
            _ => break,
        }
    }
    while end > from
        && matches!(
            work.what(end - 1),
            What::Mark('.' | ',' | '!' | '?' | ')' | ';' | ':' | '-' | '\'' | '"')
        )
    {
        end -= 1;
    }
    end
}

/// `local@domain`, with or without spaces around the sign, and `@handle`.
fn at_sign(work: &mut Work, at: usize) {
    let mut start = at;
    while start > 0 && work.glued(start) {
        match work.what(start - 1) {
            What::Word
            | What::Digits
            | What::Mark('.' | '_' | '-' | '+' | '%' | '\'' | '"' | '&') => {
                start -= 1;
            }
            _ => break,
        }
    }
    while start < at && matches!(work.what(start), What::Mark(_)) {
        start += 1;
    }
    if start == at
        && work.gap(at) == Gap::Space
        && at > 0
        && matches!(work.what(at - 1), What::Word | What::Digits)
    {
        // «john @ gmail.com»
        let mut from = at - 1;
        while from > 0
            && work.glued(from)
            && matches!(
                work.what(from - 1),
                What::Word | What::Digits | What::Mark('.' | '_' | '-')
            )
        {
            from -= 1;
        }
        let end = run(work, at + 1, ".-");
        if work.gap(at + 1) != Gap::Line && end > at + 2 && work.has(end - 1, TLD | WORDY_TLD) {
            work.take(from, end, Kind::Email);
            return;
        }
    }
    let loose = work.gap(at + 1) == Gap::Space && start < at;
    if !work.glued(at + 1) && !loose {
        return;
    }
    let end = run(work, at + 1, ".-_");
    if end <= at + 1 || (loose && !(end > at + 2 && work.has(end - 1, TLD | WORDY_TLD))) {
        return;
    }
    if start < at {
        work.take(start, end, Kind::Email);
    } else if work.is_word(at + 1) && !(end == at + 2 && work.has(at + 1, NO_HANDLE))
        || work.is_mark(at + 1, '_')
    {
        work.take(at, end, Kind::Handle);
    }
}

/// `https://…`, `www.…`, `tel:…`, `geo:…`.
fn scheme(work: &mut Work, i: usize) -> bool {
    let kind = match work.word(i) {
        "http" | "https" | "ftp" | "tg" | "whatsapp" | "sms" | "smsto" | "intent" | "market"
        | "maps" => Kind::Url,
        "mailto" => Kind::Email,
        "tel" | "callto" => Kind::Phone,
        "geo" => Kind::Coordinates,
        "www" | "wap" if work.is_mark(i + 1, '.') && work.glued(i + 1) && work.glued(i + 2) => {
            return rest(work, i, i + 2, Kind::Url);
        }
        _ => return false,
    };
    if !work.is_mark(i + 1, ':') || !work.glued(i + 1) || !work.glued(i + 2) {
        return false;
    }
    let slashes = work.is_mark(i + 2, '/') && work.is_mark(i + 3, '/');
    let number = work.digits(i + 2).len() > 4
        || kind == Kind::Coordinates && !work.digits(i + 2).is_empty()
        || matches!(work.what(i + 2), What::Mark('+' | '-'));
    match kind {
        Kind::Phone | Kind::Coordinates if !number => false,
        Kind::Url if !slashes => false,
        _ => rest(work, i, i + 2, kind),
    }
}

/// Takes everything up to white space.
fn rest(work: &mut Work, start: usize, from: usize, kind: Kind) -> bool {
    let mut end = from;
    while end < work.len()
        && work.glued(end)
        && !matches!(
            work.what(end),
            What::Placeholder(_) | What::Mark('<' | '>' | '"' | '|')
        )
    {
        end += 1;
    }
    while end > from
        && matches!(
            work.what(end - 1),
            What::Mark('.' | ',' | '!' | '?' | ')' | ';' | ':' | '\'')
        )
    {
        end -= 1;
    }
    if end == from {
        return false;
    }
    work.take(start, end, kind);
    true
}

/// `name.tld`, `name.tld/path`; a top-level domain that is also a word needs a path.
fn host(work: &mut Work, i: usize) -> bool {
    // Only where a piece begins, so that a long piece is read once.
    let goes_on = work.glued(i)
        && i > 0
        && matches!(
            work.what(i - 1),
            What::Word | What::Digits | What::Mark('.' | '-' | '_')
        );
    if goes_on {
        return false;
    }
    let mut last = i;
    let mut labels = 1;
    let mut end = i + 1;
    let mut best = None;
    while end < work.len() && work.glued(end) {
        match work.what(end) {
            What::Word if work.is_mark(end - 1, '.') => {
                labels += 1;
                last = end;
            }
            What::Word | What::Digits | What::Mark('-' | '_') => {}
            What::Mark('.')
                if work.glued(end + 1)
                    && matches!(work.what(end + 1), What::Word | What::Digits) => {}
            _ => break,
        }
        end += 1;
        if labels > 1 && last + 1 == end {
            let path = matches!(work.what(end), What::Mark('/' | '?' | ':'))
                && work.glued(end)
                && work.glued(end + 1);
            if work.has(last, TLD) || (path && work.has(last, WORDY_TLD)) {
                best = Some((end, path));
            }
        }
    }
    let Some((end, path)) = best else {
        return false;
    };
    if path {
        return rest(work, i, end, Kind::Url);
    }
    work.take(i, end, Kind::Url);
    true
}

/// `///three.plain.words` names a square of three metres.
fn three_words(work: &mut Work, i: usize) {
    if !(work.is_mark(i + 1, '/')
        && work.is_mark(i + 2, '/')
        && work.glued(i + 1)
        && work.glued(i + 2))
    {
        return;
    }
    let words = i + 3;
    let three = work.is_word(words)
        && work.is_mark(words + 1, '.')
        && work.is_word(words + 2)
        && work.is_mark(words + 3, '.')
        && work.is_word(words + 4);
    if three && (words..words + 5).all(|j| work.glued(j)) {
        work.take(i, words + 5, Kind::Coordinates);
    }
}

/// «john dot doe at gmail dot com», «john(at)gmail.com».
fn dictated(work: &mut Work, at: usize) -> bool {
    if !work.has(at, AT) {
        return false;
    }
    // Brackets around «at» or «dot» belong to it.
    let open = |work: &Work, i: usize| {
        i > 0 && matches!(work.what(i - 1), What::Mark('(' | '[' | '{' | '<'))
    };
    let shut =
        |work: &Work, i: usize| matches!(work.what(i + 1), What::Mark(')' | ']' | '}' | '>'));
    let mut end = at + 1 + usize::from(shut(work, at));
    // «at 9.30» is a time.
    if !work.is_word(end) {
        return false;
    }
    let (mut ended, mut dots) = (None, 0);
    for _ in 0..DICTATED {
        if !matches!(work.what(end), What::Word | What::Digits) || work.gap(end) == Gap::Line {
            break;
        }
        end += 1;
        let most = end + PIECE;
        while end < most && work.glued(end) && matches!(work.what(end), What::Word | What::Digits) {
            end += 1;
        }
        if dots > 0 && work.has(end - 1, TLD | WORDY_TLD) {
            ended = Some(end);
        }
        let mut dot = end;
        dot += usize::from(matches!(work.what(dot), What::Mark('(' | '[' | '{')));
        if work.has(dot, DOT) || (work.is_mark(dot, '.') && work.glued(dot) && work.glued(dot + 1))
        {
            end = dot + 1 + usize::from(shut(work, dot));
            dots += 1;
        } else {
            break;
        }
    }
    // «photos at bit.ly/x» is a link.
    let Some(end) = ended.filter(|&end| !(work.is_mark(end, '/') && work.glued(end))) else {
        return false;
    };
    let mut start = at - usize::from(open(work, at));
    for _ in 0..DICTATED {
        if start == 0 || !matches!(work.what(start - 1), What::Word | What::Digits) {
            break;
        }
        start -= 1;
        let least = start.saturating_sub(PIECE);
        while start > least
            && work.glued(start)
            && matches!(work.what(start - 1), What::Word | What::Digits)
        {
            start -= 1;
        }
        let joined = start > 0
            && (work.has(start - 1, DOT)
                || matches!(work.what(start - 1), What::Mark('.' | '_' | '-'))
                    && work.glued(start));
        if !joined {
            break;
        }
        start -= 1;
    }
    if start < at {
        work.take(start, end, Kind::Email);
    }
    start < at
}

/// «my insta is `maria_99`», «telegram: kofi»: an account after the name of its network.
fn account(work: &mut Work, cue: usize, end: usize) {
    let mut i = end;
    let mut said = false;
    for _ in 0..4 {
        match work.what(i) {
            What::Mark(':' | '=' | '-' | '@') => said = true,
            What::Word if work.has(i, FILLER) => {}
            _ => break,
        }
        i += 1;
    }
    if !matches!(work.what(i), What::Word | What::Digits)
        || work.gap(i) == Gap::Line
        || work.taken[cue]
    {
        return;
    }
    let to = run(work, i, "._-");
    if to <= i {
        return;
    }
    let odd = (i..to).any(|j| matches!(work.what(j), What::Digits | What::Mark('_' | '.')))
        && work.is_word(i);
    let plain = to == i + 1 && !work.has(i, ORDINARY | STOP);
    if odd || (said && plain && work.is_word(i)) {
        work.take(i, to, Kind::Handle);
    }
}
