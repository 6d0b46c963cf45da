//! Grants: money that a tenant may spend, given or paid in advance.

use std::str::FromStr;

use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::around::{Counts, Names, read_money};
use super::billing;
use super::cards::{Date, Id};
use super::discounts::read_validity;
use super::read::{Reader, Section};
use crate::period::Every;
use crate::rate::Currency;

/// Most grants of one profile.
pub(super) const GRANTS_MAX: usize = 256;
/// Highest priority number.
const PRIORITY_MAX: u32 = 1_000_000;

/// Money that pays for lines, tax included, until it is used up or expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its name on invoices; unique in the profile.
    pub id: String,
    /// In the tenant's currency, or in `unit`; above zero. Of one that comes again, in each term.
    pub amount: Decimal,
    /// The card's currency, where that is what it is counted in and bills are in another one: it pays
    /// for lines in that, each by what it came to.
    pub unit: Option<Currency>,
    /// After how long it comes again, counted from `from`; what is left by then expires. `None` for
    /// never.
    pub every: Option<Every>,
    /// Whether it was given or paid for.
    pub kind: GrantKind,
    /// Lower ones are used first.
    pub priority: u32,
    /// The first day for whose usage it pays; `None` for no beginning.
    pub from: Option<NaiveDate>,
    /// The first day for whose usage it does not pay any more; `None` if it does not expire.
    pub until: Option<NaiveDate>,
    /// When it was made: of otherwise equal ones the older is used first. `from` unless said.
    pub created: Option<NaiveDate>,
    /// The lines it pays for.
    pub counts: Counts,
}

impl Grant {
    /// What tells it apart in what periods leave: what was used in one unit says nothing of another.
    pub(crate) fn carried_key(&self) -> String {
        match &self.unit {
            // No id has a space.
            Some(unit) => format!("{} {}", self.id, unit.code()),
            None => self.id.clone(),
        }
    }
}

/// Whether a grant was given or paid for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum GrantKind {
    /// Given.
    #[default]
    Promotional,
    /// Paid in advance.
    Paid,
}

impl GrantKind {
    /// As it is written in a catalog.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Promotional => "promotional",
            Self::Paid => "paid",
        }
    }
}

impl FromStr for GrantKind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "promotional" => Ok(Self::Promotional),
            "paid" => Ok(Self::Paid),
            _ => Err("expected `promotional` (given) or `paid` (in advance)"),
        }
    }
}

/// Reads the grants, which are in this currency, in the order in which they are used; `None` if there
/// is a mistake in one.
pub(super) fn read<'d>(
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    names: &Names,
    currency: Option<Currency>,
) -> Option<Vec<Grant>> {
    let mut grants: Vec<Grant> = Vec::new();
    let mut sound = true;
    for section in reader.tables(root, "grant", GRANTS_MAX) {
        match read_one(reader, &section, (names, currency)) {
            Some(grant) if grants.iter().any(|other| other.id == grant.id) => {
                let message = format!("grant `{}` is declared twice", grant.id);
                reader.refuse(section.span(), &section.key("id"), message);
                sound = false;
            }
            Some(grant) => grants.push(grant),
            None => sound = false,
        }
    }
    // Equal ones stay in the order of the file.
    grants.sort_by_key(|grant| {
        let expiry = (grant.until.is_none(), grant.until);
        (grant.priority, expiry, grant.kind, grant.created)
    });
    sound.then_some(grants)
}

/// Reads what a grant is counted in, if that is not what bills are in.
#[expect(clippy::option_option, reason = "a mistake is not an absence")]
fn read_unit<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    (names, billed): (&Names, Option<Currency>),
) -> Option<Option<Currency>> {
    let Some(field) = section.field("currency") else {
        return Some(None);
    };
    let expected = "the currency of the card, or that of bills";
    let code = reader.string(&field, expected)?;
    let is = |known: &Currency| known.code() == code;
    if billed.is_some_and(|billed| is(&billed)) {
        return Some(None);
    }
    if let Some(unit) = names.currency.filter(is) {
        return Some(Some(unit));
    }
    let known = [names.currency, billed].map(|known| known.map(|known| format!("`{known}`")));
    let mut known: Vec<String> = known.into_iter().flatten().collect();
    known.dedup();
    if !known.is_empty() {
        let message = format!(
            "no line is in that (expected {expected}: {})",
            known.join(" or ")
        );
        reader.refuse_field(&field, message);
    }
    None
}

fn read_one<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    (names, currency): (&Names, Option<Currency>),
) -> Option<Grant> {
    let known = [
        "id", "amount", "currency", "every", "kind", "priority", "from", "until", "created",
        "counts", "fees",
    ];
    reader.only(section, &known);
    let id = reader.parse::<Id>(section, "id", "its name such as \"welcome\"");
    let expected = "an amount as a decimal string such as \"100.00\"";
    let unit = read_unit(reader, section, (names, currency))?;
    let amount = read_money(reader, section, expected, unit.or(currency));
    let expected = "\"promotional\" or \"paid\"";
    let kind = reader.or_default::<GrantKind>(section, "kind", expected);
    let priority = if section.has("priority") {
        let expected = "an integer from 0 to 1000000; lower ones are used first";
        reader.integer(section, "priority", PRIORITY_MAX, expected)
    } else {
        Some(0)
    };
    let validity = read_validity(reader, section);
    let created = reader.maybe::<Date>(section, "created", "a date such as \"2026-01-01\"");
    let counts = names.counts(reader, section);
    let (amount, field) = amount?;
    if amount.is_zero() {
        reader.refuse_field(&field, "expected an amount above zero");
        return None;
    }
    let (from, until) = validity?;
    let every = billing::read_length(reader, section, "every", "a term such as \"P1M\"")?;
    if every.is_some() && from.is_none() {
        let message = "nothing says when it comes for the first time (expected a date)";
        reader.refuse(section.span(), &section.key("from"), message);
        return None;
    }
    Some(Grant {
        id: id?.0.0,
        amount,
        unit,
        every,
        kind: kind?,
        priority: priority?,
        from,
        until,
        created: created?.map(|(Date(created), _)| created).or(from),
        counts: counts?,
    })
}
