//! What a start is given, what it found, and why it failed.

use std::io;

use serde::Serialize;
use tollgate_common::log::OpenReport;
use tollgate_common::{AgentId, Incarnation, Parent, Timestamp};

use crate::aggregate::{CellsError, LayoutError};
use crate::engine::EngineError;
use crate::seal::SealError;
use crate::spool::SpoolError;

/// What a start cannot know by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The clock.
    pub now: Timestamp,
    /// Names this boot of the host; another one after every boot.
    pub boot_id: [u8; 16],
    /// Random bytes; they become the incarnation.
    pub random: [u8; 16],
}

/// How the life before ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Recovery {
    /// There was none.
    First,
    /// It had sealed everything.
    Clean,
    /// It was killed; what its cells held is sealed now.
    Killed,
    /// Its cells could not be used; the loss is declared.
    Lost,
    /// It was killed, and the spool is too full to seal what its cells hold: this life goes on
    /// under the old incarnation.
    Continued,
}

/// What a start found and did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StartReport {
    /// The life that has begun, or goes on.
    pub incarnation: Incarnation,
    /// The life before.
    pub parent: Option<Parent>,
    /// How that ended.
    pub recovery: Recovery,
    /// Rows that were sealed from its cells.
    pub rows_recovered: u64,
    /// Tombstones written for batches that the spool had lost at its end.
    pub tombstones: u64,
    /// What is wrong with the cells file, if it could not be read.
    pub cells_damage: Option<String>,
    /// What opening the spool found.
    pub spool: OpenReport,
}

/// Why an engine does not start. Nothing is lost: what is there stays for the next start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is out of range.
    #[error("{0}")]
    Config(&'static str),
    /// Sizes of the cells are out of range.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The cells file cannot be loaded.
    #[error("cells file cannot be opened")]
    Load(#[source] io::Error),
    /// The cells file was written by another version of the agent.
    #[error(
        "cells file was written by another version; start that version and stop it in order, then start this one"
    )]
    Version(#[source] CellsError),
    /// The state directory is that of another agent. A collector takes no batches of one agent
    /// from another, so that what it holds could never be shipped.
    #[error(
        "state directory belongs to agent `{found}`, not to `{expected}`; give `{expected}` a directory of its own, and run `{found}` with this one until its spool is drained"
    )]
    OtherAgent {
        /// Whose it is.
        found: AgentId,
        /// Who was to start.
        expected: AgentId,
    },
    /// The cells file cannot be made.
    #[error("cells file cannot be made")]
    Replace(#[source] io::Error),
    /// The cells file that was just made cannot be read.
    #[error("cells file that was just made cannot be read")]
    Reopen(#[source] CellsError),
    /// The spool failed.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// Sealing failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The engine failed as soon as it had started.
    #[error(transparent)]
    Engine(#[from] EngineError),
}
