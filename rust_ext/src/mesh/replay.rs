//! Numbers that are used once: what this node sends under, and what it has heard (`docs/mesh.md`, M13).
//!
//! Frames of one transmitter are heard directly and cannot overtake each other, so the window of what was heard is
//! its upper edge: a counter must be above every one before it.

use thiserror::Error;

use super::frame::{Address, LETTERS};
use super::state::StateError;

/// How many counters a restart may skip, of those sent and of those heard: what is kept is always this much
/// ahead, so that a write to the disk is needed once in as many frames.
pub const AHEAD: u32 = 32;

/// No number is left.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("all {limit} numbers of this node are used: enrol it again (a new address and new keys)")]
pub struct UsedUp {
    /// How many there were.
    pub limit: u32,
}

/// Numbers to send under, reserved ahead: after a restart it goes on above everything that was ever promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserve {
    next: u32,
    promised: u32,
    limit: u32,
}

impl Reserve {
    /// Numbers from 0 to below `limit`.
    pub fn new(limit: u32) -> Self {
        Self::restored(0, limit)
    }

    /// Numbers from `first` on, for a node whose state is lost and that knows a number above all it ever used.
    pub fn starting_at(first: u32, limit: u32) -> Self {
        Self::restored(first.min(limit), limit)
    }

    fn restored(promised: u32, limit: u32) -> Self {
        Self {
            next: promised,
            promised,
            limit,
        }
    }

    /// The next number, and whether what [`Book::encode`] gives must be durable before it may be used.
    ///
    /// # Errors
    /// [`UsedUp`].
    pub fn take(&mut self) -> Result<(u32, bool), UsedUp> {
        let number = self.next;
        if number >= self.limit {
            return Err(UsedUp { limit: self.limit });
        }
        self.next = number + 1;
        let keep = self.next > self.promised;
        if keep {
            self.promised = self.next.saturating_add(AHEAD).min(self.limit);
        }
        Ok((number, keep))
    }

    /// Leaves [`AHEAD`] numbers out, for a neighbour that has lost count of them.
    pub fn skip(&mut self) {
        self.next = self.next.saturating_add(AHEAD).min(self.limit);
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Edge {
    /// Counters below this were heard, or may have been before a restart.
    next: u32,
    /// What is kept: a restart takes every counter below this for heard.
    promised: u32,
}

/// The highest counter heard from each transmitter. A slot costs 8 octets; there is one for every address, so that
/// nobody's is ever given up for another's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    edges: Box<[Edge; 256]>,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            edges: Box::new([Edge::default(); 256]),
        }
    }
}

impl Windows {
    /// Whether a counter was never heard from this transmitter.
    pub fn is_new(&self, transmitter: Address, counter: u32) -> bool {
        counter >= self.edges[usize::from(transmitter)].next && counter < u32::MAX
    }

    /// Notes a counter of an authentic frame; whether what [`Book::encode`] gives
    /// must be durable before the frame is acted on.
    pub(super) fn accept(&mut self, transmitter: Address, counter: u32) -> bool {
        let edge = &mut self.edges[usize::from(transmitter)];
        edge.next = counter.saturating_add(1);
        let keep = edge.next > edge.promised;
        if keep {
            edge.promised = edge.next.saturating_add(AHEAD);
        }
        keep
    }

    /// Takes every counter that was ever promised for heard.
    fn restore(&mut self, transmitter: Address, promised: u32) {
        self.edges[usize::from(transmitter)] = Edge {
            next: promised,
            promised,
        };
    }
}

/// Every number of a node that must never come twice, as it survives a power cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Book {
    /// Counters of the frames that this node sends.
    pub counters: Reserve,
    /// Numbers of the letters that this node writes.
    pub letters: Reserve,
    /// What it heard.
    pub windows: Windows,
}

impl Default for Book {
    /// Of a node that has never sent, under keys that no node had before.
    fn default() -> Self {
        Self {
            counters: Reserve::new(u32::MAX),
            letters: Reserve::new(LETTERS),
            windows: Windows::default(),
        }
    }
}

impl Book {
    /// What must survive a restart: the fingerprint of the network's key, the two reserves, and for each transmitter
    /// heard its address and its edge; 12 octets and 5 a transmitter.
    pub fn encode(&self, fingerprint: [u8; 4]) -> Vec<u8> {
        let mut kept = fingerprint.to_vec();
        kept.extend(self.counters.promised.to_be_bytes());
        kept.extend(self.letters.promised.to_be_bytes());
        for (transmitter, edge) in (0..=u8::MAX).zip(self.windows.edges.iter()) {
            if edge.promised > 0 {
                kept.push(transmitter);
                kept.extend(edge.promised.to_be_bytes());
            }
        }
        kept
    }

    /// Goes on above everything that was promised. Under another network key nothing was heard yet; the reserves go on,
    /// for the keys of the pairs are the same.
    ///
    /// # Errors
    /// [`StateError::Unreadable`].
    pub fn decode(kept: &[u8], fingerprint: [u8; 4]) -> Result<Self, StateError> {
        let broken = StateError::Unreadable("without its numbers");
        let (head, edges) = kept.split_at_checked(12).ok_or(broken.clone())?;
        let number = |octets: &[u8]| {
            octets
                .iter()
                .fold(0_u32, |number, octet| number << 8 | u32::from(*octet))
        };
        let (counters, letters) = (number(&head[4..8]), number(&head[8..]));
        if edges.len() % 5 != 0 || letters > LETTERS {
            return Err(broken);
        }
        let mut windows = Windows::default();
        if head[..4] == fingerprint {
            for edge in edges.chunks_exact(5) {
                windows.restore(edge[0], number(&edge[1..]));
            }
        }
        Ok(Self {
            counters: Reserve::restored(counters, u32::MAX),
            letters: Reserve::restored(letters, LETTERS),
            windows,
        })
    }
}

#[cfg(test)]
mod tests;
