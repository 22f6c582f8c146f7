//! Python face of `crate::compress`.

#![allow(clippy::needless_pass_by_value)] // PyO3 hands over owned lists

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;

use std::sync::Arc;

use crate::compress::cache::Cache;
use crate::compress::{check, fit, rules};

/// See the stub.
#[pyclass(frozen, module = "evy_core", eq)]
#[derive(PartialEq)]
pub struct Unsupported(check::Unsupported);

#[pymethods]
impl Unsupported {
    #[getter]
    fn token(&self) -> &str {
        &self.0.token
    }

    #[getter]
    fn reason(&self) -> &'static str {
        self.0.reason.name()
    }

    fn __repr__(&self) -> String {
        format!(
            "Unsupported(token={:?}, reason='{}')",
            self.0.token,
            self.reason()
        )
    }
}

/// See the stub.
#[pyclass(frozen, module = "evy_core")]
pub struct Fitted(Arc<fit::Fitted>);

#[pymethods]
impl Fitted {
    #[getter]
    fn text(&self) -> &str {
        &self.0.text
    }

    #[getter]
    fn segments(&self) -> usize {
        self.0.size.count
    }

    #[getter]
    fn encoding(&self) -> &'static str {
        self.0.size.encoding.name()
    }

    #[getter]
    fn octets_in(&self) -> usize {
        self.0.octets_in
    }

    #[getter]
    fn octets_out(&self) -> usize {
        self.0.size.octets()
    }

    #[getter]
    fn dropped(&self) -> Vec<String> {
        self.0.dropped.clone()
    }

    #[getter]
    fn rest(&self) -> &str {
        &self.0.rest
    }

    fn __repr__(&self) -> String {
        format!(
            "Fitted(text={:?}, segments={}, encoding='{}', dropped={}, rest={} octets)",
            self.0.text,
            self.segments(),
            self.encoding(),
            self.0.dropped.len(),
            self.0.rest.len(),
        )
    }
}

/// See the stub.
#[pyclass(frozen, module = "evy_core")]
pub struct Compressor {
    rules: rules::Rules,
    cache: Cache,
}

#[pymethods]
impl Compressor {
    #[new]
    fn new(
        py: Python<'_>,
        shared: String,
        languages: Vec<String>,
        substances: String,
        folding: String,
    ) -> PyResult<Self> {
        let rules = py.detach(|| rules::Rules::read(&shared, &languages, &substances, &folding));
        Ok(Self {
            rules: rules?,
            cache: Cache::default(),
        })
    }

    #[getter]
    fn languages(&self) -> Vec<&str> {
        self.rules.languages()
    }

    fn check(
        &self,
        py: Python<'_>,
        answers: Vec<PyBackedStr>,
        passages: Vec<Vec<PyBackedStr>>,
        langs: Vec<PyBackedStr>,
    ) -> PyResult<Vec<Vec<Unsupported>>> {
        same_length(answers.len(), &[passages.len(), langs.len()])?;
        Ok(py.detach(|| {
            let requests = answers.iter().zip(&passages).zip(&langs);
            requests
                .map(|((answer, passages), lang)| {
                    let passages: Vec<&str> = passages.iter().map(|text| &**text).collect();
                    let language = self.rules.language(lang);
                    let found = check::check(answer, &passages, language, &self.rules);
                    found.into_iter().map(Unsupported).collect()
                })
                .collect()
        }))
    }

    #[pyo3(signature = (texts, langs, verbatim, max_segments, hints, brief=None))]
    #[allow(clippy::too_many_arguments)] // one list for each field of a request
    fn fit(
        &self,
        py: Python<'_>,
        texts: Vec<PyBackedStr>,
        langs: Vec<PyBackedStr>,
        verbatim: Vec<bool>,
        max_segments: Vec<usize>,
        hints: Vec<PyBackedStr>,
        brief: Option<Vec<bool>>,
    ) -> PyResult<Vec<Fitted>> {
        let brief = brief.unwrap_or_else(|| vec![false; texts.len()]);
        let others = [
            langs.len(),
            verbatim.len(),
            max_segments.len(),
            hints.len(),
            brief.len(),
        ];
        same_length(texts.len(), &others)?;
        let fitted: Result<Vec<Fitted>, fit::FitError> = py.detach(|| {
            let requests = (0..texts.len()).map(|at| fit::Request {
                text: &texts[at],
                lang: &langs[at],
                verbatim: verbatim[at],
                max_segments: max_segments[at],
                hint: &hints[at],
                level: if brief[at] {
                    fit::Level::Brief
                } else {
                    fit::Level::AsNeeded
                },
            });
            requests
                .map(|request| self.cache.fit(request, &self.rules).map(Fitted))
                .collect()
        });
        Ok(fitted?)
    }
}

/// Lists of one call belong together entry by entry.
fn same_length(first: usize, others: &[usize]) -> PyResult<()> {
    if others.iter().all(|other| *other == first) {
        return Ok(());
    }
    let lengths: Vec<String> = others.iter().map(ToString::to_string).collect();
    Err(super::error::CoreError::new_err(format!(
        "lists of one call must be equally long: {first}, {}",
        lengths.join(", ")
    )))
}

/// Adds this domain's functions and classes to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Compressor>()?;
    m.add_class::<Fitted>()?;
    m.add_class::<Unsupported>()
}
