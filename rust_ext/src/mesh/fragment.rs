//! Messages in parts: cut at the source, put together at the destination, and only what is missing sent again
//! (`docs/mesh.md`, M17, M18).

use thiserror::Error;

use super::frame::{Address, Letter, MAX_PARTS, PART_OCTETS, Part};
use super::seal::PAIR_OCTETS;

/// Longest message that the mesh takes.
pub const MAX_MESSAGE_OCTETS: usize = 2_048;
/// The same, sealed for its destination.
pub const MAX_SEALED_OCTETS: usize = MAX_MESSAGE_OCTETS + PAIR_OCTETS;
/// Octets that each part's body must have room for, so that the longest message goes in [`MAX_PARTS`].
pub const LEAST_ROOM_OCTETS: usize = MAX_SEALED_OCTETS.div_ceil(MAX_PARTS as usize);
/// Messages of one source that are put together at once.
pub const MAX_OF_SOURCE: usize = 3;
/// Messages that are put together at once. One costs at most 3.5 kB (its octets, and 16 a part): 56 kB in all.
pub const MAX_OPEN: usize = 16;

/// Why parts were not cut or not taken.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartError {
    /// Nothing to send, or too much.
    #[error(
        "message of {octets} octets, 1 to {MAX_MESSAGE_OCTETS} can be sent: shorten it or send two"
    )]
    Length {
        /// Its octets, without the seal.
        octets: usize,
    },
    /// Too many parts, each being so short.
    #[error("{octets} octets into parts of {room}: more than {MAX_PARTS} parts")]
    Room {
        /// Octets of the sealed message.
        octets: usize,
        /// Octets of each part.
        room: usize,
    },
    /// A part that does not belong to those before it.
    #[error("part {index} of letter {id} of node {source_node} does not fit the parts before it")]
    Mismatch {
        /// Source of the letter.
        source_node: Address,
        /// Its number.
        id: u32,
        /// Which part.
        index: u8,
    },
    /// As much as can be put together at once is at least as urgent.
    #[error(
        "letter {id} of node {source_node}: {open} messages are being put together, no room for another"
    )]
    Full {
        /// Source of the letter.
        source_node: Address,
        /// Its number.
        id: u32,
        /// How many there are.
        open: usize,
    },
    /// Octets that ask for nothing.
    #[error("request for parts of {0} octets that cannot be read")]
    Request(usize),
}

/// Cuts a sealed message: one piece when it fits a frame's body of `room` octets, else parts as equal as can be, so
/// that none is longer on air, and likelier lost, than it must be. A part of n lost costs 1/n of the message again.
///
/// # Errors
/// [`PartError::Length`] and [`PartError::Room`].
pub fn split(sealed: &[u8], room: usize) -> Result<Vec<&[u8]>, PartError> {
    let octets = sealed.len();
    if octets == 0 || octets > MAX_SEALED_OCTETS {
        return Err(PartError::Length { octets });
    }
    if octets <= room {
        return Ok(vec![sealed]);
    }
    let room = room.saturating_sub(PART_OCTETS);
    let count = octets.div_ceil(room.max(1));
    if room == 0 || count > usize::from(MAX_PARTS) {
        return Err(PartError::Room { octets, room });
    }
    Ok(sealed.chunks(octets.div_ceil(count)).collect())
}

/// What a [`super::frame::Kind::Repeat`] says: send these parts of this letter of yours again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Number of the letter at the source.
    pub id: u32,
    /// Bit n is part n.
    pub missing: u64,
}

impl Request {
    /// Three octets of number, then the bits from part 0 on, eight an octet: 4 to 11 octets.
    pub fn encode(&self) -> Vec<u8> {
        let mut octets = self.id.to_be_bytes()[1..].to_vec();
        let bits = self.missing.to_le_bytes();
        let used = bits
            .iter()
            .rposition(|bits| *bits != 0)
            .map_or(0, |last| last + 1);
        octets.extend(&bits[..used]);
        octets
    }

    /// Reads what [`Request::encode`] wrote.
    ///
    /// # Errors
    /// [`PartError::Request`].
    pub fn decode(octets: &[u8]) -> Result<Self, PartError> {
        let refused = PartError::Request(octets.len());
        let (&[high, middle, low], bits) = octets.split_first_chunk().ok_or(refused)?;
        let mut missing = [0; 8];
        if bits.len() > missing.len() || bits.last().is_none_or(|last| *last == 0) {
            return Err(refused);
        }
        missing[..bits.len()].copy_from_slice(bits);
        Ok(Self {
            id: u32::from_be_bytes([0, high, middle, low]),
            missing: u64::from_le_bytes(missing),
        })
    }
}

/// What a part brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Others are still missing: bit n is part n.
    Missing(u64),
    /// It was there already.
    Duplicate,
    /// The sealed message, whole; nothing is kept of it here.
    Whole(Vec<u8>),
}

/// A message of which some parts are here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// What all its parts say of it.
    pub letter: Letter,
    /// When the last new part came, in microseconds.
    pub touched_us: u64,
    parts: Vec<Option<Box<[u8]>>>,
}

impl Open {
    /// The parts that are not here: bit n is part n.
    pub fn missing(&self) -> u64 {
        let bit = |(index, part): (usize, &Option<_>)| u64::from(part.is_none()) << index;
        self.parts.iter().enumerate().map(bit).sum()
    }

    fn octets(&self) -> usize {
        self.parts.iter().flatten().map(|part| part.len()).sum()
    }
}

/// Messages being put together, bounded for each source and in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assembly {
    open: Vec<Open>,
}

impl Assembly {
    /// Takes a part of an authentic frame. One of more parts than those before begins the message anew. When there is no room, the least urgent message that waits longest gives
    /// way to one that is at least as urgent.
    ///
    /// # Errors
    /// [`PartError::Mismatch`] and [`PartError::Full`]; nothing has changed then.
    pub fn accept(
        &mut self,
        letter: &Letter,
        part: Part,
        body: &[u8],
        now_us: u64,
    ) -> Result<Progress, PartError> {
        let mismatch = PartError::Mismatch {
            source_node: letter.source,
            id: letter.id,
            index: part.index,
        };
        if part.index >= part.count || !(2..=MAX_PARTS).contains(&part.count) || body.is_empty() {
            return Err(mismatch);
        }
        let index = usize::from(part.index);
        let at = match self.find(letter.source, letter.id) {
            Some(at) => at,
            None if body.len() > MAX_SEALED_OCTETS => return Err(mismatch),
            None => self.begin(letter, part, now_us)?,
        };
        let open = &mut self.open[at];
        let more = usize::from(part.count) > open.parts.len();
        if open.letter == *letter && more && body.len() <= MAX_SEALED_OCTETS {
            // Its source cut it again, for frames that may be less long: the former parts are of no use.
            open.parts = vec![None; part.count.into()];
        }
        if open.letter != *letter || open.parts.len() != usize::from(part.count) {
            return Err(mismatch);
        }
        if let Some(here) = &open.parts[index] {
            return if **here == *body {
                Ok(Progress::Duplicate)
            } else {
                Err(mismatch)
            };
        }
        if open.octets() + body.len() > MAX_SEALED_OCTETS {
            return Err(mismatch);
        }
        open.parts[index] = Some(body.into());
        open.touched_us = now_us;
        let missing = open.missing();
        if missing != 0 {
            return Ok(Progress::Missing(missing));
        }
        let whole = self.open.swap_remove(at);
        Ok(Progress::Whole(
            whole.parts.into_iter().flatten().flatten().collect(),
        ))
    }

    fn find(&self, source: Address, id: u32) -> Option<usize> {
        let same = |open: &Open| open.letter.source == source && open.letter.id == id;
        self.open.iter().position(same)
    }

    fn begin(&mut self, letter: &Letter, part: Part, now_us: u64) -> Result<usize, PartError> {
        let of_source = |open: &&Open| open.letter.source == letter.source;
        let crowded = self.open.iter().filter(of_source).count() >= MAX_OF_SOURCE;
        if crowded || self.open.len() >= MAX_OPEN {
            let given_up = (self.open.iter().enumerate())
                .filter(|(_, open)| !crowded || of_source(open))
                .filter(|(_, open)| open.letter.lane >= letter.lane)
                .max_by_key(|(_, open)| (open.letter.lane, u64::MAX - open.touched_us))
                .map(|(at, _)| at);
            let Some(at) = given_up else {
                return Err(PartError::Full {
                    source_node: letter.source,
                    id: letter.id,
                    open: self.open.len(),
                });
            };
            self.open.swap_remove(at);
        }
        self.open.push(Open {
            letter: *letter,
            touched_us: now_us,
            parts: vec![None; part.count.into()],
        });
        Ok(self.open.len() - 1)
    }

    /// The messages that wait for parts, in no order.
    pub fn open(&self) -> &[Open] {
        &self.open
    }

    /// Gives up every message of which no new part came for so long; they are told, so that it can be counted.
    pub fn expire(&mut self, quiet_us: u64, now_us: u64) -> Vec<Letter> {
        let is_stale = |open: &Open| open.touched_us.saturating_add(quiet_us) <= now_us;
        let (stale, fresh) = std::mem::take(&mut self.open)
            .into_iter()
            .partition::<Vec<_>, _>(is_stale);
        self.open = fresh;
        stale.into_iter().map(|open| open.letter).collect()
    }

    /// Gives up one message, if it is here.
    pub fn forget(&mut self, source: Address, id: u32) {
        if let Some(at) = self.find(source, id) {
            self.open.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests;
