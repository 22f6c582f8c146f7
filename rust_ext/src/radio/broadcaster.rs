//! A node of ours that only broadcasts, without keys: what [`crate::mesh::spread`] is tuned on.

use std::collections::VecDeque;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::channel::Node;
use super::flood::slot_us;
use super::run::{Message, Sensed, Station, Step};
use crate::mesh::airtime::Modulation;
use crate::mesh::frame::{MAX_HOPS, OVERHEAD_OCTETS};
use crate::mesh::spread::{Copy, Settings, Spread};

/// The share of an hour that 869.4 to 869.65 MHz has, in microseconds of air.
const LIMIT_US: u64 = 360_000_000;
const HOUR_US: u64 = 3_600_000_000;
/// How long the channel's load is remembered.
const LOAD_US: u64 = 120_000_000;
const BEACON: u8 = 1;

/// Microseconds of air within some time, the oldest first: the end of each frame and its length.
#[derive(Debug, Default)]
struct Recent {
    frames: VecDeque<(u64, u64)>,
    sum_us: u64,
}

impl Recent {
    fn add(&mut self, ends_us: u64, length_us: u64) {
        self.frames.push_back((ends_us, length_us));
        self.sum_us += length_us;
    }

    fn within(&mut self, window_us: u64, now_us: u64) -> u64 {
        while let Some(&(ends_us, length_us)) = self.frames.front() {
            if ends_us + window_us > now_us {
                break;
            }
            self.sum_us -= length_us;
            self.frames.pop_front();
        }
        self.sum_us
    }
}

/// One node; addresses are the radio's number and one.
pub struct Broadcaster {
    me: u8,
    modulation: Modulation,
    settings: Settings,
    spread: Spread<usize>,
    rng: ChaCha8Rng,
    sending: Option<(u8, u32)>,
    delivered: Vec<u32>,
    kind: &'static str,
    beacon_at_us: u64,
    beacons: u32,
    air: Recent,
    busy: Recent,
    occupied_us: u64,
}

impl Broadcaster {
    /// A node with a seed of its own.
    pub fn new(me: Node, modulation: Modulation, settings: Settings, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let me = u8::try_from(me + 1).unwrap_or(254);
        Self {
            me,
            modulation,
            settings,
            spread: Spread::new(me, settings),
            beacon_at_us: rng.random_range(0..60_000_000),
            rng,
            sending: None,
            delivered: Vec::new(),
            kind: "data",
            beacons: 0,
            air: Recent::default(),
            busy: Recent::default(),
            occupied_us: 0,
        }
    }

    /// The settings that fit a modulation.
    pub fn settings(modulation: Modulation) -> Settings {
        Settings::new(
            modulation.time_on_air_us(40 + OVERHEAD_OCTETS),
            slot_us(modulation),
        )
    }

    fn transmit(&mut self, frame: Vec<u8>, kind: &'static str, now_us: u64) -> Step {
        let length_us = self.modulation.time_on_air_us(frame.len());
        self.air.add(now_us + length_us, length_us);
        self.busy.add(now_us + length_us, length_us);
        self.kind = kind;
        Step::Transmit(frame.into())
    }

    fn allowed(&mut self, octets: usize, now_us: u64) -> bool {
        let length_us = self.modulation.time_on_air_us(octets);
        self.air.within(HOUR_US, now_us) + length_us <= LIMIT_US
    }

    /// Whom it hears, said three times in the first minutes and every quarter of an hour from then on.
    fn beacon(&mut self, now_us: u64, sense: &mut dyn FnMut() -> Sensed) -> Option<Step> {
        if self.beacon_at_us > now_us {
            return None;
        }
        let sensed = sense();
        if sensed.receiving || sensed.active {
            self.beacon_at_us = now_us + self.rng.random_range(500_000..5_000_000);
            return None;
        }
        self.beacons += 1;
        let gap_us = match self.beacons {
            1 => 90_000_000,
            2 => 240_000_000,
            _ => 900_000_000,
        };
        self.beacon_at_us = now_us + gap_us * self.rng.random_range(75..125) / 100;
        let mut frame = vec![0; OVERHEAD_OCTETS];
        frame[..2].copy_from_slice(&[BEACON, self.me]);
        frame.extend(self.spread.hears(now_us));
        self.allowed(frame.len(), now_us)
            .then(|| self.transmit(frame, "beacon", now_us))
    }
}

impl Station for Broadcaster {
    fn restarted(&mut self, now_us: u64) {
        self.spread = Spread::new(self.me, self.settings);
        self.sending = None;
        self.beacons = 0;
        self.beacon_at_us = now_us + self.rng.random_range(0..60_000_000);
    }

    fn send(&mut self, message: Message, now_us: u64) {
        self.spread
            .begin(message.id, MAX_HOPS, message.octets, now_us);
    }

    fn occupied(&mut self, airtime_us: u64) {
        self.occupied_us += airtime_us;
    }

    fn receive(&mut self, frame: &[u8], _rssi_dbm: f64, snr_db: f64, now_us: u64) {
        let [kind, transmitter, from, hops_left, source, a, b, c, d] = frame[..9] else {
            return;
        };
        if kind == BEACON {
            self.spread.noticed(transmitter, snr_db, now_us);
            self.spread
                .beacon(transmitter, &frame[OVERHEAD_OCTETS..], now_us);
            return;
        }
        let copy = Copy {
            source,
            id: u32::from_le_bytes([a, b, c, d]),
            transmitter,
            from,
            hops_left,
            snr_db,
        };
        let octets = frame.len() - OVERHEAD_OCTETS;
        if self.spread.heard(&copy, || octets, now_us, &mut self.rng) {
            self.delivered.push(copy.id);
        }
    }

    fn sent(&mut self, now_us: u64) {
        if let Some((source, id)) = self.sending.take() {
            self.spread.sent(source, id, now_us);
        }
    }

    fn poll(&mut self, now_us: u64, sense: &mut dyn FnMut() -> Sensed) -> Step {
        if self.occupied_us > 0 {
            self.busy.add(now_us, std::mem::take(&mut self.occupied_us));
        }
        if let Some(step) = self.beacon(now_us, sense) {
            return step;
        }
        let busy = self.busy.within(LOAD_US, now_us) as f64 / LOAD_US.min(now_us.max(1)) as f64;
        let allowed = self.allowed(40 + OVERHEAD_OCTETS, now_us);
        let relay = self
            .spread
            .next(now_us, busy.min(1.0), allowed, &mut self.rng)
            .map(|relay| {
                (
                    relay.source,
                    relay.id,
                    relay.from,
                    relay.hops_left,
                    *relay.payload,
                )
            });
        if let Some((source, id, from, hops_left, octets)) = relay {
            let sensed = sense();
            if sensed.receiving || sensed.active {
                self.spread.deferred(source, id, now_us, &mut self.rng);
            } else {
                let mut frame = vec![0; OVERHEAD_OCTETS + octets];
                frame[1..5].copy_from_slice(&[self.me, from, hops_left, source]);
                frame[5..9].copy_from_slice(&id.to_le_bytes());
                self.sending = Some((source, id));
                return self.transmit(frame, "data", now_us);
            }
        }
        let wake_us = self
            .spread
            .wake_at_us()
            .unwrap_or(u64::MAX)
            .min(self.beacon_at_us);
        // What the law has no room for is asked about once a second.
        Step::Wake(if wake_us <= now_us {
            now_us + 1_000_000
        } else {
            wake_us
        })
    }

    fn delivered(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.delivered)
    }

    fn kind(&self) -> &'static str {
        self.kind
    }
}
