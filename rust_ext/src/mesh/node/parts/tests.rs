//! Parts that are asked for, and parts on their way: a test a rule (`docs/mesh.md`, M17, M18, M23).

use super::super::hostile::{ME, PAIRS, SECOND_US};
use super::super::rules::{Middle, frame, kinds, letter};
use crate::mesh::fragment::Request;
use crate::mesh::frame::{Address, EVERYBODY, Frame, Kind, Lane, Letter, Part};
use crate::mesh::neighbour::Neighbour;
use crate::mesh::queue::Phase;

/// Node 2 asks a node for parts of its letter.
fn asks(of: Address, id: u32, missing: u64) -> (Letter, Vec<u8>) {
    let letter = letter(2, of, 9, Kind::Repeat);
    let body = PAIRS[1].seal(&letter, &Request { id, missing }.encode());
    (letter, body.expect("keys"))
}

/// A letter of ours to node 2, in three parts.
fn three_parts(here: &mut Middle) -> u32 {
    let sent = here
        .node
        .send(Some(2), &[7; 500], Lane::Priority, here.now_us);
    assert_eq!(here.node.jobs.len(), 3);
    sent.expect("room")
}

fn parts(frames: &[Frame]) -> Vec<(Option<u8>, bool)> {
    frames
        .iter()
        .filter(|frame| frame.letter.kind == Kind::Data)
        .map(|frame| (frame.part.map(|part| part.index), frame.again))
        .collect()
}

#[test]
fn who_is_asked_for_parts_says_that_it_heard() {
    for (next, says) in [(ME, vec![(Kind::HopAck, 2)]), (EVERYBODY, vec![])] {
        let mut here = Middle::new();
        let (asks, body) = asks(ME, 7, 1);
        here.hear(2, next, 3, asks, body);
        let (frames, _) = here.wait(5);
        assert_eq!(kinds(&frames), says);
        assert!(frames.iter().all(|frame| frame.letter.id == asks.id));
    }
}

#[test]
fn who_said_that_it_heard_a_request_for_parts_has_it() {
    let mut here = Middle::new();
    let (asks, body) = asks(3, 7, 1);
    here.hear(2, ME, 3, asks, body);
    let sent = here.next(1).expect("sent on");
    assert_eq!((sent.letter, sent.next_hop), (asks, 3));
    let heard = Letter {
        kind: Kind::HopAck,
        ..asks
    };
    here.hear(3, ME, 0, heard, vec![]);
    assert!(here.wait(100).0.is_empty());
    let unanswered = here.node.neighbours().get(3).map(Neighbour::unanswered);
    assert_eq!(unanswered, Some(0));
}

#[test]
fn parts_that_rest_wake_when_they_are_asked_for_and_go_the_whole_way() {
    let mut here = Middle::new();
    let id = three_parts(&mut here);
    for job in &mut here.node.jobs {
        job.phase = Phase::Held;
        job.due_us = job.until_us;
    }
    let (asks, body) = asks(ME, id, 0b10);
    here.hear(2, ME, 3, asks, body);
    let sent = parts(&here.wait(5).0);
    assert!(
        !sent.is_empty() && sent.iter().all(|&part| part == (Some(1), true)),
        "{sent:?}"
    );
}

#[test]
fn parts_that_were_handed_on_go_the_whole_way_again_when_they_are_asked_for() {
    let mut here = Middle::new();
    let id = three_parts(&mut here);
    let mut first = Vec::new();
    while let Some(sent) = here.next(5) {
        let letter = Letter {
            kind: Kind::HopAck,
            ..sent.letter
        };
        here.hear_frame(&Frame {
            part: sent.part,
            ..frame(2, ME, 0, letter, vec![])
        });
        first.push(sent);
    }
    let mut first = parts(&first);
    first.sort_unstable();
    assert_eq!(
        first,
        [(Some(0), false), (Some(1), false), (Some(2), false)]
    );
    let (asks, body) = asks(ME, id, 0b101);
    here.hear(2, ME, 3, asks, body);
    let sent = parts(&here.wait(30).0);
    for index in [0, 2] {
        assert!(sent.contains(&(Some(index), true)), "{sent:?}");
    }
    assert!(
        sent.iter().all(|&(index, again)| again && index != Some(1)),
        "{sent:?}"
    );
}

#[test]
fn a_part_leaves_the_air_to_the_one_before_it() {
    // Node 3 sends the first part to a hop that sends it on, or to its end, which only says that it has it.
    for (after, octets) in [(9, 120), (5, 22)] {
        let mut here = Middle::new();
        let data = letter(2, 5, 7, Kind::Data);
        for index in 0..2 {
            here.hear_frame(&Frame {
                part: Some(Part { index, count: 2 }),
                ..frame(2, ME, 9, data, vec![index; 100])
            });
        }
        let first = here.next(2).expect("a part");
        assert_eq!((first.next_hop, first.octets()), (3, 120));
        let heard_us = here.now_us;
        here.hear_frame(&Frame {
            transmitter: 3,
            next_hop: after,
            hops_left: first.hops_left - 1,
            ..first.clone()
        });
        let second = here.next(10).expect("the other part");
        assert_ne!(second.part, first.part);
        let waited_us = here.now_us - here.node.airtime_us(120) - heard_us;
        let least_us = here.node.airtime_us(octets);
        assert!(
            (least_us..least_us + SECOND_US * 2 / 5).contains(&waited_us),
            "{waited_us} before {after} has it"
        );
    }
}
