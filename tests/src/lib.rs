//! What the end-to-end tests and the simulation share.

pub mod sim;
