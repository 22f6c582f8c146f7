//! The mesh node: frames in, frames out, no clock, no radio, no disk (`docs/mesh.md`, M20 to M29).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use thiserror::Error;

use super::airtime::Modulation;
use super::beacon::{Status, Trickle};
use super::fragment::{Assembly, MAX_MESSAGE_OCTETS, split};
use super::frame::{Address, EVERYBODY, Frame, Kind, Lane, Letter, MAX_HOPS, Part};
use super::load::Load;
use super::neighbour::Neighbours;
use super::queue::{JOBS, Job, Key, Phase, SeenTable};
use super::region::{Channel, Ledger};
use super::replay::Book;
use super::route::Routes;
use super::seal::{HopSeal, PairError, PairSeals};
use super::spread::{Settings, Spread};

mod keep;
mod parts;
mod receive;
mod rest;
mod tell;
mod transmit;
mod tune;

/// Own messages that wait for their receipts at once; flash may have [`FLASH_OWN`] more. One costs its octets twice.
pub const OWN: usize = 32;
/// See [`OWN`].
pub const FLASH_OWN: usize = 8;

/// How long a message is tried, by lane: flash a day, priority half a day, routine four hours.
pub const fn lifetime_us(lane: Lane) -> u64 {
    let hours = match lane {
        Lane::Flash => 24,
        Lane::Priority => 12,
        Lane::Routine => 4,
    };
    hours * 3_600_000_000
}

/// A broadcast that nobody was heard repeating for so long has not left, as far as anybody can tell.
const UNREPEATED_US: u64 = 600_000_000;

/// What a node is.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its address.
    pub address: Address,
    /// Its radio's setting, checked against the law.
    pub channel: Channel,
    /// Of everything that is drawn.
    pub seed: u64,
}

/// Why a message is not taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SendError {
    /// Back-pressure: later there is room again.
    #[error("{waiting} messages wait for their receipts, {limit} at most: try again later")]
    Full {
        /// Messages that wait.
        waiting: usize,
        /// How many may.
        limit: usize,
    },
    /// A message without octets, or with too many.
    #[error("message of {octets} octets: 1 to {MAX_MESSAGE_OCTETS}")]
    Length {
        /// Octets there are.
        octets: usize,
    },
    /// Sealing failed: no key, or ourselves.
    #[error(transparent)]
    Pair(#[from] PairError),
    /// It cannot be cut.
    #[error(transparent)]
    Part(#[from] super::fragment::PartError),
    /// Every number was used.
    #[error(transparent)]
    UsedUp(#[from] super::replay::UsedUp),
}

/// What has become of an own message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits.
    Queued,
    /// It left our antenna.
    Sent,
    /// A neighbour has it. The last state of a broadcast that somebody was heard repeating.
    Relayed,
    /// The destination said so.
    Delivered,
    /// Its time is over.
    Expired,
    /// It can never be delivered.
    Refused,
}

impl State {
    /// As the Python side calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Relayed => "relayed",
            Self::Delivered => "delivered",
            Self::Expired => "expired",
            Self::Refused => "refused",
        }
    }
}

/// A message that arrived here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Who sent it.
    pub source: Address,
    /// Its number there.
    pub id: u32,
    /// Its lane.
    pub lane: Lane,
    /// What was sent.
    pub payload: Vec<u8>,
    /// It went to everybody.
    pub broadcast: bool,
}

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Poll {
    /// Send this; then call [`Node::sent`].
    pub transmit: Option<Vec<u8>>,
    /// Poll again at this time, if nothing happens before.
    pub wake_at_us: Option<u64>,
    /// Messages that arrived.
    pub arrived: Vec<Arrival>,
    /// News of own messages.
    pub states: Vec<(u32, State)>,
    /// What must be durable before anything else of this is acted on.
    pub keep: bool,
}

#[derive(Clone, Debug)]
struct Own {
    letter: Letter,
    sealed: Arc<[u8]>,
    parts: u8,
    state: State,
    attempts: u8,
    due_us: u64,
    until_us: u64,
}

#[derive(Clone, Debug)]
struct Carried {
    letter: Letter,
    part: Option<Part>,
    body: Arc<[u8]>,
}

#[derive(Clone, Debug)]
enum OnAir {
    Ack,
    Job(Key),
    Flood(Address, u32),
    Beacon,
}

/// Counts since the start; every frame heard ends in one of them.
pub type Counters = BTreeMap<&'static str, u64>;

/// A mesh node.
#[allow(clippy::struct_excessive_bools)] // notes for the next poll, each of its own
pub struct Node {
    me: Address,
    ledger: Ledger,
    hop: HopSeal,
    pairs: Arc<PairSeals>,
    book: Book,
    /// Frames that still say that we lost count of what we heard.
    restarted: u8,
    /// Who said so, and was answered by skipping.
    skipped_for: Vec<Address>,
    rng: ChaCha8Rng,
    slot_us: u64,
    load: Load,
    neighbours: Neighbours,
    routes: Routes,
    routes_are_old: bool,
    status: Status,
    status_is_news: bool,
    others: BTreeMap<Address, Told>,
    trickle: Trickle,
    /// No beacon before: the busier the channel, the rarer they are.
    beacon_from_us: u64,
    /// Airtime of the beacon that is on air.
    beacon_us: u64,
    /// Nobody was heard yet since the radio was tuned to look for others: nothing is sent.
    listening: bool,
    asks: bool,
    asked: bool,
    /// Whom of its neighbours it asked last.
    asked_last: Address,
    /// How many of its beacons had fresh news, and whether the last one had.
    version: u32,
    was_fresh: bool,
    jobs: Vec<Job>,
    acks: VecDeque<(u64, Frame)>,
    own: BTreeMap<u32, Own>,
    seen: SeenTable,
    /// Destinations that confirm nothing: how often not, and until when nothing more is sent to them. One costs 24
    /// octets.
    silent: BTreeMap<Address, (u8, u64)>,
    /// When a letter to a node that nobody knows was flooded last, by whomever.
    flooded_us: BTreeMap<Address, u64>,
    /// Which letter a destination was asked to take last, by whom and when, as far as that was overheard. One costs 32
    /// octets.
    asked_us: BTreeMap<Address, (Key, Address, u64)>,
    /// When a letter to one node was sent or heard last: while there are any, changes of routes are news.
    letters_us: u64,
    spread: Spread<Carried>,
    assembly: Assembly,
    /// When parts that are missing are asked for again, and how often they were.
    repeats: BTreeMap<(Address, u32), (u64, u8)>,
    on_air: Option<OnAir>,
    /// What the last frame was.
    sending: &'static str,
    /// Nothing is begun before: somebody else is about to speak, or the channel was busy.
    quiet_until_us: u64,
    /// The law has no room for a routine frame before.
    law_until_us: u64,
    arrived: Vec<Arrival>,
    states: Vec<(u32, State)>,
    keep: bool,
    counts: Counters,
}

/// Another node's state, as told.
#[derive(Clone, Copy, Debug)]
struct Told {
    status: Status,
    sequence: u8,
    /// In how many beacons it is still said, and in how many at first.
    again: u8,
    first: u8,
}

/// Signal above the noise that a LoRa modem needs, in dB (SX1276 datasheet table 13).
fn floor_db(spreading_factor: u8) -> f32 {
    -7.5 - 2.5 * (f32::from(spreading_factor) - 7.0)
}

/// Octets of a typical frame.
const TYPICAL_OCTETS: usize = 64;

/// Shortest and longest interval between beacons, by the airtime of a typical frame.
fn beacon_intervals_us(frame_us: u64) -> (u64, u64) {
    (20 * frame_us, 2_400 * frame_us.max(750_000))
}

/// A slot of contention in microseconds: channel activity detection, turnaround and processing.
fn slot_us(modulation: Modulation) -> u64 {
    modulation.symbol_us() * 17 / 2 + 7_800
}

impl Node {
    /// A node that knows nothing yet.
    pub fn new(setup: &Setup, hop: HopSeal, pairs: Arc<PairSeals>, now_us: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(setup.seed);
        let modulation = setup.channel.modulation();
        let slot_us = slot_us(modulation);
        let frame_us = setup.channel.airtime_us(TYPICAL_OCTETS);
        let (shortest_us, longest_us) = beacon_intervals_us(frame_us);
        let trickle = Trickle::new(shortest_us, longest_us, frame_us, now_us, &mut rng);
        Self {
            me: setup.address,
            ledger: Ledger::new(setup.channel),
            hop,
            pairs,
            book: Book::default(),
            restarted: 0,
            skipped_for: Vec::new(),
            rng,
            slot_us,
            load: Load::default(),
            neighbours: Neighbours::new(floor_db(modulation.spreading_factor)),
            routes: Routes::default(),
            routes_are_old: false,
            status: Status {
                battery: 3,
                ..Status::default()
            },
            status_is_news: false,
            others: BTreeMap::new(),
            trickle,
            beacon_from_us: 0,
            beacon_us: 0,
            listening: false,
            asks: true,
            asked: false,
            asked_last: 0,
            version: 0,
            was_fresh: false,
            jobs: Vec::new(),
            acks: VecDeque::new(),
            own: BTreeMap::new(),
            seen: SeenTable::default(),
            silent: BTreeMap::new(),
            flooded_us: BTreeMap::new(),
            asked_us: BTreeMap::new(),
            letters_us: now_us,
            spread: Spread::new(setup.address, Settings::new(frame_us, slot_us)),
            assembly: Assembly::default(),
            repeats: BTreeMap::new(),
            on_air: None,
            sending: "beacon",
            quiet_until_us: 0,
            law_until_us: 0,
            arrived: Vec::new(),
            states: Vec::new(),
            keep: true,
            counts: Counters::new(),
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_insert(0) += 1;
    }

    fn airtime_us(&self, octets: usize) -> u64 {
        self.ledger.channel().airtime_us(octets)
    }

    fn slots(&mut self, from: u32, to: u32) -> u64 {
        u64::from(self.rng.random_range(from..=to.max(from))) * self.slot_us
            + self.rng.random_range(0..self.slot_us / 2)
    }

    /// Slots of a contention window that grows with the load.
    fn window(&self, idle: u32, now_us: u64) -> u32 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the share is 0 to 1
        let more = (self.load.share(now_us) * 24.0) as u32;
        idle + more
    }

    /// Takes a message; its number, which no other message of this node ever has. `None` is everybody.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(
        &mut self,
        destination: Option<Address>,
        payload: &[u8],
        lane: Lane,
        now_us: u64,
    ) -> Result<u32, SendError> {
        let octets = payload.len();
        if octets == 0 || octets > MAX_MESSAGE_OCTETS {
            return Err(SendError::Length { octets });
        }
        let limit = OWN + if lane == Lane::Flash { FLASH_OWN } else { 0 };
        let waiting = self.own.len();
        if waiting >= limit || self.jobs.len() + 16 > JOBS {
            return Err(SendError::Full { waiting, limit });
        }
        let to = destination.unwrap_or(EVERYBODY);
        if to != EVERYBODY && !self.pairs.knows(to) {
            return Err(PairError::NoKey(to).into());
        }
        if to != EVERYBODY {
            self.letters_us = now_us;
        }
        let (id, keep) = self.book.letters.take()?;
        self.keep |= keep;
        let letter = Letter {
            source: self.me,
            destination: to,
            id,
            kind: Kind::Data,
            lane,
            wants_receipt: destination.is_some(),
        };
        let sealed: Arc<[u8]> = self.pairs.seal(&letter, payload)?.into();
        let room = self.ledger.channel().longest_payload();
        let parts = split(&sealed, room)?.len();
        self.own.insert(
            id,
            Own {
                letter,
                sealed,
                parts: u8::try_from(parts).unwrap_or(u8::MAX),
                state: State::Queued,
                attempts: 0,
                due_us: u64::MAX,
                until_us: now_us
                    + if to == EVERYBODY {
                        UNREPEATED_US
                    } else {
                        lifetime_us(lane)
                    },
            },
        );
        self.states.push((id, State::Queued));
        self.dispatch(id, u64::MAX, false, now_us);
        Ok(id)
    }

    /// The frames of an own message: all that are missing. `again` says that they went this way before.
    fn dispatch(&mut self, id: u32, missing: u64, again: bool, now_us: u64) {
        let Some(own) = self.own.get_mut(&id) else {
            return;
        };
        own.due_us = u64::MAX;
        let (letter, sealed, count, until_us) =
            (own.letter, own.sealed.clone(), own.parts, own.until_us);
        // As it was cut first: what is asked for again are the same parts.
        let bodies = sealed.chunks(sealed.len().div_ceil(count.max(1).into()).max(1));
        for (index, body) in (0..count).zip(bodies) {
            if missing >> index & 1 == 0 {
                continue;
            }
            let part = (count > 1).then_some(Part { index, count });
            let carried = Carried {
                letter,
                part,
                body: body.into(),
            };
            if letter.destination == EVERYBODY {
                self.spread
                    .begin(spread_id(id, part), MAX_HOPS, carried, now_us);
                continue;
            }
            let window = self.window(2, now_us);
            let due_us = now_us + self.slots(0, window);
            let key = Key::new(&letter, part);
            if let Some(job) = self.jobs.iter_mut().find(|job| job.key() == key) {
                // It is still here: a second job of one key would never be found.
                if job.phase == Phase::Held {
                    job.wake(due_us);
                    job.again |= again;
                }
                continue;
            }
            self.seen.insert(key, 0);
            self.push_job(Job {
                letter,
                part,
                body: carried.body,
                hops_left: MAX_HOPS,
                again,
                due_us,
                until_us,
                ..Job::default()
            });
        }
    }

    fn push_job(&mut self, job: Job) {
        self.jobs.push(job);
    }

    /// Tells others what this node has; see [`Status`].
    pub fn set_status(&mut self, status: Status) {
        let status = status.sayable();
        if self.status != status {
            self.status = status;
            self.status_is_news = true;
        }
    }

    /// Stops sending an own message.
    pub fn forget(&mut self, id: u32) {
        if self.own.remove(&id).is_some() {
            let me = self.me;
            self.jobs.retain(|job| {
                !(job.from == 0
                    && job.letter.source == me
                    && job.letter.id == id
                    && job.phase != Phase::OnAir)
            });
        }
    }

    fn become_state(&mut self, id: u32, state: State) {
        let Some(own) = self.own.get_mut(&id) else {
            return;
        };
        let to_all = own.letter.destination == EVERYBODY;
        let is_news = match state {
            State::Sent => own.state == State::Queued,
            State::Relayed => matches!(own.state, State::Queued | State::Sent),
            _ => true,
        };
        if is_news {
            own.state = state;
            self.states.push((id, state));
        }
        let is_last = matches!(state, State::Delivered | State::Expired | State::Refused);
        if is_last || (state == State::Relayed && to_all) {
            self.forget(id);
        }
    }

    /// The neighbours.
    pub fn neighbours(&self) -> &Neighbours {
        &self.neighbours
    }

    /// The routes.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Destination, next hop and cost of every route, chosen anew: the cost of a link changes with time.
    pub fn chosen_routes(&mut self, now_us: u64) -> Vec<(Address, Address, u16)> {
        self.choose_routes(now_us);
        (1..EVERYBODY)
            .filter_map(|to| self.routes.to(to).map(|(next, cost)| (to, next, cost)))
            .collect()
    }

    /// What the last frame was: beacon, ack, receipt, repeat, flood or data.
    pub fn sending(&self) -> &'static str {
        self.sending
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.counts
    }

    /// The airtime this node has used, and may use.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What a node says of itself, as far as it is known here.
    pub fn status_of(&self, address: Address) -> Status {
        let told = self.others.get(&address).map(|told| told.status);
        told.or_else(|| {
            self.neighbours
                .get(address)
                .map(|neighbour| neighbour.status)
        })
        .unwrap_or(Status {
            battery: 3,
            ..Status::default()
        })
    }

    /// Share of time in which the channel is occupied.
    pub fn load(&self, now_us: u64) -> f64 {
        self.load.share(now_us)
    }
}

/// A part of a broadcast as [`Spread`] knows it.
fn spread_id(id: u32, part: Option<Part>) -> u32 {
    id << 6 | u32::from(part.map_or(0, |part| part.index))
}

#[cfg(test)]
mod gone;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod rules;
