//! National language shift tables, for reading only: we never send shifted text (3GPP TS 23.038 annex A).
//!
//! A phone set to one of these languages swaps the default alphabet (locking) or the extension table (single
//! shift) and says so in the user data header. A reader that ignores it turns «está» into «est¹a».

use super::gsm7::{self, ESCAPE};

/// Language identifier in the header (TS 23.038 §6.2.1.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// 1; both tables.
    Turkish,
    /// 2; single shift only.
    Spanish,
    /// 3; both tables.
    Portuguese,
}

impl Language {
    /// Language of an identifier; `None` for one whose tables are not here, and the default ones are read.
    pub fn from_identifier(identifier: u8) -> Option<Self> {
        match identifier {
            1 => Some(Self::Turkish),
            2 => Some(Self::Spanish),
            3 => Some(Self::Portuguese),
            _ => None,
        }
    }

    /// Where the locking table differs from the default alphabet.
    fn locking(self) -> &'static [(u8, char)] {
        match self {
            Self::Turkish => &[
                (0x04, '€'),
                (0x07, 'ı'),
                (0x0B, 'Ğ'),
                (0x0C, 'ğ'),
                (0x1C, 'Ş'),
                (0x1D, 'ş'),
                (0x40, 'İ'),
                (0x60, 'ç'),
            ],
            Self::Spanish => &[],
            Self::Portuguese => &[
                (0x04, 'ê'),
                (0x06, 'ú'),
                (0x07, 'í'),
                (0x08, 'ó'),
                (0x09, 'ç'),
                (0x0B, 'Ô'),
                (0x0C, 'ô'),
                (0x0E, 'Á'),
                (0x0F, 'á'),
                (0x12, 'ª'),
                (0x13, 'Ç'),
                (0x14, 'À'),
                (0x15, '∞'),
                (0x16, '^'),
                (0x17, '\\'),
                (0x18, '€'),
                (0x19, 'Ó'),
                (0x1A, '|'),
                (0x1C, 'Â'),
                (0x1D, 'â'),
                (0x1E, 'Ê'),
                (0x24, 'º'),
                (0x40, 'Í'),
                (0x5B, 'Ã'),
                (0x5C, 'Õ'),
                (0x5D, 'Ú'),
                (0x60, '~'),
                (0x7B, 'ã'),
                (0x7C, 'õ'),
                (0x7D, '`'),
            ],
        }
    }

    /// What the single shift table adds to the default extension table.
    fn single(self) -> &'static [(u8, char)] {
        match self {
            Self::Turkish => &[
                (0x47, 'Ğ'),
                (0x49, 'İ'),
                (0x53, 'Ş'),
                (0x63, 'ç'),
                (0x67, 'ğ'),
                (0x69, 'ı'),
                (0x73, 'ş'),
            ],
            Self::Spanish => &[
                (0x09, 'ç'),
                (0x41, 'Á'),
                (0x49, 'Í'),
                (0x4F, 'Ó'),
                (0x55, 'Ú'),
                (0x61, 'á'),
                (0x69, 'í'),
                (0x6F, 'ó'),
                (0x75, 'ú'),
            ],
            Self::Portuguese => &[
                (0x05, 'ê'),
                (0x09, 'ç'),
                (0x0B, 'Ô'),
                (0x0C, 'ô'),
                (0x0E, 'Á'),
                (0x0F, 'á'),
                (0x12, 'Φ'),
                (0x13, 'Γ'),
                (0x15, 'Ω'),
                (0x16, 'Π'),
                (0x17, 'Ψ'),
                (0x18, 'Σ'),
                (0x19, 'Θ'),
                (0x1F, 'Ê'),
                (0x41, 'À'),
                (0x49, 'Í'),
                (0x4F, 'Ó'),
                (0x55, 'Ú'),
                (0x5B, 'Ã'),
                (0x5C, 'Õ'),
                (0x61, 'Â'),
                (0x69, 'í'),
                (0x6F, 'ó'),
                (0x75, 'ú'),
                (0x7B, 'ã'),
                (0x7C, 'õ'),
                (0x7F, 'â'),
            ],
        }
    }
}

fn lookup(table: &[(u8, char)], code: u8) -> Option<char> {
    table.iter().find(|(of, _)| *of == code).map(|(_, c)| *c)
}

/// Text of septets given one per octet, under the tables that the header names.
pub fn decode(septets: &[u8], locking: Option<Language>, single: Option<Language>) -> String {
    if locking.is_none() && single.is_none() {
        return gsm7::decode(septets);
    }
    let mut text = String::with_capacity(septets.len());
    let mut rest = septets;
    while let [first, tail @ ..] = rest {
        let code = first & 0x7F;
        let pair = if code == ESCAPE { tail.first() } else { None };
        let shifted = pair.and_then(|second| lookup(single?.single(), second & 0x7F));
        let locked = locking.and_then(|language| lookup(language.locking(), code));
        let taken = 1 + usize::from(pair.is_some());
        match shifted.or(locked) {
            Some(c) => text.push(c),
            None => text.push_str(&gsm7::decode(&rest[..taken])),
        }
        rest = &rest[taken..];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shifted_characters_and_the_rest_as_always() {
        let text = decode(
            &[0x65, 0x73, 0x74, 0x1B, 0x61, 0x1B, 0x65],
            None,
            Some(Language::Spanish),
        );
        assert_eq!(text, "está€");
        let text = decode(
            &[0x53, 0x7B, 0x6F, 0x1B, 0x28],
            Some(Language::Portuguese),
            None,
        );
        assert_eq!(text, "São{");
        let both = Some(Language::Turkish);
        assert_eq!(decode(&[0x1D, 0x1B, 0x69, 0x04, 0x61], both, both), "şı€a");
    }

    #[test]
    fn an_escape_at_the_end_or_before_an_escape_is_a_space() {
        assert_eq!(decode(&[0x61, 0x1B], None, Some(Language::Spanish)), "a ");
        assert_eq!(
            decode(&[0x1B, 0x1B, 0x61], None, Some(Language::Spanish)),
            " a"
        );
    }

    proptest! {
        #[test]
        fn any_octets_decode(septets: Vec<u8>, locking: u8, single: u8) {
            let language = |id| Language::from_identifier(id % 5);
            prop_assert!(decode(&septets, language(locking), language(single)).chars().count() <= septets.len());
        }
    }
}
