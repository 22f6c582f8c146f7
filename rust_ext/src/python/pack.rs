//! Python face of `crate::pack`.
#![allow(clippy::needless_pass_by_value)] // PyO3 hands over owned lists

use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::PyBytes;

use crate::pack;

/// See the stub.
#[pyclass(frozen, module = "evy_core")]
pub struct Packer(pack::Packer);

#[pymethods]
impl Packer {
    #[new]
    #[pyo3(signature = (model, known = Vec::new()))]
    fn new(py: Python<'_>, model: PyBackedBytes, known: Vec<String>) -> PyResult<Self> {
        Ok(Self(py.detach(|| pack::Packer::new(&model, &known))?))
    }

    #[getter]
    fn known_id(&self) -> u64 {
        self.0.known_id()
    }

    #[getter]
    fn memory_octets(&self) -> usize {
        self.0.octets()
    }

    #[pyo3(signature = (texts, *, to_same = false))]
    fn pack<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<PyBackedStr>,
        to_same: bool,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let frames: Result<Vec<Vec<u8>>, pack::PackError> = py.detach(|| {
            texts
                .iter()
                .map(|text| self.0.pack(text, to_same))
                .collect()
        });
        Ok(frames?
            .iter()
            .map(|frame| PyBytes::new(py, frame))
            .collect())
    }

    fn unpack(&self, py: Python<'_>, frames: Vec<PyBackedBytes>) -> PyResult<Vec<String>> {
        let texts: Result<Vec<String>, pack::PackError> =
            py.detach(|| frames.iter().map(|frame| self.0.unpack(frame)).collect());
        Ok(texts?)
    }
}

/// Adds this domain's class to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Packer>()
}
