//! The collector's state machines: receive, journal, fold (dedupe, window, period, rate),
//! ledger. Nothing here reads a clock, opens a file or a socket, or draws a random number.

pub mod bill;
pub mod catalog;
pub mod closer;
pub mod config;
mod digits;
pub mod effect;
pub mod entry;
pub mod explain;
pub mod fold;
mod hex;
pub mod invoice;
pub mod journal;
pub mod ledger;
pub mod period;
pub mod plan;
pub mod policy;
pub mod position;
pub mod projection;
pub mod rate;
pub mod receive;
pub mod reconcile;
pub mod snapshot;
pub mod verify;
