//! Python face of `crate::pii`.
#![allow(clippy::needless_pass_by_value)] // PyO3 hands owned lists over

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::triage::owned;
use crate::pii;

/// See the stub.
#[pyclass(frozen, eq, module = "evy_core")]
#[derive(PartialEq)]
pub struct Redacted(pii::Redacted);

#[pymethods]
impl Redacted {
    #[getter]
    fn text(&self) -> &str {
        &self.0.text
    }

    #[getter]
    fn found(&self) -> Vec<(&'static str, usize, usize)> {
        self.0
            .found
            .iter()
            .map(|found| (found.kind.name(), found.start, found.end))
            .collect()
    }

    #[getter]
    fn doubtful(&self) -> bool {
        self.0.doubtful
    }

    #[getter]
    fn foreign(&self) -> bool {
        self.0.foreign
    }

    /// Never the text itself: a log line must not undo the redaction.
    fn __repr__(&self) -> String {
        format!(
            "Redacted({} found, doubtful={})",
            self.0.found.len(),
            if self.0.doubtful { "True" } else { "False" }
        )
    }
}

/// See the stub.
#[pyclass(frozen, eq, module = "evy_core")]
#[derive(PartialEq)]
pub struct Masked(pii::Masked);

#[pymethods]
impl Masked {
    #[getter]
    fn text(&self) -> &str {
        &self.0.text
    }

    #[getter]
    fn stands(&self) -> Vec<(&str, &str)> {
        self.0
            .stands
            .iter()
            .map(|(placeholder, original)| (placeholder.as_str(), original.as_str()))
            .collect()
    }

    #[getter]
    fn doubtful(&self) -> bool {
        self.0.doubtful
    }

    #[getter]
    fn foreign(&self) -> bool {
        self.0.foreign
    }

    /// Never what was taken out.
    fn __repr__(&self) -> String {
        format!("Masked({} taken out)", self.0.stands.len())
    }
}

/// See the stub.
#[pyclass(frozen, module = "evy_core")]
pub struct Redactor(pii::Redactor);

#[pymethods]
impl Redactor {
    #[new]
    fn new(py: Python<'_>, files: Vec<(String, String)>, ordinary: Vec<String>) -> PyResult<Self> {
        Ok(Self(py.detach(|| pii::Redactor::new(&files, &ordinary))?))
    }

    fn redact(&self, py: Python<'_>, texts: Vec<Bound<'_, PyString>>) -> PyResult<Vec<Redacted>> {
        let texts = owned(&texts)?;
        Ok(py.detach(|| {
            texts
                .iter()
                .map(|text| Redacted(self.0.redact(text)))
                .collect()
        }))
    }

    fn mask(&self, py: Python<'_>, texts: Vec<Bound<'_, PyString>>) -> PyResult<Vec<Masked>> {
        let texts = owned(&texts)?;
        Ok(py.detach(|| texts.iter().map(|text| Masked(self.0.mask(text))).collect()))
    }
}

/// Adds this domain's functions and classes to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Redacted>()?;
    m.add_class::<Masked>()?;
    m.add_class::<Redactor>()
}
