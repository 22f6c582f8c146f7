//! Python face of `crate::triage`.
#![allow(clippy::needless_pass_by_value)] // PyO3 hands owned lists over

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::triage;

/// See the stub.
#[pyclass(frozen, eq, module = "evy_core")]
#[derive(PartialEq)]
pub struct Triage(triage::Triage);

#[pymethods]
impl Triage {
    #[getter]
    fn priority(&self) -> &'static str {
        self.0.priority.name()
    }

    #[getter]
    fn needs(&self) -> Vec<&'static str> {
        self.0.needs.clone()
    }

    #[getter]
    fn template(&self) -> Option<&str> {
        self.0.template.as_deref()
    }

    #[getter]
    fn lang(&self) -> &str {
        &self.0.lang
    }

    #[getter]
    fn lang_confidence(&self) -> f32 {
        self.0.lang_confidence
    }

    #[getter]
    fn confidence(&self) -> f32 {
        self.0.confidence
    }

    #[getter]
    fn why(&self) -> Vec<(&str, usize, usize)> {
        self.0
            .why
            .iter()
            .map(|span| (span.cue.as_str(), span.start, span.end))
            .collect()
    }

    fn __repr__(&self) -> String {
        let (priority, template, lang) = (
            self.priority(),
            self.template().unwrap_or("none"),
            self.lang(),
        );
        format!(
            "Triage({priority}, template={template}, lang={lang}, confidence={:.2})",
            self.0.confidence
        )
    }
}

/// See the stub.
#[pyclass(frozen, module = "evy_core")]
pub struct Triager(triage::Triager);

#[pymethods]
impl Triager {
    #[new]
    fn new(py: Python<'_>, files: Vec<(String, String)>) -> PyResult<Self> {
        Ok(Self(py.detach(|| triage::Triager::new(&files))?))
    }

    fn classify(&self, py: Python<'_>, texts: Vec<Bound<'_, PyString>>) -> PyResult<Vec<Triage>> {
        let texts = owned(&texts)?;
        Ok(py.detach(|| {
            texts
                .iter()
                .map(|text| Triage(self.0.classify(text)))
                .collect()
        }))
    }

    fn detect_lang(
        &self,
        py: Python<'_>,
        texts: Vec<Bound<'_, PyString>>,
    ) -> PyResult<Vec<(&str, f32)>> {
        let texts = owned(&texts)?;
        Ok(py.detach(|| texts.iter().map(|text| self.0.detect_lang(text)).collect()))
    }

    fn scores(&self, py: Python<'_>, texts: Vec<Bound<'_, PyString>>) -> PyResult<Vec<Vec<i64>>> {
        let texts = owned(&texts)?;
        Ok(py.detach(|| texts.iter().map(|text| self.0.scores(text)).collect()))
    }

    #[staticmethod]
    fn ngrams(py: Python<'_>, texts: Vec<Bound<'_, PyString>>) -> PyResult<Vec<Vec<String>>> {
        let texts = owned(&texts)?;
        Ok(py.detach(|| texts.iter().map(|text| triage::ngrams_of(text)).collect()))
    }

    #[getter]
    fn outputs(&self) -> Vec<&'static str> {
        self.0.outputs()
    }

    #[getter]
    fn langs(&self) -> Vec<String> {
        self.0.langs().to_vec()
    }

    #[getter]
    fn topics(&self) -> Vec<String> {
        self.0.topics().to_vec()
    }
}

/// The texts as Rust strings. A lone surrogate, which a torn UCS-2 message can hold, reads as U+FFFD: one
/// character for one, so that offsets stay true and no text is ever refused.
pub(super) fn owned(texts: &[Bound<'_, PyString>]) -> PyResult<Vec<String>> {
    let torn = |text: &Bound<'_, PyString>| {
        let octets: Vec<u8> = text
            .call_method1("encode", ("utf-32-le", "surrogatepass"))?
            .extract()?;
        let points = octets
            .chunks_exact(4)
            .map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]));
        Ok(points
            .map(|point| char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect())
    };
    texts
        .iter()
        .map(|text| text.extract::<String>().or_else(|_| torn(text)))
        .collect()
}

/// Adds this domain's functions and classes to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Triage>()?;
    m.add_class::<Triager>()
}
