//! Any octets as a frame, as what is sealed in one, as parts, as a beacon and as kept state: never a panic, nothing
//! accepted that the key did not make, and what is read is written the same.

#![no_main]

use std::sync::LazyLock;

use evy_core::mesh::airtime::Modulation;
use evy_core::mesh::beacon::Beacon;
use evy_core::mesh::fragment::{Assembly, MAX_OPEN, Request};
use evy_core::mesh::frame::{CLEAR_OCTETS, Clear, Frame};
use evy_core::mesh::region::{Channel, Ledger, Region};
use evy_core::mesh::replay::{Book, Windows};
use evy_core::mesh::seal::{HopSeal, NetworkKey};
use evy_core::mesh::{frame::Lane, state};
use libfuzzer_sys::fuzz_target;

static CHANNEL: LazyLock<Channel> = LazyLock::new(|| {
    let modulation = Modulation::new(9, 125_000);
    Channel::new(Region::Eu868, 869_525_000, modulation, 8, 237).expect("legal")
});

/// The seal of a node of network 7.
fn hop(me: u8) -> Option<HopSeal> {
    let key = NetworkKey::new(b"sixteen octets..").expect("a key");
    HopSeal::new(7, me, &key).ok()
}

fuzz_target!(|octets: &[u8]| {
    let ours = hop(254).expect("an address");
    let mut windows = Windows::default();
    if let Err(error) = ours.open(octets, &mut windows) {
        assert!(!error.to_string().is_empty());
        assert_eq!(windows, Windows::default());
    }
    // The same as if the key had made it: one after another, as parts of messages.
    let mut assembly = Assembly::default();
    for (at, inner) in (0..).zip(octets.split(|octet| *octet == 0xFE)) {
        let clear = Clear::read(octets).ok();
        let Some(frame) = clear.and_then(|clear| Frame::from_inner(&clear, inner).ok()) else {
            continue;
        };
        assert_eq!(frame.inner().as_deref(), Ok(inner));
        if let Some(part) = frame.part {
            let _ = assembly.accept(&frame.letter, part, &frame.body, at);
            assert!(assembly.open().len() <= MAX_OPEN);
        }
        sealed_and_damaged(&frame, octets);
    }
    let _ = assembly.expire(1, 3);
    if let Ok(request) = Request::decode(octets) {
        assert_eq!(request.encode(), octets);
    }
    if let Some(beacon) = Beacon::decode(octets) {
        assert_eq!(Beacon::decode(&beacon.encode()), Some(beacon));
    }
    if let Ok(sections) = state::read(octets) {
        assert_eq!(state::write(sections), octets);
    }
    let kept = octets.get(CLEAR_OCTETS..).unwrap_or_default();
    if let Ok(mut book) = Book::decode(kept, [0; 4]) {
        let _ = (book.counters.take(), book.letters.take());
        assert!(Book::decode(&book.encode([0; 4]), [0; 4]).is_ok());
    }
    if let Ok(mut ledger) = Ledger::decode(*CHANNEL, kept, 5) {
        let _ = ledger.may_send_at(octets.len(), Lane::Routine, 5);
        ledger.spend(octets.len().min(200), 5);
        assert!(Ledger::decode(*CHANNEL, &ledger.encode(5), 5).is_ok());
    }
});

/// What the key made is opened once, and with any octet changed never.
fn sealed_and_damaged(frame: &Frame, octets: &[u8]) {
    let theirs = hop(253).expect("an address");
    let Some(Ok(sealed)) = hop(frame.transmitter).map(|seal| seal.seal(frame, 5)) else {
        return;
    };
    if frame.transmitter == 253 {
        return;
    }
    let mut windows = Windows::default();
    let mut damaged = sealed.clone();
    let at = usize::from(octets[0]) % damaged.len();
    damaged[at] ^= 1 << (octets.len() % 8);
    assert!(theirs.open(&damaged, &mut windows).is_err());
    assert_eq!(windows, Windows::default());
    let opened = theirs.open(&sealed, &mut windows).expect("as sealed");
    assert_eq!(&opened.frame, frame);
    assert!(theirs.open(&sealed, &mut windows).is_err());
}
