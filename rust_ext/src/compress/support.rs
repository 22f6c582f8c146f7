//! The passages of an answer, indexed by what the post-check asks of them.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::clauses::{self, Clause, Content, Polarity, Reading};
use super::facts::FactKind;
use super::rules::{Language, Rules};
use super::tokens::{self, Kind};

/// How the passages use a word.
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::struct_excessive_bools)] // five observations that do not exclude each other
pub struct Use {
    /// It states it.
    pub stated: bool,
    /// It denies it.
    pub denied: bool,
    /// It may do either.
    pub unclear: bool,
    /// As the action of a clause that states.
    pub stated_head: bool,
    /// As the action of a clause that denies.
    pub denied_head: bool,
}

/// The passages of an answer, indexed.
pub struct Support<'t> {
    /// The passages taken apart.
    pub readings: Vec<Reading<'t>>,
    /// Sentences as they are written.
    pub literals: HashSet<String>,
    /// Facts by kind and key.
    pub facts: HashSet<(FactKind, String)>,
    /// How each stem is used.
    pub uses: HashMap<String, Use>,
    /// Stems of all words, small ones too.
    pub words: HashSet<String>,
    /// Clauses of all passages: (passage, clause).
    pub clauses: Vec<(usize, usize)>,
    /// Clauses by the stems in them.
    pub clauses_of: HashMap<String, Vec<usize>>,
    /// Sentences of all passages: (passage, sentence).
    pub sentences: Vec<(usize, usize)>,
    /// Sentences by the stems in them.
    pub sentences_of: HashMap<String, Vec<usize>>,
}

impl<'t> Support<'t> {
    /// Reads and indexes passages.
    pub fn new(passages: &[&'t str], language: &Language, rules: &Rules) -> Self {
        let mut support = Self {
            readings: passages
                .iter()
                .map(|text| clauses::read(text, language, rules))
                .collect(),
            literals: HashSet::new(),
            facts: HashSet::new(),
            uses: HashMap::new(),
            words: HashSet::new(),
            clauses: Vec::new(),
            clauses_of: HashMap::new(),
            sentences: Vec::new(),
            sentences_of: HashMap::new(),
        };
        for (passage, reading) in support.readings.iter().enumerate() {
            support.facts.extend(
                reading
                    .facts
                    .iter()
                    .map(|fact| (fact.kind, fact.key.clone())),
            );
            support.literals.extend(
                reading
                    .sentences
                    .iter()
                    .map(|sentence| sentence.literal.clone()),
            );
            let words = reading
                .tokens
                .iter()
                .filter(|token| token.kind == Kind::Word);
            support
                .words
                .extend(words.map(|token| tokens::stem(&token.key, language)));
            let first_sentence = support.sentences.len();
            support
                .sentences
                .extend((0..reading.sentences.len()).map(|at| (passage, at)));
            for (at, clause) in reading.clauses.iter().enumerate() {
                let number = support.clauses.len();
                support.clauses.push((passage, at));
                for (place, content) in clause.content.iter().enumerate() {
                    note(
                        support.uses.entry(content.stem.clone()).or_default(),
                        clause,
                        place,
                        content,
                    );
                    push_once(
                        support.clauses_of.entry(content.stem.clone()).or_default(),
                        number,
                    );
                    let sentence = first_sentence + clause.sentence;
                    push_once(
                        support
                            .sentences_of
                            .entry(content.stem.clone())
                            .or_default(),
                        sentence,
                    );
                }
            }
        }
        support
    }

    /// Clause by its number.
    pub fn clause(&self, number: usize) -> &Clause {
        let (passage, at) = self.clauses[number];
        &self.readings[passage].clauses[at]
    }
}

/// The entries of an index that share most of `stems`, in order, and how many they share.
pub fn best<'s>(
    index: &HashMap<String, Vec<usize>>,
    stems: impl Iterator<Item = &'s str>,
) -> (usize, Vec<usize>) {
    let mut shared: BTreeMap<usize, usize> = BTreeMap::new();
    let mut seen = HashSet::new();
    for stem in stems.filter(|stem| seen.insert(*stem)) {
        for entry in index.get(stem).map(Vec::as_slice).unwrap_or_default() {
            *shared.entry(*entry).or_default() += 1;
        }
    }
    let most = shared.values().copied().max().unwrap_or(0);
    shared.retain(|_, count| *count == most);
    (most, shared.into_keys().collect())
}

fn push_once(list: &mut Vec<usize>, entry: usize) {
    if list.last() != Some(&entry) {
        list.push(entry);
    }
}

fn note(used: &mut Use, clause: &Clause, place: usize, content: &Content) {
    let head = clause.head == Some(place);
    match clause.polarity {
        Polarity::Stated => {
            used.stated = true;
            used.stated_head |= head;
        }
        Polarity::Denied if content.token >= clause.scope || head => {
            used.denied = true;
            used.denied_head |= head;
        }
        // "Water is not safe" says nothing against water.
        Polarity::Denied => used.stated = true,
        Polarity::Unclear => used.unclear = true,
    }
}
