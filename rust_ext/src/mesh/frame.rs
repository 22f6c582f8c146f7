//! What one LoRa frame carries, octet by octet (`docs/mesh.md`, M10).
//!
//! Eight octets in the clear say whose frame this is and who should take it up; all else is sealed
//! ([`super::seal`]). A [`Letter`] is what stays the same from its source to its destination.

use thiserror::Error;

/// A node of the network, 1 to 254.
pub type Address = u8;
/// No node; never in a frame.
pub const NOBODY: Address = 0;
/// Every node of the network.
pub const EVERYBODY: Address = 255;

/// Version that this code writes and reads, in three bits.
pub const VERSION: u8 = 1;
/// Octets in the clear.
pub const CLEAR_OCTETS: usize = 8;
/// Sealed octets before the body of a whole message; a part of one has [`PART_OCTETS`] more.
pub const INNER_OCTETS: usize = 6;
/// Number and count of a part.
pub const PART_OCTETS: usize = 2;
/// Octets of the tag that each hop checks.
pub const TAG_OCTETS: usize = 4;
/// What a frame with a whole message costs beside its body.
pub const OVERHEAD_OCTETS: usize = CLEAR_OCTETS + INNER_OCTETS + TAG_OCTETS;
/// Longest frame that a LoRa modem takes (SX1276 datasheet §4.1.1.6: the length is one octet).
pub const MAX_FRAME_OCTETS: usize = 255;
/// Most hops that a letter may still have to go, in four bits.
pub const MAX_HOPS: u8 = 15;
/// Numbers of letters are below this: three octets on the air.
pub const LETTERS: u32 = 1 << 24;
/// Bit of the flags: [`Frame::again`].
const AGAIN: u8 = 0x10;
/// Bit of the flags: number and count of a part follow.
const IS_PART: u8 = 0x01;
/// Most parts of a message: what is missing fits 64 bits.
pub const MAX_PARTS: u8 = 64;

/// Why octets are no frame, or a frame cannot be written.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// Too few octets for a header and a tag.
    #[error("frame of {octets} octets, at least {least}")]
    TooShort {
        /// Octets there are.
        octets: usize,
        /// Octets there must be.
        least: usize,
    },
    /// More octets than a modem takes.
    #[error("frame of {octets} octets, {MAX_FRAME_OCTETS} at most: send the message in more parts")]
    TooLong {
        /// Octets there are.
        octets: usize,
    },
    /// Written by a program of another version.
    #[error("frame of version {0}, this node speaks {VERSION}: update the older node")]
    Version(u8),
    /// A field has a value that means nothing.
    #[error("{field} of a frame is {value}, not in {least} to {most}")]
    Field {
        /// Its name.
        field: &'static str,
        /// Its value.
        value: u32,
        /// Least value with a meaning.
        least: u32,
        /// Greatest value with a meaning.
        most: u32,
    },
}

pub(super) fn within(
    field: &'static str,
    value: u32,
    least: u32,
    most: u32,
) -> Result<(), FrameError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(FrameError::Field {
        field,
        value,
        least,
        most,
    })
}

/// How much hangs on a message, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Life at risk.
    Flash,
    /// Needed within hours or days.
    Priority,
    /// Everything else.
    Routine,
}

impl Lane {
    /// Every lane, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Flash, Self::Priority, Self::Routine];

    /// Name as in a subject's last token.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flash => "flash",
            Self::Priority => "priority",
            Self::Routine => "routine",
        }
    }

    /// The lane of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.name() == name)
    }
}

/// What a letter is. A number on the air is never given another meaning; a new kind takes a free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A message, or a part of one.
    Data,
    /// What a node says of itself and whom it hears; for neighbours, never relayed.
    Beacon,
    /// «I have it»: answers a frame of a neighbour. Source, number and part are those of what it answers.
    HopAck,
    /// «It arrived»: from the destination to the source, with the number of the letter that arrived, no body.
    Receipt,
    /// «Send these parts again»: a letter of its own number; the body says of which and what is missing.
    Repeat,
}

impl Kind {
    /// Every kind; the index is the number on the air.
    const ALL: [Self; 5] = [
        Self::Data,
        Self::Beacon,
        Self::HopAck,
        Self::Receipt,
        Self::Repeat,
    ];
}

/// What stays the same on the whole way; the seal of a pair covers every field of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Letter {
    /// Who wrote it.
    pub source: Address,
    /// For whom it is; [`EVERYBODY`] for a broadcast.
    pub destination: Address,
    /// Its number at the source, below [`LETTERS`], never used twice while a network's key lasts.
    pub id: u32,
    /// What it is.
    pub kind: Kind,
    /// How much hangs on it.
    pub lane: Lane,
    /// Whether the destination shall say that it arrived.
    pub wants_receipt: bool,
}

impl Letter {
    /// Kind, lane and the wish for a receipt in one octet; bits are left for [`AGAIN`] and [`IS_PART`].
    pub(super) fn flags(&self) -> u8 {
        (self.kind as u8) << 5 | (self.lane as u8) << 2 | u8::from(self.wants_receipt) << 1
    }

    fn check(&self) -> Result<(), FrameError> {
        within("source", self.source.into(), 1, 254)?;
        within("destination", self.destination.into(), 1, 255)?;
        within("number", self.id, 0, LETTERS - 1)
    }
}

/// Which part of a message a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    /// From 0.
    pub index: u8,
    /// 2 to [`MAX_PARTS`].
    pub count: u8,
}

impl Part {
    fn check(self) -> Result<(), FrameError> {
        within("count of parts", self.count.into(), 2, MAX_PARTS.into())?;
        within("part", self.index.into(), 0, u32::from(self.count) - 1)
    }
}

/// One frame, open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Whose antenna it leaves.
    pub transmitter: Address,
    /// Which neighbour shall take it up; [`EVERYBODY`] when all may.
    pub next_hop: Address,
    /// How many hops it may go after this one, [`MAX_HOPS`] at most.
    pub hops_left: u8,
    /// The transmitter has lost count of what it heard: neighbours should skip
    /// [`super::replay::AHEAD`] of their counters, or it takes their next frames for old ones.
    pub restarted: bool,
    /// The source sends it once more on its whole way: who carried it before carries it again.
    pub again: bool,
    /// What it carries on.
    pub letter: Letter,
    /// Which part, when the message has more than one.
    pub part: Option<Part>,
    /// The octets for the next node (beacon) or the destination (data, sealed by the pair's key).
    pub body: Vec<u8>,
}

impl Frame {
    /// Octets on the air, the tag included.
    pub fn octets(&self) -> usize {
        let part = if self.part.is_some() { PART_OCTETS } else { 0 };
        OVERHEAD_OCTETS + part + self.body.len()
    }

    /// The octets that are sealed.
    ///
    /// # Errors
    /// [`FrameError::TooLong`], and [`FrameError::Field`] for what means nothing.
    pub fn inner(&self) -> Result<Vec<u8>, FrameError> {
        let octets = self.octets();
        if octets > MAX_FRAME_OCTETS {
            return Err(FrameError::TooLong { octets });
        }
        self.letter.check()?;
        let [_, high, middle, low] = self.letter.id.to_be_bytes();
        let mut inner = Vec::with_capacity(octets - CLEAR_OCTETS);
        inner.extend([self.letter.source, self.letter.destination]);
        inner.extend([high, middle, low]);
        let again = if self.again { AGAIN } else { 0 };
        let is_part = if self.part.is_some() { IS_PART } else { 0 };
        inner.push(self.letter.flags() | again | is_part);
        if let Some(part) = self.part {
            part.check()?;
            inner.extend([part.index, part.count]);
        }
        inner.extend(&self.body);
        Ok(inner)
    }

    /// Reads what was sealed; what is authentic may still come from a newer or a broken program.
    ///
    /// # Errors
    /// [`FrameError`] as for [`Frame::inner`].
    pub fn from_inner(clear: &Clear, inner: &[u8]) -> Result<Self, FrameError> {
        let octets = CLEAR_OCTETS + inner.len() + TAG_OCTETS;
        if octets > MAX_FRAME_OCTETS {
            return Err(FrameError::TooLong { octets });
        }
        let short = |least| FrameError::TooShort { octets, least };
        let Some((&[source, destination, high, middle, low, flags], rest)) =
            inner.split_first_chunk()
        else {
            return Err(short(OVERHEAD_OCTETS));
        };
        let kind = flags >> 5;
        let lane = flags >> 2 & 3;
        within("kind", kind.into(), 0, 4)?;
        within("lane", lane.into(), 0, 2)?;
        let (part, body) = if flags & IS_PART == 0 {
            (None, rest)
        } else {
            let Some((&[index, count], body)) = rest.split_first_chunk() else {
                return Err(short(OVERHEAD_OCTETS + PART_OCTETS));
            };
            let part = Part { index, count };
            part.check()?;
            (Some(part), body)
        };
        let letter = Letter {
            source,
            destination,
            id: u32::from_be_bytes([0, high, middle, low]),
            kind: Kind::ALL[usize::from(kind)],
            lane: Lane::ALL[usize::from(lane)],
            wants_receipt: flags & 2 != 0,
        };
        letter.check()?;
        Ok(Self {
            transmitter: clear.transmitter,
            next_hop: clear.next_hop,
            hops_left: clear.hops_left,
            restarted: clear.restarted,
            again: flags & AGAIN != 0,
            letter,
            part,
            body: body.to_vec(),
        })
    }
}

/// The octets that anybody can read; the tag covers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clear {
    /// Hint whose frame this is, 1 to 255; only the key decides.
    pub network: u8,
    /// Whose antenna it left.
    pub transmitter: Address,
    /// Who shall take it up.
    pub next_hop: Address,
    /// See [`Frame::hops_left`].
    pub hops_left: u8,
    /// See [`Frame::restarted`].
    pub restarted: bool,
    /// The transmitter's count of frames, never used twice while a network's key lasts.
    pub counter: u32,
}

impl Clear {
    /// As octets.
    ///
    /// # Errors
    /// [`FrameError::Field`] for an address that no node has, or too many hops.
    pub fn write(&self) -> Result<[u8; CLEAR_OCTETS], FrameError> {
        self.check()?;
        let [a, b, c, d] = self.counter.to_be_bytes();
        let first = VERSION << 5 | self.hops_left << 1 | u8::from(self.restarted);
        Ok([
            first,
            self.network,
            self.transmitter,
            self.next_hop,
            a,
            b,
            c,
            d,
        ])
    }

    /// Reads the first octets of a frame. Nothing it says is known to be true.
    ///
    /// # Errors
    /// Every [`FrameError`]; what follows the clear octets must be long enough for the rest.
    pub fn read(frame: &[u8]) -> Result<Self, FrameError> {
        let octets = frame.len();
        if octets > MAX_FRAME_OCTETS {
            return Err(FrameError::TooLong { octets });
        }
        let (Some((&[first, network, transmitter, next_hop, a, b, c, d], _)), true) =
            (frame.split_first_chunk(), octets >= OVERHEAD_OCTETS)
        else {
            let least = OVERHEAD_OCTETS;
            return Err(FrameError::TooShort { octets, least });
        };
        if first >> 5 != VERSION {
            return Err(FrameError::Version(first >> 5));
        }
        let clear = Self {
            network,
            transmitter,
            next_hop,
            hops_left: first >> 1 & MAX_HOPS,
            restarted: first & 1 != 0,
            counter: u32::from_be_bytes([a, b, c, d]),
        };
        clear.check()?;
        Ok(clear)
    }

    fn check(&self) -> Result<(), FrameError> {
        within("network", self.network.into(), 1, 255)?;
        within("transmitter", self.transmitter.into(), 1, 254)?;
        within("next hop", self.next_hop.into(), 1, 255)?;
        within("hops left", self.hops_left.into(), 0, MAX_HOPS.into())
    }
}

#[cfg(test)]
mod tests;
