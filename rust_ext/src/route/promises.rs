//! What no rule file may break, tried on every situation there can be (82,944) when the file is read.

use super::facts::{
    ASKS, BATTERY_FOR_LINK, BATTERY_FOR_MODEL, BATTERY_FOR_ROUTINE, EMERGENCY, FAR, Facts,
    LINK_DOWN, LINK_UP, MEMORY_FOR_MODEL, MODEL_READY, MONEY, NEAR, NEEDS, NEIGHBOUR,
    NEIGHBOUR_MODEL, NO_CENTRE, NODE_ONLY, NOT_RETRIEVED, ROUTINE, SURE, TIME_FOR_BIG_MODEL,
    TIME_FOR_SMALL_MODEL, URGENT,
};
use super::ladder::Ladder;
use super::{Next, RouteError};

/// Facts of which exactly one combination holds: what is decided once, and what grows with a battery or
/// with time.
const CHOICES: [&[Facts]; 12] = [
    &[EMERGENCY, URGENT, ROUTINE],
    &[NOT_RETRIEVED, SURE, NEAR, FAR],
    &[LINK_UP, LINK_DOWN, NO_CENTRE],
    &[
        0,
        BATTERY_FOR_ROUTINE,
        BATTERY_FOR_ROUTINE | BATTERY_FOR_MODEL,
        BATTERY_FOR_ROUTINE | BATTERY_FOR_MODEL | BATTERY_FOR_LINK,
    ],
    &[0, NEEDS],
    &[0, ASKS],
    &[0, NEIGHBOUR_MODEL, NEIGHBOUR],
    &[0, NODE_ONLY],
    &[0, MONEY],
    &[0, MEMORY_FOR_MODEL],
    &[0, MODEL_READY],
    &[
        0,
        TIME_FOR_SMALL_MODEL,
        TIME_FOR_SMALL_MODEL | TIME_FOR_BIG_MODEL,
    ],
];

/// What the small model needs besides a passage.
const SMALL_MODEL: Facts =
    BATTERY_FOR_MODEL | MEMORY_FOR_MODEL | MODEL_READY | TIME_FOR_SMALL_MODEL;

/// Refuses rules that break a promise, with the promise and a situation that shows it; and a rule that never
/// decides, because whoever wrote it thinks that it does.
pub(super) fn check(ladder: &Ladder) -> Result<(), RouteError> {
    let mut idle: Vec<_> = ladder.rule_names().map(Some).collect();
    for facts in situations() {
        let broken = match ladder.outcome(facts) {
            None => Some("every text has a rule"),
            Some((rule, next, late)) => {
                idle[rule] = None;
                broken(facts, next, late)
            }
        };
        if let Some(promise) = broken {
            return Err(RouteError::Promise(promise, ladder.in_words(facts)));
        }
    }
    match idle.into_iter().flatten().next() {
        Some(name) => Err(RouteError::Rule(
            format!("rule {name:?}"),
            "it never decides: the rules above it take all its texts".to_owned(),
        )),
        None => Ok(()),
    }
}

/// Every combination of facts that there can be.
pub(super) fn situations() -> impl Iterator<Item = Facts> {
    let count: usize = CHOICES.iter().map(|choice| choice.len()).product();
    (0..count).map(|mut at| {
        CHOICES.iter().fold(0, |facts, choice| {
            let chosen = choice[at % choice.len()];
            at /= choice.len();
            facts | chosen
        })
    })
}

/// The promise that an outcome breaks.
fn broken(facts: Facts, next: Next, late: bool) -> Option<&'static str> {
    let all = |wanted: Facts| facts & wanted == wanted;
    let any = |wanted: Facts| facts & wanted != 0;
    if all(EMERGENCY) != (next == Next::Template) {
        return Some("an emergency gets its reviewed text, and nothing else does");
    }
    if all(EMERGENCY) {
        return late.then_some("an emergency is answered once");
    }
    if all(NOT_RETRIEVED) != (next == Next::Rag) {
        return Some("what was not looked up is looked up, once");
    }
    if all(SURE) && next != Next::Verbatim {
        return Some("a sure passage is sent as it was written");
    }
    let leaves = matches!(next, Next::BigModel | Next::Mesh) || late;
    if all(NODE_ONLY) && leaves {
        return Some("what may not leave the node stays on it");
    }
    match next {
        Next::Verbatim if all(FAR) => Some("a passage that is about something else is never sent"),
        Next::SmallModel if all(FAR) && any(NEEDS | URGENT) => {
            Some("nobody in need gets advice from the small model without a passage")
        }
        Next::SmallModel if !all(SMALL_MODEL) => {
            Some("the small model runs with battery, memory and time enough")
        }
        Next::BigModel if !all(LINK_UP | MONEY | BATTERY_FOR_LINK | TIME_FOR_BIG_MODEL) => {
            Some("the centre is asked with link, money, battery and time enough")
        }
        Next::Mesh
            if !(any(NEIGHBOUR | NEIGHBOUR_MODEL) && all(BATTERY_FOR_ROUTINE)) || any(LINK_UP) =>
        {
            Some("a neighbour is asked when it has a link or a model, and this node has no link")
        }
        Next::Mesh if all(NEIGHBOUR_MODEL | SMALL_MODEL) => {
            Some("a neighbour's model is not asked while this node's own can answer")
        }
        Next::LowBattery if any(BATTERY_FOR_ROUTINE) => {
            Some("nobody is told of a low battery that is not")
        }
        _ if late && !all(LINK_DOWN | MONEY | BATTERY_FOR_LINK) => {
            Some("a question waits for a link that is down, with money and battery")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Rules;
    use super::*;

    const RULES: &str = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../actors/knowledge/route.toml"
    ));

    #[test]
    fn there_are_so_many_situations_and_all_differ() {
        let mut all: Vec<_> = situations().collect();
        assert_eq!(all.len(), 82_944);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 82_944);
    }

    #[test]
    fn a_file_that_breaks_a_promise_is_refused_with_an_example() {
        for (from, to, promise) in [
            (
                "when = \"emergency\"",
                "when = \"emergency and link_up\"",
                "an emergency gets",
            ),
            (
                "when = \"not_retrieved\"",
                "when = \"not_retrieved or near\"",
                "looked up",
            ),
            (
                "when = \"sure\"\nnext = \"compress\"",
                "when = \"sure\"\nnext = \"unsure\"",
                "a sure passage",
            ),
            (
                "centre = \"not node_only and ",
                "centre = \"",
                "stays on it",
            ),
            ("mesh = \"not node_only and ", "mesh = \"", "stays on it"),
            (
                "when = \"far and in_need\"",
                "when = \"far and urgent\"",
                "nobody in need",
            ),
            (
                "model_ready and battery_for_model and ",
                "model_ready and ",
                "battery, memory",
            ),
            (
                "and money and battery_for_link and time",
                "and battery_for_link and time",
                "link, money",
            ),
            ("neighbour and not link_up", "not link_up", "a neighbour"),
            (
                "neighbour_model and not small_model",
                "not small_model",
                "a neighbour",
            ),
            (
                "neighbour_model and not small_model",
                "neighbour_model",
                "own can answer",
            ),
            (
                "routine and not battery_for_routine",
                "routine and needs",
                "low battery",
            ),
            (
                "link_down and worth_asking",
                "worth_asking",
                "waits for a link",
            ),
            (
                "and not emergency and not not",
                "and not not",
                "answered once",
            ),
            (
                "when = \"near\"\nnext = \"compress\"",
                "when = \"near or far\"\nnext = \"compress\"",
                "about something else",
            ),
            (
                "[[rule]]\nname = \"far\"\nwhen = \"far\"\nnext = \"unsure\"",
                "",
                "every text has a rule",
            ),
        ] {
            let changed = RULES.replacen(from, to, 1);
            assert_ne!(changed, RULES, "{from}");
            let error = Rules::parse(&changed).expect_err(to).to_string();
            assert!(error.contains(promise), "{from}: {error}");
            assert!(error.contains("when "), "{error}");
        }
    }
}
