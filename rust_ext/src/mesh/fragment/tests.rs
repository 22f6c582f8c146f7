use proptest::prelude::*;

use super::*;
use crate::mesh::frame::{Kind, Lane};

fn letter(source: Address, id: u32, lane: Lane) -> Letter {
    Letter {
        source,
        destination: 9,
        id,
        kind: Kind::Data,
        lane,
        wants_receipt: false,
    }
}

fn part(index: u8, count: u8) -> Part {
    Part { index, count }
}

#[test]
fn a_message_that_fits_is_not_cut_and_parts_are_as_equal_as_can_be() {
    let message = vec![7; 100];
    assert_eq!(split(&message, 100), Ok(vec![&message[..]]));
    let lengths: Vec<_> = split(&message, 99)
        .expect("two parts")
        .iter()
        .map(|part| part.len())
        .collect();
    assert_eq!(lengths, [50, 50]);
    assert_eq!(split(&[], 100), Err(PartError::Length { octets: 0 }));
    let longest = vec![7; MAX_SEALED_OCTETS];
    let least = LEAST_ROOM_OCTETS + PART_OCTETS;
    assert!(split(&longest, least).expect("room").len() <= usize::from(MAX_PARTS));
    assert!(matches!(
        split(&longest, least - 1),
        Err(PartError::Room { .. })
    ));
    assert!(matches!(split(&message, 1), Err(PartError::Room { .. })));
    let octets = MAX_SEALED_OCTETS + 1;
    assert_eq!(
        split(&vec![7; octets], 200),
        Err(PartError::Length { octets })
    );
}

#[test]
fn what_does_not_fit_the_parts_before_it_changes_nothing() {
    let mut assembly = Assembly::default();
    let one = letter(1, 5, Lane::Routine);
    let first = assembly.accept(&one, part(0, 3), b"he", 10);
    assert_eq!(first, Ok(Progress::Missing(0b110)));
    let before = assembly.clone();
    let flash = letter(1, 5, Lane::Flash);
    for (letter, part, body) in [
        (&one, part(0, 3), &b"HE"[..]),
        (&one, part(1, 2), b"lp"),
        (&flash, part(1, 3), b"lp"),
        (&one, part(3, 3), b"lp"),
        (&one, part(1, 3), b""),
        (&one, part(1, 3), &[0; MAX_SEALED_OCTETS]),
        (&one, part(1, 4), &[0; MAX_SEALED_OCTETS + 1]),
    ] {
        assert!(matches!(
            assembly.accept(letter, part, body, 20),
            Err(PartError::Mismatch { .. })
        ));
    }
    let again = assembly.accept(&one, part(0, 3), b"he", 20);
    assert_eq!(again, Ok(Progress::Duplicate));
    assert_eq!(assembly, before);
}

/// The source had to cut it shorter: what came of the former parts is of no use, and they do not come back.
#[test]
fn more_parts_begin_a_message_anew() {
    let mut assembly = Assembly::default();
    let one = letter(1, 5, Lane::Routine);
    for (part, body, expected) in [
        (part(0, 2), "hel", Progress::Missing(0b10)),
        (part(0, 3), "he", Progress::Missing(0b110)),
        (part(2, 3), "o", Progress::Missing(0b010)),
        (part(1, 3), "ll", Progress::Whole(b"hello".to_vec())),
    ] {
        let taken = assembly.accept(&one, part, body.as_bytes(), 10);
        assert_eq!(taken, Ok(expected));
    }
}

#[test]
fn room_is_kept_for_what_is_more_urgent() {
    let mut assembly = Assembly::default();
    let mut begin = |source, id, lane, now_us| {
        assembly.accept(&letter(source, id, lane), part(0, 2), b"x", now_us)
    };
    for id in 0..3 {
        begin(1, id, Lane::Priority, id.into()).expect("room");
    }
    // A fourth of one source: less urgent is refused, as urgent takes the place of the oldest.
    let open = 3;
    let source_node = 1;
    let full = Err(PartError::Full {
        source_node,
        id: 7,
        open,
    });
    assert_eq!(begin(1, 7, Lane::Routine, 9), full);
    begin(1, 7, Lane::Priority, 9).expect("in the place of letter 0");
    for source in 2..=14 {
        begin(source, 0, Lane::Routine, 20).expect("room");
    }
    begin(15, 0, Lane::Flash, 30).expect("in the place of a routine one");
    let of = |lane| {
        let same = |open: &&Open| open.letter.lane == lane;
        assembly.open().iter().filter(same).count()
    };
    assert_eq!(
        [Lane::Flash, Lane::Priority, Lane::Routine].map(of),
        [1, 3, 12]
    );
    let ids: Vec<_> = (assembly.open().iter())
        .filter(|open| open.letter.source == 1)
        .map(|open| open.letter.id)
        .collect();
    assert!(!ids.contains(&0) && ids.contains(&7), "{ids:?}");
}

#[test]
fn what_gets_no_new_part_is_given_up() {
    let mut assembly = Assembly::default();
    let (old, new) = (letter(1, 1, Lane::Flash), letter(2, 1, Lane::Flash));
    assembly.accept(&old, part(0, 3), b"x", 0).expect("room");
    assembly.accept(&new, part(0, 3), b"x", 50).expect("room");
    // A part that was here already does not keep it alive.
    assembly.accept(&old, part(0, 3), b"x", 60).expect("twice");
    assert_eq!(assembly.expire(100, 99), []);
    assert_eq!(assembly.expire(100, 100), [old]);
    assembly.forget(2, 1);
    assert_eq!(assembly.open(), []);
}

proptest! {
    #[test]
    fn parts_in_any_order_with_losses_and_repeats_make_the_message(
        message in prop::collection::vec(any::<u8>(), 1..=MAX_SEALED_OCTETS),
        room in LEAST_ROOM_OCTETS + PART_OCTETS..=237,
        lost in any::<u64>(),
    ) {
        let parts = split(&message, room).expect("room");
        prop_assert!(parts.iter().all(|part| part.len() <= room));
        prop_assert_eq!(parts.concat(), message.clone());
        let count = u8::try_from(parts.len()).expect("at most 64");
        if count == 1 {
            return Ok(());
        }
        let letter = letter(3, 77, Lane::Routine);
        let mut assembly = Assembly::default();
        let mut whole = None;
        let mut missing = u64::MAX >> (64 - count);
        // First all that are not lost, the last first; then what is asked for.
        for round in 0..2 {
            let asked = Request::decode(&Request { id: 77, missing }.encode()).expect("bits").missing;
            for index in (0..count).rev().filter(|index| asked >> index & 1 == 1) {
                if round == 0 && lost >> index & 1 == 1 {
                    continue;
                }
                let body = parts[usize::from(index)];
                match assembly.accept(&letter, part(index, count), body, 0).expect("fits") {
                    Progress::Whole(octets) => whole = Some(octets),
                    Progress::Missing(bits) => missing = bits,
                    Progress::Duplicate => prop_assert!(false, "only what is missing is sent"),
                }
            }
            if whole.is_some() {
                break;
            }
        }
        prop_assert_eq!(whole, Some(message));
        prop_assert_eq!(assembly.open(), []);
    }

    #[test]
    fn any_octets_are_a_request_or_refused(octets in prop::collection::vec(any::<u8>(), 0..=14)) {
        if let Ok(request) = Request::decode(&octets) {
            prop_assert_eq!(request.encode(), octets);
        }
    }

    #[test]
    fn memory_is_bounded_whatever_comes(
        parts in prop::collection::vec((1..=9_u8, 0..6_u32, 0..70_u8, 0..70_u8, 0..300_usize), 0..200),
    ) {
        let mut assembly = Assembly::default();
        for (at, (source, id, index, count, octets)) in (0..).zip(parts) {
            let lane = Lane::ALL[usize::from(source) % 3];
            let _ = assembly.accept(&letter(source, id, lane), part(index, count), &vec![1; octets], at);
            prop_assert!(assembly.open().len() <= MAX_OPEN);
            for open in assembly.open() {
                prop_assert!(open.octets() <= MAX_SEALED_OCTETS && open.missing() != 0);
                let same = assembly.open().iter().filter(|other| other.letter.source == open.letter.source);
                prop_assert!(same.count() <= MAX_OF_SOURCE);
            }
        }
    }
}
