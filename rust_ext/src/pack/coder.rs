//! Binary arithmetic coding: what the model expects costs little, what surprises it costs more.
//!
//! A carry-less range coder over 32-bit bounds with probabilities of 16 bits, integers only, so that every
//! machine writes and reads the same octets.

/// Something that takes or gives one binary decision at a time.
pub trait Bits {
    /// Codes one decision that is true with probability `p` of 65,536 (1 to 65,535). A writer returns `bit`, a
    /// reader what it read.
    fn code(&mut self, bit: bool, p: u32) -> bool;

    /// A reader is far behind its octets: they are no text of this model.
    fn lost(&self) -> bool {
        false
    }
}

/// Middle of the range: below it is a true decision.
fn middle(low: u32, high: u32, p: u32) -> u32 {
    let range = u64::from(high - low);
    low + u32::try_from((range * u64::from(p)) >> 16).unwrap_or(u32::MAX)
}

/// Writes decisions.
#[derive(Debug)]
pub struct Writer {
    low: u32,
    high: u32,
    out: Vec<u8>,
}

impl Writer {
    /// Writes behind what is in `out` already.
    pub fn new(out: Vec<u8>) -> Self {
        Self {
            low: 0,
            high: u32::MAX,
            out,
        }
    }

    /// The octets, the last ones as few as name a value in the range when zeros follow.
    pub fn finish(mut self) -> Vec<u8> {
        if self.low == 0 {
            return self.out;
        }
        for kept in 1..=4u32 {
            let unit = 1u64 << (32 - 8 * kept);
            let value = u64::from(self.low).div_ceil(unit) * unit;
            if value <= u64::from(self.high) {
                let octets = u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes();
                self.out.extend_from_slice(&octets[..kept as usize]);
                break;
            }
        }
        self.out
    }
}

impl Bits for Writer {
    fn code(&mut self, bit: bool, p: u32) -> bool {
        let middle = middle(self.low, self.high, p);
        if bit {
            self.high = middle;
        } else {
            self.low = middle + 1;
        }
        while (self.low ^ self.high) >> 24 == 0 {
            self.out.push(self.high.to_be_bytes()[0]);
            self.low <<= 8;
            self.high = self.high << 8 | 0xFF;
        }
        bit
    }
}

/// Reads decisions; behind the last octet it reads zeros.
#[derive(Debug)]
pub struct Reader<'a> {
    low: u32,
    high: u32,
    value: u32,
    octets: &'a [u8],
    /// Octets taken, those behind the end included.
    taken: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the first octet on.
    pub fn new(octets: &'a [u8]) -> Self {
        let mut reader = Self {
            low: 0,
            high: u32::MAX,
            value: 0,
            octets,
            taken: 0,
        };
        for _ in 0..4 {
            reader.shift();
        }
        reader
    }

    /// There are octets that no decision was read from.
    pub fn left(&self) -> bool {
        self.taken < self.octets.len()
    }

    fn shift(&mut self) {
        let octet = self.octets.get(self.taken).copied().unwrap_or(0);
        self.value = self.value << 8 | u32::from(octet);
        self.taken += 1;
    }
}

impl Bits for Reader<'_> {
    fn code(&mut self, _: bool, p: u32) -> bool {
        let middle = middle(self.low, self.high, p);
        let bit = self.value <= middle;
        if bit {
            self.high = middle;
        } else {
            self.low = middle + 1;
        }
        while (self.low ^ self.high) >> 24 == 0 {
            self.low <<= 8;
            self.high = self.high << 8 | 0xFF;
            self.shift();
        }
        bit
    }

    /// A writer ends with an octet of the range it is in, so a reader is never more than four ahead.
    fn lost(&self) -> bool {
        self.taken > self.octets.len() + 4
    }
}
