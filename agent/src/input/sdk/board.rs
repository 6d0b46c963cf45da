//! What the input of applications shows of itself: written about once a second, read by whoever
//! asks.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use tollgate_agent_core::input::page::PageCounts;
use tollgate_common::TenantId;

/// Applications that are shown one by one.
pub(super) const APPLICATIONS_SHOWN: usize = 32;

/// The pages of applications.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct PagesStatus {
    /// Pages and their cells.
    #[serde(flatten)]
    pub(crate) counts: PageCounts,
    /// Bytes of the pages that are mapped.
    pub(crate) bytes: u64,
    /// Most bytes that may be.
    pub(crate) bytes_max: u64,
    /// Pages that were not taken, by reason, since the start.
    pub(crate) refused: BTreeMap<&'static str, u64>,
    /// The applications with most cells.
    pub(crate) applications: Vec<ApplicationStatus>,
}

/// One application that has handed over its page.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ApplicationStatus {
    /// `pid` and its number.
    pub(crate) name: String,
    pub(crate) pid: i32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Some of those that it counts for.
    pub(crate) tenants: Vec<TenantId>,
    /// Bytes of its page.
    pub(crate) bytes: u64,
    /// Cells that are counted.
    pub(crate) mirrored: u64,
    /// Cells that wait for room.
    pub(crate) waiting: u64,
    /// Cells that it may not count in.
    pub(crate) rejected: u64,
    /// Cells that ran backwards.
    pub(crate) stopped: u64,
    /// Events that found no room in its page.
    pub(crate) dropped: u64,
}

/// Where the status is left.
#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<Option<PagesStatus>>);

impl Board {
    pub(super) fn show(&self, status: PagesStatus) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }

    /// The last status; `None` if applications are no input.
    pub(crate) fn status(&self) -> Option<PagesStatus> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
