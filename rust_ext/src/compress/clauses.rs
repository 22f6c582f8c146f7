//! Sentences and clauses of a text, and which of them are negated.

use std::collections::HashSet;
use std::ops::Range;

use super::facts::{self, Fact, FactKind};
use super::rules::{Language, Rules, is_content};
use super::sentences;
use super::tokens::{self, Kind, Token};

/// Whether a clause states or denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polarity {
    /// It states.
    Stated,
    /// It denies.
    Denied,
    /// It may do either ("do not panic, call for help"): such a clause supports nothing.
    Unclear,
}

/// A word that carries meaning, by its stem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// What it is compared by.
    pub stem: String,
    /// Its token.
    pub token: usize,
}

/// A clause: a piece of a sentence between commas and conjunctions.
#[derive(Debug, Clone)]
pub struct Clause {
    /// Its tokens.
    pub tokens: Range<usize>,
    /// Which sentence it belongs to.
    pub sentence: usize,
    /// Whether it states or denies.
    pub polarity: Polarity,
    /// First token that a negation reaches.
    pub scope: usize,
    /// Words that carry meaning, in order.
    pub content: Vec<Content>,
    /// Index in `content` of the action: the first word, or the first one that a negation reaches.
    pub head: Option<usize>,
}

/// A sentence with what the check asks of it.
#[derive(Debug, Clone)]
pub struct SentenceWords {
    /// Its tokens.
    pub tokens: Range<usize>,
    /// Keys of its tokens in one string: two sentences are the same text when these are equal.
    pub literal: String,
    /// Its conditions ("only", "unless"), sorted, each as often as it stands there.
    pub conditions: Vec<String>,
    /// Its numbers in order, without their units.
    pub numbers: Vec<String>,
    /// Stems that it states, and stems that it denies; a stem can be both.
    pub stated: HashSet<String>,
    /// See `stated`.
    pub denied: HashSet<String>,
    /// Stems of all its words, small ones too.
    pub words: HashSet<String>,
}

/// A text taken apart.
#[derive(Debug, Clone)]
pub struct Reading<'t> {
    /// Its tokens.
    pub tokens: Vec<Token<'t>>,
    /// Its facts.
    pub facts: Vec<Fact>,
    /// Its sentences.
    pub sentences: Vec<SentenceWords>,
    /// Its clauses, in order.
    pub clauses: Vec<Clause>,
}

/// What stands between a clause and the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Joint {
    /// A new thought: a negation ends.
    Fresh,
    /// A comma.
    Comma,
    /// "and".
    Addition,
    /// "or": a negation goes on.
    Alternative,
}

/// Takes a text apart. Linear.
pub fn read<'t>(text: &'t str, language: &Language, rules: &Rules) -> Reading<'t> {
    let tokens = tokens::tokenise(text, language);
    let facts = facts::read(&tokens, language, rules);
    // Which fact a token belongs to; quantities are no words and no place for a clause to end.
    let mut owner: Vec<Option<FactKind>> = vec![None; tokens.len()];
    for fact in &facts {
        owner[fact.first..fact.behind].fill(Some(fact.kind));
    }
    let mut reading = Reading {
        tokens,
        facts,
        sentences: Vec::new(),
        clauses: Vec::new(),
    };
    let mut first = 0;
    for sentence in sentences::sentences(text, language) {
        let length = reading.tokens[first..]
            .iter()
            .take_while(|token| token.start < sentence.end)
            .count();
        let range = first..first + length;
        first += length;
        let body = &reading.tokens[range.clone()];
        let words = body
            .iter()
            .filter(|token| !matches!(token.kind, Kind::Mark(_)));
        let literal = words.map(|token| &*token.key).collect::<Vec<_>>().join(" ");
        let inside = facts_within(&reading.facts, &range);
        let conditions = inside
            .iter()
            .filter(|fact| fact.kind == FactKind::Condition);
        let mut conditions: Vec<String> = conditions.map(|fact| fact.key.clone()).collect();
        conditions.sort_unstable();
        let numbers = inside
            .iter()
            .filter(|fact| fact.kind == FactKind::Number)
            .map(|fact| reading.tokens[fact.first].key.to_string())
            .collect();
        let number = reading.sentences.len();
        let mut clauses = divide(&reading.tokens, &owner, range.clone(), number, language);
        judge(&mut clauses, &reading.tokens, &owner, language);
        let mut words = SentenceWords {
            literal,
            conditions,
            numbers,
            words: body
                .iter()
                .filter(|token| token.kind == Kind::Word)
                .map(|token| tokens::stem(&token.key, language))
                .collect(),
            stated: HashSet::new(),
            denied: HashSet::new(),
            tokens: range,
        };
        for (_, clause) in clauses {
            for content in &clause.content {
                match clause.polarity {
                    Polarity::Denied if content.token >= clause.scope => {
                        words.denied.insert(content.stem.clone())
                    }
                    Polarity::Stated | Polarity::Denied => {
                        words.stated.insert(content.stem.clone())
                    }
                    Polarity::Unclear => false,
                };
            }
            reading.clauses.push(clause);
        }
        reading.sentences.push(words);
    }
    reading
}

/// Facts that begin within a range of tokens.
pub fn facts_within<'r>(facts: &'r [Fact], tokens: &Range<usize>) -> &'r [Fact] {
    let first = facts.partition_point(|fact| fact.first < tokens.start);
    let behind = facts.partition_point(|fact| fact.first < tokens.end);
    &facts[first..behind]
}

/// Clauses of one sentence with the joint in front of each; polarity is not yet known.
fn divide(
    tokens: &[Token<'_>],
    owner: &[Option<FactKind>],
    range: Range<usize>,
    sentence: usize,
    language: &Language,
) -> Vec<(Joint, Clause)> {
    let mut clauses = Vec::new();
    let mut begin = range.start;
    let mut joint = Joint::Fresh;
    // A negator without a word behind it: "nao e seguro" (folded "é") is one clause.
    let mut waiting = false;
    let mut close = |begin: usize, end: usize, joint: Joint| {
        let negator = (begin..end).find(|at| owner[*at] == Some(FactKind::Negation));
        let content_from = |from: usize, counts: &dyn Fn(&Token<'_>) -> bool| -> Vec<Content> {
            (from..end)
                .filter(|at| owner[*at] != Some(FactKind::Number) && counts(&tokens[*at]))
                .map(|at| Content {
                    stem: tokens::stem(&tokens[at].key, language),
                    token: at,
                })
                .collect()
        };
        let mut content = content_from(begin, &|token| is_content(token, language));
        let reached = content
            .last()
            .is_some_and(|last| negator.is_none_or(|negator| last.token > negator));
        if !reached && (negator.is_some() || content.is_empty()) {
            // "Never use it", "go in": small words are all the meaning there is.
            content.extend(content_from(negator.map_or(begin, |at| at + 1), &|token| {
                language.small.contains(&*token.key)
            }));
        }
        let counted = owner[begin..end].contains(&Some(FactKind::Number));
        if content.is_empty() && negator.is_none() && !counted {
            return false;
        }
        let head = (!content.is_empty()).then_some(0);
        let clause = Clause {
            tokens: begin..end,
            sentence,
            polarity: Polarity::Stated,
            scope: begin,
            content,
            head,
        };
        clauses.push((joint, clause));
        true
    };
    for at in range.clone() {
        if owner[at] == Some(FactKind::Number) {
            continue;
        }
        let token = &tokens[at];
        let next = match token.kind {
            Kind::Mark(',') => Some(Joint::Comma),
            Kind::Mark(';' | ':' | '(' | ')' | '—' | '–' | '.' | '!' | '?') => {
                Some(Joint::Fresh)
            }
            Kind::Mark('-') if at > 0 && tokens[at - 1].end < token.start => Some(Joint::Fresh),
            Kind::Word if language.alternatives.contains(&*token.key) && !waiting => {
                Some(Joint::Alternative)
            }
            Kind::Word if language.additions.contains(&*token.key) && !waiting => {
                Some(Joint::Addition)
            }
            Kind::Mark('&') if language.additions.contains("&") && !waiting => {
                Some(Joint::Addition)
            }
            Kind::Word if language.joiners.contains(&*token.key) => Some(Joint::Fresh),
            _ => None,
        };
        if owner[at] == Some(FactKind::Negation) {
            waiting = true;
        } else if waiting && is_content(token, language) {
            waiting = false;
        }
        let Some(next) = next else { continue };
        // "eat, or smoke": the stronger of two joints in a row holds.
        let closed = close(begin, at, joint);
        joint = match (closed, joint, next) {
            (false, Joint::Fresh, _) if begin == range.start => next,
            (false, Joint::Fresh, _) => Joint::Fresh,
            (false, Joint::Alternative, Joint::Comma | Joint::Addition) => Joint::Alternative,
            (_, _, next) => next,
        };
        // The conjunction itself begins its clause, unless it is a negator too ("nor", "ni").
        begin = if owner[at] == Some(FactKind::Negation) {
            at
        } else {
            at + 1
        };
        waiting = owner[at] == Some(FactKind::Negation);
    }
    close(begin, range.end, joint);
    clauses
}

/// Sets polarity, scope and head of the clauses of one sentence.
fn judge(
    clauses: &mut [(Joint, Clause)],
    tokens: &[Token<'_>],
    owner: &[Option<FactKind>],
    language: &Language,
) {
    let end = clauses.last().map_or(0, |(_, clause)| clause.tokens.end);
    // "do not eat, drink or smoke": a comma before an "or" is an "or".
    let mut alternatives = vec![false; clauses.len()];
    for at in (0..clauses.len()).rev() {
        alternatives[at] = match clauses[at].0 {
            Joint::Alternative => true,
            Joint::Comma => alternatives.get(at + 1).copied().unwrap_or(false),
            Joint::Fresh | Joint::Addition => false,
        };
    }
    // Where the sentence says "but" or "except" behind a negation, from the back.
    let exceptive: Vec<usize> = clauses
        .first()
        .map_or(0..0, |(_, clause)| clause.tokens.start..end)
        .filter(|at| language.exceptives.at(&tokens[*at..]).is_some())
        .collect();
    let mut before = Polarity::Stated;
    for at in 0..clauses.len() {
        let joint = clauses[at].0;
        let clause = &mut clauses[at].1;
        let negators: Vec<usize> = clause
            .tokens
            .clone()
            .filter(|token| owner[*token] == Some(FactKind::Negation))
            .collect();
        let excepted = |from: usize| exceptive.last().is_some_and(|last| *last >= from);
        clause.polarity = match negators.as_slice() {
            [] => match (joint, before) {
                (Joint::Fresh, _) | (_, Polarity::Stated) => Polarity::Stated,
                (_, Polarity::Denied) if alternatives[at] => Polarity::Denied,
                _ => Polarity::Unclear,
            },
            [first, ..] if excepted(*first) => Polarity::Unclear,
            [_] => Polarity::Denied,
            _ if language.concord => Polarity::Denied,
            _ => Polarity::Unclear,
        };
        clause.scope = negators
            .first()
            .map_or(clause.tokens.start, |first| first + 1);
        if !negators.is_empty() {
            let reached = clause
                .content
                .iter()
                .position(|content| content.token >= clause.scope);
            clause.head = reached.or(clause.content.len().checked_sub(1));
        }
        before = clause.polarity;
    }
}
