//! National language shift tables, for reading only: we never send shifted text (3GPP TS 23.038 annex A).
//!
//! A phone set to one of these languages swaps the default alphabet (locking) or the extension table (single
//! shift) and says so in the user data header. A reader that ignores it turns «está» into «est¹a», and Hindi
//! into nonsense. The tables are the data file `national.txt`.

use std::sync::LazyLock;

use super::gsm7::{self, ESCAPE};

/// A table: character by code, `None` where it has no symbol.
type Table = [Option<char>; 128];

/// Identifiers up to Urdu's, the last one of TS 23.038 §6.2.1.2.4.
const LANGUAGES: usize = 14;

struct Tables {
    single: [Option<Table>; LANGUAGES],
    locking: [Option<Table>; LANGUAGES],
}

static TABLES: LazyLock<Tables> =
    LazyLock::new(|| read(include_str!("national.txt")).expect("a test reads the file"));

/// Tables from the text of the data file; the line that is wrong otherwise.
fn read(text: &str) -> Result<Tables, &str> {
    let mut tables = Tables {
        single: [None; LANGUAGES],
        locking: [None; LANGUAGES],
    };
    let mut open: Option<&mut Table> = None;
    for line in text.lines() {
        let line_of_table = || line.split_ascii_whitespace();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(head) = line.strip_prefix('[') {
            let mut words = head.split(' ');
            let kind = match words.next() {
                Some("single") => &mut tables.single,
                Some("locking") => &mut tables.locking,
                _ => return Err(line),
            };
            let language = words.next().and_then(|id| id.parse::<usize>().ok());
            let place = language.and_then(|id| kind.get_mut(id)).ok_or(line)?;
            if place.is_some() {
                return Err(line);
            }
            open = Some(place.insert([None; 128]));
            continue;
        }
        let first = line_of_table()
            .next()
            .and_then(|first| usize::from_str_radix(first, 16).ok());
        let (table, first) = open.as_deref_mut().zip(first).ok_or(line)?;
        let codes = table.get_mut(first..first + 16).ok_or(line)?;
        let mut cells = line_of_table().skip(1);
        for code in codes {
            *code = match cells.next().ok_or(line)? {
                "." => None,
                hex => {
                    let c = u32::from_str_radix(hex, 16).ok().and_then(char::from_u32);
                    Some(c.ok_or(line)?)
                }
            };
        }
        if cells.next().is_some() {
            return Err(line);
        }
    }
    Ok(tables)
}

/// Text of septets given one per octet, under the tables of the language identifiers that the header names.
///
/// A table that does not exist (Spanish has no locking one, nobody has 14) is the default one. A code without
/// a symbol behind an escape shows as the locking table's character, an escape before an escape or at the end
/// as a space, as the standard asks of a receiver (TS 23.038 §6.2.1.1, annex A).
pub fn decode(septets: &[u8], locking: Option<u8>, single: Option<u8>) -> String {
    let table = |of: &'static [Option<Table>; LANGUAGES], id: Option<u8>| {
        of.get(usize::from(id?)).and_then(Option::as_ref)
    };
    let locking = table(&TABLES.locking, locking);
    let single = table(&TABLES.single, single);
    if locking.is_none() && single.is_none() {
        return gsm7::decode(septets);
    }
    let plain = |code: u8| match locking {
        Some(table) => table[usize::from(code)].unwrap_or(' '),
        None => gsm7::character(code),
    };
    let shifted = |code: u8| match single {
        Some(table) => table[usize::from(code)],
        None => gsm7::extension(code),
    };
    let mut text = String::with_capacity(septets.len());
    let mut codes = septets.iter().map(|septet| septet & 0x7F);
    while let Some(code) = codes.next() {
        text.push(match code {
            ESCAPE => match codes.next() {
                None | Some(ESCAPE) => ' ',
                Some(code) => shifted(code).unwrap_or_else(|| plain(code)),
            },
            code => plain(code),
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TURKISH: Option<u8> = Some(1);
    const SPANISH: Option<u8> = Some(2);
    const PORTUGUESE: Option<u8> = Some(3);

    #[test]
    fn shifted_characters_and_the_rest_as_always() {
        let text = decode(&[0x65, 0x73, 0x74, 0x1B, 0x61, 0x1B, 0x65], None, SPANISH);
        assert_eq!(text, "está€");
        let text = decode(&[0x53, 0x7B, 0x6F, 0x1B, 0x28], PORTUGUESE, None);
        assert_eq!(text, "São{");
        let septets = [0x1D, 0x1B, 0x69, 0x04, 0x61];
        assert_eq!(decode(&septets, TURKISH, TURKISH), "şı€a");
    }

    #[test]
    fn a_code_without_a_symbol_is_the_locking_tables_character() {
        assert_eq!(decode(&[0x1B, 0x7B], PORTUGUESE, SPANISH), "ã");
        assert_eq!(decode(&[0x1B, 0x7B], None, SPANISH), "ä");
    }

    #[test]
    fn an_escape_at_the_end_or_before_an_escape_is_a_space() {
        assert_eq!(decode(&[0x61, 0x1B], None, SPANISH), "a ");
        assert_eq!(decode(&[0x1B, 0x1B, 0x61], None, SPANISH), " a");
    }

    #[test]
    fn the_file_has_every_table_of_the_standard() {
        let tables = read(include_str!("national.txt")).map_err(str::to_owned);
        let tables = tables.unwrap_or_else(|line| panic!("{line}"));
        let present = |of: [Option<Table>; LANGUAGES]| of.map(|table| u8::from(table.is_some()));
        assert_eq!(
            present(tables.single),
            [0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
        );
        assert_eq!(
            present(tables.locking),
            [0, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
        );
        for table in tables.single.iter().flatten() {
            // Every single shift table has the euro and the characters of the default extension.
            for (code, c) in [(0x65, '€'), (0x0A, '\u{C}'), (0x40, '|'), (0x3D, '~')] {
                let at = table.iter().position(|symbol| *symbol == Some(c));
                assert!(at.is_some(), "{c:?} at {code:#x}");
            }
        }
        for table in tables.locking.iter().flatten() {
            assert_eq!(table[0x0A], Some('\n'));
            assert_eq!(table[0x30], Some('0'));
            assert_eq!(table[usize::from(ESCAPE)], None);
        }
    }

    #[test]
    fn a_wrong_line_is_named() {
        for wrong in [
            "[double 1 X]",
            "[single 14 X]",
            "[single 1 X]\n[single 1 X]",
            "00 . .",
            "[single 1 X]\n78 . . . . . . . . . . . . . . . .",
            "[single 1 X]\n00 D800 . . . . . . . . . . . . . . .",
            "[single 1 X]\n00 . . . . . . . . . . . . . . . . .",
        ] {
            assert_eq!(read(wrong).err(), wrong.lines().last(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_decode(septets: Vec<u8>, locking: Option<u8>, single: Option<u8>) {
            let near = |id: Option<u8>| id.map(|id| id % 20);
            prop_assert!(decode(&septets, near(locking), near(single)).chars().count() <= septets.len());
        }
    }
}
