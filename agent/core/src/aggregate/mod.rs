//! Aggregate: the cells that inputs count into.
//!
//! Every input thread owns a [`Writer`] and with it a block of the region: it is the only
//! one who stores there, so that an increment is a load, an add and a store. Cells are
//! cumulative and never reset, see [`tollgate::cell`]. A seal reads them, subtracts the baseline of the last cut
//! (wrapping) and writes the cut into the other one of two baseline arrays; one store of the
//! applied sequence number then makes that array the baseline. Conservation follows from
//! this arithmetic, whatever a reader sees of a writer in motion.
//!
//! The region is plain words that the shell maps from a file, so a killed process leaves
//! behind everything it had counted. Nothing here is unsafe: words are atomics, and every
//! place that comes out of the region is checked before it is used as an index.

mod account;
mod accounts;
mod carry;
mod carry_mirrors;
mod cells;
mod gauge;
mod header;
mod idle;
mod layout;
mod levels;
mod look;
mod owner;
mod pairs;
mod receipt;
mod room;
mod shared;
mod slot;
mod table;
mod tenant_accounts;
mod tenants;
mod torn;
pub(crate) mod v1;
mod wide;
mod words;
mod writer;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

pub(crate) use account::AccountWords;
pub use account::{Account, InputLoss, Rejection};
pub(crate) use carry::{Believed, GivenUp};
pub(crate) use cells::{Activity, CellCut, Cells};
pub use cells::{Cardinality, WriterError};
pub(crate) use gauge::LEVEL_BYTES;
pub(crate) use header::CutRecord;
pub use header::{CellsError, Identity, InheritedLoss, WRITER_NAME_BYTES_MAX};
pub(crate) use idle::Idle;
pub use layout::{
    CellsLayout, KEY_BYTES_MAX, LayoutError, SERIES_MAX, WIDE_BYTES_MAX, WRITERS_MAX,
};
pub(crate) use levels::LevelBase;
pub use owner::{MIRRORED_KEY_BYTES_MAX, NOTES_USER, Owner, PageKey};
pub(crate) use pairs::PairTotal;
pub(crate) use receipt::SumsAtRate;
pub use shared::SeriesLimits;
#[cfg(any(test, feature = "testing"))]
pub(crate) use slot::SlotUse;
pub(crate) use slot::{Found, KeyPlace, State};
pub(crate) use table::index_bytes;
pub(crate) use tenant_accounts::TENANTS_SEEN_MAX;
pub use tenant_accounts::{
    EARLIER_INPUTS, InputAccount, TenantAccount, TenantAccounts, TenantOverflow,
};
pub use tenants::Row;
pub(crate) use wide::level_words;
pub(crate) use words::Put;
#[cfg(test)]
pub(crate) use words::probe;
pub use writer::{
    ADD_MAX, AddError, Allowance, Counter, FollowError, SeriesFull, SetError, Slot, Writer,
};

/// Memory that holds cells: the words of a mapped file, or of a vector in tests.
///
/// The words must stay where they are as long as the region lives, and only this process
/// may store to them.
pub trait Region: Send + Sync {
    /// All words.
    fn words(&self) -> &[AtomicU64];

    /// Makes what the words are now durable, so that it outlives the host. Memory that ends with its
    /// process has nothing to do.
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Region for Vec<AtomicU64> {
    fn words(&self) -> &[AtomicU64] {
        self
    }
}

impl Region for &[AtomicU64] {
    fn words(&self) -> &[AtomicU64] {
        self
    }
}

impl Region for Box<[AtomicU64]> {
    fn words(&self) -> &[AtomicU64] {
        self
    }
}

impl<R: Region> Region for Arc<R> {
    fn words(&self) -> &[AtomicU64] {
        (**self).words()
    }

    fn sync(&self) -> io::Result<()> {
        (**self).sync()
    }
}

/// Where the one region of an agent is kept between its lives: a file in the state
/// directory, or memory in a simulation.
pub trait CellsHome {
    /// The memory of the cells.
    type Region: Region;

    /// The region that is there, however long and whatever it holds; `None` if there is none.
    fn load(&mut self) -> io::Result<Option<Self::Region>>;

    /// Makes a region of `words` zero words, lets `fill` write to it, makes that durable, and
    /// puts it in the place of the one that was there, durably and in one step: a crash leaves
    /// the old region or the new one as filled, never none and never a mixture.
    ///
    /// A file is made under a temporary name with its blocks allocated (a hole in the file
    /// would end the process when the disk is full), mapped, filled, synced and renamed, and
    /// its directory is synced.
    fn replace(
        &mut self,
        words: usize,
        fill: &mut dyn FnMut(&[AtomicU64]),
    ) -> io::Result<Self::Region>;
}
