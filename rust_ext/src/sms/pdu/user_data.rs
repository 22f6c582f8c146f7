//! User data and its header: elements, parts of longer texts, national tables (3GPP TS 23.040 §9.2.3.24).

use super::coding::Alphabet;
use super::error::{PduError, Result};
use crate::sms::gsm7;
use crate::sms::shift;

/// Octets of the longest user data, header included (TS 23.040 §9.2.3.16).
pub const MAX_USER_DATA_OCTETS: usize = 140;
pub(super) const MAX_USER_DATA_SEPTETS: usize = 160;

/// Concatenation with an 8-bit reference (TS 23.040 §9.2.3.24.1).
pub const CONCATENATION_8: u8 = 0x00;
/// Concatenation with a 16-bit reference (§9.2.3.24.8).
pub const CONCATENATION_16: u8 = 0x08;
/// National language single shift (§9.2.3.24.15).
pub const SINGLE_SHIFT: u8 = 0x24;
/// National language locking shift (§9.2.3.24.16).
pub const LOCKING_SHIFT: u8 = 0x25;

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

    /// National language that an element names.
    fn language(&self, id: u8) -> Option<u8> {
        self.element(&[id])?.value.first().copied()
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
    pub(super) fn read(octets: &[u8], has_header: bool, coding: u8) -> Result<Self> {
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
    pub(super) fn write(&self, to: &mut Vec<u8>) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
