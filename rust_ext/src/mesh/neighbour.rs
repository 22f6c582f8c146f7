//! Who is heard directly, how well, and what they say of others (`docs/mesh.md`, M20).

use std::collections::BTreeMap;

use super::beacon::{Beacon, NO_WAY, News, Status};
use super::frame::{Address, EVERYBODY};

/// Cost of one hop that never fails. A way costs at most 254, which is 31 such hops.
pub const HOP: u8 = 8;
/// A neighbour is given up after so many unanswered frames with nothing heard from it in between.
const SILENT_TRIES: u8 = 3;
/// What a neighbour said of hearing us counts for an hour.
const REPORT_US: u64 = 3_600_000_000;
/// What one more sample weighs against those before.
const FORGETTING: f32 = 0.85;

/// How well a node hears another, in one octet: delivered share in fifteenths, and dB above what the modem needs,
/// in steps of two.
pub fn quality(delivered: f32, margin_db: f32) -> u8 {
    let share = (delivered.clamp(0.0, 1.0) * 15.0).round();
    let margin = (margin_db / 2.0).clamp(0.0, 15.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // both are 0 to 15
    let octet = (share as u8) << 4 | margin as u8;
    octet
}

/// One neighbour. About 0.4 kB, most of it what it claims.
#[derive(Clone, Debug)]
pub struct Neighbour {
    /// Strength of what is heard from it, smoothed, in dBm.
    pub rssi_dbm: f32,
    /// The same above the noise, in dB.
    pub snr_db: f32,
    /// When it was heard last.
    pub heard_us: u64,
    /// What it says of itself.
    pub status: Status,
    /// Share of its frames that arrive here, from the gaps in its counter.
    delivered_in: f32,
    counter: u32,
    /// Its report of how it hears us, and when.
    hears_us: Option<(u8, u64)>,
    /// Whether it has ever listed whom it hears, so that our absence means something.
    reported: bool,
    /// Frames sent to it and acknowledged, forgetting old ones.
    tried: f32,
    answered: f32,
    silent: u8,
    /// Of its news, all up to this version are known here; none when some were missed.
    news: Option<u32>,
    /// What a message costs from it to each node.
    claims: Box<[u8; 256]>,
}

impl Neighbour {
    /// Share of our frames that arrive there, as well as it is known; unknown is pessimistic.
    pub fn delivered_out(&self, floor_db: f32, now_us: u64) -> f32 {
        let reported = self
            .hears_us
            .filter(|&(_, at_us)| now_us.saturating_sub(at_us) < REPORT_US)
            .map(|(octet, _)| f32::from(octet >> 4) / 15.0);
        let guess = match (reported, self.reported) {
            (Some(share), _) => share.max(0.3),
            (None, true) => 0.0,
            (None, false) => {
                let margin = self.snr_db - floor_db;
                (0.45 + margin / 25.0).clamp(0.3, 0.75)
            }
        };
        ((3.0 * guess + self.answered) / (3.0 + self.tried)).clamp(0.05, 1.0)
    }

    /// Share of its frames that arrive here.
    pub fn delivered_in(&self) -> f32 {
        self.delivered_in
    }

    /// Whether some of its news were missed.
    pub fn is_lacking(&self) -> bool {
        self.news.is_none()
    }

    /// How many frames in a row it has not answered, with nothing heard from it since.
    pub fn unanswered(&self) -> u8 {
        self.silent
    }

    /// Whether it did not answer, and nothing was heard from it since.
    pub fn is_lost(&self) -> bool {
        self.silent >= SILENT_TRIES
    }

    /// Cost of a hop to it, `None` when it is lost.
    pub fn cost(&self, floor_db: f32, now_us: u64) -> Option<u8> {
        if self.is_lost() || (self.reported && self.hears_us.is_none()) {
            return None;
        }
        let cost = f32::from(HOP) / self.delivered_out(floor_db, now_us);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 8 to 120
        let cost = cost.min(120.0).round() as u8;
        Some(cost)
    }

    /// What it says that a message costs from it to a node.
    pub fn claim(&self, destination: Address) -> u8 {
        self.claims[usize::from(destination)]
    }
}

/// The neighbours; at most as many as a network has nodes.
#[derive(Clone, Debug, Default)]
pub struct Neighbours {
    table: BTreeMap<Address, Neighbour>,
    /// Signal above noise that the modem needs, in dB.
    floor_db: f32,
}

impl Neighbours {
    /// For a modem that needs so much signal above noise.
    pub fn new(floor_db: f32) -> Self {
        Self {
            table: BTreeMap::new(),
            floor_db,
        }
    }

    /// From now on the modem needs so much signal above noise.
    pub fn set_floor(&mut self, floor_db: f32) {
        self.floor_db = floor_db;
    }

    /// One of them.
    pub fn get(&self, address: Address) -> Option<&Neighbour> {
        self.table.get(&address)
    }

    /// All of them by address.
    pub fn iter(&self) -> impl Iterator<Item = (Address, &Neighbour)> {
        self.table
            .iter()
            .map(|(&address, neighbour)| (address, neighbour))
    }

    /// Cost of a hop to a neighbour.
    pub fn cost(&self, address: Address, now_us: u64) -> Option<u8> {
        self.table.get(&address)?.cost(self.floor_db, now_us)
    }

    /// Share of our frames that arrive at a neighbour.
    pub fn delivered_out(&self, address: Address, now_us: u64) -> f32 {
        self.table.get(&address).map_or(0.0, |neighbour| {
            neighbour.delivered_out(self.floor_db, now_us)
        })
    }

    /// An authentic frame came from it; whether it is new or was lost.
    pub fn heard(
        &mut self,
        from: Address,
        counter: u32,
        rssi_dbm: f32,
        snr_db: f32,
        now_us: u64,
    ) -> bool {
        let Some(neighbour) = self.table.get_mut(&from) else {
            self.table.insert(
                from,
                Neighbour {
                    rssi_dbm,
                    snr_db,
                    heard_us: now_us,
                    status: Status {
                        battery: 3,
                        ..Status::default()
                    },
                    delivered_in: 0.8,
                    counter,
                    hears_us: None,
                    reported: false,
                    tried: 0.0,
                    answered: 0.0,
                    silent: 0,
                    news: Some(0),
                    claims: Box::new([NO_WAY; 256]),
                },
            );
            return true;
        };
        let was_lost = neighbour.is_lost();
        neighbour.silent = 0;
        if was_lost {
            neighbour.tried = 0.0;
            neighbour.answered = 0.0;
        }
        neighbour.rssi_dbm += 0.25 * (rssi_dbm - neighbour.rssi_dbm);
        neighbour.snr_db += 0.25 * (snr_db - neighbour.snr_db);
        // A gap of many is a restart or a time out of reach, which says nothing about the link.
        let missed = counter.saturating_sub(neighbour.counter).saturating_sub(1);
        if missed < 16 {
            for _ in 0..missed {
                neighbour.delivered_in *= 0.9;
            }
            neighbour.delivered_in += 0.1 * (1.0 - neighbour.delivered_in);
        }
        neighbour.counter = counter;
        neighbour.heard_us = now_us;
        was_lost
    }

    /// A neighbour said what it knows; whether one of its claims changed what we may do.
    pub fn told(
        &mut self,
        from: Address,
        me: Address,
        beacon: &Beacon,
        news: News,
        now_us: u64,
    ) -> bool {
        let Some(neighbour) = self.table.get_mut(&from) else {
            return false;
        };
        let mut changed = neighbour.status != beacon.status;
        neighbour.status = beacon.status;
        neighbour.reported = true;
        let heard = beacon.hears.iter().find(|&&(address, _)| address == me);
        changed |= heard.is_some() != neighbour.hears_us.is_some();
        // Who has not heard us for long says nothing new of how well it does.
        neighbour.hears_us = heard.map(|&(_, octet)| match neighbour.hears_us {
            Some((before, _)) if octet >> 4 == 0 => (before, now_us),
            _ => (octet.max(1 << 4), now_us),
        });
        let follows = news.everything || (neighbour.news.is_some() && news.follows(neighbour.news));
        neighbour.news = follows.then_some(news.version);
        if news.everything {
            let before = neighbour.claims.clone();
            neighbour.claims.fill(NO_WAY);
            for &(destination, cost) in &beacon.claims {
                neighbour.claims[usize::from(destination)] = cost;
            }
            return changed || before != neighbour.claims;
        }
        for &(destination, cost) in &beacon.claims {
            let claim = &mut neighbour.claims[usize::from(destination)];
            changed |= *claim != cost;
            *claim = cost;
        }
        changed
    }

    /// A neighbour that may be of use and of which news were missed: the one after `last`, so that each has its turn.
    pub fn lacking(&self, last: Address, now_us: u64) -> Option<Address> {
        let mut lacking: Vec<Address> = self
            .table
            .iter()
            .filter(|(_, neighbour)| {
                neighbour.news.is_none() && neighbour.cost(self.floor_db, now_us).is_some()
            })
            .map(|(&address, _)| address)
            .collect();
        lacking.sort_by_key(|&address| (address <= last, address));
        lacking.first().copied()
    }

    /// A letter of `source` came through a neighbour after so many hops: it may know a way back.
    pub fn hint(&mut self, from: Address, source: Address, hops: u8) {
        if from == source {
            return;
        }
        if let Some(neighbour) = self.table.get_mut(&from) {
            let claim = &mut neighbour.claims[usize::from(source)];
            if *claim == NO_WAY {
                *claim = (u16::from(hops) * 12).min(200) as u8;
            }
        }
    }

    /// A neighbour says that it has no way.
    pub fn deny(&mut self, from: Address, destination: Address) {
        if let Some(neighbour) = self.table.get_mut(&from) {
            neighbour.claims[usize::from(destination)] = NO_WAY;
        }
    }

    /// A frame to a neighbour was acknowledged, or not; whether the neighbour is lost now.
    pub fn answered(&mut self, address: Address, yes: bool) -> bool {
        let Some(neighbour) = self.table.get_mut(&address) else {
            return false;
        };
        neighbour.tried = neighbour.tried * FORGETTING + 1.0;
        neighbour.answered = neighbour.answered * FORGETTING + if yes { 1.0 } else { 0.0 };
        if yes {
            neighbour.silent = 0;
            return false;
        }
        self.silent(address)
    }

    /// A neighbour did not answer a frame, ours or another's; whether it is lost now.
    pub fn silent(&mut self, address: Address) -> bool {
        let Some(neighbour) = self.table.get_mut(&address) else {
            return false;
        };
        neighbour.silent = neighbour.silent.saturating_add(1);
        neighbour.silent == SILENT_TRIES
    }

    /// Whom we hear, for a beacon: those heard since a time.
    pub fn hears(&self, since_us: u64) -> Vec<(Address, u8)> {
        self.table
            .iter()
            .filter(|(_, neighbour)| neighbour.heard_us >= since_us)
            .map(|(&address, neighbour)| {
                let margin = neighbour.snr_db - self.floor_db;
                (address, quality(neighbour.delivered_in, margin))
            })
            .collect()
    }

    /// Ways to a node, the cheapest first: neighbour and cost. A nearly empty neighbour relays for flash only.
    pub fn ways(&self, destination: Address, flash: bool, now_us: u64) -> Vec<(Address, u16)> {
        let mut ways: Vec<_> = self
            .table
            .iter()
            .filter_map(|(&address, neighbour)| {
                let hop = u16::from(neighbour.cost(self.floor_db, now_us)?);
                if address == destination {
                    return Some((address, hop));
                }
                let claim = neighbour.claim(destination);
                let open = claim != NO_WAY && (flash || !neighbour.status.flash_only);
                open.then_some((address, hop + u16::from(claim)))
            })
            .collect();
        ways.sort_by_key(|&(address, cost)| (cost, address));
        ways
    }

    /// Every node that a neighbour is or claims a way to.
    pub fn known(&self) -> Vec<Address> {
        (1..EVERYBODY)
            .filter(|&address| {
                self.table.contains_key(&address)
                    || self
                        .table
                        .values()
                        .any(|neighbour| neighbour.claim(address) != NO_WAY)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Address = 1;

    fn two() -> Neighbours {
        let mut neighbours = Neighbours::new(-12.5);
        for address in [2, 3] {
            assert!(neighbours.heard(address, 0, -100.0, 5.0, 0));
        }
        neighbours
    }

    fn beacon(hears: Vec<(Address, u8)>, claims: Vec<(Address, u8)>) -> Beacon {
        Beacon {
            hears,
            claims,
            ..Beacon::default()
        }
    }

    #[test]
    fn who_does_not_hear_us_is_no_way() {
        let mut neighbours = two();
        neighbours.told(
            2,
            ME,
            &beacon(vec![(9, 0xff)], vec![(7, 8)]),
            News::default(),
            1,
        );
        neighbours.told(
            3,
            ME,
            &beacon(vec![(ME, 0xf5)], vec![(7, 60)]),
            News::default(),
            1,
        );
        assert_eq!(neighbours.cost(2, 1), None);
        let ways = neighbours.ways(7, false, 1);
        assert_eq!(ways, vec![(3, u16::from(HOP) + 60)]);
    }

    #[test]
    fn three_unanswered_frames_lose_a_neighbour_until_it_is_heard() {
        let mut neighbours = two();
        let lost: Vec<bool> = (0..3).map(|_| neighbours.answered(2, false)).collect();
        assert_eq!(lost, [false, false, true]);
        assert_eq!(neighbours.cost(2, 1), None);
        assert!(neighbours.heard(2, 1, -100.0, 5.0, 2), "it is back");
        assert!(neighbours.cost(2, 2).is_some());
    }

    #[test]
    fn unanswered_frames_make_a_link_dearer() {
        let mut neighbours = two();
        let before = neighbours.cost(2, 0);
        neighbours.answered(2, false);
        neighbours.answered(3, true);
        assert!(neighbours.cost(2, 0) > before && neighbours.cost(3, 0) < before);
    }

    #[test]
    fn a_nearly_empty_neighbour_relays_flash_only() {
        let mut neighbours = two();
        let mut told = beacon(vec![(ME, 0xf5)], vec![(7, 8)]);
        told.status.flash_only = true;
        neighbours.told(2, ME, &told, News::default(), 1);
        assert_eq!(neighbours.ways(7, false, 1), vec![]);
        assert_eq!(neighbours.ways(7, true, 1).len(), 1);
        assert_eq!(
            neighbours.ways(2, false, 1).len(),
            1,
            "it is reached itself"
        );
    }

    /// Without news, with some that follow, with some after others that were missed, or with everything.
    const NOTHING: News = news(false, false, 0);
    const FIRST: News = news(false, true, 1);
    const LATER: News = news(false, true, 5);
    const EVERYTHING: News = news(true, false, 5);

    const fn news(everything: bool, fresh: bool, version: u32) -> News {
        News {
            everything,
            fresh,
            repeated: false,
            version,
        }
    }

    #[test]
    fn who_tells_everything_claims_nothing_else() {
        let mut neighbours = two();
        let hears = vec![(ME, 0xf5)];
        let both = beacon(hears.clone(), vec![(7, 8), (8, 8)]);
        let one = beacon(hears, vec![(7, 8)]);
        for (said, news, changed, known) in [
            (&both, NOTHING, true, vec![2, 3, 7, 8]),
            (&one, FIRST, false, vec![2, 3, 7, 8]),
            (&one, EVERYTHING, true, vec![2, 3, 7]),
            (&one, EVERYTHING, false, vec![2, 3, 7]),
        ] {
            assert_eq!(neighbours.told(2, ME, said, news, 1), changed, "{news:?}");
            assert_eq!(neighbours.known(), known, "{news:?}");
        }
    }

    #[test]
    fn who_missed_news_lacks_them_until_it_is_told_everything() {
        let mut neighbours = two();
        let next = news(false, true, 6);
        for (news, lacks) in [
            (FIRST, false),
            (LATER, true),
            (next, true),
            (NOTHING, true),
            (EVERYTHING, false),
            (next, false),
        ] {
            neighbours.told(2, ME, &beacon(vec![(ME, 0xf5)], vec![]), news, 1);
            let lacking = neighbours.get(2).map(Neighbour::is_lacking);
            assert_eq!(lacking, Some(lacks), "{news:?}");
        }
    }

    #[test]
    fn of_those_that_are_lacking_and_of_use_each_has_its_turn() {
        let mut neighbours = two();
        neighbours.heard(4, 0, -100.0, 5.0, 0);
        neighbours.heard(5, 0, -100.0, 5.0, 0);
        for (address, news) in [(2, LATER), (3, FIRST), (4, LATER), (5, LATER)] {
            let hears = if address == 5 { 9 } else { ME };
            neighbours.told(address, ME, &beacon(vec![(hears, 0xf5)], vec![]), news, 1);
        }
        let mut turns = vec![0];
        for _ in 0..4 {
            turns.extend(neighbours.lacking(turns[turns.len() - 1], 1));
        }
        assert_eq!(turns, [0, 2, 4, 2, 4]);
        for _ in 0..3 {
            neighbours.answered(4, false);
        }
        assert_eq!(neighbours.lacking(2, 1), Some(2), "4 is lost");
    }
}
