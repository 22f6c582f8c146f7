//! The LoRa mesh: what a frame carries ([`frame`]), who can read and make one ([`seal`]), what counts as new
//! ([`replay`]), messages in parts ([`fragment`]), who repeats a broadcast ([`spread`]), what a frame costs on air
//! ([`airtime`]) and how much of it the law allows ([`region`]), how all that survives a power cut ([`state`]); whom a
//! node hears ([`neighbour`]), what it tells them ([`beacon`]), where a letter goes next ([`route`]), what waits
//! ([`queue`]), how busy the channel is ([`load`]), and all of it together ([`node`]).

pub mod airtime;
pub mod beacon;
pub mod fragment;
pub mod frame;
pub mod load;
pub mod neighbour;
pub mod node;
pub mod queue;
pub mod region;
pub mod replay;
pub mod route;
pub mod seal;
pub mod spread;
pub mod state;
