//! What the packer knows: which characters follow which, how sure a count makes, and how guesses are weighed.
//!
//! A *context* is the last 0 to [`MAX_ORDER`] characters; each context lists what followed it in training and
//! how often, as a *level* of the count. Numbers are one sign in a context, so that no number is remembered.

use rustc_hash::FxHashMap;

use super::letters;
use super::mix::Weights;

/// Longest context in characters.
pub const MAX_ORDER: usize = 12;
/// Symbol of the end of a text, and of its beginning in a context.
pub const END: u8 = 0;
/// Symbol of a character that is not in the alphabet.
pub const ESCAPE: u8 = 1;
/// First symbol that stands for a character.
pub const FIRST: u8 = 2;
/// Most characters of an alphabet.
pub const MAX_LETTERS: usize = 254;
/// Levels that counts are told apart in.
pub const LEVELS: usize = 24;
/// Context orders that guess, each with its own table of guesses; the last two are the longest ones found.
pub const GUESSERS: usize = 8;
/// Places of the table of words, for how they are written.
pub const WORDS: usize = 1 << 14;

/// Level of a count: exact up to 7, then two a doubling, all from 2,048 on alike.
pub fn level(count: u32) -> u8 {
    if count < 8 {
        return u8::try_from(count).unwrap_or(7);
    }
    let log = count.ilog2();
    let half = (count >> (log - 1)) & 1;
    u8::try_from((8 + 2 * (log - 3) + half).min(23)).unwrap_or(23)
}

/// Smallest count of a level.
pub fn count(level: u8) -> u32 {
    let level = u32::from(level);
    if level < 8 {
        return level;
    }
    let (log, half) = ((level - 8) / 2 + 3, (level - 8) % 2);
    (1 << log) + half * (1 << (log - 1))
}

/// A decision on the way to a symbol: is it `middle` or above? Below it there are left and right nodes, or
/// the symbol itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// First symbol of the right half.
    pub middle: u8,
    /// Where to go on, by decision; None: one symbol is left.
    pub next: [Option<u8>; 2],
}

/// What followed a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follower {
    /// Which symbol.
    pub symbol: u8,
    /// Level of how often.
    pub level: u8,
}

/// All contexts with their followers, in memory taken once: 4 octets each for where followers start and for
/// what is left of the hash, 6 for its place, 2 per follower.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contexts {
    starts: Vec<u32>,
    followers: Vec<Follower>,
    /// Low half of the hash of each context.
    checks: Vec<u32>,
    /// Open addressing by the high half: the number of a context.
    slots: Vec<u32>,
}

/// Takes one more, older symbol into the hash of a context; a hash starts at 0.
pub fn deeper(hash: u64, symbol: u8) -> u64 {
    (hash + u64::from(symbol) + 1)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .rotate_left(23)
}

const EMPTY: u32 = u32::MAX;

impl Contexts {
    /// Room for that many contexts and followers.
    pub fn with_capacity(contexts: usize, followers: usize) -> Self {
        let mut starts = Vec::with_capacity(contexts + 1);
        starts.push(0);
        Self {
            starts,
            followers: Vec::with_capacity(followers),
            checks: Vec::with_capacity(contexts),
            slots: vec![EMPTY; contexts + contexts / 2 + 1],
        }
    }

    /// Adds a context; its followers are in order of their symbols. None: there is no room left.
    pub fn push(&mut self, hash: u64, followers: &[Follower]) -> Option<u32> {
        let id = u32::try_from(self.checks.len()).ok()?;
        if self.checks.len() * 3 / 2 + 1 >= self.slots.len() {
            return None;
        }
        let (mut at, check) = self.place(hash);
        while self.slots[at] != EMPTY {
            at = (at + 1) % self.slots.len();
        }
        self.slots[at] = id;
        self.checks.push(check);
        self.followers.extend_from_slice(followers);
        self.starts.push(u32::try_from(self.followers.len()).ok()?);
        Some(id)
    }

    /// First slot of a hash, and what is left of it to compare.
    fn place(&self, hash: u64) -> (usize, u32) {
        let scaled = ((hash >> 32) * self.slots.len() as u64) >> 32;
        let check = u32::try_from(hash & 0xFFFF_FFFF).unwrap_or(0);
        (usize::try_from(scaled).unwrap_or(0), check)
    }

    /// Number of the context of a hash. Another context's in one of billions: a worse guess, at both ends.
    pub fn find(&self, hash: u64) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let (mut at, check) = self.place(hash);
        while self.slots[at] != EMPTY {
            let id = self.slots[at];
            if self.checks[id as usize] == check {
                return Some(id);
            }
            at = (at + 1) % self.slots.len();
        }
        None
    }

    /// What followed a context, in order of the symbols.
    pub fn followers(&self, id: u32) -> &[Follower] {
        let id = id as usize;
        &self.followers[self.starts[id] as usize..self.starts[id + 1] as usize]
    }

    /// Contexts, and followers of all of them.
    pub fn size(&self) -> (usize, usize) {
        (self.checks.len(), self.followers.len())
    }

    /// Octets of memory.
    pub fn octets(&self) -> usize {
        let numbers = self.starts.capacity() + self.slots.capacity() + self.checks.capacity();
        numbers * 4 + self.followers.capacity() * 2
    }
}

/// What training leaves to go on learning: guesses and weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuned {
    /// Guess by guesser and the levels of both decisions, a stretch times 256.
    pub guesses: Vec<i32>,
    /// Guess by how long the text repeats itself.
    pub repeats: Vec<i32>,
    /// Guess by what followed the same two letters before in this text.
    pub recent: Vec<i32>,
    /// First layer, by longest context.
    pub by_order: Weights,
    /// First layer, by node of the symbol tree.
    pub by_node: Weights,
    /// First layer, by how sure the two longest contexts are.
    pub by_surety: Weights,
    /// Second layer, by longest context.
    pub last: Weights,
    /// Guess at the form of a word by decision and how it was written in training.
    pub form_words: Vec<i32>,
    /// The same by decision and what stands before the word.
    pub form_places: Vec<i32>,
    /// Weighs both, by decision.
    pub forms: Weights,
}

/// Guesses for one symbol decision: the guessers, two of this text, and a constant.
pub const INPUTS: usize = GUESSERS + 3;
/// Lengths of a repetition that are told apart.
pub const REPEATS: usize = 16;
/// Sets by how sure the two longest contexts are, and whether the text repeats itself.
pub const SURETIES: usize = 9 * 9 * 2;
/// Decisions about the form of a word: small, else title, else capital.
pub const FORM_DECISIONS: usize = 3;
/// What may stand before a word: sentence start, forms of the two words before, length.
pub const FORM_PLACES: usize = 3 * 5 * 5 * 3;

/// Stretch times 256 of a count of yes among yes and no, for a table that nothing was learned about.
fn first_guess(no: usize, yes: usize) -> i32 {
    // Steps of ln(count + 1/2) of the levels, times 256.
    const LOGS: [i32; LEVELS] = [
        -177, 104, 235, 321, 385, 436, 479, 516, 548, 647, 718, 820, 892, 995, 1068, 1171, 1244,
        1348, 1421, 1525, 1599, 1702, 1776, 1880,
    ];
    (LOGS[yes] - LOGS[no]) * 256
}

impl Tuned {
    /// Before any training.
    pub fn new(nodes: usize) -> Self {
        let table: Vec<i32> = (0..LEVELS * LEVELS)
            .map(|at| first_guess(at / LEVELS, at % LEVELS))
            .collect();
        let even = super::mix::ONE * 2 / 5;
        Self {
            guesses: table.repeat(GUESSERS),
            repeats: vec![256 * 256; REPEATS],
            recent: table.clone(),
            by_order: Weights::new(MAX_ORDER + 1, INPUTS, even),
            by_node: Weights::new(nodes, INPUTS, even),
            by_surety: Weights::new(SURETIES, INPUTS, even),
            last: Weights::new(MAX_ORDER + 1, 3, super::mix::ONE / 3),
            form_words: vec![0; FORM_DECISIONS * 256],
            form_places: vec![0; FORM_DECISIONS * FORM_PLACES],
            forms: Weights::new(FORM_DECISIONS, 2, super::mix::ONE * 2 / 3),
        }
    }

    /// All numbers in the order of the file.
    pub fn parts(&mut self) -> [(&mut [i32], u32); 10] {
        // Guesses keep 1/256 of a stretch, weights 1/1024 of a weight.
        [
            (&mut self.guesses, 8),
            (&mut self.repeats, 8),
            (&mut self.recent, 8),
            (self.by_order.all_mut(), 6),
            (self.by_node.all_mut(), 6),
            (self.by_surety.all_mut(), 6),
            (self.last.all_mut(), 6),
            (&mut self.form_words, 8),
            (&mut self.form_places, 8),
            (self.forms.all_mut(), 6),
        ]
    }
}

/// A trained model, immutable, shared between threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Tells models apart: 1 to 15, in each frame. Whoever changes what the same text becomes, takes another.
    pub number: u8,
    /// Characters of the symbols from [`FIRST`] on.
    pub letters: Vec<char>,
    symbols: FxHashMap<char, u8>,
    /// What a symbol is in a context: digits are one.
    pub shown: Vec<u8>,
    /// Decisions to a symbol; the first one is the root.
    pub nodes: Vec<Node>,
    /// The contexts; number 0 is the empty one.
    pub contexts: Contexts,
    /// How words were written: levels of small and of other forms, four bits each.
    pub words: Vec<u8>,
    /// Guesses and weights.
    pub tuned: Tuned,
}

impl Model {
    /// A model of an alphabet whose symbols were that frequent; `weights` has END and ESCAPE first.
    pub fn new(letters: Vec<char>, weights: &[u32]) -> Self {
        let symbols: FxHashMap<char, u8> = letters.iter().copied().zip(FIRST..=u8::MAX).collect();
        let digit = letters
            .iter()
            .zip(FIRST..=u8::MAX)
            .find(|(c, _)| c.is_ascii_digit());
        let digit = digit.map(|(_, symbol)| symbol);
        let mut shown = vec![END, ESCAPE];
        for (c, symbol) in letters.iter().zip(FIRST..=u8::MAX) {
            shown.push(match digit {
                Some(digit) if c.is_ascii_digit() => digit,
                _ => symbol,
            });
        }
        let mut nodes = Vec::new();
        split(weights, 0, weights.len(), &mut nodes);
        let tuned = Tuned::new(nodes.len());
        Self {
            number: 1,
            letters,
            symbols,
            shown,
            nodes,
            contexts: Contexts::default(),
            words: vec![0; WORDS],
            tuned,
        }
    }

    /// Symbol of a character in small letters.
    pub fn symbol(&self, folded: char) -> u8 {
        self.symbols.get(&folded).copied().unwrap_or(ESCAPE)
    }

    /// Symbols there are.
    pub fn symbols(&self) -> usize {
        self.letters.len() + usize::from(FIRST)
    }
}

/// Whether a character belongs to a word that may be written in capitals.
pub fn in_word(folded: char) -> bool {
    letters::capital(folded).is_some()
}

/// Halves a range of symbols by weight, down to single ones; gives the number of the node.
fn split(weights: &[u32], low: usize, high: usize, nodes: &mut Vec<Node>) -> Option<u8> {
    if high - low < 2 {
        return None;
    }
    let total: u64 = weights[low..high].iter().map(|w| u64::from(*w)).sum();
    let mut below = 0;
    let mut best = (u64::MAX, low + 1);
    for (middle, weight) in (low + 1..high).zip(&weights[low..]) {
        below += u64::from(*weight);
        best = best.min((below.abs_diff(total - below), middle));
    }
    let middle = best.1;
    let id = nodes.len();
    nodes.push(Node {
        middle: u8::try_from(middle).unwrap_or(u8::MAX),
        next: [None, None],
    });
    let left = split(weights, low, middle, nodes);
    let right = split(weights, middle, high, nodes);
    nodes[id].next = [left, right];
    u8::try_from(id).ok()
}
