//! The closing pack: what finance wants to see at the end of a month.
//!
//! - *Trial balance*: what moved on every account, and that it sums to zero.
//! - *Accrual roll-forward*: what was booked and stood on no invoice at the beginning, what was
//!   added and what was invoiced in the range, and what stands on none at its end.
//! - *Variance*: each line beside the same line of the period before.
//!
//! All of it is made of ledger entries by the day on which they count (`date`); entries without
//! legs have none and move nothing.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde::Serialize;
use tollgate_common::{TenantId, Timestamp};

use super::{Account, EntryKind, LedgerEntry};
use crate::position::Position;

/// The days of a pack, `from` to before `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Days {
    /// First day.
    pub from: NaiveDate,
    /// First day after.
    pub to: NaiveDate,
}

/// The closing pack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pack {
    /// By account and currency.
    pub trial_balance: Vec<Balance>,
    /// What is left of all accounts by currency: zero.
    pub sums: BTreeMap<String, Decimal>,
    /// By tenant and currency.
    pub roll_forward: Vec<RollForward>,
    /// By tenant, line and currency.
    pub variance: Vec<Variance>,
}

/// What moved on an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Balance {
    /// Which account.
    pub account: String,
    /// ISO 4217 code.
    pub currency: String,
    /// What it had before the first day.
    pub opening: Decimal,
    /// What was added.
    pub debits: Decimal,
    /// What was taken, above zero.
    pub credits: Decimal,
    /// What it has after the last day.
    pub closing: Decimal,
}

/// What stands on no invoice, from the first day to the last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RollForward {
    /// Whose.
    pub tenant: String,
    /// ISO 4217 code.
    pub currency: String,
    /// Before the first day.
    pub opening: Decimal,
    /// Booked by the first closings of periods, and before those, while the periods were open.
    pub accrued: Decimal,
    /// Booked for periods that were closed before.
    pub corrected: Decimal,
    /// One-off lines and credits.
    pub manual: Decimal,
    /// Put on invoices, below zero.
    pub invoiced: Decimal,
    /// Taken back by credit notes.
    pub voided: Decimal,
    /// After the last day.
    pub closing: Decimal,
}

/// A line beside the same one of the period before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Variance {
    /// Whose.
    pub tenant: String,
    /// Which line.
    pub line: String,
    /// ISO 4217 code.
    pub currency: String,
    /// First instant of the newest period that counts in the range.
    pub start: Timestamp,
    /// Its amount, corrections included.
    pub amount: Decimal,
    /// The amount of the newest period before.
    pub before: Decimal,
    /// The difference.
    pub change: Decimal,
    /// The difference in percent with one decimal place; `None` from zero.
    pub percent: Option<Decimal>,
}

/// Sums that do not fit a decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the amounts of the ledger are too large to be added")]
pub struct TooLarge;

type LineKey = (TenantId, String, String);

/// Makes a pack of entries that come in any order.
#[derive(Debug)]
pub struct Packer {
    days: Days,
    balances: BTreeMap<(Account, String), Balance>,
    rolls: BTreeMap<(TenantId, String), RollForward>,
    /// Amounts of lines by period, of all periods up to the last day.
    lines: BTreeMap<LineKey, BTreeMap<Timestamp, Decimal>>,
    /// Periods that count in the range.
    current: BTreeMap<LineKey, Timestamp>,
    /// What was booked for a period that was over, by closing, with the part in the range.
    closings: BTreeMap<PeriodKey, BTreeMap<Position, Closed>>,
}

type PeriodKey = (TenantId, Timestamp, Timestamp);
/// By currency.
type Closed = BTreeMap<String, Decimal>;

fn add(sum: &mut Decimal, amount: Decimal) -> Result<(), TooLarge> {
    *sum = sum.checked_add(amount).ok_or(TooLarge)?;
    Ok(())
}

impl Packer {
    /// A pack of these days.
    pub const fn new(days: Days) -> Self {
        Self {
            days,
            balances: BTreeMap::new(),
            rolls: BTreeMap::new(),
            lines: BTreeMap::new(),
            current: BTreeMap::new(),
            closings: BTreeMap::new(),
        }
    }

    /// Takes up an entry.
    ///
    /// # Errors
    /// See [`TooLarge`].
    pub fn take(&mut self, entry: &LedgerEntry) -> Result<(), TooLarge> {
        let posting = &entry.posting;
        let (Some(date), Some(tenant)) = (posting.date, &posting.tenant) else {
            return Ok(());
        };
        if date >= self.days.to {
            return Ok(());
        }
        let is_before = date < self.days.from;
        for leg in &posting.legs {
            let key = (leg.account.clone(), leg.currency.clone());
            let balance = self.balances.entry(key).or_default();
            add(&mut balance.closing, leg.amount)?;
            if is_before {
                add(&mut balance.opening, leg.amount)?;
            } else if leg.amount.is_sign_negative() {
                add(&mut balance.credits, -leg.amount)?;
            } else {
                add(&mut balance.debits, leg.amount)?;
            }
            if leg.account == Account::Unbilled {
                let key = (tenant.clone(), leg.currency.clone());
                let roll = self.rolls.entry(key).or_default();
                add(&mut roll.closing, leg.amount)?;
                let mut in_closing = Decimal::ZERO;
                let part = match posting.kind {
                    _ if is_before => &mut roll.opening,
                    EntryKind::Charge | EntryKind::Reversal if entry.posted < posting.end => {
                        &mut roll.accrued
                    }
                    // Whether it is the first closing is known when all entries are.
                    EntryKind::Charge | EntryKind::Reversal => &mut in_closing,
                    EntryKind::Manual | EntryKind::Credit => &mut roll.manual,
                    EntryKind::CreditNote if posting.refers_to.is_some() => &mut roll.voided,
                    EntryKind::Invoice | EntryKind::CreditNote => &mut roll.invoiced,
                    _ => &mut roll.corrected,
                };
                add(part, leg.amount)?;
                if posting.kind.is_closing() && entry.posted >= posting.end {
                    let period = (tenant.clone(), posting.start, posting.end);
                    let closings = self.closings.entry(period).or_default();
                    let closed = closings.entry(posting.journal_to).or_default();
                    let sum = closed.entry(leg.currency.clone()).or_default();
                    add(sum, in_closing)?;
                }
            }
        }
        if let (true, Some(amount), Some(currency)) =
            (posting.kind.is_line(), posting.amount, &posting.currency)
        {
            let key = (tenant.clone(), posting.line.clone(), currency.clone());
            if !is_before {
                let newest = self.current.entry(key.clone()).or_insert(posting.start);
                *newest = Ord::max(*newest, posting.start);
            }
            let periods = self.lines.entry(key).or_default();
            add(periods.entry(posting.start).or_default(), amount)?;
        }
        Ok(())
    }

    /// The pack.
    ///
    /// # Errors
    /// See [`TooLarge`].
    pub fn finish(mut self) -> Result<Pack, TooLarge> {
        let mut pack = Pack::default();
        for ((tenant, _, _), closings) in std::mem::take(&mut self.closings) {
            for (nth, (_, sums)) in closings.into_iter().enumerate() {
                for (currency, sum) in sums {
                    let roll = self.rolls.entry((tenant.clone(), currency)).or_default();
                    let part = match nth {
                        0 => &mut roll.accrued,
                        _ => &mut roll.corrected,
                    };
                    add(part, sum)?;
                }
            }
        }
        for ((account, currency), mut balance) in self.balances {
            add(
                pack.sums.entry(currency.clone()).or_default(),
                balance.closing,
            )?;
            balance.account = account.to_string();
            balance.currency = currency;
            pack.trial_balance.push(balance);
        }
        for ((tenant, currency), mut roll) in self.rolls {
            roll.tenant = tenant.to_string();
            roll.currency = currency;
            pack.roll_forward.push(roll);
        }
        for (key, start) in self.current {
            let periods = self.lines.get(&key);
            let at = |start| periods.and_then(|periods| periods.get(start)).copied();
            let earlier = periods.and_then(|periods| periods.range(..start).next_back());
            let amount = at(&start).unwrap_or_default();
            let before = earlier.map_or(Decimal::ZERO, |(_, amount)| *amount);
            let change = amount.checked_sub(before).ok_or(TooLarge)?;
            let percent = change
                .checked_mul(Decimal::ONE_HUNDRED)
                .and_then(|change| change.checked_div(before.abs()))
                .map(|percent| percent.round_dp(1));
            let (tenant, line, currency) = key;
            pack.variance.push(Variance {
                tenant: tenant.to_string(),
                line,
                currency,
                start,
                amount,
                before,
                change,
                percent,
            });
        }
        Ok(pack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Chain, Posting, transfer};
    use crate::position::Position;

    fn day(month: u32, day: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, month, day).expect("a day")
    }

    fn posting(kind: EntryKind, period: i64, date: NaiveDate, cents: i64) -> Posting {
        let start = Timestamp::from_secs(period * 1000);
        let end = Timestamp::from_secs(period * 1000 + 1000);
        let mut posting = Posting::new(kind, start, end, "requests", Position::from_bytes([0; 16]));
        let amount = Decimal::new(cents, 2);
        posting.tenant = Some(TenantId::new("acme").expect("valid"));
        posting.date = Some(date);
        posting.amount = Some(amount);
        posting.currency = Some("EUR".to_owned());
        posting.legs = match kind {
            EntryKind::Invoice | EntryKind::CreditNote => {
                transfer(Account::Receivable, Account::Unbilled, amount, "EUR")
            }
            _ => transfer(
                Account::Unbilled,
                Account::Revenue("8400".to_owned()),
                amount,
                "EUR",
            ),
        };
        posting
    }

    #[test]
    fn a_month_rolls_forward_and_sums_to_zero() {
        let mut chain = Chain::new(0);
        let mut packer = Packer::new(Days {
            from: day(6, 1),
            to: day(7, 1),
        });
        for posting in [
            posting(EntryKind::Charge, 5, day(5, 31), 10_000),
            posting(EntryKind::Invoice, 5, day(6, 2), 10_000),
            posting(EntryKind::Adjustment, 5, day(6, 9), 500),
            posting(EntryKind::Charge, 6, day(6, 30), 12_600),
            posting(EntryKind::Credit, 6, day(6, 30), -2_000),
            posting(EntryKind::Invoice, 6, day(7, 2), 11_100),
        ] {
            let entry = chain.append(Timestamp::EPOCH, posting);
            packer.take(&entry).expect("fits");
        }
        let pack = packer.finish().expect("fits");
        assert_eq!(
            pack.sums,
            BTreeMap::from([("EUR".to_owned(), Decimal::new(0, 2))])
        );
        let roll = &pack.roll_forward[0];
        let cents = |cents| Decimal::new(cents, 2);
        assert_eq!(
            (
                roll.opening,
                roll.accrued,
                roll.corrected,
                roll.manual,
                roll.invoiced,
                roll.closing
            ),
            (
                cents(10_000),
                cents(12_600),
                cents(500),
                cents(-2_000),
                cents(-10_000),
                cents(11_100)
            )
        );
        let of = |account: &str| {
            let found = pack.trial_balance.iter().find(|b| b.account == account);
            found.expect("there").clone()
        };
        assert_eq!(of("receivable").closing, cents(10_000));
        let revenue = of("revenue:8400");
        assert_eq!(
            (
                revenue.opening,
                revenue.credits,
                revenue.debits,
                revenue.closing
            ),
            (cents(-10_000), cents(13_100), cents(2_000), cents(-21_100))
        );
        // 126.00 - 20.00 beside 105.00.
        let variance = &pack.variance[0];
        assert_eq!(
            (variance.amount, variance.before, variance.percent),
            (cents(10_600), cents(10_500), Some(Decimal::new(10, 1)))
        );
    }

    /// A period that is billed before its end is accrued, not corrected; what comes after its first
    /// closing is.
    #[test]
    fn bills_of_an_open_period_are_no_corrections() {
        let mut chain = Chain::new(0);
        let mut packer = Packer::new(Days {
            from: day(6, 1),
            to: day(8, 1),
        });
        // When, by which journal entry, for how much; the period is [6000 s, 7000 s).
        for (secs, journaled, kind, cents) in [
            (6100, 1, EntryKind::Charge, 1000),
            (6200, 2, EntryKind::Reversal, -1000),
            (6200, 2, EntryKind::Charge, 1500),
            (7000, 3, EntryKind::Reversal, -1500),
            (7000, 3, EntryKind::Charge, 2000),
            (7500, 4, EntryKind::Reversal, -2000),
            (7500, 4, EntryKind::Charge, 2300),
        ] {
            let mut posting = posting(kind, 6, day(6, 30), cents);
            posting.journal_to = Position::from_bytes([journaled; 16]);
            let entry = chain.append(Timestamp::from_secs(secs), posting);
            packer.take(&entry).expect("fits");
        }
        let pack = packer.finish().expect("fits");
        let roll = &pack.roll_forward[0];
        let parts = (roll.accrued, roll.corrected, roll.closing);
        let cents = |cents| Decimal::new(cents, 2);
        assert_eq!(parts, (cents(2000), cents(300), cents(2300)));
    }
}
