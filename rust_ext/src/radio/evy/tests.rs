//! The mesh on the simulated channel: what M20 to M26 promise.

use super::*;
use crate::radio::channel::{Channel as Ether, Medium, PathLoss, Radio};
use crate::radio::run::{Change, Outcome, Run, Traffic};

const MODULATION: Modulation = Modulation::new(9, 125_000);
const SECOND: u64 = 1_000_000;

/// Radios at these places in kilometres; each hears others up to 3.2 km away.
pub(super) fn ether(places: &[(f64, f64)], shadow: Vec<f64>) -> Ether {
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
    let radios = places
        .iter()
        .map(|&(x, y)| Radio {
            x_m: 1_000.0 * x,
            y_m: 1_000.0 * y,
            power_dbm: 14.0,
            alive: true,
        })
        .collect();
    Ether::new(medium, radios, shadow)
}

fn run(
    places: &[(f64, f64)],
    changes: Vec<(u64, Change)>,
    octets: usize,
    seconds: u64,
) -> (Outcome, Vec<Evy>) {
    let count = places.len();
    let keys = Keys::new(count);
    let stations = (0..count)
        .map(|me| Evy::new(me, &keys, MODULATION, me as u64))
        .collect();
    let traffic = Traffic {
        period_us: 600 * SECOND,
        octets,
        unicast: true,
        one_at_a_time: false,
        until_us: seconds / 2 * SECOND,
    };
    let shadow = vec![0.0; count * count];
    let run = Run::new(
        ether(places, shadow),
        stations,
        MODULATION,
        traffic,
        changes,
        70_000,
        7,
    );
    let (outcome, _, stations) = run.run(seconds * SECOND);
    (outcome, stations)
}

const LINE: [(f64, f64); 5] = [(0.0, 0.0), (2.4, 0.0), (4.8, 0.0), (7.2, 0.0), (9.6, 0.0)];

#[test]
fn a_line_of_five_delivers_everything_once() {
    let (outcome, stations) = run(&LINE, Vec::new(), 40, 3_600);
    assert!(outcome.messages > 10);
    assert_eq!(outcome.reached, outcome.messages);
    let arrived: u64 = stations
        .iter()
        .map(|evy| evy.node().counters()["arrived"])
        .sum();
    assert_eq!(arrived, outcome.messages as u64, "nothing arrives twice");
    let far = stations[0].node().routes().to(5);
    assert_eq!(far.map(|(next, _)| next), Some(2));
}

/// A node of which only the first sends, once, to the last.
struct OneLetter {
    evy: Evy,
    to: Address,
    octets: usize,
}

impl Station for OneLetter {
    fn send(&mut self, message: Message, now_us: u64) {
        if message.from == 0 {
            let payload = vec![7; self.octets];
            let sent = self
                .evy
                .node
                .send(Some(self.to), &payload, Lane::Priority, now_us);
            assert!(sent.is_ok());
        }
    }

    fn receive(&mut self, frame: &[u8], rssi_dbm: f64, snr_db: f64, now_us: u64) {
        self.evy.receive(frame, rssi_dbm, snr_db, now_us);
    }

    fn sent(&mut self, now_us: u64) {
        self.evy.sent(now_us);
    }

    fn restarted(&mut self, now_us: u64) {
        self.evy.restarted(now_us);
    }

    fn poll(&mut self, now_us: u64, sense: &mut dyn FnMut() -> Sensed) -> Step {
        self.evy.poll(now_us, sense)
    }

    fn delivered(&mut self) -> Vec<u32> {
        Vec::new()
    }
}

/// One letter from the first to the last at 300 s; how often it arrived, and the nodes.
fn letter(
    places: &[(f64, f64)],
    shadow: Vec<f64>,
    changes: Vec<(u64, Change)>,
    octets: usize,
) -> (u64, Vec<OneLetter>) {
    let count = places.len();
    let keys = Keys::new(count);
    let stations = (0..count)
        .map(|me| OneLetter {
            evy: Evy::new(me, &keys, MODULATION, me as u64),
            to: count as Address,
            octets,
        })
        .collect();
    let traffic = Traffic {
        period_us: u64::MAX / 4,
        octets,
        unicast: true,
        one_at_a_time: false,
        until_us: 400 * SECOND,
    };
    let waits = (0..count)
        .map(|node| {
            [if node == 0 {
                300 * SECOND
            } else {
                500 * SECOND
            }]
            .into()
        })
        .collect();
    let run = Run::new(
        ether(places, shadow),
        stations,
        MODULATION,
        traffic,
        changes,
        70_000,
        7,
    );
    let (_, _, stations) = run.with_waits(waits).run(5_400 * SECOND);
    let counters = stations[count - 1].evy.node().counters();
    (counters.get("arrived").copied().unwrap_or(0), stations)
}

/// From the first to the last by either of two in the middle.
const DIAMOND: [(f64, f64); 4] = [(0.0, 0.0), (2.2, 0.9), (2.2, -0.9), (4.4, 0.0)];

#[test]
fn a_message_in_parts_arrives_once_whoever_in_the_middle_dies() {
    for victim in [1, 2] {
        for after_ms in [500, 2_500, 4_500, 9_000] {
            let dies = (300 * SECOND + after_ms * 1_000, Change::Dies(victim));
            let (arrived, _) = letter(&DIAMOND, vec![0.0; 16], vec![dies], 900);
            assert_eq!(arrived, 1, "node {victim} dies after {after_ms} ms");
        }
    }
}

#[test]
fn a_link_that_is_deaf_one_way_is_not_taken() {
    let places = [(0.0, 0.0), (1.2, 0.8), (2.4, 0.0)];
    let mut shadow = vec![0.0; 9];
    shadow[2] = 40.0; // the last does not hear the first, which hears it
    let (arrived, stations) = letter(&places, shadow, Vec::new(), 60);
    assert_eq!(arrived, 1);
    let first = stations[0].evy.node();
    assert!(first.neighbours().get(3).is_some(), "it is heard");
    assert_eq!(first.routes().to(3).map(|(next, _)| next), Some(2));
    let counts = first.counters();
    assert_eq!(
        counts.get("unanswered"),
        None,
        "nothing was sent to deaf ears"
    );
}

#[test]
fn who_was_out_of_reach_gets_it_later() {
    let places = [(0.0, 0.0), (2.4, 0.0), (30.0, 0.0)];
    let comes = (1_500 * SECOND, Change::Moves(2, 4_800.0, 0.0));
    let (arrived, _) = letter(&places, vec![0.0; 9], vec![comes], 60);
    assert_eq!(arrived, 1);
}
