//! TP addresses and the SMSC address in front of a PDU (3GPP TS 23.040 §9.1.2.5, TS 27.005 §3.1).

use super::gsm7;
use super::pdu::PduError;

/// International number in the ISDN plan (E.164).
pub const INTERNATIONAL: u8 = 0x91;
/// Number of unknown type in the ISDN plan: as the person dialled it.
pub const UNKNOWN: u8 = 0x81;
/// Name in the GSM 7-bit alphabet instead of a number; nobody can be answered there.
pub const ALPHANUMERIC: u8 = 0xD0;

/// Semi-octets from 0 to 14; 15 is the filler of an odd count.
const DIGITS: &[u8; 15] = b"0123456789*#abc";
/// Digits of the longest address.
pub const MAX_DIGITS: usize = 20;
/// Characters of the longest name: 20 semi-octets hold 11 septets.
const MAX_NAME_SEPTETS: usize = 11;

/// Who sends or receives: a number with `+` in front when it is international, or a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Number or name as people write it.
    pub text: String,
    /// Type-of-address octet: type of number in bits 6 to 4, numbering plan in bits 3 to 0.
    pub kind: u8,
}

impl Address {
    /// Address of a number or name as people write it: `+` and digits, digits alone, or a name.
    pub fn new(text: &str) -> Self {
        let digits = text.strip_prefix('+').unwrap_or(text);
        let number = !digits.is_empty() && digits.bytes().all(|b| DIGITS.contains(&b));
        let kind = match (number, text.starts_with('+')) {
            (true, true) => INTERNATIONAL,
            (true, false) => UNKNOWN,
            (false, _) if text.is_empty() => UNKNOWN,
            (false, _) => ALPHANUMERIC,
        };
        let text = text.to_owned();
        Self { text, kind }
    }

    fn type_of_number(kind: u8) -> u8 {
        kind >> 4 & 0x07
    }

    /// A name, which cannot be answered.
    pub fn is_name(&self) -> bool {
        Self::type_of_number(self.kind) == 5
    }

    fn from_digits(octets: &[u8], count: usize, kind: u8) -> Result<Self, PduError> {
        let mut text = String::with_capacity(count + 1);
        if Self::type_of_number(kind) == 1 {
            text.push('+');
        }
        for at in 0..count {
            let digit = octets[at / 2] >> (4 * (at % 2)) & 0x0F;
            match DIGITS.get(usize::from(digit)) {
                Some(digit) => text.push(char::from(*digit)),
                // Some networks count the filler as a digit.
                None if at + 1 == count => {}
                None => return Err(PduError::Digit { at }),
            }
        }
        Ok(Self { text, kind })
    }

    /// Reads a TP address; gives it with the octets behind it.
    pub(super) fn read<'o>(
        octets: &'o [u8],
        of: &'static str,
    ) -> Result<(Self, &'o [u8]), PduError> {
        let [count, kind, rest @ ..] = octets else {
            return Err(PduError::Truncated {
                of,
                needed: 2,
                got: octets.len(),
            });
        };
        let (count, kind) = (usize::from(*count), *kind);
        if count > MAX_DIGITS {
            return Err(PduError::AddressTooLong { of, digits: count });
        }
        let needed = count.div_ceil(2);
        if rest.len() < needed {
            return Err(PduError::Truncated {
                of,
                needed,
                got: rest.len(),
            });
        }
        let (value, rest) = rest.split_at(needed);
        let address = if Self::type_of_number(kind) == 5 {
            let septets = gsm7::unpack(value, 0, count * 4 / 7)?;
            let text = gsm7::decode(&septets);
            Self { text, kind }
        } else {
            Self::from_digits(value, count, kind)?
        };
        Ok((address, rest))
    }

    /// Reads the SMSC address, whose length counts octets; a length of 0 leaves it to the SIM.
    pub(super) fn read_smsc(octets: &[u8]) -> Result<(Option<Self>, &[u8]), PduError> {
        const OF: &str = "SMSC address";
        let [count, rest @ ..] = octets else {
            return Err(PduError::Truncated {
                of: OF,
                needed: 1,
                got: 0,
            });
        };
        let needed = usize::from(*count);
        if rest.len() < needed {
            return Err(PduError::Truncated {
                of: OF,
                needed,
                got: rest.len(),
            });
        }
        let (value, rest) = rest.split_at(needed);
        match value {
            [] => Ok((None, rest)),
            [kind, digits @ ..] if digits.len() * 2 <= MAX_DIGITS => {
                let address = Self::from_digits(digits, digits.len() * 2, *kind)?;
                Ok((Some(address), rest))
            }
            [_, digits @ ..] => Err(PduError::AddressTooLong {
                of: OF,
                digits: digits.len() * 2,
            }),
        }
    }

    #[allow(clippy::cast_possible_truncation)] // a position among fifteen digits
    fn semi_octets(&self, of: &'static str) -> Result<(usize, Vec<u8>), PduError> {
        let digits = self.text.strip_prefix('+').unwrap_or(&self.text);
        let mut octets = vec![];
        for (at, digit) in digits.bytes().enumerate() {
            let value = DIGITS
                .iter()
                .position(|d| *d == digit)
                .ok_or(PduError::Digit { at })? as u8;
            match at % 2 {
                0 => octets.push(0xF0 | value),
                _ => octets[at / 2] = octets[at / 2] & 0x0F | value << 4,
            }
        }
        if digits.len() > MAX_DIGITS {
            return Err(PduError::AddressTooLong {
                of,
                digits: digits.len(),
            });
        }
        Ok((digits.len(), octets))
    }

    /// Appends the TP address.
    #[allow(clippy::cast_possible_truncation)] // at most 20 semi-octets
    pub(super) fn write(&self, to: &mut Vec<u8>, of: &'static str) -> Result<(), PduError> {
        let (count, octets) = if self.is_name() {
            let septets = gsm7::encode(&self.text)?;
            if septets.len() > MAX_NAME_SEPTETS {
                let digits = (septets.len() * 7).div_ceil(4);
                return Err(PduError::AddressTooLong { of, digits });
            }
            ((septets.len() * 7).div_ceil(4), gsm7::pack(&septets, 0))
        } else {
            self.semi_octets(of)?
        };
        to.extend([count as u8, self.kind]);
        to.extend(octets);
        Ok(())
    }

    /// Appends the SMSC address.
    #[allow(clippy::cast_possible_truncation)] // at most 10 octets
    pub(super) fn write_smsc(smsc: Option<&Self>, to: &mut Vec<u8>) -> Result<(), PduError> {
        let Some(smsc) = smsc else {
            to.push(0);
            return Ok(());
        };
        let (_, octets) = smsc.semi_octets("SMSC address")?;
        to.extend([octets.len() as u8 + 1, smsc.kind]);
        to.extend(octets);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(text: &str) -> Address {
        let mut octets = vec![];
        Address::new(text).write(&mut octets, "sender").unwrap();
        octets.push(0xAA);
        let (address, rest) = Address::read(&octets, "sender").unwrap();
        assert_eq!(rest, [0xAA], "{text}");
        address
    }

    #[test]
    fn numbers_and_names_come_back_as_they_went() {
        for text in ["+4479460001", "112", "*100#", "0a1b2c", "", "EVY", "1-TEXT"] {
            assert_eq!(round_trip(text), Address::new(text));
        }
        assert!(Address::new("Ñandú").write(&mut vec![], "sender").is_err());
        assert!(round_trip("ALERTA SOS1").is_name());
    }

    #[test]
    fn limits_are_errors_with_the_size() {
        let error = Address::new("+123456789012345678901").write(&mut vec![], "sender");
        assert_eq!(
            error,
            Err(PduError::AddressTooLong {
                of: "sender",
                digits: 21
            })
        );
        let error = Address::read(&[21, 0x91], "sender").unwrap_err();
        assert_eq!(
            error,
            PduError::AddressTooLong {
                of: "sender",
                digits: 21
            }
        );
        let error = Address::read(&[3, 0x91, 0x21], "sender").unwrap_err();
        assert_eq!(
            error,
            PduError::Truncated {
                of: "sender",
                needed: 2,
                got: 1
            }
        );
        assert!(
            Address::new("TWELVE CHARS")
                .write(&mut vec![], "sender")
                .is_err()
        );
    }

    #[test]
    fn a_filler_counted_as_a_digit_is_dropped_and_one_inside_refused() {
        let (address, _) = Address::read(&[4, 0x91, 0x21, 0xF3], "sender").unwrap();
        assert_eq!(address.text, "+123");
        let error = Address::read(&[4, 0x91, 0x2F, 0x43], "sender").unwrap_err();
        assert_eq!(error, PduError::Digit { at: 0 });
    }

    #[test]
    fn smsc_length_counts_octets_and_may_be_zero() {
        let mut octets = vec![];
        Address::write_smsc(Some(&Address::new("+12085550100")), &mut octets).unwrap();
        assert_eq!(octets, [0x07, 0x91, 0x21, 0x80, 0x55, 0x05, 0x01, 0xF0]);
        let (smsc, rest) = Address::read_smsc(&octets).unwrap();
        assert_eq!(
            (smsc.unwrap().text.as_str(), rest.len()),
            ("+12085550100", 0)
        );
        assert_eq!(Address::read_smsc(&[0, 1]), Ok((None, &[1][..])));
    }
}
