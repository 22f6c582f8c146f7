//! The pure core of EVY: SMS text and PDU codec, triage, routing, compression, redaction, and the LoRa mesh with
//! the simulated channel it is measured on.
//!
//! Nothing here does I/O, reads a clock or draws a random number; what a decision needs is an argument.
//! Python sees this crate through [`python`] only.

pub mod compress;
pub mod mesh;
pub mod pack;
pub mod pii;
pub mod radio;
pub mod route;
pub mod sms;
pub mod triage;

#[cfg(feature = "python")]
mod python;
