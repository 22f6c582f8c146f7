//! Fits a text into a number of segments, in stages, each only as far as it needs.
//!
//! 1. Clean-up that loses nothing ([`clean`]); a text that now fits is done, a verbatim one goes to stage 5.
//! 2. Courtesy words and emoji go. 3. Well-known short forms. 4. Sentences that say nothing go, from the end.
//! 5. The text is cut between steps or sentences and the rest is kept for MORE.
//!
//! No stage may change a fact: what a stage makes is compared with what it was given.

use thiserror::Error;

use super::clauses;
use super::clean;
use super::facts::{self, Fact, FactKind};
use super::rules::{Language, Rules, Short};
use super::sentences::{self, Sentence};
use super::tokens::{self, Kind, Token};
use crate::sms::segment::{Encoding, MAX_SEGMENTS, Meter, Size, measure};

/// Shows that a sentence goes on in the next text, and that it began in the last one.
const GOES_ON: &str = "...";

/// Units that a piece has at least for its own words beside the hint.
const LEAST_ROOM: usize = 20;

/// A request that cannot be met whatever the text is.
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
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
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

/// Fits one text. Linear, and never fails on a text: any Unicode is one.
///
/// # Errors
/// [`FitError`] when the number of segments or the hint is impossible.
pub fn fit(request: Request<'_>, rules: &Rules) -> Result<Fitted, FitError> {
    let Request {
        text,
        lang,
        verbatim,
        max_segments,
        hint,
    } = request;
    refuse_impossible(max_segments, hint)?;
    let language = rules.language(lang);
    let octets_in = measure(text).octets();
    let mut tidy = clean::tidy(text);
    if !verbatim {
        tidy = clean::plain(&tidy);
    }
    let mut dropped = Vec::new();
    let mut best = clean::dress(&tidy, language, rules);
    let fits = |text: &str| measure(text).count <= max_segments;
    if !fits(&best) && !verbatim && language.known() {
        for stage in [Stage::Courtesy, Stage::ShortForms] {
            if stage == Stage::Courtesy {
                tidy = clean::undecorated(&tidy);
            }
            tidy = shorten(&tidy, stage, language, rules).unwrap_or(tidy);
            best = clean::dress(&tidy, language, rules);
            if fits(&best) {
                break;
            }
        }
        if !fits(&best) {
            (tidy, dropped) = drop_sentences(&tidy, measure(&best), max_segments, language, rules);
            best = clean::dress(&tidy, language, rules);
        }
    }
    let rest = if fits(&best) {
        String::new()
    } else {
        divide(&mut best, max_segments, hint, language, rules)
    };
    let size = measure(&best);
    Ok(Fitted {
        text: best,
        size,
        octets_in,
        dropped,
        rest,
    })
}

fn refuse_impossible(max_segments: usize, hint: &str) -> Result<(), FitError> {
    if !(1..=MAX_SEGMENTS).contains(&max_segments) {
        return Err(FitError::Segments(max_segments));
    }
    let room = if max_segments == 1 {
        Encoding::Ucs2.single()
    } else {
        Encoding::Ucs2.part() * max_segments
    };
    let units = hint.encode_utf16().count();
    if units + 1 + 2 * GOES_ON.len() + LEAST_ROOM > room {
        return Err(FitError::Hint {
            units,
            segments: max_segments,
        });
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Courtesy,
    ShortForms,
}

/// The text with the phrases of a stage shortened; None when that changes nothing, or would change a fact.
fn shorten(text: &str, stage: Stage, language: &Language, rules: &Rules) -> Option<String> {
    let tokens = tokens::tokenise(text, language);
    let starts: Vec<usize> = sentences::sentences(text, language)
        .iter()
        .map(|s| s.start + s.marker)
        .collect();
    let mut written = String::with_capacity(text.len());
    let mut copied = 0;
    let mut at = 0;
    // The next letter written takes over the capital of a word that went.
    let mut capital = false;
    // The token that begins a sentence now that what stood there is gone.
    let mut begins = None;
    while at < tokens.len() {
        let Some((length, short)) = language.short.at(&tokens[at..]) else {
            at += 1;
            continue;
        };
        let (token, behind) = (&tokens[at], tokens.get(at + length));
        let negator = |token: Option<&Token<'_>>| {
            token.is_some_and(|token| language.negators.contains(&token.key))
        };
        let before = at.checked_sub(1).map(|before| &tokens[before]);
        let first = begins == Some(at) || starts.binary_search(&token.start).is_ok();
        let to = match short {
            // "do not simply pour" is not "do not pour".
            Short::Remove if stage == Stage::Courtesy && !negator(before) => "",
            // "you should not eat" must not become "not eat".
            Short::RemoveFirst if stage == Stage::Courtesy && first && !negator(behind) => "",
            Short::Replace(to) if stage == Stage::ShortForms => to,
            Short::Unit(to)
                if stage == Stage::ShortForms && before.is_some_and(|b| is_number(b, language)) =>
            {
                to
            }
            _ => {
                at += 1;
                continue;
            }
        };
        copy(&mut written, &text[copied..token.start], &mut capital);
        let upper = capital || token.text.starts_with(char::is_uppercase);
        at += length;
        copied = tokens[at - 1].end;
        if to.is_empty() {
            copied = leave_out(&mut written, text, &tokens, &mut at);
            begins = first.then_some(at);
            capital = upper;
        } else {
            capital = upper;
            copy(&mut written, to, &mut capital);
        }
    }
    if copied == 0 {
        return None;
    }
    copy(&mut written, &text[copied..], &mut capital);
    let keys = |text: &str| -> Vec<_> {
        facts::facts(text, language, rules)
            .into_iter()
            .map(|fact| (fact.kind, fact.key))
            .collect()
    };
    (keys(text) == keys(&written)).then_some(written)
}

/// Appends a piece, its first character in upper case when `capital` says so.
fn copy(written: &mut String, piece: &str, capital: &mut bool) {
    let mut chars = piece.chars();
    if let Some(first) = chars.next().filter(|_| std::mem::take(capital)) {
        written.extend(first.to_uppercase());
        written.push_str(chars.as_str());
    } else {
        written.push_str(piece);
    }
}

/// Joins what is in front of a phrase that goes to what is behind it; returns where copying goes on.
fn leave_out(written: &mut String, text: &str, tokens: &[Token<'_>], at: &mut usize) -> usize {
    if tokens
        .get(*at)
        .is_some_and(|token| token.kind == Kind::Mark(','))
    {
        *at += 1;
    }
    let closes =
        |token: &Token<'_>| matches!(token.kind, Kind::Mark('.' | '!' | '?' | ';' | ':' | ')'));
    let breaks = |token: &Token<'_>| text[tokens[*at - 1].end..token.start].contains('\n');
    match tokens.get(*at) {
        Some(token) if breaks(token) => {
            written.truncate(written.trim_end_matches([' ', ',']).len());
            tokens[*at - 1].end
        }
        Some(token) if !closes(token) => token.start,
        last => {
            written.truncate(written.trim_end_matches([' ', ',']).len());
            last.map_or(text.len(), |token| token.start)
        }
    }
}

fn is_number(token: &Token<'_>, language: &Language) -> bool {
    token.kind == Kind::Number || language.numbers.contains_key(&token.key)
}

/// The text without sentences of no value, taken from the end until it fits, and those sentences.
///
/// Such a sentence begins with a phrase that only politeness uses, or repeats words of the sentences before it;
/// beyond that phrase it has no fact and no name, and it is no list item.
fn drop_sentences(
    text: &str,
    size: Size,
    max_segments: usize,
    language: &Language,
    rules: &Rules,
) -> (String, Vec<String>) {
    let reading = clauses::read(text, language, rules);
    let sentences = sentences::sentences(text, language);
    let room = if max_segments == 1 {
        size.encoding.single()
    } else {
        size.encoding.part() * max_segments
    };
    let worthless = worthless(&reading, &sentences, language);
    let units = |sentence: &Sentence| {
        let size_of = measure(&text[sentence.start..sentence.end]);
        if size_of.encoding == size.encoding {
            size_of.units
        } else {
            text[sentence.start..sentence.end].encode_utf16().count()
        }
    };
    let mut over = size.units.saturating_sub(room);
    let mut keep = vec![true; sentences.len()];
    for at in (0..sentences.len()).rev().filter(|at| worthless[*at]) {
        if over == 0 {
            break;
        }
        keep[at] = false;
        over = over.saturating_sub(units(&sentences[at]) + 1);
    }
    let mut kept = String::with_capacity(text.len());
    let mut dropped = Vec::new();
    let mut end = 0;
    for (sentence, keep) in sentences.iter().zip(keep) {
        if keep {
            if !kept.is_empty() {
                kept.push_str(if text[end..sentence.start].contains('\n') {
                    "\n"
                } else {
                    " "
                });
            }
            kept.push_str(&text[sentence.start..sentence.end]);
        } else {
            dropped.push(text[sentence.start..sentence.end].to_owned());
        }
        end = sentence.end;
    }
    (kept, dropped)
}

/// Which sentences have no value; never all of them.
fn worthless(
    reading: &clauses::Reading<'_>,
    sentences: &[Sentence],
    language: &Language,
) -> Vec<bool> {
    let mut said = std::collections::HashSet::new();
    let mut facts = reading.facts.iter().peekable();
    let mut clauses = reading.clauses.iter().peekable();
    let mut flags = Vec::with_capacity(sentences.len());
    for (number, (sentence, words)) in sentences.iter().zip(&reading.sentences).enumerate() {
        let tokens = &reading.tokens[words.tokens.clone()];
        let cue = language
            .drop_cues
            .at(tokens)
            .map_or(0, |(length, ())| length);
        let cue_end = words.tokens.start + cue;
        let mut bare = sentence.marker == 0;
        while let Some(fact) = facts.next_if(|fact| fact.first < words.tokens.end) {
            bare &= fact.behind <= cue_end;
        }
        let named = |token: &Token<'_>| {
            token.kind == Kind::Word
                && token.text.len() > 1
                && token.text.starts_with(char::is_uppercase)
        };
        bare &= !tokens.iter().skip(cue.max(1)).any(named);
        let mut stems = Vec::new();
        while let Some(clause) = clauses.next_if(|clause| clause.sentence == number) {
            stems.extend(clause.content.iter().map(|content| content.stem.as_str()));
        }
        let repeats = stems.len() >= 3 && stems.iter().all(|stem| said.contains(stem));
        flags.push(bare && (cue > 0 || repeats));
        said.extend(stems);
    }
    if flags.iter().all(|flag| *flag)
        && let Some(first) = flags.first_mut()
    {
        *first = false;
    }
    flags
}

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
    /// Between characters, in a word longer than all segments or a script without spaces.
    Character,
    /// Inside a number or a sign of several characters that is itself longer than all segments.
    Anywhere,
}

const PLACES: usize = 6;

/// Cuts `text` to what fits with the hint, and returns the rest.
///
/// A place that is better is taken even when a worse one would fill the segments more: a step is not divided
/// unless it alone is too long. What goes on in the middle of a sentence says so with dots.
fn divide(
    text: &mut String,
    max_segments: usize,
    hint: &str,
    language: &Language,
    rules: &Rules,
) -> String {
    let whole = std::mem::take(text);
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
    let mut cuts = places(&whole, max_segments, language, rules)
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
    *text = [&whole[..end], if inside { &dotted } else { &plain }].concat();
    if inside {
        [GOES_ON, &whole[rest..]].concat()
    } else {
        whole[rest..].to_owned()
    }
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
            found.push((
                sentence.start,
                if step { Place::Sentence } else { Place::Step },
            ));
        }
        step |= sentence.marker > 0;
        end = sentence.end;
    }
    let near = &text[..horizon];
    let tokens = tokens::tokenise(near, language);
    let facts = facts::read(&tokens, language, rules);
    let mut bound = bound_spans(&tokens, &facts);
    bound.sort_unstable();
    let mut spans = bound.into_iter().peekable();
    let mut reach = 0;
    let mut before = None;
    for (at, c) in near.char_indices() {
        while let Some((_, behind)) = spans.next_if(|(start, _)| *start < at) {
            reach = reach.max(behind);
        }
        let free = at >= reach;
        if let Some(before) = before.filter(|_| !c.is_whitespace()) {
            match before {
                ' ' | '\n' if free => {
                    let mark = near[..at].trim_end().chars().next_back();
                    let clause = mark.is_some_and(|mark| matches!(mark, ',' | ';' | ':' | ')'));
                    found.push((at, if clause { Place::Clause } else { Place::Word }));
                }
                ' ' | '\n' => {}
                before if joined(before, c) => found.push((at, Place::Anywhere)),
                _ => found.push((at, Place::Character)),
            }
        }
        before = Some(c);
    }
    found.sort_unstable();
    found
}

/// Byte ranges that are not cut between words: a quantity, a phone number, a name of several words, and a
/// negation or condition with the word that follows it.
fn bound_spans(tokens: &[Token<'_>], facts: &[Fact]) -> Vec<(usize, usize)> {
    let span = |fact: &Fact| {
        let leads = matches!(
            fact.kind,
            FactKind::Negation | FactKind::Condition | FactKind::Number
        );
        let end = tokens
            .get(fact.behind)
            .filter(|_| leads)
            .map_or(fact.end, |next| next.end);
        (fact.start, end)
    };
    facts.iter().map(span).collect()
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

#[cfg(test)]
mod tests {
    use super::super::testing;
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
            .map(|token| token.key)
            .collect()
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
    }
}
