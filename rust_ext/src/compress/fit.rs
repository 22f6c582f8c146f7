//! Fits a text into a number of segments, in stages, each only as far as it needs.
//!
//! 1. Clean-up that loses nothing ([`clean`]); a text that now fits is done, a verbatim one goes to stage 4.
//! 2. Courtesy goes, then long words and phrases for their short forms ([`shorten`]).
//! 3. Sentences that say nothing go, from the end ([`drop`]); small words as in a headline ([`shorten`]).
//! 4. What still does not fit is kept for MORE: the sentences to send first are chosen ([`Outline`]), or the text
//!    is cut between steps or sentences ([`cut`]).
//!
//! No stage may change a fact: what a stage makes is compared with what it was given ([`Draft::rephrased`]).

use thiserror::Error;

use super::clean;
use super::cut::{self, GOES_ON};
use super::draft::Draft;
use super::drop;
use super::rules::Rules;
use super::select::Outline;
use super::shorten::{self, Stage};
use crate::sms::segment::{Encoding, MAX_SEGMENTS, Size, measure};

/// Units that a piece has at least for its own words beside the hint.
const LEAST_ROOM: usize = 20;

/// Octets of a text at most: 255 segments hold 39,015 characters of four octets at the very most.
pub const MAX_TEXT_OCTETS: usize = 1 << 18;

/// A request that cannot be met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FitError {
    /// Not a number of segments that a text can have.
    #[error("max_segments is {0}, it must be 1 to {MAX_SEGMENTS}")]
    Segments(usize),
    /// The hint leaves no room for the text.
    #[error("a hint of {units} units leaves no room in {segments} UCS-2 segments")]
    Hint {
        /// UTF-16 units of the hint.
        units: usize,
        /// Segments asked for.
        segments: usize,
    },
    /// No answer is so long.
    #[error("a text of {0} octets is no answer: {MAX_TEXT_OCTETS} at most")]
    TooLong(usize),
}

/// How short a text shall be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Level {
    /// Each stage only as far as the segments need: a text that fits is left alone.
    #[default]
    AsNeeded,
    /// The fewest segments that hold all of it: stages 2 and 3 are also gone to where they save a segment.
    Brief,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Request<'t> {
    /// The text to fit.
    pub text: &'t str,
    /// Its language code.
    pub lang: &'t str,
    /// A reviewed text: clean-up only.
    pub verbatim: bool,
    /// Segments it may take, 1 to 255.
    pub max_segments: usize,
    /// Stands at the end of a text that has a rest and counts into its segments; may be empty.
    pub hint: &'t str,
    /// How short it shall be.
    pub level: Level,
}

/// A text that fits, and what became of the remainder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fitted {
    /// What to send, the hint included when there is a rest.
    pub text: String,
    /// Its size.
    pub size: Size,
    /// Octets of user data of the text as it was given.
    pub octets_in: usize,
    /// Sentences left out for good, as they were.
    pub dropped: Vec<String>,
    /// What did not fit, for MORE; empty when everything did.
    pub rest: String,
}

/// Fits one text. Linear, and any Unicode is a text.
///
/// # Errors
/// [`FitError`] when the text is too long to be an answer, or the number of segments or the hint impossible.
pub fn fit(request: Request<'_>, rules: &Rules) -> Result<Fitted, FitError> {
    refuse_impossible(&request)?;
    let Request {
        text,
        lang,
        verbatim,
        max_segments,
        hint,
        level,
    } = request;
    let octets_in = measure(text).octets();
    let language = rules.language(lang);
    let may_shorten = !verbatim && language.known();
    let mut tidy = clean::tidy(text);
    if !verbatim {
        tidy = clean::plain(&tidy);
    }
    let mut made = Made::new(Draft::new(tidy, language, rules));
    let saves = level == Level::Brief && made.size.count > 1;
    if may_shorten && (saves || made.size.count > max_segments) {
        let wanted = match level {
            Level::AsNeeded => max_segments,
            Level::Brief => {
                let least = shortened(made.draft.clone(), 1).size.count;
                least.min(max_segments)
            }
        };
        made = shortened(made.draft, wanted);
    }
    let (text, rest) = if made.size.count <= max_segments {
        (made.text, String::new())
    } else {
        parted(&made.text, &made.draft, max_segments, hint, may_shorten)
    };
    Ok(Fitted {
        size: measure(&text),
        text,
        octets_in,
        dropped: made.dropped,
        rest,
    })
}

fn refuse_impossible(request: &Request<'_>) -> Result<(), FitError> {
    let segments = request.max_segments;
    if !(1..=MAX_SEGMENTS).contains(&segments) {
        return Err(FitError::Segments(segments));
    }
    let units = request.hint.encode_utf16().count();
    if units + 1 + 2 * GOES_ON.len() + LEAST_ROOM > drop::room(Encoding::Ucs2, segments) {
        return Err(FitError::Hint { units, segments });
    }
    let octets = request.text.len();
    if octets > MAX_TEXT_OCTETS {
        return Err(FitError::TooLong(octets));
    }
    Ok(())
}

/// A text with what it is written like to be sent.
struct Made<'r> {
    draft: Draft<'r>,
    text: String,
    size: Size,
    dropped: Vec<String>,
}

impl<'r> Made<'r> {
    fn new(draft: Draft<'r>) -> Self {
        let text = clean::dress(&draft);
        Self {
            size: measure(&text),
            text,
            draft,
            dropped: Vec::new(),
        }
    }

    /// Shortened by one stage if it is still too long.
    fn shorter(self, stage: Stage, wanted: usize) -> Self {
        if self.size.count <= wanted {
            return self;
        }
        match shorten::shorten(&self.draft, stage) {
            Some(draft) => Self {
                dropped: self.dropped,
                ..Self::new(draft)
            },
            None => self,
        }
    }
}

/// Stages 2 and 3, as far as `wanted` segments need.
fn shortened(draft: Draft<'_>, wanted: usize) -> Made<'_> {
    let plain = clean::undecorated(&draft.text);
    let mut made = Made::new(draft.with(plain));
    for stage in [Stage::Courtesy, Stage::ShortForms] {
        made = made.shorter(stage, wanted);
    }
    if made.size.count > wanted {
        let (draft, dropped) = drop::drop_worthless(made.draft, made.size, wanted);
        made = Made {
            dropped,
            ..Made::new(draft)
        };
    }
    made.shorter(Stage::Headline, wanted)
}

/// What of a text that does not fit is sent, and what waits: chosen sentences, or the beginning of the text where
/// that counts for more.
fn parted(
    text: &str,
    draft: &Draft<'_>,
    max_segments: usize,
    hint: &str,
    may_choose: bool,
) -> (String, String) {
    let (head, rest) = cut::divide(text, max_segments, hint, draft.language, draft.rules);
    let said = head.strip_suffix(hint).unwrap_or(&head);
    if !may_choose {
        return (head, rest);
    }
    let outline = Outline::new(draft);
    let mut best = (outline.value(said, &rest), head, rest);
    if let Some(chosen) = outline.select(max_segments, hint)
        && chosen.value >= best.0
    {
        best = (chosen.value, chosen.text, chosen.rest);
    }
    // The first thing to do is too long: its beginning says more than what comes later.
    if let Some((before, from)) = outline.first_action_on() {
        let from = clean::dress(&Draft::new(from.to_owned(), draft.language, draft.rules));
        let (head, rest) = cut::divide(&from, max_segments, hint, draft.language, draft.rules);
        let said = head.strip_suffix(hint).unwrap_or(&head);
        let value = outline.value_from(said, &rest);
        if value > best.0 {
            let lines = [rest.as_str(), before].map(str::trim).join("\n");
            best = (value, head, lines.trim().to_owned());
        }
    }
    (best.1, best.2)
}

#[cfg(test)]
mod tests {
    use super::super::facts::{self, FactKind};
    use super::super::testing;
    use super::super::tokens::{self, Kind};
    use super::*;
    use proptest::prelude::*;

    const HINT: &str = "Text MORE for the rest.";

    fn fitted(text: &str, lang: &str, verbatim: bool, max_segments: usize) -> Fitted {
        let request = Request {
            text,
            lang,
            verbatim,
            max_segments,
            hint: HINT,
            level: Level::AsNeeded,
        };
        fit(request, testing::rules()).unwrap()
    }

    #[test]
    fn a_text_that_fits_is_left_alone() {
        let text = "Please make sure to boil the water. I hope this helps!";
        let result = fitted(text, "en", false, 1);
        assert_eq!((result.text.as_str(), result.rest.as_str()), (text, ""));
        assert_eq!(fitted("", "en", false, 1).size.count, 1);
    }

    #[test]
    fn stages_go_only_as_far_as_they_must() {
        let text = "Please make sure to boil the water for 5 minutes. In order to kill germs, please keep it at a \
            rolling boil. It is important to not drink it before. You should never mix bleach with ammonia. I hope \
            this helps! Stay safe.";
        let result = fitted(text, "en", false, 1);
        assert_eq!(
            result.text,
            "Boil the water for 5 min. To kill germs, keep it at a rolling boil. It is important to not drink it \
             before. You should never mix bleach with ammonia."
        );
        assert_eq!(result.dropped, ["I hope this helps!", "Stay safe."]);
        assert_eq!(result.rest, "");
        assert_eq!(fitted(text, "en", false, 2).text, text);
        let verbatim = fitted(text, "en", true, 1);
        assert!(
            verbatim
                .text
                .starts_with("Please make sure to boil the water for 5 minutes.")
        );
        assert!(verbatim.dropped.is_empty());
    }

    #[test]
    fn a_step_is_not_divided() {
        let text = "1. Press hard on the wound with a clean cloth. Do not lift the cloth to look. 2. If blood soaks \
            through, add more cloth on top and press harder for at least 10 minutes. Do not stop.";
        let result = fitted(text, "en", true, 1);
        let first = "1. Press hard on the wound with a clean cloth. Do not lift the cloth to look.";
        assert_eq!(result.text, format!("{first} {HINT}"));
        assert!(result.rest.starts_with("2. If blood"));
    }

    #[test]
    fn a_sentence_that_is_too_long_shows_that_it_goes_on() {
        let text = format!(
            "Do not {} at least 20 minutes",
            "walk or run or ".repeat(12)
        );
        let result = fitted(&text, "en", true, 1);
        assert!(result.text.ends_with(&format!("... {HINT}")));
        assert!(result.rest.starts_with("..."));
    }

    #[test]
    fn impossible_requests_are_errors_with_their_numbers() {
        let request = Request {
            text: "a",
            lang: "en",
            verbatim: false,
            max_segments: 0,
            hint: "",
            level: Level::AsNeeded,
        };
        assert_eq!(fit(request, testing::rules()), Err(FitError::Segments(0)));
        let hint = "x".repeat(60);
        let request = Request {
            max_segments: 1,
            hint: &hint,
            ..request
        };
        assert_eq!(
            fit(request, testing::rules()),
            Err(FitError::Hint {
                units: 60,
                segments: 1
            })
        );
    }

    fn prose() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("Do not move the person unless there is danger. "),
            Just("Please give 5 ml every 4 hours, no more than 20 ml a day. "),
            Just("Never mix bleach with vinegar! "),
            Just("1. Boil the water for 1 minute. "),
            Just("- Call 0800 123 456 at 10:30.\n"),
            Just("In order to help, kindly press on the wound; then wait 10-15 minutes. "),
            Just("I hope this helps! "),
            Just("“Aspirin” – half a tablet… "),
            Just("Más información en la “clínica” de Nairobi. "),
            Just("walk, run, jump and so on "),
            Just("😊. "),
        ];
        prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
    }

    fn facts_of(text: &str) -> Vec<(FactKind, String)> {
        let rules = testing::rules();
        let mut keys: Vec<_> = facts::facts(text, rules.language("en"), rules)
            .into_iter()
            .map(|fact| (fact.kind, fact.key))
            .collect();
        keys.sort();
        keys
    }

    fn words_of(text: &str) -> Vec<String> {
        let language = testing::rules().language("en");
        let tokens = tokens::tokenise(text, language).into_iter();
        tokens
            .filter(|token| !matches!(token.kind, Kind::Mark(_)))
            .map(|token| token.key.into_owned())
            .collect()
    }

    /// Sentences that form one thought with the next, steps, warnings and what only tells.
    fn advice() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("Give paracetamol 500 mg every 6 hours. Never give it to a baby under 2 months. "),
            Just("Drink the water only if it was boiled. "),
            Just("Do not stand under a tree. "),
            Just("If you smell gas, do not use a switch. "),
            Just("Call 0800 123 456 at once. "),
            Just("The smoke of a fire in a closed room holds a gas without any smell. "),
            Just("Most people feel better soon. "),
            Just("Cover the wound with a clean cloth and press on it with both of your hands. "),
            Just(
                "\n1. Wash your hands.\n2. Boil 2 litres of water.\n3. Add 8 drops, then wait 30 minutes.\n"
            ),
            Just("Sure! "),
            Just("Never mix bleach with vinegar. "),
        ];
        prop::collection::vec(piece, 4..12).prop_map(|pieces| pieces.concat())
    }

    #[test]
    fn a_word_that_is_a_sentence_goes_with_its_full_stop() {
        let text = format!(
            "Of course. {}",
            "Boil 5 ml of water, then 6 ml, then 7 ml. ".repeat(6)
        );
        assert!(fitted(&text, "en", false, 1).text.starts_with("Boil 5 ml"));
    }

    #[test]
    fn half_the_dose_stays_half_the_dose() {
        let text = format!(
            "{} Give half the dose, or twice the dose.",
            "Cool the burn now. ".repeat(7)
        );
        let result = fitted(&text, "en", false, 1);
        assert!(
            format!("{}{}", result.text, result.rest).contains("half the dose, or twice the dose")
        );
    }

    #[test]
    fn a_beginning_that_leaves_a_limit_behind_is_not_sent_for_what_stands_before_it() {
        let dose =
            "Give paracetamol 500 mg every 6 hours. Never give it to a baby under 2 months. ";
        let text = format!("Most people feel better soon. {}", dose.repeat(3));
        let sent = fitted(&text, "en", false, 1).text;
        let count = |what: &str| sent.matches(what).count();
        assert_eq!(count("500 mg"), count("Never give it"), "{sent}");
    }

    #[test]
    fn a_clause_is_not_cut_from_its_condition() {
        let text = format!(
            "Stay {} and drink the water from the tank in the yard of the school only if it has been boiled",
            "in the house with your family and your friends ".repeat(2)
        );
        let result = fitted(&text, "en", true, 1);
        let head = result.text.split("...").next().unwrap();
        assert!(
            !head.contains("drink") || head.contains("only if it"),
            "{head}"
        );
    }

    proptest! {
        #[test]
        fn any_unicode_fits(text in any::<String>(), many in 1usize..60, lang in "en|es|fr|pt|ar", verbatim: bool, max in 1usize..4) {
            let result = fitted(&text.repeat(many), &lang, verbatim, max);
            prop_assert!(result.size.count <= max);
            prop_assert_eq!(result.size, measure(&result.text));
        }

        #[test]
        fn every_fact_is_in_the_text_or_its_rest(text in prose(), verbatim: bool, max in 1usize..4) {
            let result = fitted(&text, "en", verbatim, max);
            let sent = result.text.strip_suffix(HINT).unwrap_or(&result.text);
            let mut kept = facts_of(sent);
            kept.extend(facts_of(&result.rest));
            kept.sort();
            prop_assert_eq!(facts_of(&text), kept);
            prop_assert!(result.dropped.iter().all(|sentence| facts_of(sentence).is_empty()));
        }

        #[test]
        fn pieces_of_a_verbatim_text_are_the_text(text in prose(), max in 1usize..3) {
            let mut words = Vec::new();
            let mut rest = text.clone();
            for _ in 0..=text.len() {
                let result = fitted(&rest, "en", true, max);
                prop_assert!(result.size.count <= max);
                words.extend(words_of(result.text.strip_suffix(HINT).unwrap_or(&result.text)));
                rest = result.rest;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(rest, "");
            prop_assert_eq!(words, words_of(&text));
        }

        #[test]
        fn fitting_again_changes_nothing(text in prose(), max in 1usize..4) {
            let once = fitted(&text, "en", false, max);
            if once.rest.is_empty() {
                prop_assert_eq!(fitted(&once.text, "en", false, max).text, once.text);
            }
        }

        #[test]
        fn what_is_sent_keeps_order_bonds_and_steps(text in advice(), max in 1usize..3) {
            let result = fitted(&text, "en", false, max);
            let sent = result.text.strip_suffix(HINT).unwrap_or(&result.text);
            let rules = testing::rules();
            let in_order = |text: &str| -> Vec<(FactKind, String)> {
                let found = facts::facts(text, rules.language("en"), rules);
                found.into_iter().map(|fact| (fact.kind, fact.key)).collect()
            };
            let all = in_order(&text);
            let mut left = all.iter();
            for fact in in_order(sent) {
                prop_assert!(left.any(|other| *other == fact), "{:?} is out of order in {}", fact, sent);
            }
            let count = |what: &str| sent.matches(what).count();
            prop_assert!(count("500 mg every 6 h") == count("Never give it to a baby"), "{}", sent);
            prop_assert!(count("2. Boil") <= count("1. Wash") && count("3. Add") <= count("2. Boil"));
            prop_assert_eq!(count("Drink"), count("only if it was boiled"));
            prop_assert_eq!(count("smell gas"), count("do not use a switch"));
            let again = fitted(&result.text, "en", false, max);
            prop_assert_eq!(again.text, result.text.clone());
        }

        #[test]
        fn brief_takes_no_more_segments_and_loses_nothing(text in prose(), max in 1usize..4) {
            let plain = fitted(&text, "en", false, max);
            let request = Request { text: &text, lang: "en", verbatim: false, max_segments: max, hint: HINT, level: Level::Brief };
            let brief = fit(request, testing::rules()).unwrap();
            prop_assert!(brief.size.count <= plain.size.count);
            let mut kept = facts_of(brief.text.strip_suffix(HINT).unwrap_or(&brief.text));
            kept.extend(facts_of(&brief.rest));
            kept.sort();
            prop_assert_eq!(facts_of(&text), kept);
            let again = fit(Request { text: &brief.text, ..request }, testing::rules()).unwrap();
            prop_assert_eq!(again.text, brief.text);
        }
    }
}
