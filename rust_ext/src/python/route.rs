//! Python face of `crate::route`.

#![allow(clippy::needless_pass_by_value)] // PyO3 hands over owned lists

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::route;

fn priority_of(name: &str) -> PyResult<route::Priority> {
    match name {
        "emergency" => Ok(route::Priority::Emergency),
        "urgent" => Ok(route::Priority::Urgent),
        "normal" => Ok(route::Priority::Normal),
        other => Err(PyValueError::new_err(format!("no priority {other:?}"))),
    }
}

/// See the stub.
#[pyclass(frozen, from_py_object, module = "evy_core")]
#[derive(Clone)]
pub struct Situation(route::Situation);

#[pymethods]
impl Situation {
    #[new]
    #[pyo3(signature = (priority, *, has_needs=true, asks=true, confidence=None, deadline_s=0.0, node_only=false,
        battery_percent=None, free_memory_mb=None, model_ready=None, link_up=None, neighbour=None,
        within_budget=true))]
    #[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)] // keyword arguments in Python
    fn new(
        priority: &str,
        has_needs: bool,
        asks: bool,
        confidence: Option<f64>,
        deadline_s: f64,
        node_only: bool,
        battery_percent: Option<f64>,
        free_memory_mb: Option<f64>,
        model_ready: Option<bool>,
        link_up: Option<bool>,
        neighbour: Option<&str>,
        within_budget: bool,
    ) -> PyResult<Self> {
        let priority = priority_of(priority)?;
        let link = match link_up {
            Some(true) => route::Link::Up,
            Some(false) => route::Link::Down,
            None => route::Link::Unknown,
        };
        let neighbour = match neighbour {
            None => None,
            Some("link") => Some(route::Neighbour::Link),
            Some("model") => Some(route::Neighbour::Model),
            Some(other) => return Err(PyValueError::new_err(format!("no neighbour {other:?}"))),
        };
        Ok(Self(route::Situation {
            priority,
            has_needs,
            asks,
            confidence,
            deadline_s,
            node_only,
            battery_percent,
            free_memory_mb,
            model_ready,
            link,
            neighbour,
            within_budget,
        }))
    }
}

/// See the stub.
#[pyclass(frozen, module = "evy_core")]
pub struct Decision(route::Decision);

#[pymethods]
impl Decision {
    #[getter]
    fn next(&self) -> &'static str {
        self.0.next.name()
    }

    #[getter]
    fn reason(&self) -> &str {
        &self.0.reason
    }

    #[getter]
    fn wait(&self) -> bool {
        self.0.wait
    }

    fn __repr__(&self) -> String {
        format!(
            "Decision(next={:?}, reason={:?}, wait={})",
            self.next(),
            self.0.reason,
            self.0.wait
        )
    }
}

/// See the stub.
#[pyclass(frozen, module = "evy_core")]
pub struct Router(route::Rules);

#[pymethods]
impl Router {
    #[new]
    fn new(rules: &str) -> PyResult<Self> {
        Ok(Self(route::Rules::parse(rules)?))
    }

    #[getter]
    fn sure(&self) -> f64 {
        self.0.sure()
    }

    #[getter]
    fn unsure(&self) -> f64 {
        self.0.unsure()
    }

    #[getter]
    fn battery_limits(&self) -> (Vec<f64>, f64) {
        let limits = self.0.battery_limits();
        (limits.at, limits.margin)
    }

    #[getter]
    fn memory_limits(&self) -> (Vec<f64>, f64) {
        let limits = self.0.memory_limits();
        (limits.at, limits.margin)
    }

    #[pyo3(signature = (priority, *, battery_percent=None))]
    fn brevity(&self, priority: &str, battery_percent: Option<f64>) -> PyResult<Option<String>> {
        Ok(self.0.brevity(priority_of(priority)?, battery_percent))
    }

    #[pyo3(signature = (*, battery_percent=None, free_memory_mb=None))]
    fn model_obstacle(
        &self,
        battery_percent: Option<f64>,
        free_memory_mb: Option<f64>,
    ) -> Option<String> {
        self.0.model_obstacle(battery_percent, free_memory_mb)
    }

    fn decide(&self, py: Python<'_>, situations: Vec<Situation>) -> Vec<Decision> {
        py.detach(|| {
            situations
                .iter()
                .map(|situation| Decision(self.0.decide(&situation.0)))
                .collect()
        })
    }
}

/// Adds this domain's functions and classes to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Situation>()?;
    m.add_class::<Decision>()?;
    m.add_class::<Router>()
}
