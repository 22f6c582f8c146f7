//! Python face of `crate::sms`.

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;

use crate::sms::segment;

/// See the stub.
#[pyclass(frozen, module = "evy_core")]
pub struct Segmentation {
    text: PyBackedStr,
    size: segment::Size,
    cuts: Vec<usize>,
}

#[pymethods]
impl Segmentation {
    #[getter]
    fn encoding(&self) -> &'static str {
        self.size.encoding.name()
    }

    #[getter]
    fn units(&self) -> usize {
        self.size.units
    }

    #[getter]
    fn count(&self) -> usize {
        self.size.count
    }

    #[getter]
    fn segments(&self) -> Vec<&str> {
        let mut rest: &str = &self.text;
        let mut parts: Vec<&str> = Vec::with_capacity(self.size.count);
        for cut in self.cuts.iter().rev() {
            let (head, tail) = rest.split_at(*cut);
            parts.push(tail);
            rest = head;
        }
        parts.push(rest);
        parts.reverse();
        parts
    }

    fn __repr__(&self) -> String {
        let (name, units, count) = (self.encoding(), self.size.units, self.size.count);
        format!("Segmentation(encoding='{name}', units={units}, count={count})")
    }
}

#[pyfunction]
fn segment_texts(py: Python<'_>, texts: Vec<PyBackedStr>) -> Vec<Segmentation> {
    py.detach(|| {
        texts
            .into_iter()
            .map(|text| {
                let result = segment::segment(&text);
                let (size, cuts) = (result.size, result.into_cuts());
                Segmentation { text, size, cuts }
            })
            .collect()
    })
}

/// Adds this domain's functions and classes to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Segmentation>()?;
    m.add("segment", wrap_pyfunction!(segment_texts, m)?)
}
