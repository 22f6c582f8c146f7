use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const KEY: [u8; 4] = [1, 2, 3, 4];

fn after_restart(kept: &[u8]) -> Book {
    Book::decode(kept, KEY).expect("kept")
}

#[test]
fn a_counter_is_new_once_and_the_last_one_never() {
    let mut windows = Windows::default();
    assert!(windows.is_new(9, 0));
    assert!(windows.accept(9, 0));
    assert!(!windows.is_new(9, 0));
    assert!(windows.is_new(8, 0) && windows.is_new(9, 1));
    windows.accept(9, u32::MAX - 1);
    assert!(!windows.is_new(9, u32::MAX - 1) && !windows.is_new(9, u32::MAX));
}

#[test]
fn one_write_in_as_many_numbers_as_are_kept_ahead() {
    let mut reserve = Reserve::new(1_000);
    let keeps = (0..990).filter(|_| reserve.take().expect("below 1,000").1);
    assert_eq!(keeps.count(), 990 / (AHEAD as usize + 1));
    let mut windows = Windows::default();
    let keeps = (0..990).filter(|counter| windows.accept(7, *counter));
    assert_eq!(keeps.count(), 990 / (AHEAD as usize + 1));
}

#[test]
fn used_up_numbers_are_an_error_that_says_what_to_do() {
    let mut reserve = Reserve::starting_at(998, 1_000);
    assert_eq!(reserve.take(), Ok((998, true)));
    assert_eq!(reserve.take(), Ok((999, false)));
    assert_eq!(reserve.take(), Err(UsedUp { limit: 1_000 }));
    assert!(
        UsedUp { limit: 1_000 }
            .to_string()
            .contains("enrol it again")
    );
    reserve.skip();
    assert_eq!(reserve.take(), Err(UsedUp { limit: 1_000 }));
}

#[test]
fn who_skips_for_a_restarted_neighbour_is_heard_at_once() {
    let mut sender = Reserve::new(u32::MAX);
    let mut heard = Book::default();
    let mut kept = Vec::new();
    for _ in 0..100 {
        let (counter, _) = sender.take().expect("plenty");
        if heard.windows.accept(5, counter) {
            kept = heard.encode(KEY);
        }
        // Wherever the power goes, a skip is enough; without it some frames are taken for old ones.
        let restored = after_restart(&kept).windows;
        assert!(!restored.is_new(5, counter));
        let mut skipping = sender.clone();
        skipping.skip();
        assert!(restored.is_new(5, skipping.take().expect("plenty").0));
    }
}

#[test]
fn another_network_key_forgets_what_was_heard_and_goes_on_counting() {
    let mut book = Book::default();
    book.counters.take().expect("plenty");
    book.letters.take().expect("plenty");
    book.windows.accept(5, 70);
    let restored = Book::decode(&book.encode(KEY), [0; 4]).expect("kept");
    assert!(restored.windows.is_new(5, 0));
    assert_eq!(restored.counters.clone().take(), Ok((AHEAD + 1, true)));
    assert_eq!(restored.letters.clone().take(), Ok((AHEAD + 1, true)));
}

/// What happens to a node between two power cuts.
#[derive(Clone, Debug)]
enum Event {
    Sends,
    Writes,
    Hears(Address, u32),
    /// Somebody who recorded everything plays it all again.
    Replays,
    LosesPower,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Sends),
        2 => Just(Event::Writes),
        6 => (1..=3_u8, 1..40_u32).prop_map(|(from, ahead)| Event::Hears(from, ahead)),
        1 => Just(Event::Replays),
        1 => Just(Event::LosesPower),
    ]
}

proptest! {
    /// The disk holds only what was written when `keep` was said, never more.
    #[test]
    fn nothing_comes_twice_wherever_the_power_goes(events in prop::collection::vec(event(), 1..300)) {
        let mut book = Book::default();
        let mut disk = book.encode(KEY);
        let (mut counters, mut letters, mut accepted) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut highest = [0_u32; 4];
        for event in events {
            match event {
                Event::Sends | Event::Writes => {
                    let sends = matches!(event, Event::Sends);
                    let reserve = if sends { &mut book.counters } else { &mut book.letters };
                    let (number, keep) = reserve.take().expect("plenty");
                    if keep {
                        disk = book.encode(KEY);
                    }
                    let used = if sends { &mut counters } else { &mut letters };
                    prop_assert!(used.insert(number), "{} was used before", number);
                }
                Event::Hears(from, ahead) => {
                    let edge = &mut highest[usize::from(from)];
                    *edge += ahead;
                    if book.windows.is_new(from, *edge) {
                        if book.windows.accept(from, *edge) {
                            disk = book.encode(KEY);
                        }
                        accepted.insert((from, *edge));
                    }
                }
                Event::Replays => {
                    for (from, counter) in &accepted {
                        prop_assert!(!book.windows.is_new(*from, *counter), "{} of {}", counter, from);
                    }
                }
                Event::LosesPower => book = after_restart(&disk),
            }
        }
    }

    #[test]
    fn no_octets_panic(kept in prop::collection::vec(any::<u8>(), 0..100)) {
        if let Ok(mut book) = Book::decode(&kept, KEY) {
            let _ = book.counters.take();
            let _ = book.letters.take();
            let _ = book.windows.accept(kept[0], u32::MAX);
            prop_assert!(Book::decode(&book.encode(KEY), KEY).is_ok());
        }
    }
}
