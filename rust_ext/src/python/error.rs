//! Every error of the core, mapped once to one Python exception tree.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::compress::fit::FitError;
use crate::compress::rules::RulesError;
use crate::pack;
use crate::pii::PiiError;
use crate::route::RouteError;
use crate::sms::pdu;
use crate::triage;

pyo3::create_exception!(
    _evy_core,
    CoreError,
    PyValueError,
    "Base of every error the core raises."
);

pyo3::create_exception!(
    _evy_core,
    PduError,
    CoreError,
    "Octets that are no PDU, or a message that does not fit into one."
);

pyo3::create_exception!(
    _evy_core,
    PackError,
    CoreError,
    "A text that cannot be packed, or octets that are no packed text."
);

pyo3::create_exception!(
    _evy_core,
    DataError,
    CoreError,
    "A data file is wrong; the text names file and entry."
);

pyo3::create_exception!(
    _evy_core,
    MeshError,
    CoreError,
    "A setting, key, state or message that the mesh refuses; the text names the argument."
);

pyo3::create_exception!(
    _evy_core,
    MeshFullError,
    MeshError,
    "As many messages wait as the mesh takes: try again later."
);

impl From<triage::DataError> for PyErr {
    fn from(error: triage::DataError) -> Self {
        DataError::new_err(error.to_string())
    }
}

impl From<PiiError> for PyErr {
    fn from(error: PiiError) -> Self {
        DataError::new_err(error.to_string())
    }
}

impl From<pack::PackError> for PyErr {
    fn from(error: pack::PackError) -> Self {
        match error {
            pack::PackError::Model(_) | pack::PackError::SameName(..) => {
                DataError::new_err(error.to_string())
            }
            _ => PackError::new_err(error.to_string()),
        }
    }
}

impl From<pdu::PduError> for PyErr {
    fn from(error: pdu::PduError) -> Self {
        PduError::new_err(error.to_string())
    }
}

impl From<RulesError> for PyErr {
    fn from(error: RulesError) -> Self {
        CoreError::new_err(error.to_string())
    }
}

impl From<FitError> for PyErr {
    fn from(error: FitError) -> Self {
        CoreError::new_err(error.to_string())
    }
}

impl From<RouteError> for PyErr {
    fn from(error: RouteError) -> Self {
        CoreError::new_err(error.to_string())
    }
}

/// Adds the exceptions to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("CoreError", m.py().get_type::<CoreError>())?;
    m.add("DataError", m.py().get_type::<DataError>())?;
    m.add("MeshError", m.py().get_type::<MeshError>())?;
    m.add("MeshFullError", m.py().get_type::<MeshFullError>())?;
    m.add("PackError", m.py().get_type::<PackError>())?;
    m.add("PduError", m.py().get_type::<PduError>())
}
