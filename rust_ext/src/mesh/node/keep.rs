//! What a node keeps through a power cut: its numbers, its airtime, and what it carries for others.

use super::super::frame::{Kind, LETTERS, Lane, Letter, Part};
use super::super::queue::{Job, Key, Phase};
use super::super::region::Ledger;
use super::super::replay::Book;
use super::super::state::{StateError, read, write};
use super::{Node, lifetime_us};

const BOOK: u8 = 1;
const LEDGER: u8 = 2;
const CUSTODY: u8 = 3;
/// Frames after a restart that ask neighbours to skip their counters.
const RESTARTED: u8 = 4;
/// A node whose state is lost goes on at so many counters for each number of a letter.
const LETTER_EACH: u32 = 16;
/// Octets of a letter in custody before its body.
const HEAD: usize = 12;

impl Node {
    /// What must be durable before anything else of a poll that says `keep` is acted on. About 1.5 kB, and what is in
    /// custody for others; own messages are for the caller to keep until they are delivered.
    pub fn kept(&self, now_us: u64) -> Vec<u8> {
        let book = self.book.encode(self.hop.fingerprint());
        let ledger = self.ledger.encode(now_us);
        let mut custody = Vec::new();
        for job in &self.jobs {
            if job.phase == Phase::Held && job.from != 0 {
                custody.extend(encode(job));
            }
        }
        write([
            (BOOK, &book[..]),
            (LEDGER, &ledger[..]),
            (CUSTODY, &custody[..]),
        ])
    }

    /// Goes on from what was kept. Without anything kept, counters begin at `first_counter` and numbers of letters at
    /// a sixteenth of it.
    ///
    /// # Errors
    /// [`StateError`]: the octets were damaged or are of something else, or no letters are left from `first_counter` on.
    pub fn restore(
        &mut self,
        kept: &[u8],
        first_counter: u32,
        now_us: u64,
    ) -> Result<(), StateError> {
        let fingerprint = self.hop.fingerprint();
        self.keep = true;
        if kept.is_empty() {
            let most = LETTERS * LETTER_EACH - 1;
            if first_counter > most {
                return Err(StateError::TooFar {
                    first: first_counter,
                    most,
                });
            }
            let mut book = fingerprint.to_vec();
            book.extend(first_counter.to_be_bytes());
            book.extend((first_counter / LETTER_EACH).to_be_bytes());
            self.book = Book::decode(&book, fingerprint)?;
            return Ok(());
        }
        let unreadable = StateError::Unreadable;
        let mut has_book = false;
        for (number, octets) in read(kept)? {
            match number {
                BOOK => {
                    self.book = Book::decode(octets, fingerprint)?;
                    has_book = true;
                }
                LEDGER => {
                    self.ledger = Ledger::decode(*self.ledger.channel(), octets, now_us)
                        .map_err(unreadable)?;
                }
                CUSTODY => self
                    .restore_custody(octets, now_us)
                    .ok_or(unreadable("of broken letters"))?,
                _ => {}
            }
        }
        if !has_book {
            return Err(unreadable("without its numbers"));
        }
        self.restarted = RESTARTED;
        self.trickle.restarted();
        Ok(())
    }

    fn restore_custody(&mut self, mut octets: &[u8], now_us: u64) -> Option<()> {
        while let Some((head, rest)) = octets.split_first_chunk::<HEAD>() {
            let [
                source,
                destination,
                a,
                b,
                c,
                kind,
                lane,
                receipt,
                index,
                count,
                hops_left,
                length,
            ] = *head;
            let (body, rest) = rest.split_at_checked(length.into())?;
            octets = rest;
            let letter = Letter {
                source,
                destination,
                id: u32::from_be_bytes([0, a, b, c]),
                kind: if kind == 0 { Kind::Data } else { Kind::Repeat },
                lane: *Lane::ALL.get(usize::from(lane))?,
                wants_receipt: receipt != 0,
            };
            let part = (count > 1).then_some(Part { index, count });
            if !self.fits(body.len(), part) {
                continue;
            }
            self.seen.insert(Key::new(&letter, part), source);
            self.jobs.push(Job {
                letter,
                part,
                body: body.into(),
                hops_left,
                from: source,
                rounds: 1,
                wants_way: true,
                phase: Phase::Held,
                due_us: now_us + 30_000_000,
                until_us: now_us + lifetime_us(letter.lane),
                ..Job::default()
            });
        }
        octets.is_empty().then_some(())
    }
}

fn encode(job: &Job) -> Vec<u8> {
    let letter = &job.letter;
    let [_, a, b, c] = letter.id.to_be_bytes();
    let (index, count) = job.part.map_or((0, 1), |part| (part.index, part.count));
    let mut octets = vec![
        letter.source,
        letter.destination,
        a,
        b,
        c,
        u8::from(letter.kind != Kind::Data),
        letter.lane as u8,
        u8::from(letter.wants_receipt),
        index,
        count,
        job.hops_left,
        u8::try_from(job.body.len()).unwrap_or(u8::MAX),
    ];
    octets.extend(&job.body[..]);
    octets
}
