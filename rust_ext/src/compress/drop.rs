//! Sentences that say nothing, and go for good.

use std::collections::HashSet;

use super::clauses::{self, Reading};
use super::draft::Draft;
use super::rules::{Cue, Language};
use super::sentences::{self, Sentence};
use super::tokens::{Kind, Token};
use crate::sms::segment::{Encoding, Size, measure};

/// Units of the text of so many segments.
pub fn room(encoding: Encoding, segments: usize) -> usize {
    if segments == 1 {
        encoding.single()
    } else {
        encoding.part() * segments
    }
}

/// The text without sentences of no value, taken from the end until it fits, and those sentences.
///
/// Such a sentence begins with a phrase that only politeness uses, or repeats words of the sentences before it;
/// beyond that phrase it has no fact and no name, and it is no list item.
pub fn drop_worthless(
    draft: Draft<'_>,
    size: Size,
    max_segments: usize,
) -> (Draft<'_>, Vec<String>) {
    let (text, language, rules) = (draft.text.as_str(), draft.language, draft.rules);
    let reading = clauses::read(text, language, rules);
    let sentences = sentences::sentences(text, language);
    let worthless = worthless(&reading, &sentences, language);
    if !worthless.contains(&true) {
        return (draft, Vec::new());
    }
    let units = |sentence: &Sentence| {
        let size_of = measure(&text[sentence.start..sentence.end]);
        if size_of.encoding == size.encoding {
            size_of.units
        } else {
            text[sentence.start..sentence.end].encode_utf16().count()
        }
    };
    let mut over = size.units.saturating_sub(room(size.encoding, max_segments));
    let mut keep = vec![true; sentences.len()];
    for at in (0..sentences.len()).rev().filter(|at| worthless[*at]) {
        if over == 0 {
            break;
        }
        keep[at] = false;
        over = over.saturating_sub(units(&sentences[at]) + 1);
    }
    let mut dropped = Vec::new();
    for (sentence, _) in sentences.iter().zip(&keep).filter(|(_, keep)| !**keep) {
        dropped.push(text[sentence.start..sentence.end].to_owned());
    }
    let places = sentences.iter().zip(keep).filter(|(_, keep)| *keep);
    let kept = join(
        text,
        places.map(|(sentence, _)| (sentence.start, sentence.end)),
    );
    (Draft::new(kept, language, rules), dropped)
}

/// Places of a text put together, on lines of their own where there was a line break in front of them.
pub fn join(text: &str, places: impl Iterator<Item = (usize, usize)>) -> String {
    let mut joined = String::with_capacity(text.len());
    for (start, end) in places {
        if !joined.is_empty() {
            let gap = &text[text[..start].trim_end().len()..start];
            joined.push(if gap.contains('\n') { '\n' } else { ' ' });
        }
        joined.push_str(&text[start..end]);
    }
    joined
}

/// Sentences behind one that are searched for its words.
const LOOK_BACK: usize = 32;

/// Which sentences have no value; never all of them.
fn worthless(reading: &Reading<'_>, sentences: &[Sentence], language: &Language) -> Vec<bool> {
    let mut facts = reading.facts.iter().peekable();
    let mut clauses = reading.clauses.iter().peekable();
    let mut said: Vec<HashSet<&str>> = Vec::with_capacity(sentences.len());
    let mut flags = Vec::with_capacity(sentences.len());
    for (number, (sentence, words)) in sentences.iter().zip(&reading.sentences).enumerate() {
        let tokens = &reading.tokens[words.tokens.clone()];
        let cue = courtesy(tokens, language);
        let cue_end = words.tokens.start + cue;
        let mut bare = sentence.marker == 0;
        while let Some(fact) = facts.next_if(|fact| fact.first < words.tokens.end) {
            bare &= fact.behind <= cue_end;
        }
        let named = |token: &Token<'_>| {
            token.kind == Kind::Word
                && token.text.len() > 1
                && token.text.starts_with(char::is_uppercase)
                && !language.small.contains(&*token.key)
        };
        bare &= !tokens.iter().skip(cue.max(1)).any(named);
        let mut stems = HashSet::new();
        let mut goes_on = false;
        while let Some(clause) = clauses.next_if(|clause| clause.sentence == number) {
            stems.extend(clause.content.iter().map(|content| content.stem.as_str()));
            // "Hello, leave the house" is more than a greeting.
            goes_on |= clause.tokens.start > cue_end
                && courtesy(
                    &reading.tokens[clause.tokens.start..words.tokens.end],
                    language,
                ) == 0;
        }
        let polite = cue > 0 && !goes_on;
        // A step that has to be done again is no repetition: "then rinse it again".
        let points = |token: &Token<'_>| language.refers.contains(&*token.key);
        let ordered = (0..tokens.len()).any(|at| language.orders.at(&tokens[at..]).is_some());
        let repeats = stems.len() >= 3
            && !ordered
            && !tokens.iter().any(points)
            && said
                .iter()
                .rev()
                .take(LOOK_BACK)
                .any(|other| stems.is_subset(other));
        flags.push(bare && (polite || repeats));
        said.push(stems);
    }
    if flags.iter().all(|flag| *flag)
        && let Some(first) = flags.first_mut()
    {
        *first = false;
    }
    flags
}

/// Tokens of the phrase of politeness that `tokens`, which end with their sentence, begin with; 0 if none.
fn courtesy(tokens: &[Token<'_>], language: &Language) -> usize {
    let marks = tokens
        .iter()
        .take_while(|token| matches!(token.kind, Kind::Mark(_)))
        .count();
    let tokens = &tokens[marks..];
    let length = match language.drop_cues.at(tokens) {
        Some((length, Cue::Begins)) => length,
        Some((length, Cue::Whole))
            if tokens[length..]
                .iter()
                .all(|token| matches!(token.kind, Kind::Mark(_))) =>
        {
            length
        }
        _ => return 0,
    };
    marks + length
}
