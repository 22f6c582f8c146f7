//! SMS text and PDUs.
//!
//! [`gsm7`] is the alphabet and its packing, [`shift`] the national tables in its place, [`segment`] how a text
//! becomes one or more messages, and [`pdu`] those messages as octets, with [`address`] and [`timestamp`].

pub mod address;
pub mod gsm7;
pub mod pdu;
pub mod segment;
pub mod shift;
pub mod timestamp;
