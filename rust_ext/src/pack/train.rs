//! Training of the packer's model: counts what follows what, then lets the weights learn on texts held back.
//!
//! A run over the same texts gives the same octets. Contexts of four characters and more count each text
//! once, and what fewer than [`FEWEST`] texts say is not kept: no number, name or address of one person is
//! in the model. Digits are one sign in a context.

use rustc_hash::FxHashMap;

use super::coder::Bits;
use super::guess::{Rates, Session};
use super::letters::{Form, fold, form};
use super::model::{
    Contexts, END, Follower, MAX_LETTERS, MAX_ORDER, Model, WORDS, count, deeper, in_word, level,
};
use super::{PackError, file, write_text};

/// A text to learn from.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What it says.
    pub text: String,
    /// How many texts of people it counts as; 1 for a real message.
    pub weight: u32,
}

/// What training can be told.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Number of the model, 1 to 15.
    pub number: u8,
    /// Bits that a context must save in training to be worth its octets.
    pub gain_bits: f64,
    /// Times the weights go through the texts held back.
    pub rounds: usize,
}

/// Texts that must say something before a context of four characters or more remembers it.
pub const FEWEST: u32 = 2;
/// The same from a context of seven characters on.
pub const FEWEST_LONG: u32 = 3;
/// One text in this many is held back for the weights.
const HELD: u64 = 7;

fn fewest(order: usize) -> u32 {
    match order {
        0..=3 => 1,
        4..=6 => FEWEST,
        _ => FEWEST_LONG,
    }
}

/// A text as symbols: what is coded, and what contexts see (one longer, with the beginning).
struct Line {
    coded: Vec<u8>,
    shown: Vec<u8>,
    weight: u32,
}

/// Order of symbols in the tree: what is alike stands together.
fn group(c: char) -> (u8, u32) {
    let class = match c {
        ' ' => 0,
        '0'..='9' => 2,
        'a' | 'e' | 'i' | 'o' | 'u' | 'à'..='æ' | 'è'..='ï' | 'ò'..='ö' | 'ù'..='ý' => 4,
        'a'..='z' | 'ß'..='ÿ' => 5,
        c if c.is_ascii() || matches!(u32::from(c), 0x2000..=0x2FFF | 0x80..=0xBF) => 1,
        _ => 6,
    };
    (class, u32::from(c))
}

fn alphabet(samples: &[Sample]) -> (Vec<char>, FxHashMap<char, u32>) {
    let mut counts: FxHashMap<char, u32> = FxHashMap::default();
    for sample in samples {
        for c in sample.text.chars() {
            *counts.entry(fold(c).0).or_default() += sample.weight;
        }
    }
    let mut letters: Vec<(u32, char)> = counts.iter().map(|(c, n)| (*n, *c)).collect();
    letters.sort_unstable_by(|a, b| b.cmp(a));
    let kept = letters.iter().take(MAX_LETTERS).filter(|(n, _)| *n >= 12);
    let mut kept: Vec<char> = kept.map(|(_, c)| *c).collect();
    kept.sort_unstable_by_key(|c| group(*c));
    (kept, counts)
}

fn line(model: &Model, sample: &Sample) -> Line {
    let symbols = sample.text.chars().map(|c| model.symbol(fold(c).0));
    let coded: Vec<u8> = symbols.chain([END]).collect();
    let mut shown = vec![END];
    shown.extend(coded.iter().map(|symbol| model.shown[usize::from(*symbol)]));
    Line {
        coded,
        shown,
        weight: sample.weight,
    }
}

/// Shares of the followers of contexts, to tell what a longer context would add.
type Shares = FxHashMap<u32, Vec<f64>>;

fn followers(counts: &[(u8, u32)]) -> Vec<Follower> {
    let most = counts.iter().map(|(_, n)| *n).max().unwrap_or(0);
    let shift = (most / 2048).checked_ilog2().map_or(0, |log| log + 1);
    counts
        .iter()
        .map(|(symbol, n)| Follower {
            symbol: *symbol,
            level: level((n >> shift).max(1)),
        })
        .collect()
}

fn count_contexts(model: &mut Model, lines: &[Line], gain_bits: f64) {
    model.contexts = Contexts::with_capacity(file::MAX_CONTEXTS, 0);
    let mut shares: Shares = Shares::default();
    // How long a context at each place was found so far; usize::MAX: none.
    let mut depth: Vec<Vec<u8>> = lines
        .iter()
        .map(|line| vec![u8::MAX; line.coded.len()])
        .collect();
    for order in 0..=MAX_ORDER {
        let mut seen: Vec<(u128, u32)> = Vec::new();
        let mut text: Vec<u128> = Vec::new();
        for (line, depth) in lines.iter().zip(&depth) {
            text.clear();
            for (at, symbol) in line.coded.iter().enumerate() {
                // The context ends before `coded[at]`, which is after `shown[at]`.
                if order > 0 {
                    let before = at + 1 >= order && usize::from(depth[at]) + 1 == order;
                    let prefix = order == 1
                        || (at > 0
                            && depth[at - 1] != u8::MAX
                            && usize::from(depth[at - 1]) + 1 >= order);
                    if !before || !prefix {
                        continue;
                    }
                }
                let context = line.shown[at + 1 - order..=at].iter();
                let key = context.fold(0u128, |key, s| key << 8 | u128::from(*s));
                text.push(key << 8 | u128::from(*symbol));
            }
            if order >= 4 {
                text.sort_unstable();
                text.dedup();
            }
            seen.extend(text.iter().map(|key| (*key, line.weight)));
        }
        seen.sort_unstable();
        let mut kept: FxHashMap<u128, u32> = FxHashMap::default();
        for context in seen.chunk_by(|a, b| a.0 >> 8 == b.0 >> 8) {
            let key = context[0].0 >> 8;
            let total: u32 = context.iter().map(|entry| entry.1).sum();
            let counts: Vec<(u8, u32)> = context
                .chunk_by(|a, b| a.0 == b.0)
                .map(|same| {
                    (
                        same[0].0.to_le_bytes()[0],
                        same.iter().map(|entry| entry.1).sum(),
                    )
                })
                .filter(|(_, n)| *n >= fewest(order))
                .collect();
            let symbols: Vec<u8> = (0..order)
                .rev()
                .map(|at| (key >> (8 * at)).to_le_bytes()[0])
                .collect();
            if let Some(id) = keep(model, &mut shares, &symbols, &counts, total, gain_bits) {
                kept.insert(key, id);
            }
        }
        for (line, depth) in lines.iter().zip(&mut depth) {
            for (at, depth) in depth.iter_mut().enumerate() {
                if order > 0 && (at + 1 < order || usize::from(*depth) + 1 != order) {
                    continue;
                }
                let context = line.shown[at + 1 - order..=at].iter();
                let key = context.fold(0u128, |key, s| key << 8 | u128::from(*s));
                if kept.contains_key(&key) {
                    *depth = u8::try_from(order).unwrap_or(0);
                }
            }
        }
    }
}

/// Adds a context if it is worth it and others lead to it.
fn keep(
    model: &mut Model,
    shares: &mut Shares,
    symbols: &[u8],
    counts: &[(u8, u32)],
    total: u32,
    gain_bits: f64,
) -> Option<u32> {
    let hash = |symbols: &[u8]| symbols.iter().rev().fold(0, |hash, s| deeper(hash, *s));
    let mut below = vec![1.0 / 256.0; 256];
    if let Some((newest, prefix)) = symbols.split_last() {
        let prefix = model.contexts.find(hash(prefix))?;
        let leads = |f: &Follower| model.shown[usize::from(f.symbol)] == *newest;
        if !model.contexts.followers(prefix).iter().any(leads) {
            return None;
        }
        let parent = model.contexts.find(hash(&symbols[1..]))?;
        below.clone_from(shares.get(&parent)?);
    }
    let total_share = f64::from(total);
    let mut left = 1.0;
    for (_, n) in counts {
        left -= (f64::from(*n) - 0.7) / total_share;
    }
    let mut gain = 0.0;
    let mut own: Vec<f64> = below.iter().map(|share| share * left).collect();
    for (symbol, n) in counts {
        let at = usize::from(*symbol);
        own[at] += (f64::from(*n) - 0.7) / total_share;
        gain += f64::from(*n) * (own[at] / below[at]).log2();
    }
    if symbols.len() > 1 && (gain < gain_bits || counts.is_empty()) {
        return None;
    }
    let id = model.contexts.push(hash(symbols), &followers(counts))?;
    shares.insert(id, own);
    Some(id)
}

/// Sums what decisions cost, and codes nothing.
#[derive(Debug, Default)]
struct Meter {
    bits: f64,
}

impl Bits for Meter {
    fn code(&mut self, bit: bool, p: u32) -> bool {
        let p = f64::from(if bit { p } else { 65_536 - p }) / 65_536.0;
        self.bits -= p.log2();
        bit
    }
}

/// How words are written, by place in the table of words.
fn count_words(model: &mut Model, samples: &[&Sample]) {
    let mut counts: FxHashMap<usize, [u32; 2]> = FxHashMap::default();
    for sample in samples {
        for (word, capitals) in words(model, &sample.text) {
            let small = form(&capitals) == Form::Small;
            counts.entry(word).or_default()[usize::from(!small)] += sample.weight;
        }
    }
    model.words = vec![0; WORDS];
    for (word, [small, other]) in counts {
        if small + other >= FEWEST_LONG {
            let four = |n: u32| (level(n) / 2).min(15);
            model.words[word] = four(small * 2) << 4 | four(other * 2);
        }
    }
}

/// Words of a text by place in the table of words, with which of their letters are capital.
fn words(model: &Model, text: &str) -> Vec<(usize, Vec<bool>)> {
    let mut session = Session::new(
        model,
        Rates {
            weights: 0,
            guesses: 0,
        },
    );
    let mut words = Vec::new();
    let mut capitals = Vec::new();
    for c in text.chars().chain(['\0']) {
        let (small, capital) = fold(c);
        if session.letter(Some(small)) {
            words.push((session.word(), std::mem::take(&mut capitals)));
            session.form(&mut Meter::default(), Form::Small);
        }
        if in_word(small) {
            capitals.push(capital);
        }
    }
    words
}

/// A model of the samples, and the bits a character that texts held back cost it.
///
/// # Errors
/// [`PackError::Model`] if it cannot be written to a file.
pub fn train(
    samples: &[Sample],
    settings: Settings,
    mut log: impl FnMut(&str),
) -> Result<Vec<u8>, PackError> {
    let held = |sample: &&Sample| {
        file::checksum(sample.text.as_bytes()).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40
    };
    let (held_back, first): (Vec<&Sample>, Vec<&Sample>) =
        samples.iter().partition(|sample| held(sample) % HELD == 0);
    let (letters, mut counts) = alphabet(samples);
    let mut weights: Vec<u32> = Vec::new();
    weights.push(u32::try_from(samples.len()).unwrap_or(u32::MAX));
    let other: u32 = counts
        .iter()
        .filter(|(c, _)| !letters.contains(c))
        .map(|(_, n)| *n)
        .sum();
    weights.push(other.max(1));
    weights.extend(letters.iter().map(|c| counts.remove(c).unwrap_or(1)));
    let counted: Vec<(u8, u32)> = (0..=u8::MAX).zip(weights).collect();
    let levels = followers(&counted);
    let weights: Vec<u32> = levels
        .iter()
        .map(|follower| count(follower.level))
        .collect();

    let mut model = Model::new(letters, &weights);
    model.number = settings.number;
    let part: Vec<Line> = first.iter().map(|sample| line(&model, sample)).collect();
    count_contexts(&mut model, &part, settings.gain_bits);
    count_words(&mut model, &first);
    log(&format!(
        "weights: {} texts counted, {} held back, {:?}",
        first.len(),
        held_back.len(),
        model.contexts.size()
    ));
    let mut tuned = model.tuned.clone();
    for round in 0..settings.rounds {
        let rates = match round {
            0 => Rates {
                weights: 8,
                guesses: 24,
            },
            _ => Rates {
                weights: 3,
                guesses: 8,
            },
        };
        model.tuned = tuned;
        let mut session = Session::new(&model, rates);
        let (mut meter, mut characters) = (Meter::default(), 0);
        for sample in &held_back {
            session.restart();
            write_text(&mut session, &mut meter, &sample.text);
            characters += sample.text.chars().count();
        }
        tuned = session.tuned.clone();
        log(&format!(
            "round {round}: {:.4} bits a character",
            meter.bits / characters as f64
        ));
    }

    let all: Vec<&Sample> = samples.iter().collect();
    let lines: Vec<Line> = all.iter().map(|sample| line(&model, sample)).collect();
    count_contexts(&mut model, &lines, settings.gain_bits);
    count_words(&mut model, &all);
    model.tuned = tuned;
    let (contexts, followers) = model.contexts.size();
    log(&format!(
        "{contexts} contexts, {followers} followers, {} octets of memory",
        model.contexts.octets()
    ));
    file::write(&model)
}
