//! Python face of `crate::mesh::node`.
#![allow(clippy::needless_pass_by_value)] // PyO3 hands over owned objects

use std::collections::BTreeMap;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::mesh::airtime::Modulation;
use crate::mesh::beacon::Status;
use crate::mesh::frame::{Address, Lane};
use crate::mesh::neighbour::HOP;
use crate::mesh::node::{Node, SendError, Setup};
use crate::mesh::region::{Channel, Region};
use crate::mesh::seal::{HopSeal, NetworkKey, PairSeals, PrivateKey};
use crate::mesh::state::StateError;
use crate::python::error::{MeshError, MeshFullError};

impl From<SendError> for PyErr {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Full { .. } => MeshFullError::new_err(error.to_string()),
            _ => MeshError::new_err(error.to_string()),
        }
    }
}

/// Names the argument that an error is about.
fn refused<E: std::fmt::Display>(argument: &str) -> impl Fn(E) -> PyErr + '_ {
    move |error| MeshError::new_err(format!("{argument}: {error}"))
}

/// See the stub.
#[pyclass(frozen, get_all, module = "evy_core")]
struct MeshArrival {
    source: Address,
    id: u32,
    lane: &'static str,
    payload: Py<PyBytes>,
    broadcast: bool,
}

/// See the stub.
#[pyclass(frozen, get_all, module = "evy_core")]
struct MeshPoll {
    transmit: Option<Py<PyBytes>>,
    wake_at_us: Option<u64>,
    arrived: Vec<Py<MeshArrival>>,
    states: Vec<(u32, &'static str)>,
    keep: Option<Py<PyBytes>>,
}

/// See the stub.
#[pyclass(frozen, get_all, module = "evy_core")]
struct MeshNeighbour {
    address: Address,
    rssi_dbm: f32,
    snr_db: f32,
    delivery_out: f32,
    delivery_in: f32,
    heard_us: u64,
    flash_only: bool,
}

/// See the stub.
#[pyclass(frozen, get_all, module = "evy_core")]
struct MeshRoute {
    destination: Address,
    next_hop: Address,
    hops: u16,
    cost: u16,
    uplink: bool,
    modem: bool,
    model: bool,
    battery_percent: u8,
}

/// See the stub.
#[pyclass(frozen, get_all, module = "evy_core")]
struct MeshAirtime {
    used_us: u64,
    limit_us: u64,
    window_us: u64,
    busy: f64,
    waits_until_us: BTreeMap<&'static str, u64>,
}

/// Battery in quarters as a beacon tells it, from percent; unknown or mains counts as full.
fn quarter(percent: Option<u8>) -> u8 {
    match percent {
        Some(..30) => 0,
        Some(30..50) => 1,
        Some(50..75) => 2,
        _ => 3,
    }
}

/// The least that a quarter stands for.
const fn percent(quarter: u8) -> u8 {
    [0, 30, 50, 75][(quarter & 3) as usize]
}

/// See the stub.
#[pyclass(module = "evy_core")]
pub struct MeshNode {
    node: Node,
    senses: bool,
}

#[pymethods]
impl MeshNode {
    #[new]
    #[pyo3(signature = (*, address, network, network_key, private_key, roster, region = "EU868",
        frequency_hz = 869_525_000, spreading_factor = 9, bandwidth_hz = 125_000, coding_rate = 5,
        preamble_symbols = 8, hidden_octets = 0, longest_frame = 255, senses = false, seed, now_us, state = Vec::new(),
        first_counter = 0))]
    #[allow(clippy::too_many_arguments)] // named in Python
    fn new(
        address: Address,
        network: u8,
        network_key: Vec<u8>,
        private_key: Vec<u8>,
        roster: BTreeMap<Address, Vec<u8>>,
        region: &str,
        frequency_hz: u32,
        spreading_factor: u8,
        bandwidth_hz: u32,
        coding_rate: u8,
        preamble_symbols: u16,
        hidden_octets: u8,
        longest_frame: usize,
        senses: bool,
        seed: u64,
        now_us: u64,
        state: Vec<u8>,
        first_counter: u32,
    ) -> PyResult<Self> {
        let modulation = Modulation {
            spreading_factor,
            bandwidth_hz,
            coding_rate,
            preamble_symbols,
        };
        let region = Region::named(region).map_err(refused("region"))?;
        let channel = Channel::new(
            region,
            frequency_hz,
            modulation,
            hidden_octets,
            longest_frame,
        )
        .map_err(refused("radio"))?;
        let network_key = NetworkKey::new(&network_key).map_err(refused("network_key"))?;
        let private = PrivateKey::new(&private_key).map_err(refused("private_key"))?;
        let hop =
            HopSeal::new(network, address, &network_key).map_err(refused("network or address"))?;
        let pairs =
            PairSeals::new(network, address, &private, &roster).map_err(refused("roster"))?;
        let setup = Setup {
            address,
            channel,
            seed,
        };
        let mut node = Node::new(&setup, hop, Arc::new(pairs), now_us);
        node.restore(&state, first_counter, now_us)
            .map_err(|error| match error {
                StateError::TooFar { .. } => refused("first_counter")(error),
                _ => refused("state")(error),
            })?;
        Ok(Self { node, senses })
    }

    fn send(
        &mut self,
        destination: Option<Address>,
        payload: Vec<u8>,
        lane: &str,
        now_us: u64,
    ) -> PyResult<u32> {
        let lane = Lane::named(lane).ok_or_else(|| {
            MeshError::new_err(format!("lane {lane:?}: one of flash, priority, routine"))
        })?;
        Ok(self.node.send(destination, &payload, lane, now_us)?)
    }

    fn receive(&mut self, frame: Vec<u8>, rssi_dbm: f32, snr_db: f32, now_us: u64) {
        self.node.receive(&frame, rssi_dbm, snr_db, now_us);
    }

    fn sent(&mut self, now_us: u64) {
        self.node.sent(now_us);
    }

    #[pyo3(signature = (now_us, busy = false))]
    fn poll(&mut self, py: Python<'_>, now_us: u64, busy: bool) -> PyResult<MeshPoll> {
        let busy = busy && self.senses;
        let poll = self.node.poll(now_us, &mut || busy);
        let octets = |octets: &[u8]| PyBytes::new(py, octets).unbind();
        let arrived = poll
            .arrived
            .into_iter()
            .map(|arrival| {
                let arrival = MeshArrival {
                    source: arrival.source,
                    id: arrival.id,
                    lane: arrival.lane.name(),
                    payload: octets(&arrival.payload),
                    broadcast: arrival.broadcast,
                };
                Py::new(py, arrival)
            })
            .collect::<PyResult<_>>()?;
        Ok(MeshPoll {
            transmit: poll.transmit.as_deref().map(octets),
            wake_at_us: poll.wake_at_us,
            arrived,
            states: poll
                .states
                .into_iter()
                .map(|(id, state)| (id, state.name()))
                .collect(),
            keep: poll.keep.then(|| octets(&self.node.kept(now_us))),
        })
    }

    #[pyo3(signature = (*, battery_percent, uplink, modem, flash_only, model = false))]
    #[allow(clippy::fn_params_excessive_bools, clippy::similar_names)] // named in Python
    fn set_status(
        &mut self,
        battery_percent: Option<u8>,
        uplink: bool,
        modem: bool,
        flash_only: bool,
        model: bool,
    ) {
        self.node.set_status(Status {
            uplink,
            modem,
            model,
            flash_only,
            battery: quarter(battery_percent),
        });
    }

    #[pyo3(signature = (spreading_factor, now_us, listen = false))]
    fn tune(&mut self, spreading_factor: u8, now_us: u64, listen: bool) -> PyResult<()> {
        let tuned = self.node.tune(spreading_factor, listen, now_us);
        tuned.map_err(refused("radio"))
    }

    fn forget(&mut self, message: u32) {
        self.node.forget(message);
    }

    fn neighbours(&self, now_us: u64) -> Vec<MeshNeighbour> {
        let neighbours = self.node.neighbours();
        neighbours
            .iter()
            .map(|(address, neighbour)| MeshNeighbour {
                address,
                rssi_dbm: neighbour.rssi_dbm,
                snr_db: neighbour.snr_db,
                delivery_out: neighbours.delivered_out(address, now_us),
                delivery_in: neighbour.delivered_in(),
                heard_us: neighbour.heard_us,
                flash_only: neighbour.status.flash_only,
            })
            .collect()
    }

    fn routes(&mut self, now_us: u64) -> Vec<MeshRoute> {
        self.node
            .chosen_routes(now_us)
            .into_iter()
            .map(|(destination, next_hop, cost)| {
                let status = self.node.status_of(destination);
                let hops = if destination == next_hop {
                    1
                } else {
                    (cost / u16::from(HOP)).max(2)
                };
                MeshRoute {
                    destination,
                    next_hop,
                    hops,
                    cost,
                    uplink: status.uplink,
                    modem: status.modem,
                    model: status.model,
                    battery_percent: percent(status.battery),
                }
            })
            .collect()
    }

    fn airtime(&self, now_us: u64) -> MeshAirtime {
        let ledger = self.node.ledger();
        let octets = ledger.channel().longest_frame();
        let waits = |lane| ledger.may_send_at(octets, lane, now_us).unwrap_or(u64::MAX);
        MeshAirtime {
            used_us: ledger.used_us(now_us),
            limit_us: ledger.limit_us(Lane::Flash),
            window_us: ledger.window_us(),
            busy: self.node.load(now_us),
            waits_until_us: Lane::ALL
                .into_iter()
                .map(|lane| (lane.name(), waits(lane)))
                .collect(),
        }
    }

    fn counters(&self) -> BTreeMap<&'static str, u64> {
        self.node.counters().clone()
    }
}

/// Adds this domain's names to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<MeshArrival>()?;
    m.add_class::<MeshPoll>()?;
    m.add_class::<MeshNeighbour>()?;
    m.add_class::<MeshRoute>()?;
    m.add_class::<MeshAirtime>()?;
    m.add_class::<MeshNode>()
}
