//! Python face of `crate::compress`.

use pyo3::prelude::*;

/// Adds this domain's functions and classes to the module.
#[allow(clippy::unnecessary_wraps)] // one signature for all domains
pub fn register(_m: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
