//! What the end-to-end tests and the simulation share.

pub mod prices;
pub mod sim;
