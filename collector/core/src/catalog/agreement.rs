//! What a profile agrees beside card and calendar: what stands around the card's prices for this
//! tenant alone, taxes, currency, grants, and who pays.

use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use tollgate_common::TenantId;
use toml::de::DeValue;

use super::around::{self, Around, Counts, Names};
use super::cards::{Card, Date, Order};
use super::coupons::Agreed;
use super::grants::{self, Grant};
use super::measure::Amount;
use super::price::{Over, Price};
use super::read::{Field, Reader, Section};
use super::{Catalog, CatalogError, CatalogErrors, Places, contracted, tax};
use crate::period::{Calendar, Every};
use crate::rate::Currency;

/// What is agreed with a tenant beside card and calendar.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// What stands around the prices for this tenant alone. Its discounts on single lines are in
    /// [`Agreement::card`].
    pub around: Around,
    /// In the order in which they are used.
    pub grants: Vec<Grant>,
    /// The codes of the taxes on lines whose price names none.
    pub taxes: Vec<String>,
    /// What invoices are in; `None` for the card's currency.
    pub currency: Option<Currency>,
    /// Who pays instead.
    pub payer: Option<Payer>,
    /// When an invoice is due before the period ends.
    pub threshold: Option<Threshold>,
    /// The versions of the card with this tenant's rates and discounts; empty if there are none.
    own: Vec<Arc<Card>>,
    /// True if rates of its own begin or end at other times than versions of the card.
    is_dated: bool,
}

impl Agreement {
    /// The version of a card with this tenant's contracted rates and discounts.
    pub fn card<'a>(&'a self, card: &'a Card) -> &'a Card {
        let same = |own: &&Arc<Card>| own.id == card.id && own.from == card.from;
        self.own.iter().find(same).map_or(card, |own| &**own)
    }

    /// The versions of the card by which the tenant is rated, oldest first: those that are `listed`,
    /// but where it has rates that begin or end in between.
    pub fn versions<'a>(&'a self, listed: &'a [Arc<Card>]) -> &'a [Arc<Card>] {
        if self.is_dated { &self.own } else { listed }
    }

    /// True if something of it may be due for a period without usage: also what only the rates that
    /// this tenant has contracted for a card make due.
    pub fn is_due_unused(&self) -> bool {
        self.around.is_due_unused() || self.own.iter().any(|card| card.is_due_unused())
    }
}

/// Who pays for a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payer {
    /// Whose periods, zone, card and currency count.
    pub tenant: TenantId,
    /// The first day for whose usage it pays, in its zone; `None` for always.
    pub from: Option<NaiveDate>,
}

/// When an invoice is due before the period ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// Due once this much is not invoiced yet, tax excluded; above zero.
    pub amount: Decimal,
    /// The lines that count.
    pub counts: Counts,
}

/// Most prices, tiers and discounts of cards that profiles with discounts on single prices or
/// contracted rates have for themselves, all together: a few hundred MB at most.
const OWN_MAX: usize = 1 << 20;

const _: () = assert!(OWN_MAX == 1_048_576, "the message says so");

/// What is said of more.
const OWN_FULL: &str = "contracted rates, and discounts of profiles on single prices, make more than \
    1048576 prices and tiers of their own (expected fewer such profiles or smaller cards, discounts \
    of the card, or `scope = \"group\"`)";

/// Counts prices and tiers that a profile has for itself, before they are made.
///
/// # Errors
/// If all profiles together have too many.
pub(super) fn claim_own(places: &Places, more: usize) -> Result<(), &'static str> {
    places.own.set(places.own.get().saturating_add(more));
    if places.own.get() > OWN_MAX {
        return Err(OWN_FULL);
    }
    Ok(())
}

/// How many prices, tiers and discounts a version of a card has.
fn weight(card: &Card) -> usize {
    let weight = |price: &Price| {
        let rows = price.matrix.iter().flat_map(|matrix| &matrix.rows);
        let tiers: usize = rows.map(|row| row.model.tiers.len()).sum();
        1 + price.model.tiers.len() + tiers + price.discounts.len()
    };
    card.prices.iter().map(weight).sum()
}

/// True if a discount of the profile is on single lines, or says so wrongly.
fn has_line_discounts(root: &Section<'_>) -> bool {
    let on_line = |discount: &Field<'_>| match discount.value {
        DeValue::Table(table) => {
            let scope = table
                .get("scope")
                .and_then(|scope| scope.get_ref().as_str());
            !matches!(scope, Some("group" | "invoice"))
        }
        _ => false,
    };
    let discounts = root.field("discount").and_then(|field| field.items());
    discounts.is_some_and(|discounts| discounts.iter().any(on_line))
}

/// Reads what a profile with this card agrees; `None` if there is a mistake.
pub(super) fn read<'d>(
    catalog: &Catalog,
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    (card, calendar): (&str, Calendar),
    places: &Places,
) -> Option<Agreement> {
    let versions = catalog.versions(card);
    if versions.is_empty() {
        // The card is broken: what names its prices cannot be judged.
        return Some(Agreement::default());
    }
    let names = places.names.borrow().get(card).cloned();
    let names = names.unwrap_or_else(|| {
        let prices = versions.iter().flat_map(|card| &card.prices);
        // The same in all versions.
        let currency = versions.first().map(|card| card.currency);
        let order = versions.first().map_or(Order::default(), |card| card.order);
        let names = Rc::new(Names::of((card, currency), order, prices).for_profile());
        let mut known = places.names.borrow_mut();
        known.insert(card.to_owned(), Rc::clone(&names));
        names
    });
    let mut own: Vec<Card> = Vec::new();
    let is_contracted = root.has(contracted::KEY);
    let begins = contracted::begins(versions, &contracted::days(root));
    if has_line_discounts(root) || is_contracted {
        let times = if is_contracted { 2 } else { 1 };
        let weights = versions.iter().map(|card| weight(card));
        let more: usize = weights.zip(&begins).map(|(all, at)| all * at.len()).sum();
        let more = more.saturating_mul(times);
        if let Err(message) = claim_own(places, more) {
            let key = if is_contracted {
                contracted::KEY
            } else {
                "discount"
            };
            reader.refuse(root.span(), key, message);
            return None;
        }
        for (card, at) in versions.iter().zip(&begins) {
            own.extend(at.iter().map(|from| Card {
                from: *from,
                ..Card::clone(card)
            }));
        }
    }
    let counts: Vec<usize> = own.iter().map(|card| card.prices.len()).collect();
    let starts: Vec<NaiveDate> = own
        .iter()
        .flat_map(|card| std::iter::repeat_n(card.from, card.prices.len()))
        .collect();
    let mut prices: Vec<Price> = own
        .iter_mut()
        .flat_map(|card| std::mem::take(&mut card.prices))
        .collect();
    let before: usize = prices.iter().map(|price| price.discounts.len()).sum();
    let agreed = Agreed::of(calendar, root);
    let around = around::read(reader, root, (&names, Some(agreed)), &mut prices);
    let mut dated: Vec<_> = starts.into_iter().zip(&mut prices).collect();
    contracted::read(catalog, reader, root, (&names, places), &mut dated)?;
    let after: usize = prices.iter().map(|price| price.discounts.len()).sum();
    let mut prices = prices.into_iter();
    for (card, count) in own.iter_mut().zip(counts) {
        card.prices = prices.by_ref().take(count).collect();
        card.prices
            .iter_mut()
            .for_each(|price| catalog.quicken(price));
    }
    if after == before && !is_contracted {
        own = Vec::new();
    }
    let taxes = tax::read_codes(catalog, reader, root, places);
    let currency = read_currency(catalog, reader, root, versions);
    let billed = currency.flatten().or(names.currency);
    let grants = grants::read(reader, root, &names, billed);
    let payer = read_payer(reader, root);
    let threshold = read_threshold(reader, root, &names);
    let around = around?;
    check_periods(reader, root, versions, &around, calendar.every)?;
    Some(Agreement {
        around,
        grants: grants?,
        taxes: taxes?.unwrap_or_default(),
        currency: currency?,
        payer: payer?,
        threshold: threshold?,
        is_dated: own.len() > versions.len(),
        own: own.into_iter().map(Arc::new).collect(),
    })
}

/// Refuses commitments, and prices by the month, where periods are too short or of other lengths.
fn check_periods<'d>(
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    versions: &[Arc<Card>],
    around: &Around,
    every: Every,
) -> Option<()> {
    let commits = |around: &Around| !around.commitments.is_empty();
    if matches!(every, Every::Seconds(_))
        && (commits(around) || versions.iter().any(|card| commits(&card.around)))
    {
        let message = "commitments are counted by the day at most (expected periods of days, \
                       months or years)";
        reader.refuse(root.span(), "period", message);
        return None;
    }
    let long = |price: &&Price| price.long_term.is_some_and(|term| !term.outlasts(every));
    let mut prices = versions.iter().flat_map(|card| &card.prices);
    if let Some(price) = prices.find(long) {
        let message = format!(
            "tiers of price `{}` go on for a term that is not longer than the period (expected shorter \
             periods, of days or months, or another `interval` of the price)",
            price.id
        );
        reader.refuse(root.span(), "period", message);
        return None;
    }
    let by_period = |price: &Price| {
        let is_open = |over: &Over| over.length_secs.is_none();
        price.over.as_ref().is_some_and(is_open) && price.unit.is_by_month()
    };
    let mut prices = versions.iter().flat_map(|card| &card.prices);
    if every != Every::MONTH
        && let Some(price) = prices.find(|price| by_period(price))
    {
        let message = format!(
            "price `{}` is quoted for a unit times `mo`, which is the period, and the period is no \
             month (expected `P1M`, or a length such as `over = \"730 h\"` in the price)",
            price.id
        );
        reader.refuse(root.span(), "period", message);
        return None;
    }
    Some(())
}

#[expect(clippy::option_option, reason = "a mistake is not an absence")]
fn read_currency<'d>(
    catalog: &Catalog,
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    versions: &[Arc<Card>],
) -> Option<Option<Currency>> {
    let expected = "an ISO 4217 code such as \"EUR\"";
    let Some((to, field)) = reader.maybe::<Currency>(root, "currency", expected)? else {
        let of_units = versions.iter().find(|card| !card.currency.is_money());
        if let Some(card) = of_units.filter(|_| !reader.is_partial()) {
            let message = format!(
                "missing: card `{}` is in `{}`, which is no money that a bill can be in (expected \
                 such as \"EUR\")",
                card.id, card.currency
            );
            reader.refuse(root.span(), "currency", message);
            return None;
        }
        return Some(None);
    };
    let unknown = versions
        .iter()
        .find(|card| card.currency != to && !catalog.exchange.knows(card.currency, to));
    if let Some(card) = unknown {
        let message = format!(
            "card `{}` is in {}, and there is no rate to {to} (expected a [[rate]] in rates/)",
            card.id, card.currency
        );
        reader.refuse_field(&field, message);
        return None;
    }
    Some(Some(to))
}

/// A tenant's name.
struct Named(TenantId);

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        TenantId::new(text)
            .map(Self)
            .map_err(|error| error.to_string())
    }
}

#[expect(clippy::option_option, reason = "a mistake is not an absence")]
fn read_payer<'d>(reader: &mut Reader<'d>, root: &Section<'d>) -> Option<Option<Payer>> {
    let Some(field) = root.field("payer") else {
        return Some(None);
    };
    let expected = "the tenant who pays, such as \"acme\", or a table such as \
                    { tenant = \"acme\", from = \"2026-07-01\" }";
    if field.value.as_str().is_some() {
        let (Named(tenant), _) = reader.parse::<Named>(root, "payer", expected)?;
        return Some(Some(Payer { tenant, from: None }));
    }
    let table = reader.table(root, "payer", expected)?;
    reader.only(&table, &["tenant", "from"]);
    let tenant = reader.parse::<Named>(&table, "tenant", "the tenant who pays");
    let from = reader.maybe::<Date>(&table, "from", "a date such as \"2026-07-01\"");
    let (Named(tenant), _) = tenant?;
    Some(Some(Payer {
        tenant,
        from: from?.map(|(Date(from), _)| from),
    }))
}

#[expect(clippy::option_option, reason = "a mistake is not an absence")]
fn read_threshold<'d>(
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    names: &Names,
) -> Option<Option<Threshold>> {
    if !root.has("threshold") {
        return Some(None);
    }
    let table = reader.table(root, "threshold", "a table such as { amount = \"500.00\" }")?;
    reader.only(&table, &["amount", "counts", "fees"]);
    let expected = "an amount as a decimal string such as \"500.00\"";
    let amount = reader.parse::<Amount>(&table, "amount", expected);
    let counts = names.counts(reader, &table);
    let (Amount(amount), field) = amount?;
    if amount.is_zero() {
        reader.refuse_field(&field, "expected an amount above zero");
        return None;
    }
    Some(Some(Threshold {
        amount,
        counts: counts?,
    }))
}

/// Where a profile names its payer, to be judged once all profiles are read.
pub(super) struct PayerPlace {
    /// Whose profile; `None` for the default one.
    pub(super) tenant: Option<TenantId>,
    /// The place, without a message.
    pub(super) place: CatalogError,
}

/// Checks that every payer has a profile of its own and pays for itself, which leaves no room for
/// circles.
pub(super) fn check_payers(
    catalog: &Catalog,
    places: Vec<PayerPlace>,
    errors: &mut Vec<CatalogError>,
) {
    for PayerPlace { tenant, place } in places {
        let profile = match &tenant {
            Some(tenant) => catalog.profiles.get(tenant),
            None => catalog.default_profile.as_ref(),
        };
        let Some(payer) = profile.and_then(|profile| profile.agreement.payer.as_ref()) else {
            continue;
        };
        let message = match catalog.profiles.get(&payer.tenant) {
            _ if tenant.as_ref() == Some(&payer.tenant) => {
                "a tenant pays for itself anyway (expected another one, or no payer)".to_owned()
            }
            None => format!("tenant `{}` has no profile of its own", payer.tenant),
            Some(theirs) => match &theirs.agreement.payer {
                None => continue,
                Some(other) => format!(
                    "`{}` has a payer itself, `{}` (expected one who pays for itself)",
                    payer.tenant, other.tenant
                ),
            },
        };
        if errors.len() < CatalogErrors::MAX {
            errors.push(CatalogError { message, ..place });
        }
    }
}
