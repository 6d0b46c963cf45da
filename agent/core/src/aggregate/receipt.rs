//! What an input has received, counted before it is decided on, and sums counted at rate.
//!
//! An event is received, then counted into a cell or rejected. The two sides are counted for
//! themselves, and what was received first: whoever reads what was decided and then what was
//! received never finds more decided than received, also after a kill. When nothing is in its
//! hands an input says that everything received up to then is settled ([`Writer::settle`]); so
//! less than that can never be decided either.

use std::sync::atomic::AtomicU64;

use tollgate::cell::receipt;
use tollgate::cell::sum::{self, AddError};
use tollgate_common::TenantId;

use super::Region;
use super::account::{self, bump};
use super::layout::SUM_WORDS;
use super::tenants::{self, Row};
use super::words::Put;
use super::writer::{Slot, Writer};

impl<R: Region> Writer<R> {
    /// Accounts for `n` events that reached the input; to be called before they are decided on.
    #[inline]
    pub fn received(&mut self, n: u64) {
        bump(
            &self.shared.account(self.index)[account::received_word()],
            n,
        );
    }

    /// Where events of a tenant are accounted for. Tenants beyond 1,024 share one row, and
    /// so do all that come after one that found no room for a row of its own.
    pub fn row(&mut self, tenant: &TenantId) -> Row {
        let (shared, index, table) = (&*self.shared, self.index, &mut self.table);
        let (of, room) = ((shared, index), &mut table.heap);
        table.tenants.row(of, room, Some(tenant), false)
    }

    /// Accounts for `n` events of a tenant among those [`received`](Self::received); to be called
    /// before they are decided on.
    #[inline]
    pub fn received_for(&mut self, row: Row, n: u64) {
        self.sums_at_rate().received_for(row, n);
    }

    /// Takes back events of a tenant, received since the last [`settle`](Self::settle) and not
    /// decided on: they turned out to be none.
    #[cold]
    pub fn not_received(&mut self, row: Row, n: u64) {
        self.received_for(row, n.wrapping_neg());
        self.received(n.wrapping_neg());
    }

    /// Everything received so far has been decided on.
    #[inline]
    pub fn settle(&mut self) {
        let words = self.shared.account(self.index);
        let of = [account::received_word(), account::settled_word()];
        let [received, settled] = of.map(|at| &words[at]);
        receipt::settle(received, settled, Put::put);
    }

    /// Counts sums for a while without looking up each time where the cells are.
    #[inline]
    pub(crate) fn sums_at_rate(&self) -> SumsAtRate<'_, R> {
        let words = self.shared.words();
        SumsAtRate {
            sums: words.get(self.layout.sums(self.index)).unwrap_or_default(),
            heap: words.get(self.layout.wide(self.index)).unwrap_or_default(),
            rows: self.table.tenants.places(),
            tag: self.sum_tag,
            writer: self,
        }
    }
}

/// The cells and records of one writer, found once for many counts.
pub(crate) struct SumsAtRate<'w, R: Region> {
    sums: &'w [AtomicU64],
    heap: &'w [AtomicU64],
    rows: &'w [u32],
    tag: u16,
    writer: &'w Writer<R>,
}

impl<R: Region> SumsAtRate<'_, R> {
    /// Like [`Writer::received_for`].
    #[inline]
    pub(crate) fn received_for(&self, row: Row, n: u64) {
        if let Some(&place) = self.rows.get(usize::from(row.number()))
            && let Some(word) = self
                .heap
                .get((place as usize).wrapping_add(tenants::AT_RECEIVED))
        {
            bump(word, n);
        }
    }

    /// Like [`Writer::add`].
    #[inline]
    pub(crate) fn add(&self, slot: Slot, n: u64) -> Result<(), AddError> {
        let (cells, _) = self.sums.as_chunks::<SUM_WORDS>();
        match cells.get(slot.at()) {
            Some([sum, done]) if slot.tag() == self.tag => {
                let base = || self.writer.place().sum_in_force(slot.at());
                sum::add(sum, done, n, 1, slot.to_bits(), base)
            }
            _ => Err(AddError::WrongSlot),
        }
    }
}
