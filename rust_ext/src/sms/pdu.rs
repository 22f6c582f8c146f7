//! SMS-DELIVER, SMS-SUBMIT and SMS-STATUS-REPORT with their SMSC prefix, as a modem in PDU mode shows and
//! takes them (3GPP TS 23.040 §9.2, TS 27.005 §3).
//!
//! Reading takes any octets and never panics: what is not a PDU is a [`PduError`] that says where it breaks.
//! Where the standard tells a receiver to look past a flaw (a broken header, an impossible part number), the
//! text is kept and the flaw ignored, because somebody wrote that text.

use thiserror::Error;

use super::address::Address;
use super::gsm7::{self, Gsm7Error};
use super::shift::{self, Language};
use super::timestamp::{self, Timestamp};

/// Octets of the longest user data, header included (TS 23.040 §9.2.3.16).
pub const MAX_USER_DATA_OCTETS: usize = 140;
const MAX_USER_DATA_SEPTETS: usize = 160;

/// Concatenation with an 8-bit reference (TS 23.040 §9.2.3.24.1).
pub const CONCATENATION_8: u8 = 0x00;
/// Concatenation with a 16-bit reference (§9.2.3.24.8).
pub const CONCATENATION_16: u8 = 0x08;
/// National language single shift (§9.2.3.24.15).
pub const SINGLE_SHIFT: u8 = 0x24;
/// National language locking shift (§9.2.3.24.16).
pub const LOCKING_SHIFT: u8 = 0x25;

/// Type in bits 1 and 0 of the first octet; what it means depends on who sent it (§9.2.3.1).
const TYPE_MASK: u8 = 0x03;
const DELIVER: u8 = 0;
const SUBMIT: u8 = 1;
const STATUS_REPORT: u8 = 2;
/// TP-UDHI: the user data begins with a header.
const HEADER: u8 = 0x40;
/// TP-SRR in a SUBMIT: the sender wants a status report.
const REPORT_REQUEST: u8 = 0x20;
/// TP-VPF in a SUBMIT.
const VALIDITY_MASK: u8 = 0x18;

/// What makes octets not a PDU, or a message not fit into one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PduError {
    /// The octets end too early.
    #[error("{of}: needs {needed} octets, got {got}")]
    Truncated {
        /// What was being read.
        of: &'static str,
        /// Octets it needs.
        needed: usize,
        /// Octets there are.
        got: usize,
    },
    /// A message type that does not come this way.
    #[error("first octet {first:#04x} is no {expected}")]
    Type {
        /// First octet of the TPDU.
        first: u8,
        /// Types that do.
        expected: &'static str,
    },
    /// An address longer than the standard allows.
    #[error("{of}: {digits} digits, at most 20")]
    AddressTooLong {
        /// Which address.
        of: &'static str,
        /// Semi-octets it takes.
        digits: usize,
    },
    /// A semi-octet or character that is no digit.
    #[error("address: position {at} is no digit")]
    Digit {
        /// Position, from 0.
        at: usize,
    },
    /// More user data than a message holds.
    #[error("user data of {octets} octets, at most 140")]
    UserDataTooLong {
        /// Octets, the header included.
        octets: usize,
    },
    /// A header element longer than its length octet can say, or a part number that cannot be.
    #[error("user data header: {0}")]
    Header(&'static str),
    /// Septets that are not there, or a character that has none.
    #[error(transparent)]
    Alphabet(#[from] Gsm7Error),
}

type Result<T> = std::result::Result<T, PduError>;

/// How the user data is coded (TS 23.038 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alphabet {
    /// GSM 7-bit, also for every reserved value.
    Gsm7,
    /// UTF-16 under the name UCS-2.
    Ucs2,
    /// Octets that are no text: 8-bit data, or text compressed as nobody does.
    Data,
}

impl Alphabet {
    /// Alphabet of a data coding scheme.
    pub const fn of(coding: u8) -> Self {
        match coding >> 4 {
            0x0..=0x7 if coding & 0x20 != 0 => Self::Data,
            0x0..=0x7 => match coding >> 2 & 0x03 {
                1 => Self::Data,
                2 => Self::Ucs2,
                _ => Self::Gsm7,
            },
            0xE => Self::Ucs2,
            0xF if coding & 0x04 != 0 => Self::Data,
            _ => Self::Gsm7,
        }
    }

    /// `gsm7`, `ucs2` or `data`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gsm7 => "gsm7",
            Self::Ucs2 => "ucs2",
            Self::Data => "data",
        }
    }
}

/// Message class of a data coding scheme: 0 shows at once and is not stored, 2 goes to the SIM.
pub const fn message_class(coding: u8) -> Option<u8> {
    if (coding & 0x90 == 0x10) || coding >> 4 == 0xF {
        Some(coding & 0x03)
    } else {
        None
    }
}

/// One information element of the user data header; unknown ones are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Identifier (TS 23.040 §9.2.3.24).
    pub id: u8,
    /// Value, at most 255 octets, in practice far fewer.
    pub value: Vec<u8>,
}

/// Which part of a longer text this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concatenation {
    /// Common to all parts of a text from one sender; 8 or 16 bits.
    pub reference: u16,
    /// Parts of the text, from 1.
    pub total: u8,
    /// This part, from 1 to `total`.
    pub number: u8,
    /// The reference has 16 bits.
    pub wide: bool,
}

impl Concatenation {
    /// Element that says so.
    pub fn element(self) -> Element {
        let [high, low] = self.reference.to_be_bytes();
        let (id, mut value) = if self.wide {
            (CONCATENATION_16, vec![high, low])
        } else {
            (CONCATENATION_8, vec![low])
        };
        value.extend([self.total, self.number]);
        Element { id, value }
    }
}

/// User data: header elements and what follows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserData {
    /// Header, empty without one.
    pub header: Vec<Element>,
    /// Septets one per octet, UTF-16 big-endian, or plain octets, as `alphabet` says.
    pub body: Vec<u8>,
    /// How `body` is coded.
    pub alphabet: Alphabet,
}

impl UserData {
    /// User data of a text: GSM 7-bit if every character is in it, UCS-2 otherwise.
    pub fn text(text: &str, header: Vec<Element>) -> Self {
        match gsm7::encode(text) {
            Ok(body) => Self {
                header,
                body,
                alphabet: Alphabet::Gsm7,
            },
            Err(_) => Self::ucs2(text, header),
        }
    }

    /// User data of a text in UCS-2 whatever its characters.
    pub fn ucs2(text: &str, header: Vec<Element>) -> Self {
        let body = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        Self {
            header,
            body,
            alphabet: Alphabet::Ucs2,
        }
    }

    /// What is written, under the national tables that the header names; `None` for data.
    ///
    /// Half a surrogate pair, as senders leave it at a part's edge, shows as U+FFFD: join the parts first.
    pub fn to_text(&self) -> Option<String> {
        match self.alphabet {
            Alphabet::Gsm7 => Some(shift::decode(
                &self.body,
                self.language(LOCKING_SHIFT),
                self.language(SINGLE_SHIFT),
            )),
            Alphabet::Ucs2 => Some(ucs2_text(&self.body)),
            Alphabet::Data => None,
        }
    }

    /// Last element of this identifier; of repeated ones a receiver takes the last (§9.2.3.24).
    fn element(&self, ids: &[u8]) -> Option<&Element> {
        self.header.iter().rev().find(|e| ids.contains(&e.id))
    }

    fn language(&self, id: u8) -> Option<Language> {
        Language::from_identifier(*self.element(&[id])?.value.first()?)
    }

    /// Which part this is; `None` for a whole text and for a part number that cannot be.
    pub fn concatenation(&self) -> Option<Concatenation> {
        let element = self.element(&[CONCATENATION_8, CONCATENATION_16])?;
        let (reference, total, number) = match (element.id, element.value.as_slice()) {
            (CONCATENATION_8, &[reference, total, number]) => (u16::from(reference), total, number),
            (CONCATENATION_16, &[high, low, total, number]) => {
                (u16::from_be_bytes([high, low]), total, number)
            }
            _ => return None,
        };
        let wide = element.id == CONCATENATION_16;
        (number >= 1 && number <= total).then_some(Concatenation {
            reference,
            total,
            number,
            wide,
        })
    }

    /// Reads user data behind its length octet.
    fn read(octets: &[u8], has_header: bool, coding: u8) -> Result<Self> {
        const OF: &str = "user data";
        let alphabet = Alphabet::of(coding);
        let [length, rest @ ..] = octets else {
            return Err(PduError::Truncated {
                of: OF,
                needed: 1,
                got: 0,
            });
        };
        let length = usize::from(*length);
        let needed = match alphabet {
            Alphabet::Gsm7 => (length * 7).div_ceil(8),
            _ => length,
        };
        if needed > MAX_USER_DATA_OCTETS {
            return Err(PduError::UserDataTooLong { octets: needed });
        }
        if rest.len() < needed {
            return Err(PduError::Truncated {
                of: OF,
                needed,
                got: rest.len(),
            });
        }
        let data = &rest[..needed];
        let (header, header_octets) = if has_header {
            read_header(data)?
        } else {
            (vec![], 0)
        };
        let body = match alphabet {
            Alphabet::Gsm7 => {
                let header_septets = (header_octets * 8).div_ceil(7);
                let count = length.saturating_sub(header_septets);
                let fill = if header_octets == 0 {
                    0
                } else {
                    gsm7::fill_bits(header_octets)
                };
                gsm7::unpack(&data[header_octets.min(data.len())..], fill, count)?
            }
            _ => data[header_octets..].to_vec(),
        };
        Ok(Self {
            header,
            body,
            alphabet,
        })
    }

    /// Appends length octet, header and body.
    #[allow(clippy::cast_possible_truncation)] // at most 160 septets or 140 octets
    fn write(&self, to: &mut Vec<u8>) -> Result<()> {
        let mut data = vec![];
        if !self.header.is_empty() {
            data.push(0);
            for Element { id, value } in &self.header {
                let length = u8::try_from(value.len())
                    .map_err(|_| PduError::Header("element over 255 octets"))?;
                data.extend([*id, length]);
                data.extend(value);
            }
            data[0] = u8::try_from(data.len() - 1)
                .map_err(|_| PduError::UserDataTooLong { octets: data.len() })?;
        }
        let length = if self.alphabet == Alphabet::Gsm7 {
            let header_septets = (data.len() * 8).div_ceil(7);
            let fill = if data.is_empty() {
                0
            } else {
                gsm7::fill_bits(data.len())
            };
            data.extend(gsm7::pack(&self.body, fill));
            let septets = header_septets + self.body.len();
            // A header alone still ends on a septet boundary.
            data.resize((septets * 7).div_ceil(8), 0);
            if septets > MAX_USER_DATA_SEPTETS {
                return Err(PduError::UserDataTooLong {
                    octets: (septets * 7).div_ceil(8),
                });
            }
            septets
        } else {
            data.extend(&self.body);
            data.len()
        };
        if data.len() > MAX_USER_DATA_OCTETS {
            return Err(PduError::UserDataTooLong { octets: data.len() });
        }
        to.push(length as u8);
        to.extend(data);
        Ok(())
    }
}

/// Text of UTF-16 big-endian; an odd octet at the end is dropped.
fn ucs2_text(octets: &[u8]) -> String {
    let units: Vec<u16> = octets
        .chunks_exact(2)
        .map(|o| u16::from_be_bytes([o[0], o[1]]))
        .collect();
    String::from_utf16_lossy(&units)
}

/// Header elements with the octets the header takes, its length octet included.
///
/// When the elements do not fill the header exactly they are all ignored (§9.2.3.24).
fn read_header(data: &[u8]) -> Result<(Vec<Element>, usize)> {
    const OF: &str = "user data header";
    let [length, rest @ ..] = data else {
        return Err(PduError::Truncated {
            of: OF,
            needed: 1,
            got: 0,
        });
    };
    let length = usize::from(*length);
    if rest.len() < length {
        return Err(PduError::Truncated {
            of: OF,
            needed: length,
            got: rest.len(),
        });
    }
    let mut elements = vec![];
    let mut left = &rest[..length];
    while let [id, size, tail @ ..] = left {
        let size = usize::from(*size);
        if tail.len() < size {
            break;
        }
        elements.push(Element {
            id: *id,
            value: tail[..size].to_vec(),
        });
        left = &tail[size..];
    }
    if !left.is_empty() {
        elements.clear();
    }
    Ok((elements, length + 1))
}

/// Text of the parts of one message, in order, each with its own alphabet and header.
///
/// UCS-2 parts are joined before they are read: some phones divide a surrogate pair between two parts.
pub fn join_text<'d>(parts: impl IntoIterator<Item = &'d UserData>) -> String {
    let mut text = String::new();
    let mut units: Vec<u8> = vec![];
    for part in parts {
        if part.alphabet == Alphabet::Ucs2 {
            units.extend(&part.body[..part.body.len() & !1]);
        } else {
            text.push_str(&ucs2_text(&std::mem::take(&mut units)));
            text.push_str(&part.to_text().unwrap_or_default());
        }
    }
    text.push_str(&ucs2_text(&units));
    text
}

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
            DELIVER => {
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
    fn part_numbers_that_cannot_be_are_ignored_and_the_last_repeated_element_counts() {
        let element = |number, total| {
            Concatenation {
                reference: 7,
                total,
                number,
                wide: false,
            }
            .element()
        };
        let part = |header| UserData::text("x", header).concatenation();
        assert_eq!(part(vec![element(0, 2)]), None);
        assert_eq!(part(vec![element(3, 2)]), None);
        assert_eq!(part(vec![element(0, 0)]), None);
        let wide = Concatenation {
            reference: 0xBEEF,
            total: 3,
            number: 2,
            wide: true,
        };
        assert_eq!(part(vec![element(1, 2), wide.element()]), Some(wide));
    }

    #[test]
    fn a_surrogate_pair_divided_between_two_parts_is_joined() {
        let half = |units: &[u16]| UserData {
            header: vec![],
            body: units.iter().flat_map(|u| u.to_be_bytes()).collect(),
            alphabet: Alphabet::Ucs2,
        };
        let parts = [half(&[0x41, 0xD83D]), half(&[0xDE00, 0x42])];
        assert_eq!(join_text(&parts), "A😀B");
        assert_eq!(parts[0].to_text().unwrap(), "A\u{FFFD}");
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
    fn every_coding_octet_has_an_alphabet_and_classes_as_the_standard_lists_them() {
        let classes: Vec<_> = [0x00, 0x10, 0x11, 0x18, 0x1A, 0xF0, 0xF1, 0xF6, 0xC0, 0x50]
            .map(message_class)
            .into();
        assert_eq!(
            classes,
            [
                None,
                Some(0),
                Some(1),
                Some(0),
                Some(2),
                Some(0),
                Some(1),
                Some(2),
                None,
                Some(0)
            ]
        );
        let names = [
            0x00, 0x04, 0x08, 0x0C, 0x20, 0x18, 0x80, 0xC8, 0xD0, 0xE0, 0xF0, 0xF4,
        ]
        .map(|c| Alphabet::of(c).name());
        assert_eq!(
            names,
            [
                "gsm7", "data", "ucs2", "gsm7", "data", "ucs2", "gsm7", "gsm7", "gsm7", "ucs2",
                "gsm7", "data"
            ]
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
