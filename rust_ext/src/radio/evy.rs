//! Our mesh node as a station on the simulated channel.

#![allow(clippy::cast_possible_truncation)] // at most 254 nodes; decibels of a hundredth are enough

use std::collections::BTreeMap;
use std::sync::Arc;

use super::channel::Node as Number;
use super::run::{Message, Sensed, Station, Step};
use crate::mesh::airtime::Modulation;
use crate::mesh::frame::{Address, Lane};
use crate::mesh::node::{Node, Setup, State};
use crate::mesh::region::{Channel, Region};
use crate::mesh::seal::{HopSeal, NetworkKey, PairSeals, PrivateKey};

/// One node of ours. The first four octets of a message are the simulator's number of it.
pub struct Evy {
    node: Node,
    setup: Setup,
    keys: Keys,
    /// What was made durable last.
    kept: Vec<u8>,
    /// Own messages that have not come to their end, by their number in the mesh: to whom, and what.
    own: BTreeMap<u32, (Option<Address>, Vec<u8>)>,
    broken_us: u64,
    delivered: Vec<u32>,
    /// Own messages refused by back-pressure.
    pub refused: u32,
}

/// The seals of all nodes of a network, made once: 100 nodes take about a second.
#[derive(Clone)]
pub struct Keys {
    network: NetworkKey,
    pairs: Vec<Arc<PairSeals>>,
}

impl Keys {
    /// Keys for so many nodes that anybody can guess.
    ///
    /// # Panics
    /// When there are more nodes than a network has.
    pub fn new(count: usize) -> Self {
        let network = NetworkKey::new(b"simulated netkey").expect("a key");
        let private: Vec<PrivateKey> = (0..count)
            .map(|node| {
                let mut octets = [7; 32];
                octets[1] = node as u8;
                octets[2] = 9;
                PrivateKey::new(&octets).expect("a key")
            })
            .collect();
        let roster: BTreeMap<Address, Vec<u8>> = private
            .iter()
            .enumerate()
            .map(|(node, key)| (node as u8 + 1, key.public().to_vec()))
            .collect();
        let pairs = private
            .iter()
            .enumerate()
            .map(|(node, key)| {
                Arc::new(PairSeals::new(1, node as u8 + 1, key, &roster).expect("keys"))
            })
            .collect();
        Self { network, pairs }
    }
}

impl Evy {
    /// Node `me` of a network with these keys.
    ///
    /// # Panics
    /// When the keys have no such node.
    pub fn new(me: Number, keys: &Keys, modulation: Modulation, seed: u64) -> Self {
        let address = me as u8 + 1;
        let setup = Setup {
            address,
            channel: Channel::new(Region::Eu868, 869_525_000, modulation, 0, 255)
                .expect("a lawful channel"),
            seed,
        };
        Self {
            node: start(&setup, keys, 0),
            setup,
            keys: keys.clone(),
            kept: Vec::new(),
            own: BTreeMap::new(),
            broken_us: 0,
            delivered: Vec::new(),
            refused: 0,
        }
    }

    fn submit(&mut self, to: Option<Address>, payload: Vec<u8>, now_us: u64) {
        match self.node.send(to, &payload, Lane::Routine, now_us) {
            Ok(id) => {
                self.own.insert(id, (to, payload));
            }
            Err(_) => self.refused += 1,
        }
    }

    /// The node itself.
    pub fn node(&self) -> &Node {
        &self.node
    }
}

fn start(setup: &Setup, keys: &Keys, now_us: u64) -> Node {
    let hop = HopSeal::new(1, setup.address, &keys.network).expect("a seal");
    let pairs = keys.pairs[usize::from(setup.address) - 1].clone();
    Node::new(setup, hop, pairs, now_us)
}

impl Station for Evy {
    fn send(&mut self, message: Message, now_us: u64) {
        let mut payload = vec![0; message.octets.max(4)];
        payload[..4].copy_from_slice(&message.id.to_be_bytes());
        self.submit(message.to.map(|to| to as u8 + 1), payload, now_us);
    }

    /// From its disk, and with the messages that wait in `mesh.out`.
    fn restarted(&mut self, now_us: u64) {
        self.setup.seed = self.setup.seed.wrapping_add(1 << 32);
        self.node = start(&self.setup, &self.keys, now_us);
        self.node
            .restore(&self.kept, 0, now_us)
            .expect("what the node wrote");
        self.broken_us = 0;
        for (to, payload) in std::mem::take(&mut self.own).into_values() {
            self.submit(to, payload, now_us);
        }
    }

    fn receive(&mut self, frame: &[u8], rssi_dbm: f64, snr_db: f64, now_us: u64) {
        // `occupied` has told of this frame too.
        self.broken_us = self
            .broken_us
            .saturating_sub(self.setup.channel.modulation().time_on_air_us(frame.len()));
        self.node
            .receive(frame, rssi_dbm as f32, snr_db as f32, now_us);
    }

    fn occupied(&mut self, airtime_us: u64) {
        self.broken_us += airtime_us;
    }

    fn sent(&mut self, now_us: u64) {
        self.node.sent(now_us);
    }

    fn poll(&mut self, now_us: u64, sense: &mut dyn FnMut() -> Sensed) -> Step {
        if self.broken_us > 0 {
            self.node
                .occupied(std::mem::take(&mut self.broken_us), now_us);
        }
        let poll = self.node.poll(now_us, &mut || {
            let sensed = sense();
            sensed.receiving || sensed.active
        });
        if poll.keep {
            self.kept = self.node.kept(now_us);
        }
        for (id, state) in &poll.states {
            if matches!(state, State::Delivered | State::Expired | State::Refused) {
                self.own.remove(id);
            }
        }
        for arrival in poll.arrived {
            if let Some((&id, _)) = arrival.payload.split_first_chunk::<4>() {
                self.delivered.push(u32::from_be_bytes(id));
            }
        }
        match (poll.transmit, poll.wake_at_us) {
            (Some(frame), _) => Step::Transmit(frame.into()),
            (None, Some(at_us)) => Step::Wake(at_us),
            (None, None) => Step::Rest,
        }
    }

    fn kind(&self) -> &'static str {
        self.node.sending()
    }

    fn delivered(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.delivered)
    }
}

#[cfg(test)]
mod returns;
#[cfg(test)]
mod tests;
