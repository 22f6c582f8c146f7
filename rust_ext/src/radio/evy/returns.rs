//! Nodes that lose their power and come back, in a valley of five: radios that cannot sense, one way between the halves.

use super::tests::ether;
use super::*;
use crate::radio::run::{Change, Run, Traffic};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SF7: Modulation = Modulation::new(7, 125_000);
const SECOND: u64 = 1_000_000;
const GATE: Number = 0;
const EAST: Number = 1;
const WEST: Number = 2;
const MID: Number = 3;
const FAR: Number = 4;
const NAMES: [&str; 5] = ["gate", "east", "west", "mid", "far"];
/// Each hears those up to 3.2 km away, but for the two ways, which a hill keeps apart.
const PLACES: [(f64, f64); 5] = [
    (0.0, 0.0),
    (2.2, 0.9),
    (2.2, -0.9),
    (4.4, 0.0),
    (6.6, 0.0),
];
/// Octets of a question in two parts, and of its answer.
const QUESTION: usize = 307;
const ANSWER: usize = 62;

/// A node of which only the far one asks, and only the gate answers.
struct Person {
    evy: Evy,
    me: Number,
    /// When each question left, and when its answer came.
    asked_us: Vec<u64>,
    answered_us: BTreeMap<u32, u64>,
    arrived: BTreeMap<u32, u32>,
}

impl Person {
    fn note(&mut self, now_us: u64) {
        for id in self.evy.delivered() {
            *self.arrived.entry(id).or_default() += 1;
            if self.me == FAR {
                self.answered_us.entry(id).or_insert(now_us);
            } else if self.me == GATE {
                let mut payload = vec![0; ANSWER];
                payload[..4].copy_from_slice(&id.to_be_bytes());
                self.evy.submit(Some(FAR as u8 + 1), payload, now_us);
            }
        }
    }
}

impl Station for Person {
    fn send(&mut self, _message: Message, now_us: u64) {
        if self.me == FAR && now_us > 2 * SECOND {
            let id = self.asked_us.len() as u32;
            let mut payload = vec![7; QUESTION];
            payload[..4].copy_from_slice(&id.to_be_bytes());
            self.asked_us.push(now_us);
            self.evy.submit(Some(GATE as u8 + 1), payload, now_us);
        }
    }

    fn receive(&mut self, frame: &[u8], rssi_dbm: f64, snr_db: f64, now_us: u64) {
        if std::env::var("SEED").is_ok_and(|seed| seed != "0") {
            println!("TRACE {:9.3}      {} hears {}", now_us as f64 / 1e6, NAMES[self.me], NAMES[usize::from(frame[2]) - 1]);
        }
        self.evy.receive(frame, rssi_dbm, snr_db, now_us);
    }

    fn sent(&mut self, now_us: u64) {
        self.evy.sent(now_us);
    }

    fn restarted(&mut self, now_us: u64) {
        self.evy.restarted(now_us);
    }

    fn poll(&mut self, now_us: u64, _sense: &mut dyn FnMut() -> Sensed) -> Step {
        let mut deaf = || Sensed {
            receiving: false,
            active: false,
        };
        let step = self.evy.poll(now_us, &mut deaf);
        self.note(now_us);
        match step {
            Step::Transmit(ref frame) => {
                if std::env::var("SEED").is_ok_and(|seed| seed != "0") {
                    println!("TRACE {:9.3} {} sends {} to {} octets {}", now_us as f64 / 1e6, NAMES[self.me], self.evy.kind(), NAMES.get(usize::from(frame[3]) - 1).unwrap_or(&"all"), frame.len());
                }
                step
            }
            _ => self.evy.poll(now_us, &mut deaf),
        }
    }

    fn delivered(&mut self) -> Vec<u32> {
        Vec::new()
    }
}

/// Seconds until each question was answered, with these questions and changes.
fn valley(seed: u64, asked_s: &[u64], changes: Vec<(u64, Change)>) -> (Vec<Option<f64>>, Vec<Person>) {
    let count = PLACES.len();
    let keys = Keys::new(count);
    let mut shadow = vec![0.0; count * count];
    shadow[EAST * count + WEST] = 180.0;
    shadow[WEST * count + EAST] = 180.0;
    let stations = (0..count)
        .map(|me| Person {
            evy: Evy::new(me, &keys, SF7, seed * 100 + me as u64),
            me,
            asked_us: Vec::new(),
            answered_us: BTreeMap::new(),
            arrived: BTreeMap::new(),
        })
        .collect();
    let traffic = Traffic {
        period_us: u64::MAX / 4,
        octets: QUESTION,
        unicast: true,
        one_at_a_time: false,
        until_us: 3_000 * SECOND,
    };
    let mut waits = vec![std::collections::VecDeque::from([SECOND, u64::MAX / 4]); count];
    let mut before = 1;
    let waits_of_far = asked_s
        .iter()
        .map(|&at_s| (at_s - std::mem::replace(&mut before, at_s)) * SECOND);
    waits[FAR] = [SECOND]
        .into_iter()
        .chain(waits_of_far)
        .chain([u64::MAX / 4])
        .collect();
    let run = Run::new(
        ether(&PLACES, shadow),
        stations,
        SF7,
        traffic,
        changes,
        70_000,
        seed,
    );
    let (_, _, stations) = run.with_waits(waits).run(4_000 * SECOND);
    let far = &stations[FAR];
    let took = far.asked_us.iter().enumerate().map(|(id, &asked_us)| {
        let answered_us = far.answered_us.get(&(id as u32));
        answered_us.map(|&at_us| (at_us - asked_us) as f64 / 1e6)
    });
    (took.collect(), stations)
}

fn deaths(seed: u64, victims: &[(Number, u64, u64)]) -> Vec<(u64, Change)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut changes = Vec::new();
    for &(victim, asked_s, back_s) in victims {
        let dies_us = asked_s * SECOND + rng.random_range(0..3 * SECOND);
        changes.push((dies_us, Change::Dies(victim)));
        let back_us = dies_us + back_s * SECOND + rng.random_range(0..4 * SECOND);
        changes.push((back_us, Change::Returns(victim)));
    }
    changes
}

#[test]
fn trace() {
    let read = |name: &str| std::env::var(name).map_or(0, |text| text.parse::<u64>().expect("a number"));
    let cases: [(&[u64], &[(Number, u64, u64)]); 4] = [
        (&[120, 240, 360], &[]),
        (&[40, 140], &[(MID, 40, 6)]),
        (&[40, 240], &[(MID, 40, 60)]),
        (&[40, 140], &[(GATE, 40, 6)]),
    ];
    let (asked_s, victims) = cases[read("CASE") as usize];
    if read("SEED") == 0 {
        for seed in 1..=300 {
            let (took, _) = valley(seed, asked_s, deaths(seed, victims));
            if took.iter().any(|time| time.is_none_or(|time| time > 140.0)) {
                println!("TRACE {seed} {took:?}");
            }
        }
        return;
    }
    let (took, stations) = valley(read("SEED"), asked_s, deaths(read("SEED"), victims));
    println!("TRACE {took:?}");
    for (station, name) in stations.iter().zip(["gate", "east", "west", "mid", "far"]) {
        println!("TRACE {name} {:?}", station.evy.node().counters());
    }
}

#[test]
fn measure() {
    let cases: [(&str, &[u64], &[(Number, u64, u64)]); 6] = [
        ("none", &[120, 240, 360], &[]),
        ("east 60 s", &[40, 140], &[(EAST, 40, 60)]),
        ("mid 6 s", &[40, 140], &[(MID, 40, 6)]),
        ("mid 60 s", &[40, 240], &[(MID, 40, 60)]),
        ("gate 6 s", &[40, 140], &[(GATE, 40, 6)]),
        ("all", &[40, 120, 240, 340], &[(EAST, 40, 60), (WEST, 120, 60), (MID, 240, 6)]),
    ];
    for (name, asked_s, victims) in cases {
        let mut all: Vec<Vec<f64>> = vec![Vec::new(); asked_s.len()];
        let mut twice = 0;
        for seed in 1..=300 {
            let (took, stations) = valley(seed, asked_s, deaths(seed, victims));
            for (index, seconds) in took.iter().enumerate() {
                all[index].push(seconds.unwrap_or(f64::INFINITY));
            }
            twice += stations
                .iter()
                .flat_map(|station| station.arrived.values())
                .filter(|&&times| times > 1)
                .count();
        }
        println!("{name}: twice {twice}");
        for times in &mut all {
            times.sort_by(f64::total_cmp);
            let late = times.iter().filter(|&&seconds| seconds > 150.0).count();
            let at = |share: usize| times[times.len() * share / 100];
            println!(
                "   late {late:3} of {}  median {:6.1} p90 {:6.1} p95 {:6.1} p99 {:6.1} max {:6.1}",
                times.len(), at(50), at(90), at(95), at(99), times[times.len() - 1]
            );
        }
    }
}
