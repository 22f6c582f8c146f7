//! Where the patterns of the data occur in a text.
//!
//! Every element of a pattern is a class: a set of phrases. A first pass walks a tree of phrases and notes
//! which classes begin at each word; a second one joins classes to patterns. Work per word is bounded by the
//! data, so the whole is linear in the length of the text.

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
/// Units for which one [`Sketch`] of what follows is made, and its size.
const STRETCH: usize = 64;
const SKETCH_BITS: usize = 8192;

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
    /// The second class; none where one class is all.
    next: Option<Class>,
    /// After the first class, in [`Grammar::rests`].
    rest: Places,
    opens: bool,
    closes: bool,
}

/// What lies one after the other in a table of all.
#[derive(Clone, Copy, Debug)]
struct Places {
    from: u32,
    to: u32,
}

impl Places {
    fn of<T>(self, table: &[T]) -> &[T] {
        &table[self.from as usize..self.to as usize]
    }
}

/// Lists of a known number of owners in one table: memory for what they hold, not for each of them.
#[derive(Debug)]
struct Lists<T> {
    /// Where the list of each owner begins; one more at the end.
    starts: Box<[u32]>,
    all: Box<[T]>,
}

impl<T> Lists<T> {
    /// What each owner has, in the order given.
    fn of(owners: usize, mut given: Vec<(u32, T)>) -> Self {
        given.sort_by_key(|&(owner, _)| owner);
        let owners = u32::try_from(owners).unwrap_or(u32::MAX);
        let first = |owner: u32| given.partition_point(|&(other, _)| other < owner);
        let starts = (0..=owners).map(|owner| u32::try_from(first(owner)).unwrap_or(u32::MAX));
        Self {
            starts: starts.collect(),
            all: given.into_iter().map(|(_, one)| one).collect(),
        }
    }

    /// The list of an owner; empty for one nobody knows.
    fn get(&self, owner: u32) -> &[T] {
        let owner = owner as usize;
        match self.starts.get(owner..owner + 2) {
            Some(&[from, to]) => Places { from, to }.of(&self.all),
            _ => &[],
        }
    }
}

/// Which classes may begin in a stretch of text: never denies one that does.
struct Sketch([u64; SKETCH_BITS / 64]);

impl Sketch {
    fn of(items: &[Item]) -> Self {
        let mut bits = [0; SKETCH_BITS / 64];
        for item in items {
            let at = item.class as usize % SKETCH_BITS;
            bits[at / 64] |= 1 << (at % 64);
        }
        Self(bits)
    }

    fn may_hold(&self, class: Class) -> bool {
        let at = class as usize % SKETCH_BITS;
        self.0[at / 64] & (1 << (at % 64)) != 0
    }
}

/// A class that begins at a unit.
#[derive(Clone, Copy, Debug)]
struct Item {
    class: Class,
    end: u32,
    edits: u8,
}

/// All patterns of all languages.
#[derive(Debug)]
pub struct Grammar {
    /// From the root of the tree of phrases: the node of each word, 0 for none.
    roots: Box<[Node]>,
    /// From every other node: words in order, each with its node.
    steps: Lists<(Word, Node)>,
    /// Classes whose phrase ends at a node, each once.
    ends: Lists<Class>,
    by_first: Lists<Rule>,
    /// Words that may be skipped, and the class that follows.
    rests: Box<[(u8, Class)]>,
    /// Units within which the second class of a rule begins, counted from its start.
    reach: usize,
}

/// Collects the patterns of the files.
#[derive(Debug, Default)]
pub struct Builder {
    steps: FxHashMap<(Node, Word), Node>,
    ends: Vec<(Node, Class)>,
    rules: Vec<(Class, Rule)>,
    rests: Vec<(u8, Class)>,
    classes: FxHashMap<Vec<Vec<Word>>, Class>,
    longest: usize,
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
        let rest: Vec<(u8, Class)> = classes.collect();
        let place = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let from = place(self.rests.len());
        self.rests.extend(&rest);
        let rule = Rule {
            cue,
            context,
            langs: 1 << lang,
            next: rest.first().map(|&(_, class)| class),
            rest: Places {
                from,
                to: place(self.rests.len()),
            },
            opens: pattern.opens,
            closes: pattern.closes,
        };
        self.rules.push((first, rule));
    }

    fn class(&mut self, phrases: Vec<Vec<Word>>) -> Class {
        if let Some(&class) = self.classes.get(&phrases) {
            return class;
        }
        let class = Class::try_from(self.classes.len()).unwrap_or(Class::MAX);
        for phrase in &phrases {
            self.longest = self.longest.max(phrase.len());
            let mut node = 0;
            for &word in phrase {
                let next = Node::try_from(self.steps.len() + 1).unwrap_or(Node::MAX);
                node = *self.steps.entry((node, word)).or_insert(next);
            }
            self.ends.push((node, class));
        }
        self.classes.insert(phrases, class);
        class
    }

    /// The grammar, ready to match.
    pub fn finish(mut self) -> Grammar {
        let nodes = self.steps.len() + 1;
        self.ends.sort_unstable();
        self.ends.dedup();
        let mut steps: Vec<(Node, (Word, Node))> = (self.steps.into_iter())
            .map(|((node, word), next)| (node, (word, next)))
            .collect();
        steps.sort_unstable();
        let inner = steps.split_off(steps.partition_point(|&(node, _)| node == 0));
        let words = steps.last().map_or(0, |&(_, (word, _))| word as usize + 1);
        let mut roots = vec![0; words];
        for (_, (word, next)) in steps {
            roots[word as usize] = next;
        }
        let longest_gap = self.rests.iter().map(|&(gap, _)| gap).max().unwrap_or(0);
        Grammar {
            roots: roots.into(),
            steps: Lists::of(nodes, inner),
            ends: Lists::of(nodes, self.ends),
            by_first: Lists::of(self.classes.len(), self.rules),
            rests: self.rests.into(),
            reach: self.longest + usize::from(longest_gap) + FREE_SKIPS + 1,
        }
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
        let mut follow = Sketch::of(&[]);
        for (start, unit) in units.iter().enumerate() {
            if start % STRETCH == 0 {
                let end = units.len().min(start + STRETCH + self.reach);
                follow = Sketch::of(&chart.items[chart.first[start]..chart.first[end]]);
            }
            let from = hits.len();
            for item in chart.at(start) {
                for rule in self.by_first.get(item.class) {
                    if rule.langs & active == 0
                        || rule.next.is_some_and(|next| !follow.may_hold(next))
                        || (rule.opens && !chart.opens(start))
                    {
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
                    let rest = rule.rest.of(&self.rests);
                    if let Some(hit) = chart.follow(rest, rule.closes, first) {
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

    fn step(&self, node: Node, word: Word) -> Option<Node> {
        if node == 0 {
            let next = self.roots.get(word as usize).copied();
            return next.filter(|&next| next != 0);
        }
        let steps = self.steps.get(node);
        let at = steps
            .binary_search_by_key(&word, |&(known, _)| known)
            .ok()?;
        Some(steps[at].1)
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
            if let Some(next) = self.step(node, reading.word) {
                let edits = edits.saturating_add(reading.edits);
                let end = u32::try_from(at + 1).unwrap_or(u32::MAX);
                items.extend(
                    self.ends
                        .get(next)
                        .iter()
                        .map(|&class| Item { class, end, edits }),
                );
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
