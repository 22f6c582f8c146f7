//! What a frame costs the processor, and what a query costs on air: a line for each text of the vectors.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use evy_core::mesh::airtime::Modulation;
use evy_core::mesh::beacon::{Beacon, News};
use evy_core::mesh::frame::{EVERYBODY, Frame, Kind, Lane, Letter, OVERHEAD_OCTETS, Part};
use evy_core::mesh::node::{Node, Setup};
use evy_core::mesh::region::{Channel, Region};
use evy_core::mesh::replay::Windows;
use evy_core::mesh::seal::{HopSeal, NetworkKey, PAIR_OCTETS, PairSeals, PrivateKey};
use evy_core_benches::{mesh_queries, packer};

fn frame(octets: usize) -> Frame {
    Frame {
        transmitter: 4,
        next_hop: 5,
        hops_left: 3,
        restarted: false,
        again: false,
        letter: Letter {
            source: 1,
            destination: 9,
            id: 77,
            kind: Kind::Data,
            lane: Lane::Routine,
            wants_receipt: true,
        },
        part: Some(Part { index: 0, count: 2 }),
        body: vec![7; octets],
    }
}

/// One second of the state machine's share: 10,000 frames in a second are 100 µs each.
fn frames(c: &mut Criterion) {
    let key = NetworkKey::new(b"sixteen octets..").expect("a key");
    let [from, to] = [4, 5].map(|me| HopSeal::new(7, me, &key).expect("a network"));
    let mut group = c.benchmark_group("mesh");
    group.throughput(Throughput::Elements(1));
    for octets in [8, 60, 217] {
        let frame = frame(octets);
        let sealed = from.seal(&frame, 5).expect("short enough");
        let name = format!("{} octets", sealed.len());
        group.bench_function(format!("seal/{name}"), |b| {
            b.iter(|| from.seal(black_box(&frame), 5));
        });
        group.bench_function(format!("open/{name}"), |b| {
            b.iter_batched_ref(
                Windows::default,
                |windows| to.open(black_box(&sealed), windows),
                BatchSize::SmallInput,
            );
        });
        let mut forged = sealed.clone();
        forged[20] ^= 1;
        group.bench_function(format!("forged/{name}"), |b| {
            let mut windows = Windows::default();
            b.iter(|| to.open(black_box(&forged), &mut windows));
        });
    }
    group.finish();
}

/// A node among 99 neighbours: of ten frames heard one is a beacon with sixty claims, one is to be relayed, and eight
/// are for others.
fn node(c: &mut Criterion) {
    const FRAMES: u32 = 10_000;
    let key = NetworkKey::new(b"sixteen octets..").expect("a key");
    let private: Vec<PrivateKey> = (0..100)
        .map(|number| {
            let mut octets = [7; 32];
            octets[1] = number;
            octets[2] = 9; // equal octets are refused
            PrivateKey::new(&octets).expect("a key")
        })
        .collect();
    let roster: BTreeMap<u8, Vec<u8>> = (1..=100)
        .zip(private.iter().map(|key| key.public().to_vec()))
        .collect();
    let pairs = Arc::new(PairSeals::new(7, 1, &private[0], &roster).expect("keys"));
    let modulation = Modulation::new(9, 125_000);
    let channel = Channel::new(Region::Eu868, 869_525_000, modulation, 0, 255).expect("lawful");
    let setup = Setup {
        address: 1,
        channel,
        seed: 1,
    };
    let everything = News {
        everything: true,
        ..News::default()
    }
    .number();
    let frames: Vec<Vec<u8>> = (0..FRAMES)
        .map(|number| {
            let transmitter = u8::try_from(number % 99).expect("small") + 2;
            let claims = (1..=60).map(|to| (to, to + 8)).collect();
            let beacon = Beacon {
                hears: vec![(1, 0xf5)],
                claims,
                ..Beacon::default()
            };
            let (kind, body, next_hop) = match number % 10 {
                0 => (Kind::Beacon, beacon.encode(), EVERYBODY),
                1 => (Kind::Data, vec![1; 44], 1),
                _ => (Kind::Data, vec![1; 44], 77),
            };
            let mut frame = frame(0);
            frame.transmitter = transmitter;
            frame.next_hop = next_hop;
            frame.part = None;
            frame.body = body;
            frame.letter.source = transmitter;
            frame.letter.destination = 50;
            frame.letter.id = if kind == Kind::Beacon {
                everything
            } else {
                number
            };
            frame.letter.kind = kind;
            let hop = HopSeal::new(7, transmitter, &key).expect("a network");
            hop.seal(&frame, number / 99).expect("short enough")
        })
        .collect();
    let mut group = c.benchmark_group("mesh");
    group.throughput(Throughput::Elements(FRAMES.into()));
    group.sample_size(10);
    group.bench_function("node/frames heard among 99 neighbours", |b| {
        b.iter_batched_ref(
            || {
                let hop = HopSeal::new(7, 1, &key).expect("a network");
                Node::new(&setup, hop, pairs.clone(), 0)
            },
            |node| {
                for (now_us, frame) in (0..).step_by(100_000).zip(&frames) {
                    node.receive(frame, -90.0, 5.0, now_us);
                    if node.poll(now_us, &mut || false).transmit.is_some() {
                        node.sent(now_us + 1);
                    }
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

/// Not timed: octets and milliseconds of each query at SF9 and 125 kHz, with eight octets that a module adds.
fn on_air(_: &mut Criterion) {
    let (packer, modulation) = (packer(), Modulation::new(9, 125_000));
    let mut times: Vec<f64> = Vec::new();
    for (lang, text) in mesh_queries() {
        let message = 1 + packer.pack(&text, false).expect("short enough").len();
        let frame = message + PAIR_OCTETS + OVERHEAD_OCTETS;
        let airtime_ms = modulation.time_on_air_us(frame + 8) as f64 / 1000.0;
        println!(
            "{airtime_ms:7.1} ms, frame of {frame:3} octets, message of {message:2}: {lang:5} {text}"
        );
        times.push(airtime_ms);
    }
    times.sort_by(f64::total_cmp);
    println!(
        "{} queries of 160 characters: {:.1} to {:.1} ms, median {:.1} ms",
        times.len(),
        times[0],
        times[times.len() - 1],
        times[times.len() / 2],
    );
}

criterion_group!(benches, on_air, frames, node);
criterion_main!(benches);
