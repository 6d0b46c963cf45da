//! Reading the accounts of inputs.

use std::sync::atomic::Ordering::Relaxed;

use tollgate::cell::{receipt, totals};

use super::account::{self, ACCOUNT_WORDS, Account, AccountWords, Counts, InputLoss};
use super::header::{self, AT_RETIRED};
use super::{Cells, Region, Rejection};

/// How often a reading that a seal has overtaken is made again.
const ATTEMPTS: u32 = 64;

impl<R: Region> Cells<R> {
    /// Reads while no batch is applied, so that what is sealed and what is open are of the same
    /// instant.
    pub(super) fn steady<T>(&self, read: impl Fn(u64) -> T) -> T {
        let found = totals::steadily(header::applied_word(self.words()), ATTEMPTS, &read);
        found.unwrap_or_else(|| read(self.applied()))
    }

    /// Events that this incarnation counted for a writer.
    fn counts(&self, writer: u32) -> Counts {
        self.steady(|applied| {
            let mut counts = Counts::default();
            for slot in 0..self.published(writer) {
                let base = self.base(writer, slot, applied);
                let now = self.now(writer, slot).unwrap_or(base);
                counts.sealed = counts.sealed.wrapping_add(base.done);
                counts.open = counts.open.wrapping_add(now.since(base).1);
            }
            counts
        })
    }

    pub(super) fn account_words(&self, writer: u32) -> AccountWords {
        AccountWords::read(self.shared().account(writer))
    }

    /// Events of a writer that had been received and decided on.
    pub(super) fn settled_events(&self, writer: u32) -> u64 {
        receipt::read(&self.shared().account(writer)[account::settled_word()])
    }

    /// True if what is received was counted before it was decided on, and not only what had been
    /// decided on, as agents did before.
    pub(super) fn has_receipts(&self) -> bool {
        header::has_receipts(self.words())
    }

    /// True for a writer that follows pages: what it was killed in, it receives again.
    pub(super) fn receives_again(&self, writer: u32) -> bool {
        (0..self.published(writer))
            .filter_map(|slot| self.slot_head(writer, slot))
            .any(|head| head.mirrors)
    }

    /// Events that inputs know to be lost by this cause, over all writers of this life and
    /// those carried into it.
    pub(crate) fn events_lost(&self, cause: InputLoss) -> u64 {
        self.sum_of(account::lost_word(cause))
    }

    /// Events that inputs have rejected for this reason, likewise.
    pub(crate) fn events_rejected(&self, reason: Rejection) -> u64 {
        self.sum_of(account::rejected_word(reason))
    }

    fn sum_of(&self, word: usize) -> u64 {
        (0..self.layout().writers()).fold(0, |sum, writer| {
            sum.wrapping_add(self.shared().account(writer)[word].load(Relaxed))
        })
    }

    /// The accounts of all writers by name, as they stand.
    pub(crate) fn accounts(&self) -> Vec<(&str, Account)> {
        let names = self.identity().writers.iter();
        (0..)
            .zip(names)
            .map(|(writer, name)| {
                let settled = self.settled_events(writer);
                let counts = self.counts(writer);
                let account = self.account_words(writer).to_account(counts, settled);
                (name.as_str(), account)
            })
            .collect()
    }

    /// The account of writers that are no longer configured.
    pub(crate) fn retired_account(&self) -> Account {
        AccountWords::read(&self.words()[AT_RETIRED..][..ACCOUNT_WORDS])
            .to_account(Counts::default(), 0)
    }

    /// The accounts that a next incarnation with these writers starts from, and the one of
    /// writers that it does not have.
    pub(crate) fn carried_accounts(&self, writers: &[String]) -> (Vec<AccountWords>, AccountWords) {
        let mut retired = AccountWords::read(&self.words()[AT_RETIRED..][..ACCOUNT_WORDS]);
        let mut carried = vec![AccountWords::default(); writers.len()];
        for (index, name) in (0..).zip(&self.identity().writers) {
            let mut words = self.account_words(index);
            let again = self.receives_again(index);
            words.carry(self.counts(index), again, self.has_receipts());
            match writers.iter().position(|writer| writer == name) {
                Some(at) => carried[at] = words,
                None => retired.merge(&words),
            }
        }
        (carried, retired)
    }
}
