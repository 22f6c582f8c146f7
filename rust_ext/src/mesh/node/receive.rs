//! What a frame that was heard changes.

use std::sync::Arc;

use super::super::beacon::NO_WAY;
use super::super::frame::{Address, EVERYBODY, Frame, Kind, Letter, MAX_HOPS, Part};
use super::super::queue::{JOBS, Job, Key, Phase};
use super::super::seal::OpenError;
use super::super::spread::Copy;
use super::{Carried, Node, State, lifetime_us, spread_id};

/// A letter that comes again so late is a second try of its source, which goes the whole way.
const AGAIN_US: u64 = 25_000_000;
/// Body of a hop's acknowledgement that means: I have no way, try another.
const NO_WAY_BODY: u8 = 1;

impl Node {
    /// A frame was heard. Nothing happens unless the network's key made it, and for the first time.
    pub fn receive(&mut self, octets: &[u8], rssi_dbm: f32, snr_db: f32, now_us: u64) {
        let airtime_us = self.airtime_us(octets.len().min(255));
        self.load.note(airtime_us, now_us);
        let opened = match self.hop.open(octets, &mut self.book.windows) {
            Ok(opened) => opened,
            Err(error) => {
                self.count(match error {
                    OpenError::Replayed { .. } => "replayed",
                    OpenError::Forged { .. } => "forged",
                    OpenError::OtherNetwork(_) => "other_network",
                    OpenError::Mine => "echoed",
                    _ => "unreadable",
                });
                return;
            }
        };
        self.count("heard");
        if self.listening {
            self.found_others(now_us);
        }
        self.keep |= opened.keep;
        let frame = opened.frame;
        let from = frame.transmitter;
        let known = self.skipped_for.iter().position(|&address| address == from);
        match (frame.restarted, known) {
            (true, None) => {
                self.book.counters.skip();
                self.skipped_for.push(from);
            }
            (false, Some(index)) => {
                self.skipped_for.swap_remove(index);
            }
            _ => {}
        }
        self.is_back(from, airtime_us, now_us);
        if self
            .neighbours
            .heard(from, opened.counter, rssi_dbm, snr_db, now_us)
        {
            self.routes_are_old = true;
            self.trickle.reset(now_us, &mut self.rng);
        }
        if frame.letter.destination != EVERYBODY {
            self.trickle.carried(airtime_us);
        }
        self.spread.noticed(from, f64::from(snr_db), now_us);
        match frame.letter.kind {
            Kind::Beacon => self.on_beacon(&frame, now_us),
            Kind::HopAck => self.on_hop_ack(&frame, now_us),
            Kind::Data | Kind::Receipt | Kind::Repeat => self.on_letter(frame, snr_db, now_us),
        }
    }

    /// The receiver was occupied by a frame that did not come whole.
    pub fn occupied(&mut self, airtime_us: u64, now_us: u64) {
        self.load.note(airtime_us, now_us);
        self.count("broken");
    }

    fn on_hop_ack(&mut self, frame: &Frame, now_us: u64) {
        // It says only which number it answers, and a source gives each but once.
        let [key, asks] = [Kind::Data, Kind::Repeat].map(|kind| {
            let answered = Letter {
                kind,
                ..frame.letter
            };
            Key::new(&answered, frame.part)
        });
        let refused = frame.body.first() == Some(&NO_WAY_BODY);
        if refused {
            // Whoever hears it knows as much as the one who asked.
            self.neighbours.deny(frame.transmitter, key.destination);
            self.routes_are_old = true;
        }
        let is_it = |job: &Job| job.key() == key || job.key() == asks;
        let Some(index) = self.jobs.iter().position(is_it) else {
            return;
        };
        if self.jobs[index].next != frame.transmitter || self.jobs[index].phase == Phase::Ready {
            return;
        }
        self.neighbours.answered(frame.transmitter, true);
        if !refused {
            self.handed_over(index, frame.transmitter, now_us);
            return;
        }
        // Its claim is gone; when it claims a way again it is one.
        let job = &mut self.jobs[index];
        job.tries = 0;
        job.next = 0;
        if job.phase == Phase::Waiting {
            job.phase = Phase::Ready;
            job.due_us = now_us + self.slot_us;
        }
    }

    /// The next hop has it: this node's part is done.
    fn handed_over(&mut self, index: usize, next: Address, now_us: u64) {
        let job = self.jobs.swap_remove(index);
        if let Some(seen) = self.seen.get_mut(&job.key()) {
            seen.next = next;
            seen.handed_us = Some(now_us);
        }
        if job.from == 0 && job.letter.kind == Kind::Data {
            self.become_state(job.letter.id, State::Relayed);
            self.await_receipt(job.letter.id, now_us);
        }
    }

    /// When nothing of an own message waits here any more, its receipt is waited for.
    pub(super) fn await_receipt(&mut self, id: u32, now_us: u64) {
        if self.is_waiting(id) {
            return;
        }
        let busy = self.load.share(now_us);
        let frame_us = self.airtime_us(100);
        let Some(own) = self.own.get_mut(&id) else {
            return;
        };
        let hops = self
            .routes
            .to(own.letter.destination)
            .map_or(8, |(_, cost)| u64::from(cost / 8) + 1);
        // What is lost on the way is rare: mostly the other end is gone, and who carries the letter keeps it.
        let patient = if own.letter.lane == super::Lane::Flash {
            1
        } else {
            4
        };
        let slow = 1.0 + 6.0 * busy;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        // minutes in microseconds
        let trip_us = ((hops * 4 + 10) as f64 * f64::from(patient) * frame_us as f64 * slow) as u64;
        own.due_us = now_us + (trip_us << (3 * own.attempts.min(4)));
    }

    fn on_letter(&mut self, frame: Frame, snr_db: f32, now_us: u64) {
        let (letter, from) = (frame.letter, frame.transmitter);
        let key = Key::new(&letter, frame.part);
        if letter.destination != EVERYBODY {
            self.letters_us = now_us;
        }
        if letter.source != self.me {
            self.is_there(letter.source, now_us);
            self.neighbours.hint(
                from,
                letter.source,
                MAX_HOPS.saturating_sub(frame.hops_left),
            );
        }
        if letter.kind == Kind::Receipt {
            self.on_receipt(&frame, now_us);
        }
        self.heard_next_hop(&frame, key, now_us);
        if letter.source == self.me {
            if letter.destination == EVERYBODY {
                self.heard_flood(&frame, snr_db, now_us);
                self.become_state(letter.id, State::Relayed);
            }
            return;
        }
        if letter.destination == self.me {
            self.arrive(frame, key, now_us);
        } else if letter.destination == EVERYBODY || frame.next_hop == EVERYBODY {
            let first = self.heard_flood(&frame, snr_db, now_us);
            if first && letter.destination == EVERYBODY && letter.kind == Kind::Data {
                self.gather(frame, now_us);
            } else if first {
                // One search at a time is enough, whoever begins it.
                self.flooded_us.insert(letter.destination, now_us);
                self.seen.insert(key, from);
            }
        } else if frame.next_hop == self.me {
            self.take_up(frame, key, now_us);
        } else {
            self.overheard(&frame, key, now_us);
            // Whom it is for goes first.
            self.quiet_until_us = self.quiet_until_us.max(now_us + 3 * self.slot_us);
        }
    }

    /// A letter to another's hop. Whoever asks a neighbour of ours for the second time, nothing having been heard from
    /// it in between, was not answered: that spares us asking in vain.
    fn overheard(&mut self, frame: &Frame, key: Key, now_us: u64) {
        let (by, to) = (frame.transmitter, frame.next_hop);
        if to != key.destination || key.kind == Kind::Receipt {
            return;
        }
        let before = self.asked_us.insert(to, (key, by, now_us));
        let unanswered = before.is_some_and(|(asked, asker, at_us)| {
            let heard = self.neighbours.get(to);
            (asked, asker) == (key, by) && heard.is_some_and(|to| to.heard_us < at_us)
        });
        if unanswered && self.neighbours.silent(to) {
            self.routes_are_old = true;
        }
    }

    fn heard_flood(&mut self, frame: &Frame, snr_db: f32, now_us: u64) -> bool {
        let routed = frame.letter.destination != EVERYBODY;
        let copy = Copy {
            source: frame.letter.source,
            id: spread_id(frame.letter.id, frame.part),
            transmitter: frame.transmitter,
            from: if routed { EVERYBODY } else { frame.next_hop },
            hops_left: frame.hops_left,
            snr_db: f64::from(snr_db),
        };
        let carried = || Carried {
            letter: frame.letter,
            part: frame.part,
            body: frame.body.as_slice().into(),
        };
        self.spread.heard(&copy, carried, now_us, &mut self.rng)
    }

    /// A letter that we sent on is heard again: whoever sends it has it.
    fn heard_next_hop(&mut self, frame: &Frame, key: Key, now_us: u64) {
        let Some(index) = self.jobs.iter().position(|job| job.key() == key) else {
            return;
        };
        let job = &self.jobs[index];
        let further = frame.hops_left < job.hops_left && frame.next_hop != self.me;
        if further && job.phase != Phase::OnAir && frame.transmitter != job.from {
            if job.phase != Phase::Ready || job.tries > 0 {
                self.neighbours.answered(frame.transmitter, true);
            }
            self.handed_over(index, frame.transmitter, now_us);
            if frame.part.is_some() {
                self.leave_the_air(frame, now_us);
            }
        }
    }

    /// The next part of a message waits until whoever comes after the next hop has sent this one on: we do not hear
    /// it, and the next hop hears both.
    fn leave_the_air(&mut self, frame: &Frame, now_us: u64) {
        let last = frame.next_hop == frame.letter.destination;
        let octets = if last { 22 } else { frame.octets() };
        let from_us = now_us + self.airtime_us(octets) + 4 * self.slot_us;
        for job in &mut self.jobs {
            if job.letter == frame.letter && job.phase == Phase::Ready {
                job.due_us = job.due_us.max(from_us);
            }
        }
    }

    /// A receipt, heard by whomever: nobody needs to carry on what has arrived.
    fn on_receipt(&mut self, frame: &Frame, now_us: u64) {
        let answered = Letter {
            source: frame.letter.destination,
            destination: frame.letter.source,
            kind: Kind::Data,
            ..frame.letter
        };
        if let Some(body) = frame.body.as_slice().first_chunk::<4>() {
            let key = Key::new(&answered, None);
            if let Some(seen) = self.seen.get_mut(&key) {
                seen.receipt = Some(*body);
            }
        }
        let about = |job: &Job| {
            job.letter.kind == Kind::Data
                && job.letter.source == answered.source
                && job.letter.destination == answered.destination
                && job.letter.id == answered.id
        };
        while let Some(index) = self
            .jobs
            .iter()
            .position(|job| about(job) && job.phase != Phase::OnAir)
        {
            if self.jobs[index].next == frame.transmitter
                && self.jobs[index].phase == Phase::Waiting
            {
                self.neighbours.answered(frame.transmitter, true);
            }
            self.jobs.swap_remove(index);
        }
        if frame.letter.destination == self.me
            && self.pairs.open(&frame.letter, &frame.body).is_ok()
        {
            if frame.letter.source == frame.transmitter {
                self.neighbours.answered(frame.transmitter, true);
            }
            self.become_state(frame.letter.id, State::Delivered);
        }
        let _ = now_us;
    }

    /// A letter to us.
    fn arrive(&mut self, frame: Frame, key: Key, now_us: u64) {
        match frame.letter.kind {
            Kind::Data => {
                let (letter, part, from, to_us) = (
                    frame.letter,
                    frame.part,
                    frame.transmitter,
                    frame.next_hop == self.me,
                );
                let whole = Key { part: 0, ..key };
                let known = self
                    .seen
                    .get(&whole)
                    .is_some_and(|seen| seen.handed_us.is_some());
                if known {
                    if to_us || frame.next_hop == EVERYBODY {
                        self.confirm(&letter, from, now_us);
                    }
                    return;
                }
                self.seen.insert(whole, from);
                let complete = self.gather(frame, now_us);
                if complete {
                    if let Some(seen) = self.seen.get_mut(&whole) {
                        seen.from = from;
                        seen.handed_us = Some(now_us);
                    }
                    self.confirm(&letter, from, now_us);
                } else if part.is_some() && to_us {
                    self.answer(&letter, part, from, false, now_us);
                }
            }
            Kind::Repeat => {
                if frame.next_hop == self.me {
                    self.answer(&frame.letter, None, frame.transmitter, false, now_us);
                }
                self.on_repeat(&frame, now_us);
            }
            _ => {}
        }
    }

    /// Says that a message arrived, along the way it came; not twice within a second.
    fn confirm(&mut self, letter: &Letter, from: Address, now_us: u64) {
        if !letter.wants_receipt {
            return;
        }
        let whole = Key::new(letter, None);
        let Some(seen) = self.seen.get_mut(&whole) else {
            return;
        };
        if seen.answered_us != 0 && now_us.saturating_sub(seen.answered_us) < 1_000_000 {
            return;
        }
        seen.answered_us = now_us.max(1);
        let receipt = Letter {
            source: letter.destination,
            destination: letter.source,
            kind: Kind::Receipt,
            wants_receipt: false,
            ..*letter
        };
        let Ok(body) = self.pairs.seal(&receipt, &[]) else {
            return;
        };
        self.queue_receipt(receipt, &body, from, MAX_HOPS, now_us);
    }

    fn queue_receipt(
        &mut self,
        letter: Letter,
        body: &[u8],
        next: Address,
        hops_left: u8,
        now_us: u64,
    ) {
        let key = Key::new(&letter, None);
        if self.jobs.iter().any(|job| job.key() == key) || self.jobs.len() >= JOBS {
            return;
        }
        let due_us = now_us + self.slots(0, 1);
        self.push_job(Job {
            letter,
            body: body.into(),
            hops_left,
            next,
            due_us,
            until_us: now_us + 600_000_000,
            ..Job::default()
        });
    }

    /// We are asked to carry a letter on.
    fn take_up(&mut self, frame: Frame, key: Key, now_us: u64) {
        let (letter, from) = (frame.letter, frame.transmitter);
        let known = self.seen.get(&key).copied();
        if let Some(seen) = known {
            self.count("duplicates");
            if let Some(receipt) = self
                .seen
                .get(&Key { part: 0, ..key })
                .and_then(|seen| seen.receipt)
                && letter.kind == Kind::Data
            {
                let answer = Letter {
                    source: letter.destination,
                    destination: letter.source,
                    kind: Kind::Receipt,
                    wants_receipt: false,
                    ..letter
                };
                self.queue_receipt(answer, &receipt, from, MAX_HOPS, now_us);
                return;
            }
            if let Some(index) = self.jobs.iter().position(|job| job.key() == key) {
                let job = &mut self.jobs[index];
                if job.next == from && job.tries > 0 {
                    // It came back from where it went: that is no way.
                    job.failed.push(from);
                    job.tries = 0;
                    if job.phase == Phase::Waiting {
                        job.phase = Phase::Ready;
                        job.due_us = now_us + self.slot_us;
                    }
                }
                self.answer(&letter, frame.part, from, false, now_us);
                return;
            }
            let handed_us = seen.handed_us.unwrap_or(0);
            let looped = seen.next == from && seen.next != 0;
            let again = frame.again && !seen.again;
            if !looped && !again && now_us.saturating_sub(handed_us) < AGAIN_US {
                self.answer(&letter, frame.part, from, false, now_us);
                return;
            }
            self.carry(frame, if looped { vec![from] } else { Vec::new() }, now_us);
            return;
        }
        self.carry(frame, Vec::new(), now_us);
    }

    fn carry(&mut self, frame: Frame, failed: Vec<Address>, now_us: u64) {
        let (letter, part, from) = (frame.letter, frame.part, frame.transmitter);
        if self.jobs.len() >= JOBS {
            self.count("full");
            return;
        }
        let key = Key::new(&letter, part);
        let mut avoided = failed.clone();
        avoided.push(from);
        let way = self.way(&letter, &avoided, now_us);
        if way.is_none() && letter.kind != Kind::Receipt || frame.hops_left == 0 {
            self.count("no_way");
            self.answer(&letter, part, from, true, now_us);
            return;
        }
        self.seen.insert(key, from).again |= frame.again;
        self.count("relayed");
        let due_us = now_us + self.slots(0, 1);
        self.push_job(Job {
            letter,
            part,
            body: Arc::from(frame.body),
            hops_left: frame.hops_left - 1,
            again: frame.again,
            from,
            failed,
            due_us,
            until_us: now_us + lifetime_us(letter.lane),
            ..Job::default()
        });
    }

    /// Tells a neighbour that we have what it sent, or that we know no way.
    fn answer(
        &mut self,
        letter: &Letter,
        part: Option<Part>,
        to: Address,
        no_way: bool,
        now_us: u64,
    ) {
        if letter.kind == Kind::Receipt || self.acks.len() >= 16 {
            return;
        }
        let frame = Frame {
            transmitter: self.me,
            next_hop: to,
            hops_left: 0,
            restarted: false,
            again: false,
            letter: Letter {
                kind: Kind::HopAck,
                wants_receipt: false,
                ..*letter
            },
            part,
            body: if no_way {
                vec![NO_WAY_BODY]
            } else {
                Vec::new()
            },
        };
        if self
            .acks
            .iter()
            .any(|(_, ack)| ack.letter == frame.letter && ack.part == part)
        {
            return;
        }
        let due_us = now_us + self.slots(0, 1);
        self.acks.push_back((due_us, frame));
    }

    /// Neighbours to which a letter may go next, the best first, without those that failed.
    pub(super) fn way(&self, letter: &Letter, avoided: &[Address], now_us: u64) -> Option<Address> {
        let open = |address: &Address| !avoided.contains(address) && *address != letter.source;
        if letter.kind == Kind::Receipt {
            let answered = Key {
                kind: Kind::Data,
                source: letter.destination,
                destination: letter.source,
                id: letter.id,
                part: 0,
            };
            let back = self
                .seen
                .get(&answered)
                .map(|seen| seen.from)
                .filter(|&from| from != 0);
            if let Some(back) = back.filter(open)
                && self
                    .neighbours
                    .cost(back, now_us)
                    .is_some_and(|cost| cost < 24)
            {
                return Some(back);
            }
        }
        let flash = letter.lane == super::Lane::Flash;
        let ways = self.neighbours.ways(letter.destination, flash, now_us);
        let chosen = self
            .routes
            .to(letter.destination)
            .map(|(next, _)| next)
            .filter(open);
        let chosen = chosen.filter(|next| ways.iter().any(|(way, _)| way == next));
        let limit = u16::from(NO_WAY);
        chosen.or_else(|| {
            ways.into_iter()
                .find(|(address, cost)| open(address) && *cost < limit)
                .map(|(address, _)| address)
        })
    }
}
