//! What the cues found in a text mean together: which of them are asserted here and now, and which rule of
//! the data they fulfil.

use super::Priority;
use super::data::{NEEDS, Until};
use super::grammar::{Cue, Hit};
use super::normal::Break;
use super::reader::Unit;
use super::rules::{Combination, Conclusion, CueSet, Judge, Mood, Scope};

/// Cues of one combination stand at most so many words apart.
const TOGETHER: usize = 40;
/// A cue lifts a scope that opens at most so many words from it.
const LIFTS_WITHIN: usize = 40;
/// Places of its first cue at which a combination is tried.
const ANCHORS: usize = 32;
/// Longest list of needs.
const MAX_NEEDS: usize = 3;
/// The need of a plea that names nothing.
const PLEA_NEED: &str = "aid_info";

/// A cue of the text with what became of it.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Where it stands.
    pub hit: Hit,
    /// The cue that took its meaning away: a negation, a past time, an idiom.
    pub undone_by: Option<Cue>,
    /// Whether a mask undid it: then it is not even mentioned.
    pub hidden: bool,
}

/// What the rules say of a text.
#[derive(Debug)]
pub struct Judgement {
    /// Emergency, urgent or normal.
    pub priority: Priority,
    /// Index of the topic, in [`Judge::topic`].
    pub topic: Option<usize>,
    /// Indices into [`NEEDS`].
    pub needs: Vec<usize>,
    /// 0 to 1.
    pub confidence: f32,
    /// The cues that decided.
    pub why: Vec<Hit>,
}

impl Judge {
    /// Decides which cues stand: hides what a mask covers, undoes what a scope reaches. `hits` are ordered by
    /// their start. Reaches are bounded, so the work grows with the text and not with its square.
    pub fn weigh(&self, units: &[Unit], hits: &[Hit]) -> Vec<Found> {
        let mut found: Vec<Found> = hits
            .iter()
            .map(|&hit| Found {
                hit,
                undone_by: None,
                hidden: false,
            })
            .collect();
        let present = CueSet::of(hits.iter().map(|hit| hit.cue));
        let longest = hits
            .iter()
            .map(|hit| hit.end - hit.start)
            .max()
            .unwrap_or(0);
        for mask in self.masks.iter().filter(|mask| present.holds(mask.cue)) {
            for cover in openings(&found, mask.cue) {
                for f in touching(&mut found, cover.start..cover.end, longest) {
                    if f.hit.cue != mask.cue && mask.hides.holds(f.hit.cue) {
                        f.undone_by.get_or_insert(mask.cue);
                        f.hidden = true;
                    }
                }
            }
        }
        if !self.scopes.iter().any(|scope| present.holds(scope.cue)) {
            return found;
        }
        let edges = Edges::of(
            units,
            found
                .iter()
                .filter(|f| f.hit.cue == self.clause)
                .map(|f| f.hit.start),
        );
        for scope in self.scopes.iter().filter(|scope| present.holds(scope.cue)) {
            for opening in openings(&found, scope.cue) {
                let lifts =
                    |f: &mut Found| f.undone_by.is_none() && scope.lifted_by.holds(f.hit.cue);
                if present.meets(&scope.lifted_by)
                    && touching(&mut found, edges.nearby(opening), 1).any(lifts)
                {
                    continue;
                }
                for f in touching(&mut found, edges.reach(scope, opening), longest) {
                    if !f.hit.is_made_of(&opening) && scope.touches.holds(f.hit.cue) {
                        f.undone_by.get_or_insert(scope.cue);
                    }
                }
            }
        }
        found
    }

    /// Applies the rules to the cues.
    pub fn decide(&self, units: &[Unit], found: &[Found]) -> Judgement {
        let sets = Sets::of(found);
        let urgent = self.conclude(Priority::Urgent, &sets);
        if let Some(mut judgement) = self.conclude(Priority::Emergency, &sets) {
            // Who is trapped and thirsty is both; that they ask for help says nothing more.
            let more = urgent.into_iter().flat_map(|urgent| urgent.needs);
            for need in more.filter(|&need| NEEDS[need] != PLEA_NEED) {
                if judgement.needs.len() < MAX_NEEDS && !judgement.needs.contains(&need) {
                    judgement.needs.push(need);
                }
            }
            return judgement;
        }
        if let Some(judgement) = urgent {
            return judgement;
        }
        let undone = found.iter().any(|f| f.undone_by.is_some());
        let known = units
            .iter()
            .filter(|unit| !unit.readings().is_empty())
            .count() as f32
            / units.len().max(1) as f32;
        let confidence = if undone { 0.7 } else { 0.5 + 0.4 * known };
        let mut judgement = self.conclude(Priority::Normal, &sets).unwrap_or(Judgement {
            priority: Priority::Normal,
            topic: None,
            needs: Vec::new(),
            confidence,
            why: Vec::new(),
        });
        judgement.confidence = confidence;
        // What almost raised an alarm, and what took it back.
        let undone = found.iter().filter(|f| f.undone_by.is_some());
        let by = CueSet::of(undone.clone().filter_map(|f| f.undone_by));
        judgement.why.extend(undone.map(|f| f.hit));
        let mut named = CueSet::default();
        for hit in found.iter().map(|f| f.hit).filter(|hit| by.holds(hit.cue)) {
            if !named.holds(hit.cue) {
                named.add(hit.cue);
                judgement.why.push(hit);
            }
        }
        judgement
    }

    fn conclude(&self, priority: Priority, sets: &Sets) -> Option<Judgement> {
        let mut fired: Vec<(&Conclusion, f32, Vec<Hit>)> = Vec::new();
        let there = &sets.mentioned.cues;
        let may = |c: &&Conclusion| c.priority == priority && there.meets(&c.any);
        for conclusion in self.conclusions.iter().filter(may) {
            let best = conclusion
                .combinations
                .iter()
                .filter(|combination| combination.possible(sets))
                .filter_map(|combination| combination.met(sets))
                .max_by(|a, b| a.0.total_cmp(&b.0));
            if let Some((strength, why)) = best {
                fired.push((conclusion, strength, why));
            }
        }
        if fired.is_empty() {
            return None;
        }
        let chosen = fired
            .iter()
            .filter_map(|(conclusion, ..)| Some((conclusion.weak, conclusion.topic?)))
            .min();
        let topic = chosen.map(|(_, topic)| topic);
        if let Some((false, topic)) = chosen {
            fired.retain(|(conclusion, ..)| !conclusion.weak || conclusion.topic == Some(topic));
        }
        let doubt: f32 = fired
            .iter()
            .map(|(_, strength, _)| 1.0 - strength)
            .product();
        let mut leading: Vec<&(&Conclusion, f32, Vec<Hit>)> = fired.iter().collect();
        leading.sort_by_key(|(conclusion, _, why)| {
            (
                conclusion.topic != topic,
                why.iter().map(|hit| hit.start).min(),
            )
        });
        let mut needs: Vec<usize> = Vec::new();
        for need in leading
            .iter()
            .flat_map(|(conclusion, ..)| &conclusion.needs)
        {
            if needs.len() < MAX_NEEDS && !needs.contains(need) {
                needs.push(*need);
            }
        }
        let why = fired
            .iter()
            .flat_map(|(.., why)| why.iter().copied())
            .collect();
        Some(Judgement {
            priority,
            topic,
            needs,
            confidence: (1.0 - doubt).min(0.99),
            why,
        })
    }
}

/// Cues that stand, and cues that are there at all.
struct Sets {
    asserted: Standing,
    mentioned: Standing,
}

impl Sets {
    fn of(found: &[Found]) -> Self {
        let asserted = found.iter().filter(|f| f.undone_by.is_none());
        let mentioned = found.iter().filter(|f| !f.hidden);
        Self {
            asserted: Standing::of(asserted.map(|f| f.hit)),
            mentioned: Standing::of(mentioned.map(|f| f.hit)),
        }
    }

    fn among(&self, mood: Mood) -> &Standing {
        match mood {
            Mood::Mentioned => &self.mentioned,
            Mood::Asserted | Mood::Absent => &self.asserted,
        }
    }
}

/// Hits by their cue, so that a combination looks at its own cues only.
struct Standing {
    cues: CueSet,
    /// Ordered by cue, then by place.
    hits: Vec<Hit>,
}

impl Standing {
    fn of(hits: impl Iterator<Item = Hit>) -> Self {
        let mut hits: Vec<Hit> = hits.collect();
        hits.sort_by_key(|hit| (hit.cue, hit.start));
        let cues = CueSet::of(hits.iter().map(|hit| hit.cue));
        Self { cues, hits }
    }

    /// The hits of each of some cues.
    fn each<'s>(&'s self, any: &CueSet) -> impl Iterator<Item = &'s [Hit]> {
        any.and(&self.cues).iter().map(|cue| {
            let from = self.hits.partition_point(|hit| hit.cue < cue);
            let to = self.hits.partition_point(|hit| hit.cue <= cue);
            &self.hits[from..to]
        })
    }

    /// The best read hit of some cues, at most [`TOGETHER`] words from a place.
    fn nearest(&self, any: &CueSet, place: usize) -> Option<Hit> {
        let near = self.each(any).flat_map(|hits| {
            let from = hits.partition_point(|hit| hit.start + TOGETHER < place);
            let to = hits.partition_point(|hit| hit.start <= place + TOGETHER);
            &hits[from..to]
        });
        near.copied().min_by_key(|hit| (hit.edits, hit.start))
    }
}

/// Where a cue stands that nothing has undone.
fn openings(found: &[Found], cue: Cue) -> Vec<Hit> {
    found
        .iter()
        .filter(|f| f.hit.cue == cue && f.undone_by.is_none())
        .map(|f| f.hit)
        .collect()
}

/// The cues that overlap some units; none is longer than `longest`.
fn touching(
    found: &mut [Found],
    units: std::ops::Range<usize>,
    longest: usize,
) -> impl Iterator<Item = &mut Found> {
    let from = found.partition_point(|f| f.hit.start + longest <= units.start);
    let to = found.partition_point(|f| f.hit.start < units.end);
    found[from.min(to)..to]
        .iter_mut()
        .filter(move |f| f.hit.end > units.start)
}

impl Combination {
    /// A cheap look before [`Combination::met`].
    fn possible(&self, sets: &Sets) -> bool {
        self.terms
            .iter()
            .all(|term| sets.among(term.mood).cues.meets(&term.any) == (term.mood != Mood::Absent))
    }

    /// Strength and deciding cues, if they stand near enough to one of the places where the first of them stands.
    fn met(&self, sets: &Sets) -> Option<(f32, Vec<Hit>)> {
        let mut there = self.terms.iter().filter(|term| term.mood != Mood::Absent);
        let first = there.next()?;
        let rest: Vec<_> = there.collect();
        let standing = sets.among(first.mood).each(&first.any);
        let mut anchors: Vec<Hit> = standing
            .flat_map(|hits| hits.iter().take(ANCHORS).copied())
            .collect();
        anchors.sort_by_key(|hit| (hit.edits, hit.start));
        anchors.truncate(ANCHORS);
        anchors.into_iter().find_map(|anchor| {
            let mut why = Vec::with_capacity(rest.len() + 1);
            why.push(anchor);
            for term in &rest {
                why.push(sets.among(term.mood).nearest(&term.any, anchor.start)?);
            }
            let edits = why.iter().map(|hit| i32::from(hit.edits)).sum();
            Some((self.strength * 0.93_f32.powi(edits), why))
        })
    }
}

/// Places where clauses and sentences begin.
struct Edges {
    clause: Vec<usize>,
    sentence: Vec<usize>,
    length: usize,
}

impl Edges {
    fn of(units: &[Unit], openings: impl Iterator<Item = usize>) -> Self {
        let at = |strength| {
            move |(place, unit): (usize, &Unit)| {
                (unit.before >= strength && place > 0).then_some(place)
            }
        };
        let sentence = units
            .iter()
            .enumerate()
            .filter_map(at(Break::Sentence))
            .collect();
        let mut clause: Vec<usize> = units
            .iter()
            .enumerate()
            .filter_map(at(Break::Clause))
            .chain(openings)
            .collect();
        clause.sort_unstable();
        clause.dedup();
        Self {
            clause,
            sentence,
            length: units.len(),
        }
    }

    /// Units a scope reaches.
    fn reach(&self, scope: &Scope, opening: Hit) -> std::ops::Range<usize> {
        let (low, high) = match scope.until {
            Until::Text => (0, self.length),
            Until::Sentence => self.between(&self.sentence, opening),
            Until::Clause => self.between(&self.clause, opening),
        };
        let low = if scope.before == 0 {
            opening.start
        } else {
            low.max(opening.start.saturating_sub(scope.before))
        };
        let high = if scope.after == 0 {
            opening.end
        } else {
            high.min(opening.end + scope.after)
        };
        low..high
    }

    /// Units of the sentence that are near enough to lift a scope.
    fn nearby(&self, opening: Hit) -> std::ops::Range<usize> {
        let (low, high) = self.between(&self.sentence, opening);
        low.max(opening.start.saturating_sub(LIFTS_WITHIN))..high.min(opening.end + LIFTS_WITHIN)
    }

    /// Last edge at or before the opening's first word, first edge after its last one.
    fn between(&self, edges: &[usize], opening: Hit) -> (usize, usize) {
        let low = edges[..edges.partition_point(|&edge| edge <= opening.start)]
            .last()
            .copied()
            .unwrap_or(0);
        let high = edges[edges.partition_point(|&edge| edge < opening.end)..]
            .first()
            .copied()
            .unwrap_or(self.length);
        (low, high)
    }
}
