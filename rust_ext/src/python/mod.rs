//! The only room that knows `PyO3`: one file per domain, errors mapped once in `error`.

mod channel;
mod compress;
mod error;
mod mesh;
mod pack;
mod pdu;
mod pii;
mod radio;
mod route;
mod sms;
mod triage;

use pyo3::prelude::*;

/// `evy_core._evy_core`.
#[pymodule]
fn _evy_core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    error::register(m)?;
    sms::register(m)?;
    pdu::register(m)?;
    triage::register(m)?;
    route::register(m)?;
    compress::register(m)?;
    pack::register(m)?;
    pii::register(m)?;
    channel::register(m)?;
    mesh::register(m)?;
    radio::register(m)
}
