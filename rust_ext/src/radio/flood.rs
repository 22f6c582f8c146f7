//! The baseline: Meshtastic's managed flooding, as its firmware and its simulator describe it.
//!
//! A 16-octet header, hop limit 3, SNR-weighted contention before each frame, one rebroadcast a node unless
//! another is heard first, and three resends of what nobody was heard repeating.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // shares of small positive numbers

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::channel::Node;
use super::run::{Message, Sensed, Station, Step};
use crate::mesh::airtime::Modulation;

/// Octets before the payload: destination, sender, packet id (four each), flags, channel hash, next hop, relay.
pub const HEADER_OCTETS: usize = 16;
const EVERYBODY: u32 = u32::MAX;
const HOP_LIMIT: u8 = 3;
const RESENDS: u8 = 3;
const ACK_OCTETS: usize = 2;
const CONTENTION_MIN: u32 = 2;
const CONTENTION_MAX: u32 = 8;
const PROCESSING_US: u64 = 4_500_000;
const SNR_MIN_DB: f64 = -20.0;
const SNR_MAX_DB: f64 = 15.0;
/// An acknowledgement's packet id has this bit; its payload is the low half of what it acknowledges.
const ACK_BIT: u32 = 1 << 31;

#[derive(Debug, Clone)]
struct Packet {
    destination: u32,
    origin: u32,
    id: u32,
    hop_limit: u8,
    want_ack: bool,
    octets: usize,
}

impl Packet {
    fn encode(&self) -> Arc<[u8]> {
        let mut frame = vec![0; HEADER_OCTETS + self.octets];
        frame[..4].copy_from_slice(&self.destination.to_le_bytes());
        frame[4..8].copy_from_slice(&self.origin.to_le_bytes());
        frame[8..12].copy_from_slice(&self.id.to_le_bytes());
        frame[12] = self.hop_limit | u8::from(self.want_ack) << 3;
        frame.into()
    }

    fn decode(frame: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(frame.get(at..at + 4)?.try_into().ok()?));
        let flags = *frame.get(12)?;
        Some(Self {
            destination: word(0)?,
            origin: word(4)?,
            id: word(8)?,
            hop_limit: flags & 7,
            want_ack: flags & 8 != 0,
            octets: frame.len().checked_sub(HEADER_OCTETS)?,
        })
    }
}

#[derive(Debug, Clone)]
struct Own {
    packet: Packet,
    resends_left: u8,
    due_us: u64,
}

/// One node of the baseline.
pub struct Flood {
    me: u32,
    modulation: Modulation,
    slot_us: u64,
    /// Chance that something outside the network occupies the channel when it is sensed.
    interference: f64,
    rng: ChaCha8Rng,
    queue: VecDeque<Packet>,
    /// When the head of the queue may be tried.
    try_at_us: Option<u64>,
    /// How often each packet was received; our own begin at 0.
    times: HashMap<u32, u32>,
    /// Strength of the last reception of each, in dB above noise.
    snr_db: HashMap<u32, f64>,
    /// What is in the queue or has left it.
    handled: HashSet<u32>,
    acknowledged: HashSet<u32>,
    own: Vec<Own>,
    busy_us: u64,
    delivered: Vec<u32>,
    duty: Option<Duty>,
    kind: &'static str,
}

/// The air of the last hour. The firmware drops what it is asked to send, its own or another's, while it has
/// used more than the region's share of an hour (`Router::send` in its sources); here also what would exceed it.
#[derive(Debug, Clone, Default)]
struct Duty {
    limit_us: u64,
    used_us: u64,
    frames: VecDeque<(u64, u64)>,
}

/// One hour (EN 300 220-1 §5.4.1).
const WINDOW_US: u64 = 3_600_000_000;

impl Duty {
    fn has_room(&mut self, airtime_us: u64, now_us: u64) -> bool {
        while let Some(&(ended_us, length_us)) = self.frames.front() {
            if ended_us + WINDOW_US > now_us {
                break;
            }
            self.used_us -= length_us;
            self.frames.pop_front();
        }
        self.used_us + airtime_us <= self.limit_us
    }

    fn take(&mut self, airtime_us: u64, now_us: u64) {
        self.used_us += airtime_us;
        self.frames.push_back((now_us + airtime_us, airtime_us));
    }
}

impl Flood {
    /// A node with a seed of its own.
    pub fn new(me: Node, modulation: Modulation, interference: f64, seed: u64) -> Self {
        Self {
            me: u32::try_from(me).unwrap_or(EVERYBODY - 1),
            modulation,
            slot_us: slot_us(modulation),
            interference,
            rng: ChaCha8Rng::seed_from_u64(seed),
            queue: VecDeque::new(),
            try_at_us: None,
            times: HashMap::new(),
            snr_db: HashMap::new(),
            handled: HashSet::new(),
            acknowledged: HashSet::new(),
            own: Vec::new(),
            busy_us: 0,
            delivered: Vec::new(),
            duty: None,
            kind: "data",
        }
    }

    /// Keeps to a share of each hour, in per mille.
    #[must_use]
    pub fn with_duty(mut self, per_mille: u64) -> Self {
        self.duty = Some(Duty {
            limit_us: WINDOW_US / 1000 * per_mille,
            ..Duty::default()
        });
        self
    }

    fn has_room(&mut self, octets: usize, now_us: u64) -> bool {
        let airtime_us = self.modulation.time_on_air_us(octets + HEADER_OCTETS);
        self.duty
            .as_mut()
            .is_none_or(|duty| duty.has_room(airtime_us, now_us))
    }

    fn utilisation(&self, now_us: u64) -> f64 {
        (self.busy_us as f64 / now_us.max(1) as f64).min(1.0)
    }

    fn window_by_load(&self, now_us: u64) -> u32 {
        let spread = f64::from(CONTENTION_MAX - CONTENTION_MIN);
        (self.utilisation(now_us) * spread) as u32 + CONTENTION_MIN
    }

    fn delay_us(&mut self, id: u32, now_us: u64) -> u64 {
        let window = match self.snr_db.get(&id) {
            Some(snr_db) => {
                let above = snr_db.clamp(SNR_MIN_DB, SNR_MAX_DB) - SNR_MIN_DB;
                let spread = f64::from(CONTENTION_MAX - CONTENTION_MIN);
                (above * spread / (SNR_MAX_DB - SNR_MIN_DB)) as u32 + CONTENTION_MIN
            }
            None => self.window_by_load(now_us),
        };
        u64::from(self.rng.random_range(0..1_u32 << window)) * self.slot_us
    }

    fn resend_after_us(&self, octets: usize, now_us: u64) -> u64 {
        let airtime_us = self.modulation.time_on_air_us(octets + HEADER_OCTETS);
        let slots = (1_u64 << self.window_by_load(now_us))
            + (1 << u32::midpoint(CONTENTION_MAX, CONTENTION_MIN));
        2 * airtime_us + slots * self.slot_us + PROCESSING_US
    }

    fn enqueue(&mut self, packet: Packet, now_us: u64) {
        self.handled.insert(packet.id);
        if self.has_room(packet.octets, now_us) {
            self.queue.push_back(packet);
        }
    }

    fn begin(&mut self, message: Message, now_us: u64) {
        let packet = Packet {
            destination: message
                .to
                .map_or(EVERYBODY, |to| u32::try_from(to).unwrap_or(EVERYBODY)),
            origin: self.me,
            id: message.id,
            hop_limit: HOP_LIMIT,
            want_ack: true,
            octets: message.octets,
        };
        let due_us = now_us + self.resend_after_us(packet.octets, now_us);
        self.own.push(Own {
            packet: packet.clone(),
            resends_left: RESENDS,
            due_us,
        });
        self.enqueue(packet, now_us);
    }

    fn watch_own(&mut self, now_us: u64) {
        let mut again = Vec::new();
        self.own.retain_mut(|own| {
            if now_us < own.due_us {
                return true;
            }
            if self.acknowledged.contains(&own.packet.id) || own.resends_left == 0 {
                return false;
            }
            own.resends_left -= 1;
            again.push(own.packet.clone());
            true
        });
        for packet in again {
            let due_us = now_us + self.resend_after_us(packet.octets, now_us);
            for own in &mut self.own {
                if own.packet.id == packet.id {
                    own.due_us = due_us;
                }
            }
            self.enqueue(packet, now_us);
        }
    }
}

/// A slot of contention: channel activity detection, turnaround and processing.
pub fn slot_us(modulation: Modulation) -> u64 {
    modulation.symbol_us() * 17 / 2 + 7_800
}

impl Station for Flood {
    /// It keeps nothing on its disk; that it still counts its air is more than the firmware does.
    fn restarted(&mut self, _now_us: u64) {
        let me = self.me as Node;
        let fresh = Self::new(me, self.modulation, self.interference, self.rng.random());
        *self = Self {
            duty: self.duty.take(),
            delivered: std::mem::take(&mut self.delivered),
            ..fresh
        };
    }

    fn send(&mut self, message: Message, now_us: u64) {
        self.begin(message, now_us);
    }

    fn occupied(&mut self, airtime_us: u64) {
        self.busy_us += airtime_us;
    }

    fn receive(&mut self, frame: &[u8], _rssi_dbm: f64, snr_db: f64, now_us: u64) {
        let Some(packet) = Packet::decode(frame) else {
            return;
        };
        let first = !self.times.contains_key(&packet.id);
        *self.times.entry(packet.id).or_insert(0) += 1;
        self.snr_db.insert(packet.id, snr_db);
        if packet.origin == self.me {
            self.acknowledged.insert(packet.id);
            return;
        }
        if first {
            self.delivered.push(packet.id);
        }
        let is_ack = packet.id & ACK_BIT != 0;
        let mine = packet.destination == self.me;
        if is_ack && mine {
            self.acknowledged.insert(packet.id & !ACK_BIT);
        }
        if mine {
            let ack = packet.id | ACK_BIT;
            if packet.want_ack && !self.handled.contains(&ack) {
                let answer = Packet {
                    destination: packet.origin,
                    origin: self.me,
                    id: ack,
                    hop_limit: HOP_LIMIT,
                    want_ack: false,
                    octets: ACK_OCTETS,
                };
                self.enqueue(answer, now_us);
            }
        } else if packet.hop_limit > 0 && !self.handled.contains(&packet.id) {
            let onward = Packet {
                hop_limit: packet.hop_limit - 1,
                ..packet
            };
            self.enqueue(onward, now_us);
        }
    }

    fn poll(&mut self, now_us: u64, sense: &mut dyn FnMut() -> Sensed) -> Step {
        self.watch_own(now_us);
        while let Some(packet) = self.queue.front().cloned() {
            match self.try_at_us {
                None => self.try_at_us = Some(now_us + self.delay_us(packet.id, now_us)),
                Some(time_us) if time_us > now_us => break,
                Some(_) => {
                    let sensed = sense();
                    if sensed.receiving || sensed.active || self.rng.random_bool(self.interference)
                    {
                        // A delay of no slot would be the same question again.
                        self.try_at_us = Some(now_us + self.delay_us(packet.id, now_us).max(1_000));
                        continue;
                    }
                    self.try_at_us = None;
                    self.queue.pop_front();
                    let times = *self.times.entry(packet.id).or_insert(0);
                    if times > 1 {
                        self.handled.remove(&packet.id);
                        continue;
                    }
                    if !self.has_room(packet.octets, now_us) {
                        continue;
                    }
                    let airtime_us = self
                        .modulation
                        .time_on_air_us(packet.octets + HEADER_OCTETS);
                    self.busy_us += airtime_us;
                    if let Some(duty) = &mut self.duty {
                        duty.take(airtime_us, now_us);
                    }
                    self.kind = if packet.id & ACK_BIT == 0 {
                        "data"
                    } else {
                        "acknowledgement"
                    };
                    return Step::Transmit(packet.encode());
                }
            }
        }
        let due_us = self.own.iter().map(|own| own.due_us).min();
        [self.try_at_us, due_us]
            .into_iter()
            .flatten()
            .min()
            .map_or(Step::Rest, Step::Wake)
    }

    fn delivered(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.delivered)
    }

    fn settled(&self) -> bool {
        self.own.is_empty()
    }

    fn kind(&self) -> &'static str {
        self.kind
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::radio::channel::{Channel, Medium, PathLoss, Radio};
    use crate::radio::run::{Outcome, Run, Traffic};

    const MODULATION: Modulation = Modulation::new(9, 125_000);

    /// One message a node on a line where each hears its neighbours only.
    fn chain(count: usize, unicast: bool) -> Outcome {
        let medium = Medium {
            path_loss: PathLoss::LogDistance {
                loss_db: 31.5,
                exponent: 3.0,
            },
            sensitivity_dbm: -125.0,
            disturbing_dbm: -131.0,
            detection_dbm: -128.0,
            noise_dbm: -117.0,
            capture_db: 6.0,
        };
        let radios = (0..count)
            .map(|number| Radio {
                x_m: 2_400.0 * number as f64,
                y_m: 0.0,
                power_dbm: 14.0,
                alive: true,
            })
            .collect();
        let channel = Channel::new(medium, radios, vec![0.0; count * count]);
        let stations = (0..count)
            .map(|me| Flood::new(me, MODULATION, 0.0, me as u64))
            .collect();
        let traffic = Traffic {
            period_us: 60_000_000,
            octets: 20,
            unicast,
            one_at_a_time: true,
            until_us: 600_000_000,
        };
        Run::new(
            channel,
            stations,
            MODULATION,
            traffic,
            Vec::new(),
            slot_us(MODULATION),
            7,
        )
        .run(900_000_000)
        .0
    }

    #[test]
    fn a_broadcast_reaches_four_hops_and_no_fifth() {
        let near = chain(3, false);
        assert!(
            near.messages > 10 && near.reached * 10 >= near.wanted * 9,
            "{near:?}"
        );
        let far = chain(12, false);
        // Four hops to either side of twelve: 8 of 11 in the middle, 4 of 11 at the ends.
        assert!(
            far.reached * 10 < far.wanted * 7,
            "{} of {}",
            far.reached,
            far.wanted
        );
    }

    #[test]
    fn a_message_to_one_is_acknowledged_and_settled() {
        let outcome = chain(3, true);
        assert!(outcome.reached * 10 >= outcome.messages * 9, "{outcome:?}");
        assert_eq!(outcome.wanted, outcome.messages);
        assert_eq!(outcome.delays_us.len(), outcome.reached);
    }

    #[test]
    fn the_same_seed_gives_the_same_run() {
        let (one, two) = (chain(6, false), chain(6, false));
        assert_eq!(
            (one.frames, one.reached, one.delays_us),
            (two.frames, two.reached, two.delays_us)
        );
    }

    #[test]
    fn a_frame_that_is_too_short_is_not_read() {
        for octets in 0..HEADER_OCTETS {
            assert!(Packet::decode(&vec![0; octets]).is_none());
        }
    }
}
