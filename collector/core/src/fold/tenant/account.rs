//! Conservation accounts: what agents accepted, and what became of it.

use serde::{Deserialize, Serialize};
use tollgate_common::{LossAmount, MeterName, Quantity, Rollup, Scale, TenantId};

use super::TenantFold;
use super::book::LineAccount;
use super::usage::PeriodBook;
use crate::effect::AccountState;
use crate::fold::{Accepted, DeclaredLoss};

/// Whose account, of which meter and scale.
pub(super) type AccountKey = (TenantId, MeterName, Scale);

/// The sums of one account. Only meters that add up have
/// one: `sum`, `distribution`, `time_weighted`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) accepted: Quantity,
    pub(super) counted: Quantity,
    pub(super) refused: Quantity,
    pub(super) lost: Quantity,
    pub(super) corrected: Quantity,
}

impl Account {
    pub(super) fn state(&self, (tenant, meter, scale): &AccountKey) -> AccountState {
        self.state_of(tenant, meter, *scale)
    }

    /// The same of the parts of its key.
    pub(super) fn state_of(
        &self,
        tenant: &TenantId,
        meter: &MeterName,
        scale: Scale,
    ) -> AccountState {
        AccountState {
            tenant: tenant.clone(),
            meter: meter.clone(),
            scale,
            accepted: self.accepted,
            counted: self.counted,
            refused: self.refused,
            lost: self.lost,
            corrected: self.corrected,
        }
    }
}

impl TenantFold {
    /// Books what was accepted. That the accounts are others now is told with the rows and the losses
    /// of the same entry, which are the same accounts'.
    pub(super) fn handle_accepted(&mut self, accepted: &[Accepted]) {
        for own in accepted.chunk_by(|a, b| a.tenant == b.tenant) {
            let mut accounts = self.accounts.of(&own[0].tenant);
            for accepted in own {
                accounts.change(&accepted.meter, accepted.scale, |account| {
                    add(&mut account.accepted, accepted.quantity);
                });
            }
        }
    }

    /// What was counted into periods and is not in the ledger yet, of what adds up: by account,
    /// and whether it is refused.
    pub fn unbooked(&self) -> impl Iterator<Item = (AccountKey, bool, Quantity)> {
        let books = self
            .tenants
            .iter()
            .flat_map(|(name, tenant)| tenant.books.values().map(move |book| (name, book)));
        let theirs = books.clone().flat_map(|(payer, book)| {
            book.children().flat_map(move |(name, book)| {
                // The payer's lines have it too, and are not its own for that.
                let shares = book.booked.iter().filter(|(line, _)| {
                    line.aggregation.adds_up() && matches!(line.account, LineAccount::Rated { .. })
                });
                let shares = shares.filter_map(move |(line, booked)| {
                    let meter = line.meter.clone()?;
                    Some(((payer.clone(), meter, line.scale), false, booked.quantity))
                });
                unbooked(name, book).chain(shares)
            })
        });
        books
            .flat_map(|(name, book)| unbooked(name, book))
            .chain(theirs)
    }
}

/// The same of one book.
fn unbooked<'b>(
    name: &'b TenantId,
    book: &'b PeriodBook,
) -> impl Iterator<Item = (AccountKey, bool, Quantity)> + 'b {
    let key = move |meter: &MeterName, scale| (name.clone(), meter.clone(), scale);
    let counted = book
        .usage()
        .iter()
        .filter(|usage| usage.aggregation().adds_up());
    let counted = counted.map(move |usage| {
        let account = key(usage.meter(), usage.scale());
        (account, usage.refused().is_some(), usage.quantity())
    });
    let booked = book
        .booked
        .iter()
        .filter(|(line, _)| line.aggregation.adds_up());
    let booked = booked.filter_map(move |(line, booked)| {
        let is_refused = matches!(line.account, LineAccount::Refused(_));
        // Of two sums of rollups, each far within the range.
        let quantity = Quantity::ZERO.checked_sub(booked.quantity)?;
        Some((key(line.meter.as_ref()?, line.scale), is_refused, quantity))
    });
    counted.chain(booked)
}

/// Adds to a figure of an account. Agents may declare losses of any size; what leaves the
/// range stays at its end, where the account visibly does not balance.
pub(super) fn add(figure: &mut Quantity, quantity: Quantity) {
    let end = if quantity.is_negative() {
        Quantity::new(-Quantity::MAX.units())
    } else {
        Quantity::MAX
    };
    *figure = figure.checked_add(quantity).unwrap_or(end);
}

/// The account of a row that adds up.
pub(super) fn key_of(row: &Rollup) -> AccountKey {
    let series = &row.series;
    (series.tenant().clone(), series.meter().clone(), row.scale)
}

/// The account and the quantity of a loss, where both are known.
pub(super) fn of_loss(declared: &DeclaredLoss) -> Option<(AccountKey, Quantity)> {
    let tenant = declared.loss.tenant.clone()?;
    let meter = declared.loss.meter.clone()?;
    let quantity = match declared.loss.amount {
        LossAmount::Exact(quantity) | LossAmount::AtMost(quantity) => quantity,
        LossAmount::Unknown => return None,
    };
    Some(((tenant, meter, declared.scale), quantity))
}
