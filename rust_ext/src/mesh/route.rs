//! Which neighbour is the next hop to a node, and what we tell others of it (`docs/mesh.md`, M20, M22).
//!
//! The known graph is a star of stars: we know our neighbours' claims. The cheapest way is Dijkstra's over it, which
//! is the least sum of hop and claim. What keeps two nodes from taking each other for the way when a third is gone is
//! feasibility: a neighbour that claims no less than we last claimed ourselves may be going through us.

use super::beacon::NO_WAY;
use super::frame::Address;
use super::neighbour::Neighbours;

/// How long a lost way keeps us from taking one that may lead back through us.
const HOLD_US: u64 = 40_000_000;

/// In how many beacons what changed is said.
const TOLD: u8 = 2;

/// Next hop and cost.
type Way = (Address, u16);

#[derive(Clone, Copy, Debug)]
struct Entry {
    next: Address,
    cost: u16,
    /// The least we have claimed since the way was last lost.
    claimed: u8,
    /// Until when only feasible ways are taken.
    held_until_us: u64,
    /// What the last beacon said, and in how many more beacons it is said again.
    told: u8,
    again: u8,
    /// There was a way once.
    known: bool,
}

const NONE: Entry = Entry {
    next: 0,
    cost: u16::MAX,
    claimed: NO_WAY,
    held_until_us: 0,
    told: NO_WAY,
    again: 0,
    known: false,
};

/// Routes to every address: 254 slots of 24 octets.
#[derive(Clone, Debug)]
pub struct Routes {
    entries: Box<[Entry; 256]>,
}

impl Default for Routes {
    fn default() -> Self {
        Self {
            entries: Box::new([NONE; 256]),
        }
    }
}

/// Whether a cost changed so much that neighbours should hear of it soon.
fn is_news(told: u8, cost: u8) -> bool {
    match (told == NO_WAY, cost == NO_WAY) {
        (true, true) => false,
        (false, false) => told.abs_diff(cost) > (told / 2).max(8),
        _ => true,
    }
}

impl Routes {
    /// Next hop and cost to a node.
    pub fn to(&self, destination: Address) -> Option<(Address, u16)> {
        let entry = self.entries[usize::from(destination)];
        (entry.cost < u16::from(NO_WAY)).then_some((entry.next, entry.cost))
    }

    /// Whether there was ever a way to a node: when there is none now, it is more likely gone than unheard of.
    pub fn knew(&self, destination: Address) -> bool {
        self.entries[usize::from(destination)].known
    }

    /// Chooses again for every known node; whether neighbours should hear of a change.
    pub fn choose(&mut self, neighbours: &Neighbours, me: Address, now_us: u64) -> bool {
        let mut news = false;
        let hops: Vec<_> = neighbours
            .iter()
            .filter_map(|(address, there)| {
                Some((address, u16::from(neighbours.cost(address, now_us)?), there))
            })
            .collect();
        for destination in 1..=254 {
            if destination == me {
                continue;
            }
            let entry = &mut self.entries[usize::from(destination)];
            let had = entry.cost < u16::from(NO_WAY);
            let held = now_us < entry.held_until_us;
            let (mut best, mut current): (Option<Way>, Option<Way>) = (None, None);
            for &(next, hop, there) in &hops {
                let claim = if next == destination {
                    0
                } else {
                    there.claim(destination)
                };
                let cost = hop + u16::from(claim);
                if claim == NO_WAY || cost >= u16::from(NO_WAY) {
                    continue;
                }
                let in_use = had && next == entry.next;
                if in_use {
                    current = Some((next, cost));
                }
                let feasible = claim < entry.claimed || in_use || (!had && !held);
                if feasible && best.is_none_or(|(_, least)| cost < least) {
                    best = Some((next, cost));
                }
            }
            match best {
                Some((next, cost)) => {
                    // The way in use stays unless another is better by a quarter of a hop.
                    let (next, cost) = current
                        .filter(|&(_, old)| old <= cost + 2)
                        .unwrap_or((next, cost));
                    if !had {
                        entry.known = true;
                        entry.claimed = NO_WAY;
                    }
                    entry.next = next;
                    entry.cost = cost;
                }
                None if had => {
                    entry.cost = u16::MAX;
                    entry.held_until_us = now_us + HOLD_US;
                }
                None => {}
            }
            let cost = u8::try_from(entry.cost).unwrap_or(NO_WAY);
            if is_news(entry.told, cost) && entry.again < TOLD {
                entry.again = TOLD;
                news = true;
            }
        }
        news
    }

    /// Claims for a beacon, at most `room` octets of them: what changed, or everything; whether some of them were said
    /// in no beacon before, and whether no room was left for others. `extra` is what going through us costs more (an
    /// empty battery).
    pub fn claims(
        &mut self,
        all: bool,
        extra: u8,
        room: usize,
    ) -> (Vec<(Address, u8)>, bool, bool) {
        let mut claims = Vec::new();
        let (mut fresh, mut short) = (false, false);
        let mut octets = 0;
        for destination in 1..=254u8 {
            let entry = &mut self.entries[usize::from(destination)];
            let cost = u8::try_from(entry.cost).unwrap_or(NO_WAY);
            let cost = if cost == NO_WAY {
                cost
            } else {
                cost.saturating_add(extra).min(NO_WAY - 1)
            };
            if !(entry.again > 0 || (all && cost != NO_WAY)) {
                continue;
            }
            octets += match claims.last() {
                Some(&(last, _)) if last + 1 == destination => 1,
                _ => 3,
            };
            if octets > room {
                short = true;
                break;
            }
            fresh |= entry.again == TOLD;
            entry.again = entry.again.saturating_sub(1);
            entry.told = cost;
            entry.claimed = if cost == NO_WAY {
                NO_WAY
            } else {
                entry.claimed.min(cost)
            };
            claims.push((destination, cost));
        }
        (claims, fresh, short)
    }

    /// Whether there is something to say.
    pub fn has_news(&self) -> bool {
        self.entries.iter().any(|entry| entry.again > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::beacon::{Beacon, News};
    use super::*;

    fn neighbours(claims: &[(Address, u8)]) -> Neighbours {
        let mut neighbours = Neighbours::new(-12.5);
        for &(address, cost) in claims {
            neighbours.heard(address, 0, -100.0, 5.0, 0);
            let beacon = Beacon {
                hears: vec![(1, 0xf5)],
                claims: vec![(9, cost)],
                ..Beacon::default()
            };
            neighbours.told(address, 1, &beacon, News::default(), 0);
        }
        neighbours
    }

    #[test]
    fn the_cheapest_way_is_taken_and_told_twice() {
        let around = neighbours(&[(2, 30), (3, 10)]);
        let mut routes = Routes::default();
        assert!(routes.choose(&around, 1, 0));
        assert_eq!(routes.to(9).map(|(next, _)| next), Some(3));
        for (number, told) in [true, true, false].into_iter().enumerate() {
            let (claims, fresh, _) = routes.claims(false, 0, 200);
            assert_eq!(claims.iter().any(|&(to, cost)| to == 9 && cost == 18), told);
            assert_eq!(fresh, number == 0);
        }
    }

    #[test]
    fn a_lost_way_is_not_looked_for_behind_ourselves_at_once() {
        let mut around = neighbours(&[(2, 10)]);
        let mut routes = Routes::default();
        routes.choose(&around, 1, 0);
        routes.claims(false, 0, 200);
        around.deny(2, 9);
        assert!(routes.choose(&around, 1, 1));
        // Who claims more than we did may be going through us.
        around.heard(3, 0, -100.0, 5.0, 2);
        around.hint(3, 9, 3);
        routes.choose(&around, 1, 2);
        assert_eq!(routes.to(9), None);
        routes.choose(&around, 1, HOLD_US + 3);
        assert_eq!(routes.to(9).map(|(next, _)| next), Some(3));
    }

    #[test]
    fn claims_keep_to_their_room() {
        let around = neighbours(&[(2, 10), (4, 10), (6, 10), (8, 10)]);
        let mut routes = Routes::default();
        routes.choose(&around, 1, 0);
        let (claims, _, short) = routes.claims(true, 0, 7);
        assert_eq!((claims.len(), short), (2, true));
    }
}
