//! What the cues found in a text mean together: which of them are asserted here and now, and which rule of
//! the data they fulfil.

use std::collections::BTreeSet;

use super::data::{DataError, NEEDS, Rules, Until, Verdict};
use super::grammar::{Cue, Hit};
use super::lexicon::Unit;
use super::normal::Break;
use super::{GENERAL_DANGER, Priority};

/// Cues of one combination stand at most so many words apart.
const TOGETHER: usize = 40;
/// Most cues there may be.
pub const MAX_CUES: usize = 512;
/// A cue lifts a scope that opens at most so many words from it.
const LIFTS_WITHIN: usize = 40;
/// Cue that begins a new clause: conjunctions and subjects.
const CLAUSE: &str = "clause";
/// Longest list of needs.
const MAX_NEEDS: usize = 3;

/// Names of all cues, in the order they were met.
#[derive(Debug, Default)]
pub struct Cues {
    names: Vec<String>,
}

impl Cues {
    /// Index of a cue, new or known.
    pub fn intern(&mut self, name: &str) -> Cue {
        let place = self
            .names
            .iter()
            .position(|n| n == name)
            .unwrap_or_else(|| {
                self.names.push(name.to_owned());
                self.names.len() - 1
            });
        Cue::try_from(place).unwrap_or(Cue::MAX)
    }

    /// Name of a cue.
    pub fn name(&self, cue: Cue) -> &str {
        &self.names[usize::from(cue)]
    }
}

/// Cues as bits.
#[derive(Clone, Copy, Debug, Default)]
struct CueSet([u64; MAX_CUES / 64]);

impl CueSet {
    fn of(cues: impl Iterator<Item = Cue>) -> Self {
        let mut set = Self::default();
        for cue in cues {
            if let Some(bits) = set.0.get_mut(usize::from(cue) / 64) {
                *bits |= 1 << (cue % 64);
            }
        }
        set
    }

    fn holds(&self, cue: Cue) -> bool {
        self.0
            .get(usize::from(cue) / 64)
            .is_some_and(|bits| bits & (1 << (cue % 64)) != 0)
    }

    fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    fn without(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a &= !b);
        self
    }
}

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

#[derive(Debug)]
struct Scope {
    cue: Cue,
    before: usize,
    after: usize,
    until: Until,
    lifted_by: CueSet,
    touches: CueSet,
}

#[derive(Debug)]
struct Mask {
    cue: Cue,
    hides: CueSet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Asserted,
    Absent,
    Mentioned,
}

#[derive(Debug)]
struct Term {
    mood: Mood,
    any: CueSet,
}

#[derive(Debug)]
struct Combination {
    terms: Vec<Term>,
    strength: f32,
}

#[derive(Debug)]
struct Conclusion {
    priority: Priority,
    /// Place among the emergencies; lower wins.
    topic: Option<usize>,
    /// Whether any other topic outranks it.
    weak: bool,
    needs: Vec<usize>,
    combinations: Vec<Combination>,
}

/// The rule file, compiled.
#[derive(Debug)]
pub struct Judge {
    clause: Cue,
    context: CueSet,
    masks: Vec<Mask>,
    scopes: Vec<Scope>,
    conclusions: Vec<Conclusion>,
    topics: Vec<String>,
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

struct Compiler<'c> {
    file: &'c str,
    rules: &'c Rules,
    cues: &'c mut Cues,
    used: BTreeSet<Cue>,
}

impl Compiler<'_> {
    fn cue(&mut self, name: &str) -> Cue {
        let cue = self.cues.intern(name);
        self.used.insert(cue);
        cue
    }

    /// Cues of a list of names; a group stands for its members.
    fn list(&mut self, entry: &str, names: &str, depth: usize) -> Result<Vec<Cue>, DataError> {
        let mut all = Vec::new();
        if depth > 6 {
            return Err(DataError::new(self.file, entry, "a group includes itself"));
        }
        for name in names.split_whitespace() {
            if !name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            {
                return Err(DataError::new(
                    self.file,
                    entry,
                    format!("{name:?} is no name of a cue: use a-z 0-9 _"),
                ));
            }
            if let Some(members) = self.rules.groups.get(name) {
                all.extend(self.list(&format!("groups.{name}"), members, depth + 1)?);
            } else {
                all.push(self.cue(name));
            }
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    fn combination(
        &mut self,
        entry: &str,
        line: &str,
        strength: f32,
    ) -> Result<Combination, DataError> {
        let entry = format!("{entry}: {line:?}");
        let mut terms = Vec::new();
        for part in line.split('+').map(str::trim) {
            let (mood, name) = match part.as_bytes().first() {
                Some(b'!') => (Mood::Absent, &part[1..]),
                Some(b'?') => (Mood::Mentioned, &part[1..]),
                _ => (Mood::Asserted, part),
            };
            if name.is_empty() || name.contains(char::is_whitespace) {
                return Err(DataError::new(
                    self.file,
                    entry,
                    "write cues joined by +, each with ! or ? at most",
                ));
            }
            terms.push(Term {
                mood,
                any: CueSet::of(self.list(&entry, name, 0)?.into_iter()),
            });
        }
        if terms.iter().all(|term| term.mood == Mood::Absent) {
            return Err(DataError::new(
                self.file,
                entry,
                "nothing that has to be there",
            ));
        }
        Ok(Combination { terms, strength })
    }

    fn conclusion(
        &mut self,
        entry: &str,
        priority: Priority,
        verdict: &Verdict,
        topic: Option<usize>,
    ) -> Result<[Conclusion; 3], DataError> {
        let needs = verdict
            .needs
            .iter()
            .map(|need| {
                NEEDS.iter().position(|n| n == need).ok_or_else(|| {
                    DataError::new(
                        self.file,
                        format!("{entry}: needs"),
                        format!("{need:?} is not among {}", NEEDS.join(" ")),
                    )
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut of = |lines: &str, strength| {
            let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
            lines
                .map(|line| self.combination(entry, line, strength))
                .collect::<Result<Vec<_>, _>>()
        };
        let certain = of(&verdict.when, 0.9)?;
        let weak = of(&verdict.weak, 0.8)?;
        let possible = of(&verdict.maybe, 0.65)?;
        if certain.is_empty() && weak.is_empty() && possible.is_empty() {
            return Err(DataError::new(
                self.file,
                entry,
                "has no combination of cues",
            ));
        }
        let of = |topic, weak, combinations| Conclusion {
            priority,
            topic,
            weak,
            needs: needs.clone(),
            combinations,
        };
        Ok([
            of(topic, false, certain),
            of(topic, true, weak),
            of(None, false, possible),
        ])
    }

    /// All conclusions, and the topics in their rank.
    fn conclusions(&mut self) -> Result<(Vec<Conclusion>, Vec<String>), DataError> {
        let mut topics: Vec<String> = Vec::new();
        let mut conclusions = Vec::new();
        let lists = [
            (Priority::Emergency, &self.rules.emergency),
            (Priority::Urgent, &self.rules.urgent),
            (Priority::Normal, &self.rules.normal),
        ];
        for (priority, verdicts) in lists {
            for (place, verdict) in verdicts.iter().enumerate() {
                let entry = format!(
                    "{} {}",
                    priority.name(),
                    verdict
                        .topic
                        .clone()
                        .unwrap_or_else(|| format!("number {}", place + 1))
                );
                let topic = match &verdict.topic {
                    Some(_) if priority != Priority::Emergency => {
                        return Err(DataError::new(
                            self.file,
                            entry,
                            "only an emergency has a topic",
                        ));
                    }
                    Some(name) if topics.contains(name) => {
                        return Err(DataError::new(self.file, entry, "is written twice"));
                    }
                    Some(name) => {
                        topics.push(name.clone());
                        Some(topics.len() - 1)
                    }
                    None => None,
                };
                let parts = self.conclusion(&entry, priority, verdict, topic)?;
                conclusions.extend(parts.into_iter().filter(|c| !c.combinations.is_empty()));
            }
        }
        Ok((conclusions, topics))
    }
}

impl Judge {
    /// Compiles the rules; gives the cues they use, too.
    pub fn compile(
        file: &str,
        rules: &Rules,
        cues: &mut Cues,
    ) -> Result<(Self, BTreeSet<Cue>), DataError> {
        let mut compiler = Compiler {
            file,
            rules,
            cues,
            used: BTreeSet::new(),
        };
        let clause = compiler.cue(CLAUSE);
        for cue in rules
            .mask
            .iter()
            .map(|m| &m.cue)
            .chain(rules.scope.iter().map(|s| &s.cue))
        {
            compiler.cue(cue);
        }
        let context = CueSet::of(compiler.used.iter().copied());
        let everything_else = CueSet([u64::MAX; MAX_CUES / 64]).without(&context);
        let mut set = |entry: &str, names: &str, default: CueSet| {
            let cues = compiler.list(entry, names, 0)?;
            Ok::<_, DataError>(if cues.is_empty() {
                default
            } else {
                CueSet::of(cues.into_iter())
            })
        };
        let mut masks = Vec::new();
        for mask in &rules.mask {
            let hides = set(&format!("mask {}", mask.cue), &mask.hides, everything_else)?;
            masks.push((mask, hides));
        }
        let mut scopes = Vec::new();
        for scope in &rules.scope {
            let entry = format!("scope {}", scope.cue);
            let lifted_by = set(&entry, &scope.lifted_by, CueSet::default())?;
            let spared = set(&entry, &scope.spares, CueSet::default())?;
            scopes.push((
                scope,
                lifted_by,
                set(&entry, &scope.only, everything_else)?.without(&spared),
            ));
        }
        let masks = masks
            .into_iter()
            .map(|(mask, hides)| Mask {
                cue: compiler.cue(&mask.cue),
                hides,
            })
            .collect();
        let scopes = scopes
            .into_iter()
            .map(|(scope, lifted_by, touches)| {
                let cue = compiler.cue(&scope.cue);
                Scope {
                    cue,
                    before: scope.before,
                    after: scope.after,
                    until: scope.until,
                    lifted_by,
                    touches,
                }
            })
            .collect();
        let (conclusions, topics) = compiler.conclusions()?;
        if compiler.cues.names.len() > MAX_CUES {
            return Err(DataError::new(
                file,
                "cues",
                format!("more than {MAX_CUES} of them"),
            ));
        }
        let used = compiler.used;
        Ok((
            Self {
                clause,
                context,
                masks,
                scopes,
                conclusions,
                topics,
            },
            used,
        ))
    }

    /// Name of a topic; none is general danger.
    pub fn topic(&self, topic: Option<usize>) -> &str {
        topic.map_or(GENERAL_DANGER, |place| &self.topics[place])
    }

    /// Whether a cue only changes what others say. Its words are never guessed from a misspelling: an idiom read
    /// into an emergency would silence it.
    pub fn is_context(&self, cue: Cue) -> bool {
        self.context.holds(cue)
    }

    /// Every topic of the rules, the most pressing first.
    pub fn topics(&self) -> &[String] {
        &self.topics
    }

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
                    let consumed = f.hit.start <= opening.start && opening.end <= f.hit.end;
                    if !consumed && scope.touches.holds(f.hit.cue) {
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
        for priority in [Priority::Emergency, Priority::Urgent] {
            if let Some(judgement) = self.conclude(priority, found, &sets) {
                return judgement;
            }
        }
        let undone = found.iter().any(|f| f.undone_by.is_some());
        let known = units
            .iter()
            .filter(|unit| !unit.readings().is_empty())
            .count() as f32
            / units.len().max(1) as f32;
        let confidence = if undone { 0.7 } else { 0.5 + 0.4 * known };
        let mut judgement = self
            .conclude(Priority::Normal, found, &sets)
            .unwrap_or(Judgement {
                priority: Priority::Normal,
                topic: None,
                needs: Vec::new(),
                confidence,
                why: Vec::new(),
            });
        judgement.confidence = confidence;
        // What almost raised an alarm, and what took it back.
        for f in found {
            if let Some(by) = f.undone_by {
                judgement.why.push(f.hit);
                judgement.why.extend(
                    found
                        .iter()
                        .map(|other| other.hit)
                        .find(|hit| hit.cue == by),
                );
            }
        }
        judgement
    }

    fn conclude(&self, priority: Priority, found: &[Found], sets: &Sets) -> Option<Judgement> {
        let mut fired: Vec<(&Conclusion, f32, Vec<Hit>)> = Vec::new();
        for conclusion in self.conclusions.iter().filter(|c| c.priority == priority) {
            let best = conclusion
                .combinations
                .iter()
                .filter(|combination| combination.possible(sets))
                .filter_map(|combination| combination.met(found))
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
    asserted: CueSet,
    mentioned: CueSet,
}

impl Sets {
    fn of(found: &[Found]) -> Self {
        Self {
            asserted: CueSet::of(
                found
                    .iter()
                    .filter(|f| f.undone_by.is_none())
                    .map(|f| f.hit.cue),
            ),
            mentioned: CueSet::of(found.iter().filter(|f| !f.hidden).map(|f| f.hit.cue)),
        }
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
        self.terms.iter().all(|term| match term.mood {
            Mood::Asserted => sets.asserted.meets(&term.any),
            Mood::Mentioned => sets.mentioned.meets(&term.any),
            Mood::Absent => !sets.asserted.meets(&term.any),
        })
    }

    /// Strength and deciding cues, if they stand near enough.
    fn met(&self, found: &[Found]) -> Option<(f32, Vec<Hit>)> {
        let (mut strength, mut why) = (self.strength, Vec::with_capacity(self.terms.len()));
        let mut anchor: Option<usize> = None;
        for term in &self.terms {
            if term.mood == Mood::Absent {
                continue;
            }
            let standing = found.iter().filter(|f| {
                let stands = f.undone_by.is_none() || (term.mood == Mood::Mentioned && !f.hidden);
                stands && term.any.holds(f.hit.cue)
            });
            let near = standing
                .filter(|f| anchor.is_none_or(|place| f.hit.start.abs_diff(place) <= TOGETHER));
            let hit = near
                .map(|f| f.hit)
                .min_by_key(|hit| (hit.edits, hit.start))?;
            anchor.get_or_insert(hit.start);
            strength *= 0.93_f32.powi(i32::from(hit.edits));
            why.push(hit);
        }
        Some((strength, why))
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
