//! Broadcasts: who repeats one, when, and who keeps silent because all who could hear it have it.
//!
//! Each node learns who hears whom from what it overhears: a flooded frame names the neighbour its transmitter
//! had it from, a beacon lists whom its sender hears. A copy that is heard covers all who hear its transmitter;
//! what a relay would still add decides when it sends and whether it does. What this is held against and what
//! the figures of [`Settings`] were chosen on is in `docs/mesh.md`, M60 to M68.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // waits of minutes in microseconds

use std::collections::{HashMap, VecDeque};

use rand::Rng;

use super::frame::MAX_HOPS;

/// A set of addresses: 32 octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Nodes([u64; 4]);

impl Nodes {
    /// Adds one.
    pub fn insert(&mut self, node: u8) {
        self.0[usize::from(node >> 6)] |= 1 << (node & 63);
    }

    /// Takes one out.
    pub fn remove(&mut self, node: u8) {
        self.0[usize::from(node >> 6)] &= !(1 << (node & 63));
    }

    /// Whether one is in it.
    pub fn contains(&self, node: u8) -> bool {
        self.0[usize::from(node >> 6)] >> (node & 63) & 1 == 1
    }

    /// Those of either set.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        for (mine, more) in self.0.iter_mut().zip(other.0) {
            *mine |= more;
        }
        self
    }

    /// Those of this set that are not in the other.
    #[must_use]
    pub fn without(mut self, other: &Self) -> Self {
        for (mine, less) in self.0.iter_mut().zip(other.0) {
            *mine &= !less;
        }
        self
    }

    /// Those of both sets.
    #[must_use]
    pub fn within(mut self, other: &Self) -> Self {
        for (mine, both) in self.0.iter_mut().zip(other.0) {
            *mine &= both;
        }
        self
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// Each, the lowest first.
    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        self.0
            .iter()
            .zip([0_u8, 64, 128, 192])
            .flat_map(|(&word, base)| {
                let mut left = word;
                std::iter::from_fn(move || {
                    let bit = (left != 0).then(|| left.trailing_zeros() as u8)?;
                    left &= left - 1;
                    Some(base + bit)
                })
            })
    }
}

/// One authentic copy of a broadcast that was heard.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Copy {
    /// Who wrote it.
    pub source: u8,
    /// Its number at the source.
    pub id: u32,
    /// Whose antenna it left.
    pub transmitter: u8,
    /// The neighbour its transmitter had it from; 255 where it is not known or the transmitter is the source.
    pub from: u8,
    /// How many hops it may go after this one.
    pub hops_left: u8,
    /// Strength above the noise in dB.
    pub snr_db: f64,
}

/// What is chosen rather than derived. The defaults were chosen on seeds that no report uses.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Time on air of a typical frame, in microseconds.
    pub frame_us: u64,
    /// A slot of contention, in microseconds.
    pub slot_us: u64,
    /// Chance that a neighbour gets a frame, when nothing is known against it.
    pub hop_chance: f64,
    /// The same where the frame was not heard, but one that says who sent it before.
    pub second_hand: f64,
    /// How many neighbours a relay must be expected to reach newly, on an idle channel.
    pub least_gain: f64,
    /// How many more on a channel that is always busy.
    pub load_gain: f64,
    /// How many more for each neighbour that hears us: where many hear one frame, air is worth more.
    pub dense_gain: f64,
    /// How many more for each hop that the broadcast has come after the first [`Settings::near_hops`].
    pub far_gain: f64,
    /// Within so many hops it is near.
    pub near_hops: u8,
    /// How much less a node counts for each of those it hears that are hidden from us.
    pub hidden: f64,
    /// How many hidden ones do not count yet.
    pub spare: usize,
    /// How many more at most because of load.
    pub most_load_gain: f64,
    /// Slots from which a delay is drawn.
    pub window: u32,
    /// Slots that a relay with much to add is ahead of one with little.
    pub gain_slots: f64,
    /// Slots to wait for each rival who would add more.
    pub rank_slots: f64,
    /// How often the source sends again when nobody was heard repeating it.
    pub source_resends: u8,
    /// How long to wait for others to repeat, in frames.
    pub patience: f64,
}

impl Settings {
    /// The settings of a modulation.
    pub fn new(frame_us: u64, slot_us: u64) -> Self {
        Self {
            frame_us,
            slot_us,
            hop_chance: 0.95,
            second_hand: 0.8,
            least_gain: 0.05,
            load_gain: 2.5,
            most_load_gain: 0.2,
            dense_gain: 0.12,
            far_gain: 0.2,
            near_hops: 2,
            hidden: 1.0,
            spare: 0,
            window: 8,
            gain_slots: 24.0,
            rank_slots: 12.0,
            source_resends: 1,
            patience: 6.0,
        }
    }
}

/// Broadcasts remembered; one costs its payload and 16 octets a neighbour.
const REMEMBERED: usize = 256;
/// What was learned of links is forgotten after one to two of these, in microseconds: half an hour.
const EPOCH_US: u64 = 1_800_000_000;

/// Who was heard within this is there, in microseconds: ten minutes.
const HEARS_US: u64 = 600_000_000;
/// How long two nodes that meet may take to hear each other, in microseconds.
const GRACE_US: u64 = 120_000_000;

/// Who hears whom, as far as it was overheard. 64 octets a node.
#[derive(Debug, Default)]
struct Links {
    /// Who hears a node, in this epoch and the one before.
    hearers: HashMap<u8, [Nodes; 2]>,
    /// The same the other way: whom a node hears.
    heard: HashMap<u8, [Nodes; 2]>,
    /// Who said whom it hears.
    told: Nodes,
    epoch_us: u64,
}

impl Links {
    fn learn(&mut self, from: u8, to: u8, now_us: u64) {
        if now_us >= self.epoch_us + EPOCH_US {
            self.epoch_us = now_us;
            for table in [&mut self.hearers, &mut self.heard] {
                for epochs in table.values_mut() {
                    *epochs = [Nodes::default(), epochs[0]];
                }
                table.retain(|_, epochs| !epochs[1].is_empty());
            }
        }
        self.hearers.entry(from).or_default()[0].insert(to);
        self.heard.entry(to).or_default()[0].insert(from);
    }

    /// Whom a node hears is said anew.
    fn forget(&mut self, node: u8) {
        for from in self.heard_by(node).iter() {
            if let Some(epochs) = self.hearers.get_mut(&from) {
                for epoch in epochs {
                    epoch.remove(node);
                }
            }
        }
        self.heard.remove(&node);
    }

    fn hears(&self, node: u8, from: u8) -> bool {
        self.confirmed(from).contains(node)
    }

    fn confirmed(&self, node: u8) -> Nodes {
        self.hearers
            .get(&node)
            .map_or_else(Nodes::default, |[now, before]| now.with(before))
    }

    fn heard_by(&self, node: u8) -> Nodes {
        self.heard
            .get(&node)
            .map_or_else(Nodes::default, |[now, before]| now.with(before))
    }

    /// Who hears a node. Whoever is heard by it and never said whom it hears is taken to hear it too.
    fn around(&self, node: u8) -> Nodes {
        let mut all = self
            .confirmed(node)
            .with(&self.heard_by(node).without(&self.told));
        all.remove(node);
        all
    }
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    /// It goes out at this time unless others cover all.
    Waiting(u64),
    /// Handed to the radio.
    Sending,
    /// Watched until this time: who should repeat it?
    Watching(u64),
    /// Nothing more to do.
    Done,
}

#[derive(Debug)]
struct Entry<T> {
    source: u8,
    id: u32,
    /// Whom we had it from; 255 for our own.
    from: u8,
    hops_left: u8,
    payload: T,
    state: State,
    /// Chance that each neighbour lacks it.
    lacking: Vec<(u8, f64)>,
    /// Who has sent it, so who has it.
    senders: Nodes,
    /// Everybody in reach of a sender.
    covered: Nodes,
    copies: u32,
    sent: u8,
}

impl<T> Entry<T> {
    /// How many nodes a relay is expected to add. Who hears others, hidden from us, that are heard where the
    /// broadcast has been may have it from them.
    fn gain(&self, links: &Links, mine: &Nodes, settings: &Settings) -> f64 {
        let near = mine.with(&self.senders);
        let known = self.covered.with(&self.senders);
        self.lacking
            .iter()
            .filter(|(_, lacks)| *lacks > 0.0)
            .map(|&(node, lacks)| {
                let mut elsewhere = known;
                elsewhere.remove(node);
                let hidden = links
                    .heard_by(node)
                    .without(&near)
                    .iter()
                    .filter(|&other| !links.confirmed(other).within(&elsewhere).is_empty())
                    .count();
                lacks / (1.0 + settings.hidden * hidden.saturating_sub(settings.spare) as f64)
            })
            .sum()
    }

    /// How many nodes more a relay must add because of how far the broadcast has come.
    fn far_gain(&self, settings: &Settings) -> f64 {
        let hops = MAX_HOPS.saturating_sub(self.hops_left);
        settings.far_gain * f64::from(hops.saturating_sub(settings.near_hops))
    }

    /// Whether nobody was heard repeating it although somebody could, and it may go once more.
    fn is_unrepeated(&self, settings: &Settings) -> bool {
        self.sent <= settings.source_resends && self.copies == 0 && !self.lacking.is_empty()
    }
}

/// A broadcast to send now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Relay<T> {
    /// Who wrote it.
    pub source: u8,
    /// Its number at the source.
    pub id: u32,
    /// Whom we had it from; 255 for our own.
    pub from: u8,
    /// How many hops it may go after this one.
    pub hops_left: u8,
    /// What it carries.
    pub payload: T,
}

/// A neighbour that we hear.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_field_names)] // times, with their unit
struct Heard {
    /// Since when, without being away.
    since_us: u64,
    last_us: u64,
    /// Time between two of its frames, the last one counted to a quarter.
    gap_us: u64,
    /// When it last said whom it hears.
    told_us: Option<u64>,
}

impl Heard {
    /// Whether it was heard within ten minutes, or four times the time between its frames, an hour at most.
    fn is_there(&self, now_us: u64) -> bool {
        now_us < self.last_us + (4 * self.gap_us).clamp(HEARS_US, 2 * EPOCH_US)
    }

    /// Whether it has said whom it hears since it could hear us: then our absence means something.
    fn would_say(&self) -> bool {
        self.told_us
            .is_some_and(|told_us| told_us >= self.since_us + GRACE_US)
    }
}

/// What a node knows of broadcasts under way and of who hears whom.
pub struct Spread<T> {
    me: u8,
    settings: Settings,
    links: Links,
    heard: HashMap<u8, Heard>,
    entries: VecDeque<Entry<T>>,
}

impl<T> Spread<T> {
    /// Nothing known yet.
    pub fn new(me: u8, settings: Settings) -> Self {
        Self {
            me,
            settings,
            links: Links::default(),
            heard: HashMap::new(),
            entries: VecDeque::new(),
        }
    }

    /// Frames and slots take another time from now on.
    pub fn set_pace(&mut self, frame_us: u64, slot_us: u64) {
        self.settings = Settings {
            frame_us,
            slot_us,
            ..self.settings
        };
    }

    /// Broadcasts of which this is not so are sent no more; they are remembered.
    pub fn stop_unless(&mut self, goes: impl Fn(&T) -> bool) {
        for entry in &mut self.entries {
            if !goes(&entry.payload) {
                entry.state = State::Done;
            }
        }
    }

    /// Forgets parts of a broadcast of our own: they are to be begun anew.
    pub fn withdraw(&mut self, ours: impl Fn(u32) -> bool) {
        let me = self.me;
        self.entries
            .retain(|entry| entry.source != me || !ours(entry.id));
    }

    /// An authentic frame of a neighbour, of any kind.
    pub fn noticed(&mut self, transmitter: u8, _snr_db: f64, now_us: u64) {
        let met = Heard {
            since_us: now_us,
            last_us: now_us,
            gap_us: HEARS_US / 2,
            told_us: None,
        };
        let heard = self.heard.entry(transmitter).or_insert(met);
        let gap_us = (3 * heard.gap_us + now_us - heard.last_us) / 4;
        if !heard.is_there(now_us) {
            *heard = met;
        }
        heard.gap_us = gap_us;
        heard.last_us = now_us;
        self.links.learn(transmitter, self.me, now_us);
    }

    /// A beacon said whom its sender hears.
    pub fn beacon(&mut self, transmitter: u8, hears: &[u8], now_us: u64) {
        self.links.forget(transmitter);
        for &other in hears {
            self.links.learn(other, transmitter, now_us);
        }
        if !hears.is_empty() {
            self.links.told.insert(transmitter);
            if let Some(heard) = self.heard.get_mut(&transmitter) {
                heard.told_us = Some(now_us);
            }
        }
    }

    /// Who is there, for our own beacon: who was heard lately, measured by how often it was.
    pub fn hears(&self, now_us: u64) -> Vec<u8> {
        let mut all: Vec<u8> = self
            .heard
            .iter()
            .filter(|(_, heard)| heard.is_there(now_us))
            .map(|(&node, _)| node)
            .collect();
        all.sort_unstable();
        all
    }

    /// Who hears us. Whom we hear is taken to hear us too, until it has had the time to say so and does not.
    fn hearers(&self) -> Nodes {
        let mut all = self.links.confirmed(self.me);
        for (&node, heard) in &self.heard {
            if !heard.would_say() && self.links.hears(self.me, node) {
                all.insert(node);
            }
        }
        all.remove(self.me);
        all
    }

    /// We, whom we hear and who hears us: what they send, we know of.
    fn mine(&self) -> Nodes {
        let mut mine = self.links.heard_by(self.me).with(&self.hearers());
        mine.insert(self.me);
        mine
    }

    fn lacking(&self) -> Vec<(u8, f64)> {
        self.hearers().iter().map(|node| (node, 1.0)).collect()
    }

    fn remember(&mut self, entry: Entry<T>) {
        if self.entries.len() == REMEMBERED {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    /// A broadcast of our own.
    pub fn begin(&mut self, id: u32, hops_left: u8, payload: T, now_us: u64) {
        let entry = Entry {
            source: self.me,
            id,
            from: 255,
            hops_left,
            payload,
            state: State::Waiting(now_us),
            lacking: self.lacking(),
            senders: Nodes::default(),
            covered: Nodes::default(),
            copies: 0,
            sent: 0,
        };
        self.remember(entry);
    }

    /// A copy was heard; true the first time, when it is to be delivered.
    pub fn heard(
        &mut self,
        copy: &Copy,
        payload: impl FnOnce() -> T,
        now_us: u64,
        rng: &mut impl Rng,
    ) -> bool {
        self.noticed(copy.transmitter, copy.snr_db, now_us);
        if copy.from != 255 {
            self.links.learn(copy.from, copy.transmitter, now_us);
        }
        let known = self
            .entries
            .iter()
            .position(|entry| entry.source == copy.source && entry.id == copy.id);
        let first = known.is_none();
        let index = known.unwrap_or_else(|| {
            let entry = Entry {
                source: copy.source,
                id: copy.id,
                from: copy.transmitter,
                hops_left: copy.hops_left.saturating_sub(1),
                payload: payload(),
                state: if copy.hops_left == 0 {
                    State::Done
                } else {
                    State::Waiting(0)
                },
                lacking: self.lacking(),
                senders: Nodes::default(),
                covered: Nodes::default(),
                copies: 0,
                sent: 0,
            };
            self.remember(entry);
            self.entries.len() - 1
        });
        let around = self.links.around(copy.transmitter);
        let mine = self.mine();
        let (me, settings) = (self.me, self.settings);
        let links = &self.links;
        let Some(entry) = self.entries.get_mut(index) else {
            return first;
        };
        entry.copies += 1;
        entry.senders.insert(copy.transmitter);
        entry.covered = entry.covered.with(&around);
        for (node, lacks) in &mut entry.lacking {
            if *node == copy.transmitter || *node == copy.source || *node == copy.from {
                *lacks = 0.0;
            } else if links.hears(*node, copy.transmitter) {
                *lacks *= 1.0 - settings.hop_chance;
            } else if around.contains(*node) {
                *lacks *= 1.0 - settings.hop_chance / 2.0;
            }
        }
        for before in [copy.from, copy.source] {
            if before == 255
                || before == me
                || before == copy.transmitter
                || entry.senders.contains(before)
            {
                continue;
            }
            let reached = links.around(before);
            entry.senders.insert(before);
            entry.covered = entry.covered.with(&reached);
            for (node, lacks) in &mut entry.lacking {
                if reached.contains(*node) {
                    *lacks *= 1.0 - settings.second_hand;
                }
            }
        }
        if first && entry.state != State::Done {
            let rank = rank(entry, me, links, &around);
            let gain = entry.gain(links, &mine, &settings);
            entry.state = State::Waiting(now_us + delay_us(gain, rank, &settings, rng));
        }
        first
    }

    /// What is to be sent now, contention being over: call it when the radio is free. `busy` is the share of the
    /// last minutes in which the channel was; `allowed` whether the law has room.
    pub fn next(
        &mut self,
        now_us: u64,
        busy: f64,
        allowed: bool,
        rng: &mut impl Rng,
    ) -> Option<Relay<&T>> {
        let (me, settings) = (self.me, self.settings);
        let (mine, hearers) = (self.mine(), self.hearers());
        let least = settings.least_gain
            + (busy * settings.load_gain).min(settings.most_load_gain)
            + settings.dense_gain * hearers.len() as f64;
        let links = &self.links;
        let mut chosen = None;
        for (index, entry) in self.entries.iter_mut().enumerate() {
            match entry.state {
                State::Watching(until_us) if until_us <= now_us => {
                    entry.state = State::Done;
                    if entry.source == me && entry.is_unrepeated(&settings) {
                        let gain = entry.gain(links, &mine, &settings);
                        entry.state = State::Waiting(now_us + delay_us(gain, 0, &settings, rng));
                    }
                }
                State::Waiting(at_us) if at_us <= now_us => {
                    let gain = entry.gain(links, &mine, &settings);
                    if entry.source != me && gain < least + entry.far_gain(&settings) {
                        entry.state = State::Done;
                    } else if allowed && chosen.is_none() {
                        chosen = Some(index);
                    }
                }
                _ => {}
            }
        }
        let entry = self.entries.get_mut(chosen?)?;
        entry.state = State::Sending;
        Some(Relay {
            source: entry.source,
            id: entry.id,
            from: entry.from,
            hops_left: entry.hops_left,
            payload: &entry.payload,
        })
    }

    fn entry(&mut self, source: u8, id: u32) -> Option<&mut Entry<T>> {
        self.entries
            .iter_mut()
            .find(|entry| entry.source == source && entry.id == id)
    }

    /// It has left.
    pub fn sent(&mut self, source: u8, id: u32, now_us: u64) {
        let settings = self.settings;
        let Some(entry) = self.entry(source, id) else {
            return;
        };
        entry.sent += 1;
        for (_, lacks) in &mut entry.lacking {
            *lacks *= 1.0 - settings.hop_chance;
        }
        let wait = settings.patience * settings.frame_us as f64
            + f64::from(settings.window) * settings.slot_us as f64;
        entry.state = State::Watching(now_us + wait as u64);
    }

    /// The channel was busy: another try later.
    pub fn deferred(&mut self, source: u8, id: u32, now_us: u64, rng: &mut impl Rng) {
        let settings = self.settings;
        if let Some(entry) = self.entry(source, id) {
            let slots = rng.random_range(1..=settings.window.max(2));
            entry.state = State::Waiting(now_us + u64::from(slots) * settings.slot_us);
        }
    }

    /// When to ask again.
    pub fn wake_at_us(&self) -> Option<u64> {
        self.entries
            .iter()
            .filter_map(|entry| match entry.state {
                State::Waiting(at_us) | State::Watching(at_us) => Some(at_us),
                _ => None,
            })
            .min()
    }
}

/// How many of those who heard the same frame would add more than we, on the same ground.
fn rank<T>(entry: &Entry<T>, me: u8, links: &Links, rivals: &Nodes) -> u32 {
    let mut open = Nodes::default();
    for &(node, lacks) in &entry.lacking {
        if lacks > 0.5 {
            open.insert(node);
        }
    }
    let mine = open.len();
    let known = entry.covered.with(&entry.senders);
    rivals
        .iter()
        .filter(|&rival| rival != me && !entry.senders.contains(rival))
        .filter(|&rival| {
            let theirs = links.around(rival).without(&known);
            let shared = open.len() - open.without(&theirs).len();
            let count = theirs.len();
            shared > 0 && (count > mine || count == mine && rival < me)
        })
        .count() as u32
}

/// Who adds most goes first; chance divides those who add alike.
fn delay_us(gain: f64, rank: u32, settings: &Settings, rng: &mut impl Rng) -> u64 {
    let behind = settings.gain_slots / (1.0 + gain) + settings.rank_slots * f64::from(rank);
    let slots = behind + rng.random_range(0.0..f64::from(settings.window.max(1)));
    (slots * settings.slot_us as f64) as u64
}

#[cfg(test)]
mod tests;
