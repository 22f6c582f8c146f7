//! A simulated LoRa channel, and ways of moving messages over it: what the mesh is measured on.
//!
//! Time is in microseconds from the start of a run; nothing is drawn but from a run's seed.

pub mod broadcaster;
pub mod channel;
pub mod evy;
pub mod flood;
pub mod law;
pub mod run;
