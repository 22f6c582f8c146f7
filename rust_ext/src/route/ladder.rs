//! The rules of `route.toml` compiled: each a test of bits, tried from the top.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Deserialize;

use super::facts::{Facts, NAMES, Seen};
use super::{Decision, Next, RouteError};

/// A rule as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleText {
    name: String,
    when: String,
    can: Option<String>,
    next: String,
}

/// When the centre is asked as well, as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LateText {
    when: String,
}

/// Facts joined by one operator.
#[derive(Clone, Debug)]
struct Test {
    all: bool,
    /// Bit and whether it must hold, in the order written: the first that fails is the one people are told.
    terms: Vec<(Facts, bool)>,
}

impl Test {
    fn holds(&self, facts: Facts) -> bool {
        let mut terms = self.terms.iter();
        if self.all {
            terms.all(|(bit, wanted)| (facts & bit != 0) == *wanted)
        } else {
            terms.any(|(bit, wanted)| (facts & bit != 0) == *wanted)
        }
    }
}

#[derive(Clone, Debug)]
struct Rule {
    name: String,
    when: Test,
    can: Option<Test>,
    next: Next,
}

/// The rules, ready to be asked.
#[derive(Clone, Debug)]
pub(super) struct Ladder {
    names: Vec<String>,
    /// Facts made of others, in an order in which each needs only earlier ones.
    made: Vec<(Facts, Test)>,
    rules: Vec<Rule>,
    late: Test,
}

impl Ladder {
    pub fn compile(
        made: &BTreeMap<String, String>,
        rules: &[RuleText],
        late: &LateText,
    ) -> Result<Self, RouteError> {
        let mut ladder = Self {
            names: NAMES.iter().map(|&name| name.to_owned()).collect(),
            made: Vec::new(),
            rules: Vec::new(),
            late: Test {
                all: true,
                terms: Vec::new(),
            },
        };
        ladder.make_facts(made)?;
        for rule in rules {
            let wrong = |reason: String| RouteError::Rule(format!("rule {:?}", rule.name), reason);
            let can = rule.can.as_deref().map(|name| ladder.ability(name));
            let next = Next::named(&rule.next)
                .ok_or_else(|| wrong(format!("no next step is called {:?}", rule.next)))?;
            ladder.rules.push(Rule {
                name: rule.name.clone(),
                when: ladder.test(&rule.when).map_err(wrong)?,
                can: can.transpose().map_err(wrong)?,
                next,
            });
        }
        ladder.late = ladder
            .test(&late.when)
            .map_err(|reason| RouteError::Rule("late".to_owned(), reason))?;
        Ok(ladder)
    }

    /// Compiles the facts made of others, each after those it is made of.
    fn make_facts(&mut self, made: &BTreeMap<String, String>) -> Result<(), RouteError> {
        let wrong = |name: &str, reason: String| RouteError::Rule(format!("facts.{name}"), reason);
        if let Some(name) = made.keys().find(|name| NAMES.contains(&name.as_str())) {
            return Err(wrong(name, "this fact is given already".to_owned()));
        }
        let most = Facts::BITS as usize - NAMES.len();
        if let Some(name) = made.keys().nth(most) {
            return Err(wrong(name, format!("more than {most} facts")));
        }
        let mut left: Vec<_> = made.iter().collect();
        while !left.is_empty() {
            let before = left.len();
            left.retain(|(name, text)| {
                let Ok(test) = self.test(text) else {
                    return true;
                };
                self.made.push((1 << self.names.len(), test));
                self.names.push((*name).clone());
                false
            });
            if left.len() == before
                && let Err(reason) = self.test(left[0].1)
            {
                return Err(wrong(left[0].0, reason));
            }
        }
        Ok(())
    }

    /// A `can`: a made fact by name, so that what fails inside it can be told; or any fact.
    fn ability(&self, name: &str) -> Result<Test, String> {
        let bit = self.bit(name)?;
        Ok(match self.made.iter().find(|(made, _)| *made == bit) {
            Some((_, test)) => test.clone(),
            None => Test {
                all: true,
                terms: vec![(bit, true)],
            },
        })
    }

    fn bit(&self, name: &str) -> Result<Facts, String> {
        let at = self.names.iter().position(|known| known == name);
        at.map(|at| 1 << at)
            .ok_or_else(|| format!("no fact is called {name:?}, or facts are made of each other"))
    }

    fn test(&self, text: &str) -> Result<Test, String> {
        let words: Vec<_> = text.split_whitespace().collect();
        let all = !words.contains(&"or");
        if !all && words.contains(&"and") {
            return Err(format!(
                "{text:?} mixes `and` with `or`: make a fact of one of them"
            ));
        }
        let mut terms = Vec::new();
        for term in words.split(|word| matches!(*word, "and" | "or")) {
            terms.push(match *term {
                [name] => (self.bit(name)?, true),
                ["not", name] => (self.bit(name)?, false),
                _ => {
                    return Err(format!(
                        "{text:?}: a fact, or `not` and a fact, was expected"
                    ));
                }
            });
        }
        Ok(Test { all, terms })
    }

    /// Given facts and those made of them.
    fn complete(&self, given: Facts) -> Facts {
        self.made.iter().fold(given, |facts, (bit, test)| {
            if test.holds(facts) {
                facts | bit
            } else {
                facts
            }
        })
    }

    /// The rule that decides by its place, its next step, and whether the centre is asked late, for given facts;
    /// `None` where no rule holds.
    pub fn outcome(&self, given: Facts) -> Option<(usize, Next, bool)> {
        let facts = self.complete(given);
        let at = self.rules.iter().position(|rule| {
            rule.when.holds(facts) && rule.can.as_ref().is_none_or(|can| can.holds(facts))
        })?;
        Some((at, self.rules[at].next, self.late.holds(facts)))
    }

    /// Names of the rules, from the top.
    pub fn rule_names(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.name.as_str())
    }

    /// The decision with its reason. Every situation has a rule: [`super::promises`] saw to it.
    pub fn decide(&self, seen: &Seen) -> Decision {
        let facts = self.complete(seen.facts);
        let mut passed_over = String::new();
        for rule in &self.rules {
            if !rule.when.holds(facts) {
                continue;
            }
            if let Some(can) = rule.can.as_ref().filter(|can| !can.holds(facts)) {
                if let Some(obstacle) = self.obstacle(can, facts, seen) {
                    let _ = write!(passed_over, "; not {}: {obstacle}", rule.next.name());
                }
                continue;
            }
            let terms = rule.when.terms.iter();
            let numbers: Vec<_> = terms.filter_map(|(bit, _)| seen.in_numbers(*bit)).collect();
            let colon = if numbers.is_empty() { "" } else { ": " };
            return Decision {
                next: rule.next,
                reason: format!("{}{colon}{}{passed_over}", rule.name, numbers.join(", ")),
                wait: self.late.holds(facts),
            };
        }
        Decision {
            next: Next::Unsure,
            reason: format!("no rule{passed_over}"),
            wait: false,
        }
    }

    /// The first term that stands in the way, in words.
    fn obstacle(&self, can: &Test, facts: Facts, seen: &Seen) -> Option<String> {
        let terms = can.terms.iter();
        let (bit, wanted) = terms
            .copied()
            .find(|(bit, wanted)| (facts & bit != 0) != *wanted)?;
        seen.in_numbers(bit).or_else(|| {
            let name = self.names[bit.trailing_zeros() as usize].replace('_', " ");
            Some(if wanted { format!("no {name}") } else { name })
        })
    }

    /// Names of the facts that hold, for people.
    pub fn in_words(&self, facts: Facts) -> String {
        let names = self.names.iter().enumerate();
        let holding: Vec<_> = names
            .filter(|(at, _)| facts & (1 << at) != 0)
            .map(|(_, name)| name.as_str())
            .collect();
        holding.join(" ")
    }
}
