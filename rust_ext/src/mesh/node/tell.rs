//! What a node tells its neighbours and is told by them: beacons (`docs/mesh.md`, M20 to M22).

use super::super::beacon::{Beacon, News};
use super::super::frame::{Address, EVERYBODY, Frame, Kind, Lane, Letter};
use super::super::neighbour::Neighbour;
use super::{Node, Told};

/// Claims of neighbours are told on only when the node has been heard so lately.
const HEARS_US: u64 = 3_600_000_000;

impl Node {
    pub(super) fn on_beacon(&mut self, frame: &Frame, now_us: u64) {
        let from = frame.transmitter;
        let Some(beacon) = Beacon::decode(&frame.body) else {
            self.count("unreadable");
            return;
        };
        self.count("beacons");
        let there = beacon.hears.iter().filter(|(_, quality)| quality >> 4 > 0);
        let hears: Vec<Address> = there.map(|&(address, _)| address).collect();
        self.spread.beacon(from, &hears, now_us);
        let news = News::from_number(frame.letter.id);
        self.routes_are_old |= self.neighbours.told(from, self.me, &beacon, news, now_us);
        if self.neighbours.get(from).is_some_and(Neighbour::is_lacking) {
            self.trickle.reset(now_us, &mut self.rng);
        }
        let asked = beacon.asks && [self.me, EVERYBODY].contains(&frame.next_hop);
        let unheard = beacon.hears.iter().all(|&(address, _)| address != self.me);
        if asked || (frame.restarted && unheard) {
            self.asked = true;
            if frame.restarted {
                self.trickle.answer(now_us, &mut self.rng);
            }
            self.trickle.reset(now_us, &mut self.rng);
        }
        for &(address, status, sequence) in &beacon.others {
            if address == self.me {
                // From before a restart: what we say now must count as newer.
                let mine = self
                    .others
                    .get(&address)
                    .map(|told| (told.status, told.sequence));
                if mine.is_none_or(|mine| mine != (status, sequence)) && status != self.status {
                    self.others.insert(
                        address,
                        Told {
                            status,
                            sequence,
                            again: 0,
                            first: 3,
                        },
                    );
                    self.status_is_news = true;
                }
                continue;
            }
            let newer = self
                .others
                .get(&address)
                .is_none_or(|told| (1..4).contains(&(sequence.wrapping_sub(told.sequence) & 7)));
            if newer {
                self.others.insert(
                    address,
                    Told {
                        status,
                        sequence,
                        again: 2,
                        first: 2,
                    },
                );
                self.trickle.reset(now_us, &mut self.rng);
            }
        }
    }

    pub(super) fn beacon(&mut self, now_us: u64) -> Frame {
        self.choose_routes(now_us);
        let all = self.asked || self.trickle.is_slow();
        self.asked = false;
        let mut hears = self.neighbours.hears(now_us.saturating_sub(HEARS_US));
        let there = self.spread.hears(now_us);
        for (address, quality) in &mut hears {
            if !there.contains(address) {
                *quality &= 0xf;
            }
        }
        // Who has just started asks all, later one at a time of whom news were missed: two that cannot hear each other
        // would answer at once.
        let mut next_hop = EVERYBODY;
        let mut asks = std::mem::take(&mut self.asks);
        if !asks && let Some(lacking) = self.neighbours.lacking(self.asked_last, now_us) {
            (asks, next_hop, self.asked_last) = (true, lacking, lacking);
        }
        let mut fresh = false;
        let mut beacon = Beacon {
            status: self.status,
            asks,
            hears,
            others: Vec::new(),
            claims: Vec::new(),
        };
        for (&address, told) in &mut self.others {
            if told.again > 0 || all {
                fresh |= told.again == told.first;
                told.again = told.again.saturating_sub(1);
                beacon.others.push((address, told.status, told.sequence));
            }
        }
        let longest = self.ledger.channel().longest_payload();
        let mut short = false;
        while beacon.octets() > longest
            && (beacon.others.pop().is_some() || beacon.hears.pop().is_some())
        {
            short = true;
        }
        let room = longest.saturating_sub(beacon.octets());
        let extra = if self.status.battery == 0 { 16 } else { 0 }
            + if self.status.flash_only { 64 } else { 0 };
        let (claims, fresh_claims, short_claims) = self.routes.claims(all, extra, room);
        beacon.claims = claims;
        fresh |= fresh_claims;
        self.version = self.version.wrapping_add(u32::from(fresh));
        let news = News {
            everything: all && !short && !short_claims,
            fresh,
            repeated: std::mem::replace(&mut self.was_fresh, fresh),
            version: self.version,
        };
        Frame {
            transmitter: self.me,
            next_hop,
            hops_left: 0,
            restarted: false,
            again: false,
            letter: Letter {
                source: self.me,
                destination: EVERYBODY,
                id: news.number(),
                kind: Kind::Beacon,
                lane: Lane::Routine,
                wants_receipt: false,
            },
            part: None,
            body: beacon.encode(),
        }
    }
}

#[cfg(test)]
mod tests;
