//! Closing: a period's lines are rated and booked, or the difference that late usage makes.

use std::sync::Arc;

use chrono::NaiveDate;
use tollgate_common::{TenantId, Timestamp};

use super::billing::Around;
use super::book;
use super::late::Booking;
use super::state::{Catalogs, NO_CATALOG};
use super::usage::PeriodBook;
use super::{PlantedBug, TenantFold, digest, tenant_of};
use crate::bill::{Carried, Stage};
use crate::catalog::timeline::Slice;
use crate::effect::{Effect, PeriodState, PeriodStatus};
use crate::entry::{Closing, Digest};
use crate::period::Period;
use crate::position::Position;

impl TenantFold {
    /// Closes a period, or settles late usage of a closed one. False if the closing does not
    /// fit the state.
    pub(super) fn handle_close(
        &mut self,
        position: Position,
        stamp: Timestamp,
        closing: &Closing,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let catalog = match self.catalogs.get(&closing.catalog) {
            Some(catalog) => Some(Arc::clone(catalog)),
            None if closing.catalog == NO_CATALOG => None,
            None => return false,
        };
        let Some(mut book) = self.book_to_close(stamp, closing) else {
            return false;
        };
        let mut in_force = self.catalogs.in_force(&closing.tenant, &book);
        if let (Some(PlantedBug::NewestPrice), Some(newest)) =
            (self.planted, self.catalogs.current_for(&closing.tenant))
        {
            in_force = Catalogs::by_alone(newest, &closing.tenant, book.period);
        }
        let terms = in_force.terms(&closing.tenant, book.period);
        let (next, carried) = self.around(&closing.tenant, &book);
        let around = Around {
            carried: &carried,
            stage: Stage::Final,
            next: next.as_ref().map(|(period, slice)| (*period, slice)),
        };
        let lines = book::lines(terms, around, &book);
        let mut catalogs: Vec<Digest> = in_force.slices.iter().filter_map(Slice::digest).collect();
        catalogs.dedup();
        let booking = Booking {
            closing,
            period: book.period,
            catalog: catalog.as_deref(),
            catalogs,
            digests: digest::of_meters(&book),
            date: self.posting_date(stamp, closing),
            position,
            stamp,
        };
        for difference in book::differences(&book.booked, lines.own) {
            let booked = self.book_difference(&booking, &difference, effects);
            book.booked.insert(difference.key, booked);
        }
        let children = &mut book.children;
        self.book_children(&booking, &book.booked, children, lines.children, effects);
        book.rounds = closing.round + 1;
        book.catalog = Some(closing.catalog);
        book.settle(self.catalogs.timeline().known());
        let json = serde_json::to_string(closing).expect("a closing has text for keys");
        effects.push(Effect::Period(PeriodState {
            tenant: closing.tenant.clone(),
            start: book.period.start,
            end: book.period.end,
            status: PeriodStatus::Closed,
            rounds: book.rounds,
            closing: Some(json),
        }));
        self.waiting
            .remove(&(book.period.end, closing.tenant.clone(), book.period.start));
        let tenant = tenant_of(&mut self.tenants, &self.catalogs, &closing.tenant, stamp);
        tenant.books.insert(book);
        if let Some(carried) = lines.carried {
            tenant.carried = carried;
        }
        true
    }

    /// What stands around a period: the next one with what is in force then, and what other
    /// periods left.
    pub(super) fn around(
        &self,
        name: &TenantId,
        book: &PeriodBook,
    ) -> (Option<(Period, Slice)>, Carried) {
        let Some(tenant) = self.tenants.get(name) else {
            return (None, Carried::default());
        };
        let next = tenant.calendars.period_containing(book.period.end);
        let slice = self.catalogs.next(name, next, book);
        (slice.map(|slice| (next, slice)), tenant.carried.clone())
    }

    /// The day on which a closing counts in the general ledger: the last of the period, because
    /// that is when it was earned; what comes later counts on the day on which it is booked.
    fn posting_date(&self, stamp: Timestamp, closing: &Closing) -> NaiveDate {
        // By the clocks of the period, which a change of zone since then has not moved.
        let zone = self.zone_at(&closing.tenant, closing.start);
        if closing.round == 0 {
            zone.date_at(closing.end.plus_millis(-1))
        } else {
            zone.date_at(stamp)
        }
    }

    /// The book that a closing closes, taken out; `None` if the closing does not fit.
    fn book_to_close(&mut self, stamp: Timestamp, closing: &Closing) -> Option<PeriodBook> {
        if closing.end > stamp {
            return None;
        }
        let tenant = tenant_of(&mut self.tenants, &self.catalogs, &closing.tenant, stamp);
        let fits = |period: Period| period.start == closing.start && period.end == closing.end;
        if let Some(book) = tenant.books.get(&closing.start) {
            // One that was proposed before a re-rating would settle it without having seen it.
            let knows = closing.round == 0 || book.catalog == Some(closing.catalog);
            let sound = fits(book.period) && book.rounds == closing.round && knows;
            return if sound {
                tenant.books.remove(&closing.start)
            } else {
                None
            };
        }
        // A period without usage may be closed too: then late usage is an adjustment.
        let period = tenant.calendars.period_containing(closing.start);
        (fits(period) && closing.round == 0).then(|| PeriodBook::new(period))
    }
}
