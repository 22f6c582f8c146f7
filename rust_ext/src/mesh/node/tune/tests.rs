use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::super::airtime::Modulation;
use super::super::super::frame::{Address, Lane};
use super::super::super::queue::{Job, Phase};
use super::super::super::region::{Channel, Region};
use super::super::super::seal::{HopSeal, NetworkKey, PairSeals, PrivateKey};
use super::super::{Arrival, Node, Setup, State};

const SECOND_US: u64 = 1_000_000;
const HOUR_US: u64 = 3_600 * SECOND_US;
const EU: (Region, u32) = (Region::Eu868, 869_525_000);
const US: (Region, u32) = (Region::Us915, 915_000_000);

/// Nodes in a line: each hears its neighbours that have the same spreading factor, while it does not send.
struct Line {
    nodes: Vec<Node>,
    now_us: u64,
    wakes_us: Vec<u64>,
    /// When the frame ends that a node sends, and its octets.
    sends: Vec<Option<(u64, Vec<u8>)>>,
    arrived: Vec<Vec<Arrival>>,
    states: Vec<(u32, State)>,
    /// Frames that left, by sender and kind.
    frames: Vec<(usize, &'static str)>,
    /// A node whose frames nobody hears.
    mute: Option<usize>,
}

impl Line {
    fn new(count: u8, (region, frequency_hz): (Region, u32), spreading_factor: u8) -> Self {
        let key = NetworkKey::new(b"sixteen octets..").expect("a key");
        let private = |node: u8| PrivateKey::new(&[&[node; 31][..], &[0]].concat()).expect("a key");
        let roster: BTreeMap<Address, Vec<u8>> = (1..=count)
            .map(|node| (node, private(node).public().to_vec()))
            .collect();
        let modulation = Modulation::new(spreading_factor, 125_000);
        let channel = Channel::new(region, frequency_hz, modulation, 8, 237).expect("lawful");
        let node = |address: u8| {
            let pairs = PairSeals::new(7, address, &private(address), &roster).expect("keys");
            let setup = Setup {
                address,
                channel,
                seed: address.into(),
            };
            let hop = HopSeal::new(7, address, &key).expect("a network");
            Node::new(&setup, hop, Arc::new(pairs), 0)
        };
        let count = usize::from(count);
        Self {
            nodes: (1..).take(count).map(node).collect(),
            now_us: 0,
            wakes_us: vec![0; count],
            sends: vec![None; count],
            arrived: vec![Vec::new(); count],
            states: Vec::new(),
            frames: Vec::new(),
            mute: None,
        }
    }

    fn spreading_factor(&self, index: usize) -> u8 {
        let channel = self.nodes[index].ledger().channel();
        channel.modulation().spreading_factor
    }

    /// Goes on until a time, or until something is so; whether it is.
    fn until(&mut self, end_us: u64, mut done: impl FnMut(&Self) -> bool) -> bool {
        while !done(self) {
            let next = (0..self.nodes.len())
                .map(|index| {
                    let ends = self.sends[index].as_ref().map(|(end_us, _)| *end_us);
                    (ends.unwrap_or(self.wakes_us[index]), index)
                })
                .min()
                .expect("a node");
            if next.0 > end_us {
                self.now_us = end_us;
                return false;
            }
            self.now_us = self.now_us.max(next.0);
            self.step(next.1);
        }
        true
    }

    fn step(&mut self, index: usize) {
        let now_us = self.now_us;
        if let Some((_, frame)) = self.sends[index].take() {
            self.nodes[index].sent(now_us);
            for other in [index.wrapping_sub(1), index + 1] {
                let same = other < self.nodes.len()
                    && self.spreading_factor(other) == self.spreading_factor(index);
                if same && self.sends[other].is_none() && self.mute != Some(index) {
                    self.nodes[other].receive(&frame, -90.0, 5.0, now_us);
                    self.wakes_us[other] = now_us;
                }
            }
        }
        let poll = self.nodes[index].poll(now_us, &mut || false);
        self.arrived[index].extend(poll.arrived);
        if index == 0 {
            self.states.extend(poll.states);
        }
        self.wakes_us[index] = poll.wake_at_us.unwrap_or(u64::MAX).max(now_us + 1);
        if let Some(frame) = poll.transmit {
            let airtime_us = self.nodes[index].ledger().channel().airtime_us(frame.len());
            let limit_us = self.nodes[index].ledger().limit_us(Lane::Flash);
            assert!(airtime_us <= limit_us, "{} octets", frame.len());
            self.frames.push((index, self.nodes[index].sending()));
            self.sends[index] = Some((now_us + airtime_us, frame));
        }
    }

    /// Changes nodes as soon as they send nothing.
    fn tune(&mut self, indices: &[usize], spreading_factor: u8, listen: bool) {
        for &index in indices {
            while self.sends[index].is_some() {
                let (end_us, _) = self.sends[index].as_ref().expect("it sends");
                let end_us = *end_us;
                self.until(end_us, |line| line.sends[index].is_none());
            }
            let now_us = self.now_us;
            self.nodes[index]
                .tune(spreading_factor, listen, now_us)
                .expect("lawful");
            self.wakes_us[index] = now_us;
        }
    }

    fn settled(count: u8, region: (Region, u32), spreading_factor: u8) -> Self {
        let mut line = Self::new(count, region, spreading_factor);
        let far = count;
        let known = line.until(4 * HOUR_US, |line| {
            let there = |at: usize, to| line.nodes[at].routes().to(to).is_some();
            there(0, far) && there(usize::from(far) - 1, 1)
        });
        assert!(known, "no routes");
        line
    }

    fn count(&self, index: usize, what: &str) -> u64 {
        self.nodes[index].counters().get(what).copied().unwrap_or(0)
    }
}

fn payload(octets: usize) -> Vec<u8> {
    (0..octets)
        .map(|octet| u8::try_from(octet * 7 % 251).expect("an octet"))
        .collect()
}

fn delivered(line: &Line, id: u32) -> bool {
    line.states.contains(&(id, State::Delivered))
}

/// The parts are on their way over two hops when everybody changes, the relay first, each so much later than the one
/// before.
fn a_letter_in_parts_arrives_once(
    region: (Region, u32),
    before: u8,
    after: u8,
    (frames, apart_us): (usize, u64),
) -> Line {
    let mut line = Line::settled(3, region, before);
    let sent = line.frames.len();
    let message = payload(1_000);
    let now_us = line.now_us;
    let id = line.nodes[0]
        .send(Some(3), &message, Lane::Priority, now_us)
        .expect("taken");
    line.wakes_us[0] = now_us;
    let end_us = now_us + 12 * HOUR_US;
    let under_way = line.until(end_us, |line| line.frames.len() >= sent + frames);
    assert!(under_way && line.arrived[2].is_empty());
    for index in [1, 0, 2] {
        line.tune(&[index], after, false);
        line.until(line.now_us + apart_us, |_| false);
    }
    assert!(
        line.until(end_us, |line| delivered(line, id)),
        "{:?}: {:?}",
        line.states,
        line.nodes.iter().map(Node::counters).collect::<Vec<_>>()
    );
    line.until(end_us, |_| false);
    let payloads: Vec<_> = line.arrived[2].iter().map(|one| &one.payload).collect();
    assert_eq!(payloads, [&message]);
    line
}

#[test]
fn a_letter_in_parts_that_fit_goes_on_where_it_was() {
    for (before, after) in [(9, 11), (9, 7)] {
        for when in [(1, 0), (3, 0), (6, 0), (9, 0), (6, 700 * SECOND_US)] {
            let line = a_letter_in_parts_arrives_once(EU, before, after, when);
            assert_eq!(line.count(0, "cut_again"), 0);
            assert_eq!(line.count(2, "parts_refused"), 0);
        }
    }
}

#[test]
fn parts_that_are_too_long_now_are_cut_again_and_arrive_once() {
    for when in [(1, 0), (3, 0), (6, 0), (9, 0), (6, 700 * SECOND_US)] {
        let line = a_letter_in_parts_arrives_once(US, 7, 9, when);
        assert_eq!(line.count(0, "cut_again"), 1);
    }
}

/// All of it was there, and its receipt was not heard: what is cut again is known.
#[test]
fn a_letter_whose_receipt_got_lost_is_not_delivered_twice() {
    let mut line = Line::settled(2, US, 7);
    let now_us = line.now_us;
    let message = payload(500);
    let id = line.nodes[0]
        .send(Some(2), &message, Lane::Priority, now_us)
        .expect("taken");
    line.wakes_us[0] = now_us;
    assert!(line.until(now_us + HOUR_US, |line| !line.arrived[1].is_empty()));
    line.mute = Some(1);
    let answered = |line: &Line| line.frames.contains(&(1, "receipt"));
    assert!(line.until(now_us + HOUR_US, answered) && !delivered(&line, id));
    line.until(line.now_us + SECOND_US, |_| false);
    line.mute = None;
    line.tune(&[0, 1], 9, false);
    let end_us = line.now_us + 12 * HOUR_US;
    assert!(line.until(end_us, |line| delivered(line, id)));
    assert_eq!(line.arrived[1].len(), 1);
}

/// Where frames are short, beacons are too: else nobody would ever know of a neighbour.
#[test]
fn nodes_find_each_other_with_the_shortest_frames() {
    let line = Line::settled(4, US, 9);
    assert!(line.frames.iter().all(|(_, kind)| *kind == "beacon"));
}

#[test]
fn who_listens_for_others_sends_nothing_and_goes_on_when_somebody_is_heard() {
    let mut line = Line::settled(2, EU, 9);
    line.tune(&[1], 10, false);
    line.tune(&[0], 8, true);
    let now_us = line.now_us;
    let id = line.nodes[0]
        .send(Some(2), &payload(400), Lane::Priority, now_us)
        .expect("taken");
    line.wakes_us[0] = now_us;
    line.frames.clear();
    while line.now_us < now_us + HOUR_US {
        line.wakes_us[0] = line.now_us; // as a driver does, whatever it was told
        line.until(line.now_us + 5 * SECOND_US, |_| false);
    }
    assert!(
        line.frames.iter().all(|(who, _)| *who == 1),
        "{:?}",
        line.frames
    );
    // However long it was held: what rests is tried as soon as somebody is heard.
    for _ in 0..2 {
        line.tune(&[0], 9, false);
        line.until(line.now_us + 2 * HOUR_US, |_| false);
    }
    assert!(line.nodes[0].jobs.iter().any(|job| job.rounds > 2));
    line.tune(&[0], 10, true);
    let heard = line.count(0, "heard");
    let end_us = line.now_us + HOUR_US;
    assert!(line.until(end_us, |line| line.count(0, "heard") > heard));
    let anew = |job: &Job| job.rounds == 0 && job.phase != Phase::Held;
    assert!(line.nodes[0].jobs.iter().all(anew));
    let end_us = line.now_us + 60 * SECOND_US;
    assert!(line.until(end_us, |line| delivered(line, id)));
    assert_eq!(line.arrived[1].len(), 1);
}

#[test]
fn what_the_law_has_no_room_for_changes_nothing() {
    let mut line = Line::settled(2, US, 7);
    let now_us = line.now_us;
    assert!(line.nodes[0].tune(10, false, now_us).is_err());
    assert_eq!(line.spreading_factor(0), 7);
    let id = line.nodes[0]
        .send(Some(2), &payload(100), Lane::Routine, now_us)
        .expect("taken");
    line.wakes_us[0] = now_us;
    assert!(line.until(now_us + HOUR_US, |line| delivered(line, id)));
}

/// A power cut while letters for others wait: those that cannot be sent any more are left to who cut them.
#[test]
fn custody_of_what_is_too_long_now_ends_with_a_restart() {
    let mut line = Line::settled(3, US, 7);
    let now_us = line.now_us;
    line.nodes[0]
        .send(Some(3), &payload(500), Lane::Priority, now_us)
        .expect("taken");
    line.wakes_us[0] = now_us;
    line.tune(&[2], 8, false); // gone, for the others
    line.until(now_us + HOUR_US, |line| line.count(1, "held") > 0);
    let kept = line.nodes[1].kept(line.now_us);
    let held = |spreading_factor| {
        let mut fresh = Line::new(3, US, spreading_factor);
        fresh.nodes[1].restore(&kept, 0, 0).expect("kept");
        fresh.nodes[1].jobs.len()
    };
    assert!(held(7) > 0);
    assert_eq!(held(9), 0);
}
