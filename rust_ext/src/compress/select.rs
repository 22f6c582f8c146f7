//! Chooses which sentences of a text that is too long are sent first; the others wait for MORE, nothing is lost.
//!
//! A text is read as pieces: a list item with all its sentences, or one sentence. A piece is one of three:
//! a *step*, kept only with every step and warning before it; a *warning* or a phone number, which stands by
//! itself; or a piece that *tells* something, which may wait. A piece is never kept without what limits it
//! ("do not give it to children") nor without the sentence that it points back to.

use std::collections::HashSet;
use std::ops::Range;

use super::clauses::{self, Reading};
use super::clean;
use super::cut::GOES_ON;
use super::draft::Draft;
use super::drop::{join, room};
use super::facts::{self, Fact, FactKind};
use super::rules::Language;
use super::sentences::{self, Sentence};
use super::tokens::{Kind, Token};
use crate::sms::segment::{Encoding, measure};

/// Pieces that are looked at: what is behind them waits. A set of pieces is the bits of one integer.
const MAX_PIECES: usize = 64;

/// Pieces behind one that can limit it.
const REACH: usize = 3;

/// What a fact or a name is worth, where each thing to be done or not to be done counts 1.
const FACT: usize = 2;

/// What it counts for that the first thing to be done is sent whole: more than all that comes later …
const FIRST_STEP: usize = 1_000 * WANTED;

/// … and its beginning: as much as three facts.
const FIRST_BEGUN: usize = 3 * FACT * WANTED;

/// Of a hundred: what a choice counts for that has all its pieces want, what they need, and a mere beginning of
/// the text that ends with a sentence, within one, or between an action and what limits it.
const WANTED: usize = 100;
const NEEDED: usize = 90;
const BEGINNING: usize = 70;
const BROKEN_OFF: usize = 50;
const PARTED: usize = 10;

type Set = u64;

const fn only(piece: usize) -> Set {
    1 << piece
}

fn members(mut set: Set) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let piece = (set != 0).then(|| set.trailing_zeros() as usize);
        set &= set.wrapping_sub(1);
        piece
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Step,
    Warning,
    Tells,
}

#[derive(Debug)]
struct Piece {
    start: usize,
    end: usize,
    role: Role,
    /// What it is worth: its facts and names, and being something to do.
    value: usize,
    /// Units in GSM 7-bit, if its letters allow it, and in UTF-16.
    septets: Option<usize>,
    units: usize,
    /// Pieces without which it may not be kept.
    needs: Set,
    /// Pieces that say more of what it names; better with them.
    wants: Set,
}

/// What is sent, with the hint, and what waits.
#[derive(Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The pieces that are sent, in the order of the text.
    pub text: String,
    /// The others.
    pub rest: String,
    /// What the pieces that are sent count for.
    pub value: usize,
}

/// A text read as pieces.
pub struct Outline<'r> {
    draft: &'r Draft<'r>,
    pieces: Vec<Piece>,
    /// Where the text goes on behind the pieces.
    behind: usize,
}

impl<'r> Outline<'r> {
    /// Reads a text; at most [`MAX_PIECES`] are looked at, so that time is bounded.
    pub fn new(draft: &'r Draft<'r>) -> Self {
        let (pieces, behind) = pieces(draft);
        Self {
            draft,
            pieces,
            behind,
        }
    }

    /// The best choice of pieces with which the text fits in front of `hint`; None when not even one does.
    ///
    /// For each number of steps from the beginning, what they need comes with them and the room that is left is
    /// filled by what is worth most for its length.
    pub fn select(&self, max_segments: usize, hint: &str) -> Option<Chosen> {
        let (pieces, draft, text) = (&self.pieces, self.draft, self.draft.text.as_str());
        let all_needed = closure(pieces, |piece| piece.needs | piece.wants);
        let just_needed = closure(pieces, |piece| piece.needs);
        let first_action = first_action(pieces);
        let mut best = (0, 0);
        for encoding in [Encoding::Gsm7, Encoding::Ucs2] {
            let Some(limit) = room_for(encoding, max_segments, hint) else {
                continue;
            };
            for (needed, counts) in [(&all_needed, WANTED), (&just_needed, NEEDED)] {
                let choice = Choice {
                    pieces,
                    needed,
                    encoding,
                    limit,
                };
                for set in choice.candidates() {
                    let first = first_action.is_some_and(|first| set & only(first) != 0);
                    let bonus = if first { FIRST_STEP } else { 0 };
                    let value = counts * worth(members(set).map(|at| &pieces[at])) + bonus;
                    if value > best.1 {
                        best = (set, value);
                    }
                }
            }
        }
        let (mut set, value) = best;
        if set == 0 {
            return None;
        }
        loop {
            let places = members(set).map(|at| (pieces[at].start, pieces[at].end));
            let kept = Draft::new(join(text, places), draft.language, draft.rules);
            let mut written = clean::dress(&kept);
            if !hint.is_empty() {
                written.push(' ');
                written.push_str(hint);
            }
            if measure(&written).count <= max_segments {
                let left = (0..pieces.len()).filter(|at| set & only(*at) == 0);
                let left = left.map(|at| (pieces[at].start, pieces[at].end));
                let rest = join(
                    text,
                    left.chain((self.behind < text.len()).then_some((self.behind, text.len()))),
                );
                return Some(Chosen {
                    text: written,
                    rest,
                    value,
                });
            }
            // An extension character straddled a boundary: the last piece that nothing kept needs has to go.
            let last = members(set)
                .filter(|at| {
                    members(set & !only(*at)).all(|other| just_needed[other] & only(*at) == 0)
                })
                .last()?;
            set &= !only(last);
            if set == 0 {
                return None;
            }
        }
    }

    /// What the beginning of the text counts for in the same measure as [`Chosen::value`]; `rest` is what it lacks.
    pub fn value(&self, beginning: &str, rest: &str) -> usize {
        self.value_between(0, beginning, rest)
    }

    /// The same for the beginning of what [`Self::first_action_on`] gave.
    pub fn value_from(&self, beginning: &str, rest: &str) -> usize {
        self.value_between(first_action(&self.pieces).unwrap_or(0), beginning, rest)
    }

    /// What `kept` counts for, which is the text from the piece `from` on, as far as it goes.
    fn value_between(&self, from: usize, kept: &str, rest: &str) -> usize {
        let (kept, _) = pieces(&self.draft.clone().with(kept.to_owned()));
        let these = from..(from + kept.len()).min(self.pieces.len());
        let set = these.clone().fold(0, |set, at| set | only(at));
        if self.pieces[these.clone()]
            .iter()
            .any(|piece| piece.needs & !set != 0)
        {
            return PARTED * worth(&kept);
        }
        let first = first_action(&self.pieces).is_some_and(|first| these.contains(&first));
        self.value_of(&kept, rest, first)
    }

    fn value_of(&self, beginnings: &[Piece], rest: &str, with_first: bool) -> usize {
        let first = |bonus| if with_first { bonus } else { 0 };
        let worth = worth(beginnings);
        match rest.strip_prefix(GOES_ON) {
            None => BEGINNING * worth + first(FIRST_STEP),
            // What is cut off may be the exception.
            Some(rest) if self.limits_first(rest) => PARTED * worth,
            Some(_) => BROKEN_OFF * worth + first(FIRST_BEGUN),
        }
    }

    /// Whether the sentence that `rest` goes on with denies something, or sets a condition or a bound.
    fn limits_first(&self, rest: &str) -> bool {
        let first = sentences::sentences(rest, self.draft.language);
        let end = first.first().map_or(rest.len(), |first| first.end);
        facts::facts(&rest[..end], self.draft.language, self.draft.rules)
            .iter()
            .any(limits)
    }

    /// What is in front of the first thing to do, and the text from there on; None when nothing is, or a step or
    /// warning, which is never left out in front of another step.
    pub fn first_action_on(&self) -> Option<(&str, &str)> {
        let first = first_action(&self.pieces)?;
        let before = &self.pieces[..first];
        let may_wait = !before.is_empty() && before.iter().all(|piece| piece.role == Role::Tells);
        may_wait.then(|| self.draft.text.split_at(self.pieces[first].start))
    }
}

/// The first piece that says more than one thing: it shows what the answer is about, and what to do first.
fn first_action(pieces: &[Piece]) -> Option<usize> {
    pieces.iter().position(|piece| piece.value > FACT)
}

fn limits(fact: &Fact) -> bool {
    matches!(fact.kind, FactKind::Negation | FactKind::Condition)
        || fact.key.starts_with(['<', '>'])
}

/// What pieces are worth.
fn worth<'p>(pieces: impl IntoIterator<Item = &'p Piece>) -> usize {
    pieces.into_iter().map(|piece| piece.value).sum()
}

/// Units that the pieces may take in front of the hint.
fn room_for(encoding: Encoding, max_segments: usize, hint: &str) -> Option<usize> {
    let size = measure(hint);
    let hint_units = match (encoding, size.encoding) {
        (Encoding::Gsm7, Encoding::Ucs2) => return None,
        (Encoding::Ucs2, Encoding::Gsm7) => hint.encode_utf16().count(),
        _ => size.units,
    };
    let with_space = hint_units + usize::from(hint_units > 0);
    room(encoding, max_segments).checked_sub(with_space)
}

/// For each piece, all that comes with it.
fn closure(pieces: &[Piece], first: impl Fn(&Piece) -> Set) -> Vec<Set> {
    let direct: Vec<Set> = pieces
        .iter()
        .enumerate()
        .map(|(at, piece)| first(piece) | only(at))
        .collect();
    direct
        .iter()
        .map(|start| {
            let (mut set, mut new) = (*start, *start);
            while new != 0 {
                let reached = members(new).fold(0, |reached, at| reached | direct[at]);
                new = reached & !set;
                set |= new;
            }
            set
        })
        .collect()
}

struct Choice<'p> {
    pieces: &'p [Piece],
    needed: &'p [Set],
    encoding: Encoding,
    limit: usize,
}

impl Choice<'_> {
    /// The fullest set for each number of steps that fits.
    fn candidates(&self) -> impl Iterator<Item = Set> {
        let steps = (0..self.pieces.len()).filter(|at| self.pieces[*at].role == Role::Step);
        std::iter::once(0)
            .chain(steps.map(|at| self.needed[at]))
            .filter(|base| {
                self.units(*base)
                    .is_some_and(|units| units <= self.limit + 1)
            })
            .map(|base| self.filled(base))
    }

    /// Units of the pieces, each with a space behind it.
    fn units(&self, set: Set) -> Option<usize> {
        members(set).try_fold(0, |sum, at| self.of(at).map(|units| sum + units + 1))
    }

    fn of(&self, at: usize) -> Option<usize> {
        let piece = &self.pieces[at];
        match self.encoding {
            Encoding::Gsm7 => piece.septets,
            Encoding::Ucs2 => Some(piece.units),
        }
    }

    fn filled(&self, base: Set) -> Set {
        let value = |set: Set| members(set).map(|at| self.pieces[at].value).sum::<usize>();
        let mut set = base;
        let mut used = self.units(set).unwrap_or(usize::MAX);
        let mut left: Vec<usize> = (0..self.pieces.len()).collect();
        loop {
            left.retain(|at| set & only(*at) == 0);
            let add = left
                .iter()
                .filter_map(|at| {
                    let new = self.needed[*at] & !set;
                    let cost = self
                        .units(new)
                        .filter(|cost| used + cost <= self.limit + 1)?;
                    let value = value(new);
                    (value > 0).then(|| (value * 1000 / cost, std::cmp::Reverse(*at), new, cost))
                })
                .max();
            let Some((.., new, cost)) = add else { break };
            set |= new;
            used += cost;
        }
        set
    }
}

/// The pieces of a text with what each needs, and where the text goes on behind them.
fn pieces(draft: &Draft<'_>) -> (Vec<Piece>, usize) {
    let (text, language) = (draft.text.as_str(), draft.language);
    let reading = clauses::read(text, language, draft.rules);
    let sentences = sentences::sentences(text, language);
    let mut spans: Vec<Range<usize>> = Vec::new();
    let mut item = false;
    for (at, sentence) in sentences.iter().enumerate() {
        let before = at.checked_sub(1).map_or(0, |before| sentences[before].end);
        let apart = text[before..sentence.start].contains('\n');
        item = sentence.marker > 0 || (item && !apart);
        match spans.last_mut().filter(|_| item && sentence.marker == 0) {
            Some(last) => last.end = at + 1,
            None => spans.push(at..at + 1),
        }
    }
    let behind = spans
        .get(MAX_PIECES)
        .map_or(text.len(), |span| sentences[span.start].start);
    spans.truncate(MAX_PIECES);
    let views: Vec<View<'_>> = spans
        .iter()
        .map(|span| View::new(span, &sentences, &reading, text, language))
        .collect();
    let mut pieces: Vec<Piece> = views
        .iter()
        .map(|view| {
            let body = &text[view.start..view.end];
            Piece {
                start: view.start,
                end: view.end,
                role: view.role,
                value: view.value,
                septets: clean::septets(body, language, draft.rules),
                units: body.encode_utf16().count(),
                needs: 0,
                wants: 0,
            }
        })
        .collect();
    bind(&mut pieces, &views);
    (pieces, behind)
}

/// Says which pieces need which.
fn bind(pieces: &mut [Piece], views: &[View<'_>]) {
    let mut in_order: Set = 0;
    let mut heading: Option<usize> = None;
    for at in 0..pieces.len() {
        let view = &views[at];
        if pieces[at].role == Role::Step {
            pieces[at].needs |= in_order;
        }
        if pieces[at].role != Role::Tells {
            in_order |= only(at);
        }
        if let Some(before) = at.checked_sub(1) {
            if view.points_back {
                pieces[at].needs |= only(before);
            }
            let its = &views[before].stems;
            let shares = view.stems.iter().any(|stem| its.contains(stem));
            if view.role == Role::Warning && pieces[before].role == Role::Step && shares {
                pieces[at].wants |= only(before);
            }
            if views[before].asks {
                pieces[before].needs |= only(at);
            }
            if views[before].heads {
                heading = Some(before);
                // A heading alone promises what does not come.
                pieces[before].needs |= only(at);
            } else if !view.listed {
                heading = None;
            }
        }
        if let Some(heading) = heading {
            pieces[at].needs |= only(heading);
        }
        for (behind, other) in views.iter().enumerate().skip(at + 1).take(REACH) {
            let shares = || other.stems.iter().any(|stem| view.stems.contains(stem));
            if !other.limits || other.numbered || !(other.points_back || shares()) {
                break;
            }
            pieces[at].wants |= only(behind);
            if other.leads_back || (other.points_back && other.role == Role::Warning) {
                pieces[at].needs |= only(behind);
            }
        }
        for (other, its) in views.iter().enumerate() {
            let about = its
                .substances
                .iter()
                .any(|name| view.substances.contains(name));
            if other != at && its.limits && about {
                pieces[at].wants |= only(other);
            }
        }
    }
}

/// What is seen of a piece when roles and bonds are given.
#[allow(clippy::struct_excessive_bools)] // observations that do not exclude each other
struct View<'t> {
    start: usize,
    end: usize,
    role: Role,
    value: usize,
    /// A list item.
    listed: bool,
    /// A list item with a number.
    numbered: bool,
    /// It ends in a colon.
    heads: bool,
    /// It ends in a question mark.
    asks: bool,
    /// It denies, sets a condition or a bound.
    limits: bool,
    /// One of its first words points to the piece before.
    leads_back: bool,
    /// A word in it points to the piece before.
    points_back: bool,
    stems: HashSet<&'t str>,
    substances: HashSet<&'t str>,
}

impl<'t> View<'t> {
    fn new(
        span: &Range<usize>,
        sentences: &[Sentence],
        reading: &'t Reading<'_>,
        text: &str,
        language: &Language,
    ) -> Self {
        let (first, last) = (&sentences[span.start], &sentences[span.end - 1]);
        let tokens =
            reading.sentences[span.start].tokens.start..reading.sentences[span.end - 1].tokens.end;
        let facts = clauses::facts_within(&reading.facts, &tokens);
        let clauses = &reading.clauses[reading
            .clauses
            .partition_point(|clause| clause.tokens.start < tokens.start)
            ..reading
                .clauses
                .partition_point(|clause| clause.tokens.start < tokens.end)];
        let words: Vec<&Token<'_>> = reading.tokens[tokens.clone()]
            .iter()
            .filter(|token| token.kind == Kind::Word && token.start >= first.start + first.marker)
            .collect();
        let has = |kind| facts.iter().any(|fact| fact.kind == kind);
        // "If …" and "Until …" begin a case of their own; "only" and "except" limit what is before them.
        let own_case = words.first().is_some_and(|word| {
            language.joiners.contains(&*word.key)
                && facts.first().is_some_and(|fact| {
                    fact.kind == FactKind::Condition && fact.start == word.start
                })
                && language
                    .exceptives
                    .at(&reading.tokens[facts[0].first..])
                    .is_none()
        });
        let limits = !own_case && facts.iter().any(limits);
        // "Do not …", "If …, do not …": a rule that stands by itself; "If it does not …, press" is a step.
        let denies = facts.iter().find(|fact| fact.kind == FactKind::Negation);
        let stands_alone = denies.is_some_and(|denial| {
            let before = words
                .iter()
                .filter(|word| word.start < denial.start)
                .count();
            let clause = clauses
                .iter()
                .position(|clause| clause.tokens.end > denial.first);
            before <= 1 || (own_case && clause.is_some_and(|clause| clause > 0))
        });
        let body = &reading.tokens[tokens.clone()];
        let ordered = (0..body.len()).any(|at| language.orders.at(&body[at..]).is_some());
        // "The solution is made like this: mix …"
        let introduces = body
            .iter()
            .rev()
            .skip(1)
            .any(|token| matches!(token.kind, Kind::Mark(':' | ';')));
        let tells = words
            .first()
            .is_some_and(|word| language.tells.contains(&*word.key));
        let numbered = first.marker > 0
            && text[first.start..first.start + first.marker]
                .contains(|c: char| c.is_alphanumeric());
        let role = if numbered {
            Role::Step
        } else if stands_alone || has(FactKind::Phone) {
            Role::Warning
        } else if tells && !ordered && !introduces {
            Role::Tells
        } else {
            Role::Step
        };
        // A warning or a telling sentence is bound by any such word, a step by one at its beginning.
        let pointers = if role == Role::Step { 4 } else { words.len() };
        let points = |first: usize| {
            let mut first = words.iter().take(first);
            first.any(|word| language.refers.contains(&*word.key))
        };
        let points_back =
            points(pointers) || text[first.start + first.marker..].starts_with(char::is_lowercase);
        let names = words
            .iter()
            .skip(1)
            .filter(|word| word.text.starts_with(char::is_uppercase) && word.text.len() > 1)
            .count();
        // What is to be done, or not: each clause with a word that means something.
        let said = clauses
            .iter()
            .filter(|clause| !clause.content.is_empty())
            .count();
        Self {
            start: first.start,
            end: last.end,
            role,
            value: FACT * (facts.len() + names) + if role == Role::Tells { 0 } else { said },
            listed: first.marker > 0,
            numbered,
            heads: text[..last.end].ends_with(':'),
            asks: text[..last.end].ends_with(['?', '؟', '？']),
            leads_back: points(2),
            limits,
            points_back,
            stems: clauses
                .iter()
                .flat_map(|clause| clause.content.iter().map(|content| content.stem.as_str()))
                .collect(),
            substances: facts
                .iter()
                .filter(|fact| fact.kind == FactKind::Substance)
                .map(|fact| fact.key.as_str())
                .collect(),
        }
    }
}
