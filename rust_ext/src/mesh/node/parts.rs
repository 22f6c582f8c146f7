//! Messages in parts: put together, asked for again, sent again.

use super::super::fragment::{Progress, Request};
use super::super::frame::{Address, EVERYBODY, Frame, Kind, Letter, MAX_HOPS};
use super::super::queue::{Job, Key};
use super::{Arrival, Node, lifetime_us};

/// How often the destination asks for missing parts.
const REPEATS: u8 = 6;

impl Node {
    /// Takes a message, or puts its parts together; whether it is complete now.
    pub(super) fn gather(&mut self, frame: Frame, now_us: u64) -> bool {
        let letter = frame.letter;
        let sealed = match frame.part {
            None => frame.body,
            Some(part) => {
                let id = (letter.source, letter.id);
                match self.assembly.accept(&letter, part, &frame.body, now_us) {
                    Ok(Progress::Whole(sealed)) => {
                        self.repeats.remove(&id);
                        sealed
                    }
                    Ok(Progress::Missing(_)) => {
                        if letter.destination == self.me {
                            let asked = self.repeats.get(&id).map_or(0, |&(_, asked)| asked);
                            let wait_us =
                                self.quiet_before_repeat_us(letter.source) << asked.min(4);
                            self.repeats.insert(id, (now_us + wait_us, asked));
                        }
                        return false;
                    }
                    Ok(Progress::Duplicate) => return false,
                    Err(_) => {
                        self.count("parts_refused");
                        return false;
                    }
                }
            }
        };
        let Ok(payload) = self.pairs.open(&letter, &sealed) else {
            self.count("forged");
            return false;
        };
        self.count("arrived");
        self.arrived.push(Arrival {
            source: letter.source,
            id: letter.id,
            lane: letter.lane,
            payload,
            broadcast: letter.destination == EVERYBODY,
        });
        true
    }

    /// How long nothing new must come before parts are asked for again.
    fn quiet_before_repeat_us(&self, source: Address) -> u64 {
        let hops = self
            .routes
            .to(source)
            .map_or(8, |(_, cost)| u64::from(cost / 8) + 1);
        (10 + 4 * hops) * self.airtime_us(255)
    }

    /// Asks the sources of incomplete messages for what is missing; gives up after some times.
    pub(super) fn ask_again(&mut self, now_us: u64) {
        let due: Vec<(Address, u32)> = self
            .repeats
            .iter()
            .filter(|(_, (at_us, _))| *at_us <= now_us)
            .map(|(&id, _)| id)
            .collect();
        for (source, id) in due {
            let open = self
                .assembly
                .open()
                .iter()
                .find(|open| open.letter.source == source && open.letter.id == id);
            let (Some(open), Some(&(_, asked))) = (open, self.repeats.get(&(source, id))) else {
                self.repeats.remove(&(source, id));
                continue;
            };
            let (missing, lane) = (open.missing(), open.letter.lane);
            if asked >= REPEATS {
                self.repeats.remove(&(source, id));
                continue;
            }
            let wait_us = self.quiet_before_repeat_us(source) << (asked + 1).min(4);
            self.repeats
                .insert((source, id), (now_us + wait_us, asked + 1));
            let Ok((number, keep)) = self.book.letters.take() else {
                continue;
            };
            self.keep |= keep;
            let letter = Letter {
                source: self.me,
                destination: source,
                id: number,
                kind: Kind::Repeat,
                lane,
                wants_receipt: false,
            };
            let Ok(body) = self.pairs.seal(&letter, &Request { id, missing }.encode()) else {
                continue;
            };
            self.count("asked_again");
            let due_us = now_us + self.slots(0, 2);
            self.seen.insert(Key::new(&letter, None), 0);
            self.push_job(Job {
                letter,
                part: None,
                body: body.into(),
                hops_left: MAX_HOPS,
                due_us,
                until_us: now_us + 1_800_000_000,
                ..Job::default()
            });
        }
        for letter in self
            .assembly
            .expire(lifetime_us(super::Lane::Routine), now_us)
        {
            self.repeats.remove(&(letter.source, letter.id));
            self.count("incomplete");
        }
    }

    pub(super) fn on_repeat(&mut self, frame: &Frame, now_us: u64) {
        let Ok(body) = self.pairs.open(&frame.letter, &frame.body) else {
            self.count("forged");
            return;
        };
        let Ok(request) = Request::decode(&body) else {
            self.count("unreadable");
            return;
        };
        let asked = self.own.get(&request.id).map(|own| own.letter.destination);
        if asked == Some(frame.letter.source) {
            self.dispatch(request.id, request.missing, true, now_us);
        }
    }

    /// Whether frames of an own message still wait here.
    pub(super) fn is_waiting(&self, id: u32) -> bool {
        self.jobs.iter().any(|job| {
            job.from == 0
                && job.letter.kind == Kind::Data
                && job.letter.source == self.me
                && job.letter.id == id
        })
    }
}

#[cfg(test)]
mod tests;
