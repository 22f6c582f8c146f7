//! Which rung of the ladder answers a text: a pure function of what is known about text and node.
//!
//! Limits and rules are data, `actors/knowledge/route.toml`: [`facts`] turns a situation into bits, [`ladder`]
//! finds the first rule that holds, and [`promises`] refuses a file whose rules could cost a life. What is unknown
//! counts as the worst that is still useful, and every decision says its reason. A decision takes less time
//! than a look into a cache would: there is none.

mod facts;
mod ladder;
mod promises;

use std::collections::BTreeMap;

use serde::Deserialize;

use facts::{BATTERY_FOR_MODEL, MEMORY_FOR_MODEL, Seen, known};
use ladder::{Ladder, LateText, RuleText};

/// Why the rules could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// Not TOML, a missing or an unknown key.
    #[error("route rules: {0}")]
    Syntax(#[from] toml::de::Error),
    /// Two limits are in the wrong order or out of range.
    #[error("route rules: {0}")]
    Limits(&'static str),
    /// A rule or a fact cannot be read.
    #[error("route rules: {0}: {1}")]
    Rule(String, String),
    /// The rules break a promise: which, and the facts that hold when they do.
    #[error("route rules break a promise: {0}; they do when {1}")]
    Promise(&'static str, String),
}

/// Limits of the retrieval confidence, 0 to 1.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Confidence {
    sure: f64,
    unsure: f64,
}

/// Limits of the battery in per cent.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Battery {
    link_from: f64,
    model_from: f64,
    routine_from: f64,
    full_answer_from: f64,
    unknown: f64,
    margin: f64,
}

/// Limits of the free memory in megabytes.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Memory {
    model_from: f64,
    unknown: f64,
    margin: f64,
}

/// Seconds that must be left for a rung.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Deadline {
    small_model: f64,
    big_model: f64,
}

/// The file as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    confidence: Confidence,
    battery: Battery,
    memory: Memory,
    deadline: Deadline,
    facts: BTreeMap<String, String>,
    rule: Vec<RuleText>,
    late: LateText,
}

/// Limits and rules, checked.
#[derive(Clone, Debug)]
pub struct Rules {
    confidence: Confidence,
    battery: Battery,
    memory: Memory,
    deadline: Deadline,
    ladder: Ladder,
}

/// Limits of one measured quantity, for whoever keeps a decision from flapping about them.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// In rising order.
    pub at: Vec<f64>,
    /// A limit that was crossed downwards counts as crossed until the value is so far above it.
    pub margin: f64,
}

/// How urgent a text is, as triage says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Life or limb may be lost within minutes to hours.
    Emergency,
    /// Help is needed within hours to days.
    Urgent,
    /// Everything else.
    Normal,
}

/// State of the connection to a centre.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// The centre answers.
    Up,
    /// There is none now, and questions may wait for it.
    Down,
    /// There is no centre, or nobody has looked: nothing to wait for.
    Unknown,
}

/// The best that a node on the mesh has to answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// A connection to a centre.
    Link,
    /// No connection, but a small model that may run.
    Model,
}

/// Everything a decision depends on.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools)] // each is a fact of its own, none a state
pub struct Situation {
    /// Urgency of the text.
    pub priority: Priority,
    /// Whether the text asks for something: chatter has no needs.
    pub has_needs: bool,
    /// Whether it puts a question.
    pub asks: bool,
    /// Retrieval confidence of the best passage, `None` before retrieval.
    pub confidence: Option<f64>,
    /// Seconds left until the person should have an answer.
    pub deadline_s: f64,
    /// The text may not leave this machine.
    pub node_only: bool,
    /// Battery in per cent.
    pub battery_percent: Option<f64>,
    /// Free memory in megabytes.
    pub free_memory_mb: Option<f64>,
    /// Whether the small model can be used; `None` counts as yes, since its actor has a way out.
    pub model_ready: Option<bool>,
    /// Connection to the centre.
    pub link: Link,
    /// What a node on the mesh could answer with.
    pub neighbour: Option<Neighbour>,
    /// Money is left for the big model, where it costs any.
    pub within_budget: bool,
}

impl Situation {
    /// A text in need of which nothing else is known.
    pub fn unknown(priority: Priority) -> Self {
        Self {
            priority,
            has_needs: true,
            asks: true,
            confidence: None,
            deadline_s: 0.0,
            node_only: false,
            battery_percent: None,
            free_memory_mb: None,
            model_ready: None,
            link: Link::Unknown,
            neighbour: None,
            within_budget: true,
        }
    }
}

/// Where a text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A reviewed template, at once.
    Template,
    /// Retrieval.
    Rag,
    /// The best passage as it was written.
    Verbatim,
    /// The node's small model.
    SmallModel,
    /// The centre's big model.
    BigModel,
    /// A node on the mesh that has a connection or a small model.
    Mesh,
    /// An honest "I do not know".
    Unsure,
    /// The same, and that the battery is why nothing more was tried.
    LowBattery,
}

impl Next {
    const ALL: [Self; 8] = [
        Self::Template,
        Self::Rag,
        Self::Verbatim,
        Self::SmallModel,
        Self::BigModel,
        Self::Mesh,
        Self::Unsure,
        Self::LowBattery,
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|next| next.name() == name)
    }

    /// Name on the wire: a subject where there is one.
    pub fn name(self) -> &'static str {
        match self {
            Self::Template => "sms.out",
            Self::Rag => "rag",
            Self::Verbatim => "compress",
            Self::SmallModel => "infer.small",
            Self::BigModel => "infer.large",
            Self::Mesh => "mesh.out",
            Self::Unsure => "unsure",
            Self::LowBattery => "low_battery",
        }
    }
}

/// A decision and its reason for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Where the text goes.
    pub next: Next,
    /// A short code and the numbers that decided.
    pub reason: String,
    /// The centre is asked too, as soon as there is a link again.
    pub wait: bool,
}

impl Rules {
    /// Reads and checks the rules.
    ///
    /// # Errors
    /// [`RouteError`] for anything that is not a complete set of limits in order, with rules that keep every
    /// promise.
    pub fn parse(toml_text: &str) -> Result<Self, RouteError> {
        let file: File = toml::from_str(toml_text)?;
        let rules = Self {
            confidence: file.confidence,
            battery: file.battery,
            memory: file.memory,
            deadline: file.deadline,
            ladder: Ladder::compile(&file.facts, &file.rule, &file.late)?,
        };
        let c = rules.confidence;
        if !(0.0 <= c.unsure && c.unsure <= c.sure && c.sure <= 1.0) {
            return Err(RouteError::Limits("confidence: 0 <= unsure <= sure <= 1"));
        }
        let b = rules.battery;
        let ordered = 0.0 <= b.routine_from
            && b.routine_from <= b.model_from
            && b.model_from <= b.link_from
            && b.link_from <= 100.0;
        let within = [b.unknown, b.full_answer_from, b.margin];
        if !ordered || !within.iter().all(|value| (0.0..=100.0).contains(value)) {
            return Err(RouteError::Limits(
                "battery: 0 <= routine_from <= model_from <= link_from <= 100, the others within",
            ));
        }
        if rules.deadline.small_model > rules.deadline.big_model {
            return Err(RouteError::Limits("deadline: small_model <= big_model"));
        }
        let positive = [
            rules.memory.model_from,
            rules.memory.unknown,
            rules.memory.margin,
            rules.deadline.small_model,
            rules.deadline.big_model,
        ];
        if positive
            .iter()
            .any(|limit| !(limit.is_finite() && *limit >= 0.0))
        {
            return Err(RouteError::Limits("memory and deadline: not negative"));
        }
        promises::check(&rules.ladder)?;
        Ok(rules)
    }

    /// Confidence from which a passage is sent as it was written.
    pub fn sure(&self) -> f64 {
        self.confidence.sure
    }

    /// Confidence below which no passage is good enough.
    pub fn unsure(&self) -> f64 {
        self.confidence.unsure
    }

    /// Limits of the battery, per cent.
    pub fn battery_limits(&self) -> Limits {
        let b = &self.battery;
        let mut at = vec![
            b.routine_from,
            b.model_from,
            b.full_answer_from,
            b.link_from,
        ];
        at.sort_by(f64::total_cmp);
        at.dedup();
        Limits {
            at,
            margin: b.margin,
        }
    }

    /// Limits of the free memory, megabytes.
    pub fn memory_limits(&self) -> Limits {
        Limits {
            at: vec![self.memory.model_from],
            margin: self.memory.margin,
        }
    }

    /// Why an answer should take one segment; `None` when it may take all. Only a routine one is ever
    /// shortened.
    pub fn brevity(&self, priority: Priority, battery_percent: Option<f64>) -> Option<String> {
        let battery = known(battery_percent).unwrap_or(self.battery.unknown);
        let limit = self.battery.full_answer_from;
        (priority == Priority::Normal && battery < limit)
            .then(|| format!("battery {battery:.0} % is below {limit:.0} %"))
    }

    /// Why the small model may not run now, whatever the text; `None` when it may.
    pub fn model_obstacle(
        &self,
        battery_percent: Option<f64>,
        free_memory_mb: Option<f64>,
    ) -> Option<String> {
        let seen = Seen::new(
            self,
            &Situation {
                battery_percent,
                free_memory_mb,
                ..Situation::unknown(Priority::Normal)
            },
        );
        [BATTERY_FOR_MODEL, MEMORY_FOR_MODEL]
            .into_iter()
            .find(|fact| seen.facts & fact == 0)
            .and_then(|fact| seen.in_numbers(fact))
    }

    /// Decides. Not-a-number counts as unknown.
    pub fn decide(&self, at: &Situation) -> Decision {
        self.ladder.decide(&Seen::new(self, at))
    }
}

#[cfg(test)]
mod tests;
