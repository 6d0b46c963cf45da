//! Bills: the one way from the usage of a period to lines, tax and total.
//!
//! [`compute`] follows the card's order; by `standard/1` each price is rated by [`crate::rate`],
//! then come percent discounts, amount discounts, maximum and minimum, of single lines first,
//! then of groups of lines, then of the invoice; commitments; conversion into the tenant's
//! currency; tax; rounding of the total; the credit-note balance; grants.
//!
//! A bill is always that of the whole period so far. What an interim invoice, the final one or a
//! correction adds is the difference to what was posted before, key by key ([`since`]), so that
//! nothing is charged twice and the sum never differs from the bill made at once. Whatever
//! depends on other periods of the tenant comes in as [`Carried`] and goes out again.
//!
//! All amounts are exact decimals with the places of their currency; where one is divided, it is
//! by [`split`], which conserves it.

mod around;
mod breakage;
mod carried;
mod commit;
mod coupons;
mod draws;
mod entries;
mod exchange;
mod fees;
mod grants;
mod input;
mod lanes;
mod line;
mod lines;
mod offline;
mod plan;
mod reached;
mod rounding;
mod share;
mod shift;
mod split;
mod taxes;
mod top_up;
mod total;
mod unrated;
mod work;

pub use breakage::Breakage;
pub use carried::{Advance, Carried, Contribution, Exchanged, Held, Reached, Taxed, Term};
pub use draws::Draws;
pub use entries::{Entry, EntryKey, since};
pub use grants::{GrantUse, cut_by_grants, cuts};
pub use input::{BillInput, Child, Metered, Next, Slice, Stage, metered, shape};
pub use line::{BillLine, LineKey, LineRole, Share, Source};
pub use offline::{Offline, Usage};
pub use shift::Shift;
pub use split::{split, split_amount, split_by};
pub use taxes::TaxLine;
pub use unrated::{Unrated, UnratedUsage};

use rust_decimal::Decimal;

use crate::catalog::{ExchangeRate, Threshold};
use crate::period::Period;
use crate::rate::Currency;

/// What a tenant owes for a period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bill<'c> {
    /// The period.
    pub period: Period,
    /// What its amounts are in; `None` without lines.
    pub currency: Option<Currency>,
    /// In the order of the card's prices, then what minimums and commitments add.
    pub lines: Vec<BillLine<'c>>,
    /// Usage that is not rated.
    pub unrated: Vec<UnratedUsage>,
    /// The rates by which amounts were converted, one for each currency.
    pub exchange: Vec<ExchangeRate>,
    /// Each tax at each rate.
    pub taxes: Vec<TaxLine<'c>>,
    /// How far each commitment's term has come with this bill.
    pub commitments: Vec<CommitmentState<'c>>,
    /// What each drawdown of a commitment pays of which lines.
    pub draws: Draws,
    /// What is left on the accounts of commitments that end with this bill.
    pub breakage: Vec<Breakage<'c>>,
    /// What each grant pays.
    pub grants: Vec<GrantUse<'c>>,
    /// The sum of the lines, without tax.
    pub net: Decimal,
    /// The sum of the taxes.
    pub tax: Decimal,
    /// Both together.
    pub total: Decimal,
    /// What the credit-note balance pays.
    pub credit: Decimal,
    /// What is left to pay: the total less credit and grants.
    pub due: Decimal,
    /// What the next period, or a correction of this one, has to know.
    pub carried: Carried,
}

/// How far the term of a commitment has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitmentState<'c> {
    /// Which.
    pub commitment: &'c crate::catalog::Commitment,
    /// The card that it is of; `None` in a profile.
    pub card: Option<&'c str>,
    /// What its amounts are in.
    pub currency: Currency,
    /// The term.
    pub term: Period,
    /// True if this is the term's last bill.
    pub ends: bool,
    /// What counted before this period.
    pub before: Decimal,
    /// What counts of this period.
    pub counted: Decimal,
    /// What is left to be spent in the term.
    pub left: Decimal,
}

/// Why there is no bill.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoBill {
    /// A number leaves its range.
    #[error("the amounts are too large to be computed exactly")]
    TooLarge,
    /// Nothing is agreed with the tenant.
    #[error("the tenant has no profile, and there is no default one")]
    NoProfile,
    /// The catalog has no rate for the day.
    #[error("tax `{code}` has no rate in force on {day} (expected one in its `rates`)")]
    NoTaxRate {
        /// Which tax.
        code: String,
        /// The day.
        day: chrono::NaiveDate,
    },
    /// The catalog does not declare a tax that an older version of it names.
    #[error("tax `{0}` is not declared any more (expected a [[tax]] in tax/)")]
    NoTax(String),
    /// The catalog has no rate of that time.
    #[error(
        "there is no exchange rate from {from} to {to} before {before} (expected a [[rate]] in \
         rates/)"
    )]
    NoExchangeRate {
        /// From which currency.
        from: &'static str,
        /// To which.
        to: &'static str,
        /// The end of the period.
        before: tollgate_common::Timestamp,
    },
}

/// Works out what is owed for a period.
///
/// The result depends on nothing but the arguments.
///
/// # Errors
/// See [`NoBill`]. Usage that cannot be rated is no error, but stands in [`Bill::unrated`].
pub fn compute<'c>(input: &BillInput<'c>) -> Result<Bill<'c>, NoBill> {
    let mut carried = input.carried.clone();
    carried.forget(input.period);
    let (drafts, mut unrated) = lines::rated(input, &mut carried)?;
    let mut lines = around::apply(input, drafts, &mut unrated)?;
    // Not of what was left out as too large: nobody pays for that.
    reached::note_all(input, &lines, &mut carried);
    let commitments = commit::apply(input, &mut lines, &mut carried)?;
    coupons::apply(input, &mut lines)?;
    let (currency, exchange) = exchange::convert(input, &mut lines)?;
    let taxes = taxes::apply(input, &mut lines, currency)?;
    fees::note_billed(input, &lines, currency, &mut carried);
    let breakage = breakage::apply(input, &lines, &commitments, currency, &mut carried);
    let breakage = breakage.ok_or(NoBill::TooLarge)?;
    total::round(input, &mut lines, currency)?;
    share::apply(input, &mut lines)?;
    let draws = draws::of(input, &lines).ok_or(NoBill::TooLarge)?;
    let sum = |amount: fn(&BillLine<'c>) -> Decimal| {
        lines
            .iter()
            .try_fold(Decimal::ZERO, |sum, line| sum.checked_add(amount(line)))
            .ok_or(NoBill::TooLarge)
    };
    let (net, tax) = (sum(|line| line.net)?, sum(|line| line.tax)?);
    let total = net.checked_add(tax).ok_or(NoBill::TooLarge)?;
    let credit = carried.draw_credit(input.period, total);
    let grants = grants::apply(input, &lines, (credit, currency), &mut carried)?;
    let granted = grants.iter().map(|grant| grant.paid);
    let due = granted
        .chain([credit])
        .try_fold(total, Decimal::checked_sub)
        .ok_or(NoBill::TooLarge)?;
    // Also sums of nothing have the places of the currency.
    let shown = |mut amount: Decimal| {
        let places = currency.map_or(0, Currency::exponent);
        amount.rescale(Ord::max(amount.scale(), places));
        amount
    };
    let [net, tax, total, credit, due] = [net, tax, total, credit, due].map(shown);
    Ok(Bill {
        period: input.period,
        currency,
        lines,
        unrated,
        exchange,
        taxes,
        commitments,
        draws,
        breakage,
        grants,
        net,
        tax,
        total,
        credit,
        due,
        carried,
    })
}

impl Bill<'_> {
    /// Whether an interim invoice is due: what the lines that count for the threshold cost so far, tax
    /// excluded, less what is `posted` of each already, reaches its amount.
    pub fn reaches(
        &self,
        threshold: &Threshold,
        posted: impl Fn(&BillLine<'_>) -> Option<Decimal>,
    ) -> bool {
        let counts = |line: &&BillLine<'_>| {
            let price = line.source.price();
            price.is_some_and(|price| threshold.counts.includes(price))
        };
        let mut lines = self.lines.iter().filter(counts);
        let open = lines.try_fold(Decimal::ZERO, |sum, line| {
            let open = line.net.checked_sub(posted(line).unwrap_or_default())?;
            sum.checked_add(open)
        });
        open.is_some_and(|open| open >= threshold.amount)
    }
}

#[cfg(test)]
mod tests;
