//! The agent's state machines: input, attribution, aggregation, sealing, spooling, shipping.
//!
//! Data passes once, left to right: `input ─► attribute ─► aggregate ─► seal ─► spool ─► ship`.
//! Nothing here opens a file or socket, reads a clock or draws a random number.

pub mod aggregate;
pub mod attribute;
pub mod backoff;
pub mod config;
pub mod engine;
pub mod input;
pub mod recover;
pub mod seal;
pub mod ship;
pub mod spool;
