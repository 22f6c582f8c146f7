//! What is sent next, and what is done when nobody answers.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // waits of minutes in microseconds

use rand::Rng;

use super::super::frame::{EVERYBODY, Frame, Kind, Lane, MAX_HOPS};
use super::super::queue::{Key, Phase};
use super::{Carried, Node, OnAir, Poll, State, Told};

/// Broadcasts and beacons wait until the law has room for so many octets of routine.
const LAWFUL_OCTETS: usize = 100;
/// From this share of busy time on, a letter is tried at one neighbour only before it rests, receipts once, and
/// nothing is sent again from end to end.
const OVERLOADED: f64 = 0.35;
/// From this share of busy time on, own letters leave the air to others'.
const CROWDED: f64 = 0.3;
/// So many messages without a receipt make a destination silent: then one at a time probes it, this long after the
/// last, doubled each time.
const SILENT: u8 = 2;
const PROBE_US: u64 = 240_000_000;
/// How often a frame is sent to one neighbour before another is tried.
pub(super) const TRIES: u8 = 2;
/// How many neighbours are tried before a letter is held.
const NEIGHBOURS: usize = 3;
/// How often at most a node that nobody knows is looked for by flooding; flash does not wait.
const FLOODS_APART_US: u64 = 1_800_000_000;
/// How long a first message waits for a route before it is flooded.
const PATIENCE_US: u64 = 25_000_000;

impl Node {
    /// The frame given by the last poll has left.
    pub fn sent(&mut self, now_us: u64) {
        let Some(on_air) = self.on_air.take() else {
            return;
        };
        match on_air {
            OnAir::Ack => {}
            OnAir::Beacon => {
                self.trickle.spoke(self.beacon_us, now_us);
                // By chance too: two that cannot hear each other and spoke at once would do so for ever.
                let apart = 20.0 + 400.0 * self.load.share(now_us);
                let apart = apart * self.rng.random_range(1.0..1.5);
                self.beacon_from_us = now_us + (apart * self.airtime_us(64) as f64) as u64;
            }
            OnAir::Flood(source, id) => {
                self.spread.sent(source, id, now_us);
                if source == self.me {
                    self.become_state(id >> 6, State::Sent);
                }
            }
            OnAir::Job(key) => self.job_sent(key, now_us),
        }
    }

    fn job_sent(&mut self, key: Key, now_us: u64) {
        let Some(index) = self.jobs.iter().position(|job| job.key() == key) else {
            return;
        };
        let last = self.jobs[index].next == self.jobs[index].letter.destination;
        let wait_us = self.answer_wait_us(index, now_us);
        let job = &mut self.jobs[index];
        let (id, own) = (
            job.letter.id,
            job.from == 0 && job.letter.kind == Kind::Data,
        );
        job.tries += 1;
        job.patience = 0;
        job.phase = Phase::Waiting;
        job.due_us = now_us + wait_us;
        if job.is_flood() || (job.is_answer() && last) {
            self.jobs.swap_remove(index);
        }
        if own {
            self.become_state(id, State::Sent);
        }
    }

    /// How long the next hop may take until it is heard going on with a letter, or answering.
    pub(super) fn answer_wait_us(&self, index: usize, now_us: u64) -> u64 {
        let job = &self.jobs[index];
        let answer_us = if job.next == job.letter.destination {
            self.airtime_us(22)
        } else {
            self.airtime_us(job.frame(self.me).octets())
        };
        let queued_us = (self.load.share(now_us) * 6.0 * answer_us as f64) as u64;
        answer_us + queued_us + u64::from(self.window(3, now_us) + 4) * self.slot_us
    }

    /// What to do now. `sense` says whether the channel is busy; a radio that cannot tell answers false.
    pub fn poll(&mut self, now_us: u64, sense: &mut dyn FnMut() -> bool) -> Poll {
        self.expire(now_us);
        if !self.listening {
            self.ask_again(now_us);
        }
        if std::mem::take(&mut self.status_is_news) {
            let old = self.others.get(&self.me).map_or(0, |told| told.sequence);
            let told = Told {
                status: self.status,
                sequence: (old + 1) & 7,
                again: 3,
                first: 3,
            };
            self.others.insert(self.me, told);
            self.trickle.reset(now_us, &mut self.rng);
        }
        if self.routes_are_old {
            self.choose_routes(now_us);
        }
        if !self.listening {
            self.wait_for_answers(now_us, sense);
        }
        let mut poll = Poll::default();
        if self.on_air.is_none() {
            poll.transmit = self.next_frame(now_us, sense);
        }
        poll.wake_at_us = if self.on_air.is_some() {
            None
        } else {
            self.wake_at_us(now_us)
        };
        poll.arrived = std::mem::take(&mut self.arrived);
        poll.states = std::mem::take(&mut self.states);
        poll.keep = std::mem::take(&mut self.keep);
        poll
    }

    fn expire(&mut self, now_us: u64) {
        self.jobs
            .retain(|job| job.until_us > now_us || job.phase == Phase::OnAir);
        let over: Vec<u32> = self
            .own
            .iter()
            .filter(|(_, own)| own.until_us <= now_us)
            .map(|(&id, _)| id)
            .collect();
        for id in over {
            self.become_state(id, State::Expired);
        }
        if self.listening {
            return;
        }
        let again: Vec<u32> = self
            .own
            .iter()
            .filter(|(_, own)| own.due_us <= now_us)
            .map(|(&id, _)| id)
            .collect();
        let crowded = self.load.share(now_us) > OVERLOADED;
        for id in again {
            if crowded {
                // One more copy would only keep others from arriving.
                let wait_us = self.slots(2_000, 4_000);
                if let Some(own) = self.own.get_mut(&id) {
                    own.due_us = now_us + wait_us;
                }
                continue;
            }
            if let Some(own) = self.own.get_mut(&id) {
                own.attempts += 1;
                let (failed, until_us) =
                    self.silent.entry(own.letter.destination).or_insert((0, 0));
                *failed = failed.saturating_add(1);
                *until_us = now_us;
            }
            self.count("sent_again");
            self.dispatch(id, u64::MAX, true, now_us);
        }
    }

    fn wait_for_answers(&mut self, now_us: u64, sense: &mut dyn FnMut() -> bool) {
        for index in (0..self.jobs.len()).rev() {
            let job = &self.jobs[index];
            if job.due_us > now_us {
                continue;
            }
            match job.phase {
                Phase::Waiting => {
                    if job.patience < 8 && sense() {
                        let more_us = self.airtime_us(40);
                        let job = &mut self.jobs[index];
                        job.patience += 1;
                        job.due_us = now_us + more_us;
                    } else {
                        self.unanswered(index, now_us);
                    }
                }
                Phase::Held => {
                    let due_us = job.due_us;
                    self.jobs[index].wake(due_us);
                }
                Phase::Ready | Phase::OnAir => {}
            }
        }
    }

    fn unanswered(&mut self, index: usize, now_us: u64) {
        self.count("unanswered");
        let next = self.jobs[index].next;
        if self.neighbours.answered(next, false) {
            self.routes_are_old = true;
        }
        let lost = self
            .neighbours
            .get(next)
            .is_none_or(super::super::neighbour::Neighbour::is_lost);
        let tries = self.jobs[index].tries;
        let window = self.window(8, now_us) << tries.min(3);
        let wait_us = self.slots(1, window);
        let job = &mut self.jobs[index];
        job.phase = Phase::Ready;
        job.due_us = now_us + wait_us;
        let crowded = self.load.share(now_us) > OVERLOADED;
        let job = &mut self.jobs[index];
        if tries >= TRIES - u8::from(crowded) || lost || (crowded && job.is_answer()) {
            if job.is_answer() {
                self.jobs.swap_remove(index);
                return;
            }
            job.failed.push(next);
            if next == job.letter.destination {
                // Others can hardly reach what does not answer here: one more is tried.
                job.failed.push(next);
            }
            job.tries = 0;
            if job.failed.len() >= NEIGHBOURS || crowded {
                self.hold(index, false, now_us);
            }
        }
    }

    fn next_frame(&mut self, now_us: u64, sense: &mut dyn FnMut() -> bool) -> Option<Vec<u8>> {
        if now_us < self.quiet_until_us || self.listening {
            return None;
        }
        let due = self
            .acks
            .front()
            .is_some_and(|(due_us, _)| *due_us <= now_us);
        let mut ready: Vec<usize> = (0..self.jobs.len())
            .filter(|&index| {
                self.jobs[index].phase == Phase::Ready && self.jobs[index].due_us <= now_us
            })
            .collect();
        let waiting = self.under_way();
        ready.retain(|&index| self.jobs[index].may_go(waiting));
        ready.sort_by_key(|&index| {
            let job = &self.jobs[index];
            (
                job.order(),
                self.hops_to(job.letter.destination),
                job.due_us,
            )
        });
        // Jobs without a way leave the list here.
        let mut chosen = None;
        let keys: Vec<Key> = ready.iter().map(|&index| self.jobs[index].key()).collect();
        for key in keys {
            if let Some(index) = self.jobs.iter().position(|job| job.key() == key)
                && self.aim(index, now_us)
            {
                chosen = Some(key);
                break;
            }
        }
        let busy = self.load.share(now_us);
        let waiting = due
            || chosen.is_some()
            || (now_us >= self.beacon_from_us && self.trickle.is_due(now_us, &mut self.rng))
            || self
                .spread
                .wake_at_us()
                .is_some_and(|at_us| at_us <= now_us);
        if waiting && sense() {
            let window = self.window(4, now_us);
            self.quiet_until_us = now_us + self.slots(1, window);
            return None;
        }
        while self
            .acks
            .front()
            .is_some_and(|(due_us, _)| *due_us <= now_us)
            && let Some((_, frame)) = self.acks.pop_front()
        {
            // An acknowledgement is worth nothing later.
            if self.allowed_at(frame.octets(), frame.letter.lane, now_us) <= now_us {
                self.on_air = Some(OnAir::Ack);
                return self.seal(&frame, now_us);
            }
        }
        if let Some(key) = chosen {
            let index = self.jobs.iter().position(|job| job.key() == key)?;
            let octets = self.jobs[index].frame(self.me).octets();
            let at_us = self.allowed_at(octets, self.jobs[index].letter.lane, now_us);
            let job = &mut self.jobs[index];
            if at_us > now_us {
                job.due_us = at_us;
            } else {
                job.phase = Phase::OnAir;
                let frame = job.frame(self.me);
                if let Some(seen) = self.seen.get_mut(&key) {
                    seen.next = frame.next_hop;
                }
                self.on_air = Some(OnAir::Job(key));
                return self.seal(&frame, now_us);
            }
        }
        let octets = LAWFUL_OCTETS.min(self.ledger.channel().longest_frame());
        self.law_until_us = self.allowed_at(octets, Lane::Routine, now_us);
        let allowed = self.law_until_us <= now_us;
        if let Some(relay) = self.spread.next(now_us, busy, allowed, &mut self.rng) {
            let Carried { letter, part, body } = relay.payload;
            let routed = letter.destination != EVERYBODY;
            let frame = Frame {
                transmitter: self.me,
                next_hop: if routed { EVERYBODY } else { relay.from },
                hops_left: relay.hops_left,
                restarted: false,
                again: false,
                letter: *letter,
                part: *part,
                body: body.to_vec(),
            };
            self.on_air = Some(OnAir::Flood(relay.source, relay.id));
            return self.seal(&frame, now_us);
        }
        if allowed && now_us >= self.beacon_from_us && self.trickle.is_due(now_us, &mut self.rng) {
            let frame = self.beacon(now_us);
            self.beacon_us = self.airtime_us(frame.octets());
            self.on_air = Some(OnAir::Beacon);
            return self.seal(&frame, now_us);
        }
        None
    }

    /// Gives a job its next hop; false when there is none, and it is held or flooded instead.
    fn aim(&mut self, index: usize, now_us: u64) -> bool {
        let job = &self.jobs[index];
        if job.tries > 0 && job.next != 0 {
            return true;
        }
        let (letter, from) = (job.letter, job.from);
        let (busy, first) = (
            self.load.share(now_us),
            job.rounds == 0 && job.failed.is_empty(),
        );
        if from == 0 && first && letter.lane != Lane::Flash && !job.is_answer() && busy > CROWDED {
            // Who carries others' letters goes first; the busier, the longer our own wait.
            let hops = f64::from(self.hops_to(letter.destination));
            let chance = ((busy - CROWDED) * 1.5 * hops).min(0.97);
            if self.rng.random_bool(chance) {
                self.jobs[index].due_us = now_us + self.slots(16, 64);
                return false;
            }
        }
        if from == 0 && letter.lane != Lane::Flash && letter.kind == Kind::Data {
            // One letter at a time finds out whether the destination is there again.
            if let Some((failed, until_us)) = self.silent.get_mut(&letter.destination)
                && *failed >= SILENT
            {
                if *until_us > now_us {
                    self.jobs[index].phase = Phase::Held;
                    self.jobs[index].wants_way = false;
                    self.jobs[index].due_us = *until_us + self.slot_us;
                    return false;
                }
                *until_us = now_us + (PROBE_US << (*failed - SILENT).min(4));
            }
        }
        let job = &self.jobs[index];
        let avoided = job.avoided();
        let kept =
            (job.is_answer() && job.next != 0 && !avoided.contains(&job.next)).then_some(job.next);
        if let Some(next) = kept.or_else(|| self.way(&letter, &avoided, now_us)) {
            self.jobs[index].next = next;
            return true;
        }
        if self.jobs[index].is_answer() {
            self.jobs.swap_remove(index);
            return false;
        }
        let own = from == 0 && letter.source == self.me;
        if own && self.jobs[index].failed.is_empty() {
            let first = self.jobs[index].rounds == 0;
            let lately = self.flooded_us.get(&letter.destination);
            let unheard_of = !self.routes.knew(letter.destination)
                && lately.is_none_or(|at_us| at_us + FLOODS_APART_US <= now_us);
            let idle = self.load.share(now_us) < OVERLOADED;
            if letter.lane == Lane::Flash || (!first && idle && unheard_of) {
                self.flood(index, now_us);
                return false;
            }
            self.hold(index, true, now_us);
            if first {
                self.jobs[index].due_us = now_us + PATIENCE_US;
            }
            return false;
        }
        self.hold(index, true, now_us);
        false
    }

    /// No way is known: everybody carries it.
    fn flood(&mut self, index: usize, now_us: u64) {
        self.count("flooded");
        self.flooded_us
            .insert(self.jobs[index].letter.destination, now_us);
        let job = self.jobs.swap_remove(index);
        let carried = Carried {
            letter: job.letter,
            part: job.part,
            body: job.body,
        };
        self.spread.begin(
            super::spread_id(job.letter.id, job.part),
            MAX_HOPS,
            carried,
            now_us,
        );
        if let Some(own) = self.own.get_mut(&job.letter.id) {
            own.attempts += 1;
            own.due_us = now_us + (150_000_000 << own.attempts.min(5));
        }
    }

    /// About how many hops it is to a node; many when no way is known.
    fn hops_to(&self, destination: u8) -> u16 {
        self.routes
            .to(destination)
            .map_or(8, |(_, cost)| (cost / 8).max(1))
    }

    /// When the law allows a frame of a lane.
    fn allowed_at(&self, octets: usize, lane: Lane, now_us: u64) -> u64 {
        self.ledger
            .may_send_at(octets, lane, now_us)
            .unwrap_or(u64::MAX)
    }

    fn seal(&mut self, frame: &Frame, now_us: u64) -> Option<Vec<u8>> {
        let frame = &Frame {
            restarted: self.restarted > 0,
            ..frame.clone()
        };
        self.restarted = self.restarted.saturating_sub(1);
        let sealed = self.book.counters.take().ok().and_then(|(counter, keep)| {
            self.keep |= keep;
            self.hop.seal(frame, counter).ok()
        });
        let Some(octets) = sealed else {
            self.count("unsealed");
            self.on_air = None;
            return None;
        };
        self.keep |= self.ledger.spend(octets.len(), now_us);
        let airtime_us = self.airtime_us(octets.len());
        self.load.note(airtime_us, now_us);
        if frame.letter.destination != EVERYBODY {
            self.trickle.carried(airtime_us);
        }
        let to_all = frame.next_hop == EVERYBODY || frame.letter.destination == EVERYBODY;
        let (sending, counter) = match frame.letter.kind {
            Kind::Beacon => ("beacon", "airtime_us_beacon"),
            Kind::HopAck => ("ack", "airtime_us_ack"),
            Kind::Receipt => ("receipt", "airtime_us_receipt"),
            Kind::Repeat => ("repeat", "airtime_us_repeat"),
            Kind::Data if to_all => ("flood", "airtime_us_flood"),
            Kind::Data => ("data", "airtime_us_data"),
        };
        self.sending = sending;
        *self.counts.entry(counter).or_insert(0) += airtime_us;
        Some(octets)
    }

    /// The most urgent lane of which a letter is under way: one at a time is, so that the neighbour has the air to
    /// go on with it.
    fn under_way(&self) -> Option<Lane> {
        let waiting = self.jobs.iter().filter(|job| job.phase == Phase::Waiting);
        waiting.map(|job| job.letter.lane).min()
    }

    fn wake_at_us(&self, now_us: u64) -> Option<u64> {
        if self.listening {
            let ends = self.own.values().map(|own| own.until_us);
            return ends.min().map(|at_us| at_us.max(now_us + 1));
        }
        let waiting = self.under_way();
        let jobs = self
            .jobs
            .iter()
            .filter(|job| match job.phase {
                Phase::OnAir => false,
                Phase::Ready => job.may_go(waiting),
                Phase::Waiting | Phase::Held => true,
            })
            .map(|job| job.due_us.min(job.until_us));
        let acks = self.acks.front().map(|(due_us, _)| *due_us);
        let own = self.own.values().map(|own| own.due_us.min(own.until_us));
        let repeats = self.repeats.values().map(|&(at_us, _)| at_us);
        jobs.chain(acks)
            .chain(repeats)
            .chain(own)
            .chain(
                self.spread
                    .wake_at_us()
                    .map(|at_us| at_us.max(self.law_until_us)),
            )
            .chain([self
                .trickle
                .wake_at_us()
                .max(self.law_until_us)
                .max(self.beacon_from_us)])
            .min()
            .map(|at_us| at_us.max(self.quiet_until_us).max(now_us + 1))
    }
}
