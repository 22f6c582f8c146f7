//! Mild shortening: courtesy and well-known short forms, each a phrase from a language's file.

use super::draft::Draft;
use super::rules::{Language, Short};
use super::sentences;
use super::tokens::{self, Kind, Token};

/// How far shortening goes; each stage is gone to only when the one before was not enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Words that only politeness and habit use.
    Courtesy,
    /// Long words and phrases in their well-known short form.
    ShortForms,
    /// Small words that a headline writes short or goes without.
    Headline,
}

/// The text with the phrases of a stage shortened; None when that changes nothing, or would change a fact.
pub fn shorten<'r>(draft: &Draft<'r>, stage: Stage) -> Option<Draft<'r>> {
    let (text, language) = (draft.text.as_str(), draft.language);
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
    // "one and a half" is one number.
    let facts = draft.facts();
    let counted = |at: usize| {
        let next = facts.partition_point(|fact| fact.behind <= at);
        facts.get(next).is_some_and(|fact| fact.first <= at)
    };
    // Whether the sentence has denied something so far.
    let mut denied = false;
    while at < tokens.len() {
        let opens = starts.binary_search(&tokens[at].start).is_ok();
        denied = (denied && !opens) || language.negators.contains(&*tokens[at].key);
        let Some((length, short)) = language.short.at(&tokens[at..]) else {
            at += 1;
            continue;
        };
        let (token, behind) = (&tokens[at], tokens.get(at + length));
        let negator = |token: Option<&Token<'_>>| {
            token.is_some_and(|token| language.negators.contains(&*token.key))
        };
        let before = at.checked_sub(1).map(|before| &tokens[before]);
        let first = begins == Some(at) || opens;
        let to = match short {
            // "do not simply pour" is not "do not pour".
            Short::Remove if stage == Stage::Courtesy && !negator(before) => "",
            // "you should not eat" must not become "not eat".
            Short::RemoveFirst if stage == Stage::Courtesy && first && !negator(behind) => "",
            // "twice the amount" is not "twice amount".
            Short::Headline(to)
                if stage == Stage::Headline
                    && !counted(at)
                    && !at.checked_sub(1).is_some_and(counted) =>
            {
                to
            }
            Short::Replace(to) if stage == Stage::ShortForms => to,
            // "do not immediately drink" is not "do not now drink".
            Short::Stated(to) if stage == Stage::ShortForms && !denied => to,
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
    draft.rephrased(written)
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
    let breaks = |token: &Token<'_>| {
        text[..token.start]
            .trim_end_matches([' ', '\t'])
            .ends_with('\n')
    };
    // "Of course. Press …": a sentence that is gone leaves no full stop.
    let nothing = {
        let before = written.trim_end_matches([' ', ',', '\n']);
        before.is_empty() || before.ends_with(['.', '!', '?', ':', ';'])
    };
    while nothing
        && let Some(token) = tokens.get(*at)
        && matches!(token.kind, Kind::Mark('.' | '!' | '?' | ';' | ':'))
        && !breaks(token)
    {
        *at += 1;
    }
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
    token.kind == Kind::Number || language.numbers.contains_key(&*token.key)
}
