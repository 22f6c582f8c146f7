//! What makes octets not a PDU, or a message not fit into one.

use thiserror::Error;

use crate::sms::gsm7::Gsm7Error;

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

/// Result of everything here.
pub type Result<T> = std::result::Result<T, PduError>;
