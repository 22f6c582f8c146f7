//! SMS-DELIVER, SMS-SUBMIT and SMS-STATUS-REPORT with their SMSC prefix, as a modem in PDU mode shows and
//! takes them (3GPP TS 23.040 §9.2, TS 27.005 §3).
//!
//! Reading takes any octets and never panics: what is not a PDU is a [`PduError`] that says where it breaks.
//! Where the standard tells a receiver to look past a flaw (a broken header, an impossible part number), the
//! text is kept and the flaw ignored, because somebody wrote that text.

mod coding;
mod error;
mod user_data;

pub use coding::{Alphabet, message_class};
pub use error::{PduError, Result};
pub use user_data::{
    CONCATENATION_8, CONCATENATION_16, Concatenation, Element, LOCKING_SHIFT, MAX_USER_DATA_OCTETS,
    SINGLE_SHIFT, UserData, join_text,
};

use super::address::Address;
use super::timestamp::{self, Timestamp};

/// Type in bits 1 and 0 of the first octet; what it means depends on who sent it (§9.2.3.1).
const TYPE_MASK: u8 = 0x03;
const DELIVER: u8 = 0;
const SUBMIT: u8 = 1;
const STATUS_REPORT: u8 = 2;
/// A receiver reads it as a DELIVER (§9.2.3.1).
const RESERVED: u8 = 3;
/// TP-UDHI: the user data begins with a header.
const HEADER: u8 = 0x40;
/// TP-SRR in a SUBMIT: the sender wants a status report.
const REPORT_REQUEST: u8 = 0x20;
/// TP-VPF in a SUBMIT.
const VALIDITY_MASK: u8 = 0x18;

/// A text on its way from the network to a phone or to our modem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deliver {
    /// Service centre that sent it.
    pub smsc: Option<Address>,
    /// Who wrote it.
    pub sender: Address,
    /// TP-PID; 0x40 is «type 0», which a phone must not show.
    pub protocol: u8,
    /// TP-DCS.
    pub coding: u8,
    /// When the service centre took it.
    pub sent_at: Timestamp,
    /// The text.
    pub data: UserData,
}

/// A text on its way from a phone or from our modem to the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submit {
    /// Service centre it goes through; none takes the one on the SIM.
    pub smsc: Option<Address>,
    /// TP-MR; the modem sets its own.
    pub reference: u8,
    /// A status report is wanted.
    pub report: bool,
    /// Who shall read it.
    pub recipient: Address,
    /// TP-PID.
    pub protocol: u8,
    /// TP-DCS.
    pub coding: u8,
    /// TP-VP in relative format; other formats are read past, since only the network acts on them.
    pub validity: Option<u8>,
    /// The text.
    pub data: UserData,
}

/// What became of a text that was submitted with a report wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusReport {
    /// Service centre that reports.
    pub smsc: Option<Address>,
    /// TP-MR of the text.
    pub reference: u8,
    /// To whom it went.
    pub recipient: Address,
    /// When the service centre took it.
    pub sent_at: Timestamp,
    /// When it was delivered or given up, or last tried.
    pub discharged_at: Timestamp,
    /// TP-ST.
    pub status: u8,
}

/// TP-ST in four words (§9.2.3.15).
pub const fn outcome(status: u8) -> &'static str {
    match status {
        0x00..=0x1F => "delivered",
        0x20..=0x3F => "pending",
        0x46 => "expired",
        _ => "failed",
    }
}

/// What the network sends to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A text.
    Deliver(Deliver),
    /// A status report.
    StatusReport(StatusReport),
}

fn take<'o, const N: usize>(octets: &'o [u8], of: &'static str) -> Result<([u8; N], &'o [u8])> {
    match octets.split_first_chunk::<N>() {
        Some((head, rest)) => Ok((*head, rest)),
        None => Err(PduError::Truncated {
            of,
            needed: N,
            got: octets.len(),
        }),
    }
}

impl Received {
    /// Reads a PDU that came from the network; octets behind it are ignored, as some modems pad.
    ///
    /// # Errors
    /// [`PduError`] names the field that breaks.
    pub fn decode(octets: &[u8]) -> Result<Self> {
        let (smsc, rest) = Address::read_smsc(octets)?;
        let ([first], rest) = take(rest, "first octet")?;
        match first & TYPE_MASK {
            DELIVER | RESERVED => {
                let (sender, rest) = Address::read(rest, "sender")?;
                let ([protocol, coding], rest) = take(rest, "protocol and coding")?;
                let (sent_at, rest) = take::<{ timestamp::OCTETS }>(rest, "service centre time")?;
                let data = UserData::read(rest, first & HEADER != 0, coding)?;
                let sent_at = Timestamp(sent_at);
                Ok(Self::Deliver(Deliver {
                    smsc,
                    sender,
                    protocol,
                    coding,
                    sent_at,
                    data,
                }))
            }
            STATUS_REPORT => {
                let ([reference], rest) = take(rest, "message reference")?;
                let (recipient, rest) = Address::read(rest, "recipient")?;
                let (sent_at, rest) = take::<{ timestamp::OCTETS }>(rest, "service centre time")?;
                let (discharged_at, rest) = take::<{ timestamp::OCTETS }>(rest, "discharge time")?;
                let ([status], _) = take(rest, "status")?;
                let (sent_at, discharged_at) = (Timestamp(sent_at), Timestamp(discharged_at));
                Ok(Self::StatusReport(StatusReport {
                    smsc,
                    reference,
                    recipient,
                    sent_at,
                    discharged_at,
                    status,
                }))
            }
            _ => Err(PduError::Type {
                first,
                expected: "SMS-DELIVER or SMS-STATUS-REPORT",
            }),
        }
    }
}

impl Deliver {
    /// Octets of the PDU.
    ///
    /// # Errors
    /// [`PduError`] when an address or the user data is too long.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut octets = vec![];
        Address::write_smsc(self.smsc.as_ref(), &mut octets)?;
        // TP-MMS set: no more messages wait.
        octets.push(DELIVER | 0x04 | header_flag(&self.data));
        self.sender.write(&mut octets, "sender")?;
        octets.extend([self.protocol, self.coding]);
        octets.extend(self.sent_at.0);
        self.data.write(&mut octets)?;
        Ok(octets)
    }
}

impl Submit {
    /// Reads a PDU that goes to the network.
    ///
    /// # Errors
    /// [`PduError`] names the field that breaks.
    pub fn decode(octets: &[u8]) -> Result<Self> {
        let (smsc, rest) = Address::read_smsc(octets)?;
        let ([first], rest) = take(rest, "first octet")?;
        if first & TYPE_MASK != SUBMIT {
            return Err(PduError::Type {
                first,
                expected: "SMS-SUBMIT",
            });
        }
        let ([reference], rest) = take(rest, "message reference")?;
        let (recipient, rest) = Address::read(rest, "recipient")?;
        let ([protocol, coding], rest) = take(rest, "protocol and coding")?;
        let (validity, rest) = match first & VALIDITY_MASK {
            0x00 => (None, rest),
            0x10 => take::<1>(rest, "validity").map(|([v], rest)| (Some(v), rest))?,
            _ => take::<7>(rest, "validity").map(|(_, rest)| (None, rest))?,
        };
        let data = UserData::read(rest, first & HEADER != 0, coding)?;
        let report = first & REPORT_REQUEST != 0;
        Ok(Self {
            smsc,
            reference,
            report,
            recipient,
            protocol,
            coding,
            validity,
            data,
        })
    }

    /// Octets of the PDU.
    ///
    /// # Errors
    /// [`PduError`] when an address or the user data is too long.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut octets = vec![];
        Address::write_smsc(self.smsc.as_ref(), &mut octets)?;
        let report = if self.report { REPORT_REQUEST } else { 0 };
        let validity = if self.validity.is_some() { 0x10 } else { 0 };
        octets.extend([
            SUBMIT | report | validity | header_flag(&self.data),
            self.reference,
        ]);
        self.recipient.write(&mut octets, "recipient")?;
        octets.extend([self.protocol, self.coding]);
        octets.extend(self.validity);
        self.data.write(&mut octets)?;
        Ok(octets)
    }
}

impl StatusReport {
    /// Octets of the PDU.
    ///
    /// # Errors
    /// [`PduError`] when an address is too long.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut octets = vec![];
        Address::write_smsc(self.smsc.as_ref(), &mut octets)?;
        octets.extend([STATUS_REPORT | 0x04, self.reference]);
        self.recipient.write(&mut octets, "recipient")?;
        octets.extend(self.sent_at.0);
        octets.extend(self.discharged_at.0);
        octets.push(self.status);
        Ok(octets)
    }
}

fn header_flag(data: &UserData) -> u8 {
    if data.header.is_empty() { 0 } else { HEADER }
}

#[cfg(test)]
mod tests {
    use super::user_data::MAX_USER_DATA_SEPTETS;
    use super::*;
    use proptest::prelude::*;

    fn deliver(data: UserData) -> Deliver {
        let coding = if data.alphabet == Alphabet::Ucs2 {
            0x08
        } else {
            0x00
        };
        Deliver {
            smsc: Some(Address::new("+12085550100")),
            sender: Address::new("+4479460001"),
            protocol: 0,
            coding,
            sent_at: Timestamp::new(1_752_228_784, 8),
            data,
        }
    }

    fn again(pdu: &Deliver) -> Deliver {
        match Received::decode(&pdu.encode().unwrap()) {
            Ok(Received::Deliver(pdu)) => pdu,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_known_deliver() {
        let octets = [
            0x07, 0x91, 0x21, 0x43, 0x65, 0x87, 0x09, 0xF0, 0x04, 0x0B, 0x91, 0x21, 0x43, 0x65,
            0x87, 0x09, 0xF0, 0x00, 0x00, 0x52, 0x70, 0x11, 0x21, 0x31, 0x40, 0x80, 0x04, 0xD4,
            0xF2, 0x9C, 0x0E,
        ];
        let Ok(Received::Deliver(pdu)) = Received::decode(&octets) else {
            panic!("not a deliver")
        };
        assert_eq!(pdu.smsc.as_ref().unwrap().text, "+12345678900");
        assert_eq!(pdu.sender.text, "+12345678900");
        assert_eq!(pdu.data.to_text().unwrap(), "Test");
        assert_eq!(pdu.sent_at.unix_s(), Some(1_752_228_784));
        assert_eq!(pdu.encode().unwrap(), octets);
    }

    #[test]
    fn a_broken_header_is_ignored_and_the_text_read() {
        // UDHL 5 with an element that claims 9 octets: all elements go, the text behind stays.
        let mut octets = deliver(UserData::ucs2(
            "ab",
            vec![Element {
                id: 0,
                value: vec![1, 2, 1],
            }],
        ))
        .encode()
        .unwrap();
        let element_length = octets.len() - 4 - 3 - 1;
        octets[element_length] = 9;
        let Ok(Received::Deliver(pdu)) = Received::decode(&octets) else {
            panic!("not a deliver")
        };
        assert_eq!(
            (pdu.data.header.len(), pdu.data.to_text().unwrap().as_str()),
            (0, "ab")
        );
    }

    #[test]
    fn the_reserved_type_is_read_as_a_deliver() {
        let mut octets = deliver(UserData::text("Test", vec![])).encode().unwrap();
        let first = usize::from(octets[0]) + 1;
        octets[first] |= RESERVED;
        let Ok(Received::Deliver(pdu)) = Received::decode(&octets) else {
            panic!("not a deliver")
        };
        assert_eq!(pdu.data.to_text().unwrap(), "Test");
    }

    #[test]
    fn errors_name_the_field() {
        let octets = deliver(UserData::text("Test", vec![])).encode().unwrap();
        let error = |n: usize| Received::decode(&octets[..n]).unwrap_err().to_string();
        assert_eq!(error(0), "SMSC address: needs 1 octets, got 0");
        assert_eq!(error(3), "SMSC address: needs 7 octets, got 2");
        assert_eq!(error(octets.len() - 1), "user data: needs 4 octets, got 3");
        let long = Address::new(&"1".repeat(21));
        let error = Deliver {
            sender: long,
            ..deliver(UserData::text("", vec![]))
        }
        .encode()
        .unwrap_err();
        assert_eq!(error.to_string(), "sender: 21 digits, at most 20");
        let error = deliver(UserData::text(&"a".repeat(161), vec![]))
            .encode()
            .unwrap_err();
        assert_eq!(error, PduError::UserDataTooLong { octets: 141 });
        let error = Received::decode(&[0, 0x01, 0]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "first octet 0x01 is no SMS-DELIVER or SMS-STATUS-REPORT"
        );
    }

    #[test]
    fn outcomes() {
        assert_eq!(
            [0x00, 0x01, 0x20, 0x41, 0x46, 0x63, 0xFF].map(outcome),
            [
                "delivered",
                "delivered",
                "pending",
                "failed",
                "expired",
                "failed",
                "failed"
            ]
        );
    }

    prop_compose! {
        fn concatenation()(reference: u16, total in 1u8.., number: u8, wide: bool) -> Concatenation {
            let reference = if wide { reference } else { reference & 0xFF };
            Concatenation { reference, total, number: number % total + 1, wide }
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_a_pdu_or_an_error(octets: Vec<u8>) {
            let _ = Received::decode(&octets);
            let _ = Submit::decode(&octets);
        }

        #[test]
        fn near_pdus_are_a_pdu_or_an_error(
            text in "[a-zé€😀]{0,40}",
            part in prop::option::of(concatenation()),
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let header = part.map(Concatenation::element).into_iter().collect();
            let mut octets = deliver(UserData::text(&text, header)).encode().unwrap();
            for (at, value) in flips {
                *at.get_mut(&mut octets) = value;
            }
            octets.truncate(cut.index(octets.len()) + 1);
            if let Ok(Received::Deliver(pdu)) = Received::decode(&octets) {
                let _ = join_text([&pdu.data]);
                prop_assert!(pdu.data.body.len() <= MAX_USER_DATA_SEPTETS);
            }
        }

        #[test]
        fn deliver_round_trip(
            text in prop_oneof!["[ -Za-z€]{0,70}", "[a-zá😀]{0,33}"],
            part in prop::option::of(concatenation()),
            unknown in prop::collection::vec(any::<u8>(), 0..5),
            sender in prop_oneof!["\\+[0-9]{1,15}", "[0-9*#]{1,20}", "[A-Za-z ]{1,11}"],
        ) {
            let mut header: Vec<Element> = part.map(Concatenation::element).into_iter().collect();
            if !unknown.is_empty() {
                header.push(Element { id: 0x70, value: unknown });
            }
            let pdu = Deliver { sender: Address::new(&sender), ..deliver(UserData::text(&text, header)) };
            if pdu.data.body.len() > 120 {
                return Ok(());
            }
            let read = again(&pdu);
            prop_assert_eq!(&read, &pdu);
            prop_assert_eq!(read.data.to_text(), Some(text));
            prop_assert_eq!(read.data.concatenation(), part);
        }

        #[test]
        fn submit_and_report_round_trip(
            text in "[a-z€]{0,70}",
            reference: u8,
            report: bool,
            validity: Option<u8>,
            status: u8,
            part in concatenation(),
        ) {
            let recipient = Address::new("+34600111222");
            let data = UserData::text(&text, vec![part.element()]);
            let submit = Submit { smsc: None, reference, report, recipient, protocol: 0, coding: 0, validity, data };
            prop_assert_eq!(Submit::decode(&submit.encode().unwrap()), Ok(submit.clone()));
            let sent_at = Timestamp::new(1_752_228_784, -20);
            let report = StatusReport {
                smsc: Some(Address::new("+12085550100")),
                reference,
                recipient: submit.recipient,
                sent_at,
                discharged_at: sent_at,
                status,
            };
            prop_assert_eq!(Received::decode(&report.encode().unwrap()), Ok(Received::StatusReport(report)));
        }
    }
}
