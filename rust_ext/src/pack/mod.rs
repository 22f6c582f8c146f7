//! Packing: lossless binary compression of short texts, for links where every octet is airtime.
//!
//! A trained model ([`model`]) guesses each character from those before it ([`guess`], [`mix`]), and an
//! arithmetic coder ([`coder`]) spends few bits on what was guessed well. Whole numbers only: every machine
//! makes the same octets. `docs/pack.md` has the format.

mod coder;
mod file;
mod guess;
mod letters;
mod mix;
mod model;
pub mod train;

use rustc_hash::FxHashMap;
use thiserror::Error;

use coder::{Bits, Reader, Writer};
use guess::{Rates, Session};
use letters::{Form, capital, fold};
use model::{END, ESCAPE, FIRST, Model};

/// Longest text in octets of UTF-8.
pub const MAX_OCTETS: usize = 65_535;
/// First octet of a frame: the text as UTF-8.
const RAW: u8 = 0x00;
/// First octet of a frame: the text through the model of the number in the low four bits.
const MODEL: u8 = 0x10;
/// First octet of a frame: four octets that name a text both ends know.
const KNOWN: u8 = 0x20;
/// Numbers that a model may have.
const NUMBERS: std::ops::RangeInclusive<u8> = 1..=15;
/// Weights go on learning within a text.
const LEARNING: Rates = Rates {
    weights: 12,
    guesses: 0,
};

/// Why there is no frame or no text.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PackError {
    /// The model's file cannot be used.
    #[error("pack model: {0}")]
    Model(&'static str),
    /// Two known texts have the same name.
    #[error("known texts {0:?} and {1:?} share the name {2:08x}: change a word of one")]
    SameName(String, String, u32),
    /// A text is too long.
    #[error("text of {octets} octets, {MAX_OCTETS} at most")]
    TooLong {
        /// Octets of UTF-8.
        octets: usize,
    },
    /// A frame without its first octet.
    #[error("empty frame")]
    Empty,
    /// A frame of another format.
    #[error("frame of format {0:#04x}, which is not known")]
    Format(u8),
    /// A frame of another model.
    #[error("frame of model {frame}, this node has model {here}: they cannot read each other")]
    OtherModel {
        /// Number in the frame.
        frame: u8,
        /// Number of the model that is loaded.
        here: u8,
    },
    /// Octets that are no text.
    #[error("damaged frame: {0}")]
    Damaged(&'static str),
    /// The frame names a text that this node does not have.
    #[error("frame names text {0:08x}, which this node does not know")]
    Unknown(u32),
}

/// Packs and unpacks with one model and one set of known texts.
#[derive(Debug)]
pub struct Packer {
    model: Model,
    names: FxHashMap<String, u32>,
    known: FxHashMap<u32, String>,
    known_id: u64,
}

/// Name of a known text: what it says and nothing else, so that another wording has another name.
fn name(text: &str) -> u32 {
    let sum = file::checksum(text.as_bytes());
    u32::try_from((sum ^ (sum >> 32)) & 0xFFFF_FFFF).unwrap_or(0)
}

impl Packer {
    /// With the octets of a model's file and texts that may be sent by name.
    ///
    /// # Errors
    /// [`PackError::Model`] says what is wrong with the file, [`PackError::SameName`] which texts collide.
    pub fn new(file: &[u8], known: &[String]) -> Result<Self, PackError> {
        let model = file::read(file)?;
        let (mut names, mut texts) = (FxHashMap::default(), FxHashMap::<u32, String>::default());
        for text in known {
            let name = name(text);
            match texts.insert(name, text.clone()) {
                Some(other) if other != *text => {
                    return Err(PackError::SameName(other, text.clone(), name));
                }
                _ => names.insert(text.clone(), name),
            };
        }
        let mut sorted: Vec<u32> = texts.keys().copied().collect();
        sorted.sort_unstable();
        let octets: Vec<u8> = sorted.iter().flat_map(|name| name.to_be_bytes()).collect();
        Ok(Self {
            model,
            names,
            known: texts,
            known_id: file::checksum(&octets),
        })
    }

    /// Identifies the set of known texts; equal on two nodes that know the same ones.
    pub fn known_id(&self) -> u64 {
        self.known_id
    }

    /// Octets of memory of the model.
    pub fn octets(&self) -> usize {
        self.model.contexts.octets() + self.model.words.len()
    }

    /// The frame of a text, at most one octet longer than its UTF-8. `to_same`: the receiver has said that it
    /// has the same [`Packer::known_id`].
    ///
    /// # Errors
    /// [`PackError::TooLong`].
    pub fn pack(&self, text: &str, to_same: bool) -> Result<Vec<u8>, PackError> {
        if text.len() > MAX_OCTETS {
            return Err(PackError::TooLong { octets: text.len() });
        }
        let mut session = Session::new(&self.model, LEARNING);
        let mut writer = Writer::new(vec![MODEL | self.model.number]);
        write_text(&mut session, &mut writer, text);
        let mut frame = writer.finish();
        if frame.len() > text.len() {
            frame = vec![RAW];
            frame.extend_from_slice(text.as_bytes());
        }
        if let Some(name) = self.names.get(text).filter(|_| to_same && frame.len() > 5) {
            frame = vec![KNOWN];
            frame.extend_from_slice(&name.to_be_bytes());
        }
        Ok(frame)
    }

    /// The text of a frame. Whether the octets are those that were sent is not checked here; the mesh does.
    ///
    /// # Errors
    /// Every other [`PackError`]; any octets give a text or an error.
    pub fn unpack(&self, frame: &[u8]) -> Result<String, PackError> {
        let (format, octets) = frame.split_first().ok_or(PackError::Empty)?;
        match *format {
            RAW if octets.len() > MAX_OCTETS => Err(PackError::Damaged("too long")),
            RAW => match std::str::from_utf8(octets) {
                Ok(text) => Ok(text.to_owned()),
                Err(_) => Err(PackError::Damaged("no UTF-8")),
            },
            KNOWN => {
                let name =
                    <[u8; 4]>::try_from(octets).map_err(|_| PackError::Damaged("no name"))?;
                let name = u32::from_be_bytes(name);
                self.known
                    .get(&name)
                    .cloned()
                    .ok_or(PackError::Unknown(name))
            }
            format if format & 0xF0 == MODEL => {
                let (frame, here) = (format & 0x0F, self.model.number);
                if frame == here {
                    read_text(&self.model, octets)
                } else {
                    Err(PackError::OtherModel { frame, here })
                }
            }
            other => Err(PackError::Format(other)),
        }
    }
}

/// Codes a text and its end.
fn write_text(session: &mut Session<'_>, io: &mut impl Bits, text: &str) {
    let mut capitals = Vec::new();
    for c in text.chars() {
        let (small, is_capital) = fold(c);
        let symbol = session.write(io, small);
        if symbol == ESCAPE {
            session.escaped(io, u32::from(small));
        }
        if session.letter(Some(small)) {
            write_form(session, io, &capitals);
            capitals.clear();
        }
        if model::in_word(small) {
            capitals.push(is_capital);
        }
    }
    session.symbol(io, END);
    if session.letter(None) {
        write_form(session, io, &capitals);
    }
}

fn write_form(session: &mut Session<'_>, io: &mut impl Bits, capitals: &[bool]) {
    if session.form(io, letters::form(capitals)) == Form::Mixed {
        let mut before = true;
        for capital in capitals {
            before = session.flag(io, before, *capital);
        }
    }
}

/// Reads a text up to its end.
fn read_text(model: &Model, octets: &[u8]) -> Result<String, PackError> {
    let mut session = Session::new(model, LEARNING);
    let mut io = Reader::new(octets);
    let mut text = String::new();
    let mut word: Vec<char> = Vec::new();
    loop {
        let symbol = session.symbol(&mut io, 0);
        let c = match symbol {
            END => None,
            ESCAPE => Some(
                session
                    .escaped(&mut io, 0)
                    .ok_or(PackError::Damaged("no character"))?,
            ),
            other => model.letters.get(usize::from(other - FIRST)).copied(),
        };
        if session.letter(c) {
            let form = session.form(&mut io, Form::Small);
            let mut before = true;
            for (at, c) in word.drain(..).enumerate() {
                let large = match form {
                    Form::Small => false,
                    Form::Title => at == 0,
                    Form::Capital => true,
                    Form::Mixed => session.flag(&mut io, before, false),
                };
                before = large;
                text.push(if large { capital(c).unwrap_or(c) } else { c });
            }
        }
        match c {
            Some(c) if model::in_word(c) => word.push(c),
            Some(c) => text.push(c),
            None => break,
        }
        if text.len() + word.len() > MAX_OCTETS {
            return Err(PackError::Damaged("too long"));
        }
        if io.lost() {
            return Err(PackError::Damaged("cut off"));
        }
    }
    if io.lost() {
        return Err(PackError::Damaged("cut off"));
    }
    if io.left() {
        return Err(PackError::Damaged("octets behind the end"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::train::{Sample, Settings, train};
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    /// The model that is shipped.
    static SHIPPED: LazyLock<Packer> = LazyLock::new(|| {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../actors/knowledge/pack.model"
        );
        let known = ["Boil water for 1 minute.".to_owned()];
        Packer::new(&std::fs::read(path).unwrap(), &known).unwrap()
    });

    fn samples() -> Vec<Sample> {
        let texts = [
            "we need water and food 12",
            "HELP! Please help",
            "água não há",
        ];
        let text = |at: usize| format!("{} {at}", texts[at % 3]);
        (0..300)
            .map(|at| Sample {
                text: text(at),
                weight: 1,
            })
            .collect()
    }

    #[test]
    fn training_twice_gives_the_same_octets_and_they_pack_well() {
        let settings = Settings {
            number: 1,
            gain_bits: 2.0,
            rounds: 2,
        };
        let file = train(&samples(), settings, |_| {}).unwrap();
        assert_eq!(file, train(&samples(), settings, |_| {}).unwrap());
        let packer = Packer::new(&file, &[]).unwrap();
        let frame = packer.pack("We need water and food 77", false).unwrap();
        assert!(frame.len() < 9, "{} octets", frame.len());
        assert_eq!(packer.unpack(&frame).unwrap(), "We need water and food 77");
    }

    #[test]
    fn a_damaged_model_is_refused() {
        let settings = Settings {
            number: 1,
            gain_bits: 2.0,
            rounds: 1,
        };
        let file = train(&samples(), settings, |_| {}).unwrap();
        for cut in [0, 7, 8, 15, 16, 17, 30, file.len() - 1] {
            assert!(matches!(file::read(&file[..cut]), Err(PackError::Model(_))));
        }
        let mut other = file.clone();
        other[20] ^= 1;
        let wrong = PackError::Model("its checksum is wrong");
        assert_eq!(file::read(&other).err(), Some(wrong));
        other.clone_from(&file);
        other[7] = 16;
        let wrong = PackError::Model("it is no model");
        assert_eq!(file::read(&other).err(), Some(wrong));
    }

    #[test]
    fn a_known_text_goes_by_name_only_to_who_knows_it() {
        let text = "Boil water for 1 minute.";
        let named = SHIPPED.pack(text, true).unwrap();
        assert_eq!(named.len(), 5);
        assert_eq!(SHIPPED.unpack(&named).unwrap(), text);
        let spelled = SHIPPED.pack(text, false).unwrap();
        assert_eq!(spelled[0], MODEL | SHIPPED.model.number);
        assert_eq!(SHIPPED.unpack(&spelled).unwrap(), text);
        let other = Packer {
            model: SHIPPED.model.clone(),
            names: FxHashMap::default(),
            known: FxHashMap::default(),
            known_id: 0,
        };
        assert!(matches!(other.unpack(&named), Err(PackError::Unknown(_))));
        assert_eq!(other.unpack(&spelled).unwrap(), text);
    }

    #[test]
    fn a_text_that_is_too_long_is_refused() {
        let text = "a".repeat(MAX_OCTETS + 1);
        let octets = MAX_OCTETS + 1;
        assert_eq!(
            SHIPPED.pack(&text, false),
            Err(PackError::TooLong { octets })
        );
        let text = &text[1..];
        let frame = SHIPPED.pack(text, false).unwrap();
        assert_eq!(SHIPPED.unpack(&frame).unwrap(), text);
    }

    /// Words as they are texted, in any case, with anything between.
    fn texted() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            "[a-z]{1,9} ",
            "[A-Z][a-z]{0,7}[.,!? ]",
            "[A-Z]{2,6} ",
            "[A-Za-z]{1,8}",
            "[0-9]{1,9}",
            "[à-ÿÀ-Þ]{1,5}",
            "[ऀ-ॿ]{1,6} ",
            "[؀-ۿ]{1,6} ",
            "\\PC",
            "😀{1,3}",
        ];
        proptest::collection::vec(part, 0..20).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn any_text_comes_back_at_most_one_octet_longer(text in prop_oneof![texted(), any::<String>()]) {
            let frame = SHIPPED.pack(&text, false).unwrap();
            prop_assert!(frame.len() <= text.len() + 1);
            prop_assert_eq!(SHIPPED.unpack(&frame).unwrap(), text);
        }

        #[test]
        fn the_model_codes_any_text(text in prop_oneof![texted(), any::<String>()]) {
            let mut writer = Writer::new(Vec::new());
            write_text(&mut Session::new(&SHIPPED.model, LEARNING), &mut writer, &text);
            prop_assert_eq!(read_text(&SHIPPED.model, &writer.finish()).unwrap(), text);
        }

        #[test]
        fn any_octets_are_a_text_or_an_error(
            first in prop_oneof![Just(SHIPPED.model.number | MODEL), any::<u8>()],
            octets in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut frame = vec![first];
            frame.extend(octets);
            if let Ok(text) = SHIPPED.unpack(&frame) {
                prop_assert!(text.len() <= MAX_OCTETS * 4);
            }
        }
    }
}
