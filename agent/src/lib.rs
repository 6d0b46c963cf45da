//! The agent's shell: sockets, files, clocks and processes around the state machines of
//! `tollgate-agent-core`.
//!
//! Threads: one per DogStatsD socket, one for interfaces, one that accepts admin connections
//! and one per such connection, one that owns the engine and its disk, and the main thread,
//! which runs the QUIC connection. Each input thread is the single writer of its cells.

pub mod admin;
mod budget;
pub mod cli;
mod clock;
mod desk;
mod engine;
mod health;
mod input;
mod load;
mod metrics;
mod notify;
mod output;
mod peer;
mod pressure;
mod reload;
mod run;
mod ship;
mod state_dir;

use std::io::{self, Read};

pub use budget::{Budget, Part};
pub use load::{LoadError, Overrides, load};
pub use reload::Reloaded;
pub use run::{Outcome, Reread, RunError, run};
pub use ship::IdentityError;
pub use state_dir::{CellsFile, MappedCells, StateDir, StateDirError};

/// Reads a file of `/proc` into `text`, refusing one that is absurdly long.
fn read_proc(path: &str, bytes_max: usize, text: &mut String) -> io::Result<()> {
    text.clear();
    let read = std::fs::File::open(path)?
        .take(bytes_max as u64 + 1)
        .read_to_string(text)?;
    if read > bytes_max {
        return Err(io::Error::other("file is too long"));
    }
    Ok(())
}
