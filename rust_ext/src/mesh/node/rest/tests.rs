//! How long letters rest, and what wakes them: a test a rule (`docs/mesh.md`, M23).

use super::super::hostile::{ME, PAIRS, hop};
use super::super::rules::{Middle, letter};
use super::super::{Node, Setup, TYPICAL_OCTETS};
use super::{APART_FRAMES, HELD_FRAMES};
use crate::mesh::airtime::Modulation;
use crate::mesh::frame::{Address, Frame, Kind, Lane};
use crate::mesh::queue::{Job, Phase};
use crate::mesh::region::{Channel, Region};

/// Airtime after which a channel is just calm, or too busy.
const CALM_US: u64 = 18_000_000;
const BUSY_US: u64 = 26_000_000;

/// A letter for node 2, which does not answer, rests here.
fn unanswered() -> Middle {
    let mut here = Middle::new();
    let sent = here
        .node
        .send(Some(2), b"water", Lane::Priority, here.now_us);
    sent.expect("room");
    here.wait(8);
    assert_eq!(here.node.jobs[0].phase, Phase::Held);
    here
}

/// A letter of node 9 for node 5 that node 2 gave rests here: nodes 3 and 4 said that they have no way.
fn refused() -> Middle {
    let mut here = Middle::new();
    let data = letter(9, 5, 7, Kind::Data);
    here.hear(2, ME, 9, data, vec![9; 20]);
    for next in [3, 4] {
        assert_eq!(goes_to(here.next(2)), Some(next));
        let no_way = letter(9, 5, 7, Kind::HopAck);
        here.hear(next, ME, 0, no_way, vec![1]);
    }
    assert!(here.next(2).is_none());
    assert_eq!(here.node.jobs[0].phase, Phase::Held);
    here
}

fn goes_to(sent: Option<Frame>) -> Option<Address> {
    let data = sent.filter(|frame| frame.letter.kind == Kind::Data);
    data.map(|frame| frame.next_hop)
}

/// A node with another radio, and one job.
fn with_job(spreading_factor: u8, bandwidth_hz: u32, from: Address) -> Node {
    let modulation = Modulation::new(spreading_factor, bandwidth_hz);
    let channel = Channel::new(Region::Eu868, 869_525_000, modulation, 8, 237);
    let setup = Setup {
        address: ME,
        channel: channel.expect("lawful"),
        seed: 5,
    };
    let mut node = Node::new(&setup, hop(ME), PAIRS[0].clone(), 0);
    node.jobs.push(Job {
        from,
        ..Job::default()
    });
    node
}

#[test]
fn what_rests_for_a_silent_neighbour_goes_on_when_that_is_heard_and_the_channel_is_calm() {
    for (busy_us, next) in [(CALM_US, Some(2)), (BUSY_US, None)] {
        let mut here = unanswered();
        here.node.occupied(busy_us, here.now_us);
        here.beacon(2, vec![], vec![]);
        assert_eq!(goes_to(here.next(5)), next, "{busy_us}");
    }
}

#[test]
fn what_rests_for_a_silent_neighbour_does_not_go_at_once() {
    let mut here = unanswered();
    here.node.neighbours.answered(3, false);
    here.beacon(3, vec![(5, 8)], vec![]);
    assert_eq!(here.node.jobs[0].phase, Phase::Held, "not for that one");
    here.beacon(2, vec![], vec![]);
    let job = &here.node.jobs[0];
    let beacon_us = here.node.airtime_us(23);
    let most_us = beacon_us + APART_FRAMES * here.node.airtime_us(job.frame(ME).octets());
    let wait_us = job.due_us - here.now_us;
    assert!(
        (beacon_us + 1..most_us).contains(&wait_us),
        "{wait_us} after a beacon of {beacon_us}"
    );
}

#[test]
fn a_neighbour_that_had_no_way_is_tried_again_when_it_claims_one() {
    let mut here = refused();
    here.beacon(3, vec![(5, 8)], vec![]);
    assert_eq!(goes_to(here.next(5)), Some(3));
}

#[test]
fn what_rests_wakes_at_any_way_but_one_that_leads_back() {
    let mut here = refused();
    let rests = |here: &Middle| {
        let job = &here.node.jobs[0];
        (job.phase, job.due_us, job.rounds)
    };
    let before = rests(&here);
    here.beacon(2, vec![(5, 8)], vec![]);
    assert!(here.next(10).is_none());
    let route = here.node.routes().to(5).map(|(next, _)| next);
    assert_eq!(route, Some(2), "who gave it");
    assert_eq!(rests(&here), before);
    here.beacon(4, vec![(5, 40)], vec![]);
    assert_eq!(goes_to(here.next(5)), Some(4));
}

#[test]
fn letters_that_a_way_wakes_go_apart_and_only_when_the_channel_is_calm() {
    for (busy_us, wakes) in [(CALM_US, true), (BUSY_US, false)] {
        let mut here = Middle::new();
        for id in 0..5 {
            here.node.jobs.push(Job {
                letter: letter(2, 5, id, Kind::Data),
                from: 2,
                wants_way: true,
                phase: Phase::Held,
                due_us: u64::MAX,
                until_us: u64::MAX,
                ..Job::default()
            });
        }
        here.node.occupied(busy_us, here.now_us);
        here.node.choose_routes(here.now_us);
        let jobs = &here.node.jobs;
        assert!(jobs.iter().all(|job| (job.phase == Phase::Ready) == wakes));
        if wakes {
            let most_us = APART_FRAMES * here.node.airtime_us(jobs[0].frame(ME).octets());
            let waits = jobs.iter().map(|job| job.due_us - here.now_us);
            let mut waits: Vec<u64> = waits.collect();
            waits.sort_unstable();
            waits.dedup();
            assert!(waits.len() == 5 && waits[4] < most_us, "{waits:?}");
        }
    }
}

#[test]
fn letters_rest_in_proportion_to_the_airtime_of_a_frame() {
    let held = |spreading_factor, bandwidth_hz| {
        let mut node = with_job(spreading_factor, bandwidth_hz, 0);
        node.hold(0, false, 0);
        (node.jobs[0].due_us, node.airtime_us(TYPICAL_OCTETS))
    };
    let (fast_us, fast_frame_us) = held(7, 125_000);
    let (slow_us, slow_frame_us) = held(11, 250_000);
    assert_eq!(fast_us * slow_frame_us, slow_us * fast_frame_us);
    assert!(fast_us < slow_us / 4, "{fast_us} and {slow_us}");
    let half_a_minute = 25_000_000..35_000_000;
    assert!(half_a_minute.contains(&slow_us), "{slow_us}");
}

#[test]
fn letters_rest_four_times_as_long_at_each_further_time_up_to_a_limit() {
    for (from, mut times) in [(0, vec![1, 4, 16, 64, 128]), (2, vec![4, 16, 64, 128])] {
        let mut node = with_job(7, 125_000, from);
        let least_us = HELD_FRAMES * node.airtime_us(TYPICAL_OCTETS);
        times.resize(300, 128);
        for time in times {
            node.hold(0, false, 5);
            assert_eq!(node.jobs[0].due_us, 5 + time * least_us);
        }
    }
}
