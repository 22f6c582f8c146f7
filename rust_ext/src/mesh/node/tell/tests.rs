//! What beacons say, who asks whom, and who answers: a test a rule (`docs/mesh.md`, M20 to M22).

use std::collections::BTreeSet;

use super::super::hostile::{ME, PAIRS, SECOND_US, channel, hop};
use super::super::rules::{Middle, frame, letter};
use super::super::{Node, OnAir, Setup};
use crate::mesh::beacon::{Beacon, News, Status};
use crate::mesh::frame::{Address, EVERYBODY, Frame, Kind};

/// Of a node that hears us, and has nothing to claim.
fn beacon(from: Address, news: News) -> Frame {
    let beacon = Beacon {
        hears: vec![(ME, 0xff)],
        ..Beacon::default()
    };
    let letter = letter(from, EVERYBODY, news.number(), Kind::Beacon);
    frame(from, EVERYBODY, 0, letter, beacon.encode())
}

/// More news than one beacon has.
const MISSED: News = News {
    everything: false,
    fresh: true,
    repeated: false,
    version: 9,
};

fn says(here: &mut Middle) -> (Frame, News, Beacon) {
    let frame = here.node.beacon(here.now_us);
    let news = News::from_number(frame.letter.id);
    let beacon = Beacon::decode(&frame.body).expect("a beacon");
    (frame, news, beacon)
}

/// Whom the next beacon asks.
fn asks(here: &mut Middle) -> Option<Address> {
    let (frame, _, beacon) = says(here);
    beacon.asks.then_some(frame.next_hop)
}

#[test]
fn who_missed_news_asks_one_of_their_senders_at_a_time() {
    let mut here = Middle::new();
    assert_eq!(asks(&mut here), Some(EVERYBODY), "it has just started");
    assert_eq!(asks(&mut here), None);
    for from in [2, 3] {
        here.hear_frame(&beacon(from, MISSED));
    }
    let asked = [(); 3].map(|()| asks(&mut here));
    assert_eq!(asked, [Some(2), Some(3), Some(2)]);
    let everything = News {
        everything: true,
        ..MISSED
    };
    here.hear_frame(&beacon(2, everything));
    assert_eq!([(); 2].map(|()| asks(&mut here)), [Some(3); 2]);
    let deaf = Frame {
        body: Beacon::default().encode(),
        ..beacon(3, MISSED)
    };
    here.hear_frame(&deaf);
    assert_eq!(asks(&mut here), None, "who does not hear us");
}

#[test]
fn who_missed_news_asks_soon() {
    for (news, soon) in [(News::default(), false), (MISSED, true)] {
        let mut here = Middle::new();
        here.wait(4_000);
        let before = here.said.len();
        here.hear_frame(&beacon(2, news));
        here.wait(20);
        let asked = here.said[before..].iter().any(|beacon| beacon.asks);
        assert_eq!(asked, soon);
    }
}

#[test]
fn who_is_asked_tells_everything() {
    for (asked, everything) in [(ME, true), (3, false), (EVERYBODY, true)] {
        let mut here = Middle::new();
        for _ in 0..3 {
            says(&mut here);
        }
        let ask = Beacon {
            asks: true,
            hears: vec![(ME, 0xff)],
            ..Beacon::default()
        };
        here.hear_frame(&Frame {
            next_hop: asked,
            body: ask.encode(),
            ..beacon(2, News::default())
        });
        let (_, news, beacon) = says(&mut here);
        assert_eq!(news.everything, everything, "{asked} was asked");
        let tells = |node| beacon.claims.iter().any(|&(to, _)| to == node);
        assert_eq!([2, 3, 4, 5].map(tells), [everything; 4]);
        assert!(!says(&mut here).1.everything, "once");
    }
}

#[test]
fn beacons_number_their_news() {
    let mut here = Middle::new();
    for version in 1..=3 {
        match version {
            1 => {} // whom it has met
            2 => here.beacon(3, vec![(6, 8)], vec![]),
            _ => here.beacon(2, vec![], vec![(9, Status::default(), 3)]),
        }
        for (fresh, repeated) in [(true, false), (false, true), (false, false)] {
            let expected = News {
                everything: false,
                fresh,
                repeated,
                version,
            };
            assert_eq!(says(&mut here).1, expected);
        }
    }
}

#[test]
fn who_restarted_and_does_not_list_us_is_answered_soon_though_the_purse_is_empty() {
    for (restarted, lists_us) in [(true, false), (true, true), (false, false)] {
        // The next beacon is far off, or was due and not paid.
        for seconds in [10, 700, 2_000] {
            let mut here = Middle::new();
            here.wait(100);
            here.node.trickle.spoke(60 * SECOND_US, here.now_us);
            here.wait(seconds);
            let before = here.said.len();
            let body = Beacon {
                hears: lists_us.then_some((ME, 0xff)).into_iter().collect(),
                ..Beacon::default()
            };
            here.hear_frame(&Frame {
                restarted,
                body: body.encode(),
                ..beacon(2, News::default())
            });
            assert_eq!(here.node.asked, restarted && !lists_us);
            here.wait(10);
            let said = &here.said[before..];
            let told = |beacon: &Beacon| beacon.claims.iter().any(|&(to, _)| to == 5);
            let answered = said.iter().any(told);
            assert_eq!(answered, restarted && !lists_us, "after {seconds} s");
            assert!(answered || said.is_empty());
        }
    }
}

#[test]
fn beacons_are_apart_by_chance() {
    let mut apart = BTreeSet::new();
    for seed in 0..20 {
        let setup = Setup {
            address: ME,
            channel: channel(),
            seed,
        };
        let mut node = Node::new(&setup, hop(ME), PAIRS[0].clone(), 0);
        node.on_air = Some(OnAir::Beacon);
        node.sent(0);
        let frame_us = node.airtime_us(64);
        assert!((20 * frame_us..30 * frame_us).contains(&node.beacon_from_us));
        apart.insert(node.beacon_from_us);
    }
    assert_eq!(apart.len(), 20);
}
