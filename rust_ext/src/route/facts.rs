//! What is true of a text and its node, as bits: the vocabulary of the rules in `route.toml`.

use super::{Link, Neighbour, Priority, Rules, Situation};

/// Facts that hold, one bit each; the first [`NAMES`] bits, then those that the rule file makes of them.
pub(super) type Facts = u64;

macro_rules! facts {
    ($($constant:ident $name:literal)*) => {
        /// Names of the given facts in the order of their bits.
        pub(super) const NAMES: &[&str] = &[$($name),*];
        facts!(@bits 0u32; $($constant)*);
    };
    (@bits $at:expr; $constant:ident $($rest:ident)*) => {
        pub(super) const $constant: Facts = 1 << $at;
        facts!(@bits $at + 1; $($rest)*);
    };
    (@bits $at:expr;) => {};
}

facts! {
    EMERGENCY "emergency" URGENT "urgent" ROUTINE "routine"
    NEEDS "needs" ASKS "asks"
    NOT_RETRIEVED "not_retrieved" SURE "sure" NEAR "near" FAR "far"
    LINK_UP "link_up" LINK_DOWN "link_down" NO_CENTRE "no_centre"
    NEIGHBOUR "neighbour" NEIGHBOUR_MODEL "neighbour_model" NODE_ONLY "node_only" MONEY "money"
    BATTERY_FOR_LINK "battery_for_link" BATTERY_FOR_MODEL "battery_for_model"
    BATTERY_FOR_ROUTINE "battery_for_routine" MEMORY_FOR_MODEL "memory_for_model" MODEL_READY "model_ready"
    TIME_FOR_SMALL_MODEL "time_for_small_model" TIME_FOR_BIG_MODEL "time_for_big_model"
}

/// A situation with what is unknown filled in, so that a reason can give the numbers.
pub(super) struct Seen<'a> {
    rules: &'a Rules,
    confidence: Option<f64>,
    battery: f64,
    memory: f64,
    deadline_s: f64,
    /// The given facts that hold.
    pub facts: Facts,
}

impl<'a> Seen<'a> {
    pub fn new(rules: &'a Rules, at: &Situation) -> Self {
        let confidence = at.confidence.filter(|value| !value.is_nan());
        let battery = known(at.battery_percent).unwrap_or(rules.battery.unknown);
        let memory = known(at.free_memory_mb).unwrap_or(rules.memory.unknown);
        let given = [
            match at.priority {
                Priority::Emergency => (EMERGENCY, true),
                Priority::Urgent => (URGENT, true),
                Priority::Normal => (ROUTINE, true),
            },
            match confidence {
                None => (NOT_RETRIEVED, true),
                Some(value) if value >= rules.confidence.sure => (SURE, true),
                Some(value) if value >= rules.confidence.unsure => (NEAR, true),
                Some(_) => (FAR, true),
            },
            match at.link {
                Link::Up => (LINK_UP, true),
                Link::Down => (LINK_DOWN, true),
                Link::Unknown => (NO_CENTRE, true),
            },
            (NEEDS, at.has_needs),
            (ASKS, at.asks),
            (NEIGHBOUR, at.neighbour == Some(Neighbour::Link)),
            (NEIGHBOUR_MODEL, at.neighbour == Some(Neighbour::Model)),
            (NODE_ONLY, at.node_only),
            (MONEY, at.within_budget),
            (BATTERY_FOR_LINK, battery >= rules.battery.link_from),
            (BATTERY_FOR_MODEL, battery >= rules.battery.model_from),
            (BATTERY_FOR_ROUTINE, battery >= rules.battery.routine_from),
            (MEMORY_FOR_MODEL, memory >= rules.memory.model_from),
            (MODEL_READY, at.model_ready != Some(false)),
            (
                TIME_FOR_SMALL_MODEL,
                at.deadline_s >= rules.deadline.small_model,
            ),
            (
                TIME_FOR_BIG_MODEL,
                at.deadline_s >= rules.deadline.big_model,
            ),
        ];
        let facts = given
            .iter()
            .filter(|(_, holds)| *holds)
            .fold(0, |facts, (fact, _)| facts | fact);
        Self {
            rules,
            confidence,
            battery,
            memory,
            deadline_s: at.deadline_s,
            facts,
        }
    }

    /// One fact in words with its numbers, as it stands; `None` where the name says it all.
    pub fn in_numbers(&self, fact: Facts) -> Option<String> {
        let (sure, unsure) = (self.rules.confidence.sure, self.rules.confidence.unsure);
        let side = |value: f64, limit: f64| if value < limit { "below" } else { "not below" };
        let battery = |limit: f64| {
            let side = side(self.battery, limit);
            Some(format!(
                "battery {:.0} % is {side} {limit:.0} %",
                self.battery
            ))
        };
        let memory = self.rules.memory.model_from;
        match (fact, self.confidence) {
            (SURE, Some(value)) => Some(format!("{value:.2} >= {sure:.2}")),
            (NEAR, Some(value)) => Some(format!("{unsure:.2} <= {value:.2} < {sure:.2}")),
            (FAR, Some(value)) => Some(format!("{value:.2} < {unsure:.2}")),
            (BATTERY_FOR_LINK, _) => battery(self.rules.battery.link_from),
            (BATTERY_FOR_MODEL, _) => battery(self.rules.battery.model_from),
            (BATTERY_FOR_ROUTINE, _) => battery(self.rules.battery.routine_from),
            (MEMORY_FOR_MODEL, _) => Some(format!(
                "{:.0} MB free are {} {memory:.0} MB",
                self.memory,
                side(self.memory, memory)
            )),
            (TIME_FOR_SMALL_MODEL | TIME_FOR_BIG_MODEL, _) => {
                Some(format!("{:.1} s left", self.deadline_s))
            }
            _ => None,
        }
    }
}

/// A number that can be compared; not-a-number and infinity count as unknown.
pub(super) fn known(value: Option<f64>) -> Option<f64> {
    value.filter(|number| number.is_finite())
}
