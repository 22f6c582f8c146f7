//! Where the patterns of the data occur in a text.
//!
//! Every element of a pattern is a class: a set of phrases. A first pass walks a tree of phrases and notes
//! which classes begin at each word; a second one joins classes to patterns. Work per word is bounded by the
//! data, so the whole is linear in the length of the text.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::data::{Pattern, Phrase};
use super::lexicon::{Langs, Word};
use super::normal::Break;
use super::reader::{ReadText, Skip, Unit};

/// Index of a cue.
pub type Cue = u16;
type Class = u32;
type Node = u32;

/// Words a pattern skips for nothing, in one place.
const FREE_SKIPS: usize = 3;

/// One occurrence of a cue: units `start..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The cue.
    pub cue: Cue,
    /// First unit.
    pub start: usize,
    /// Unit after the last one.
    pub end: usize,
    /// Edits that had to be assumed to read it.
    pub edits: u8,
    /// The units that it is made of, counted from the first; what it skipped is not among them.
    pub made_of: u64,
}

impl Hit {
    /// Whether another one lies in it and shares a word with it: «wont» of «wont stop bleeding». What only stands
    /// in a gap of it shares none: «fixed» of «gas company fixed the leak».
    pub fn is_made_of(&self, other: &Self) -> bool {
        let within = self.start <= other.start && other.end <= self.end;
        let shift = u32::try_from(other.start.saturating_sub(self.start)).unwrap_or(u32::MAX);
        within && self.made_of & other.made_of.checked_shl(shift).unwrap_or(0) != 0
    }
}

/// The units from `low` to `high` as bits counted from `start`; a pattern is never as long as the bits are many.
fn units_from(start: usize, low: usize, high: usize) -> u64 {
    (low..high)
        .map(|at| at.saturating_sub(start))
        .filter(|&bit| bit < u64::BITS as usize)
        .fold(0, |bits, bit| bits | 1 << bit)
}

#[derive(Debug)]
struct Rule {
    cue: Cue,
    /// Whether the cue only changes what others say.
    context: bool,
    langs: Langs,
    /// After the first class: words that may be skipped, and the class that follows.
    rest: Vec<(u8, Class)>,
    opens: bool,
    closes: bool,
}

/// A class that begins at a unit.
#[derive(Clone, Copy, Debug)]
struct Item {
    class: Class,
    end: u32,
    edits: u8,
}

/// All patterns of all languages.
#[derive(Debug, Default)]
pub struct Grammar {
    steps: FxHashMap<(Node, Word), Node>,
    /// Classes whose phrase ends at a node, each once.
    ends: Vec<Vec<Class>>,
    by_first: Vec<Vec<Rule>>,
}

/// Collects the patterns of the files.
#[derive(Debug, Default)]
pub struct Builder {
    grammar: Grammar,
    classes: BTreeMap<Vec<Vec<Word>>, Class>,
}

impl Builder {
    /// Adds one pattern of a cue. `word` finds the word of a string.
    pub fn pattern(
        &mut self,
        cue: Cue,
        context: bool,
        lang: usize,
        pattern: &Pattern,
        mut word: impl FnMut(&str) -> Word,
    ) {
        let mut classes = pattern.elements.iter().map(|element| {
            let phrases = element
                .phrases
                .iter()
                .map(|phrase: &Phrase| phrase.iter().map(|w| word(w)).collect())
                .collect();
            (element.gap, self.class(phrases))
        });
        let Some((_, first)) = classes.next() else {
            return;
        };
        let rest = classes.collect();
        self.grammar.by_first[first as usize].push(Rule {
            cue,
            context,
            langs: 1 << lang,
            rest,
            opens: pattern.opens,
            closes: pattern.closes,
        });
    }

    fn class(&mut self, phrases: Vec<Vec<Word>>) -> Class {
        if let Some(&class) = self.classes.get(&phrases) {
            return class;
        }
        let class = Class::try_from(self.grammar.by_first.len()).unwrap_or(Class::MAX);
        self.grammar.by_first.push(Vec::new());
        for phrase in &phrases {
            let mut node = 0;
            for &word in phrase {
                let ends = &mut self.grammar.ends;
                if ends.is_empty() {
                    ends.push(Vec::new());
                }
                node = *self.grammar.steps.entry((node, word)).or_insert_with(|| {
                    ends.push(Vec::new());
                    Node::try_from(ends.len() - 1).unwrap_or(Node::MAX)
                });
            }
            self.grammar.ends[node as usize].push(class);
        }
        self.classes.insert(phrases, class);
        class
    }

    /// The grammar, ready to match.
    pub fn finish(mut self) -> Grammar {
        for classes in &mut self.grammar.ends {
            classes.sort_unstable();
            classes.dedup();
        }
        self.grammar
    }
}

impl Grammar {
    /// Every occurrence of every cue, ordered by place. Of two readings that end at the same place for the
    /// same beginning one is kept.
    pub fn find(&self, text: &ReadText) -> Vec<Hit> {
        let ReadText {
            units,
            guess,
            active,
        } = text;
        let own: Langs = 1 << guess.lang;
        let chart = self.chart(units);
        let mut hits: Vec<Hit> = Vec::with_capacity(16);
        for (start, unit) in units.iter().enumerate() {
            let from = hits.len();
            for item in chart.at(start) {
                for rule in &self.by_first[item.class as usize] {
                    if rule.langs & active == 0 || (rule.opens && !chart.opens(start)) {
                        continue;
                    }
                    // «NO PREDIO» is Portuguese; the Spanish negation in it says nothing.
                    if rule.context && rule.langs & own == 0 && unit.ordinary {
                        continue;
                    }
                    let first = Hit {
                        cue: rule.cue,
                        start,
                        end: item.end as usize,
                        edits: item.edits,
                        made_of: units_from(start, start, item.end as usize),
                    };
                    if let Some(hit) = chart.follow(&rule.rest, rule.closes, first) {
                        match hits[from..]
                            .iter_mut()
                            .find(|h| h.cue == hit.cue && h.end == hit.end)
                        {
                            Some(known) => known.edits = known.edits.min(hit.edits),
                            None => hits.push(hit),
                        }
                    }
                }
            }
        }
        hits
    }

    fn chart<'u>(&self, units: &'u [Unit]) -> Chart<'u> {
        let mut chart = Chart {
            units,
            items: Vec::with_capacity(units.len() * 8),
            first: Vec::with_capacity(units.len() + 1),
        };
        for start in 0..units.len() {
            let from = chart.items.len();
            chart.first.push(from);
            self.walk(units, start, start, 0, 0, &mut chart.items);
            chart.items[from..].sort_unstable_by_key(|item| (item.class, item.edits));
        }
        chart.first.push(chart.items.len());
        chart
    }

    fn walk(
        &self,
        units: &[Unit],
        start: usize,
        at: usize,
        node: Node,
        edits: u8,
        items: &mut Vec<Item>,
    ) {
        let Some(unit) = units.get(at) else { return };
        if at > start && unit.before == Break::Sentence {
            return;
        }
        for reading in unit.readings() {
            if let Some(&next) = self.steps.get(&(node, reading.word)) {
                let edits = edits.saturating_add(reading.edits);
                let end = u32::try_from(at + 1).unwrap_or(u32::MAX);
                items.extend(self.ends[next as usize].iter().map(|&class| Item {
                    class,
                    end,
                    edits,
                }));
                self.walk(units, start, at + 1, next, edits, items);
            }
        }
    }
}

struct Chart<'u> {
    units: &'u [Unit],
    items: Vec<Item>,
    first: Vec<usize>,
}

impl Chart<'_> {
    fn at(&self, start: usize) -> &[Item] {
        &self.items[self.first[start]..self.first[start + 1]]
    }

    /// Whether a sentence begins at this unit, but for words that count for nothing: «hello, is it …».
    fn opens(&self, at: usize) -> bool {
        let mut at = at;
        for _ in 0..=FREE_SKIPS {
            if at == 0 || self.units[at].before == Break::Sentence {
                return true;
            }
            at -= 1;
            if self.units[at].skip != Skip::Free {
                return false;
            }
        }
        false
    }

    /// Whether the text or the sentence ends before this unit.
    fn closes(&self, at: usize) -> bool {
        self.units
            .get(at)
            .is_none_or(|unit| unit.before == Break::Sentence)
    }

    /// The nearest match of the rest of a pattern behind what is matched already.
    fn follow(&self, rest: &[(u8, Class)], closes: bool, matched: Hit) -> Option<Hit> {
        let Some((&(gap, class), rest)) = rest.split_first() else {
            return (!closes || self.closes(matched.end)).then_some(matched);
        };
        let (mut paid, mut free) = (0, 0);
        for at in matched.end..self.units.len() {
            let unit = &self.units[at];
            if unit.before == Break::Sentence {
                return None;
            }
            let items = self.at(at);
            let begin = items.partition_point(|item| item.class < class);
            for item in items[begin..].iter().take_while(|item| item.class == class) {
                let end = item.end as usize;
                let longer = Hit {
                    end,
                    edits: matched.edits.saturating_add(item.edits),
                    made_of: matched.made_of | units_from(matched.start, at, end),
                    ..matched
                };
                if let Some(found) = self.follow(rest, closes, longer) {
                    return Some(found);
                }
            }
            match unit.skip {
                Skip::Free if free < FREE_SKIPS => free += 1,
                Skip::Free | Skip::Paid if paid < usize::from(gap) => paid += 1,
                _ => return None,
            }
        }
        None
    }
}
