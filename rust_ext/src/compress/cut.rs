//! Cuts a text at the best place that fits, for MORE.

use super::clauses;
use super::facts::FactKind;
use super::rules::{Language, Rules};
use super::sentences;
use crate::sms::segment::{Encoding, Meter};

/// Shows that a sentence goes on in the next text, and that it began in the last one.
pub const GOES_ON: &str = "...";

/// How good a place is to cut a text, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// Between steps or sentences.
    Step,
    /// Between sentences of one step.
    Sentence,
    /// Behind a comma or colon.
    Clause,
    /// Between words.
    Word,
    /// Between words that belong together: what is done and the condition on it.
    Loose,
    /// Between characters, in a word longer than all segments or a script without spaces.
    Character,
    /// Inside a number or a sign of several characters that is itself longer than all segments.
    Anywhere,
}

const PLACES: usize = 7;

/// Cuts `text` to what fits with the hint, and returns the rest.
///
/// A place that is better is taken even when a worse one would fill the segments more: a step is not divided
/// unless it alone is too long. What goes on in the middle of a sentence says so with dots.
pub fn divide(
    whole: &str,
    max_segments: usize,
    hint: &str,
    language: &Language,
    rules: &Rules,
) -> (String, String) {
    let dotted = if hint.is_empty() {
        GOES_ON.to_owned()
    } else {
        format!("{GOES_ON} {hint}")
    };
    let plain = if hint.is_empty() {
        String::new()
    } else {
        format!(" {hint}")
    };
    let mut cuts = places(whole, max_segments, language, rules)
        .into_iter()
        .peekable();
    let mut last = [None; PLACES];
    let mut meter = Meter::default();
    let mut solid = (meter, 0);
    // A rest begins with dots of its own; a cut right behind them would not move on.
    let lead = if whole.starts_with(GOES_ON) {
        GOES_ON.len()
    } else {
        0
    };
    for (at, c) in whole.char_indices() {
        while let Some((_, place)) = cuts.next_if(|(offset, _)| *offset == at) {
            let tail = if place <= Place::Sentence {
                &plain
            } else {
                &dotted
            };
            if solid.1 > lead && solid.0.with(tail).size().count <= max_segments {
                last[place as usize] = Some((at, solid.1));
            }
        }
        meter.push(c);
        if !c.is_whitespace() {
            solid = (meter, at + c.len_utf8());
        }
        if meter.size().count > max_segments {
            break;
        }
    }
    // A comma near the beginning is no better place than a space near the end.
    let reach = |place: Place| last[place as usize].map_or(0, |(_, end)| end);
    if reach(Place::Clause) * 2 < reach(Place::Word) {
        last[Place::Clause as usize] = None;
    }
    let cut = last
        .iter()
        .enumerate()
        .find_map(|(place, cut)| cut.map(|cut| (place, cut)));
    // Any character may be the last one, so there always is a place: refuse_impossible keeps room for it.
    let (place, (rest, end)) =
        cut.unwrap_or((Place::Anywhere as usize, (whole.len(), whole.len())));
    let inside = place > Place::Sentence as usize;
    let head = [&whole[..end], if inside { &dotted } else { &plain }].concat();
    let lead = if inside { GOES_ON } else { "" };
    (head, [lead, &whole[rest..]].concat())
}

/// Places where the beginning of a text may end, in order: offset of what follows, and how good it is.
fn places(
    text: &str,
    max_segments: usize,
    language: &Language,
    rules: &Rules,
) -> Vec<(usize, Place)> {
    // No cut can lie behind what the segments hold, so what is behind needs no reading, except to its sentence's end.
    let horizon = text
        .char_indices()
        .nth(Encoding::Gsm7.part() * max_segments + 64)
        .map_or(text.len(), |(at, _)| at);
    let mut found = Vec::new();
    let mut step = false;
    let mut end = 0;
    for sentence in sentences::sentences(text, language) {
        if sentence.start > horizon {
            break;
        }
        if sentence.start > 0 {
            step &= sentence.marker == 0 && !text[end..sentence.start].contains('\n');
            // A heading promises what follows it, and a question without its answer may be taken for one.
            let open = text[..end].ends_with([':', '?', '؟', '？']);
            if !open {
                let place = if step { Place::Sentence } else { Place::Step };
                found.push((sentence.start, place));
            }
        }
        step |= sentence.marker > 0;
        end = sentence.end;
    }
    let near = &text[..horizon];
    let (mut solid, mut loose) = spans(near, language, rules);
    let mut before = None;
    for (at, c) in near.char_indices() {
        let (solid, loose) = (solid.covers(at), loose.covers(at));
        if let Some(before) = before.filter(|_| !c.is_whitespace()) {
            match before {
                ' ' | '\n' if solid => {}
                ' ' | '\n' if loose => found.push((at, Place::Loose)),
                ' ' | '\n' => {
                    let mark = near[..at].trim_end().chars().next_back();
                    let clause = mark.is_some_and(|mark| matches!(mark, ',' | ';' | ':' | ')'));
                    found.push((at, if clause { Place::Clause } else { Place::Word }));
                }
                before if joined(before, c) => found.push((at, Place::Anywhere)),
                _ => found.push((at, Place::Character)),
            }
        }
        before = Some(c);
    }
    found.sort_unstable();
    found
}

/// Byte ranges in order of their beginnings, asked for places that only move forwards.
struct Spans {
    ranges: std::iter::Peekable<std::vec::IntoIter<(usize, usize)>>,
    reach: usize,
}

impl Spans {
    fn new(mut ranges: Vec<(usize, usize)>) -> Self {
        ranges.sort_unstable();
        Self {
            ranges: ranges.into_iter().peekable(),
            reach: 0,
        }
    }

    /// Whether a range begins before `at` and ends behind it.
    fn covers(&mut self, at: usize) -> bool {
        while let Some((_, behind)) = self.ranges.next_if(|(start, _)| *start < at) {
            self.reach = self.reach.max(behind);
        }
        at < self.reach
    }
}

/// What is never cut between words (a quantity with what it counts, a phone number, a name of several words, a
/// negation with the word behind it), and what is only cut when there is no other place: a clause and the
/// negation or condition that limits it ("drink it only if it was boiled").
fn spans(text: &str, language: &Language, rules: &Rules) -> (Spans, Spans) {
    let reading = clauses::read(text, language, rules);
    let limits = |kind| matches!(kind, FactKind::Negation | FactKind::Condition);
    let (mut solid, mut loose) = (Vec::new(), Vec::new());
    let mut clauses = reading.clauses.iter().peekable();
    // Beginnings of the clause that a fact stands in and of the one before, in the same sentence.
    let (mut sentence, mut before, mut here) = (0, 0, 0);
    for fact in &reading.facts {
        let leads = limits(fact.kind) || fact.kind == FactKind::Number;
        let next = reading.tokens.get(fact.behind).filter(|_| leads);
        let end = next.map_or(fact.end, |next| next.end);
        solid.push((fact.start, end));
        while let Some(clause) = clauses.next_if(|clause| clause.tokens.start <= fact.first + 1) {
            let start = reading.tokens[clause.tokens.start].start;
            before = if clause.sentence == sentence {
                here
            } else {
                start
            };
            (sentence, here) = (clause.sentence, start);
        }
        if limits(fact.kind) && before < fact.start {
            loose.push((before, end));
        }
    }
    (Spans::new(solid), Spans::new(loose))
}

/// Whether two characters belong to one sign or one number.
fn joined(before: char, c: char) -> bool {
    let extends = |c: char| {
        unicode_normalization::char::is_combining_mark(c)
            || matches!(c, '\u{200C}' | '\u{200D}' | '\u{FE00}'..='\u{FE0F}' | '\u{1F3FB}'..='\u{1F3FF}' | '\u{E0020}'..='\u{E007F}')
    };
    let flag = |c: char| matches!(c, '\u{1F1E6}'..='\u{1F1FF}');
    extends(c)
        || before == '\u{200D}'
        || (flag(before) && flag(c))
        || (before.is_numeric() && c.is_numeric())
}
