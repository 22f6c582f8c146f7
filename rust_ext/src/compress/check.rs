//! The post-check: may this answer be sent, given the passages it rests on?
//!
//! Deterministic and conservative. What it cannot read counts as unsupported, and the reviewed passage is sent
//! instead: a good answer refused costs some eloquence, a wrong one let through may cost a life. Sentences that
//! stand in a passage word for word pass.

use std::collections::HashSet;

use super::clauses::{self, Clause, Content, Polarity, Reading, SentenceWords};
use super::facts::{Fact, FactKind};
use super::rules::{Language, Rules};
use super::support::{Support, Use, best};
use super::tokens::{self, Kind};

/// Pieces named at most: an answer with more is refused all the same, and a text of any length stays cheap.
const MAX_REPORTED: usize = 32;

/// Octets of an answer, and of all its passages: some thirty SMS. Time grows with their product, and what is
/// longer is no answer to a text.
const MAX_CHECKED_OCTETS: usize = 16 * 1024;

/// Why a piece of an answer is not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A quantity that no passage gives, or that a passage gives to something else.
    Number,
    /// A unit that no passage names.
    Unit,
    /// A phone number that no passage gives.
    Phone,
    /// A time that no passage gives.
    Time,
    /// A drug or chemical that no passage names.
    Substance,
    /// A negation that the passages do not make, or one too intricate to follow.
    Negation,
    /// Stated, where the passages deny.
    Polarity,
    /// The opposite of the passage's word.
    Opposite,
    /// A condition added or left out.
    Condition,
    /// Something else is done with a substance than in the passages.
    Action,
    /// Too few of its words are in the passages.
    Unrelated,
    /// No rules for this language, so nothing can be checked.
    Language,
    /// The answer or its passages are too long to be read.
    Length,
}

impl Reason {
    /// Lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Unit => "unit",
            Self::Phone => "phone",
            Self::Time => "time",
            Self::Substance => "substance",
            Self::Negation => "negation",
            Self::Polarity => "polarity",
            Self::Opposite => "opposite",
            Self::Condition => "condition",
            Self::Action => "action",
            Self::Unrelated => "unrelated",
            Self::Language => "language",
            Self::Length => "length",
        }
    }
}

/// One piece of an answer that its passages do not support.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// The piece as written in the answer.
    pub token: String,
    /// Why.
    pub reason: Reason,
}

/// Everything in `answer` that `passages` (of the same language) do not support; empty means: may be sent. Above
/// [`MAX_CHECKED_OCTETS`] nothing is read, and all of it counts as unsupported.
///
/// Time grows with the product of clauses in answer and passages, which both are a few sentences.
pub fn check(
    answer: &str,
    passages: &[&str],
    language: &Language,
    rules: &Rules,
) -> Vec<Unsupported> {
    let passage_octets: usize = passages.iter().map(|passage| passage.len()).sum();
    if answer.len().max(passage_octets) > MAX_CHECKED_OCTETS {
        return vec![Unsupported {
            token: String::new(),
            reason: Reason::Length,
        }];
    }
    let support = Support::new(passages, language, rules);
    let reading = clauses::read(answer, language, rules);
    let literal = reading
        .sentences
        .iter()
        .map(|sentence| support.literals.contains(&sentence.literal))
        .collect();
    let mut checker = Checker {
        reading: &reading,
        support: &support,
        language,
        literal,
        found: Vec::new(),
    };
    checker.facts();
    checker.clauses();
    checker.sentences();
    checker.relation(rules.min_shared, passages.is_empty());
    checker.found
}

struct Checker<'a> {
    reading: &'a Reading<'a>,
    support: &'a Support<'a>,
    language: &'a Language,
    /// Which sentences stand in a passage as they are.
    literal: Vec<bool>,
    found: Vec<Unsupported>,
}

impl Checker<'_> {
    fn report(&mut self, token: &str, reason: Reason) {
        if self.found.len() >= MAX_REPORTED {
            return;
        }
        let entry = Unsupported {
            token: token.to_owned(),
            reason,
        };
        if !self.found.contains(&entry) {
            self.found.push(entry);
        }
    }

    fn text(&self, first: usize, last: usize) -> String {
        let tokens = &self.reading.tokens[first..=last];
        tokens
            .iter()
            .map(|token| token.text)
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn facts(&mut self) {
        let mut sentence = 0;
        let reading = self.reading;
        for fact in &reading.facts {
            if self.found.len() >= MAX_REPORTED {
                return;
            }
            while fact.first >= reading.sentences[sentence].tokens.end {
                sentence += 1;
            }
            if self.literal[sentence] {
                continue;
            }
            let written = self.text(fact.first, fact.behind - 1);
            let known = self.support.facts.contains(&(fact.kind, fact.key.clone()));
            match fact.kind {
                FactKind::Number if !known => self.report(&written, Reason::Number),
                FactKind::Number if self.belongs_elsewhere(fact) => {
                    self.report(&written, Reason::Number);
                }
                FactKind::Unit if !known => self.report(&written, Reason::Unit),
                FactKind::Phone if !known => self.report(&written, Reason::Phone),
                FactKind::Time if !known => self.report(&written, Reason::Time),
                FactKind::Substance if !known => self.report(&written, Reason::Substance),
                FactKind::Condition if !known => self.report(&written, Reason::Condition),
                // Negations are judged with their clause.
                _ => {}
            }
        }
    }

    /// Whether another number of the same unit fits the surroundings of this one better than the number itself
    /// does in the passages: "6 drops if clear, 12 if cloudy" must not be turned round.
    fn belongs_elsewhere(&self, quantity: &Fact) -> bool {
        let around = surroundings(self.reading, quantity, self.language);
        let (mut same, mut rival) = (0.0, 0.0);
        for reading in &self.support.readings {
            let numbers = reading
                .facts
                .iter()
                .filter(|fact| fact.kind == FactKind::Number && fact.unit == quantity.unit);
            for fact in numbers {
                let there = surroundings(reading, fact, self.language);
                let shared = around.iter().filter(|word| there.contains(*word)).count();
                // How much of what the passage says around the number the answer says too.
                let fit = shared as f32 / there.len().max(1) as f32;
                let best = if fact.key == quantity.key {
                    &mut same
                } else {
                    &mut rival
                };
                *best = f32::max(*best, fit);
            }
        }
        rival > same
    }

    fn clauses(&mut self) {
        let reading = self.reading;
        for clause in &reading.clauses {
            if self.found.len() >= MAX_REPORTED {
                return;
            }
            if self.literal[clause.sentence] {
                continue;
            }
            self.opposites(clause);
            self.action(clause);
            match clause.polarity {
                Polarity::Stated => self.stated(clause),
                Polarity::Denied => self.denied(clause),
                Polarity::Unclear => {
                    let written = self.text(clause.tokens.start, clause.tokens.end - 1);
                    self.report(&written, Reason::Negation);
                }
            }
        }
    }

    fn stated(&mut self, clause: &Clause) {
        for (place, content) in clause.content.iter().enumerate() {
            let used = self.used(&content.stem);
            let denied = used.denied_head && !used.stated;
            let doubtful =
                clause.head == Some(place) && used.unclear && !used.stated && !used.denied;
            if denied || doubtful {
                self.report(self.reading.tokens[content.token].text, Reason::Polarity);
            }
        }
        if !self.agrees(clause, Polarity::Stated) {
            let written = self.text(clause.tokens.start, clause.tokens.end - 1);
            self.report(&written, Reason::Polarity);
        }
    }

    fn denied(&mut self, clause: &Clause) {
        let head = clause.head.map(|place| &clause.content[place]);
        let supported = head.is_some_and(|head| self.used(&head.stem).denied);
        let reversed = clause.content.iter().any(|content| {
            let used = self.used(&content.stem);
            content.token >= clause.scope && used.stated_head && !used.denied
        });
        if !supported || reversed || !self.agrees(clause, Polarity::Denied) {
            let written = self.text(clause.tokens.start, clause.tokens.end - 1);
            self.report(&written, Reason::Negation);
        }
    }

    fn used(&self, stem: &str) -> Use {
        self.support.uses.get(stem).copied().unwrap_or_default()
    }

    /// Whether one of the passage clauses nearest to this one has its polarity; true when none is near.
    fn agrees(&self, clause: &Clause, polarity: Polarity) -> bool {
        let stems = clause.content.iter().map(|content| content.stem.as_str());
        let (shared, nearest) = best(&self.support.clauses_of, stems);
        shared == 0
            || nearest
                .iter()
                .any(|number| self.support.clause(*number).polarity == polarity)
    }

    /// No word may be the opposite of the passages' word: anywhere, and in the clause nearest to this one.
    fn opposites(&mut self, clause: &Clause) {
        let said = words_of(clause, self.reading, self.language);
        let stems = clause.content.iter().map(|content| content.stem.as_str());
        let (shared, nearest) = best(&self.support.clauses_of, stems);
        let nearest: Vec<HashSet<String>> = nearest
            .into_iter()
            .filter(|_| shared > 0)
            .map(|number| {
                let reading = &self.support.readings[self.support.clauses[number].0];
                words_of(self.support.clause(number), reading, self.language)
            })
            .collect();
        let near = !nearest.is_empty() && nearest.iter().all(|given| self.turned(&said, given));
        if near || self.turned(&said, &self.support.words) {
            let written = self.text(clause.tokens.start, clause.tokens.end - 1);
            self.report(&written, Reason::Opposite);
        }
    }

    /// Whether a word was said that was not given, and one of its opposites was given and not said.
    fn turned(&self, said: &HashSet<String>, given: &HashSet<String>) -> bool {
        said.difference(given).any(|stem| {
            let opposites = self.language.opposites.get(stem);
            opposites.is_some_and(|all| {
                all.iter()
                    .any(|other| given.contains(other) && !said.contains(other))
            })
        })
    }

    /// What is done with a substance must be done with it in a passage.
    fn action(&mut self, clause: &Clause) {
        let substances: Vec<usize> = self
            .reading
            .facts
            .iter()
            .filter(|fact| fact.kind == FactKind::Substance && clause.tokens.contains(&fact.first))
            .flat_map(|fact| fact.first..fact.behind)
            .collect();
        if substances.is_empty() {
            return;
        }
        let Some(action) = clause
            .content
            .iter()
            .find(|content| !substances.contains(&content.token))
        else {
            return;
        };
        let sentences = |stem: &str| {
            self.support
                .sentences_of
                .get(stem)
                .map(Vec::as_slice)
                .unwrap_or_default()
        };
        let together = clause
            .content
            .iter()
            .filter(|content| substances.contains(&content.token))
            .all(|content| {
                sentences(&content.stem)
                    .iter()
                    .any(|number| sentences(&action.stem).contains(number))
            });
        if !together {
            self.report(self.reading.tokens[action.token].text, Reason::Action);
        }
    }

    /// A sentence must agree with a sentence of the passages that is nearest to it: the same words stated and
    /// denied, no word turned into its opposite, no condition lost.
    fn sentences(&mut self) {
        let reading = self.reading;
        let mut clauses = reading.clauses.iter().peekable();
        for (number, sentence) in reading.sentences.iter().enumerate() {
            let mut stems = Vec::new();
            while let Some(clause) = clauses.next_if(|clause| clause.sentence == number) {
                stems.extend(clause.content.iter().map(|content| content.stem.as_str()));
            }
            if self.literal[number] {
                continue;
            }
            let (shared, nearest) = best(&self.support.sentences_of, stems.iter().copied());
            if shared == 0 {
                continue;
            }
            let found: Vec<Option<Reason>> = nearest
                .into_iter()
                .map(|at| {
                    let (passage, at) = self.support.sentences[at];
                    self.disagreement(sentence, &self.support.readings[passage].sentences[at])
                })
                .collect();
            if let Some(reason) = found
                .iter()
                .flatten()
                .next()
                .filter(|_| !found.contains(&None))
            {
                let written = self.text(sentence.tokens.start, sentence.tokens.end - 1);
                self.report(&written, *reason);
            }
        }
    }

    /// What makes a sentence say something else than one of the passages; None when nothing does.
    fn disagreement(&self, said: &SentenceWords, given: &SentenceWords) -> Option<Reason> {
        let against = |said: &HashSet<String>, same: &HashSet<String>, other: &HashSet<String>| {
            said.iter()
                .any(|stem| other.contains(stem) && !same.contains(stem))
        };
        if against(&said.stated, &given.stated, &given.denied) {
            return Some(Reason::Polarity);
        }
        if against(&said.denied, &given.denied, &given.stated) {
            return Some(Reason::Negation);
        }
        if self.turned(&said.words, &given.words) {
            return Some(Reason::Opposite);
        }
        if !in_order(&said.numbers, &given.numbers) {
            return Some(Reason::Number);
        }
        (!within(&given.conditions, &said.conditions)).then_some(Reason::Condition)
    }

    /// The answer as a whole must be about what its passages are about.
    fn relation(&mut self, min_shared: f32, alone: bool) {
        if self.literal.iter().all(|literal| *literal) {
            return;
        }
        if !self.language.known() {
            self.report("", Reason::Language);
            return;
        }
        let content: Vec<&Content> = self
            .reading
            .clauses
            .iter()
            .flat_map(|clause| &clause.content)
            .collect();
        let shared = content
            .iter()
            .filter(|content| self.support.uses.contains_key(&content.stem))
            .count();
        if !alone && !content.is_empty() && (shared as f32) < min_shared * content.len() as f32 {
            self.report("", Reason::Unrelated);
        }
    }
}

/// Stems of all words of a clause, with the conjunction that opens it ("before").
/// Whether the numbers that both sentences have stand in the same order: "1 part in 9" is not "9 parts in 1".
fn in_order(said: &[String], given: &[String]) -> bool {
    let mut shared = said.iter().filter(|number| given.contains(number));
    let mut rest = given.iter();
    shared.all(|number| rest.any(|other| other == number))
}

/// Whether everything in a sorted list is in another one, as often.
fn within(needed: &[String], there: &[String]) -> bool {
    let mut rest = there.iter();
    needed.iter().all(|one| rest.any(|other| other == one))
}

fn words_of(clause: &Clause, reading: &Reading<'_>, language: &Language) -> HashSet<String> {
    reading.tokens[clause.tokens.start.saturating_sub(1)..clause.tokens.end]
        .iter()
        .filter(|token| token.kind == Kind::Word)
        .map(|token| tokens::stem(&token.key, language))
        .collect()
}

/// What is said around a quantity: stems, and other quantities, up to the next comma or "and".
///
/// Brackets and conditions do not end it: "above 2000 m (6500 ft) boil 3 minutes", "6 drops if clear".
fn surroundings<'r>(
    reading: &'r Reading<'_>,
    quantity: &Fact,
    language: &Language,
) -> HashSet<&'r str> {
    let ends = |at: usize| {
        let token = &reading.tokens[at];
        let word = &*token.key;
        matches!(token.kind, Kind::Mark(',' | ';' | ':' | '.' | '!' | '?'))
            || language.additions.contains(word)
            || language.alternatives.contains(word)
    };
    let start = (0..quantity.first)
        .rev()
        .find(|at| ends(*at))
        .map_or(0, |at| at + 1);
    let end = (quantity.behind..reading.tokens.len())
        .find(|at| ends(*at))
        .unwrap_or(reading.tokens.len());
    let others = clauses::facts_within(&reading.facts, &(start..end))
        .iter()
        .filter(|fact| fact.kind == FactKind::Number && fact.first != quantity.first)
        .map(|fact| fact.key.as_str());
    let first = reading
        .clauses
        .partition_point(|clause| clause.tokens.end <= start);
    let words = reading.clauses[first..]
        .iter()
        .take_while(|clause| clause.tokens.start < end)
        .flat_map(|clause| &clause.content)
        .filter(|content| (start..end).contains(&content.token))
        .map(|content| content.stem.as_str());
    others.chain(words).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use proptest::prelude::*;

    fn reasons(answer: &str, passage: &str, lang: &str) -> Vec<Reason> {
        let rules = testing::rules();
        let found = check(answer, &[passage], rules.language(lang), rules);
        found.into_iter().map(|entry| entry.reason).collect()
    }

    const BLEACH: &str = "Add 6 drops of bleach to 4 litres of clear water, or 12 drops to 4 litres of cloudy water. \
        Wait 30 minutes. Never drink bleach. Do not mix bleach with ammonia or vinegar.";

    #[test]
    fn a_fair_rephrasing_passes() {
        for answer in [
            "Add 6 drops of bleach to 4 l of clear water and wait 30 minutes.",
            "Add 12 drops of bleach to 4 litres of cloudy water. Wait 30 min.",
            "Do not drink bleach. Don't mix bleach with vinegar.",
        ] {
            assert_eq!(reasons(answer, BLEACH, "en"), [], "{answer}");
        }
    }

    #[test]
    fn what_is_too_long_to_be_read_is_refused() {
        let long = BLEACH.repeat(1 + MAX_CHECKED_OCTETS / BLEACH.len());
        assert_eq!(reasons(&long, BLEACH, "en"), [Reason::Length]);
        assert_eq!(reasons(BLEACH, &long, "en"), [Reason::Length]);
        assert_eq!(
            reasons(&"é".repeat(MAX_CHECKED_OCTETS), "", "en"),
            [Reason::Length]
        );
        let most = &long[..MAX_CHECKED_OCTETS / BLEACH.len() * BLEACH.len()];
        assert_eq!(reasons(BLEACH, most, "en"), []);
    }

    #[test]
    fn what_could_kill_is_refused() {
        for (answer, reason) in [
            (
                "Add 12 drops of bleach to 4 litres of clear water.",
                Reason::Number,
            ),
            (
                "Add 60 drops of bleach to 4 litres of clear water.",
                Reason::Number,
            ),
            ("Drink bleach.", Reason::Polarity),
            ("Drain bleach.", Reason::Action),
            ("Mix bleach with vinegar.", Reason::Polarity),
            ("Never add bleach to clear water.", Reason::Negation),
            ("Add 6 drops of iodine to clear water.", Reason::Substance),
        ] {
            let found = reasons(answer, BLEACH, "en");
            assert!(found.contains(&reason), "{answer}: {found:?}");
        }
    }

    #[test]
    fn a_list_stays_negated_to_its_end() {
        let passage = "Do not eat, drink or smoke near the gas.";
        for answer in ["Eat.", "Drink near the gas.", "Smoke near the gas."] {
            assert!(!reasons(answer, passage, "en").is_empty(), "{answer}");
        }
        assert_eq!(
            reasons("Do not smoke or eat near the gas.", passage, "en"),
            []
        );
    }

    #[test]
    fn without_rules_only_the_passage_itself_passes() {
        assert_eq!(
            reasons(
                "Bouyi dlo a 1 minit.",
                "Bouyi dlo a 1 minit. Kite l frèt.",
                "ht"
            ),
            []
        );
        assert_eq!(
            reasons("Bouyi dlo a.", "Bouyi dlo a 1 minit.", "ht"),
            [Reason::Language]
        );
    }

    proptest! {
        #[test]
        fn any_unicode_is_read(answer in any::<String>(), passage in any::<String>(), lang in "en|es|fr|pt|ar") {
            reasons(&answer, &passage, &lang);
        }

        #[test]
        fn a_text_supports_itself(text in "([A-Za-z]{1,9}|no|not|[0-9]{1,3}( ml)?|if|[.,;:!?]| ){0,60}", lang in "en|es|fr|pt|sw") {
            prop_assert_eq!(reasons(&text, &text, &lang), []);
        }

        #[test]
        fn another_number_never_passes(given in 1u32..2000, said in 1u32..2000, unit in "ml|mg|minutes|drops| tablets a day") {
            let passage = format!("Give {given} {unit} of the syrup.");
            let answer = format!("Give the syrup, {said} {unit}.");
            prop_assert_eq!(reasons(&answer, &passage, "en").is_empty(), given == said);
        }
    }
}
