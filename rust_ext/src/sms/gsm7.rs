//! GSM 7-bit default alphabet with its extension table, and septet packing (3GPP TS 23.038 §6.1.2, §6.2.1).
//!
//! National shift tables are decoded elsewhere and never sent: many phones ignore them.

use thiserror::Error;

/// Escape to the extension table; it is a code, not a character.
pub const ESCAPE: u8 = 0x1B;

/// Default alphabet by code; the escape stands at its own place and is never looked up.
#[rustfmt::skip] // sixteen a line, as in the standard's table read by columns
const DEFAULT: [char; 128] = [
    '@', '£', '$', '¥', 'è', 'é', 'ù', 'ì', 'ò', 'Ç', '\n', 'Ø', 'ø', '\r', 'Å', 'å',
    'Δ', '_', 'Φ', 'Γ', 'Λ', 'Ω', 'Π', 'Ψ', 'Σ', 'Θ', 'Ξ', '\u{1B}', 'Æ', 'æ', 'ß', 'É',
    ' ', '!', '"', '#', '¤', '%', '&', '\'', '(', ')', '*', '+', ',', '-', '.', '/',
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', ':', ';', '<', '=', '>', '?',
    '¡', 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O',
    'P', 'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y', 'Z', 'Ä', 'Ö', 'Ñ', 'Ü', '§',
    '¿', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o',
    'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', 'ä', 'ö', 'ñ', 'ü', 'à',
];

/// Extension table; every entry costs two septets.
const EXTENSION: [(u8, char); 10] = [
    (0x0A, '\u{0C}'),
    (0x14, '^'),
    (0x28, '{'),
    (0x29, '}'),
    (0x2F, '\\'),
    (0x3C, '['),
    (0x3D, '~'),
    (0x3E, ']'),
    (0x40, '|'),
    (0x65, '€'),
];

/// Marks an extension code in the reverse table; codes have seven bits.
const EXTENDED: u8 = 0x80;
const NONE: u8 = 0xFF;

/// Code by character below U+0100; the eleven others are matched one by one.
const BY_CHAR: [u8; 256] = {
    let mut table = [NONE; 256];
    let mut code: u8 = 0;
    while code < 128 {
        let c = DEFAULT[code as usize] as usize;
        if code != ESCAPE && c < 256 {
            table[c] = code;
        }
        code += 1;
    }
    let mut i = 0;
    while i < EXTENSION.len() {
        let c = EXTENSION[i].1 as usize;
        if c < 256 {
            table[c] = EXTENDED | EXTENSION[i].0;
        }
        i += 1;
    }
    table
};

/// What a text or an octet string cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Gsm7Error {
    /// A character outside the alphabet; `at` counts characters from 0.
    #[error("character {character:?} at {at} is not in the GSM 7-bit alphabet")]
    NotInAlphabet {
        /// The character.
        character: char,
        /// Its place in the text.
        at: usize,
    },
    /// Fewer octets than the stated number of septets needs.
    #[error("{septets} septets with {fill_bits} fill bits need {needed} octets, got {got}")]
    Truncated {
        /// Septets promised.
        septets: usize,
        /// Bits before the first septet.
        fill_bits: usize,
        /// Octets they need.
        needed: usize,
        /// Octets there are.
        got: usize,
    },
}

fn code(c: char) -> u8 {
    match c {
        '\0'..='\u{FF}' => BY_CHAR[c as usize],
        'Δ' => 0x10,
        'Φ' => 0x12,
        'Γ' => 0x13,
        'Λ' => 0x14,
        'Ω' => 0x15,
        'Π' => 0x16,
        'Ψ' => 0x17,
        'Σ' => 0x18,
        'Θ' => 0x19,
        'Ξ' => 0x1A,
        '€' => EXTENDED | 0x65,
        _ => NONE,
    }
}

/// Septets of one character: 1, 2 when it is in the extension table, `None` when it is in neither.
pub fn cost(c: char) -> Option<usize> {
    match code(c) {
        NONE => None,
        code if code & EXTENDED != 0 => Some(2),
        _ => Some(1),
    }
}

/// Septets of a whole text, or `None` when one character is outside the alphabet.
pub fn septet_count(text: &str) -> Option<usize> {
    text.chars().map(cost).sum()
}

/// Septets of a text, one per octet, the escape before each extension character.
///
/// # Errors
/// [`Gsm7Error::NotInAlphabet`] names the first character that has no code.
pub fn encode(text: &str) -> Result<Vec<u8>, Gsm7Error> {
    let mut septets = Vec::with_capacity(text.len());
    for (at, character) in text.chars().enumerate() {
        match code(character) {
            NONE => return Err(Gsm7Error::NotInAlphabet { character, at }),
            code if code & EXTENDED != 0 => septets.extend([ESCAPE, code & !EXTENDED]),
            code => septets.push(code),
        }
    }
    Ok(septets)
}

/// Default character of a code below 128; the escape is U+001B, which is never text.
pub(super) fn character(code: u8) -> char {
    DEFAULT[usize::from(code & 0x7F)]
}

/// Character of the default extension table.
pub(super) fn extension(code: u8) -> Option<char> {
    let symbol = EXTENSION.iter().find(|(of, _)| *of == code);
    symbol.map(|(_, c)| *c)
}

/// Text of septets given one per octet; the eighth bit is ignored.
///
/// An extension code without a symbol shows as the default character of that code, and an escape after an
/// escape or at the end as a space, as the standard asks of a receiver (TS 23.038 §6.2.1.1).
pub fn decode(septets: &[u8]) -> String {
    let mut text = String::with_capacity(septets.len());
    let mut escaped = false;
    for septet in septets.iter().map(|s| s & 0x7F) {
        match (escaped, septet) {
            (false, ESCAPE) => escaped = true,
            (false, code) => text.push(character(code)),
            (true, ESCAPE) => {
                text.push(' ');
                escaped = false;
            }
            (true, code) => {
                text.push(extension(code).unwrap_or_else(|| character(code)));
                escaped = false;
            }
        }
    }
    if escaped {
        text.push(' ');
    }
    text
}

/// Bits between a user data header of `udh_octets` (its length octet included) and the first septet.
///
/// The text begins on a septet boundary counted from the start of the user data (3GPP TS 23.040 §9.2.3.24).
pub fn fill_bits(udh_octets: usize) -> usize {
    (7 - udh_octets * 8 % 7) % 7
}

/// Packs septets, least significant bit first, after `fill_bits` (0 to 6) zero bits.
///
/// The padding after the last septet is zero; a `@` that a receiver could read out of seven such bits is
/// ruled out by the septet count in TP-UDL, which the PDU carries.
pub fn pack(septets: &[u8], fill_bits: usize) -> Vec<u8> {
    let mut octets = Vec::with_capacity((fill_bits + septets.len() * 7).div_ceil(8));
    let mut window: u16 = 0;
    let mut filled = fill_bits % 7;
    for septet in septets {
        window |= u16::from(septet & 0x7F) << filled;
        filled += 7;
        if filled >= 8 {
            octets.push((window & 0xFF) as u8);
            window >>= 8;
            filled -= 8;
        }
    }
    if filled > 0 && !septets.is_empty() {
        octets.push((window & 0xFF) as u8);
    }
    octets
}

/// Reads `count` septets, one per octet, from packed octets that begin with `fill_bits` (0 to 6) bits to skip.
///
/// # Errors
/// [`Gsm7Error::Truncated`] when there are too few octets; what lies behind the last septet is ignored.
pub fn unpack(octets: &[u8], fill_bits: usize, count: usize) -> Result<Vec<u8>, Gsm7Error> {
    let fill_bits = fill_bits % 7;
    // Divided first: `count` may be anything a broken header says.
    let available = (octets.len() * 8).saturating_sub(fill_bits) / 7;
    if count > available {
        let needed = count
            .saturating_mul(7)
            .saturating_add(fill_bits)
            .div_ceil(8);
        return Err(Gsm7Error::Truncated {
            septets: count,
            fill_bits,
            needed,
            got: octets.len(),
        });
    }
    let septet_at = |bit: usize| {
        let low = u16::from(octets[bit / 8]);
        let high = octets.get(bit / 8 + 1).map_or(0, |o| u16::from(*o));
        (((high << 8 | low) >> (bit % 8)) & 0x7F) as u8
    };
    Ok((0..count).map(|i| septet_at(fill_bits + i * 7)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn alphabet() -> impl Iterator<Item = char> {
        DEFAULT
            .into_iter()
            .filter(|c| *c != '\u{1B}')
            .chain(EXTENSION.map(|(_, c)| c))
    }

    #[test]
    fn every_character_has_exactly_one_code() {
        assert_eq!(alphabet().count(), 127 + 10);
        for c in alphabet() {
            let septets = encode(&c.to_string()).unwrap();
            assert_eq!(Some(septets.len()), cost(c), "{c:?}");
            assert_eq!(decode(&septets), c.to_string());
        }
    }

    #[test]
    fn known_octets() {
        // The example every GSM text book uses, and the euro sign behind its escape.
        let septets = encode("hellohello").unwrap();
        assert_eq!(
            pack(&septets, 0),
            [0xE8, 0x32, 0x9B, 0xFD, 0x46, 0x97, 0xD9, 0xEC, 0x37]
        );
        assert_eq!(encode("€").unwrap(), [0x1B, 0x65]);
    }

    #[test]
    fn characters_outside_are_named_with_their_place() {
        assert_eq!(
            encode("más"),
            Err(Gsm7Error::NotInAlphabet {
                character: 'á',
                at: 1
            })
        );
        for c in ['ç', 'á', '`', '\t', '\u{1B}', '\u{A0}', '’', '😀', 'Α'] {
            assert_eq!(cost(c), None, "{c:?}");
        }
    }

    #[test]
    fn receiver_rules_for_unknown_escapes() {
        assert_eq!(decode(&[0x1B, 0x61]), "a");
        assert_eq!(decode(&[0x1B, 0x1B, 0x61]), " a");
        assert_eq!(decode(&[0x61, 0x1B]), "a ");
    }

    #[test]
    fn fill_bits_reach_the_next_septet_boundary() {
        // 6 octets: concatenation with 8-bit reference; 7: with 16-bit reference.
        assert_eq!([0, 1, 6, 7, 8].map(fill_bits), [0, 6, 1, 0, 6]);
    }

    #[test]
    fn truncated_octets_are_an_error_with_both_sizes() {
        let error = unpack(&[0xE8, 0x32], 0, 3).unwrap_err();
        assert_eq!(
            error,
            Gsm7Error::Truncated {
                septets: 3,
                fill_bits: 0,
                needed: 3,
                got: 2
            }
        );
        assert!(unpack(&[], 6, usize::MAX).is_err());
        assert_eq!(unpack(&[], 3, 0), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn packing_round_trip(septets in prop::collection::vec(0u8..128, 0..200), fill in 0usize..7) {
            let octets = pack(&septets, fill);
            let expected = if septets.is_empty() { 0 } else { (fill + septets.len() * 7).div_ceil(8) };
            prop_assert_eq!(octets.len(), expected);
            prop_assert_eq!(unpack(&octets, fill, septets.len()).unwrap(), septets);
        }

        #[test]
        fn any_octets_decode(septets in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode(&septets).chars().count() <= septets.len());
        }

        #[test]
        fn text_round_trip_or_the_first_stranger(text in any::<String>()) {
            match encode(&text) {
                Ok(septets) => {
                    prop_assert_eq!(Some(septets.len()), septet_count(&text));
                    prop_assert_eq!(decode(&septets), text);
                }
                Err(Gsm7Error::NotInAlphabet { character, at }) => {
                    prop_assert_eq!(text.chars().position(|c| cost(c).is_none()), Some(at));
                    prop_assert_eq!(text.chars().nth(at), Some(character));
                }
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }
}
