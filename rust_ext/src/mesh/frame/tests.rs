use std::collections::BTreeMap;

use super::*;
use crate::mesh::airtime::Modulation;
use crate::mesh::region::{Channel, Region};
use crate::mesh::replay::Windows;
use crate::mesh::seal::{HopSeal, NetworkKey, PairSeals, PrivateKey};
use crate::pack::Packer;

fn shipped(path: &str) -> Vec<u8> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    std::fs::read(format!("{root}/{path}")).expect("a checkout")
}

/// Every text goes through the packer, the seal of the pair and the seal of a hop in the middle of its way;
/// its frame then has the octets of the message's kind, of both seals, and eight that a module adds.
#[test]
fn a_query_of_160_characters_takes_600_ms_a_hop_at_most() {
    let packer = Packer::new(&shipped("actors/knowledge/pack.model"), &[]).expect("the model");
    let channel = Channel::new(
        Region::Eu868,
        869_525_000,
        Modulation::new(9, 125_000),
        8,
        237,
    )
    .expect("legal");
    let private = |node: u8| PrivateKey::new(&[&[node; 31][..], &[0]].concat()).expect("a key");
    let roster = BTreeMap::from([1, 9].map(|node| (node, private(node).public().to_vec())));
    let [source, destination] =
        [1, 9].map(|me| PairSeals::new(7, me, &private(me), &roster).expect("keys"));
    let key = NetworkKey::new(b"sixteen octets..").expect("a key");
    let [relay, next] = [4, 5].map(|me| HopSeal::new(7, me, &key).expect("a network"));
    let vectors = String::from_utf8(shipped("tests/vectors/mesh_queries.tsv")).expect("UTF-8");
    let mut seen = 0;
    for line in vectors.lines() {
        let (lang, text) = line.split_once('\t').expect("language and text");
        assert_eq!(text.chars().count(), 160, "{text}");
        let mut message = vec![1];
        message.extend(packer.pack(text, false).expect("short enough"));
        let letter = Letter {
            source: 1,
            destination: 9,
            id: LETTERS - 1,
            kind: Kind::Data,
            lane: Lane::Flash,
            wants_receipt: true,
        };
        let frame = Frame {
            transmitter: 4,
            next_hop: 5,
            hops_left: 3,
            restarted: false,
            again: false,
            letter,
            part: None,
            body: source.seal(&letter, &message).expect("a destination"),
        };
        let sealed = relay.seal(&frame, u32::MAX - 1).expect("short enough");
        let heard = next
            .open(&sealed, &mut Windows::default())
            .expect("the same network")
            .frame;
        let arrived = destination
            .open(&heard.letter, &heard.body)
            .expect("for it");
        assert_eq!(arrived, message);
        // All names and figures, the worst that a packer can get: the bench shows what it costs.
        if lang != "dense" {
            seen += 1;
            let airtime_us = channel.airtime_us(sealed.len());
            assert!(
                airtime_us <= 600_000,
                "{airtime_us} µs, {} octets: {text}",
                sealed.len()
            );
        }
    }
    assert!(seen >= 15, "{seen}");
}
