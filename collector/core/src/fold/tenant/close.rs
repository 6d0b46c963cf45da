//! Closing: a period's lines are rated and booked, or the difference that late usage makes.

use std::sync::Arc;

use chrono::NaiveDate;
use tollgate_common::{TenantId, Timestamp};

use super::billing::Around;
use super::rework::{Occasion, late_change};
use super::state::{InForce, NO_CATALOG};
use super::usage::PeriodBook;
use super::{TenantFold, tenant_of};
use crate::bill::{Carried, Stage};
use crate::catalog::timeline::Slice;
use crate::effect::{Effect, PeriodState, PeriodStatus};
use crate::entry::Closing;
use crate::period::Period;
use crate::position::Position;

/// What stands around a period.
pub(super) struct Surroundings {
    /// What other periods left.
    carried: Carried,
    /// The whole period of the calendar, of which it may be a part.
    whole: Period,
    /// The next period with what is in force then.
    next: Option<(Period, Slice)>,
    /// What is in force behind the period, by what it is rated by.
    after: Option<Slice>,
}

impl Surroundings {
    /// After other periods that are not closed either, whose bills leave this.
    pub(super) fn following(mut self, carried: Option<&Carried>, period: Period) -> Self {
        if let Some(carried) = carried {
            self.carried = carried.excerpt(period);
        }
        self
    }

    /// For a bill of this stage; the last one if nothing is agreed behind the period, or another
    /// tenant pays there.
    pub(super) fn at(&self, stage: Stage) -> Around<'_> {
        let ends = self
            .after
            .as_ref()
            .is_some_and(|slice| slice.agreed().is_none());
        Around {
            carried: &self.carried,
            stage: match stage {
                Stage::Final if ends => Stage::Last,
                stage => stage,
            },
            whole: self.whole,
            threshold: None,
            next: self.next.as_ref().map(|(period, slice)| (*period, slice)),
            after: self.after.as_ref(),
        }
    }
}

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
        let is_late = closing.round > 0;
        let rated = self.rated(&closing.tenant, &book, Stage::Final);
        let occasion = Occasion {
            tenant: &closing.tenant,
            change: late_change(catalog.as_deref(), &closing.tenant, is_late),
            is_late,
            date: self.posting_date(stamp, closing),
            position,
            stamp,
            after: None,
        };
        let (carried, _) = self.book_rated(&occasion, &mut book, rated, effects);
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
        let period = book.period;
        tenant.books.insert(book);
        // What a threshold booked is billed with the rest.
        tenant.dues.reached.remove(&closing.end);
        self.leave(&occasion, period, carried.as_ref(), effects);
        true
    }

    /// What is in force when in a period of a tenant, by the clocks of the period.
    pub(super) fn in_force(&self, name: &TenantId, book: &PeriodBook) -> InForce {
        let zone = self.zone_at(name, book.period.start);
        self.catalogs.in_force(zone, name, book)
    }

    /// What stands around the bill of a period.
    pub(super) fn around(&self, name: &TenantId, book: &PeriodBook) -> Surroundings {
        let Some(tenant) = self.tenants.get(name) else {
            return Surroundings {
                carried: Carried::default(),
                whole: book.period,
                next: None,
                after: None,
            };
        };
        let next = tenant.calendars.period_containing(book.period.end);
        let slice = self
            .catalogs
            .next(name, next.start, tenant.books.get(&next.start));
        Surroundings {
            carried: tenant.carried.excerpt(book.period),
            whole: tenant.calendars.whole_of(book.period),
            next: slice.map(|slice| (next, slice)),
            after: self.catalogs.after(name, book),
        }
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
