//! The model's file: magic, format, checksum, then everything through the arithmetic coder.

use super::PackError;
use super::coder::{Bits, Reader, Writer};
use super::model::{
    Contexts, FIRST, Follower, LEVELS, MAX_LETTERS, MAX_ORDER, Model, WORDS, count, deeper,
};

/// First octets of the file; the number of the model follows.
pub const MAGIC: [u8; 7] = *b"EVYPACK";
/// Octets before the coded part: magic and checksum.
const HEAD: usize = 16;
/// Most contexts that are read.
pub const MAX_CONTEXTS: usize = 2_000_000;
/// Most followers of all contexts that are read.
const MAX_FOLLOWERS: usize = 8_000_000;

/// FNV-1a over octets, 64 bits: finds accidents, not attacks.
pub fn checksum(octets: &[u8]) -> u64 {
    octets.iter().fold(0xCBF2_9CE4_8422_2325, |hash, octet| {
        (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01B3)
    })
}

/// A probability that follows what it saw.
#[derive(Clone, Copy)]
struct Habit(u16, u8);

impl Habit {
    const NEW: Self = Self(1 << 15, 0);

    fn code(&mut self, io: &mut impl Bits, bit: bool) -> bool {
        let bit = io.code(bit, u32::from(self.0));
        let rate = 1 + self.1.min(4);
        self.1 = self.1.saturating_add(1).min(4);
        let target = if bit { 65_535i32 } else { 1 };
        let moved = i32::from(self.0) + ((target - i32::from(self.0)) >> rate);
        self.0 = u16::try_from(moved.clamp(64, 65_472)).unwrap_or(1 << 15);
        bit
    }
}

/// A number of some bits, each bit's probability by those before it.
fn number(io: &mut impl Bits, habits: &mut [Habit], bits: u32, value: u32) -> u32 {
    let mut node = 1usize;
    for bit in (0..bits).rev() {
        let one = habits[node].code(io, value >> bit & 1 == 1);
        node = node << 1 | usize::from(one);
    }
    u32::try_from(node).unwrap_or(0) - (1 << bits)
}

/// A number of 32 bits whose length varies, small ones short.
fn any_number(io: &mut impl Bits, habits: &mut [Habit], value: u32) -> u32 {
    let length = number(io, &mut habits[..64], 6, 32 - value.leading_zeros()).min(32);
    let mut read = 0;
    for bit in (0..length).rev() {
        read = read << 1 | u32::from(io.code(value >> bit & 1 == 1, 1 << 15));
    }
    read
}

struct Habits {
    present: Vec<Habit>,
    levels: Vec<Habit>,
    extends: Vec<Habit>,
}

impl Habits {
    fn new() -> Self {
        Self {
            present: vec![Habit::NEW; (MAX_ORDER + 1) * LEVELS * 4],
            levels: vec![Habit::NEW; 4 * LEVELS * 32],
            extends: vec![Habit::NEW; (MAX_ORDER + 1) * LEVELS],
        }
    }

    /// Followers of a context, given those of the context without its oldest character.
    fn followers(
        &mut self,
        io: &mut impl Bits,
        order: usize,
        parent: &[Follower],
        given: &[Follower],
    ) -> Vec<Follower> {
        let mut found = Vec::new();
        let mut given = given.iter().peekable();
        for (at, of) in parent.iter().enumerate() {
            let here = given.next_if(|follower| follower.symbol == of.symbol);
            let run = usize::from(found.len() * 2 > at) + 2 * usize::from(parent.len() > 8);
            let habit = (order * LEVELS + usize::from(of.level)) * 4 + run;
            if !self.present[habit].code(io, here.is_some()) {
                continue;
            }
            let habit = (order.min(3) * LEVELS + usize::from(of.level)) * 32;
            let level = here.map_or(0, |follower| u32::from(follower.level));
            let level = number(io, &mut self.levels[habit..habit + 32], 5, level);
            found.push(Follower {
                symbol: of.symbol,
                level: u8::try_from(level).unwrap_or(0).min(23),
            });
        }
        found
    }
}

/// A context on its way: its symbols, newest last, as many as its order, and its number.
struct Reached {
    symbols: [u8; MAX_ORDER],
    id: u32,
}

fn hash_of(symbols: &[u8]) -> u64 {
    symbols
        .iter()
        .rev()
        .fold(0, |hash, symbol| deeper(hash, *symbol))
}

const ENDLESS: PackError = PackError::Model("it does not end");

/// Writes or reads all contexts, level by level. A context of one more character is a context and one of its
/// followers, so only a flag tells that there is one.
fn contexts(
    io: &mut impl Bits,
    given: Option<&Contexts>,
    model: &mut Model,
) -> Result<(), PackError> {
    let mut habits = Habits::new();
    let nothing: Vec<Follower> = Vec::new();
    let size = given.map_or((0, 0), Contexts::size);
    let [contexts, followers] = [size.0, size.1].map(|size| {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        any_number(io, &mut [Habit::NEW; 64], size) as usize
    });
    if contexts > MAX_CONTEXTS || followers > MAX_FOLLOWERS {
        return Err(ENDLESS);
    }
    model.contexts = Contexts::with_capacity(contexts, followers);
    let all: Vec<Follower> = (0..=u8::MAX)
        .take(model.symbols())
        .map(|symbol| Follower { symbol, level: 0 })
        .collect();
    let root = given.map_or(&nothing[..], |given| given.followers(0));
    let root = habits.followers(io, 0, &all, root);
    let id = model.contexts.push(0, &root).ok_or(ENDLESS)?;
    let mut reached = vec![Reached {
        symbols: [0; MAX_ORDER],
        id,
    }];
    for order in 1..=MAX_ORDER {
        let mut next = Vec::new();
        for context in &reached {
            let mut last_shown = None;
            for follower in model.contexts.followers(context.id).to_vec() {
                let shown = model.shown[usize::from(follower.symbol)];
                if last_shown.replace(shown) == Some(shown) {
                    continue;
                }
                let mut symbols = context.symbols;
                symbols[order - 1] = shown;
                let hash = hash_of(&symbols[..order]);
                let there = given.and_then(|given| given.find(hash));
                let Some(parent) = model.contexts.find(hash_of(&symbols[1..order])) else {
                    continue;
                };
                let habit = order * LEVELS + usize::from(follower.level);
                if !habits.extends[habit].code(io, there.is_some()) {
                    continue;
                }
                let there = match (given, there) {
                    (Some(given), Some(id)) => given.followers(id),
                    _ => &nothing[..],
                };
                let found = habits.followers(io, order, model.contexts.followers(parent), there);
                if model.contexts.size().1 + found.len() > followers || io.lost() {
                    return Err(ENDLESS);
                }
                let id = model.contexts.push(hash, &found).ok_or(ENDLESS)?;
                next.push(Reached { symbols, id });
            }
        }
        reached = next;
    }
    Ok(())
}

/// Writes or reads everything behind the alphabet.
fn body(io: &mut impl Bits, given: Option<&Model>, model: &mut Model) -> Result<(), PackError> {
    contexts(io, given.map(|given| &given.contexts), model)?;
    let mut habits = vec![Habit::NEW; 256];
    for at in 0..WORDS {
        let value = given.map_or(0, |given| u32::from(given.words[at]));
        model.words[at] = u8::try_from(number(io, &mut habits, 8, value)).unwrap_or(0);
    }
    let mut given = given.map(|given| given.tuned.clone());
    let mut fresh = model.tuned.clone();
    let parts = given.as_mut().map(super::model::Tuned::parts);
    for (part, (values, shift)) in fresh.parts().into_iter().enumerate() {
        let mut habits = vec![Habit::NEW; 64];
        for (at, value) in values.iter_mut().enumerate() {
            let base = *value >> shift;
            let moved = parts
                .as_ref()
                .map_or(0, |parts| (parts[part].0[at] >> shift) - base);
            // Zigzag: 0, -1, 1, -2, 2 ... are 0, 1, 2, 3, 4 ...
            let coded = moved.unsigned_abs() * 2 - u32::from(moved < 0);
            let coded = any_number(io, &mut habits, coded);
            let half = i32::try_from(coded.div_ceil(2)).unwrap_or(0);
            let moved = if coded % 2 == 1 { -half } else { half };
            *value = base.wrapping_add(moved).wrapping_mul(1 << shift);
        }
    }
    model.tuned = fresh;
    Ok(())
}

/// The file of a model. What is read back may weigh a little differently: it is rounded.
///
/// # Errors
/// [`PackError::Model`] if the model has no contexts in the order that the file wants.
pub fn write(model: &Model) -> Result<Vec<u8>, PackError> {
    let mut coded = Vec::new();
    let count_letters =
        u8::try_from(model.letters.len()).map_err(|_| PackError::Model("alphabet"))?;
    coded.push(count_letters);
    for letter in &model.letters {
        coded.extend_from_slice(&u32::from(*letter).to_be_bytes()[1..]);
    }
    // The tree is made of these weights again.
    let weights = weights(model);
    for weight in &weights {
        coded.extend_from_slice(&weight.to_be_bytes());
    }
    let mut copy = Model::new(model.letters.clone(), &weights);
    let mut writer = Writer::new(coded);
    body(&mut writer, Some(model), &mut copy)?;
    if copy.contexts.size() != model.contexts.size() {
        return Err(PackError::Model("contexts that no other leads to"));
    }
    let coded = writer.finish();
    let mut file = MAGIC.to_vec();
    file.push(model.number);
    file.extend_from_slice(&checksum(&coded).to_be_bytes());
    file.extend_from_slice(&coded);
    Ok(file)
}

/// Weights of the symbols, as the root's followers say.
pub fn weights(model: &Model) -> Vec<u32> {
    let mut weights = vec![0; model.symbols()];
    if model.contexts.size().0 > 0 {
        for follower in model.contexts.followers(0) {
            weights[usize::from(follower.symbol)] = count(follower.level);
        }
    }
    weights
}

/// Reads the file of a model.
///
/// # Errors
/// [`PackError::Model`] says what is wrong.
pub fn read(file: &[u8]) -> Result<Model, PackError> {
    let head: &[u8; HEAD] = file
        .first_chunk()
        .ok_or(PackError::Model("it is too short"))?;
    let number = head[7];
    if head[..7] != MAGIC || !super::NUMBERS.contains(&number) {
        return Err(PackError::Model("it is no model"));
    }
    let coded = &file[HEAD..];
    if head[8..] != checksum(coded).to_be_bytes() {
        return Err(PackError::Model("its checksum is wrong"));
    }
    let short = PackError::Model("its alphabet is cut off");
    let (count, rest) = coded.split_first().ok_or(short.clone())?;
    let count = usize::from(*count);
    if count > MAX_LETTERS || rest.len() < count * 3 + (count + usize::from(FIRST)) * 4 {
        return Err(short);
    }
    let (letters, rest) = rest.split_at(count * 3);
    let letters: Option<Vec<char>> = letters
        .chunks_exact(3)
        .map(|three| char::from_u32(u32::from_be_bytes([0, three[0], three[1], three[2]])))
        .collect();
    let letters = letters.ok_or(PackError::Model("its alphabet has no such character"))?;
    let (weights, rest) = rest.split_at((count + usize::from(FIRST)) * 4);
    let weights: Vec<u32> = weights
        .chunks_exact(4)
        .map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
        .collect();
    let mut model = Model::new(letters, &weights);
    model.number = number;
    body(&mut Reader::new(rest), None, &mut model)?;
    Ok(model)
}
