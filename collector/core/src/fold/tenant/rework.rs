//! Booking a period as it stands, and working later periods out again after it.
//!
//! What a bill leaves to others (how far commitments have come, what grants have paid, what was
//! charged in advance) is looked at by later periods alone. So a bill is the same in whatever order
//! periods are closed and usage comes, if those that were booked already are worked out again where an
//! earlier one leaves something else than it did. That is done by the same journal entry, so that no
//! document can be issued between; each of them says after which period. Those behind which
//! nothing of the difference is left are not looked at.

use chrono::NaiveDate;
use tollgate_common::{TenantId, Timestamp};

use super::billing::Billed;
use super::book::{self, LineAccount, LineKey, Lines};
use super::late::{Booking, Change};
use super::state::Catalogs;
use super::usage::PeriodBook;
use super::{Tenant, TenantFold, digest};
use crate::bill::{Carried, Shift, Stage};
use crate::catalog::timeline::Slice;
use crate::catalog::{Catalog, Late};
use crate::effect::Effect;
use crate::entry::Digest;
use crate::fold::planted::PlantedBug;
use crate::period::Period;
use crate::position::Position;

/// Why, when and how periods of a tenant are booked.
#[derive(Clone, Copy)]
pub(super) struct Occasion<'c> {
    pub(super) tenant: &'c TenantId,
    pub(super) change: Change,
    /// The period was closed before.
    pub(super) is_late: bool,
    /// The day on which it counts in the general ledger.
    pub(super) date: NaiveDate,
    pub(super) position: Position,
    pub(super) stamp: Timestamp,
    /// The earlier period that left something else.
    pub(super) after: Option<Period>,
}

/// The lines of a period with the catalogs by which it is rated, oldest first.
pub(super) struct Rated {
    pub(super) lines: Lines,
    catalogs: Vec<Digest>,
}

/// How lines of a tenant are booked of which something stands already.
pub(super) fn late_change(catalog: Option<&Catalog>, tenant: &TenantId, is_late: bool) -> Change {
    let profile = catalog.and_then(|catalog| catalog.profile(tenant));
    match profile.map_or(Late::default(), |profile| profile.late) {
        Late::Next if is_late => Change::InNext,
        Late::Next | Late::Correct => Change::Anew,
    }
}

impl Rated {
    /// Without what waits for the closing: quantities that nobody pays for.
    pub(super) fn keep_billed(&mut self) {
        let is_billed = |key: &LineKey| matches!(key.account, LineAccount::Rated { .. });
        self.lines.own.retain(|key, _| is_billed(key));
        for theirs in self.lines.children.values_mut() {
            theirs.retain(|key, _| is_billed(key));
        }
    }
}

impl TenantFold {
    /// The lines of a period as it stands.
    pub(super) fn rated(&self, name: &TenantId, book: &PeriodBook, stage: Stage) -> Rated {
        let mut in_force = self.in_force(name, book);
        if self.planted.has(PlantedBug::NewestPrice)
            && let Some(newest) = self.catalogs.current_for(name)
        {
            let zone = self.zone_at(name, book.period.start);
            in_force = Catalogs::by_alone(newest, zone, name, book.period);
        }
        let terms = in_force.terms(name, book.period);
        let surroundings = self.around(name, book);
        let mut catalogs: Vec<Digest> = in_force.slices.iter().filter_map(Slice::digest).collect();
        catalogs.dedup();
        Rated {
            lines: book::lines(terms, surroundings.at(stage), book),
            catalogs,
        }
    }

    /// Books how a period, whose book is taken out, differs from what is booked; answers what it leaves
    /// to others, if there is a bill, and whether anything was booked.
    pub(super) fn book_rated(
        &mut self,
        occasion: &Occasion<'_>,
        book: &mut PeriodBook,
        rated: Rated,
        effects: &mut Vec<Effect>,
    ) -> (Option<Carried>, bool) {
        let Rated { lines, catalogs } = rated;
        let booking = Booking {
            tenant: occasion.tenant,
            change: occasion.change,
            is_late: occasion.is_late,
            period: book.period,
            catalogs,
            digests: digest::of_meters(book),
            date: occasion.date,
            position: occasion.position,
            stamp: occasion.stamp,
            after: occasion.after,
        };
        let differences = book::differences(&book.booked, lines.own);
        let any = !differences.is_empty();
        let mut tied = Vec::new();
        for mut difference in differences {
            let first = self.chain.len() + 1;
            let booked = self.book_difference(&booking, &difference, effects);
            let ties = std::mem::take(&mut difference.line.ties);
            if !ties.is_empty() || !booked.ties.is_empty() {
                let entries = first..=booked.standing.index;
                tied.push((difference.key.clone(), entries, ties));
            }
            book.booked.insert(difference.key, booked);
        }
        self.tie(&booking, &mut book.booked, tied, effects);
        let children = &mut book.children;
        self.book_children(&booking, &book.booked, children, lines.children, effects);
        (lines.billed.map(|Billed { carried, .. }| carried), any)
    }

    /// Takes up what a period leaves, and works out again what is booked of later ones where that
    /// differs from what it left before.
    pub(super) fn leave(
        &mut self,
        occasion: &Occasion<'_>,
        period: Period,
        bill: Option<&Carried>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(tenant) = self.tenants.get_mut(occasion.tenant) else {
            return;
        };
        // An open period may have waited for this.
        tenant.changed_at = self.changes;
        let mut shift = Shift::default();
        tenant.carry(period, bill, &mut shift);
        if shift.is_nothing() {
            return;
        }
        let is_booked = |book: &&PeriodBook| {
            book.period.start > period.start && (book.is_closed() || book.interims > 0)
        };
        let later = tenant.books.values().filter(is_booked);
        let later: Vec<Timestamp> = later.map(|book| book.period.start).collect();
        for start in later {
            if shift.is_nothing() {
                break;
            }
            self.work_out_again(occasion, period, start, &mut shift, effects);
        }
    }

    fn work_out_again(
        &mut self,
        occasion: &Occasion<'_>,
        after: Period,
        start: Timestamp,
        shift: &mut Shift,
        effects: &mut Vec<Effect>,
    ) {
        let name = occasion.tenant;
        let Some(tenant) = self.tenants.get_mut(name) else {
            return;
        };
        if !shift.concerns(&tenant.carried, start) {
            return;
        }
        let Some(mut book) = tenant.books.remove(&start) else {
            return;
        };
        let period = book.period;
        let is_late = book.is_closed();
        let stage = if is_late {
            Stage::Final
        } else {
            Stage::Interim
        };
        let mut rated = self.rated(name, &book, stage);
        let carried = if is_late || rated.lines.billed.is_some() {
            let catalog = book.catalog.and_then(|digest| self.catalogs.get(&digest));
            let occasion = Occasion {
                change: late_change(catalog.map(AsRef::as_ref), name, is_late),
                is_late,
                date: self.zone_at(name, start).date_at(occasion.stamp),
                after: Some(after),
                ..*occasion
            };
            if !is_late {
                rated.keep_billed();
            }
            let (carried, _) = self.book_rated(&occasion, &mut book, rated, effects);
            if is_late {
                // Late usage that waited is in it.
                book.settle(self.catalogs.timeline().known());
                self.waiting
                    .remove(&(period.end, name.clone(), period.start));
            }
            Some(carried)
        } else {
            // Of a period that runs the closing will say what is wrong.
            None
        };
        let Some(tenant) = self.tenants.get_mut(name) else {
            return;
        };
        tenant.books.insert(book);
        if let Some(bill) = carried {
            tenant.carry(period, bill.as_ref(), shift);
        }
    }
}

impl Tenant {
    /// Takes up what a period leaves. What is carried may have grown for years, and thousands of periods
    /// may be worked out again at once: it is not copied for each.
    fn carry(&mut self, period: Period, bill: Option<&Carried>, shift: &mut Shift) {
        let mut carried = std::mem::take(&mut self.carried);
        carried.leave(period, bill, shift);
        self.carried = carried.settled();
    }
}
