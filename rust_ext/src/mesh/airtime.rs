//! Time on air of a LoRa frame, exact to the microsecond.

/// How a frame is modulated. One network uses one spreading factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Modulation {
    /// Chips per symbol as a power of two, 7 to 12.
    pub spreading_factor: u8,
    /// 125,000, 250,000 or 500,000.
    pub bandwidth_hz: u32,
    /// The denominator of 4/5 to 4/8; more is no LoRa, but simulators have it.
    pub coding_rate: u8,
    /// Symbols before the sync word, without the 4.25 that the modem adds.
    pub preamble_symbols: u16,
}

impl Modulation {
    /// Coding rate 4/5 and eight symbols of preamble, as the SX1276 starts.
    pub const fn new(spreading_factor: u8, bandwidth_hz: u32) -> Self {
        Self {
            spreading_factor,
            bandwidth_hz,
            coding_rate: 5,
            preamble_symbols: 8,
        }
    }

    /// Length of a symbol in microseconds (SX1276 datasheet §4.1.1.6), rounded to the nearest; exact at
    /// 125, 250 and 500 kHz.
    pub fn symbol_us(self) -> u64 {
        let hz = u64::from(self.bandwidth_hz.max(1));
        ((1_000_000_u64 << self.spreading_factor) + hz / 2) / hz
    }

    /// Whether symbols last 16 ms or more: the low data rate optimisation is then mandatory (datasheet
    /// §4.1.1.6).
    pub fn is_low_data_rate(self) -> bool {
        self.symbol_us() >= 16_000
    }

    /// Time on air of a frame with explicit header and CRC, in microseconds (AN1200.13 §4; datasheet §4.1.1.7).
    pub fn time_on_air_us(self, payload_octets: usize) -> u64 {
        let spreading = i64::from(self.spreading_factor);
        let bits =
            8 * i64::try_from(payload_octets).unwrap_or(i64::MAX / 16) - 4 * spreading + 28 + 16;
        let bits_per_group = 4 * (spreading - if self.is_low_data_rate() { 2 } else { 0 });
        let groups = bits
            .max(0)
            .unsigned_abs()
            .div_ceil(bits_per_group.max(1).unsigned_abs());
        let payload_symbols = 8 + groups * u64::from(self.coding_rate);
        self.preamble_us() + payload_symbols * self.symbol_us()
    }

    /// Time of the preamble with the sync word and the start-of-frame delimiter, in microseconds.
    pub fn preamble_us(self) -> u64 {
        (u64::from(self.preamble_symbols) * 4 + 17) * self.symbol_us() / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figures worked out by hand from AN1200.13 for 12, 51 and 140 octets at 125 kHz.
    #[test]
    fn times_on_air_are_those_of_the_application_note() {
        for (spreading_factor, times) in [
            (7, [41_216, 102_656, 230_656]),
            (9, [144_384, 328_704, 738_304]),
            (12, [1_155_072, 2_465_792, 5_251_072]),
        ] {
            let modulation = Modulation::new(spreading_factor, 125_000);
            for (octets, expected) in [12, 51, 140].into_iter().zip(times) {
                assert_eq!(
                    modulation.time_on_air_us(octets),
                    expected,
                    "SF{spreading_factor}, {octets} octets"
                );
            }
        }
    }

    #[test]
    fn low_data_rate_begins_at_sixteen_milliseconds_a_symbol() {
        assert!(!Modulation::new(10, 125_000).is_low_data_rate());
        assert!(Modulation::new(11, 125_000).is_low_data_rate());
        assert!(!Modulation::new(11, 250_000).is_low_data_rate());
        assert!(Modulation::new(12, 250_000).is_low_data_rate());
    }
}
