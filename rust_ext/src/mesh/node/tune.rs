//! Another spreading factor, while letters are under way (`docs/mesh.md`, M69).

use super::super::fragment::split;
use super::super::frame::{EVERYBODY, Kind, PART_OCTETS, Part};
use super::super::queue::Phase;
use super::super::region::RegionError;
use super::{Carried, Node, State, TYPICAL_OCTETS, beacon_intervals_us, floor_db, slot_us};

/// When all nodes change at once, their beacons are spread over so many frames.
const SPREAD_FRAMES: u64 = 320;

impl Node {
    /// Frames go and come with another spreading factor from now on. Call it while no frame is on the air, when the
    /// radio is set so.
    ///
    /// Airtime that was spent stays spent, and no letter is lost: own ones with parts that are too long now are cut
    /// again under their number, the same letter being delivered once; others' parts that are too long are left to
    /// who cut them. With `listen` nothing is sent until an authentic frame is heard, and then a beacon that asks.
    ///
    /// # Errors
    /// [`RegionError`] when the law leaves no room for a message; nothing has changed then.
    pub fn tune(
        &mut self,
        spreading_factor: u8,
        listen: bool,
        now_us: u64,
    ) -> Result<(), RegionError> {
        self.ledger.set_spreading_factor(spreading_factor)?;
        self.count("tuned");
        let modulation = self.ledger.channel().modulation();
        let frame_us = self.airtime_us(TYPICAL_OCTETS);
        self.slot_us = slot_us(modulation);
        self.neighbours.set_floor(floor_db(spreading_factor));
        self.routes_are_old = true;
        self.spread.set_pace(frame_us, self.slot_us);
        let limits_us = beacon_intervals_us(frame_us);
        let first_us = if listen { 0 } else { SPREAD_FRAMES * frame_us };
        self.trickle
            .set_pace(limits_us, frame_us, first_us, now_us, &mut self.rng);
        self.beacon_from_us = 0;
        self.law_until_us = 0;
        self.listening = listen;
        self.asks |= listen;
        self.acks.clear();
        self.wait_anew(listen, now_us);
        self.cut_again(now_us);
        Ok(())
    }

    /// Somebody was heard where this node looked for others: what rests here is tried anew, as after a start, and one
    /// beacon that asks is paid for.
    pub(super) fn found_others(&mut self, now_us: u64) {
        self.listening = false;
        self.trickle.afford_one();
        self.silent.clear();
        for index in 0..self.jobs.len() {
            let wait_us = self.slots(0, 16);
            let job = &mut self.jobs[index];
            if job.phase == Phase::Held {
                job.wake(now_us + wait_us);
                job.rounds = 0;
            }
        }
    }

    /// Who was waited for may answer later now, and has changed too or will be heard when it does.
    fn wait_anew(&mut self, listen: bool, now_us: u64) {
        for index in 0..self.jobs.len() {
            if self.jobs[index].phase == Phase::Waiting {
                let due_us = now_us + self.answer_wait_us(index, now_us);
                let job = &mut self.jobs[index];
                job.due_us = due_us;
                if listen {
                    job.phase = Phase::Ready;
                }
            }
        }
        let confirmed_later: Vec<u32> = self
            .own
            .iter()
            .filter(|(_, own)| own.due_us != u64::MAX)
            .map(|(&id, _)| id)
            .collect();
        for id in confirmed_later {
            self.await_receipt(id, now_us);
        }
    }

    /// Leaves nothing to be sent that is longer than the law allows now.
    fn cut_again(&mut self, now_us: u64) {
        let room = self.ledger.channel().longest_payload();
        let goes = |octets: usize, part: Option<Part>| fits(room, octets, part.is_some());
        self.spread
            .stop_unless(|carried: &Carried| goes(carried.body.len(), carried.part));
        let me = self.me;
        self.jobs.retain(|job| {
            goes(job.body.len(), job.part)
                || (job.letter.source == me && job.letter.kind == Kind::Data)
        });
        let too_long: Vec<u32> = self
            .own
            .iter()
            .filter(|(_, own)| {
                let part = own.sealed.len().div_ceil(own.parts.max(1).into());
                !fits(room, part, own.parts > 1)
            })
            .map(|(&id, _)| id)
            .collect();
        for id in too_long {
            let Some(own) = self.own.get_mut(&id) else {
                continue;
            };
            let to_all = own.letter.destination == EVERYBODY;
            if to_all && own.state != State::Queued {
                // Who has some of it knows these numbers, and would not take other parts for new ones.
                self.become_state(id, State::Expired);
                continue;
            }
            let Ok(parts) = split(&own.sealed, room) else {
                self.become_state(id, State::Refused);
                continue;
            };
            let attempts = own.attempts;
            own.parts = u8::try_from(parts.len()).unwrap_or(u8::MAX);
            self.count("cut_again");
            self.spread.withdraw(|part| part >> 6 == id);
            self.jobs.retain(|job| {
                !(job.letter.source == me && job.letter.id == id && job.letter.kind == Kind::Data)
            });
            self.dispatch(id, u64::MAX, attempts > 0, now_us);
        }
        // What is left of letters that nobody waits for any more.
        self.jobs.retain(|job| goes(job.body.len(), job.part));
    }

    /// Whether a letter, or a part, may be sent with the present spreading factor.
    pub(super) fn fits(&self, octets: usize, part: Option<Part>) -> bool {
        let room = self.ledger.channel().longest_payload();
        fits(room, octets, part.is_some())
    }
}

fn fits(room: usize, octets: usize, is_part: bool) -> bool {
    octets + if is_part { PART_OCTETS } else { 0 } <= room
}

#[cfg(test)]
mod tests;
