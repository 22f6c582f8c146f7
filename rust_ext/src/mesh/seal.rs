//! Seals: of each hop with the network's key, of each pair of nodes with a key of its own (`docs/mesh.md`, M11, M12).
//!
//! AES-128 in CCM (RFC 3610, NIST SP 800-38C) with the four-octet tag of IEEE 802.15.4. No key is ever printed.

use std::collections::BTreeMap;
use std::fmt;

use aes::Aes128;
use ccm::Ccm;
use ccm::aead::{AeadInOut, KeyInit};
use ccm::consts::{U4, U13};
use hkdf::Hkdf;
use sha2::Sha256;
use thiserror::Error;
use x25519_dalek::{PublicKey, StaticSecret};

use super::frame::{
    Address, CLEAR_OCTETS, Clear, EVERYBODY, Frame, FrameError, Kind, Letter, TAG_OCTETS, within,
};
use super::replay::Windows;

/// Octets of a network's key.
pub const NETWORK_KEY_OCTETS: usize = 16;
/// Octets of a node's private or public key (X25519, RFC 7748).
pub const NODE_KEY_OCTETS: usize = 32;
/// Octets that the seal of a pair adds to a message, once, however many parts it has.
pub const PAIR_OCTETS: usize = TAG_OCTETS;
/// Most nodes of a network.
pub const MAX_NODES: usize = 100;

type Cipher = Ccm<Aes128, U4, U13>;
type Nonce = [u8; 13];

/// Why a key is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// A key of the wrong length.
    #[error("{name}: {octets} octets, a key has {expected}")]
    Length {
        /// Whose key.
        name: String,
        /// Octets there are.
        octets: usize,
        /// Octets there must be.
        expected: usize,
    },
    /// Octets that are all the same: a file that was never filled in.
    #[error("{0}: every octet is the same, that is no key; make a new one")]
    Blank(String),
    /// A public key with which everybody shares the same secret (RFC 7748 §6.1).
    #[error("public key of node {0}: not a key that X25519 makes; fetch it from that node again")]
    Weak(Address),
    /// Two nodes with one key.
    #[error("nodes {0} and {1} have the same public key: one of them must make a new one")]
    Twice(Address, Address),
    /// The roster has another key for this node.
    #[error(
        "the roster's public key of this node, {0}, is not that of its private key: enrol the node again"
    )]
    NotMine(Address),
    /// An address that no node can have.
    #[error("node {0}: nodes are 1 to 254")]
    Address(Address),
    /// A network must have a number.
    #[error("network 0: a network's number is 1 to 255")]
    Network,
    /// More nodes than the tables are made for.
    #[error("{0} nodes in the roster, {MAX_NODES} at most: divide the network")]
    TooMany(usize),
}

fn blank(octets: &[u8]) -> bool {
    octets.windows(2).all(|pair| pair[0] == pair[1])
}

fn key<const N: usize>(name: &str, octets: &[u8]) -> Result<[u8; N], KeyError> {
    let key = octets.try_into().map_err(|_| KeyError::Length {
        name: name.to_owned(),
        octets: octets.len(),
        expected: N,
    })?;
    if blank(octets) {
        return Err(KeyError::Blank(name.to_owned()));
    }
    Ok(key)
}

fn check_address(address: Address) -> Result<(), KeyError> {
    if (1..=254).contains(&address) {
        return Ok(());
    }
    Err(KeyError::Address(address))
}

/// What all nodes of a network share.
#[derive(Clone)]
pub struct NetworkKey([u8; NETWORK_KEY_OCTETS]);

impl NetworkKey {
    /// From its octets.
    ///
    /// # Errors
    /// [`KeyError::Length`] and [`KeyError::Blank`].
    pub fn new(octets: &[u8]) -> Result<Self, KeyError> {
        key("network key", octets).map(Self)
    }
}

impl fmt::Debug for NetworkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NetworkKey(…)")
    }
}

/// What one node alone has.
#[derive(Clone)]
pub struct PrivateKey(StaticSecret);

impl PrivateKey {
    /// From its octets.
    ///
    /// # Errors
    /// [`KeyError::Length`] and [`KeyError::Blank`].
    pub fn new(octets: &[u8]) -> Result<Self, KeyError> {
        key::<NODE_KEY_OCTETS>("private key", octets).map(|octets| Self(octets.into()))
    }

    /// What the roster tells the others.
    pub fn public(&self) -> [u8; NODE_KEY_OCTETS] {
        PublicKey::from(&self.0).to_bytes()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

/// A key made of a secret for one use (HKDF-SHA256, RFC 5869).
fn derive<const N: usize>(secret: &[u8], uses: &[&[u8]]) -> [u8; N] {
    let mut made = [0; N];
    let done = Hkdf::<Sha256>::new(Some(b"evy mesh 1"), secret).expand_multi_info(uses, &mut made);
    assert!(done.is_ok(), "a key is far below 255 hashes");
    made
}

/// Why a frame was not opened. Nothing has changed then.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// No frame of this format, or one whose sealed fields mean nothing.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Of another network, by its number.
    #[error("frame of network {0}")]
    OtherNetwork(u8),
    /// A counter that was heard before.
    #[error("frame {counter} of node {transmitter} was heard before")]
    Replayed {
        /// Who is said to have sent it.
        transmitter: Address,
        /// Its counter.
        counter: u32,
    },
    /// Our own frame: an echo, or another node with this address.
    #[error("frame said to be of this node: its own, sent back, or another node has its address")]
    Mine,
    /// The tag is not one that the network's key makes.
    #[error("forged or damaged frame, said to be of node {transmitter}")]
    Forged {
        /// Who is said to have sent it.
        transmitter: Address,
    },
}

/// A frame that the network's key has made, for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What was in it.
    pub frame: Frame,
    /// Its counter.
    pub counter: u32,
    /// What is kept must be durable before the frame is acted on.
    pub keep: bool,
}

/// The seal of each hop.
pub struct HopSeal {
    network: u8,
    me: Address,
    cipher: Cipher,
    fingerprint: [u8; 4],
}

impl fmt::Debug for HopSeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HopSeal(network {})", self.network)
    }
}

impl HopSeal {
    /// With a network's number, 1 to 255, this node's address, and the network's key.
    ///
    /// # Errors
    /// [`KeyError::Network`] and [`KeyError::Address`].
    pub fn new(network: u8, me: Address, key: &NetworkKey) -> Result<Self, KeyError> {
        if network == 0 {
            return Err(KeyError::Network);
        }
        check_address(me)?;
        let hop: [u8; 16] = derive(&key.0, &[b"hop", &[network]]);
        Ok(Self {
            network,
            me,
            cipher: Cipher::new(&hop.into()),
            fingerprint: derive(&key.0, &[b"fingerprint", &[network]]),
        })
    }

    /// Tells one network's key from another's in what is kept; says nothing about the key.
    pub fn fingerprint(&self) -> [u8; 4] {
        self.fingerprint
    }

    /// The octets of a frame under a counter that was never used before.
    ///
    /// # Errors
    /// [`FrameError`] when a field means nothing, the frame is too long, or another node is its transmitter.
    pub fn seal(&self, frame: &Frame, counter: u32) -> Result<Vec<u8>, FrameError> {
        let me = self.me.into();
        within("transmitter", frame.transmitter.into(), me, me)?;
        let mut inner = frame.inner()?;
        let clear = Clear {
            network: self.network,
            transmitter: frame.transmitter,
            next_hop: frame.next_hop,
            hops_left: frame.hops_left,
            restarted: frame.restarted,
            counter,
        };
        let mut octets = clear.write()?.to_vec();
        let tag = self
            .cipher
            .encrypt_inout_detached(
                &hop_nonce(&clear).into(),
                &octets,
                inner.as_mut_slice().into(),
            )
            .map_err(|_| FrameError::TooLong {
                octets: frame.octets(),
            })?;
        octets.append(&mut inner);
        octets.extend(tag);
        Ok(octets)
    }

    /// Opens a frame and notes its counter as heard. An authentic frame that cannot be read counts as heard too.
    ///
    /// # Errors
    /// [`OpenError`]; `windows` is as it was unless the frame is authentic.
    pub fn open(&self, octets: &[u8], windows: &mut Windows) -> Result<Opened, OpenError> {
        let clear = Clear::read(octets)?;
        let (transmitter, counter) = (clear.transmitter, clear.counter);
        if clear.network != self.network {
            return Err(OpenError::OtherNetwork(clear.network));
        }
        if transmitter == self.me {
            return Err(OpenError::Mine);
        }
        if !windows.is_new(transmitter, counter) {
            return Err(OpenError::Replayed {
                transmitter,
                counter,
            });
        }
        let (head, sealed) = octets.split_at(CLEAR_OCTETS);
        let Some((sealed, tag)) = sealed.split_last_chunk::<TAG_OCTETS>() else {
            return Err(OpenError::Forged { transmitter });
        };
        let mut inner = sealed.to_vec();
        self.cipher
            .decrypt_inout_detached(
                &hop_nonce(&clear).into(),
                head,
                inner.as_mut_slice().into(),
                &(*tag).into(),
            )
            .map_err(|_| OpenError::Forged { transmitter })?;
        let keep = windows.accept(transmitter, counter);
        let frame = Frame::from_inner(&clear, &inner)?;
        Ok(Opened {
            frame,
            counter,
            keep,
        })
    }
}

/// Never the same twice: a transmitter never counts a frame twice.
fn hop_nonce(clear: &Clear) -> Nonce {
    let mut nonce = [0; 13];
    nonce[0] = clear.transmitter;
    nonce[1..5].copy_from_slice(&clear.counter.to_be_bytes());
    nonce
}

/// Why a message was not sealed or not opened for a pair of nodes.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PairError {
    /// The roster has no key of that node.
    #[error("no public key of node {0} in the roster: enrol it, or fetch the roster again")]
    NoKey(Address),
    /// Letters are sealed at their source and opened at their destination, nowhere else.
    #[error("a letter from {from} to {to} is not this node's to seal or open")]
    NotMine {
        /// Its source.
        from: Address,
        /// Its destination.
        to: Address,
    },
    /// A receipt has the number of what it answers, so it may say one thing only.
    #[error("a receipt of {0} octets, it has none")]
    Receipt(usize),
    /// More than the cipher takes under one nonce.
    #[error("body of {0} octets, 65,535 at most")]
    TooLong(usize),
    /// Damaged, or sealed with another key.
    #[error("letter {id} of node {from} was not sealed by it for us")]
    Forged {
        /// Its source.
        from: Address,
        /// Its number.
        id: u32,
    },
}

/// The seals between this node and each other one.
pub struct PairSeals {
    me: Address,
    ciphers: BTreeMap<Address, Cipher>,
}

impl fmt::Debug for PairSeals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with: Vec<_> = self.ciphers.keys().collect();
        write!(f, "PairSeals({} with {with:?})", self.me)
    }
}

impl PairSeals {
    /// With a network's number, this node's address and private key, and the public key of every node; its own may
    /// be among them. About 0.1 ms and 0.8 kB a node.
    ///
    /// # Errors
    /// [`KeyError`] names the key.
    pub fn new(
        network: u8,
        me: Address,
        private: &PrivateKey,
        roster: &BTreeMap<Address, Vec<u8>>,
    ) -> Result<Self, KeyError> {
        if roster.len() > MAX_NODES {
            return Err(KeyError::TooMany(roster.len()));
        }
        check_address(me)?;
        let mine = private.public();
        let mut seen: BTreeMap<[u8; NODE_KEY_OCTETS], Address> = BTreeMap::from([(mine, me)]);
        let mut ciphers = BTreeMap::new();
        for (&address, public) in roster {
            check_address(address)?;
            let theirs: [u8; NODE_KEY_OCTETS] =
                key(&format!("public key of node {address}"), public)?;
            if address == me {
                if theirs != mine {
                    return Err(KeyError::NotMine(me));
                }
                continue;
            }
            if let Some(other) = seen.insert(theirs, address) {
                return Err(KeyError::Twice(other, address));
            }
            let secret = private.0.diffie_hellman(&PublicKey::from(theirs));
            if !secret.was_contributory() {
                return Err(KeyError::Weak(address));
            }
            let (low, high) = (mine.min(theirs), mine.max(theirs));
            let pair: [u8; 16] = derive(secret.as_bytes(), &[b"pair", &[network], &low, &high]);
            ciphers.insert(address, Cipher::new(&pair.into()));
        }
        Ok(Self { me, ciphers })
    }

    /// Whether letters to this node can be sealed.
    pub fn knows(&self, address: Address) -> bool {
        address == EVERYBODY || self.ciphers.contains_key(&address)
    }

    /// A body sealed for its destination alone: [`PAIR_OCTETS`] longer. One to everybody stays as it is; each hop
    /// seals it with a key that all have, and another seal would keep nobody out.
    ///
    /// # Errors
    /// [`PairError`].
    pub fn seal(&self, letter: &Letter, body: &[u8]) -> Result<Vec<u8>, PairError> {
        if letter.source != self.me {
            return Err(not_mine(letter));
        }
        if letter.kind == Kind::Receipt && !body.is_empty() {
            return Err(PairError::Receipt(body.len()));
        }
        let mut sealed = body.to_vec();
        if letter.destination != EVERYBODY {
            let tag = self
                .cipher(letter.destination)?
                .encrypt_inout_detached(
                    &letter_nonce(letter).into(),
                    &[],
                    sealed.as_mut_slice().into(),
                )
                .map_err(|_| PairError::TooLong(body.len()))?;
            sealed.extend(tag);
        }
        Ok(sealed)
    }

    /// Opens what [`PairSeals::seal`] made at the source.
    ///
    /// # Errors
    /// [`PairError`].
    pub fn open(&self, letter: &Letter, sealed: &[u8]) -> Result<Vec<u8>, PairError> {
        if letter.destination == EVERYBODY {
            return Ok(sealed.to_vec());
        }
        if letter.destination != self.me {
            return Err(not_mine(letter));
        }
        let cipher = self.cipher(letter.source)?;
        let forged = PairError::Forged {
            from: letter.source,
            id: letter.id,
        };
        let (body, tag) = sealed.split_last_chunk::<PAIR_OCTETS>().ok_or(forged)?;
        let mut body = body.to_vec();
        cipher
            .decrypt_inout_detached(
                &letter_nonce(letter).into(),
                &[],
                body.as_mut_slice().into(),
                &(*tag).into(),
            )
            .map_err(|_| forged)?;
        Ok(body)
    }

    fn cipher(&self, address: Address) -> Result<&Cipher, PairError> {
        self.ciphers.get(&address).ok_or(PairError::NoKey(address))
    }
}

fn not_mine(letter: &Letter) -> PairError {
    PairError::NotMine {
        from: letter.source,
        to: letter.destination,
    }
}

/// Every field of a letter, so that none can be changed on the way; never the same for two bodies, because a source
/// never numbers two letters alike. A receipt has the number of what it answers, and its kind and source tell it apart.
fn letter_nonce(letter: &Letter) -> Nonce {
    let mut nonce = [0; 13];
    nonce[0] = letter.source;
    nonce[1] = letter.destination;
    nonce[2..6].copy_from_slice(&letter.id.to_be_bytes());
    nonce[6] = letter.flags();
    nonce
}

#[cfg(test)]
mod tests;
