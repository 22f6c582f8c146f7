//! What a node tells its neighbours of itself and of its routes, and when (`docs/mesh.md`, M21).

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // waits of hours in microseconds

use rand::Rng;

use super::frame::Address;

/// A cost that means: no way.
pub const NO_WAY: u8 = 255;

/// What a node says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // each is a fact of its own, none a state
pub struct Status {
    /// It has a link to the centre.
    pub uplink: bool,
    /// Its modem works.
    pub modem: bool,
    /// It has a small model that may run: never with the lowest quarter of a battery.
    pub model: bool,
    /// It is nearly empty: a relay for flash only. Always with the lowest quarter.
    pub flash_only: bool,
    /// Battery in quarters, 0 (below 30 %) to 3; 3 too when there is none to watch.
    pub battery: u8,
}

/// In the lowest quarter of a battery: nearly empty; in any other: there is a model. So both cost one bit, and every
/// five bits mean something.
const POWER: u8 = 1 << 2;

impl Status {
    /// As a beacon can say it: nearly empty is the lowest quarter, and in that no model runs.
    #[must_use]
    pub fn sayable(self) -> Self {
        let battery = if self.flash_only { 0 } else { self.battery & 3 };
        Self {
            model: self.model && battery > 0,
            battery,
            ..self
        }
    }

    fn octet(self) -> u8 {
        let Self {
            uplink,
            modem,
            model,
            flash_only,
            battery,
        } = self.sayable();
        u8::from(uplink)
            | u8::from(modem) << 1
            | if model || flash_only { POWER } else { 0 }
            | battery << 3
    }

    fn from_octet(octet: u8) -> Self {
        let (power, battery) = (octet & POWER != 0, octet >> 3 & 3);
        Self {
            uplink: octet & 1 != 0,
            modem: octet & 2 != 0,
            model: power && battery > 0,
            flash_only: power && battery == 0,
            battery,
        }
    }
}

/// How many versions of a node's news are told apart.
const VERSIONS: u32 = 1 << 21;

/// Which of its sender's news a beacon has; told in the three octets that number a letter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// It has all that its sender knows.
    pub everything: bool,
    /// It has news that no beacon before had.
    pub fresh: bool,
    /// The one before had, which this one repeats.
    pub repeated: bool,
    /// How many beacons with fresh news there were, this one among them.
    pub version: u32,
}

impl News {
    /// In three octets.
    pub fn number(self) -> u32 {
        u32::from(self.everything) << 23
            | u32::from(self.fresh) << 22
            | u32::from(self.repeated) << 21
            | (self.version % VERSIONS)
    }

    /// What [`News::number`] wrote.
    pub fn from_number(number: u32) -> Self {
        Self {
            everything: number >> 23 & 1 != 0,
            fresh: number >> 22 & 1 != 0,
            repeated: number >> 21 & 1 != 0,
            version: number % VERSIONS,
        }
    }

    /// Whether who knew a version, or nothing, has missed none after this.
    pub fn follows(self, known: Option<u32>) -> bool {
        let here = u32::from(self.fresh) + u32::from(self.repeated);
        let missed = self.version.wrapping_sub(known.unwrap_or(0)) % VERSIONS;
        self.everything || missed <= here
    }
}

/// One beacon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beacon {
    /// Of its transmitter.
    pub status: Status,
    /// It wants to be told everything: by all when it has just started, by the next hop of the frame when it missed
    /// news of that one.
    pub asks: bool,
    /// Whom it hears, and how well ([`super::neighbour::quality`]); a share of 0 has not been heard for long.
    pub hears: Vec<(Address, u8)>,
    /// Of other nodes, with a count that goes up by one at each change, modulo 8.
    pub others: Vec<(Address, Status, u8)>,
    /// What a message from it to a node costs; [`NO_WAY`] takes back what it said before. Ordered by address.
    pub claims: Vec<(Address, u8)>,
}

/// Octets of a beacon with nothing in it.
const FIXED_OCTETS: usize = 3;
const ASKS: u8 = 1 << 7;

impl Beacon {
    /// As octets: status, lists of whom it hears and of others' states with their lengths, and the claims in runs of
    /// neighbouring addresses (first, length, costs).
    pub fn encode(&self) -> Vec<u8> {
        let mut octets = vec![self.status.octet() | if self.asks { ASKS } else { 0 }];
        let count = |entries: usize| u8::try_from(entries).unwrap_or(u8::MAX);
        octets.push(count(self.hears.len()));
        for &(address, quality) in self.hears.iter().take(255) {
            octets.extend([address, quality]);
        }
        octets.push(count(self.others.len()));
        for &(address, status, sequence) in self.others.iter().take(255) {
            octets.extend([address, status.octet() | (sequence & 7) << 5]);
        }
        let mut claims = self.claims.as_slice();
        while let Some(&(first, _)) = claims.first() {
            let run = claims
                .iter()
                .enumerate()
                .take_while(|&(index, &(address, _))| {
                    usize::from(address) == usize::from(first) + index
                })
                .count();
            octets.extend([first, count(run)]);
            octets.extend(claims[..run].iter().map(|&(_, cost)| cost));
            claims = &claims[run..];
        }
        octets
    }

    /// Reads what [`Beacon::encode`] wrote; `None` for anything else.
    pub fn decode(octets: &[u8]) -> Option<Self> {
        let (&first, rest) = octets.split_first()?;
        let (hears, rest) = pairs(rest)?;
        let (others, mut rest) = pairs(rest)?;
        let mut claims = Vec::new();
        while let Some((&[address, run], more)) = rest.split_first_chunk() {
            let run = usize::from(run);
            if address == 0 || run == 0 || usize::from(address) + run > 255 || more.len() < run {
                return None;
            }
            let (costs, more) = more.split_at(run);
            claims.extend((address..).zip(costs.iter().copied()));
            rest = more;
        }
        if !rest.is_empty() {
            return None;
        }
        Some(Self {
            status: Status::from_octet(first),
            asks: first & ASKS != 0,
            hears,
            others: others
                .into_iter()
                .map(|(address, octet)| (address, Status::from_octet(octet), octet >> 5))
                .collect(),
            claims,
        })
    }

    /// Octets it takes at most.
    pub fn octets(&self) -> usize {
        FIXED_OCTETS + 2 * (self.hears.len() + self.others.len()) + 3 * self.claims.len()
    }
}

type Pairs<'a> = (Vec<(Address, u8)>, &'a [u8]);

fn pairs(octets: &[u8]) -> Option<Pairs<'_>> {
    let (&count, rest) = octets.split_first()?;
    let (entries, rest) = rest.split_at_checked(2 * usize::from(count))?;
    let entries: Vec<_> = entries
        .chunks_exact(2)
        .map(|entry| (entry[0], entry[1]))
        .collect();
    let known = entries
        .iter()
        .all(|&(address, _)| (1..=254).contains(&address));
    known.then_some((entries, rest))
}

/// Share of its time that a node may spend on beacons in the long run where nobody writes letters.
const SHARE: f64 = 0.0004;
/// What the airtime of letters that it hears and sends adds to that: who has more to carry may say more.
const LETTERS: f64 = 0.02;
/// Share of its time that it may never exceed in the long run.
const MOST: f64 = 0.001;
/// How many beacons may be saved up.
const SAVED: f64 = 3.0;
/// How many a node that starts may send before that.
const FIRST: f64 = 4.0;
/// How many times longer each interval is than the one before, while nothing changes.
const GROWTH: u64 = 8;
/// How many beacons of a node that restarted cost nothing, its interval only doubling meanwhile: until they have
/// heard one, its neighbours send what it takes for replays.
const FREE: u8 = 4;

/// When to speak (RFC 6206, without suppression: what a neighbour says does not stand for what this node would).
/// The interval grows eightfold while nothing changes and starts again when something does, as far as the purse
/// of airtime for beacons goes.
#[derive(Clone, Debug)]
#[allow(clippy::struct_field_names)] // all of them are times
pub struct Trickle {
    shortest_us: u64,
    longest_us: u64,
    interval_us: u64,
    ends_us: u64,
    due_us: Option<u64>,
    /// Airtime of a typical beacon.
    frame_us: f64,
    /// Airtime that was saved up, and when that was reckoned; a long beacon may overdraw it.
    purse_us: f64,
    reckoned_us: u64,
    /// Airtime of letters that were heard or sent since then.
    letters_us: u64,
    /// Beacons that cost nothing yet.
    free: u8,
}

impl Trickle {
    /// The first beacon falls somewhere in the first interval. `frame_us` is what one takes on air.
    pub fn new(
        shortest_us: u64,
        longest_us: u64,
        frame_us: u64,
        now_us: u64,
        rng: &mut impl Rng,
    ) -> Self {
        let frame_us = frame_us as f64;
        let mut trickle = Self {
            shortest_us,
            longest_us,
            interval_us: shortest_us,
            ends_us: now_us,
            due_us: None,
            frame_us,
            purse_us: FIRST * frame_us,
            reckoned_us: now_us,
            letters_us: 0,
            free: 0,
        };
        trickle.begin(now_us, rng);
        trickle
    }

    /// Frames take another time from now on. What is in the purse is worth as many beacons as before. The next one
    /// falls into an interval of `interval_us`.
    pub fn set_pace(
        &mut self,
        (shortest_us, longest_us): (u64, u64),
        frame_us: u64,
        interval_us: u64,
        now_us: u64,
        rng: &mut impl Rng,
    ) {
        let frame_us = frame_us as f64;
        self.purse_us *= frame_us / self.frame_us.max(1.0);
        self.frame_us = frame_us;
        (self.shortest_us, self.longest_us) = (shortest_us, longest_us);
        self.interval_us = interval_us.clamp(shortest_us, longest_us);
        self.begin(now_us, rng);
    }

    /// This node was there before: see [`FREE`].
    pub fn restarted(&mut self) {
        self.free = FREE;
    }

    /// The next beacon is paid for.
    pub fn afford_one(&mut self) {
        self.purse_us = self.purse_us.max(self.frame_us);
    }

    /// Who restarted is to hear from us soon: a beacon is paid for, and waits anew when it was due already, for others
    /// whom we do not hear may answer too.
    pub fn answer(&mut self, now_us: u64, rng: &mut impl Rng) {
        self.afford_one();
        self.reset(now_us, rng);
        if self.due_us.is_none_or(|due_us| due_us <= now_us) {
            self.begin(now_us, rng);
        }
    }

    fn begin(&mut self, now_us: u64, rng: &mut impl Rng) {
        let half_us = self.interval_us / 2;
        self.due_us = Some(now_us + half_us + rng.random_range(0..=half_us));
        self.ends_us = now_us + self.interval_us;
    }

    /// Something changed that neighbours should hear of soon.
    pub fn reset(&mut self, now_us: u64, rng: &mut impl Rng) {
        if self.interval_us > self.shortest_us {
            self.interval_us = self.shortest_us;
            self.begin(now_us, rng);
        }
    }

    /// Whether a beacon is due and paid for.
    pub fn is_due(&mut self, now_us: u64, rng: &mut impl Rng) -> bool {
        if now_us >= self.ends_us && self.due_us.is_none() {
            let growth = if self.free > 0 { 2 } else { GROWTH };
            self.interval_us = (growth * self.interval_us).min(self.longest_us);
            self.begin(now_us, rng);
        }
        self.due_us.is_some_and(|due_us| due_us <= now_us) && self.paid_at_us() <= now_us
    }

    /// A frame of so much airtime, of a letter to one node, was heard or sent.
    pub fn carried(&mut self, airtime_us: u64) {
        self.letters_us += airtime_us;
    }

    /// A beacon of so much airtime left.
    pub fn spoke(&mut self, airtime_us: u64, now_us: u64) {
        let passed_us = now_us.saturating_sub(self.reckoned_us) as f64;
        let saved_us = (passed_us * SHARE + self.letters_us as f64 * LETTERS).min(passed_us * MOST);
        let most_us = self.purse_us.max(SAVED * self.frame_us);
        let cost_us = if self.free > 0 {
            0.0
        } else {
            airtime_us as f64
        };
        self.purse_us = (self.purse_us + saved_us).min(most_us) - cost_us;
        self.free = self.free.saturating_sub(1);
        self.reckoned_us = now_us;
        self.letters_us = 0;
        self.due_us = None;
    }

    /// When the purse holds a beacon.
    fn paid_at_us(&self) -> u64 {
        if self.free > 0 {
            return self.reckoned_us;
        }
        let missing_us = (self.frame_us - self.purse_us).max(0.0);
        let alone_us = (missing_us - self.letters_us as f64 * LETTERS) / SHARE;
        self.reckoned_us
            .saturating_add(alone_us.max(missing_us / MOST) as u64)
    }

    /// Whether this is the longest interval, in which everything is said again.
    pub fn is_slow(&self) -> bool {
        self.interval_us >= self.longest_us
    }

    /// When to ask again.
    pub fn wake_at_us(&self) -> u64 {
        self.due_us
            .map_or(self.ends_us, |due_us| due_us.max(self.paid_at_us()))
    }
}

#[cfg(test)]
mod tests;
