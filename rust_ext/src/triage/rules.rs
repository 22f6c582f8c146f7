//! The rule file, compiled: which cues hide or undo others, and which combinations mean what.

use std::collections::BTreeSet;

use super::data::{DataError, NEEDS, Rules, Until, Verdict};
use super::grammar::Cue;
use super::{GENERAL_DANGER, Priority};

/// Most cues there may be.
pub const MAX_CUES: usize = 512;
/// Cue that begins a new clause: conjunctions and subjects.
const CLAUSE: &str = "clause";

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
pub struct CueSet([u64; MAX_CUES / 64]);

impl CueSet {
    pub fn of(cues: impl Iterator<Item = Cue>) -> Self {
        let mut set = Self::default();
        cues.for_each(|cue| set.add(cue));
        set
    }

    pub fn add(&mut self, cue: Cue) {
        if let Some(bits) = self.0.get_mut(usize::from(cue) / 64) {
            *bits |= 1 << (cue % 64);
        }
    }

    pub fn and(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a &= b);
        self
    }

    pub fn or(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a |= b);
        self
    }

    /// Its cues, in their order.
    pub fn iter(self) -> impl Iterator<Item = Cue> {
        self.0.into_iter().zip(0..).flat_map(|(mut bits, block)| {
            std::iter::from_fn(move || {
                let cue = Cue::try_from(bits.trailing_zeros()).ok()?;
                (bits != 0).then(|| {
                    bits &= bits - 1;
                    block * 64 + cue
                })
            })
        })
    }

    pub fn holds(&self, cue: Cue) -> bool {
        self.0
            .get(usize::from(cue) / 64)
            .is_some_and(|bits| bits & (1 << (cue % 64)) != 0)
    }

    pub fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    pub fn without(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a &= !b);
        self
    }
}

#[derive(Debug)]
pub struct Scope {
    pub cue: Cue,
    pub before: usize,
    pub after: usize,
    pub until: Until,
    pub lifted_by: CueSet,
    pub touches: CueSet,
}

#[derive(Debug)]
pub struct Mask {
    pub cue: Cue,
    pub hides: CueSet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Asserted,
    Absent,
    Mentioned,
}

#[derive(Debug)]
pub struct Term {
    pub mood: Mood,
    pub any: CueSet,
}

#[derive(Debug)]
pub struct Combination {
    pub terms: Vec<Term>,
    pub strength: f32,
}

#[derive(Debug)]
pub struct Conclusion {
    pub priority: Priority,
    /// Place among the emergencies; lower wins.
    pub topic: Option<usize>,
    /// Whether any other topic outranks it.
    pub weak: bool,
    pub needs: Vec<usize>,
    pub combinations: Vec<Combination>,
    /// One of these has to be there at all for any of the combinations.
    pub any: CueSet,
}

/// The rule file, compiled.
#[derive(Debug)]
pub struct Judge {
    pub clause: Cue,
    pub context: CueSet,
    pub masks: Vec<Mask>,
    pub scopes: Vec<Scope>,
    pub conclusions: Vec<Conclusion>,
    pub topics: Vec<String>,
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
        let of = |topic, weak, combinations: Vec<Combination>| Conclusion {
            priority,
            topic,
            weak,
            needs: needs.clone(),
            any: (combinations.iter()).fold(CueSet::default(), |any, combination| {
                let mut there = combination.terms.iter();
                let first = there.find(|term| term.mood != Mood::Absent);
                first.map_or(any, |term| any.or(&term.any))
            }),
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
        let (conclusions, topics) = compiler.conclusions()?;
        let dangers = conclusions.iter().flat_map(|c| &c.combinations);
        let dangers = dangers.flat_map(|c| &c.terms).map(|term| term.any);
        let dangers = dangers.fold(CueSet::default(), |all, any| all.or(&any));
        // A danger may hide another one, as a snakebite hides its wound, and is undone like any danger.
        let masks = rules.mask.iter().map(|m| compiler.cue(&m.cue));
        let mut context = CueSet::of(masks).without(&dangers);
        for scope in &rules.scope {
            context.add(compiler.cue(&scope.cue));
        }
        context.add(clause);
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
}
