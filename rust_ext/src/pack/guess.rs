//! One text on its way through the model: each character is a few decisions, each with a probability.

use super::coder::Bits;
use super::letters::Form;
use super::mix::{self, squash};
use super::model::{
    END, FORM_PLACES, Follower, GUESSERS, INPUTS, LEVELS, MAX_ORDER, Model, REPEATS, Tuned, WORDS,
    count, deeper, in_word, level,
};

/// How fast weights and guesses learn; 1,024 is a whole step of the gradient.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Weights of both layers.
    pub weights: i32,
    /// Tables of guesses; 0 outside of training.
    pub guesses: i32,
}

/// Places of the table of what followed two letters in this text.
const RECENT: usize = 4096;

/// State of a text; writer and reader go through the same one.
#[derive(Debug)]
pub struct Session<'m> {
    model: &'m Model,
    /// Copy that learns.
    pub tuned: Tuned,
    rates: Rates,
    /// Symbols as contexts see them, from the beginning of the text.
    shown: Vec<u8>,
    recent: Vec<(u8, u8)>,
    /// Where three symbols last stood, by hash.
    places: Vec<u32>,
    repeat: usize,
    repeat_length: usize,
    word: u64,
    word_length: usize,
    before: [u8; 2],
    sentence: u8,
    pending_sentence: u8,
    escapes: [u16; 65],
    block: u32,
    flags: [u16; 2],
}

/// A context's followers that are still possible.
struct Open<'a> {
    guesser: usize,
    left: &'a [Follower],
    total: u32,
}

impl<'m> Session<'m> {
    /// Before the first text.
    pub fn new(model: &'m Model, rates: Rates) -> Self {
        let mut session = Self {
            model,
            tuned: model.tuned.clone(),
            rates,
            shown: Vec::new(),
            recent: Vec::new(),
            places: Vec::new(),
            repeat: 0,
            repeat_length: 0,
            word: 0,
            word_length: 0,
            before: [4; 2],
            sentence: 2,
            pending_sentence: 2,
            escapes: [0; 65],
            block: 0,
            flags: [0; 2],
        };
        session.restart();
        session
    }

    /// Forgets the text, keeps what was learned.
    pub fn restart(&mut self) {
        self.shown.clear();
        self.shown.push(END);
        self.recent.clear();
        self.recent.resize(RECENT, (0, 0));
        self.places.clear();
        self.places.resize(1024, 0);
        (self.repeat, self.repeat_length) = (0, 0);
        (self.word, self.word_length) = (0, 0);
        self.before = [4; 2];
        (self.sentence, self.pending_sentence) = (2, 2);
        self.escapes = [1 << 15; 65];
        self.block = 0;
        self.flags = [1 << 15; 2];
    }

    /// Writes the symbol of a character in small letters.
    pub fn write(&mut self, io: &mut impl Bits, small: char) -> u8 {
        self.symbol(io, self.model.symbol(small))
    }

    /// Codes one symbol.
    pub fn symbol(&mut self, io: &mut impl Bits, symbol: u8) -> u8 {
        let model = self.model;
        let mut open: Vec<Open<'_>> = Vec::with_capacity(GUESSERS);
        let order = self.open(&mut open);
        let expected = self.expected();
        let mut at = 0u8;
        let (mut low, mut high) = (0usize, model.symbols());
        let seed = self.recent_seed();
        loop {
            let node = model.nodes[usize::from(at)];
            let middle = usize::from(node.middle);
            let mut guesses = [0i32; INPUTS];
            let mut states = [None; INPUTS];
            let mut halves = [0usize; GUESSERS];
            let mut counts = [0u32; GUESSERS];
            for (index, context) in open.iter().enumerate() {
                let cut = context.left.partition_point(|f| f.symbol < node.middle);
                let no: u32 = context.left[..cut].iter().map(|f| count(f.level)).sum();
                let yes = context.total - no;
                let state = (context.guesser * LEVELS + usize::from(level(no))) * LEVELS
                    + usize::from(level(yes));
                guesses[context.guesser] = self.tuned.guesses[state] >> 8;
                states[context.guesser] = Some(state);
                (halves[index], counts[index]) = (cut, no);
            }
            let right = match expected {
                Some(expected) if (low..high).contains(&expected) => Some(expected >= middle),
                _ => None,
            };
            let length = self.repeat_length.min(REPEATS - 1);
            if let Some(right) = right {
                let guess = self.tuned.repeats[length] >> 8;
                guesses[GUESSERS] = if right { guess } else { -guess };
            }
            let slot = (seed.wrapping_mul(usize::from(at) + 1) >> 7) % RECENT;
            let (no, yes) = self.recent[slot];
            let state = usize::from(no) * LEVELS + usize::from(yes);
            if no + yes > 0 {
                guesses[GUESSERS + 1] = self.tuned.recent[state] >> 8;
                states[GUESSERS + 1] = Some(state);
            }
            guesses[GUESSERS + 2] = 256;

            let surety = surety(&open, &counts) * 2 + usize::from(right.is_some());
            let sets = [order, usize::from(at), surety];
            let layer = [
                &self.tuned.by_order,
                &self.tuned.by_node,
                &self.tuned.by_surety,
            ];
            let mixed: [i32; 3] = std::array::from_fn(|i| layer[i].mix(sets[i], &guesses));
            let p = squash(self.tuned.last.mix(order, &mixed));
            let bit = io.code(usize::from(symbol) >= middle, p.unsigned_abs());

            let outcome = if bit { 65_536 } else { 0 };
            let rate = self.rates.weights;
            self.tuned.last.learn(order, &mixed, outcome - p, rate / 4);
            let tuned = &mut self.tuned;
            let layer = [
                &mut tuned.by_order,
                &mut tuned.by_node,
                &mut tuned.by_surety,
            ];
            for ((weights, set), mixed) in layer.into_iter().zip(sets).zip(mixed) {
                weights.learn(set, &guesses, outcome - squash(mixed), rate);
            }
            if self.rates.guesses > 0 {
                self.learn_guesses(&states, right.map(|right| (length, right)), bit);
            }
            let after = &mut self.recent[slot];
            if bit {
                *after = (after.0.min(2), (after.1 + 1).min(20));
            } else {
                *after = ((after.0 + 1).min(20), after.1.min(2));
            }
            for (index, context) in open.iter_mut().enumerate() {
                let (left, right) = context.left.split_at(halves[index]);
                if bit {
                    context.left = right;
                    context.total -= counts[index];
                } else {
                    context.left = left;
                    context.total = counts[index];
                }
            }
            if bit {
                low = middle;
            } else {
                high = middle;
            }
            match node.next[usize::from(bit)] {
                Some(next) => at = next,
                None => break,
            }
        }
        let symbol = u8::try_from(low).unwrap_or(END);
        self.take(symbol);
        symbol
    }

    fn learn_guesses(
        &mut self,
        states: &[Option<usize>; INPUTS],
        repeat: Option<(usize, bool)>,
        bit: bool,
    ) {
        let rate = self.rates.guesses;
        let step = |guess: &mut i32, bit: bool| {
            let error = if bit { 65_536 } else { 0 } - squash(*guess >> 8);
            *guess = (*guess + ((error * rate) >> 10))
                .clamp(-mix::MAX_STRETCH << 8, mix::MAX_STRETCH << 8);
        };
        for state in states[..GUESSERS].iter().flatten() {
            step(&mut self.tuned.guesses[*state], bit);
        }
        if let Some(state) = states[GUESSERS + 1] {
            step(&mut self.tuned.recent[state], bit);
        }
        if let Some((length, right)) = repeat {
            step(&mut self.tuned.repeats[length], bit == right);
        }
    }

    /// Contexts of what was just read, shortest first; gives the length of the longest.
    fn open(&self, open: &mut Vec<Open<'m>>) -> usize {
        let contexts = &self.model.contexts;
        let mut hash = 0;
        let mut order = 0;
        let mut found = [0u32; MAX_ORDER];
        for symbol in self.shown.iter().rev().take(MAX_ORDER) {
            hash = deeper(hash, *symbol);
            let Some(id) = contexts.find(hash) else { break };
            found[order] = id;
            order += 1;
        }
        let fixed = GUESSERS - 2;
        for (at, id) in found[..order].iter().enumerate() {
            let guesser = if at < fixed {
                at
            } else if at + 1 == order {
                fixed + 1
            } else if at + 2 == order {
                fixed
            } else {
                continue;
            };
            let left = contexts.followers(*id);
            open.push(Open {
                guesser,
                left,
                total: left.iter().map(|f| count(f.level)).sum(),
            });
        }
        order
    }

    fn recent_seed(&self) -> usize {
        let length = self.shown.len();
        let [a, b] = [self.shown[length - 1], self.shown[length.saturating_sub(2)]];
        ((usize::from(a) << 8 | usize::from(b)) + 1).wrapping_mul(0x9E37_79B1) | 1
    }

    /// Symbol that followed the last time the text stood here.
    fn expected(&self) -> Option<usize> {
        (self.repeat_length > 0).then(|| usize::from(self.shown[self.repeat]))
    }

    /// Moves on by a symbol.
    fn take(&mut self, symbol: u8) {
        let shown = self.model.shown[usize::from(symbol)];
        if self.repeat_length > 0 && self.shown[self.repeat] == shown {
            self.repeat += 1;
            self.repeat_length += 1;
        } else {
            self.repeat_length = 0;
        }
        self.shown.push(shown);
        let length = self.shown.len();
        if length > 3 {
            let hash = self.shown[length - 3..]
                .iter()
                .fold(0usize, |hash, s| hash * 257 + usize::from(*s));
            let place = &mut self.places[hash % 1021];
            if self.repeat_length == 0 && *place > 0 {
                self.repeat = *place as usize;
                let back = self.shown[..self.repeat].iter().rev();
                let same = back
                    .zip(self.shown.iter().rev())
                    .take_while(|(a, b)| a == b);
                self.repeat_length = same.take(32).count();
                if self.repeat_length < 3 {
                    self.repeat_length = 0;
                }
            }
            *place = u32::try_from(length).unwrap_or(0);
        }
    }

    /// Codes a character that is not in the alphabet; None if the octets name none.
    pub fn escaped(&mut self, io: &mut impl Bits, c: u32) -> Option<char> {
        let half = 1 << 15;
        let same = adaptive(io, &mut self.escapes[64], c >> 6 == self.block);
        if !same {
            let mut block = 0;
            for bit in (0..15).rev() {
                block = block << 1 | u32::from(io.code((c >> 6) >> bit & 1 == 1, half));
            }
            self.block = block;
            self.escapes[..64].fill(1 << 15);
        }
        let mut node = 1usize;
        for bit in (0..6).rev() {
            let one = adaptive(io, &mut self.escapes[node], c >> bit & 1 == 1);
            node = node << 1 | usize::from(one);
        }
        char::from_u32(self.block << 6 | u32::try_from(node & 63).unwrap_or(0))
    }

    /// Takes the character that a symbol or an escape stood for into the current word. True: a word has just
    /// ended before it, and its form is to be coded.
    pub fn letter(&mut self, folded: Option<char>) -> bool {
        match folded {
            Some(c) if in_word(c) => {
                if self.word_length == 0 {
                    self.word = 0;
                    self.sentence = self.pending_sentence;
                    self.pending_sentence = 0;
                }
                self.word = (self.word + u64::from(c) + 1)
                    .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                    .rotate_left(19);
                self.word_length += 1;
                false
            }
            other => {
                if matches!(other, Some('.' | '!' | '?' | '\n' | ':')) {
                    self.pending_sentence = 1;
                }
                self.word_length > 0
            }
        }
    }

    /// Place of the word that has just ended in the table of words.
    pub fn word(&self) -> usize {
        usize::try_from(self.word >> 32).unwrap_or(0) % WORDS
    }

    /// Codes how the word that has just ended is written.
    pub fn form(&mut self, io: &mut impl Bits, form: Form) -> Form {
        let length = self.word_length.min(3) - 1;
        let [b0, b1] = self.before.map(usize::from);
        let place = ((usize::from(self.sentence) * 5 + b0) * 5 + b1) * 3 + length;
        let word = usize::from(self.model.words[self.word()]);
        let kinds = [Form::Small, Form::Title, Form::Capital];
        let mut found = Form::Mixed;
        for (decision, kind) in kinds.into_iter().enumerate() {
            if kind == Form::Capital && length == 0 {
                continue; // one letter: it is a title already
            }
            let at_word = decision * 256 + word;
            let at_place = decision * FORM_PLACES + place;
            let guesses = [
                self.tuned.form_words[at_word] >> 8,
                self.tuned.form_places[at_place] >> 8,
            ];
            let p = squash(self.tuned.forms.mix(decision, &guesses));
            let bit = io.code(form == kind, p.unsigned_abs());
            let outcome = if bit { 65_536 } else { 0 };
            let rate = self.rates.weights;
            self.tuned
                .forms
                .learn(decision, &guesses, outcome - p, rate);
            if self.rates.guesses > 0 {
                for guess in [
                    &mut self.tuned.form_words[at_word],
                    &mut self.tuned.form_places[at_place],
                ] {
                    let error = outcome - squash(*guess >> 8);
                    *guess += (error * self.rates.guesses) >> 10;
                }
            }
            if bit {
                found = kind;
                break;
            }
        }
        let code = match found {
            Form::Small => 0,
            Form::Title => 1,
            Form::Capital => 2,
            Form::Mixed => 3,
        };
        self.before = [code, self.before[0]];
        self.word_length = 0;
        found
    }

    /// Codes whether a letter of a mixed word is a capital one.
    pub fn flag(&mut self, io: &mut impl Bits, before: bool, capital: bool) -> bool {
        adaptive(io, &mut self.flags[usize::from(before)], capital)
    }
}

/// A decision whose probability follows what it was before.
fn adaptive(io: &mut impl Bits, p: &mut u16, bit: bool) -> bool {
    let bit = io.code(bit, u32::from(*p));
    if bit {
        *p += (u16::MAX - *p) >> 4;
    } else {
        *p -= *p >> 4;
    }
    bit
}

/// How sure the two longest contexts are of a decision, as one number.
fn surety(open: &[Open<'_>], no: &[u32; GUESSERS]) -> usize {
    let mut longest = open.iter().zip(no).rev().map(|(context, no)| {
        let class = match context.total {
            0 => return 0,
            1 => 0,
            2..=3 => 1,
            4..=11 => 2,
            _ => 3,
        };
        let torn = *no > 0 && *no < context.total;
        1 + 2 * class + usize::from(torn)
    });
    let [a, b] = [(); 2].map(|()| longest.next().unwrap_or(0));
    a * 9 + b
}
