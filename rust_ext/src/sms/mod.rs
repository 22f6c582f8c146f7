//! SMS text and PDUs.
//!
//! [`gsm7`] is the alphabet and its packing, [`segment`] how a text becomes one or more messages.

pub mod gsm7;
pub mod segment;
