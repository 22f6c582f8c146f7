//! Who repeats a broadcast, when, and who keeps silent: M63 to M66.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;

const FRAME_US: u64 = 600_000;
const LATER_US: u64 = 60_000_000;

fn spread(me: u8) -> (Spread<&'static str>, ChaCha8Rng) {
    let settings = Settings::new(FRAME_US, 77_000);
    (Spread::new(me, settings), ChaCha8Rng::seed_from_u64(7))
}

fn copy(transmitter: u8, from: u8) -> Copy {
    Copy {
        source: 1,
        id: 9,
        transmitter,
        from,
        hops_left: MAX_HOPS,
        snr_db: 0.0,
    }
}

#[test]
fn a_set_holds_every_address_once() {
    let mut nodes = Nodes::default();
    for node in [0, 63, 64, 254, 255, 64] {
        nodes.insert(node);
    }
    assert_eq!(nodes.iter().collect::<Vec<_>>(), [0, 63, 64, 254, 255]);
    nodes.remove(64);
    assert_eq!((nodes.len(), nodes.contains(64)), (4, false));
    assert!(!nodes.is_empty() && nodes.without(&nodes).is_empty());
}

#[test]
fn who_reaches_somebody_new_repeats_it_once_with_a_hop_less() {
    let (mut two, mut rng) = spread(2);
    two.noticed(3, 0.0, 0);
    assert!(two.heard(&copy(1, 255), || "fire", 0, &mut rng));
    assert!(!two.heard(&copy(1, 255), || "again", 1, &mut rng));
    assert!(
        two.next(0, 0.0, true, &mut rng).is_none(),
        "contention first"
    );
    let at_us = two.wake_at_us().unwrap();
    let relay = two.next(at_us, 0.0, true, &mut rng).unwrap();
    assert_eq!(
        (relay.payload, relay.from, relay.hops_left),
        (&"fire", 1, MAX_HOPS - 1)
    );
    two.sent(1, 9, at_us);
    two.heard(&copy(3, 2), || "", at_us + 1, &mut rng);
    assert!(two.next(LATER_US, 0.0, true, &mut rng).is_none());
}

#[test]
fn who_reaches_nobody_new_keeps_silent() {
    // 3 hears 1, as its beacon said, or said it had this one from 1; or sent it itself; or nobody is there.
    let beacon: fn(&mut Spread<&'static str>, &mut ChaCha8Rng) = |two, _| two.beacon(3, &[1, 2], 0);
    let relayed: fn(&mut Spread<&'static str>, &mut ChaCha8Rng) = |two, rng| {
        two.heard(&copy(3, 1), || "", 1, rng);
    };
    for learned in [beacon, relayed] {
        let (mut two, mut rng) = spread(2);
        two.noticed(3, 0.0, 0);
        two.heard(&copy(1, 255), || "fire", 0, &mut rng);
        learned(&mut two, &mut rng);
        two.heard(&copy(1, 255), || "", 2, &mut rng);
        assert!(two.next(LATER_US, 0.0, true, &mut rng).is_none());
    }
}

#[test]
fn who_just_came_is_taken_to_hear_us_although_it_did_not_say_so() {
    for (told_us, repeated) in [(1, true), (GRACE_US, false)] {
        let (mut two, mut rng) = spread(2);
        two.noticed(3, 0.0, 0);
        two.beacon(3, &[9], told_us);
        two.heard(&copy(1, 255), || "fire", GRACE_US, &mut rng);
        let relay = two.next(GRACE_US + LATER_US, 0.0, true, &mut rng);
        assert_eq!(relay.is_some(), repeated, "{told_us}");
    }
}

/// Whether 2, having heard the broadcast of 1 alone, repeats it in the end.
fn repeats(busy: f64, learn: impl FnOnce(&mut Spread<&'static str>)) -> bool {
    let (mut two, mut rng) = spread(2);
    learn(&mut two);
    two.heard(&copy(1, 255), || "fire", 0, &mut rng);
    two.next(LATER_US, busy, true, &mut rng).is_some()
}

/// 3 hears 2, and others that are hidden from 2 but heard by 5, where the broadcast of 1 has been.
fn hides(two: &mut Spread<&'static str>, hearer: u8, hidden: u8) {
    let others: Vec<u8> = (20..20 + hidden).collect();
    two.beacon(hearer, &[&[2], &others[..]].concat(), 0);
    two.beacon(5, &[&[1], &others[..]].concat(), 0);
}

#[test]
fn a_busy_channel_asks_for_more() {
    for (busy, repeated) in [(0.0, true), (0.5, false)] {
        assert_eq!(repeats(busy, |two| hides(two, 3, 2)), repeated, "{busy}");
    }
}

#[test]
fn the_further_it_has_come_the_more_it_must_add() {
    for (hops, hearers, repeated) in [(1, 1, true), (6, 1, false), (6, 4, true)] {
        let (mut two, mut rng) = spread(2);
        for hearer in 0..hearers {
            two.beacon(3 + hearer, &[2], 0);
        }
        let copy = Copy {
            hops_left: MAX_HOPS - hops + 1,
            ..copy(1, 255)
        };
        two.heard(&copy, || "fire", 0, &mut rng);
        let relay = two.next(LATER_US, 0.0, true, &mut rng);
        assert_eq!(relay.is_some(), repeated, "{hops} hops, {hearers} hearers");
    }
}

#[test]
fn who_hears_many_that_we_do_not_hear_counts_less() {
    for (hidden, repeated) in [(0, true), (4, false)] {
        assert_eq!(
            repeats(0.0, |two| hides(two, 3, hidden)),
            repeated,
            "{hidden}"
        );
    }
    let beyond: Vec<u8> = std::iter::once(2).chain(20..28).collect();
    assert!(
        repeats(0.0, |two| two.beacon(3, &beyond, 0)),
        "beyond a bridge nobody else serves it"
    );
}

#[test]
fn a_beacon_says_anew_whom_its_sender_hears() {
    let (mut two, _) = spread(2);
    two.beacon(3, &[2, 4], 0);
    two.beacon(3, &[4], 1);
    assert!(two.hearers().is_empty() && two.links.hears(3, 4));
}

#[test]
fn a_rival_who_would_add_more_goes_first() {
    let delay = |rivals: &[u8]| {
        let (mut two, mut rng) = spread(2);
        two.beacon(3, &[2, 4], 0);
        for node in rivals {
            two.beacon(*node, &[4], 0);
        }
        two.beacon(4, &[1, 2], 0);
        two.heard(&copy(1, 255), || "fire", 0, &mut rng);
        two.wake_at_us().unwrap()
    };
    let frames = Settings::new(FRAME_US, 77_000).rank_slots as u64 * 77_000;
    assert_eq!(delay(&[30, 31]), delay(&[]) + frames);
}

#[test]
fn a_frame_at_its_last_hop_or_beyond_the_law_stays() {
    let (mut two, mut rng) = spread(2);
    two.noticed(3, 0.0, 0);
    let last = Copy {
        hops_left: 0,
        ..copy(1, 255)
    };
    assert!(two.heard(&last, || "fire", 0, &mut rng));
    assert!(two.next(LATER_US, 0.0, true, &mut rng).is_none());
    let other = Copy {
        id: 10,
        ..copy(1, 255)
    };
    two.heard(&other, || "fire", 0, &mut rng);
    assert!(two.next(LATER_US, 0.0, false, &mut rng).is_none());
    assert!(
        two.next(LATER_US, 0.0, true, &mut rng).is_some(),
        "kept until the law has room"
    );
}

#[test]
fn the_source_sends_again_when_nobody_repeats_it() {
    let (mut one, mut rng) = spread(1);
    one.beacon(2, &[1], 0);
    one.begin(9, 15, "fire", 0);
    let mut sent = 0;
    let mut now_us = 0;
    while let Some(at_us) = one.wake_at_us() {
        now_us = now_us.max(at_us);
        if one.next(now_us, 0.0, true, &mut rng).is_some() {
            sent += 1;
            one.sent(1, 9, now_us + FRAME_US);
        }
    }
    assert_eq!(
        sent,
        1 + u32::from(Settings::new(FRAME_US, 1).source_resends)
    );
}

#[test]
fn a_source_that_was_heard_repeated_is_done_whoever_else_may_lack_it() {
    let (mut one, mut rng) = spread(1);
    one.beacon(2, &[1], 0);
    one.beacon(3, &[1], 0);
    one.beacon(4, &[3], 0);
    one.begin(9, MAX_HOPS, "fire", 0);
    assert!(one.next(0, 0.0, true, &mut rng).is_some());
    one.sent(1, 9, FRAME_US);
    one.heard(&copy(2, 1), || "", 2 * FRAME_US, &mut rng);
    while let Some(at_us) = one.wake_at_us() {
        assert!(one.next(at_us, 0.0, true, &mut rng).is_none());
    }
}

#[test]
fn a_busy_channel_only_defers() {
    let (mut two, mut rng) = spread(2);
    two.noticed(3, 0.0, 0);
    two.heard(&copy(1, 255), || "fire", 0, &mut rng);
    assert!(two.next(LATER_US, 0.0, true, &mut rng).is_some());
    two.deferred(1, 9, LATER_US, &mut rng);
    assert!(two.next(LATER_US, 0.0, true, &mut rng).is_none());
    assert!(two.next(2 * LATER_US, 0.0, true, &mut rng).is_some());
}

#[test]
fn what_is_remembered_is_bounded_and_links_are_forgotten() {
    let (mut two, mut rng) = spread(2);
    for id in 0..3 * REMEMBERED as u32 {
        two.heard(&Copy { id, ..copy(1, 255) }, || "", 0, &mut rng);
    }
    assert_eq!(two.entries.len(), REMEMBERED);
    assert_eq!(two.hears(HEARS_US - 1), [1]);
    assert!(
        two.hears(HEARS_US).is_empty(),
        "heard often and then no more"
    );
    let (mut two, _) = spread(2);
    for minute in [0, 20, 40, 60, 80] {
        two.noticed(1, 0.0, minute * 60_000_000);
    }
    assert_eq!(two.hears(120 * 60_000_000), [1], "heard seldom");
    assert!(two.hears(141 * 60_000_000).is_empty());
    let (mut two, mut rng) = spread(2);
    two.heard(&copy(1, 255), || "", 0, &mut rng);
    for epoch in 1..3 {
        two.noticed(7, 0.0, epoch * EPOCH_US);
    }
    assert!(!two.links.hears(2, 1) && two.links.hears(2, 7));
}
