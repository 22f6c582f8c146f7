//! The data coding scheme: which alphabet, which message class (3GPP TS 23.038 §4).

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
