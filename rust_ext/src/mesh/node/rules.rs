//! What a node owes its neighbours, a test a rule: each fails when its rule is taken out (`docs/mesh.md`, M13, M22 to
//! M24, M30).

use std::collections::BTreeMap;

use super::hostile::{HOPS, ME, PAIRS, SECOND_US, channel, hop, node, run};
use super::*;
use crate::mesh::beacon::Beacon;
use crate::mesh::replay::Windows;
use crate::mesh::seal::{HopSeal, NetworkKey, PrivateKey};

/// A node in the middle: its neighbours are 2, 3 and 4, and 5, which is nobody here, lies behind 3 and 4, the nearer
/// way by 3.
pub(super) struct Middle {
    pub(super) node: Node,
    disk: Vec<u8>,
    pub(super) now_us: u64,
    /// The others' counters go on; what they hear of ours too.
    counter: u32,
    windows: Windows,
    /// What it said of itself and others, the last one last.
    pub(super) said: Vec<Beacon>,
}

impl Middle {
    pub(super) fn new() -> Self {
        let mut middle = Self {
            node: node(),
            disk: Vec::new(),
            now_us: 0,
            counter: 0,
            windows: Windows::default(),
            said: Vec::new(),
        };
        middle.meet();
        middle
    }

    fn meet(&mut self) {
        for (address, claims) in [(2, vec![]), (3, vec![(5, 8)]), (4, vec![(5, 16)])] {
            self.beacon(address, claims, vec![]);
        }
        self.wait(1);
    }

    pub(super) fn beacon(
        &mut self,
        from: Address,
        claims: Vec<(Address, u8)>,
        others: Vec<(Address, Status, u8)>,
    ) {
        let beacon = Beacon {
            hears: vec![(ME, 0xff)],
            claims,
            others,
            ..Beacon::default()
        };
        let letter = letter(from, EVERYBODY, 0, Kind::Beacon);
        self.hear(from, EVERYBODY, 0, letter, beacon.encode());
    }

    pub(super) fn hear(
        &mut self,
        from: Address,
        next: Address,
        hops: u8,
        letter: Letter,
        body: Vec<u8>,
    ) {
        self.hear_frame(&frame(from, next, hops, letter, body));
    }

    pub(super) fn hear_frame(&mut self, frame: &Frame) {
        self.counter += 1;
        let sealed = HOPS[usize::from(frame.transmitter) - 1].seal(frame, self.counter);
        let octets = sealed.expect("fields");
        self.node.receive(&octets, -80.0, 9.0, self.now_us);
    }

    /// Lets the node do for so long what it wants to: the frames it sent that are no beacons, and what arrived.
    pub(super) fn wait(&mut self, seconds: u64) -> (Vec<Frame>, Vec<Arrival>) {
        let until_us = self.now_us + seconds * SECOND_US;
        let (mut frames, mut arrived) = (Vec::new(), Vec::new());
        while self.now_us < until_us {
            let (frame, new) = self.step(until_us);
            frames.extend(frame);
            arrived.extend(new);
        }
        (frames, arrived)
    }

    /// The next frame that is no beacon and leaves so soon; the time is then its end.
    pub(super) fn next(&mut self, seconds: u64) -> Option<Frame> {
        let until_us = self.now_us + seconds * SECOND_US;
        while self.now_us < until_us {
            if let (Some(frame), _) = self.step(until_us) {
                return Some(frame);
            }
        }
        None
    }

    fn step(&mut self, until_us: u64) -> (Option<Frame>, Vec<Arrival>) {
        let poll = self.node.poll(self.now_us, &mut || false);
        if poll.keep {
            self.disk = self.node.kept(self.now_us);
        }
        let Some(octets) = poll.transmit else {
            let wakes_us = poll.wake_at_us.unwrap_or(until_us).min(until_us);
            self.now_us = wakes_us.max(self.now_us + 1);
            return (None, poll.arrived);
        };
        self.now_us += self.node.airtime_us(octets.len());
        self.node.sent(self.now_us);
        let opened = HOPS[1].open(&octets, &mut self.windows);
        let opened = opened.expect("a frame of ours, never heard before");
        self.is_on_disk(opened.counter, &opened.frame.letter);
        if opened.frame.letter.kind == Kind::Beacon {
            let beacon = Beacon::decode(&opened.frame.body);
            self.said.push(beacon.expect("a beacon"));
            return (None, poll.arrived);
        }
        (Some(opened.frame), poll.arrived)
    }

    /// Whoever starts from the disk uses neither the counter nor the number again.
    fn is_on_disk(&self, counter: u32, letter: &Letter) {
        let mut next = node();
        next.restore(&self.disk, 0, self.now_us).expect("the disk");
        let after = |reserve: &mut crate::mesh::replay::Reserve| reserve.take().expect("plenty").0;
        assert!(after(&mut next.book.counters) > counter);
        if letter.source == ME && letter.kind == Kind::Data {
            assert!(after(&mut next.book.letters) > letter.id);
        }
    }

    fn lose_power(&mut self) {
        self.node = node();
        self.node
            .restore(&self.disk, 0, self.now_us)
            .expect("what it kept");
        self.counter += 40; // what neighbours leave out for who restarted
    }
}

pub(super) fn letter(source: Address, destination: Address, id: u32, kind: Kind) -> Letter {
    Letter {
        source,
        destination,
        id,
        kind,
        lane: Lane::Priority,
        wants_receipt: kind == Kind::Data && destination != EVERYBODY,
    }
}

pub(super) fn frame(
    from: Address,
    next: Address,
    hops_left: u8,
    letter: Letter,
    body: Vec<u8>,
) -> Frame {
    Frame {
        transmitter: from,
        next_hop: next,
        hops_left,
        restarted: false,
        again: false,
        letter,
        part: None,
        body,
    }
}

fn sealed(letter: &Letter) -> Vec<u8> {
    let pairs = &PAIRS[usize::from(letter.source) - 1];
    pairs.seal(letter, b"water").expect("keys")
}

pub(super) fn kinds(frames: &[Frame]) -> Vec<(Kind, Address)> {
    frames
        .iter()
        .map(|frame| (frame.letter.kind, frame.next_hop))
        .collect()
}

#[test]
fn a_message_that_comes_again_is_confirmed_again_and_delivered_once() {
    let mut here = Middle::new();
    let to_me = letter(2, ME, 7, Kind::Data);
    for count in [1, 0, 0] {
        here.hear(2, ME, 3, to_me, sealed(&to_me));
        let (frames, arrived) = here.wait(10);
        assert_eq!(arrived.len(), count);
        assert_eq!(kinds(&frames), [(Kind::Receipt, 2)]);
    }
}

#[test]
fn a_broadcast_that_is_heard_from_several_arrives_once() {
    let mut here = Middle::new();
    let to_all = letter(2, EVERYBODY, 7, Kind::Data);
    let mut arrived = Vec::new();
    for from in [2, 3, 4] {
        here.hear(from, 2, 5, to_all, b"water".to_vec());
        arrived.extend(here.wait(20).1);
    }
    assert_eq!(arrived.len(), 1);
}

#[test]
fn who_saw_the_receipt_answers_another_copy_with_it_and_carries_nothing() {
    let mut here = Middle::new();
    let data = letter(2, 3, 7, Kind::Data);
    here.hear(2, ME, 3, data, sealed(&data));
    assert_eq!(kinds(&here.wait(1).0), [(Kind::Data, 3)]);
    let receipt = Letter {
        wants_receipt: false,
        ..letter(3, 2, 7, Kind::Receipt)
    };
    let body = PAIRS[2].seal(&receipt, &[]).expect("keys");
    here.hear(3, ME, 3, receipt, body.clone());
    assert_eq!(kinds(&here.wait(100).0), [(Kind::Receipt, 2)]);
    here.hear(2, ME, 3, data, sealed(&data));
    let (frames, _) = here.wait(100);
    assert_eq!(kinds(&frames), [(Kind::Receipt, 2)]);
    assert_eq!(frames[0].body, body);
}

#[test]
fn what_is_held_for_others_goes_on_after_a_power_cut() {
    let mut here = Middle::new();
    let data = letter(2, 3, 7, Kind::Data);
    let body = sealed(&data);
    here.hear(2, ME, 3, data, body.clone());
    // Nobody answers: it is tried, then held, which is when it must be on the disk.
    let (tried, _) = here.wait(120);
    assert!(tried.iter().any(|frame| frame.letter.kind == Kind::Data));
    here.lose_power();
    here.meet();
    let (frames, _) = here.wait(60);
    let again = frames.iter().find(|frame| frame.letter == data);
    let again = again.expect("carried on");
    assert_eq!((again.next_hop, &again.body), (3, &body));
    // And its counter is above all that it ever sent: `wait` opened every frame by one window.
}

#[test]
fn no_letter_is_numbered_twice_wherever_the_power_goes() {
    let mut here = Middle::new();
    let mut used = Vec::new();
    for _ in 0..40 {
        used.push(
            here.node
                .send(Some(2), b"x", Lane::Flash, here.now_us)
                .expect("room"),
        );
        here.wait(1);
        here.lose_power();
    }
    let mut once = used.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), used.len(), "{used:?}");
}

#[test]
fn nothing_leaves_under_a_number_that_the_disk_does_not_know() {
    let mut here = Middle::new();
    for _ in 0..80 {
        let sent = here.node.send(None, b"x", Lane::Flash, here.now_us);
        here.wait(30);
        here.node.forget(sent.expect("room"));
    }
    here.wait(100_000);
    assert!(here.node.book.counters.take().expect("plenty").0 > 200);
}

#[test]
fn what_comes_back_from_where_it_went_is_tried_another_way() {
    let mut here = Middle::new();
    let data = letter(2, 5, 7, Kind::Data);
    let body = vec![9; 20]; // for a node whose keys are of no matter here
    here.hear(2, ME, 9, data, body.clone());
    assert_eq!(kinds(&here.wait(1).0), [(Kind::Data, 3)]);
    // 3 has it, and sends it to us: its way is through us.
    here.hear(3, ME, 7, data, body);
    let sent = kinds(&here.wait(3).0);
    assert!(sent.contains(&(Kind::Data, 4)), "{sent:?}");
    assert!(!sent.contains(&(Kind::Data, 3)), "{sent:?}");
}

#[test]
fn what_was_handed_over_is_carried_again_only_when_it_comes_back() {
    let mut here = Middle::new();
    let data = letter(2, 5, 7, Kind::Data);
    let body = vec![9; 20];
    here.hear(2, ME, 9, data, body.clone());
    assert_eq!(kinds(&here.wait(1).0), [(Kind::Data, 3)]);
    here.hear(3, 5, 7, data, body.clone());
    // 2 did not hear us: it is told, and that is all.
    here.hear(2, ME, 9, data, body.clone());
    assert_eq!(kinds(&here.wait(10).0), [(Kind::HopAck, 2)]);
    // 3 found no way and gives it back: the other neighbour may know one.
    here.hear(3, ME, 6, data, body);
    let sent = kinds(&here.wait(3).0);
    assert!(
        !sent.is_empty() && sent.iter().all(|one| *one == (Kind::Data, 4)),
        "{sent:?}"
    );
}

#[test]
fn a_letter_without_hops_left_goes_no_further_and_its_bearer_hears_so() {
    let mut here = Middle::new();
    let data = letter(2, 3, 7, Kind::Data);
    here.hear(2, ME, 0, data, sealed(&data));
    let (frames, _) = here.wait(60);
    assert_eq!(kinds(&frames), [(Kind::HopAck, 2)]);
    assert_eq!(frames[0].body, [1], "no way");
    let one = letter(2, 3, 8, Kind::Data);
    here.hear(2, ME, 1, one, sealed(&one));
    assert_eq!(here.wait(1).0[0].hops_left, 0);
}

#[test]
fn of_what_is_told_of_a_node_the_newest_counts() {
    let mut here = Middle::new();
    let with = |model: bool| Status {
        model,
        battery: 2,
        ..Status::default()
    };
    for (from, has, sequence, known) in [
        (2, true, 6, true),
        (3, false, 5, true),
        (3, false, 7, false),
        (2, true, 0, true),
        (3, false, 7, true),
    ] {
        here.beacon(from, vec![], vec![(9, with(has), sequence)]);
        assert_eq!(here.node.status_of(9).model, known, "{sequence} of {from}");
    }
}

#[test]
fn what_was_told_of_a_node_before_it_restarted_is_outdone() {
    let mut here = Middle::new();
    let before = Status {
        model: true,
        battery: 3,
        ..Status::default()
    };
    here.beacon(2, vec![], vec![(ME, before, 5)]);
    here.wait(3_000);
    let mut mine = here.said.iter().flat_map(|beacon| &beacon.others);
    let last = mine.rfind(|other| other.0 == ME);
    let now = Status {
        battery: 3,
        ..Status::default()
    };
    assert_eq!(last, Some(&(ME, now, 6)));
}

#[test]
fn a_neighbour_that_lost_count_makes_a_node_leave_counters_out() {
    let mut here = Middle::new();
    let from = here.node.book.counters.clone().take().expect("plenty").0;
    let mut restarted = frame(
        2,
        EVERYBODY,
        0,
        letter(2, EVERYBODY, 0, Kind::Beacon),
        Beacon::default().encode(),
    );
    restarted.restarted = true;
    for counter in [900, 901] {
        let octets = HOPS[1].seal(&restarted, counter).expect("fields");
        here.node.receive(&octets, -80.0, 9.0, here.now_us);
    }
    let next = here.node.book.counters.take().expect("plenty").0;
    assert_eq!(next - from, 32, "once");
}

#[test]
fn who_was_revoked_is_not_heard_and_gets_no_letter() {
    // The others have a new network key, and a roster without node 4.
    let key = NetworkKey::new(b"the next one....").expect("a key");
    let private = |node: u8| PrivateKey::new(&[&[node; 31][..], &[0]].concat()).expect("a key");
    let roster: BTreeMap<_, _> = (1..=3)
        .map(|node| (node, private(node).public().to_vec()))
        .collect();
    let pairs = PairSeals::new(7, ME, &private(ME), &roster).expect("keys");
    let setup = Setup {
        address: ME,
        channel: channel(),
        seed: 5,
    };
    let seal = HopSeal::new(7, ME, &key).expect("a network");
    let mut node = Node::new(&setup, seal, Arc::new(pairs), 0);
    let mut said = |hop: &HopSeal, from: Address| {
        let letter = letter(from, ME, 3, Kind::Data);
        let octets = hop.seal(&frame(from, ME, 3, letter, sealed(&letter)), 5);
        node.receive(&octets.expect("fields"), -80.0, 9.0, 1);
        run(&mut node, 1, SECOND_US)
            .into_iter()
            .flat_map(|poll| poll.arrived)
            .count()
    };
    assert_eq!(said(&hop(4), 4), 0, "by the old key");
    // Even if a member gave it the new key: nobody opens what it seals.
    assert_eq!(said(&HopSeal::new(7, 4, &key).expect("a network"), 4), 0);
    assert_eq!(said(&HopSeal::new(7, 3, &key).expect("a network"), 3), 1);
    let refused = node.send(Some(4), b"x", Lane::Flash, 2);
    assert_eq!(refused, Err(SendError::Pair(PairError::NoKey(4))));
    assert_eq!(node.counters()["forged"], 2);
}

#[test]
fn a_start_beyond_the_numbers_of_letters_says_what_mends_it() {
    let most = 16 * (1 << 24) - 1;
    assert!(node().restore(&[], most, 0).is_ok());
    let error = node().restore(&[], most + 1, 0).expect_err("too far");
    let says = error.to_string();
    assert!(says.contains("clock") && says.contains("enrol"), "{says}");
}
