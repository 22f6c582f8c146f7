//! A node among forgers, and among members whose programs say anything at all.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::*;
use crate::mesh::airtime::Modulation;
use crate::mesh::beacon::Beacon;
use crate::mesh::fragment::{MAX_OPEN, Request};
use crate::mesh::region::Region;
use crate::mesh::seal::{NetworkKey, PrivateKey};
use crate::mesh::state;

pub(super) const ME: Address = 1;
pub(super) const SECOND_US: u64 = 1_000_000;

fn key() -> NetworkKey {
    NetworkKey::new(b"sixteen octets..").expect("a key")
}

pub(super) fn hop(me: Address) -> HopSeal {
    HopSeal::new(7, me, &key()).expect("a network")
}

fn pairs_of(me: Address) -> PairSeals {
    let private = |node: u8| PrivateKey::new(&[&[node; 31][..], &[0]].concat()).expect("a key");
    let roster: BTreeMap<_, _> = (1..=4)
        .map(|node| (node, private(node).public().to_vec()))
        .collect();
    PairSeals::new(7, me, &private(me), &roster).expect("keys")
}

pub(super) static HOPS: LazyLock<Vec<HopSeal>> = LazyLock::new(|| (1..=4).map(hop).collect());
pub(super) static PAIRS: LazyLock<Vec<Arc<PairSeals>>> =
    LazyLock::new(|| (1..=4).map(|me| Arc::new(pairs_of(me))).collect());

pub(super) fn channel() -> Channel {
    Channel::new(
        Region::Eu868,
        869_525_000,
        Modulation::new(9, 125_000),
        8,
        237,
    )
    .expect("legal")
}

pub(super) fn node() -> Node {
    let setup = Setup {
        address: ME,
        channel: channel(),
        seed: 5,
    };
    Node::new(&setup, hop(ME), PAIRS[0].clone(), 0)
}

/// Polls until a time; everything that the node said and did.
pub(super) fn run(node: &mut Node, from_us: u64, until_us: u64) -> Vec<Poll> {
    let (mut now_us, mut polls) = (from_us, Vec::new());
    loop {
        assert!(
            polls.len() < 2_000,
            "no rest at {now_us}: jobs {:?}, acks {:?}, own {:?}, repeats {:?}, spread {:?}, law {}, quiet {}",
            node.jobs
                .iter()
                .map(|job| (job.key(), job.phase, job.due_us, job.until_us, job.next))
                .collect::<Vec<_>>(),
            node.acks.front().map(|ack| ack.0),
            node.own
                .values()
                .map(|own| (own.due_us, own.until_us, own.letter.id))
                .collect::<Vec<_>>(),
            node.repeats,
            node.spread.wake_at_us(),
            node.law_until_us,
            node.quiet_until_us,
        );
        let poll = node.poll(now_us, &mut || false);
        let sends = poll.transmit.as_ref().map(Vec::len);
        let wakes = poll.wake_at_us;
        polls.push(poll);
        if let Some(octets) = sends {
            now_us += node.airtime_us(octets);
            node.sent(now_us);
            continue;
        }
        match wakes {
            Some(at_us) if at_us < until_us => now_us = at_us.max(now_us + 1),
            _ => return polls,
        }
    }
}

/// What the others may say: any letter of any kind, its body random, sealed for us, or a request for our parts.
#[derive(Clone, Debug)]
struct Said {
    transmitter: Address,
    next_hop: Address,
    flags: (u8, bool, bool),
    letter: Letter,
    part: Option<Part>,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Random(Vec<u8>),
    ForUs(Vec<u8>),
    Asks(u64),
    Beacon(Beacon),
}

fn body() -> impl Strategy<Value = Body> {
    let pairs = || prop::collection::vec((any::<u8>(), any::<u8>()), 0..6);
    let status = || {
        (any::<[bool; 4]>(), 0..4_u8).prop_map(|([uplink, modem, model, flash_only], battery)| {
            Status {
                uplink,
                modem,
                model,
                flash_only,
                battery,
            }
        })
    };
    let beacon = (status(), any::<bool>(), pairs(), pairs(), status()).prop_map(
        |(status, asks, hears, claims, other)| {
            let others = claims
                .iter()
                .map(|&(address, sequence)| (address, other, sequence))
                .collect();
            Beacon {
                status,
                asks,
                hears,
                others,
                claims,
            }
        },
    );
    prop_oneof![
        2 => prop::collection::vec(any::<u8>(), 0..=215).prop_map(Body::Random),
        2 => prop::collection::vec(any::<u8>(), 1..=200).prop_map(Body::ForUs),
        1 => any::<u64>().prop_map(Body::Asks),
        2 => beacon.prop_map(Body::Beacon),
    ]
}

fn said() -> impl Strategy<Value = Said> {
    let kinds = vec![
        Kind::Data,
        Kind::Beacon,
        Kind::HopAck,
        Kind::Receipt,
        Kind::Repeat,
    ];
    let address = prop::sample::select(vec![1, 2, 3, 4, 9, 254]);
    let to = prop::sample::select(vec![1, 2, 3, 4, 9, EVERYBODY]);
    let letter = (
        address,
        to.clone(),
        0..4_u32,
        prop::sample::select(kinds),
        prop::sample::select(Lane::ALL.to_vec()),
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
    let part =
        prop::option::of((0..3_u8, 3..5_u8).prop_map(|(index, count)| Part { index, count }));
    (
        2..=4_u8,
        to,
        (0..=MAX_HOPS, any::<bool>(), any::<bool>()),
        letter,
        part,
        body(),
    )
        .prop_map(|(transmitter, next_hop, flags, letter, part, body)| Said {
            transmitter,
            next_hop,
            flags,
            letter,
            part,
            body,
        })
}

impl Said {
    fn frame(&self) -> Frame {
        let pair = PAIRS.get(usize::from(self.letter.source) - 1);
        let sealed = |body: &[u8]| {
            pair.and_then(|pair| pair.seal(&self.letter, body).ok())
                .unwrap_or_else(|| body.to_vec())
        };
        let id = self.letter.id;
        let body = match &self.body {
            Body::Random(body) => body.clone(),
            Body::ForUs(body) => sealed(body),
            Body::Asks(missing) => sealed(
                &Request {
                    id,
                    missing: *missing,
                }
                .encode(),
            ),
            Body::Beacon(beacon) => beacon.encode(),
        };
        let (hops_left, restarted, again) = self.flags;
        Frame {
            transmitter: self.transmitter,
            next_hop: self.next_hop,
            hops_left,
            restarted,
            again,
            letter: self.letter,
            part: self.part,
            body,
        }
    }

    fn seal(&self, counter: u32) -> Vec<u8> {
        HOPS[usize::from(self.transmitter) - 1]
            .seal(&self.frame(), counter)
            .expect("fields")
    }
}

/// Two equal nodes hear the same; one hears forgeries, damage and replays between, of which the other notices no more
/// than that the channel was occupied. They go on doing the same.
#[test]
fn what_is_not_authentic_changes_nothing() {
    let (mut left, mut among) = (node(), node());
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut recorded: Vec<Vec<u8>> = Vec::new();
    let mut now_us = 0;
    for counter in 0..150 {
        let said = said().new_tree(&mut runner).expect("a frame").current();
        let sealed = said.seal(counter);
        let mut forge = |octets: &[u8]| {
            among.receive(octets, -60.0, 9.0, now_us);
            left.occupied(left.airtime_us(octets.len().min(255)), now_us);
        };
        let other = HopSeal::new(7, 3, &NetworkKey::new(b"another network!").expect("a key"))
            .expect("a network");
        for bit in (0..sealed.len() * 8).step_by(7) {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            forge(&damaged);
        }
        for old in &recorded {
            forge(old);
        }
        let frame = Frame {
            transmitter: 3,
            ..said.frame()
        };
        let forged = other.seal(&frame, counter + 1_000).expect("fields");
        forge(&forged);
        for octets in [&[][..], &sealed[..17], &[0xFF; 300]] {
            forge(octets);
        }
        for node in [&mut left, &mut among] {
            node.receive(&sealed, -100.0, 3.0, now_us);
        }
        recorded.push(sealed);
        let until_us = now_us + u64::from(counter % 7) * SECOND_US;
        assert_eq!(
            run(&mut left, now_us, until_us),
            run(&mut among, now_us, until_us),
            "after frame {counter}: {said:?}"
        );
        assert_eq!(left.kept(until_us), among.kept(until_us));
        now_us = until_us + 20 * SECOND_US;
    }
    assert_eq!(left.counters().get("heard"), among.counters().get("heard"));
    assert!(among.counters()["forged"] > 1_000 && among.counters()["replayed"] > 1_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Members may say anything in any order, and a power cut may come at any time: no panic, bounded tables, and what
    /// leaves the antenna is a frame of the network that the law allows.
    #[test]
    fn no_member_breaks_a_node(
        frames in prop::collection::vec((said(), 0..40_u64, 0..20_u8), 1..120),
    ) {
        let (mut node, mut disk) = (node(), Vec::new());
        let (mut now_us, mut windows) = (0, crate::mesh::replay::Windows::default());
        for (counter, (said, pause, event)) in (0..).zip(frames) {
            match event {
                0 => {
                    node = self::node();
                    now_us = 0;
                    node.restore(&disk, 0, now_us).expect("what it kept");
                }
                1..4 => {
                    let to = [None, Some(2), Some(3)][usize::from(event) - 1];
                    let lane = Lane::ALL[usize::from(event) - 1];
                    let octets = vec![event; usize::from(event) * 200];
                    match node.send(to, &octets, lane, now_us) {
                        Ok(_) | Err(SendError::Full { .. }) => {}
                        Err(error) => prop_assert!(false, "{error}"),
                    }
                }
                _ => {}
            }
            node.receive(&said.seal(counter * 40), -90.0, 5.0, now_us);
            let until_us = now_us + pause * pause * SECOND_US / 10;
            for poll in run(&mut node, now_us, until_us) {
                if poll.keep {
                    disk = node.kept(until_us);
                }
                if let Some(octets) = poll.transmit {
                    prop_assert!(octets.len() <= channel().longest_frame());
                    let heard = HOPS[3].open(&octets, &mut windows);
                    prop_assert!(heard.is_ok(), "{heard:?}");
                }
            }
            prop_assert!(node.jobs.len() <= crate::mesh::queue::JOBS);
            prop_assert!(node.assembly.open().len() <= MAX_OPEN);
            prop_assert!(node.acks.len() <= 16 && node.own.len() <= OWN + FLASH_OWN);
            prop_assert!(node.repeats.len() <= 256 && node.skipped_for.len() <= 254);
            let used_us = node.ledger().used_us(until_us);
            prop_assert!(used_us <= node.ledger().limit_us(Lane::Flash));
            now_us = until_us + 1;
        }
    }

    /// What is kept may be of anybody's making inside a good checksum.
    #[test]
    fn no_kept_octets_break_a_node(
        sections in prop::collection::vec((0..4_u8, prop::collection::vec(any::<u8>(), 0..80)), 0..4),
        raw in prop::collection::vec(any::<u8>(), 1..80),
    ) {
        prop_assert!(node().restore(&raw, 0, 5).is_err());
        let book = Book::default().encode(hop(ME).fingerprint());
        let kept = state::write(
            [(1, &book[..])].into_iter().chain(sections.iter().map(|(number, octets)| (*number, &octets[..]))),
        );
        let mut node = node();
        if node.restore(&kept, 0, 5).is_ok() {
            run(&mut node, 5, 600 * SECOND_US);
            let again = node.kept(600 * SECOND_US);
            prop_assert!(self::node().restore(&again, 0, 0).is_ok());
        }
    }
}
