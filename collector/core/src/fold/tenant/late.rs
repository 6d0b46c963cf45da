//! How what a period says anew is booked: of a closed one by the policy of the tenant's profile, of one
//! that was billed before it ended as by `correct`.
//!
//! - `correct`: the line is taken back whole by a reversal, and stands anew as a charge of the same
//!   period, which names the reversal. The two sum to the difference, tiers of the whole quantity
//!   included.
//! - `next`: the difference is one adjustment in the next period that is open, outside of that
//!   period's tiers, minimum and maximum: its own lines know nothing of it.
//!
//! Entries that stand are never touched. Quantities that nobody pays for (unrated, refused) have no
//! amount that a credit note could show; their difference is booked where it belongs.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use tollgate_common::{MeterName, Quantity, TenantId, Timestamp};

use super::aside::{self, Aside};
use super::book::{self, Booked, Difference, LineAccount};
use super::usage::PeriodBook;
use super::{TenantFold, open_book};
use crate::effect::Effect;
use crate::entry::Digest;
use crate::fold::planted::PlantedBug;
use crate::ledger::{Account, EntryKind, EntryRef, GL_DEFAULT, Leg, Posting, negated, transfer};
use crate::period::Period;
use crate::position::Position;

/// How a line is booked of which something stands already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is taken back whole and stands anew.
    Anew,
    /// The difference is booked in the next period that is open.
    InNext,
}

/// A closing, or an interim, of a period with what its entries have in common.
pub(super) struct Booking<'c> {
    pub(super) tenant: &'c TenantId,
    pub(super) change: Change,
    /// The period was closed before.
    pub(super) is_late: bool,
    pub(super) period: Period,
    /// The catalogs by which it is rated, oldest first.
    pub(super) catalogs: Vec<Digest>,
    /// Digests of the usage, by meter.
    pub(super) digests: BTreeMap<MeterName, Digest>,
    /// The day on which it counts in the general ledger.
    pub(super) date: NaiveDate,
    pub(super) position: Position,
    pub(super) stamp: Timestamp,
    /// The earlier period that left something else, after which this one is worked out again.
    pub(super) after: Option<Period>,
}

impl Booking<'_> {
    /// The arithmetic, with why it is worked out again.
    fn because(&self, text: String) -> String {
        match self.after {
            Some(after) => format!("{text}; worked out again after {after}"),
            None => text,
        }
    }

    /// An entry of the line, with this quantity and amount.
    pub(super) fn posting(
        &self,
        kind: EntryKind,
        difference: &Difference,
        quantity: Quantity,
        amount: Option<Decimal>,
    ) -> Posting {
        let Period { start, end } = self.period;
        let key = &difference.key;
        let mut posting = Posting::new(kind, start, end, key.name(), self.position);
        posting.tenant = Some(self.tenant.clone());
        posting.meter.clone_from(&key.meter);
        posting.quantity = quantity;
        posting.scale = key.scale;
        let of_usage = key.meter.is_some() || key.is_of_crowd();
        posting.aggregation = of_usage.then_some(key.aggregation);
        posting.catalogs.clone_from(&self.catalogs);
        posting.usage = key
            .meter
            .as_ref()
            .and_then(|meter| self.digests.get(meter))
            .copied();
        posting.journal_from = difference.line.from.unwrap_or(self.position);
        if let (Some(amount), Some(currency)) = (amount, key.currency()) {
            posting.role = key.role();
            posting.amount = Some(amount);
            posting.currency = Some(currency.to_owned());
            posting.date = Some(self.date);
            let before = difference.before.as_ref();
            let taken_back = before.and_then(|before| before.contra.as_ref());
            let contra = match kind {
                // It goes back to where it came from, wherever the line goes now.
                EntryKind::Reversal => taken_back.or(difference.line.contra.as_ref()),
                _ => difference.line.contra.as_ref().or(taken_back),
            };
            let contra = contra
                .cloned()
                .unwrap_or_else(|| Account::Revenue(GL_DEFAULT.to_owned()));
            posting.legs = transfer(Account::Unbilled, contra.clone(), amount, currency);
            put_aside(&mut posting, difference, contra);
            // A whole line shows how it came about; a difference of two has no steps of its own.
            if kind == EntryKind::Charge {
                posting.list = difference.line.list;
                posting.steps.clone_from(&difference.line.steps);
                posting.original = difference.line.original.clone().map(Box::new);
            }
        }
        posting
    }

    /// An entry of how the line differs from what is booked.
    fn difference(&self, kind: EntryKind, difference: &Difference) -> Posting {
        Posting {
            arithmetic: self.because(book::describe(difference)),
            refers_to: difference.before.as_ref().map(|before| before.original),
            ..self.posting(kind, difference, difference.quantity, difference.amount)
        }
    }
}

impl TenantFold {
    /// Books a difference, and says how the line is booked now.
    pub(super) fn book_difference(
        &mut self,
        booking: &Booking<'_>,
        difference: &Difference,
        effects: &mut Vec<Effect>,
    ) -> Booked {
        if booking.is_late && self.planted.has(PlantedBug::LateTwice) {
            let posting = booking.difference(difference.key.kind(), difference);
            self.post(booking.stamp, posting, effects);
        }
        let is_rated = matches!(difference.key.account, LineAccount::Rated { .. });
        let first = self.chain.len() + 1;
        let (original, standing) = match booking.change {
            Change::Anew if is_rated => self.book_anew(booking, difference, effects),
            Change::InNext if is_rated => self.book_in_next(booking, difference, effects),
            Change::Anew | Change::InNext => {
                let posting = booking.difference(difference.key.kind(), difference);
                let at = self.post(booking.stamp, posting, effects);
                (at, at)
            }
        };
        let before = difference.before.as_ref();
        let original = before.map_or(original, |before| before.original);
        if before.is_some()
            && let Some(tenant) = self.tenants.get_mut(booking.tenant)
        {
            tenant.dues.are_of(first..=standing.index, original.index);
        }
        Booked {
            quantity: difference.line.quantity,
            amount: difference.line.amount,
            contra: difference.line.contra.clone(),
            aside: difference.line.aside.clone(),
            original,
            standing,
            ties: before.map_or_else(Vec::new, |before| before.ties.clone()),
        }
    }

    /// A reversal of what stands, if anything does, and the line as it is now.
    fn book_anew(
        &mut self,
        booking: &Booking<'_>,
        difference: &Difference,
        effects: &mut Vec<Effect>,
    ) -> (EntryRef, EntryRef) {
        let stands = |before: &&Booked| {
            !before.quantity.is_zero()
                || before.amount.is_some_and(|amount| !amount.is_zero())
                || aside::is_anything(before.aside.as_deref())
        };
        let booked = difference.before.as_ref();
        let before = booked.filter(stands);
        let reversed = before.map(|before| {
            let (quantity, amount) = (opposite(before.quantity), before.amount.map(negated));
            let reversal = Posting {
                arithmetic: booking.because(format!("takes back what {} says", before.standing)),
                refers_to: Some(before.standing),
                ..booking.posting(EntryKind::Reversal, difference, quantity, amount)
            };
            self.post(booking.stamp, reversal, effects)
        });
        let line = &difference.line;
        let is_gone = line.quantity.is_zero()
            && line.amount.is_none_or(|amount| amount.is_zero())
            && !aside::is_anything(line.aside.as_deref());
        if let (Some(at), true) = (reversed, is_gone) {
            return (at, at);
        }
        let text = match before {
            Some(before) => format!("{}; in place of {}", line.text, before.standing),
            None => line.text.clone(),
        };
        let anew = Posting {
            arithmetic: booking.because(text),
            // Also where nothing is left to be taken back, it is of the same line.
            refers_to: reversed.or_else(|| booked.map(|booked| booked.original)),
            ..booking.posting(EntryKind::Charge, difference, line.quantity, line.amount)
        };
        let at = self.post(booking.stamp, anew, effects);
        (at, at)
    }

    /// The difference, in the next period that is not closed.
    fn book_in_next(
        &mut self,
        booking: &Booking<'_>,
        difference: &Difference,
        effects: &mut Vec<Effect>,
    ) -> (EntryRef, EntryRef) {
        let next = self.next_open(booking.tenant, booking.period, effects);
        let posting = Posting {
            start: next.start,
            end: next.end,
            arithmetic: booking.because(format!(
                "late usage of {}: {}",
                booking.period,
                book::describe(difference)
            )),
            ..booking.difference(EntryKind::Adjustment, difference)
        };
        let at = self.post(booking.stamp, posting, effects);
        (at, at)
    }

    /// The first period after `period` that is not closed, opened if it was not. There is one: no
    /// period is closed before it is over.
    fn next_open(&mut self, name: &TenantId, period: Period, effects: &mut Vec<Effect>) -> Period {
        let Some(tenant) = self.tenants.get_mut(name) else {
            return period;
        };
        let mut next = tenant.calendars.period_containing(period.end);
        while next.end < Timestamp::MAX
            && tenant
                .books
                .get(&next.start)
                .is_some_and(PeriodBook::is_closed)
        {
            next = tenant.calendars.period_containing(next.end);
        }
        if !tenant.books.contains_key(&next.start) {
            open_book(
                tenant,
                name,
                PeriodBook::new(next),
                &mut self.waiting,
                effects,
            );
        }
        next
    }
}

/// What the entry says beside its amount.
fn put_aside(posting: &mut Posting, difference: &Difference, contra: Account) {
    let before = difference.before.as_ref();
    let before = before.and_then(|before| before.aside.as_deref());
    let now = difference.line.aside.as_deref();
    let aside = match posting.kind {
        EntryKind::Reversal => before.map(Aside::reversed),
        EntryKind::Adjustment => Aside::since(now, before),
        _ => now.cloned(),
    };
    let Some(aside) = aside else {
        return;
    };
    posting.legs = aside.together(std::mem::take(&mut posting.legs));
    let currency = posting.currency.as_deref().unwrap_or_default();
    if aside.tax.is_some() && posting.legs.is_empty() {
        // Also a tax that is not charged stands on an invoice.
        posting.legs = nothing(contra, posting.amount.unwrap_or_default(), currency);
    }
    posting.tax = aside.tax.map(Box::new);
}

/// Legs of an amount of zero, with its places.
pub(super) fn nothing(contra: Account, amount: Decimal, currency: &str) -> Vec<Leg> {
    let leg = |account| Leg {
        account,
        amount,
        currency: currency.to_owned(),
    };
    vec![leg(Account::Unbilled), leg(contra)]
}

/// The same quantity taken away. Only -2^127, which no sum of rollups reaches, has no opposite.
fn opposite(quantity: Quantity) -> Quantity {
    Quantity::ZERO
        .checked_sub(quantity)
        .unwrap_or(Quantity::MAX)
}
