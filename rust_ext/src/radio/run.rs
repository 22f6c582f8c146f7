//! The event loop: stations on a channel, messages at random times, nothing drawn but from seeds.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // waits of less than a year in microseconds

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::channel::{Channel, Node};
use super::law::{Record, Region};
use crate::mesh::airtime::Modulation;

/// In the one European sub-band where a tenth of an hour is allowed.
const FREQUENCY_HZ: u32 = 869_525_000;

/// A message that somebody wants to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Its number, unique in a run.
    pub id: u32,
    /// Who sends it.
    pub from: Node,
    /// Who should get it; `None` is everybody.
    pub to: Option<Node>,
    /// Length of what is sent, without any header.
    pub octets: usize,
}

/// What a radio can tell about the channel without sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sensed {
    /// It is receiving a frame.
    pub receiving: bool,
    /// Channel activity detection finds one.
    pub active: bool,
}

/// What a station does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send these octets.
    Transmit(Arc<[u8]>),
    /// Ask again at this time.
    Wake(u64),
    /// Nothing to do until something is heard.
    Rest,
}

/// A way of moving messages: the baseline, or ours.
pub trait Station {
    /// Somebody wants a message sent.
    fn send(&mut self, message: Message, now_us: u64);
    /// A frame came whole.
    fn receive(&mut self, frame: &[u8], rssi_dbm: f64, snr_db: f64, now_us: u64);
    /// The receiver was occupied for so long, by a whole frame or a broken one.
    fn occupied(&mut self, _airtime_us: u64) {}
    /// What was sent has left.
    fn sent(&mut self, _now_us: u64) {}
    /// The power was gone and is back.
    fn restarted(&mut self, now_us: u64);
    /// Called when not sending, after everything that happens and at the time asked for.
    fn poll(&mut self, now_us: u64, sense: &mut dyn FnMut() -> Sensed) -> Step;
    /// Messages that arrived here since the last call.
    fn delivered(&mut self) -> Vec<u32>;
    /// Whether nothing of its own waits for an acknowledgement.
    fn settled(&self) -> bool {
        true
    }
    /// What the frame is that it just gave to send.
    fn kind(&self) -> &'static str {
        "data"
    }
}

/// How messages come.
#[derive(Debug, Clone, Copy)]
pub struct Traffic {
    /// Mean time between two messages of a node, in microseconds; exponential.
    pub period_us: u64,
    /// Length of each.
    pub octets: usize,
    /// To one random other node instead of to all.
    pub unicast: bool,
    /// The next time counts from when the last message was settled, as Meshtasticator does it.
    pub one_at_a_time: bool,
    /// No message begins later.
    pub until_us: u64,
}

/// What became of the messages of a run.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Messages sent.
    pub messages: usize,
    /// Nodes that should have got one, summed over the messages.
    pub wanted: usize,
    /// Nodes that did.
    pub reached: usize,
    /// Delay of each of those, in microseconds.
    pub delays_us: Vec<u64>,
    /// Microseconds on air of all radios.
    pub airtime_us: u64,
    /// Frames sent.
    pub frames: u64,
    /// Microseconds on air by what the frames were.
    pub airtime_by_kind_us: BTreeMap<&'static str, u64>,
    /// Microseconds that the radios lived, summed.
    pub alive_us: u64,
    /// Frames that the law of 869.525 MHz in Europe has something against.
    pub violations: u64,
}

/// What happens to a radio besides traffic.
#[derive(Debug, Clone, Copy)]
pub enum Change {
    /// It dies.
    Dies(Node),
    /// It has power again, and starts from what it had on its disk.
    Returns(Node),
    /// It stands elsewhere.
    Moves(Node, f64, f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    End(u64),
    Wake(Node),
    Message(Node),
    Change(usize),
}

/// One run.
pub struct Run<S> {
    channel: Channel,
    stations: Vec<S>,
    modulation: Modulation,
    traffic: Traffic,
    changes: Vec<(u64, Change)>,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    order: u64,
    rng: ChaCha8Rng,
    wakes: Vec<u64>,
    waits_to_settle: Vec<bool>,
    begun: Vec<(Message, u64)>,
    got: Vec<Vec<bool>>,
    outcome: Outcome,
    blind_us: u64,
    senses: bool,
    waits: Vec<VecDeque<u64>>,
    /// Since when each has lived; none while it is dead.
    lives_us: Vec<Option<u64>>,
    records: Vec<Record>,
}

impl<S: Station> Run<S> {
    /// A run of stations on a channel; `blind_us` is how long a frame is on the air before it can be sensed.
    pub fn new(
        channel: Channel,
        stations: Vec<S>,
        modulation: Modulation,
        traffic: Traffic,
        changes: Vec<(u64, Change)>,
        blind_us: u64,
        seed: u64,
    ) -> Self {
        let count = stations.len();
        Self {
            channel,
            stations,
            modulation,
            traffic,
            changes,
            queue: BinaryHeap::new(),
            order: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
            wakes: vec![u64::MAX; count],
            waits_to_settle: vec![false; count],
            begun: Vec::new(),
            got: Vec::new(),
            outcome: Outcome::default(),
            blind_us,
            senses: true,
            waits: Vec::new(),
            lives_us: vec![Some(0); count],
            records: vec![Record::default(); count],
        }
    }

    /// Gives each node its first waits between messages, in microseconds, instead of drawing them.
    #[must_use]
    pub fn with_waits(mut self, waits: Vec<VecDeque<u64>>) -> Self {
        self.waits = waits;
        self
    }

    /// Radios that cannot tell whether the channel is busy.
    #[must_use]
    pub fn without_sensing(mut self) -> Self {
        self.senses = false;
        self
    }

    fn at(&mut self, time_us: u64, event: Event) {
        self.order += 1;
        self.queue.push(Reverse((time_us, self.order, event)));
    }

    fn next_message(&mut self, node: Node, now_us: u64) {
        let wait_us = self
            .waits
            .get_mut(node)
            .and_then(VecDeque::pop_front)
            .unwrap_or_else(|| {
                let uniform: f64 = self.rng.random();
                (-(1.0 - uniform).ln() * self.traffic.period_us as f64) as u64
            });
        let time_us = now_us + wait_us;
        if time_us < self.traffic.until_us {
            self.at(time_us, Event::Message(node));
        }
    }

    /// Runs until `end_us`.
    pub fn run(mut self, end_us: u64) -> (Outcome, Channel, Vec<S>) {
        for node in 0..self.stations.len() {
            self.next_message(node, 0);
        }
        for index in 0..self.changes.len() {
            self.at(self.changes[index].0, Event::Change(index));
        }
        while let Some(Reverse((now_us, _, event))) = self.queue.pop() {
            if now_us > end_us {
                break;
            }
            self.happen(now_us, event);
        }
        self.outcome.airtime_us = self.channel.airtime_us.iter().sum();
        let alive = self.lives_us.iter().flatten();
        self.outcome.alive_us += alive.map(|since_us| end_us - since_us).sum::<u64>();
        (self.outcome, self.channel, self.stations)
    }

    fn happen(&mut self, now_us: u64, event: Event) {
        match event {
            Event::Message(node) => self.begin_message(node, now_us),
            Event::Wake(node) => {
                if self.wakes[node] == now_us {
                    self.wakes[node] = u64::MAX;
                    self.poll(node, now_us);
                }
            }
            Event::Change(index) => match self.changes[index].1 {
                Change::Dies(node) => {
                    let since_us = self.lives_us[node].take();
                    self.outcome.alive_us += since_us.map_or(0, |since_us| now_us - since_us);
                    self.channel.set_alive(node, false);
                }
                Change::Returns(node) => {
                    if self.lives_us[node].is_none() {
                        self.lives_us[node] = Some(now_us);
                        self.channel.set_alive(node, true);
                        self.stations[node].restarted(now_us);
                        self.poll(node, now_us);
                    }
                }
                Change::Moves(node, x_m, y_m) => self.channel.move_to(node, x_m, y_m),
            },
            Event::End(id) => {
                let Some((sent, receptions)) = self.channel.end(id) else {
                    return;
                };
                self.stations[sent.from].sent(now_us);
                for reception in &receptions {
                    let station = &mut self.stations[reception.node];
                    station.occupied(sent.ends_us - sent.began_us);
                    if reception.whole {
                        station.receive(&sent.frame, reception.rssi_dbm, reception.snr_db, now_us);
                    }
                }
                self.poll(sent.from, now_us);
                for reception in receptions {
                    self.poll(reception.node, now_us);
                }
            }
        }
    }

    fn begin_message(&mut self, node: Node, now_us: u64) {
        if !self.channel.radios()[node].alive {
            return;
        }
        let count = self.stations.len();
        let to = self.traffic.unicast.then(|| {
            let other = self.rng.random_range(0..count - 1);
            if other >= node { other + 1 } else { other }
        });
        let id = u32::try_from(self.begun.len()).unwrap_or(u32::MAX);
        let message = Message {
            id,
            from: node,
            to,
            octets: self.traffic.octets,
        };
        self.begun.push((message, now_us));
        self.got.push(vec![false; count]);
        self.outcome.messages += 1;
        self.outcome.wanted += if to.is_some() { 1 } else { count - 1 };
        self.stations[node].send(message, now_us);
        self.poll(node, now_us);
        if self.traffic.one_at_a_time && !self.stations[node].settled() {
            self.waits_to_settle[node] = true;
        } else {
            self.next_message(node, now_us);
        }
    }

    fn collect(&mut self, node: Node, now_us: u64) {
        for id in self.stations[node].delivered() {
            let Some((message, began_us)) = self.begun.get(id as usize) else {
                continue;
            };
            let wanted = message.from != node && message.to.is_none_or(|to| to == node);
            let got = &mut self.got[id as usize][node];
            if wanted && !*got {
                *got = true;
                self.outcome.reached += 1;
                self.outcome.delays_us.push(now_us - began_us);
            }
        }
    }

    fn judge(&mut self, node: Node, began_us: u64, ends_us: u64) {
        let power_dbm = self.channel.radios()[node].power_dbm;
        let (record, modulation) = (&mut self.records[node], self.modulation);
        let violation = record.note(
            Region::Eu868,
            FREQUENCY_HZ,
            power_dbm,
            modulation,
            began_us,
            ends_us,
        );
        self.outcome.violations += u64::from(violation.is_some());
    }

    fn poll(&mut self, node: Node, now_us: u64) {
        if !self.channel.radios()[node].alive || self.channel.is_sending(node, now_us) {
            return;
        }
        let (channel, blind_us, senses) = (&self.channel, self.blind_us, self.senses);
        let mut sense = || Sensed {
            receiving: senses && channel.is_receiving(node, now_us),
            active: senses && channel.is_active(node, now_us, blind_us),
        };
        let step = self.stations[node].poll(now_us, &mut sense);
        self.collect(node, now_us);
        match step {
            Step::Transmit(frame) => {
                let (id, ends_us) = self.channel.begin(node, frame, self.modulation, now_us);
                self.outcome.frames += 1;
                self.judge(node, now_us, ends_us);
                let kind = self.stations[node].kind();
                *self.outcome.airtime_by_kind_us.entry(kind).or_insert(0) += ends_us - now_us;
                self.at(ends_us, Event::End(id));
            }
            Step::Wake(time_us) => {
                let time_us = time_us.max(now_us + 1);
                if self.wakes[node] != time_us {
                    self.wakes[node] = time_us;
                    self.at(time_us, Event::Wake(node));
                }
            }
            Step::Rest => {}
        }
        if self.waits_to_settle[node] && self.stations[node].settled() {
            self.waits_to_settle[node] = false;
            self.next_message(node, now_us);
        }
    }
}
