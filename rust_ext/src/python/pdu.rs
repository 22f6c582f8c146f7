//! Python face of `crate::sms::pdu`.
#![allow(clippy::needless_pass_by_value)] // PyO3 hands owned lists over

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::sms::address::Address;
use crate::sms::pdu::{self, Alphabet, Concatenation, Element, PduError, UserData};
use crate::sms::timestamp::Timestamp;

/// Information elements as Python writes them.
type Elements = Vec<(u8, Vec<u8>)>;

fn optional(smsc: &str) -> Option<Address> {
    (!smsc.is_empty()).then(|| Address::new(smsc))
}

fn text_of(address: Option<&Address>) -> &str {
    address.map_or("", |a| &a.text)
}

#[allow(clippy::cast_possible_truncation)] // seconds of a calendar with two-digit years
fn stamp(unix_s: f64, zone_quarters: i8) -> Timestamp {
    Timestamp::new(unix_s.floor() as i64, zone_quarters)
}

fn seconds(stamp: Timestamp) -> Option<f64> {
    stamp.unix_s().map(|s| s as f64)
}

/// User data and its coding octet from what a caller gives.
fn user_data(
    text: &str,
    data: Option<Vec<u8>>,
    coding: Option<u8>,
    concat: Option<(u16, u8, u8)>,
    wide_reference: bool,
    header: Elements,
) -> Result<(UserData, u8), PduError> {
    let mut elements = vec![];
    if let Some((reference, total, number)) = concat {
        if number < 1 || number > total {
            return Err(PduError::Header(
                "part number outside 1 to the number of parts",
            ));
        }
        let wide = wide_reference || reference > 0xFF;
        elements.push(
            Concatenation {
                reference,
                total,
                number,
                wide,
            }
            .element(),
        );
    }
    elements.extend(header.into_iter().map(|(id, value)| Element { id, value }));
    let alphabet = coding.map(Alphabet::of);
    let data = match (data, alphabet) {
        (Some(body), alphabet) => UserData {
            header: elements,
            body,
            alphabet: alphabet.unwrap_or(Alphabet::Data),
        },
        (None, Some(Alphabet::Ucs2)) => UserData::ucs2(text, elements),
        (None, Some(Alphabet::Data)) => {
            return Err(PduError::Header("8-bit data is given as data, not as text"));
        }
        (None, Some(Alphabet::Gsm7)) => {
            let body = crate::sms::gsm7::encode(text)?;
            UserData {
                header: elements,
                body,
                alphabet: Alphabet::Gsm7,
            }
        }
        (None, None) => UserData::text(text, elements),
    };
    let coding = coding.unwrap_or(match data.alphabet {
        Alphabet::Gsm7 => 0x00,
        Alphabet::Data => 0x04,
        Alphabet::Ucs2 => 0x08,
    });
    Ok((data, coding))
}

fn concat_of(data: &UserData) -> Option<(u16, u8, u8)> {
    data.concatenation()
        .map(|c| (c.reference, c.total, c.number))
}

fn elements_of(data: &UserData) -> Elements {
    data.header
        .iter()
        .map(|e| (e.id, e.value.clone()))
        .collect()
}

/// See the stub.
#[pyclass(frozen, eq, module = "evy_core")]
#[derive(PartialEq)]
pub struct Deliver(pdu::Deliver);

#[pymethods]
impl Deliver {
    #[new]
    #[pyo3(signature = (sender, text = "", *, data = None, smsc = "", smsc_at = 946_684_800.0, zone_quarters = 0,
        concat = None, wide_reference = false, header = vec![], coding = None, protocol = 0))]
    #[allow(clippy::too_many_arguments)] // keyword arguments, one per field of the standard
    fn new(
        sender: &str,
        text: &str,
        data: Option<Vec<u8>>,
        smsc: &str,
        smsc_at: f64,
        zone_quarters: i8,
        concat: Option<(u16, u8, u8)>,
        wide_reference: bool,
        header: Elements,
        coding: Option<u8>,
        protocol: u8,
    ) -> Result<Self, PduError> {
        let (data, coding) = user_data(text, data, coding, concat, wide_reference, header)?;
        Ok(Self(pdu::Deliver {
            smsc: optional(smsc),
            sender: Address::new(sender),
            protocol,
            coding,
            sent_at: stamp(smsc_at, zone_quarters),
            data,
        }))
    }

    #[getter]
    fn smsc(&self) -> &str {
        text_of(self.0.smsc.as_ref())
    }

    #[getter]
    fn sender(&self) -> &str {
        &self.0.sender.text
    }

    #[getter]
    fn sender_is_name(&self) -> bool {
        self.0.sender.is_name()
    }

    #[getter]
    fn smsc_at(&self) -> Option<f64> {
        seconds(self.0.sent_at)
    }

    #[getter]
    fn smsc_time(&self) -> [u8; 7] {
        self.0.sent_at.0
    }

    #[getter]
    fn text(&self) -> Option<String> {
        self.0.data.to_text()
    }

    #[getter]
    fn data(&self) -> &[u8] {
        &self.0.data.body
    }

    #[getter]
    fn alphabet(&self) -> &'static str {
        self.0.data.alphabet.name()
    }

    #[getter]
    fn concat(&self) -> Option<(u16, u8, u8)> {
        concat_of(&self.0.data)
    }

    #[getter]
    fn header(&self) -> Elements {
        elements_of(&self.0.data)
    }

    #[getter]
    fn coding(&self) -> u8 {
        self.0.coding
    }

    #[getter]
    fn protocol(&self) -> u8 {
        self.0.protocol
    }

    #[getter]
    fn message_class(&self) -> Option<u8> {
        pdu::message_class(self.0.coding)
    }

    fn __repr__(&self) -> String {
        let (alphabet, concat) = (self.alphabet(), self.concat());
        format!("Deliver(alphabet='{alphabet}', concat={concat:?})")
    }
}

/// See the stub.
#[pyclass(frozen, eq, module = "evy_core")]
#[derive(PartialEq)]
pub struct Submit(pdu::Submit);

#[pymethods]
impl Submit {
    #[new]
    #[pyo3(signature = (recipient, text = "", *, data = None, smsc = "", reference = 0, report = true,
        validity = None, concat = None, wide_reference = false, header = vec![], coding = None))]
    #[allow(clippy::too_many_arguments)] // keyword arguments, one per field of the standard
    fn new(
        recipient: &str,
        text: &str,
        data: Option<Vec<u8>>,
        smsc: &str,
        reference: u8,
        report: bool,
        validity: Option<u8>,
        concat: Option<(u16, u8, u8)>,
        wide_reference: bool,
        header: Elements,
        coding: Option<u8>,
    ) -> Result<Self, PduError> {
        let (data, coding) = user_data(text, data, coding, concat, wide_reference, header)?;
        Ok(Self(pdu::Submit {
            smsc: optional(smsc),
            reference,
            report,
            recipient: Address::new(recipient),
            protocol: 0,
            coding,
            validity,
            data,
        }))
    }

    #[getter]
    fn smsc(&self) -> &str {
        text_of(self.0.smsc.as_ref())
    }

    #[getter]
    fn recipient(&self) -> &str {
        &self.0.recipient.text
    }

    #[getter]
    fn reference(&self) -> u8 {
        self.0.reference
    }

    #[getter]
    fn report(&self) -> bool {
        self.0.report
    }

    #[getter]
    fn validity(&self) -> Option<u8> {
        self.0.validity
    }

    #[getter]
    fn text(&self) -> Option<String> {
        self.0.data.to_text()
    }

    #[getter]
    fn data(&self) -> &[u8] {
        &self.0.data.body
    }

    #[getter]
    fn alphabet(&self) -> &'static str {
        self.0.data.alphabet.name()
    }

    #[getter]
    fn concat(&self) -> Option<(u16, u8, u8)> {
        concat_of(&self.0.data)
    }

    #[getter]
    fn header(&self) -> Elements {
        elements_of(&self.0.data)
    }

    #[getter]
    fn coding(&self) -> u8 {
        self.0.coding
    }

    #[getter]
    fn message_class(&self) -> Option<u8> {
        pdu::message_class(self.0.coding)
    }

    fn __repr__(&self) -> String {
        let (alphabet, concat) = (self.alphabet(), self.concat());
        format!("Submit(alphabet='{alphabet}', concat={concat:?})")
    }
}

/// See the stub.
#[pyclass(frozen, eq, module = "evy_core")]
#[derive(PartialEq)]
pub struct StatusReport(pdu::StatusReport);

#[pymethods]
impl StatusReport {
    #[new]
    #[pyo3(signature = (recipient, reference, status, *, smsc = "", smsc_at = 946_684_800.0,
        discharged_at = 946_684_800.0, zone_quarters = 0))]
    fn new(
        recipient: &str,
        reference: u8,
        status: u8,
        smsc: &str,
        smsc_at: f64,
        discharged_at: f64,
        zone_quarters: i8,
    ) -> Self {
        Self(pdu::StatusReport {
            smsc: optional(smsc),
            reference,
            recipient: Address::new(recipient),
            sent_at: stamp(smsc_at, zone_quarters),
            discharged_at: stamp(discharged_at, zone_quarters),
            status,
        })
    }

    #[getter]
    fn smsc(&self) -> &str {
        text_of(self.0.smsc.as_ref())
    }

    #[getter]
    fn recipient(&self) -> &str {
        &self.0.recipient.text
    }

    #[getter]
    fn reference(&self) -> u8 {
        self.0.reference
    }

    #[getter]
    fn status(&self) -> u8 {
        self.0.status
    }

    #[getter]
    fn outcome(&self) -> &'static str {
        pdu::outcome(self.0.status)
    }

    #[getter]
    fn smsc_at(&self) -> Option<f64> {
        seconds(self.0.sent_at)
    }

    #[getter]
    fn discharged_at(&self) -> Option<f64> {
        seconds(self.0.discharged_at)
    }

    fn __repr__(&self) -> String {
        let (reference, outcome) = (self.0.reference, self.outcome());
        format!("StatusReport(reference={reference}, outcome='{outcome}')")
    }
}

/// What `decode_received` gives.
#[derive(IntoPyObject)]
enum Received {
    Deliver(Deliver),
    StatusReport(StatusReport),
}

#[pyfunction]
fn decode_received(py: Python<'_>, pdus: Vec<PyBackedBytes>) -> Result<Vec<Received>, PduError> {
    py.detach(|| {
        let decoded = pdus.iter().map(|octets| pdu::Received::decode(octets));
        decoded
            .map(|received| {
                Ok(match received? {
                    pdu::Received::Deliver(pdu) => Received::Deliver(Deliver(pdu)),
                    pdu::Received::StatusReport(pdu) => Received::StatusReport(StatusReport(pdu)),
                })
            })
            .collect()
    })
}

#[pyfunction]
fn decode_submitted(py: Python<'_>, pdus: Vec<PyBackedBytes>) -> Result<Vec<Submit>, PduError> {
    py.detach(|| {
        pdus.iter()
            .map(|octets| pdu::Submit::decode(octets).map(Submit))
            .collect()
    })
}

/// What `encode_pdus` takes.
#[derive(FromPyObject)]
enum Message {
    Deliver(Py<Deliver>),
    Submit(Py<Submit>),
    StatusReport(Py<StatusReport>),
}

#[pyfunction]
fn encode_pdus(py: Python<'_>, messages: Vec<Message>) -> Result<Vec<Vec<u8>>, PduError> {
    py.detach(|| {
        let encoded = messages.iter().map(|message| match message {
            Message::Deliver(pdu) => pdu.get().0.encode(),
            Message::Submit(pdu) => pdu.get().0.encode(),
            Message::StatusReport(pdu) => pdu.get().0.encode(),
        });
        encoded.collect()
    })
}

/// A part of a longer text, in either direction.
#[derive(FromPyObject)]
enum Part {
    Deliver(Py<Deliver>),
    Submit(Py<Submit>),
}

#[pyfunction]
fn join_parts(py: Python<'_>, texts: Vec<Vec<Part>>) -> Vec<String> {
    py.detach(|| {
        texts
            .iter()
            .map(|parts| pdu::join_text(parts.iter().map(Part::data)))
            .collect()
    })
}

impl Part {
    fn data(&self) -> &UserData {
        match self {
            Self::Deliver(pdu) => &pdu.get().0.data,
            Self::Submit(pdu) => &pdu.get().0.data,
        }
    }
}

/// Adds the PDU functions and classes to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Deliver>()?;
    m.add_class::<Submit>()?;
    m.add_class::<StatusReport>()?;
    m.add_function(wrap_pyfunction!(decode_received, m)?)?;
    m.add_function(wrap_pyfunction!(decode_submitted, m)?)?;
    m.add_function(wrap_pyfunction!(encode_pdus, m)?)?;
    m.add_function(wrap_pyfunction!(join_parts, m)?)
}
