//! Every error of the core, mapped once to one Python exception tree.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

pyo3::create_exception!(
    _evy_core,
    CoreError,
    PyValueError,
    "Base of every error the core raises."
);

/// Adds the exceptions to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("CoreError", m.py().get_type::<CoreError>())
}
