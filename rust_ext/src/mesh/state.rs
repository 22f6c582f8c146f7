//! What a node keeps through a power cut: sections in one string of octets, checked as a whole (`docs/mesh.md`, M13).

use sha2::{Digest, Sha256};
use thiserror::Error;

/// First octets: what this is, and its version.
const HEAD: [u8; 5] = *b"EVYM\x01";
const CHECK_OCTETS: usize = 8;

/// Why what was kept cannot be used. A node must not go on without it: it would use numbers again.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateError {
    /// Not written by this code.
    #[error(
        "the kept state of the mesh is {0}: enrol this node again (a new address and new keys), the old numbers are lost"
    )]
    Unreadable(&'static str),
    /// Written by another version.
    #[error(
        "the kept state of the mesh has version {0}, this program reads 1: start the program that wrote it"
    )]
    Version(u8),
    /// Numbers of letters, a sixteenth of where counting is to begin, end before that.
    #[error(
        "{first} is beyond {most}, where the numbers of letters end: a clock that counting goes on by is wrong, or shows a time after June 2034. Set it right, or enrol this node again (a new address and new keys) and begin at 0"
    )]
    TooFar {
        /// Where it was to begin.
        first: u32,
        /// Where it may at most.
        most: u32,
    },
}

/// Puts sections together: the number of each, its length in four octets, itself; then eight octets of SHA-256 over
/// all. A section may be left out.
pub fn write<'a>(sections: impl IntoIterator<Item = (u8, &'a [u8])>) -> Vec<u8> {
    let mut kept = HEAD.to_vec();
    for (number, octets) in sections {
        kept.push(number);
        kept.extend(
            u32::try_from(octets.len())
                .unwrap_or(u32::MAX)
                .to_be_bytes(),
        );
        kept.extend(octets);
    }
    let check = Sha256::digest(&kept);
    kept.extend(&check[..CHECK_OCTETS]);
    kept
}

/// The sections of what [`write`] put together, in its order.
///
/// # Errors
/// [`StateError`] for anything else, a single flipped bit included.
pub fn read(kept: &[u8]) -> Result<Vec<(u8, &[u8])>, StateError> {
    let unreadable = StateError::Unreadable;
    let Some((octets, check)) = kept.split_last_chunk::<CHECK_OCTETS>() else {
        return Err(unreadable("cut short"));
    };
    let Some((head, mut rest)) = octets.split_first_chunk::<5>() else {
        return Err(unreadable("cut short"));
    };
    if Sha256::digest(octets)[..CHECK_OCTETS] != *check {
        return Err(unreadable("damaged"));
    }
    if head[..4] != HEAD[..4] {
        return Err(unreadable("of something else"));
    }
    if head[4] != HEAD[4] {
        return Err(StateError::Version(head[4]));
    }
    let mut sections = Vec::new();
    while let Some((&[number, a, b, c, d], after)) = rest.split_first_chunk() {
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let (section, after) = after
            .split_at_checked(length)
            .ok_or(unreadable("damaged"))?;
        sections.push((number, section));
        rest = after;
    }
    if rest.is_empty() {
        return Ok(sections);
    }
    Err(unreadable("damaged"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_flipped_bit_or_a_missing_octet_is_refused_with_what_to_do() {
        let kept = write([(1, &b"numbers"[..]), (2, b""), (1, b"again")]);
        assert_eq!(
            read(&kept),
            Ok(vec![(1, &b"numbers"[..]), (2, b""), (1, b"again")])
        );
        for bit in 0..kept.len() * 8 {
            let mut damaged = kept.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let error = read(&damaged).expect_err("damaged").to_string();
            assert!(error.contains("enrol this node again"), "{error}");
        }
        for octets in 0..kept.len() {
            read(&kept[..octets]).expect_err("cut short");
        }
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        for (head, expected) in [
            (b"EVYM\x02", StateError::Version(2)),
            (b"NOPE\x01", StateError::Unreadable("of something else")),
        ] {
            let mut kept = head.to_vec();
            let check = Sha256::digest(&kept);
            kept.extend(&check[..CHECK_OCTETS]);
            assert_eq!(read(&kept), Err(expected));
        }
    }

    proptest! {
        #[test]
        fn no_octets_panic(octets in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(read(&octets).is_err());
            // The same inside a good check.
            let mut kept = HEAD.to_vec();
            kept.extend(octets);
            let check = Sha256::digest(&kept);
            kept.extend(&check[..CHECK_OCTETS]);
            if let Ok(sections) = read(&kept) {
                prop_assert_eq!(write(sections), kept);
            }
        }
    }
}
