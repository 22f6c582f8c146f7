use std::fmt::Write;

use proptest::prelude::*;

use super::*;
use crate::mesh::frame::{LETTERS, Lane, MAX_FRAME_OCTETS, MAX_HOPS, MAX_PARTS, Part};
use crate::mesh::replay::Book;

fn network_key() -> NetworkKey {
    NetworkKey::new(&(0..16).collect::<Vec<u8>>()).expect("a key")
}

fn hop(me: Address) -> HopSeal {
    HopSeal::new(7, me, &network_key()).expect("a network")
}

fn private(node: u8) -> PrivateKey {
    let octets: Vec<u8> = (0..32).map(|octet| octet ^ node).collect();
    PrivateKey::new(&octets).expect("a key")
}

fn roster(nodes: &[Address]) -> BTreeMap<Address, Vec<u8>> {
    let public = |&node: &Address| (node, private(node).public().to_vec());
    nodes.iter().map(public).collect()
}

fn pairs(me: Address) -> PairSeals {
    PairSeals::new(7, me, &private(me), &roster(&[1, 2, 3])).expect("keys")
}

fn letter() -> Letter {
    Letter {
        source: 1,
        destination: 3,
        id: 0x01_02_03,
        kind: Kind::Data,
        lane: Lane::Priority,
        wants_receipt: true,
    }
}

fn frame() -> Frame {
    Frame {
        transmitter: 2,
        next_hop: 3,
        hops_left: 5,
        restarted: false,
        again: false,
        letter: letter(),
        part: Some(Part { index: 1, count: 3 }),
        body: b"help".to_vec(),
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let kinds = prop::sample::select(vec![
        Kind::Data,
        Kind::Beacon,
        Kind::HopAck,
        Kind::Receipt,
        Kind::Repeat,
    ]);
    let lanes = prop::sample::select(Lane::ALL.to_vec());
    let part = prop::option::of(
        (2..=MAX_PARTS)
            .prop_flat_map(|count| (0..count).prop_map(move |index| Part { index, count })),
    );
    let letter = (
        1..=254_u8,
        1..=255_u8,
        0..LETTERS,
        kinds,
        lanes,
        any::<bool>(),
    )
        .prop_map(
            |(source, destination, id, kind, lane, wants_receipt)| Letter {
                source,
                destination,
                id,
                kind,
                lane,
                wants_receipt,
            },
        );
    (
        letter,
        part,
        1..=255_u8,
        0..=MAX_HOPS,
        any::<bool>(),
        any::<bool>(),
        prop::collection::vec(any::<u8>(), 0..=235),
    )
        .prop_map(
            |(letter, part, next_hop, hops_left, restarted, again, body)| Frame {
                transmitter: 2,
                next_hop,
                hops_left,
                restarted,
                again,
                letter,
                part,
                body,
            },
        )
}

/// Sealed once with the AES-CCM, X25519 and HKDF of Python's `cryptography`, which is OpenSSL.
#[test]
fn octets_are_those_of_another_implementation() {
    assert_eq!(
        hex(&private(1).public()),
        "ab53484584228fca7ea7a763e8bf48c5fac69c2837edc9297ac432778ec4b778"
    );
    assert_eq!(
        hex(&hop(2).seal(&frame(), 0x0A0B_0C0D).expect("sealed")),
        "2a0702030a0b0c0de9a306c830bd896680083187854f94c2"
    );
    assert_eq!(
        hex(&pairs(1).seal(&letter(), b"help").expect("sealed")),
        "0cd3e071d79453e5"
    );
    assert_eq!(hex(&hop(2).fingerprint()), "2db792ab");
}

#[test]
fn every_flipped_bit_and_every_missing_octet_is_refused_and_changes_nothing() {
    let (from, to) = (hop(2), hop(3));
    let whole = frame();
    for frame in [
        whole.clone(),
        Frame {
            part: None,
            body: Vec::new(),
            ..whole
        },
    ] {
        let sealed = from.seal(&frame, 9).expect("sealed");
        let mut windows = Windows::default();
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            to.open(&damaged, &mut windows).expect_err("damaged");
        }
        for octets in 0..sealed.len() {
            to.open(&sealed[..octets], &mut windows)
                .expect_err("cut short");
        }
        assert_eq!(windows, Windows::default());
        let opened = to.open(&sealed, &mut windows).expect("untouched");
        assert_eq!((opened.frame, opened.counter), (frame, 9));
    }
}

#[test]
fn a_frame_is_opened_once_and_never_by_its_transmitter_or_another_network() {
    let mut windows = Windows::default();
    let sealed = |counter| hop(2).seal(&frame(), counter).expect("sealed");
    hop(3).open(&sealed(5), &mut windows).expect("new");
    for old in [5, 4, 0] {
        let again = hop(3).open(&sealed(old), &mut windows);
        let counter = old;
        assert_eq!(
            again,
            Err(OpenError::Replayed {
                transmitter: 2,
                counter
            })
        );
    }
    hop(3).open(&sealed(6), &mut windows).expect("newer");
    assert_eq!(
        hop(2).open(&sealed(7), &mut Windows::default()),
        Err(OpenError::Mine)
    );
    let other = HopSeal::new(8, 3, &network_key()).expect("a network");
    assert_eq!(
        other.open(&sealed(7), &mut windows),
        Err(OpenError::OtherNetwork(7))
    );
    let key = NetworkKey::new(&[1; 15]).expect_err("too short");
    assert_eq!(key.to_string(), "network key: 15 octets, a key has 16");
    let key = NetworkKey::new(&(1..17).collect::<Vec<u8>>()).expect("a key");
    let other = HopSeal::new(7, 3, &key).expect("a network");
    assert_eq!(
        other.open(&sealed(7), &mut windows),
        Err(OpenError::Forged { transmitter: 2 })
    );
}

/// The disk has what it had when a frame asked for it; the power goes after any of 100 frames, and all are played again.
#[test]
fn a_frame_recorded_before_a_power_cut_is_refused_after_it() {
    let (from, to) = (hop(2), hop(3));
    let mut book = Book::default();
    let mut disk = book.encode(to.fingerprint());
    let mut recorded: Vec<Vec<u8>> = Vec::new();
    for counter in 0..100 {
        let sealed = from.seal(&frame(), counter).expect("sealed");
        if to.open(&sealed, &mut book.windows).expect("new").keep {
            disk = book.encode(to.fingerprint());
        }
        recorded.push(sealed);
        let mut restarted = Book::decode(&disk, to.fingerprint()).expect("kept");
        let before = restarted.clone();
        for (old, sealed) in (0..).zip(&recorded) {
            let replayed = Err(OpenError::Replayed {
                transmitter: 2,
                counter: old,
            });
            assert_eq!(to.open(sealed, &mut restarted.windows), replayed);
        }
        assert_eq!(restarted, before);
    }
}

#[test]
fn what_means_nothing_is_neither_written_nor_read() {
    let good = frame();
    let mut bad = vec![
        Frame {
            next_hop: 0,
            ..good.clone()
        },
        Frame {
            hops_left: 16,
            ..good.clone()
        },
        Frame {
            transmitter: 4,
            ..good.clone()
        },
        Frame {
            part: Some(Part { index: 0, count: 1 }),
            ..good.clone()
        },
        Frame {
            part: Some(Part { index: 3, count: 3 }),
            ..good.clone()
        },
        Frame {
            part: Some(Part {
                index: 0,
                count: 65,
            }),
            ..good.clone()
        },
        Frame {
            body: vec![0; 236],
            ..good.clone()
        },
    ];
    for change in [
        Letter {
            source: 0,
            ..letter()
        },
        Letter {
            source: 255,
            ..letter()
        },
        Letter {
            destination: 0,
            ..letter()
        },
        Letter {
            id: LETTERS,
            ..letter()
        },
    ] {
        bad.push(Frame {
            letter: change,
            ..good.clone()
        });
    }
    for frame in bad {
        hop(2).seal(&frame, 0).expect_err("means nothing");
    }
    // A kind and a lane of tomorrow, sealed by a node of today's key.
    for flags in [0xA0, 0xF0, 0x0C] {
        let clear = Clear {
            network: 7,
            transmitter: 2,
            next_hop: 3,
            hops_left: 0,
            restarted: false,
            counter: 1,
        };
        let mut octets = clear.write().expect("fields").to_vec();
        let mut inner = vec![1, 3, 0, 0, 1, flags];
        let tag = hop(2)
            .cipher
            .encrypt_inout_detached(
                &hop_nonce(&clear).into(),
                &octets,
                inner.as_mut_slice().into(),
            )
            .expect("short");
        octets.extend(inner);
        octets.extend(tag);
        let refused = hop(3).open(&octets, &mut Windows::default());
        assert!(
            matches!(refused, Err(OpenError::Frame(FrameError::Field { .. }))),
            "{refused:?}"
        );
    }
}

#[test]
fn a_letter_is_opened_by_its_destination_and_only_as_it_was_written() {
    let (source, relay, destination) = (pairs(1), pairs(2), pairs(3));
    let sealed = source.seal(&letter(), b"help").expect("sealed");
    assert_eq!(sealed.len(), 4 + PAIR_OCTETS);
    assert_eq!(
        destination.open(&letter(), &sealed).as_deref(),
        Ok(&b"help"[..])
    );
    for changed in [
        Letter {
            source: 2,
            ..letter()
        },
        Letter {
            id: 0x01_02_04,
            ..letter()
        },
        Letter {
            kind: Kind::Repeat,
            ..letter()
        },
        Letter {
            lane: Lane::Flash,
            ..letter()
        },
        Letter {
            wants_receipt: false,
            ..letter()
        },
    ] {
        destination
            .open(&changed, &sealed)
            .expect_err("another letter");
    }
    for bit in 0..sealed.len() * 8 {
        let mut damaged = sealed.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        destination.open(&letter(), &damaged).expect_err("damaged");
    }
    for octets in 0..sealed.len() {
        destination
            .open(&letter(), &sealed[..octets])
            .expect_err("cut short");
    }
    let not_mine = Err(PairError::NotMine { from: 1, to: 3 });
    assert_eq!(relay.open(&letter(), &sealed), not_mine);
    assert_eq!(relay.seal(&letter(), b""), not_mine);
    let unknown = Letter {
        destination: 9,
        ..letter()
    };
    assert_eq!(source.seal(&unknown, b""), Err(PairError::NoKey(9)));
    let receipt = Letter {
        kind: Kind::Receipt,
        ..letter()
    };
    assert_eq!(source.seal(&receipt, b"no"), Err(PairError::Receipt(2)));
    assert_eq!(
        destination.open(&receipt, &source.seal(&receipt, b"").expect("sealed")),
        Ok(Vec::new())
    );
}

#[test]
fn bad_keys_are_refused_by_name() {
    let with = |address: Address, public: &[u8]| {
        let mut roster = roster(&[2]);
        roster.insert(address, public.to_vec());
        PairSeals::new(7, 1, &private(1), &roster).map(|_| ())
    };
    // Points of small order: RFC 7748 has the shared secret of zeros refused.
    let mut small = [0; 32];
    small[0] = 1;
    assert_eq!(with(5, &small), Err(KeyError::Weak(5)));
    assert_eq!(
        with(5, &[0; 32]),
        Err(KeyError::Blank("public key of node 5".into()))
    );
    assert_eq!(with(5, &private(2).public()), Err(KeyError::Twice(2, 5)));
    assert_eq!(with(5, &private(1).public()), Err(KeyError::Twice(1, 5)));
    assert_eq!(with(1, &private(9).public()), Err(KeyError::NotMine(1)));
    assert_eq!(with(1, &private(1).public()), Ok(()));
    assert_eq!(with(0, &private(9).public()), Err(KeyError::Address(0)));
    assert_eq!(with(255, &private(9).public()), Err(KeyError::Address(255)));
    assert!(matches!(
        with(5, &[1, 2]),
        Err(KeyError::Length { octets: 2, .. })
    ));
    let many = (1..=101).map(|node| (node, private(node).public().to_vec()));
    assert_eq!(
        PairSeals::new(7, 1, &private(1), &many.collect()).map(|_| ()),
        Err(KeyError::TooMany(101))
    );
    assert!(matches!(NetworkKey::new(&[0; 16]), Err(KeyError::Blank(_))));
    assert!(matches!(PrivateKey::new(&[0; 32]), Err(KeyError::Blank(_))));
    assert!(matches!(
        HopSeal::new(0, 1, &network_key()),
        Err(KeyError::Network)
    ));
}

#[test]
fn no_key_is_printed() {
    let shown = format!(
        "{:?} {:?} {:?} {:?}",
        network_key(),
        private(1),
        hop(2),
        pairs(1)
    );
    assert_eq!(
        shown,
        "NetworkKey(…) PrivateKey(…) HopSeal(network 7) PairSeals(1 with [2, 3])"
    );
}

proptest! {
    #[test]
    fn frames_come_back(frame in any_frame(), counter in 0..u32::MAX) {
        match hop(2).seal(&frame, counter) {
            Ok(sealed) => {
                prop_assert_eq!(sealed.len(), frame.octets());
                let opened = hop(3).open(&sealed, &mut Windows::default()).expect("as sealed");
                prop_assert_eq!((opened.frame, opened.counter), (frame, counter));
            }
            Err(error) => {
                let too_long = matches!(error, FrameError::TooLong { .. });
                prop_assert!(too_long);
                prop_assert!(frame.octets() > MAX_FRAME_OCTETS);
            }
        }
    }

    #[test]
    fn no_octets_panic_or_open(octets in prop::collection::vec(any::<u8>(), 0..=300)) {
        let mut windows = Windows::default();
        prop_assert!(hop(3).open(&octets, &mut windows).is_err());
        let mut near = octets;
        for (octet, expected) in near.iter_mut().zip([0x2A, 7, 2, 3]) {
            *octet = expected;
        }
        prop_assert!(hop(3).open(&near, &mut windows).is_err());
        prop_assert_eq!(windows, Windows::default());
    }

    #[test]
    fn what_is_authentic_is_read_or_refused(inner in prop::collection::vec(any::<u8>(), 0..=260)) {
        let clear = Clear {
            network: 7, transmitter: 2, next_hop: 3, hops_left: 0, restarted: false, counter: 1,
        };
        if let Ok(frame) = Frame::from_inner(&clear, &inner) {
            prop_assert_eq!(frame.inner().expect("it was read"), inner);
        }
    }
}
