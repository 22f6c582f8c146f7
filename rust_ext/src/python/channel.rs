//! Python face of `crate::radio::channel`: a channel that radios outside this crate send on, in their own time.
#![allow(clippy::needless_pass_by_value)] // PyO3 hands over owned lists

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::mesh::airtime::Modulation;
use crate::python::error::CoreError;
use crate::python::radio::modulation;
use crate::radio::channel::{Channel, Medium, PathLoss, Radio};
use crate::radio::law::{Record, Region};

/// Thermal noise at room temperature in 1 Hz, and what the receiver adds (SX1276 datasheet §5.2: 6 dB), in dBm.
const NOISE_FLOOR_DBM: f64 = -174.0 + 6.0;
/// A signal this far below the noise disturbs nobody: what SF12 needs, and capture's 6 dB.
const HARMLESS_DB: f64 = 26.0;
/// Radios of one channel: losses cost 16 octets for each ordered pair.
const MOST_RADIOS: usize = 1_000;
/// A century.
const LATEST_US: u64 = 100 * 366 * 86_400 * 1_000_000;
/// Octets of a LoRa frame.
const MOST_OCTETS: usize = 255;

/// See the stub.
#[pyclass(module = "evy_core")]
pub struct RadioChannel {
    channel: Channel,
    region: Region,
    records: Vec<Record>,
    /// Ends, and numbers with carriers, of what is on the air.
    under_way: BinaryHeap<Reverse<(u64, u64, u32)>>,
}

/// See the stub.
#[pyclass(frozen, get_all, module = "evy_core")]
pub struct Landing {
    id: u64,
    sender: usize,
    frame: Py<PyBytes>,
    frequency_hz: u32,
    spreading_factor: u8,
    bandwidth_hz: u32,
    began_us: u64,
    ends_us: u64,
    receptions: Vec<(usize, f64, f64, bool)>,
    violation: Option<String>,
}

fn region(name: &str) -> PyResult<Region> {
    match name {
        "EU868" => Ok(Region::Eu868),
        "US915" => Ok(Region::Us915),
        "none" => Ok(Region::Lawless),
        _ => Err(CoreError::new_err(format!(
            "region {name:?}: EU868, US915 or none"
        ))),
    }
}

impl RadioChannel {
    fn known(&self, radio: usize) -> PyResult<usize> {
        let count = self.records.len();
        if radio < count {
            Ok(radio)
        } else {
            Err(CoreError::new_err(format!(
                "radio {radio}: there are {count}, counted from 0"
            )))
        }
    }
}

fn finite(what: &str, number: f64) -> PyResult<f64> {
    if number.is_finite() && number.abs() < 1e7 {
        Ok(number)
    } else {
        Err(CoreError::new_err(format!(
            "{what} {number}: a number below ten million"
        )))
    }
}

#[pymethods]
impl RadioChannel {
    #[new]
    #[pyo3(signature = (places_m, power_dbm, shadow_db, *, frequency_hz, bandwidth_hz = 125_000, height_m = 5.0,
        region = "EU868"))]
    #[allow(clippy::too_many_arguments)] // named in Python
    fn new(
        places_m: Vec<(f64, f64)>,
        power_dbm: Vec<f64>,
        shadow_db: Vec<f64>,
        frequency_hz: f64,
        bandwidth_hz: u32,
        height_m: f64,
        region: &str,
    ) -> PyResult<Self> {
        let (count, powers, shadows) = (places_m.len(), power_dbm.len(), shadow_db.len());
        if !(1..=MOST_RADIOS).contains(&count) || powers != count || shadows != count * count {
            return Err(CoreError::new_err(format!(
                "{count} radios, {powers} powers and {shadows} shadows: 1 to {MOST_RADIOS} radios, a power for each \
                 and a shadow for each ordered pair"
            )));
        }
        if !(1e8..=1e9 + 1e8).contains(&frequency_hz) || !(1.0..=100.0).contains(&height_m) {
            return Err(CoreError::new_err(format!(
                "{frequency_hz} Hz with antennas at {height_m} m: 100 to 1,100 MHz and 1 to 100 m"
            )));
        }
        modulation(9, bandwidth_hz, 5, 8)?;
        for &shadow in &shadow_db {
            finite("shadow", shadow)?;
        }
        let noise_dbm = NOISE_FLOOR_DBM + 10.0 * f64::from(bandwidth_hz).log10();
        let medium = Medium {
            path_loss: PathLoss::SuburbanMacro {
                frequency_hz,
                height_m,
            },
            sensitivity_dbm: noise_dbm,
            disturbing_dbm: noise_dbm - HARMLESS_DB,
            detection_dbm: noise_dbm,
            noise_dbm,
            capture_db: 6.0,
        };
        let mut radios = Vec::with_capacity(count);
        for ((x_m, y_m), power_dbm) in places_m.into_iter().zip(power_dbm) {
            radios.push(Radio {
                x_m: finite("place", x_m)?,
                y_m: finite("place", y_m)?,
                power_dbm: finite("power", power_dbm)?,
                alive: true,
            });
        }
        Ok(Self {
            channel: Channel::new(medium, radios, shadow_db).with_sensitivity_by_spreading(),
            region: self::region(region)?,
            records: vec![Record::default(); count],
            under_way: BinaryHeap::new(),
        })
    }

    #[pyo3(signature = (radio, frame, now_us, *, frequency_hz, spreading_factor, bandwidth_hz = 125_000,
        coding_rate = 5, preamble_symbols = 8))]
    #[allow(clippy::too_many_arguments)] // named in Python
    fn begin(
        &mut self,
        radio: usize,
        frame: &[u8],
        now_us: u64,
        frequency_hz: u32,
        spreading_factor: u8,
        bandwidth_hz: u32,
        coding_rate: u8,
        preamble_symbols: u16,
    ) -> PyResult<(u64, u64)> {
        let radio = self.known(radio)?;
        let chosen: Modulation = modulation(
            spreading_factor,
            bandwidth_hz,
            coding_rate,
            preamble_symbols,
        )?;
        if frame.is_empty() || frame.len() > MOST_OCTETS {
            return Err(CoreError::new_err(format!(
                "{} octets: a LoRa frame has 1 to {MOST_OCTETS}",
                frame.len()
            )));
        }
        if now_us > LATEST_US {
            return Err(CoreError::new_err(format!(
                "now_us {now_us}: a run lasts {LATEST_US} at most"
            )));
        }
        if !self.channel.radios()[radio].alive {
            return Err(CoreError::new_err(format!("radio {radio} is dead")));
        }
        if self.channel.is_sending(radio, now_us) {
            return Err(CoreError::new_err(format!(
                "radio {radio} is sending: a radio sends one frame at a time"
            )));
        }
        let (id, ends_us) = self.channel.begin(radio, frame.into(), chosen, now_us);
        self.under_way.push(Reverse((ends_us, id, frequency_hz)));
        Ok((id, ends_us))
    }

    fn advance(&mut self, py: Python<'_>, now_us: u64) -> Vec<Landing> {
        let mut landings = Vec::new();
        while let Some(&Reverse((ends_us, id, frequency_hz))) = self.under_way.peek() {
            if ends_us > now_us {
                break;
            }
            self.under_way.pop();
            let Some((sent, receptions)) = self.channel.end(id) else {
                continue;
            };
            let violation = self.records[sent.from].note(
                self.region,
                frequency_hz,
                self.channel.radios()[sent.from].power_dbm,
                sent.modulation,
                sent.began_us,
                sent.ends_us,
            );
            landings.push(Landing {
                id,
                sender: sent.from,
                frame: PyBytes::new(py, &sent.frame).unbind(),
                frequency_hz,
                spreading_factor: sent.modulation.spreading_factor,
                bandwidth_hz: sent.modulation.bandwidth_hz,
                began_us: sent.began_us,
                ends_us,
                receptions: receptions
                    .into_iter()
                    .map(|heard| (heard.node, heard.rssi_dbm, heard.snr_db, heard.whole))
                    .collect(),
                violation: violation.map(|violation| violation.to_string()),
            });
        }
        landings
    }

    #[getter]
    fn next_end_us(&self) -> Option<u64> {
        self.under_way
            .peek()
            .map(|Reverse((ends_us, _, _))| *ends_us)
    }

    #[getter]
    fn airtime_us(&self) -> Vec<u64> {
        self.channel.airtime_us.clone()
    }

    fn move_to(&mut self, radio: usize, x_m: f64, y_m: f64) -> PyResult<()> {
        let radio = self.known(radio)?;
        self.channel
            .move_to(radio, finite("place", x_m)?, finite("place", y_m)?);
        Ok(())
    }

    fn set_alive(&mut self, radio: usize, alive: bool) -> PyResult<()> {
        let radio = self.known(radio)?;
        self.channel.set_alive(radio, alive);
        Ok(())
    }

    fn set_power(&mut self, radio: usize, power_dbm: f64) -> PyResult<()> {
        let radio = self.known(radio)?;
        self.channel.set_power(radio, finite("power", power_dbm)?);
        Ok(())
    }

    fn set_shadow(&mut self, sender: usize, receiver: usize, shadow_db: f64) -> PyResult<()> {
        let (sender, receiver) = (self.known(sender)?, self.known(receiver)?);
        self.channel
            .set_shadow(sender, receiver, finite("shadow", shadow_db)?);
        Ok(())
    }

    fn rssi_dbm(&self, sender: usize, receiver: usize) -> PyResult<f64> {
        Ok(self
            .channel
            .rssi_dbm(self.known(sender)?, self.known(receiver)?))
    }

    #[pyo3(signature = (spreading_factor, bandwidth_hz = 125_000))]
    fn sensitivity_dbm(&self, spreading_factor: u8, bandwidth_hz: u32) -> PyResult<f64> {
        Ok(self
            .channel
            .sensitivity_dbm(modulation(spreading_factor, bandwidth_hz, 5, 8)?))
    }
}

/// Adds this domain's names to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<RadioChannel>()?;
    m.add_class::<Landing>()
}
