//! What waits to be sent or acknowledged, and what was seen before (`docs/mesh.md`, M23).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::frame::{Address, EVERYBODY, Frame, Kind, Lane, Letter, Part};

/// Letters and parts that wait here at once, others' and our own. One costs its body and about 100 octets.
pub const JOBS: usize = 128;
/// Letters remembered so that none is taken twice. One costs about 100 octets.
pub const SEEN: usize = 1024;

/// What tells one part of one letter from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// What it is; a receipt has the number of what it answers.
    pub kind: Kind,
    /// Who wrote it.
    pub source: Address,
    /// For whom.
    pub destination: Address,
    /// Its number.
    pub id: u32,
    /// Part of it, 0 when whole.
    pub part: u8,
}

impl Key {
    /// Of a letter or a part of it.
    pub fn new(letter: &Letter, part: Option<Part>) -> Self {
        Self {
            kind: letter.kind,
            source: letter.source,
            destination: letter.destination,
            id: letter.id,
            part: part.map_or(0, |part| part.index),
        }
    }
}

/// Where a letter stands at this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// To be sent when it is due.
    Ready,
    /// On the air now.
    OnAir,
    /// Sent; the next hop should be heard until it is due.
    Waiting,
    /// No way is known; kept until one is found or it is due.
    Held,
}

/// A letter, or a part, on its way through this node.
#[derive(Clone, Debug)]
pub struct Job {
    /// What it says.
    pub letter: Letter,
    /// Which part.
    pub part: Option<Part>,
    /// Sealed octets.
    pub body: Arc<[u8]>,
    /// Hops it may go after the one from here.
    pub hops_left: u8,
    /// Its source sends it for a second time.
    pub again: bool,
    /// Who gave it to us; 0 for our own.
    pub from: Address,
    /// Whom it goes to next; [`EVERYBODY`] when flooded.
    pub next: Address,
    /// Who did not take it.
    pub failed: Vec<Address>,
    /// How often it was sent to `next`.
    pub tries: u8,
    /// How often it was held.
    pub rounds: u8,
    /// It is held because no way is known that it has not tried.
    pub wants_way: bool,
    /// How often the wait for an answer was made longer because the channel was busy.
    pub patience: u8,
    /// Where it stands.
    pub phase: Phase,
    /// When its phase ends.
    pub due_us: u64,
    /// When it is given up.
    pub until_us: u64,
}

impl Default for Job {
    /// Ready, and of nobody.
    fn default() -> Self {
        Self {
            letter: Letter {
                source: 0,
                destination: 0,
                id: 0,
                kind: Kind::Data,
                lane: Lane::Routine,
                wants_receipt: false,
            },
            part: None,
            body: Arc::from([]),
            hops_left: 0,
            again: false,
            from: 0,
            next: 0,
            failed: Vec::new(),
            tries: 0,
            rounds: 0,
            wants_way: false,
            patience: 0,
            phase: Phase::Ready,
            due_us: 0,
            until_us: 0,
        }
    }
}

impl Job {
    /// Its key.
    pub fn key(&self) -> Key {
        Key::new(&self.letter, self.part)
    }

    /// To whom it does not go: who gave it, and who did not take it.
    pub fn avoided(&self) -> Vec<Address> {
        let from = (self.from != 0).then_some(self.from);
        self.failed.iter().copied().chain(from).collect()
    }

    /// It rested, and is to be tried again.
    pub fn wake(&mut self, due_us: u64) {
        self.phase = Phase::Ready;
        self.failed.clear();
        self.tries = 0;
        self.due_us = due_us;
    }

    /// The frame that carries it.
    pub fn frame(&self, me: Address) -> Frame {
        Frame {
            transmitter: me,
            next_hop: self.next,
            hops_left: self.hops_left,
            restarted: false,
            again: self.again,
            letter: self.letter,
            part: self.part,
            body: self.body.to_vec(),
        }
    }

    /// What goes first: the lane, then what is small and near its end.
    pub fn order(&self) -> (Lane, bool, bool) {
        let small = self.letter.kind != Kind::Receipt;
        (self.letter.lane, small, self.from == 0)
    }

    /// Whether it answers something and is not worth custody.
    pub fn is_answer(&self) -> bool {
        self.letter.kind == Kind::Receipt
    }

    /// Whether it may be sent while a letter of this lane is under way.
    pub fn may_go(&self, under_way: Option<Lane>) -> bool {
        self.is_answer() || under_way.is_none_or(|lane| self.letter.lane < lane)
    }

    /// Whether it goes to all.
    pub fn is_flood(&self) -> bool {
        self.next == EVERYBODY
    }
}

/// What became of a letter, or part, that came by.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Who gave it to us first; 0 for our own.
    pub from: Address,
    /// Whom it went to from here; 0 when to nobody yet.
    pub next: Address,
    /// When the next hop had it.
    pub handed_us: Option<u64>,
    /// It came as sent for a second time.
    pub again: bool,
    /// The receipt's body, once it came by.
    pub receipt: Option<[u8; 4]>,
    /// When we answered last, so that nothing makes us answer without end.
    pub answered_us: u64,
}

/// The letters remembered, the oldest forgotten first.
#[derive(Debug, Default)]
pub struct SeenTable {
    table: HashMap<Key, Seen>,
    order: VecDeque<Key>,
}

impl SeenTable {
    /// What is remembered of a letter.
    pub fn get(&self, key: &Key) -> Option<&Seen> {
        self.table.get(key)
    }

    /// The same, to change.
    pub fn get_mut(&mut self, key: &Key) -> Option<&mut Seen> {
        self.table.get_mut(key)
    }

    /// Remembers a letter.
    pub fn insert(&mut self, key: Key, from: Address) -> &mut Seen {
        if !self.table.contains_key(&key) {
            if self.order.len() == SEEN
                && let Some(oldest) = self.order.pop_front()
            {
                self.table.remove(&oldest);
            }
            self.order.push_back(key);
        }
        self.table.entry(key).or_insert(Seen {
            from,
            next: 0,
            handed_us: None,
            again: false,
            receipt: None,
            answered_us: 0,
        })
    }
}
