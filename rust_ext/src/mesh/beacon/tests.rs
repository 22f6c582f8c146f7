use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;

#[test]
fn what_is_written_is_read() {
    let beacon = Beacon {
        status: Status {
            uplink: true,
            modem: false,
            model: true,
            flash_only: false,
            battery: 2,
        },
        asks: true,
        hears: vec![(3, 0xf7), (254, 0)],
        others: vec![
            (9, Status::default(), 7),
            (
                10,
                Status {
                    modem: true,
                    flash_only: true,
                    ..Status::default()
                },
                0,
            ),
        ],
        claims: vec![(1, 8), (2, 16), (3, NO_WAY), (200, 40)],
    };
    let octets = beacon.encode();
    assert_eq!(Beacon::decode(&octets), Some(beacon.clone()));
    assert!(octets.len() <= beacon.octets());
}

#[test]
fn every_state_that_can_be_is_told_in_five_bits() {
    let mut told = std::collections::BTreeSet::new();
    for octet in 0..32_u8 {
        let status = Status::from_octet(octet);
        assert_eq!(status.octet(), octet);
        assert_eq!(status.sayable(), status);
        assert!(!status.flash_only || (status.battery == 0 && !status.model));
        told.insert(octet);
    }
    for bits in 0..64_u8 {
        let has = |bit: u8| bits >> bit & 1 != 0;
        let status = Status {
            uplink: has(0),
            modem: has(1),
            model: has(2),
            flash_only: has(3),
            battery: bits >> 4,
        };
        assert!(told.contains(&status.octet()), "{status:?}");
        assert_eq!(Status::from_octet(status.octet()), status.sayable());
    }
    let full = Status {
        model: true,
        flash_only: true,
        battery: 3,
        ..Status::default()
    };
    let empty = Status {
        flash_only: true,
        ..Status::default()
    };
    assert_eq!(full.sayable(), empty, "the worse is told");
}

proptest! {
    #[test]
    fn any_octets_are_read_or_refused(octets in proptest::collection::vec(any::<u8>(), 0..255)) {
        if let Some(beacon) = Beacon::decode(&octets) {
            prop_assert!(beacon.claims.iter().all(|&(address, _)| (1..=254).contains(&address)));
            prop_assert!(beacon.hears.iter().all(|&(address, _)| (1..=254).contains(&address)));
            prop_assert_eq!(Beacon::decode(&beacon.encode()), Some(beacon));
        }
    }
}

#[test]
fn news_follow_what_is_known_when_none_between_was_missed() {
    let news = |everything, fresh, repeated, version| News {
        everything,
        fresh,
        repeated,
        version,
    };
    for (news, known, follows) in [
        (news(false, true, false, 1), Some(0), true), // the first
        (news(false, true, false, 1), None, true),
        (news(false, true, false, 2), None, false),
        (news(false, false, false, 5), Some(5), true), // nothing new
        (news(false, true, false, 5), Some(4), true),
        (news(false, false, true, 5), Some(4), true), // missed, but said again
        (news(false, true, true, 5), Some(3), true),
        (news(false, false, false, 5), Some(4), false),
        (news(false, true, false, 5), Some(3), false),
        (news(false, true, true, 5), Some(2), false), // two missed
        (news(false, true, true, 1), Some(5), false), // it restarted
        (news(true, false, false, 5), Some(2), true),
        (news(true, false, false, 5), None, true),
        (news(false, true, false, 0), Some(VERSIONS - 1), true),
    ] {
        assert_eq!(news.follows(known), follows, "{news:?} after {known:?}");
    }
}

proptest! {
    #[test]
    fn news_are_numbered_in_three_octets(flags in any::<[bool; 3]>(), version in any::<u32>()) {
        let [everything, fresh, repeated] = flags;
        let news = News { everything, fresh, repeated, version };
        prop_assert!(news.number() < crate::mesh::frame::LETTERS);
        let version = version % VERSIONS;
        prop_assert_eq!(News::from_number(news.number()), News { version, ..news });
    }
}

#[test]
fn the_interval_grows_until_something_changes() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut trickle = Trickle::new(10, 160, 0, 0, &mut rng);
    let mut beacons = Vec::new();
    for now in 0..400 {
        if now == 300 {
            trickle.reset(now, &mut rng);
        }
        if trickle.is_due(now, &mut rng) {
            trickle.spoke(0, now);
            beacons.push(now);
        }
    }
    let after = |from| {
        beacons
            .iter()
            .filter(|&&at| at >= from && at < from + 100)
            .count()
    };
    assert!(
        after(0) >= 2 && after(150) <= 1 && after(300) >= 2,
        "{beacons:?}"
    );
}

#[test]
fn who_restarted_says_so_four_times_though_its_purse_is_empty() {
    let (mut rng, longest) = (ChaCha8Rng::seed_from_u64(3), 100_000_000);
    let mut heard = [0, 0];
    for (restarted, count) in [false, true].into_iter().zip(&mut heard) {
        let mut trickle = Trickle::new(1_000_000, longest, 100_000, 0, &mut rng);
        if restarted {
            trickle.restarted();
        }
        for now_us in (0..40_000_000).step_by(100_000) {
            if trickle.is_due(now_us, &mut rng) {
                trickle.spoke(500_000, now_us); // five times what is typical
                *count += 1;
            }
        }
    }
    assert_eq!(heard, [1, 4]);
}

#[test]
fn who_restarted_is_answered_soon_but_not_by_all_at_once() {
    let shortest_us = 1_000_000;
    // The next beacon is far off, or was due and not paid.
    for (at_us, changed) in [(1_500_000, false), (30_000_000, false), (30_000_000, true)] {
        let mut wakes = std::collections::BTreeSet::new();
        for seed in 0..20 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut trickle = Trickle::new(shortest_us, 100_000_000, 100_000, 0, &mut rng);
            trickle.spoke(10_000_000, 0);
            assert!(!trickle.is_due(shortest_us, &mut rng), "it has just spoken");
            if changed {
                trickle.reset(shortest_us, &mut rng);
            }
            assert!(!trickle.is_due(at_us, &mut rng), "its purse is empty");
            trickle.answer(at_us, &mut rng);
            let wakes_us = trickle.wake_at_us();
            let soon = at_us + shortest_us / 2..=at_us + shortest_us;
            assert!(soon.contains(&wakes_us), "{wakes_us} after {at_us}");
            assert!(trickle.is_due(wakes_us, &mut rng), "and is paid");
            wakes.insert(wakes_us);
        }
        assert_eq!(wakes.len(), 20, "{wakes:?}");
    }
}

#[test]
fn a_beacon_that_comes_soon_anyway_is_the_answer() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut trickle = Trickle::new(1_000_000, 100_000_000, 100_000, 0, &mut rng);
    let before = trickle.wake_at_us();
    for now_us in [0, 200_000, 400_000] {
        trickle.answer(now_us, &mut rng);
        assert_eq!(trickle.wake_at_us(), before);
    }
}

#[test]
fn beacons_cost_no_more_than_their_share_whatever_happens() {
    let share = share(0);
    assert!((0.8 * SHARE..1.3 * SHARE).contains(&share), "{share}");
}

#[test]
fn letters_let_a_node_say_more_up_to_a_limit() {
    for (letters_us, expected) in [(10_000, SHARE + 0.01 * LETTERS), (500_000, MOST)] {
        let share = share(letters_us);
        assert!((0.9 * expected..1.1 * expected).contains(&share), "{share}");
    }
}

/// What beacons take of the time when there is always news, and letters of so much airtime each second.
fn share(letters_us: u64) -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut trickle = Trickle::new(10_000, 100_000_000, 1_000, 0, &mut rng);
    let (mut spent_us, mut early) = (0, 0);
    let end_us = 400_000_000;
    let (mut now_us, mut letter_at_us) = (0, 0);
    while now_us < end_us {
        while letter_at_us <= now_us {
            trickle.carried(letters_us);
            letter_at_us += 1_000_000;
        }
        trickle.reset(now_us, &mut rng);
        if trickle.is_due(now_us, &mut rng) {
            trickle.spoke(2_000, now_us);
            spent_us += 2_000;
            early += u32::from(now_us < 500_000);
        }
        now_us = trickle.wake_at_us().min(letter_at_us).max(now_us + 1);
    }
    assert_eq!(early, 2, "what a start has");
    f64::from(spent_us) / end_us as f64
}
