//! Closing: a period's lines are rated and booked, or the difference that late usage makes.

use std::sync::Arc;

use tollgate_common::Timestamp;

use super::book::{self, Booked};
use super::state::NO_CATALOG;
use super::usage::PeriodBook;
use super::{TenantFold, tenant_of};
use crate::effect::{Effect, PeriodState, PeriodStatus};
use crate::entry::Closing;
use crate::ledger::{Certainty, Posting};
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
        let lines = book::lines(&closing.tenant, &book, catalog.as_deref());
        for difference in book::differences(&book.booked, lines) {
            let posting = Posting {
                kind: difference.key.kind(closing.round),
                tenant: Some(closing.tenant.clone()),
                start: book.period.start,
                end: book.period.end,
                line: difference.key.name().to_owned(),
                meter: difference.key.meter.clone(),
                quantity: difference.quantity,
                scale: difference.key.scale,
                certainty: Certainty::Exact,
                amount: difference.amount,
                currency: difference.key.currency().map(str::to_owned),
                catalog: catalog.as_ref().map(|catalog| catalog.digest()),
                arithmetic: book::describe(&difference),
                refers_to: difference.before.as_ref().map(|before| before.original),
                agent: None,
                incarnation: None,
                sequences: None,
                journal_from: difference.line.from.unwrap_or(position),
                journal_to: position,
            };
            let at = self.post(stamp, posting, effects);
            let booked = Booked {
                quantity: difference.line.quantity,
                amount: difference.line.amount,
                original: difference.before.map_or(at, |before| before.original),
            };
            book.booked.insert(difference.key, booked);
        }
        book.rounds = closing.round + 1;
        book.catalog = Some(closing.catalog);
        book.settle();
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
        tenant.books.insert(book.period.start, book);
        true
    }

    /// The book that a closing closes, taken out; `None` if the closing does not fit.
    fn book_to_close(&mut self, stamp: Timestamp, closing: &Closing) -> Option<PeriodBook> {
        if closing.end > stamp {
            return None;
        }
        let tenant = tenant_of(&mut self.tenants, &self.catalogs, &closing.tenant, stamp);
        let fits = |period: Period| period.start == closing.start && period.end == closing.end;
        if let Some(book) = tenant.books.get(&closing.start) {
            let sound = fits(book.period) && book.rounds == closing.round;
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
