//! The collector: a thin shell of sockets, files and threads around the state machines of
//! `tollgate-collector-core`.

pub mod accruals;
pub mod catalog_dir;
pub mod cli;
pub mod clocks;
pub mod fold;
pub mod journal;
pub mod metrics;
pub mod parties;
pub mod pki;
pub mod receive;
pub mod run;
pub mod serve;
pub mod signing;
pub mod sqlite;
mod stop;
pub mod time;

pub use run::{run, run_with_reread};
