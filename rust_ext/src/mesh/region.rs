//! What the law of a region allows on air, and the ledger that keeps to it (`docs/mesh.md`, M14 to M16).
//!
//! EU868: ETSI EN 300 220-2 V3.1.1 table B.1 and ERC/REC 70-03 annex 1, without listening before talking.
//! US915: 47 CFR §15.247(a)(1)(i) and (a)(2).

use std::collections::VecDeque;

use thiserror::Error;

use super::airtime::Modulation;
use super::fragment::LEAST_ROOM_OCTETS;
use super::frame::{Lane, MAX_FRAME_OCTETS, OVERHEAD_OCTETS, PART_OCTETS};

/// Where the node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Region {
    /// Europe, 863 to 870 MHz: a share of each hour by sub-band.
    Eu868,
    /// The Americas, 902 to 928 MHz: 0.4 s at a time.
    Us915,
}

impl Region {
    /// The region of a name.
    ///
    /// # Errors
    /// [`RegionError::Region`] has the names there are.
    pub fn named(name: &str) -> Result<Self, RegionError> {
        match name {
            "EU868" => Ok(Self::Eu868),
            "US915" => Ok(Self::Us915),
            _ => Err(RegionError::Region(name.chars().take(20).collect())),
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eu868 => "EU868",
            Self::Us915 => "US915",
        }
    }
}

/// Why a radio may not be set so.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegionError {
    /// No region of this name.
    #[error("region {0:?} is not known: EU868 or US915")]
    Region(String),
    /// No LoRa modem can be set so.
    #[error("{field} {value}: {fix}")]
    Modulation {
        /// Which setting.
        field: &'static str,
        /// What was asked for.
        value: u32,
        /// What there is.
        fix: &'static str,
    },
    /// The signal does not lie within one sub-band.
    #[error("{bandwidth_hz} Hz around {frequency_hz} Hz lie in no sub-band of {region}: use {fix}")]
    Outside {
        /// The region.
        region: &'static str,
        /// Middle of the signal.
        frequency_hz: u32,
        /// Its width.
        bandwidth_hz: u32,
        /// A frequency that is allowed.
        fix: &'static str,
    },
    /// Hardly anything fits the longest frame that is allowed.
    #[error(
        "SF{spreading_factor} at {bandwidth_hz} Hz: a frame may take {limit_us} µs in {band}, which leaves {room} \
         octets for a message, {LEAST_ROOM_OCTETS} are needed: use a smaller spreading factor or 500000 Hz"
    )]
    NoRoom {
        /// The spreading factor asked for.
        spreading_factor: u8,
        /// The bandwidth asked for.
        bandwidth_hz: u32,
        /// Time that one frame may take.
        limit_us: u64,
        /// The sub-band.
        band: &'static str,
        /// Octets of a part's body that would fit.
        room: usize,
    },
}

/// A stretch of spectrum with one rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Band {
    /// Its edges in words.
    pub name: &'static str,
    low_hz: u32,
    high_hz: u32,
    /// Greatest power in dBm: radiated (e.r.p., 2.15 dB below e.i.r.p.) in EU868, at the antenna's plug in US915.
    pub power_dbm: u8,
    /// Microseconds on air in any `window_us`.
    limit_us: u64,
    window_us: u64,
}

const HOUR_US: u64 = 3_600_000_000;

const fn eu868(name: &'static str, khz: (u32, u32), power_dbm: u8, per_mille: u64) -> Band {
    Band {
        name,
        low_hz: khz.0 * 1_000,
        high_hz: khz.1 * 1_000,
        power_dbm,
        limit_us: HOUR_US / 1_000 * per_mille,
        window_us: HOUR_US,
    }
}

/// 25 mW are 14 dBm, 500 mW are 27.
static EU868: [Band; 6] = [
    eu868("863–865 MHz (0.1 %)", (863_000, 865_000), 14, 1),
    eu868("865–868 MHz (1 %)", (865_000, 868_000), 14, 10),
    eu868("868.0–868.6 MHz (1 %)", (868_000, 868_600), 14, 10),
    eu868("868.7–869.2 MHz (0.1 %)", (868_700, 869_200), 14, 1),
    eu868("869.4–869.65 MHz (10 %)", (869_400, 869_650), 27, 100),
    eu868("869.7–870 MHz (1 %)", (869_700, 870_000), 14, 10),
];

const fn us915(name: &'static str, limit_us: u64, window_us: u64) -> Band {
    Band {
        name,
        low_hz: 902_000_000,
        high_hz: 928_000_000,
        power_dbm: 30,
        limit_us,
        window_us,
    }
}

/// Narrow signals stay 0.4 s on a frequency within 20 s, from 250 kHz within 10 s; digital modulation of 500 kHz as
/// long as it likes, and one window says so.
static US915: [Band; 3] = [
    us915("902–928 MHz (0.4 s in 20 s)", 400_000, 20_000_000),
    us915("902–928 MHz (0.4 s in 10 s)", 400_000, 10_000_000),
    us915("902–928 MHz (500 kHz, no limit)", 20_000_000, 20_000_000),
];

/// A radio's setting, checked against the law: what a frame costs, and how long one may be.
#[derive(Clone, Copy, Debug)]
pub struct Channel {
    band: &'static Band,
    modulation: Modulation,
    hidden_octets: usize,
    module_octets: usize,
    longest_frame: usize,
}

impl Channel {
    /// A frequency, a modulation, and what is known of the module: the octets that it adds unseen to each frame, and
    /// the longest frame that it takes, its own limit before the law's.
    ///
    /// # Errors
    /// [`RegionError`] names the setting and what to use instead.
    pub fn new(
        region: Region,
        frequency_hz: u32,
        modulation: Modulation,
        hidden_octets: u8,
        module_octets: usize,
    ) -> Result<Self, RegionError> {
        check_modulation(modulation)?;
        let bandwidth_hz = modulation.bandwidth_hz;
        let (bands, fix) = match region {
            Region::Eu868 if bandwidth_hz > 250_000 => (&EU868[..], "868300000 Hz"),
            Region::Eu868 => (&EU868[..], "869525000 Hz"),
            Region::Us915 => match bandwidth_hz {
                ..250_000 => (&US915[..1], "915000000 Hz"),
                250_000..500_000 => (&US915[1..2], "915000000 Hz"),
                _ => (&US915[2..], "915000000 Hz"),
            },
        };
        let half = bandwidth_hz / 2;
        let inside = |band: &&Band| {
            frequency_hz.saturating_sub(half) >= band.low_hz
                && frequency_hz.saturating_add(half) <= band.high_hz
        };
        let band = bands.iter().find(inside).ok_or(RegionError::Outside {
            region: region.name(),
            frequency_hz,
            bandwidth_hz,
            fix,
        })?;
        Self::in_band(band, modulation, hidden_octets.into(), module_octets)
    }

    /// The same radio at the same frequency with another spreading factor.
    ///
    /// # Errors
    /// [`RegionError`] when no message can go so.
    pub fn with_spreading_factor(&self, spreading_factor: u8) -> Result<Self, RegionError> {
        let modulation = Modulation {
            spreading_factor,
            ..self.modulation
        };
        check_modulation(modulation)?;
        Self::in_band(
            self.band,
            modulation,
            self.hidden_octets,
            self.module_octets,
        )
    }

    fn in_band(
        band: &'static Band,
        modulation: Modulation,
        hidden_octets: usize,
        module_octets: usize,
    ) -> Result<Self, RegionError> {
        let limit_us = band.allowed_us(Lane::Routine);
        let most = module_octets.min(MAX_FRAME_OCTETS.saturating_sub(hidden_octets));
        let longest_frame = (0..=most)
            .rev()
            .find(|octets| modulation.time_on_air_us(octets + hidden_octets) <= limit_us)
            .unwrap_or(0);
        let room = longest_frame.saturating_sub(OVERHEAD_OCTETS + PART_OCTETS);
        if room < LEAST_ROOM_OCTETS {
            return Err(RegionError::NoRoom {
                spreading_factor: modulation.spreading_factor,
                bandwidth_hz: modulation.bandwidth_hz,
                limit_us,
                band: band.name,
                room,
            });
        }
        Ok(Self {
            band,
            modulation,
            hidden_octets,
            module_octets,
            longest_frame,
        })
    }

    /// The rule it is under.
    pub fn band(&self) -> &'static Band {
        self.band
    }

    /// Its modulation.
    pub fn modulation(&self) -> Modulation {
        self.modulation
    }

    /// Time on air of a frame of so many octets, with what the module adds.
    pub fn airtime_us(&self, frame_octets: usize) -> u64 {
        self.modulation
            .time_on_air_us(frame_octets + self.hidden_octets)
    }

    /// Octets of the longest frame that the module takes and the law allows, header and tag included.
    pub fn longest_frame(&self) -> usize {
        self.longest_frame
    }

    /// Octets of the longest body of a frame that is no part.
    pub fn longest_payload(&self) -> usize {
        self.longest_frame - OVERHEAD_OCTETS
    }
}

fn check_modulation(modulation: Modulation) -> Result<(), RegionError> {
    let refuse = |field, value, fix| Err(RegionError::Modulation { field, value, fix });
    let spreading_factor = modulation.spreading_factor;
    if !(7..=12).contains(&spreading_factor) {
        return refuse("spreading factor", spreading_factor.into(), "use 7 to 12");
    }
    if ![125_000, 250_000, 500_000].contains(&modulation.bandwidth_hz) {
        let fix = "use 125000, 250000 or 500000 Hz";
        return refuse("bandwidth", modulation.bandwidth_hz, fix);
    }
    if !(5..=8).contains(&modulation.coding_rate) {
        let fix = "use 5 to 8, for 4/5 to 4/8";
        return refuse("coding rate", modulation.coding_rate.into(), fix);
    }
    if !(4..=64).contains(&modulation.preamble_symbols) {
        let fix = "use 4 to 64 symbols; all nodes the same";
        return refuse("preamble", modulation.preamble_symbols.into(), fix);
    }
    Ok(())
}

impl Band {
    /// What a lane may use of a window: of an hour, the last tenth is flash's alone, and of the last quarter routine
    /// has nothing. Windows of seconds are shared by all, there is nothing in them to save.
    fn allowed_us(&self, lane: Lane) -> u64 {
        match lane {
            Lane::Priority if self.window_us == HOUR_US => self.limit_us / 100 * 90,
            Lane::Routine if self.window_us == HOUR_US => self.limit_us / 100 * 75,
            _ => self.limit_us,
        }
    }
}

/// A frame can never be sent on this channel.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "frame of {octets} octets takes {airtime_us} µs, at most {longest} octets are allowed: send more parts"
)]
pub struct TooLongOnAir {
    /// Its octets.
    pub octets: usize,
    /// Its time on air.
    pub airtime_us: u64,
    /// The longest that can be.
    pub longest: usize,
}

/// Windows are counted in so many steps; a frame counts until its whole step has left the window.
const STEPS: u64 = 120;
/// How much of the limit a restart takes for spent besides what was kept, as a divisor: so much is kept ahead that a
/// write to the disk is needed once in as much airtime.
const AHEAD: u64 = 40;

/// Steps that can count at once, those of frames still on the air included.
const MOST_STEPS: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    /// Since the clock's zero; below it when from before a restart.
    number: i64,
    airtime_us: u64,
}

/// Airtime of one radio in a sliding window, exact to the microsecond, never forgotten too early.
///
/// Costs at most 128 steps of 16 octets. Times are a clock's since the start, in microseconds; how long the node was
/// off is unknown, so a restart counts no time as passed.
#[derive(Clone, Debug)]
pub struct Ledger {
    channel: Channel,
    steps: VecDeque<Step>,
    /// What may be spent before the next write.
    ahead_us: u64,
}

impl Ledger {
    /// With nothing spent.
    pub fn new(channel: Channel) -> Self {
        Self {
            channel,
            steps: VecDeque::new(),
            ahead_us: 0,
        }
    }

    /// The channel it keeps the books of.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Frames have another spreading factor from now on. What was spent stays spent: the sub-band is the same.
    ///
    /// # Errors
    /// [`RegionError`] when no message can go so; nothing has changed then.
    pub fn set_spreading_factor(&mut self, spreading_factor: u8) -> Result<(), RegionError> {
        self.channel = self.channel.with_spreading_factor(spreading_factor)?;
        Ok(())
    }

    fn step_us(&self) -> u64 {
        self.channel.band.window_us.div_ceil(STEPS)
    }

    fn number(&self, time_us: u64) -> i64 {
        i64::try_from(time_us / self.step_us()).unwrap_or(i64::MAX / 2)
    }

    /// When everything of a step has left the window.
    fn leaves_us(&self, step: Step) -> u64 {
        let steps = step.number.saturating_add_unsigned(STEPS + 1);
        u64::try_from(steps)
            .unwrap_or(0)
            .saturating_mul(self.step_us())
    }

    /// Microseconds spent in the window that ends now.
    pub fn used_us(&self, now_us: u64) -> u64 {
        let counts = |step: &&Step| self.leaves_us(**step) > now_us;
        self.steps
            .iter()
            .filter(counts)
            .map(|step| step.airtime_us)
            .sum()
    }

    /// Microseconds that a lane may spend in a window.
    pub fn limit_us(&self, lane: Lane) -> u64 {
        self.channel.band.allowed_us(lane)
    }

    /// Length of the window in microseconds.
    pub fn window_us(&self) -> u64 {
        self.channel.band.window_us
    }

    /// The first time, from now on, at which a frame of this lane may start, were nothing else sent before.
    ///
    /// # Errors
    /// [`TooLongOnAir`] when it never may.
    pub fn may_send_at(
        &self,
        frame_octets: usize,
        lane: Lane,
        now_us: u64,
    ) -> Result<u64, TooLongOnAir> {
        let airtime_us = self.channel.airtime_us(frame_octets);
        if frame_octets > self.channel.longest_frame {
            return Err(TooLongOnAir {
                octets: frame_octets,
                airtime_us,
                longest: self.channel.longest_frame,
            });
        }
        let allowed_us = self.limit_us(lane);
        let mut used_us = self.used_us(now_us);
        let mut start_us = now_us;
        for step in &self.steps {
            if used_us + airtime_us <= allowed_us {
                break;
            }
            let leaves_us = self.leaves_us(*step);
            if leaves_us > now_us {
                used_us -= step.airtime_us;
                start_us = leaves_us;
            }
        }
        Ok(start_us)
    }

    /// Notes a frame that starts now; whether what is kept must be durable before it does. Nothing is refused here:
    /// what was sent was sent.
    pub fn spend(&mut self, frame_octets: usize, now_us: u64) -> bool {
        let airtime_us = self.channel.airtime_us(frame_octets);
        let oldest = self.number(now_us).saturating_sub_unsigned(STEPS);
        self.steps.retain(|step| step.number >= oldest);
        let number = self.number(now_us.saturating_add(airtime_us));
        match self.steps.back_mut() {
            // A clock that ran backwards: it counts as long as what is there already.
            Some(last) if last.number >= number => last.airtime_us += airtime_us,
            _ => self.steps.push_back(Step { number, airtime_us }),
        }
        let keep = airtime_us > self.ahead_us;
        self.ahead_us = if keep {
            self.channel.band.limit_us / AHEAD
        } else {
            self.ahead_us - airtime_us
        };
        keep
    }

    /// What must survive a restart: the band's lower edge, what may be spent before the next write, and for each step
    /// its age and its airtime. At most 652 octets.
    pub fn encode(&self, now_us: u64) -> Vec<u8> {
        let octets = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes();
        let mut kept = self.channel.band.low_hz.to_be_bytes().to_vec();
        kept.extend(octets(self.channel.band.window_us / 1_000));
        kept.extend(octets(self.ahead_us));
        let now = self.number(now_us);
        for step in &self.steps {
            if self.leaves_us(*step) > now_us {
                kept.push(u8::try_from(now.saturating_sub(step.number).max(0)).unwrap_or(0));
                kept.extend(octets(step.airtime_us));
            }
        }
        kept
    }

    /// Goes on from what was kept, as if no time had passed since; what may have been spent after it is taken for
    /// spent now. On another sub-band nothing was spent yet.
    ///
    /// # Errors
    /// The octets are of no ledger.
    pub fn decode(channel: Channel, kept: &[u8], now_us: u64) -> Result<Self, &'static str> {
        let number = |octets: &[u8]| {
            let value = octets
                .iter()
                .fold(0, |value, octet| value << 8 | u64::from(*octet));
            u64::min(value, u64::from(u32::MAX))
        };
        let Some((head, steps)) = kept.split_at_checked(12) else {
            return Err("airtime without its head");
        };
        if steps.len() % 5 != 0 || steps.len() > 5 * MOST_STEPS {
            return Err("airtime of broken steps");
        }
        let mut ledger = Self::new(channel);
        let band = channel.band;
        if number(&head[..4]) != u64::from(band.low_hz)
            || number(&head[4..8]) != band.window_us / 1_000
        {
            return Ok(ledger);
        }
        // Where within their steps the clocks stood and stand is unknown: everything is taken for one step younger.
        let newest = ledger.number(now_us).saturating_add(1);
        let mut add = |age: u8, airtime_us: u64| {
            if airtime_us > 0 {
                let number = newest.saturating_sub(age.into());
                ledger.steps.push_back(Step { number, airtime_us });
            }
        };
        let mut youngest = u8::MAX;
        for step in steps.chunks_exact(5) {
            if step[0] > youngest {
                return Err("airtime out of order");
            }
            youngest = step[0];
            add(step[0], number(&step[1..]));
        }
        add(0, number(&head[8..]));
        Ok(ledger)
    }
}

#[cfg(test)]
mod tests;
