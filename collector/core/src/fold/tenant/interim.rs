//! Interims: an open period is booked as it stands, so that it can be billed before it ends.
//!
//! What is booked is the bill of the period so far ([`Stage::Interim`]): each line that stands is
//! taken back whole and stands anew, so that an invoice shows what the period has come to and what
//! earlier invoices of it charged. The closing does the same, and what all of them come to together
//! is the bill that is made at once.

use tollgate_common::{TenantId, Timestamp};

use super::book::{self, LineAccount, LineKey};
use super::late::{Booking, Change};
use super::usage::PeriodBook;
use super::{TenantFold, digest};
use crate::bill::Stage;
use crate::catalog::Threshold;
use crate::catalog::timeline::Slice;
use crate::effect::Effect;
use crate::entry::{Digest, FOLD_VERSION, Interim, InterimCause};
use crate::ledger::Note;
use crate::position::Position;

impl TenantFold {
    /// Books an open period as it stands; false if that does not fit the state, or there is nothing
    /// that could be billed.
    pub(super) fn handle_interim(
        &mut self,
        position: Position,
        stamp: Timestamp,
        interim: &Interim,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let name = &interim.tenant;
        let known = self.tenants.get(name);
        let Some(book) = known.and_then(|known| known.books.get(&interim.start)) else {
            return false;
        };
        if book.is_closed() || book.period.end != interim.end || book.interims != interim.part {
            return false;
        }
        let in_force = self.in_force(name, book);
        let terms = in_force.terms(name, book.period);
        let surroundings = self.around(name, book);
        let mut lines = book::lines(terms, surroundings.at(Stage::Interim), book);
        let Some(billed) = lines.billed else {
            return false;
        };
        // Only what is billed: the rest waits for the closing.
        let is_billed = |key: &LineKey| matches!(key.account, LineAccount::Rated { .. });
        lines.own.retain(|key, _| is_billed(key));
        for theirs in lines.children.values_mut() {
            theirs.retain(|key, _| is_billed(key));
        }
        let mut catalogs: Vec<Digest> = in_force.slices.iter().filter_map(Slice::digest).collect();
        catalogs.dedup();
        let booking = Booking {
            tenant: name,
            change: Change::Anew,
            is_late: false,
            period: book.period,
            catalogs,
            digests: digest::of_meters(book),
            date: self.zone_at(name, interim.start).date_at(stamp),
            position,
            stamp,
        };
        // Booking needs the fold; nothing of it looks at the book.
        let taken = self.tenants.get_mut(name);
        let Some(mut book) = taken.and_then(|known| known.books.remove(&interim.start)) else {
            return false;
        };
        let differences = book::differences(&book.booked, lines.own);
        let any = !differences.is_empty();
        for difference in differences {
            let booked = self.book_difference(&booking, &difference, effects);
            book.booked.insert(difference.key, booked);
        }
        let children = &mut book.children;
        self.book_children(&booking, &book.booked, children, lines.children, effects);
        book.interims += 1;
        let Some(tenant) = self.tenants.get_mut(name) else {
            return false;
        };
        tenant.books.insert(book);
        tenant.carried = billed.carried.into();
        if any && matches!(interim.cause, InterimCause::Threshold { .. }) {
            tenant.dues.reached = Some(interim.end);
        }
        true
    }

    /// The interims that are due: of open periods of tenants with a threshold, where what is not
    /// billed yet has reached it. Only tenants of which something has changed since `since`, an
    /// answer of [`TenantFold::changes`], are looked at.
    ///
    /// A pure question, as [`TenantFold::poll_closable`] is.
    pub fn poll_thresholds(&self, stamp: Timestamp, since: Option<u64>) -> Vec<Interim> {
        if !self.catalogs.ever_thresholds() {
            return Vec::new();
        }
        let changed = self
            .tenants
            .iter()
            .filter(|(_, known)| since.is_none_or(|since| known.changed_at > since));
        let due = changed.filter_map(|(name, known)| {
            let profile = self.catalogs.timeline().at(name, stamp).profile?;
            let threshold = profile.agreement.threshold.as_ref()?;
            let open = known.calendars.period_containing(stamp);
            let book = known.books.get(&open.start)?;
            let reached = !book.is_closed() && self.reaches(name, book, threshold);
            reached.then(|| {
                let amount = threshold.amount;
                interim_of(name, book, InterimCause::Threshold { amount })
            })
        });
        due.collect()
    }

    /// The tenants whose threshold invoice is to be issued.
    pub fn tenants_to_bill(&self) -> impl Iterator<Item = &TenantId> {
        let tenants = self.tenants.iter();
        tenants.filter_map(|(name, tenant)| tenant.dues.reached.map(|_| name))
    }

    /// Grows whenever what periods cost may have changed.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    fn reaches(&self, name: &TenantId, book: &PeriodBook, threshold: &Threshold) -> bool {
        let in_force = self.in_force(name, book);
        let terms = in_force.terms(name, book.period);
        let surroundings = self.around(name, book);
        let around = super::billing::Around {
            threshold: Some(threshold),
            ..surroundings.at(Stage::Interim)
        };
        let lines = book::lines(terms, around, book);
        lines.billed.is_some_and(|billed| billed.reached)
    }

    /// The interim of a tenant's open period, by an operator's word; `None` if nothing is known of
    /// it.
    pub fn interim_by_hand(
        &self,
        stamp: Timestamp,
        tenant: &TenantId,
        note: Note,
    ) -> Option<Interim> {
        let known = self.tenants.get(tenant)?;
        let open = known.calendars.period_containing(stamp);
        let book = known.books.get(&open.start)?;
        let cause = InterimCause::Operator(note);
        (!book.is_closed()).then(|| interim_of(tenant, book, cause))
    }
}

fn interim_of(tenant: &TenantId, book: &PeriodBook, cause: InterimCause) -> Interim {
    Interim {
        tenant: tenant.clone(),
        start: book.period.start,
        end: book.period.end,
        part: book.interims,
        cause,
        fold_version: FOLD_VERSION,
    }
}
