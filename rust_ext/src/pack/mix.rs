//! Logistic mixing in whole numbers: many guesses at one decision become one probability.
//!
//! A guess is a *stretch*, ln(p / (1 - p)) times 256, so that guesses add up like evidence. The weights are
//! trained, and go on learning within a text.

use std::sync::LazyLock;

/// Largest stretch: a probability of about 1 in 160,000 is cut to 1 in 65,536.
pub const MAX_STRETCH: i32 = 3071;
/// One, as a weight.
pub const ONE: i32 = 1 << 16;

/// Probability of each stretch from -3071 to 3071, of 65,536.
static SQUASH: LazyLock<Vec<u16>> = LazyLock::new(|| {
    // Powers of e^(-1/256), as fractions of 2^60: the same on every machine.
    const STEP: u128 = 1_148_426_689_630_428_643;
    let mut power: u128 = 1 << 60;
    let mut upper = Vec::new();
    for _ in 0..=MAX_STRETCH {
        let p = (65_536u128 << 60) / ((1 << 60) + power);
        upper.push(u16::try_from(p.clamp(1, 65_535)).unwrap_or(u16::MAX));
        power = (power * STEP) >> 60;
    }
    let lower = upper.iter().skip(1).rev().map(|p| u16::MAX - p + 1);
    lower.chain(upper.iter().copied()).collect()
});

/// Probability of a stretch, of 65,536; never 0 or 1.
pub fn squash(stretch: i32) -> i32 {
    let at = stretch.clamp(-MAX_STRETCH, MAX_STRETCH) + MAX_STRETCH;
    i32::from(SQUASH[usize::try_from(at).unwrap_or(0)])
}

/// Sets of weights, each for `inputs` guesses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights {
    inputs: usize,
    all: Vec<i32>,
}

impl Weights {
    /// As many sets with equal weights.
    pub fn new(sets: usize, inputs: usize, weight: i32) -> Self {
        Self {
            inputs,
            all: vec![weight; sets * inputs],
        }
    }

    /// The weights, to fill in.
    pub fn all_mut(&mut self) -> &mut [i32] {
        &mut self.all
    }

    /// Stretch that a set makes of the guesses.
    pub fn mix(&self, set: usize, guesses: &[i32]) -> i32 {
        let weights = &self.all[set * self.inputs..][..self.inputs];
        let sum: i64 = weights
            .iter()
            .zip(guesses)
            .map(|(weight, guess)| i64::from(*weight) * i64::from(*guess))
            .sum();
        i32::try_from((sum >> 16).clamp(i64::from(-MAX_STRETCH), i64::from(MAX_STRETCH)))
            .unwrap_or(0)
    }

    /// Moves a set towards what happened: `error` is the outcome less its probability, of 65,536.
    pub fn learn(&mut self, set: usize, guesses: &[i32], error: i32, rate: i32) {
        let weights = &mut self.all[set * self.inputs..][..self.inputs];
        for (weight, guess) in weights.iter_mut().zip(guesses) {
            let step = (i64::from(*guess) * i64::from(error) * i64::from(rate)) >> 18;
            let moved = i64::from(*weight) + step;
            *weight = i32::try_from(moved.clamp(-(8 << 16), 8 << 16)).unwrap_or(0);
        }
    }
}
