//! Python face of `crate::mesh` and `crate::radio`.
#![allow(clippy::needless_pass_by_value)] // PyO3 hands over owned lists
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // seconds of a run in microseconds

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

use crate::mesh::airtime::Modulation;
use crate::mesh::frame::EVERYBODY;
use crate::python::error::CoreError;
use crate::radio::broadcaster::Broadcaster;
use crate::radio::channel::{Channel, Medium, Node, PathLoss, Radio};
use crate::radio::evy::{Evy, Keys};
use crate::radio::flood::{Flood, slot_us};
use crate::radio::run::{Change, Outcome, Run, Station, Traffic};

/// Metres east and north.
type Place = (f64, f64);

/// A modulation, or what is wrong with it.
pub(super) fn modulation(
    spreading_factor: u8,
    bandwidth_hz: u32,
    coding_rate: u8,
    preamble_symbols: u16,
) -> PyResult<Modulation> {
    if !(7..=12).contains(&spreading_factor) || ![125_000, 250_000, 500_000].contains(&bandwidth_hz)
    {
        return Err(CoreError::new_err(format!(
            "SF{spreading_factor} at {bandwidth_hz} Hz: spreading factors are 7 to 12, bandwidths 125000, 250000, 500000"
        )));
    }
    Ok(Modulation {
        spreading_factor,
        bandwidth_hz,
        coding_rate,
        preamble_symbols,
    })
}

/// See the stub.
#[pyfunction]
#[pyo3(signature = (octets, *, spreading_factor, bandwidth_hz = 125_000, coding_rate = 5, preamble_symbols = 8))]
fn time_on_air_us(
    octets: usize,
    spreading_factor: u8,
    bandwidth_hz: u32,
    coding_rate: u8,
    preamble_symbols: u16,
) -> PyResult<u64> {
    if octets > 255 {
        return Err(CoreError::new_err(format!(
            "{octets} octets: a LoRa frame has 255 at most"
        )));
    }
    Ok(modulation(
        spreading_factor,
        bandwidth_hz,
        coding_rate,
        preamble_symbols,
    )?
    .time_on_air_us(octets))
}

/// See the stub.
#[pyclass(frozen, module = "evy_core")]
pub struct RadioScene {
    medium: Medium,
    modulation: Modulation,
    radios: Vec<Radio>,
    shadow_db: Vec<f64>,
}

/// See the stub.
#[pyclass(frozen, get_all, module = "evy_core")]
pub struct MeshOutcome {
    messages: usize,
    wanted: usize,
    reached: usize,
    delays_us: Vec<u64>,
    airtime_us: u64,
    airtime_by_kind_us: BTreeMap<&'static str, u64>,
    alive_us: u64,
    frames: u64,
    violations: u64,
}

impl From<Outcome> for MeshOutcome {
    fn from(outcome: Outcome) -> Self {
        Self {
            messages: outcome.messages,
            wanted: outcome.wanted,
            reached: outcome.reached,
            delays_us: outcome.delays_us,
            airtime_us: outcome.airtime_us,
            airtime_by_kind_us: outcome.airtime_by_kind_us,
            alive_us: outcome.alive_us,
            frames: outcome.frames,
            violations: outcome.violations,
        }
    }
}

#[pymethods]
impl RadioScene {
    #[new]
    #[pyo3(signature = (places_m, shadow_db, *, power_dbm, frequency_hz, sensitivity_dbm, noise_dbm, spreading_factor,
        bandwidth_hz = 125_000, coding_rate = 5, preamble_symbols = 8, height_m = 1.0))]
    #[allow(clippy::too_many_arguments)] // named in Python
    fn new(
        places_m: Vec<(f64, f64)>,
        shadow_db: Vec<f64>,
        power_dbm: f64,
        frequency_hz: f64,
        sensitivity_dbm: f64,
        noise_dbm: f64,
        spreading_factor: u8,
        bandwidth_hz: u32,
        coding_rate: u8,
        preamble_symbols: u16,
        height_m: f64,
    ) -> PyResult<Self> {
        let modulation = modulation(
            spreading_factor,
            bandwidth_hz,
            coding_rate,
            preamble_symbols,
        )?;
        let (count, shadows) = (places_m.len(), shadow_db.len());
        if count < 2 || shadows != count * count {
            return Err(CoreError::new_err(format!(
                "{count} radios and {shadows} shadows: at least two radios, and a shadow for each ordered pair"
            )));
        }
        let medium = Medium {
            path_loss: PathLoss::SuburbanMacro {
                frequency_hz,
                height_m,
            },
            sensitivity_dbm,
            disturbing_dbm: sensitivity_dbm,
            detection_dbm: sensitivity_dbm - 3.0,
            noise_dbm,
            capture_db: 6.0,
        };
        let radios = places_m
            .into_iter()
            .map(|(x_m, y_m)| Radio {
                x_m,
                y_m,
                power_dbm,
                alive: true,
            })
            .collect();
        Ok(Self {
            medium,
            modulation,
            radios,
            shadow_db,
        })
    }

    #[pyo3(signature = (strategy, *, octets, period_s, seconds, seed, unicast = false, interference = 0.0,
        waits_s = None, duty_per_mille = None, changes = Vec::new(), senses = true))]
    #[allow(clippy::too_many_arguments)] // named in Python
    fn run(
        &self,
        py: Python<'_>,
        strategy: &str,
        octets: usize,
        period_s: f64,
        seconds: f64,
        seed: u64,
        unicast: bool,
        interference: f64,
        waits_s: Option<Vec<Vec<f64>>>,
        duty_per_mille: Option<u64>,
        changes: Vec<(f64, Node, Option<Place>)>,
        senses: bool,
    ) -> PyResult<MeshOutcome> {
        if octets > 200 || period_s <= 0.0 || !(0.0..1.0).contains(&interference) {
            return Err(CoreError::new_err(format!(
                "{octets} octets every {period_s} s at interference {interference}: 200 octets at most, a period above \
                 0, interference from 0 to below 1"
            )));
        }
        let count = self.radios.len();
        if let Some(&(_, node, _)) = changes.iter().find(|change| change.1 >= count) {
            return Err(CoreError::new_err(format!(
                "a change of radio {node}: there are {count}, counted from 0"
            )));
        }
        let us = |seconds: f64| (seconds * 1e6) as u64;
        let margin_us = 3 * self.modulation.time_on_air_us(octets);
        let task = Task {
            scene: self,
            traffic: Traffic {
                period_us: us(period_s),
                octets,
                unicast,
                one_at_a_time: waits_s.is_some(),
                until_us: us(seconds).saturating_sub(margin_us),
            },
            waits: waits_s
                .unwrap_or_default()
                .into_iter()
                .map(|waits| waits.into_iter().map(us).collect())
                .collect(),
            changes: read_changes(changes),
            end_us: us(seconds),
            seed,
            senses,
        };
        let modulation = self.modulation;
        let seed_of = |me: Node| seed.wrapping_mul(1_000).wrapping_add(me as u64);
        match strategy {
            "flood" => Ok(py.detach(|| {
                task.run(|me| {
                    let node = Flood::new(me, modulation, interference, seed_of(me));
                    match duty_per_mille {
                        Some(per_mille) => node.with_duty(per_mille),
                        None => node,
                    }
                })
            })),
            "evy" if count < usize::from(EVERYBODY) => Ok(py.detach(|| {
                let keys = keys(count);
                task.run(|me| Evy::new(me, &keys, modulation, seed_of(me)))
            })),
            "spread" => Ok(py.detach(|| {
                let settings = Broadcaster::settings(modulation);
                task.run(|me| Broadcaster::new(me, modulation, settings, seed_of(me)))
            })),
            _ => Err(CoreError::new_err(format!(
                "strategy {strategy:?} for {count} radios: \"flood\", \"spread\", or \"evy\" for at most 254"
            ))),
        }
    }
}

/// When, which radio, and where it is from then on. Nowhere is its death, once more its return.
fn read_changes(mut changes: Vec<(f64, Node, Option<Place>)>) -> Vec<(u64, Change)> {
    changes.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut dead = BTreeSet::new();
    let changes = changes.into_iter().map(|(at_s, node, place)| {
        let change = match place {
            Some((x_m, y_m)) => Change::Moves(node, x_m, y_m),
            None if dead.remove(&node) => Change::Returns(node),
            None => {
                dead.insert(node);
                Change::Dies(node)
            }
        };
        ((at_s * 1e6) as u64, change)
    });
    changes.collect()
}

/// Keys of a network of so many nodes, made once: 100 nodes take about a second.
fn keys(count: usize) -> Keys {
    static MADE: Mutex<BTreeMap<usize, Keys>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry(count)
        .or_insert_with(|| Keys::new(count))
        .clone()
}

/// One run, whatever moves the messages.
struct Task<'a> {
    scene: &'a RadioScene,
    traffic: Traffic,
    waits: Vec<VecDeque<u64>>,
    changes: Vec<(u64, Change)>,
    end_us: u64,
    seed: u64,
    senses: bool,
}

impl Task<'_> {
    fn run<S: Station>(self, station: impl Fn(Node) -> S) -> MeshOutcome {
        let scene = self.scene;
        let channel = Channel::new(scene.medium, scene.radios.clone(), scene.shadow_db.clone());
        let stations = (0..scene.radios.len()).map(station).collect();
        let run = Run::new(
            channel,
            stations,
            scene.modulation,
            self.traffic,
            self.changes,
            slot_us(scene.modulation),
            self.seed,
        )
        .with_waits(self.waits);
        let run = if self.senses {
            run
        } else {
            run.without_sensing()
        };
        run.run(self.end_us).0.into()
    }
}

/// Adds this domain's names to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<RadioScene>()?;
    m.add_class::<MeshOutcome>()?;
    m.add_function(wrap_pyfunction!(time_on_air_us, m)?)
}
