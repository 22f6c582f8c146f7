//! Python face of `crate::triage`.

use pyo3::prelude::*;

/// Adds this domain's functions and classes to the module.
#[allow(clippy::unnecessary_wraps)] // one signature for all domains
pub fn register(_m: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
