//! What the law allows on the air, judged from outside: what radios really did, not what their ledgers believe.
//!
//! The mesh keeps within these limits by a ledger of its own; this one is written apart from it, so that a mistake
//! in one of them shows.

use std::collections::VecDeque;

use crate::mesh::airtime::Modulation;

/// Whose law it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Region {
    /// 863–870 MHz in Europe (ERC Recommendation 70-03 annex 1, EN 300 220-2 annex B).
    Eu868,
    /// 902–928 MHz in the United States (47 CFR §15.247).
    Us915,
    /// No law: what a laboratory's dummy load may do.
    Lawless,
}

/// A rule: from, to in Hz; microseconds allowed in any window of so many; power in dBm.
struct Rule {
    low_hz: u32,
    high_hz: u32,
    limit_us: u64,
    window_us: u64,
    power_dbm: f64,
}

const fn europe(low_khz: u32, high_khz: u32, per_mille: u64, power_dbm: f64) -> Rule {
    Rule {
        low_hz: low_khz * 1_000,
        high_hz: high_khz * 1_000,
        limit_us: 3_600_000 * per_mille,
        window_us: 3_600_000_000,
        power_dbm,
    }
}

/// One hour is the window (EN 300 220-1 §5.4.1).
static EU868: [Rule; 6] = [
    europe(863_000, 865_000, 1, 14.0),
    europe(865_000, 868_000, 10, 14.0),
    europe(868_000, 868_600, 10, 14.0),
    europe(868_700, 869_200, 1, 14.0),
    europe(869_400, 869_650, 100, 27.0),
    europe(869_700, 870_000, 10, 14.0),
];

const fn america(limit_us: u64, window_us: u64) -> Rule {
    Rule {
        low_hz: 902_000_000,
        high_hz: 928_000_000,
        limit_us,
        window_us,
        power_dbm: 30.0,
    }
}

/// Hopping below 250 kHz, hopping from there on (§15.247(a)(1)(i)), digital modulation of 500 kHz ((a)(2)).
static US915: [Rule; 3] = [
    america(400_000, 20_000_000),
    america(400_000, 10_000_000),
    america(u64::MAX, 20_000_000),
];

/// A frame that the law does not allow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Violation {
    /// More air in the window that ends with this frame than the sub-band has.
    Duty {
        /// Microseconds used.
        used_us: u64,
        /// Microseconds allowed.
        limit_us: u64,
        /// In so many.
        window_us: u64,
    },
    /// The signal is not within any sub-band.
    Frequency {
        /// Its carrier in Hz.
        frequency_hz: u32,
    },
    /// Too loud.
    Power {
        /// What is radiated in dBm.
        power_dbm: f64,
        /// What is allowed in dBm.
        limit_dbm: f64,
    },
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Duty {
                used_us,
                limit_us,
                window_us,
            } => write!(
                f,
                "duty: {:.3} s on air within {} s, {:.3} s allowed",
                *used_us as f64 / 1e6,
                window_us / 1_000_000,
                *limit_us as f64 / 1e6
            ),
            Self::Frequency { frequency_hz } => write!(
                f,
                "frequency: {:.3} MHz with its bandwidth is in no sub-band",
                f64::from(*frequency_hz) / 1e6
            ),
            Self::Power {
                power_dbm,
                limit_dbm,
            } => write!(f, "power: {power_dbm:.1} dBm, {limit_dbm:.0} dBm allowed"),
        }
    }
}

/// One radio's record. It holds the frames of the last hour: at the shortest (20 ms) and a sixth of the time on
/// air no more than 30,000, 24 octets each.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Begin, end, rule.
    frames: VecDeque<(u64, u64, usize)>,
}

impl Record {
    /// Notes a frame that has left and says what the law has against it.
    pub fn note(
        &mut self,
        region: Region,
        frequency_hz: u32,
        power_dbm: f64,
        modulation: Modulation,
        began_us: u64,
        ends_us: u64,
    ) -> Option<Violation> {
        let half_hz = modulation.bandwidth_hz / 2;
        let low_hz = frequency_hz.saturating_sub(half_hz);
        let high_hz = frequency_hz.saturating_add(half_hz);
        let (rules, first) = match region {
            Region::Lawless => return None,
            Region::Eu868 => (&EU868[..], 0),
            Region::Us915 => match modulation.bandwidth_hz {
                ..250_000 => (&US915[..1], 0),
                250_000..500_000 => (&US915[..2], 1),
                _ => (&US915[..], 2),
            },
        };
        let Some(which) = (first..rules.len())
            .find(|&at| rules[at].low_hz <= low_hz && high_hz <= rules[at].high_hz)
        else {
            return Some(Violation::Frequency { frequency_hz });
        };
        let rule = &rules[which];
        self.frames.push_back((began_us, ends_us, which));
        let longest_us = rules.iter().map(|rule| rule.window_us).max().unwrap_or(0);
        let forgotten_us = ends_us.saturating_sub(longest_us);
        while self
            .frames
            .front()
            .is_some_and(|frame| frame.1 <= forgotten_us)
        {
            self.frames.pop_front();
        }
        let from_us = ends_us.saturating_sub(rule.window_us);
        let used_us = self
            .frames
            .iter()
            .filter(|frame| frame.2 == which)
            .map(|frame| frame.1.saturating_sub(frame.0.max(from_us)))
            .sum();
        if used_us > rule.limit_us {
            Some(Violation::Duty {
                used_us,
                limit_us: rule.limit_us,
                window_us: rule.window_us,
            })
        } else if power_dbm > rule.power_dbm {
            Some(Violation::Power {
                power_dbm,
                limit_dbm: rule.power_dbm,
            })
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mesh::frame::Lane;
    use crate::mesh::region;

    const SF9: Modulation = Modulation::new(9, 125_000);
    const HZ: u32 = 869_525_000;
    const SECOND: u64 = 1_000_000;
    const HOUR: u64 = 3_600 * SECOND;

    fn note(record: &mut Record, began_us: u64, length_us: u64) -> Option<Violation> {
        record.note(Region::Eu868, HZ, 14.0, SF9, began_us, began_us + length_us)
    }

    #[test]
    fn a_tenth_of_any_hour_is_allowed_and_a_microsecond_more_is_not() {
        let mut record = Record::default();
        assert_eq!(note(&mut record, 0, 360 * SECOND), None);
        assert_eq!(
            note(&mut record, 1_000 * SECOND, 1),
            Some(Violation::Duty {
                used_us: 360 * SECOND + 1,
                limit_us: 360 * SECOND,
                window_us: HOUR,
            })
        );
        // The first frame leaves the window little by little, as fast as this one goes on.
        let mut record = Record::default();
        note(&mut record, 0, 360 * SECOND);
        assert_eq!(note(&mut record, HOUR, 360 * SECOND), None);
        let mut record = Record::default();
        note(&mut record, 0, 360 * SECOND);
        assert!(note(&mut record, HOUR - 2, SECOND).is_some());
    }

    #[test]
    fn sub_bands_have_accounts_of_their_own() {
        let mut record = Record::default();
        let mut in_band = |hz, length_us| record.note(Region::Eu868, hz, 14.0, SF9, 0, length_us);
        assert_eq!(in_band(HZ, 360 * SECOND), None);
        assert_eq!(in_band(868_300_000, 36 * SECOND), None);
        assert!(matches!(
            in_band(864_000_000, 4 * SECOND),
            Some(Violation::Duty {
                limit_us: 3_600_000,
                ..
            })
        ));
        assert_eq!(
            in_band(868_575_000, 1),
            Some(Violation::Frequency {
                frequency_hz: 868_575_000
            }),
            "half of it is beyond the edge"
        );
    }

    #[test]
    fn power_and_dwell_are_judged() {
        let loud = |hz, dbm| Record::default().note(Region::Eu868, hz, dbm, SF9, 0, 1);
        assert_eq!(loud(HZ, 27.0), None);
        assert!(matches!(
            loud(868_300_000, 20.0),
            Some(Violation::Power { .. })
        ));
        let us = |record: &mut Record, modulation: Modulation, began_us, octets| {
            let ends_us = began_us + modulation.time_on_air_us(octets);
            record.note(
                Region::Us915,
                915_000_000,
                20.0,
                modulation,
                began_us,
                ends_us,
            )
        };
        let mut record = Record::default();
        assert_eq!(us(&mut record, SF9, 0, 51), None);
        assert!(
            us(&mut record, SF9, 19 * SECOND, 12).is_some(),
            "0.47 s in 20 s"
        );
        assert_eq!(us(&mut record, SF9, 40 * SECOND, 12), None);
        let wide = Modulation::new(10, 250_000);
        assert_eq!(us(&mut record, wide, 60 * SECOND, 51), None);
        assert_eq!(
            us(&mut record, wide, 71 * SECOND, 51),
            None,
            "10 s are over"
        );
        assert!(us(&mut record, wide, 72 * SECOND, 51).is_some());
        let mut record = Record::default();
        assert!(
            us(&mut record, Modulation::new(12, 125_000), 0, 0).is_some(),
            "SF12 never fits"
        );
        assert_eq!(us(&mut record, Modulation::new(12, 500_000), 0, 140), None);
        let at = |hz| Record::default().note(Region::Us915, hz, 20.0, SF9, 0, 1);
        assert!(matches!(at(869_525_000), Some(Violation::Frequency { .. })));
        let free = Record::default().note(Region::Lawless, 1, 99.0, SF9, 0, HOUR);
        assert_eq!(free, None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// What the mesh's own ledger lets pass has never anything against it: the two know nothing of each
        /// other. Frames come far too fast, so that the ledger must hold them back.
        #[test]
        fn what_the_ledger_allows_is_lawful(
            american: bool,
            frequency in 0usize..4,
            spreading_factor in 7u8..=9,
            lane in 0usize..3,
            frames in prop::collection::vec((1usize..=60, 0u64..30_000_000), 1..400),
        ) {
            let modulation = Modulation::new(spreading_factor, 125_000);
            let (theirs, ours, frequency_hz) = if american {
                (region::Region::Us915, Region::Us915, 915_000_000)
            } else {
                let choices = [864_000_000, 868_300_000, HZ, 869_850_000];
                (region::Region::Eu868, Region::Eu868, choices[frequency])
            };
            let channel = region::Channel::new(theirs, frequency_hz, modulation, 11, 237);
            prop_assume!(channel.is_ok());
            let mut ledger = region::Ledger::new(channel.unwrap());
            let lane = [Lane::Flash, Lane::Priority, Lane::Routine][lane];
            let mut record = Record::default();
            let mut now_us = 0;
            for (octets, wait_us) in frames {
                now_us += wait_us;
                let Ok(start_us) = ledger.may_send_at(octets, lane, now_us) else {
                    continue;
                };
                now_us = start_us;
                ledger.spend(octets, now_us);
                let ends_us = now_us + modulation.time_on_air_us(octets + 11);
                let against = record.note(ours, frequency_hz, 14.0, modulation, now_us, ends_us);
                prop_assert_eq!(against, None, "at {} µs", now_us);
                now_us = ends_us;
            }
        }
    }
}
