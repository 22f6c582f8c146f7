//! What a node learns of those who are gone from what others say to each other, and what it then spares: M21 to M25.

use super::super::beacon::Beacon;
use super::hostile::{HOPS, SECOND_US, node, run};
use super::*;

/// What others say to a node that hears them all.
struct Others {
    node: Node,
    counter: u32,
}

impl Others {
    fn new() -> Self {
        Self {
            node: node(),
            counter: 0,
        }
    }

    fn say(&mut self, frame: &Frame, at_s: u64) {
        self.counter += 1;
        let from = usize::from(frame.transmitter) - 1;
        let octets = HOPS[from].seal(frame, self.counter).expect("a frame");
        self.node.receive(&octets, -90.0, 8.0, at_s * SECOND_US);
        self.node.choose_routes(at_s * SECOND_US);
    }

    /// Of a node that hears us.
    fn beacon(&mut self, from: Address, claims: &[(Address, u8)], at_s: u64) {
        let beacon = Beacon {
            hears: vec![(1, 0xf7)],
            claims: claims.to_vec(),
            ..Beacon::default()
        };
        let mut frame = frame(Kind::Beacon, from, EVERYBODY, (from, EVERYBODY));
        frame.letter.id = 0; // without news
        frame.body = beacon.encode();
        self.say(&frame, at_s);
    }

    fn count(&self, what: &str) -> u64 {
        self.node.counters().get(what).copied().unwrap_or(0)
    }
}

/// From one antenna to another, of a source for a destination.
fn frame(kind: Kind, transmitter: Address, next_hop: Address, ends: (Address, Address)) -> Frame {
    Frame {
        transmitter,
        next_hop,
        hops_left: MAX_HOPS,
        restarted: false,
        again: false,
        letter: Letter {
            source: ends.0,
            destination: ends.1,
            id: 77,
            kind,
            lane: Lane::Routine,
            wants_receipt: false,
        },
        part: None,
        body: vec![3; 12],
    }
}

#[test]
fn a_neighbour_that_does_not_answer_others_is_lost_until_it_is_heard() {
    for heard_between in [false, true] {
        let mut others = Others::new();
        others.beacon(2, &[], 1);
        others.beacon(3, &[], 1);
        for at_s in [10, 12, 14, 16] {
            others.say(&frame(Kind::Data, 3, 2, (3, 2)), at_s);
            if heard_between {
                others.beacon(2, &[], at_s + 1);
            }
        }
        let cost = others.node.neighbours().cost(2, 20 * SECOND_US);
        assert_eq!(cost.is_some(), heard_between);
    }
}

#[test]
fn that_a_neighbour_has_no_way_is_said_to_all_who_hear_it() {
    let mut others = Others::new();
    others.beacon(2, &[(4, 8)], 1);
    assert_eq!(others.node.routes().to(4).map(|(next, _)| next), Some(2));
    let taken = frame(Kind::HopAck, 2, 3, (3, 4));
    others.say(
        &Frame {
            body: Vec::new(),
            ..taken.clone()
        },
        2,
    );
    assert!(others.node.routes().to(4).is_some(), "it has it");
    others.say(
        &Frame {
            body: vec![1],
            ..taken
        },
        3,
    );
    assert_eq!(others.node.routes().to(4), None);
}

#[test]
fn who_was_looked_for_in_vain_is_not_looked_for_again_at_once() {
    for (looked_for, floods) in [(false, 1), (true, 0)] {
        let mut others = Others::new();
        others.beacon(2, &[], 1);
        if looked_for {
            others.say(&frame(Kind::Data, 2, EVERYBODY, (2, 4)), 2);
        }
        let sent = others
            .node
            .send(Some(4), b"far", Lane::Routine, 3 * SECOND_US);
        assert!(sent.is_ok());
        run(&mut others.node, 3 * SECOND_US, 600 * SECOND_US);
        assert_eq!(others.count("flooded"), floods, "{looked_for}");
    }
}

#[test]
fn a_letter_does_not_go_back_to_who_wrote_it() {
    for (source, relayed) in [(3, 0), (2, 1)] {
        let mut others = Others::new();
        others.beacon(2, &[], 1);
        others.beacon(3, &[(4, 8)], 1);
        others.say(&frame(Kind::Data, 2, 1, (source, 4)), 2);
        assert_eq!(others.count("relayed"), relayed, "written by {source}");
    }
}

#[test]
fn a_change_of_routes_is_told_soon_only_where_letters_go() {
    for letters in [false, true] {
        let mut others = Others::new();
        others.beacon(2, &[], 1);
        run(&mut others.node, SECOND_US, 7_000 * SECOND_US);
        others.beacon(2, &[], 7_000);
        if letters {
            others.say(&frame(Kind::Data, 2, 3, (2, 3)), 7_001);
        }
        run(&mut others.node, 7_001 * SECOND_US, 7_100 * SECOND_US);
        others.beacon(2, &[(4, 8)], 7_100);
        let polls = run(&mut others.node, 7_100 * SECOND_US, 7_130 * SECOND_US);
        let beacons = polls.iter().filter(|poll| poll.transmit.is_some()).count();
        assert_eq!(beacons, usize::from(letters));
    }
}
