//! Interims: an open period is booked as it stands, so that it can be billed before it ends.
//!
//! What is booked is the bill of the period so far ([`Stage::Interim`]): each line that stands is
//! taken back whole and stands anew, so that an invoice shows what the period has come to and what
//! earlier invoices of it charged. The closing does the same, and what all of them come to together
//! is the bill that is made at once.

use tollgate_common::{TenantId, Timestamp};

use super::TenantFold;
use super::book;
use super::late::Change;
use super::rework::Occasion;
use super::usage::PeriodBook;
use crate::bill::Stage;
use crate::catalog::Threshold;
use crate::catalog::timeline::Slice;
use crate::effect::Effect;
use crate::entry::{FOLD_VERSION, Interim, InterimCause};
use crate::ledger::Note;
use crate::period::Period;
use crate::position::Position;

/// Why an open period is not billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "period {earlier} is not closed, and its bill decides what this one owes (commitments, grants or \
     fees in advance); close it first with `period close`"
)]
pub struct InterimRefused {
    /// The period that is to be closed first.
    pub earlier: Period,
}

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
        if self.waits_for(name, book).is_some() {
            return false;
        }
        let mut rated = self.rated(name, book, Stage::Interim);
        if rated.lines.billed.is_none() {
            return false;
        }
        // Only what is billed: the rest waits for the closing.
        rated.keep_billed();
        let currency = rated.lines.own.keys().find_map(book::LineKey::currency);
        let currency = currency.map(str::to_owned);
        let occasion = Occasion {
            tenant: name,
            change: Change::Anew,
            is_late: false,
            date: self.zone_at(name, interim.start).date_at(stamp),
            position,
            stamp,
            after: None,
        };
        // Booking needs the fold; nothing of it looks at the book.
        let taken = self.tenants.get_mut(name);
        let Some(mut book) = taken.and_then(|known| known.books.remove(&interim.start)) else {
            return false;
        };
        let (carried, any) = self.book_rated(&occasion, &mut book, rated, effects);
        book.interims += 1;
        let Some(tenant) = self.tenants.get_mut(name) else {
            return false;
        };
        let period = book.period;
        tenant.books.insert(book);
        if let (true, InterimCause::Threshold { .. }, Some(currency)) =
            (any, &interim.cause, currency)
        {
            tenant.dues.reached.insert(interim.end, currency);
        }
        self.leave(&occasion, period, carried.as_ref(), effects);
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
            let reached = !book.is_closed()
                && self.waits_for(name, book).is_none()
                && self.reaches(name, book, threshold);
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
        tenants.filter_map(|(name, tenant)| (!tenant.dues.reached.is_empty()).then_some(name))
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
    ///
    /// # Errors
    /// See [`InterimRefused`].
    pub fn interim_by_hand(
        &self,
        stamp: Timestamp,
        tenant: &TenantId,
        note: Note,
    ) -> Result<Option<Interim>, InterimRefused> {
        let Some(known) = self.tenants.get(tenant) else {
            return Ok(None);
        };
        let open = known.calendars.period_containing(stamp);
        let Some(book) = known
            .books
            .get(&open.start)
            .filter(|book| !book.is_closed())
        else {
            return Ok(None);
        };
        if let Some(earlier) = self.waits_for(tenant, book) {
            return Err(InterimRefused { earlier });
        }
        let cause = InterimCause::Operator(note);
        Ok(Some(interim_of(tenant, book, cause)))
    }

    /// The period before this one that is to be closed first: what it will leave (a commitment's
    /// charge, what a grant pays, a fee in advance) would be billed here, and there once more.
    fn waits_for(&self, name: &TenantId, book: &PeriodBook) -> Option<Period> {
        let known = self.tenants.get(name)?;
        let mut earlier = known.books.values();
        let first = earlier.find(|other| !other.is_closed())?;
        let carries = |book: &PeriodBook| {
            let slices = self.in_force(name, book).slices;
            slices.iter().any(Slice::leaves)
        };
        (first.period.start < book.period.start && (carries(first) || carries(book)))
            .then_some(first.period)
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
