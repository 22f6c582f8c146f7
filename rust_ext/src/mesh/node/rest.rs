//! Letters that rest because nobody takes them on, and what wakes them (`docs/mesh.md`, M23).

use rand::Rng;

use super::super::frame::Address;
use super::super::queue::Phase;
use super::{Node, TYPICAL_OCTETS};

/// How many frames' time a letter is held, four times as long at each further time: half a minute at SF11 and 250 kHz.
const HELD_FRAMES: u64 = 45;
/// Below this share of busy time, letters that rest wake when there is news for them; above it, only when due.
const CALM: f64 = 0.2;
/// Over so many of its own airtimes a letter is spread that news woke.
const APART_FRAMES: u64 = 8;
/// Without letters for so long, changes of routes wait for the next beacon.
const LETTERS_US: u64 = 1_800_000_000;

impl Node {
    /// Keeps a letter until there is a way, or for another try.
    pub(super) fn hold(&mut self, index: usize, wants_way: bool, now_us: u64) {
        let held_us = HELD_FRAMES * self.airtime_us(TYPICAL_OCTETS);
        let job = &mut self.jobs[index];
        job.phase = Phase::Held;
        job.wants_way = wants_way;
        let rounds = job.rounds.min(4) * 2 + if job.from == 0 { 0 } else { 2 };
        job.due_us = now_us + (held_us << rounds.min(7));
        job.rounds = job.rounds.saturating_add(1);
        self.keep |= job.from != 0 && job.rounds == 1;
        self.count("held");
    }

    pub(super) fn choose_routes(&mut self, now_us: u64) {
        self.routes_are_old = false;
        let news = self.routes.choose(&self.neighbours, self.me, now_us);
        if news && now_us < self.letters_us + LETTERS_US {
            self.trickle.reset(now_us, &mut self.rng);
        }
        let calm = self.load.share(now_us) < CALM;
        for index in 0..self.jobs.len() {
            let job = &self.jobs[index];
            let rests = job.phase == Phase::Held && job.wants_way;
            if calm && rests && self.way(&job.letter, &job.avoided(), now_us).is_some() {
                let wait_us = self.apart_us(index);
                self.jobs[index].wake(now_us + wait_us);
            }
        }
    }

    /// How long one of those that wake at the same news waits: they may not hear each other.
    fn apart_us(&mut self, index: usize) -> u64 {
        let octets = self.jobs[index].frame(self.me).octets();
        let most_us = APART_FRAMES * self.airtime_us(octets);
        self.rng.random_range(0..most_us)
    }

    /// A neighbour that did not answer is heard: what rests because of it is tried again.
    pub(super) fn is_back(&mut self, address: Address, airtime_us: u64, now_us: u64) {
        let neighbour = self.neighbours.get(address);
        let was_silent = neighbour.is_some_and(|neighbour| neighbour.unanswered() > 0);
        if !was_silent || self.load.share(now_us) >= CALM {
            return;
        }
        for index in 0..self.jobs.len() {
            let job = &self.jobs[index];
            if job.phase == Phase::Held && job.failed.contains(&address) {
                let wait_us = airtime_us + self.apart_us(index);
                self.jobs[index].wake(now_us + wait_us);
            }
        }
    }

    /// A letter of a node was heard: what waits for it may go again.
    pub(super) fn is_there(&mut self, address: Address, now_us: u64) {
        self.flooded_us.remove(&address);
        if self
            .silent
            .remove(&address)
            .is_some_and(|(failed, _)| failed > 1)
        {
            for job in &mut self.jobs {
                if job.phase == Phase::Held && job.letter.destination == address {
                    job.phase = Phase::Ready;
                    job.due_us = now_us + self.slot_us;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
