//! What stands around prices, on cards and in profiles: discounts on several lines together,
//! maximum and minimum over several lines, commitments.

use std::collections::BTreeSet;

use rust_decimal::Decimal;

use super::CATALOG_ROWS_MAX;
use super::cards::{Id, Order};
use super::commitments::{self, Commitment};
use super::coupons::Agreed;
use super::discounts::{self, JointDiscount};
use super::measure::Amount;
use super::price::Price;
use super::read::{Field, Reader, Section};
use crate::period::Proration;
use crate::rate::Currency;

/// Most minimums, maximums or commitments of one card or profile.
pub(super) const BOUNDS_MAX: usize = 256;

/// What stands around the prices of a card, or of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Around {
    /// Discounts on several lines together, in the order in which they are applied: percent,
    /// amount, and each of them for a group of lines first, then for the invoice.
    pub discounts: Vec<JointDiscount>,
    /// Most that lines may cost together: groups first, then the invoice.
    pub maximums: Vec<Bound>,
    /// Least that lines cost together: groups first, then the invoice.
    pub minimums: Vec<Bound>,
    /// Commitments, those of shorter terms first.
    pub commitments: Vec<Commitment>,
}

impl Around {
    /// True if nothing stands there.
    pub fn is_empty(&self) -> bool {
        self.discounts.is_empty()
            && self.maximums.is_empty()
            && self.minimums.is_empty()
            && self.commitments.is_empty()
    }

    /// True if it asks for money of a period in which nothing is used.
    pub fn is_due_unused(&self) -> bool {
        self.minimums.iter().any(|least| !least.amount.is_zero())
            || self.commitments.iter().any(Commitment::is_due_unused)
    }
}

/// Which lines count for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// The prices by id; `None` for all.
    pub prices: Option<Vec<String>>,
    /// Whether fees count where all prices do. A fee that is named counts.
    pub fees: bool,
}

impl Counts {
    /// True if the line of a price counts.
    pub fn includes(&self, price: &Price) -> bool {
        match &self.prices {
            Some(ids) => ids.contains(&price.id),
            None => self.fees || price.meter.is_some(),
        }
    }

    /// True if every one of the prices whose line counts for `other` counts here too.
    pub fn covers<'p>(&self, other: &Self, prices: impl IntoIterator<Item = &'p Price>) -> bool {
        prices
            .into_iter()
            .all(|price| self.includes(price) || !other.includes(price))
    }

    /// True if a fee of this id counts.
    pub fn includes_fee(&self, id: &str) -> bool {
        match &self.prices {
            Some(ids) => ids.iter().any(|known| known == id),
            None => self.fees,
        }
    }
}

/// Most or least that lines cost together in a period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Its name; a minimum's is that of an invoice line. Unique among the minimums or maximums
    /// of the card or profile.
    pub id: String,
    /// Which lines count.
    pub counts: Counts,
    /// In the card's currency; not negative.
    pub amount: Decimal,
    /// How it is reduced for a part of a period; `None` for not at all.
    pub prorate: Option<Proration>,
}

/// Reads what stands around prices into `prices` (discounts on single lines) and an [`Around`];
/// `None` if there is a mistake. `names` are the prices that may be named, `agreed` is what a profile
/// says of its periods.
pub(super) fn read<'d>(
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    (names, agreed): (&Names, Option<Agreed>),
    prices: &mut [Price],
) -> Option<Around> {
    let discounts = discounts::read(reader, root, (names, agreed), prices);
    let maximums = read_bounds(reader, root, names, "maximum");
    let minimums = read_bounds(reader, root, names, "minimum");
    let commitments = commitments::read(reader, root, names);
    Some(Around {
        discounts: discounts?,
        maximums: maximums?,
        minimums: minimums?,
        commitments: commitments?,
    })
}

/// The prices that something around them may name.
pub(super) struct Names {
    /// In which card, for messages.
    card: String,
    /// What its amounts are in; `None` if that is a mistake of its own.
    pub(super) currency: Option<Currency>,
    /// In which order the card takes things off.
    pub(super) order: Order,
    /// True if it is a profile that names them.
    pub(super) of_profile: bool,
    /// Their ids.
    pub(super) ids: BTreeSet<String>,
}

impl Names {
    pub(super) fn of<'p>(
        (card, currency): (&str, Option<Currency>),
        order: Order,
        prices: impl Iterator<Item = &'p Price>,
    ) -> Self {
        let mut ids = BTreeSet::new();
        for price in prices {
            if !ids.contains(&price.id) {
                ids.insert(price.id.clone());
            }
        }
        Self {
            card: card.to_owned(),
            currency,
            order,
            of_profile: false,
            ids,
        }
    }

    /// The same, for a profile.
    pub(super) fn for_profile(self) -> Self {
        Self {
            of_profile: true,
            ..self
        }
    }

    /// Reads an array of price ids.
    pub(super) fn read<'d>(
        &self,
        reader: &mut Reader<'d>,
        field: &Field<'d>,
    ) -> Option<Vec<String>> {
        let items = field.items();
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            let message = "expected an array of price ids such as [\"requests\"]";
            reader.refuse_field(field, message);
            return None;
        };
        let mut ids: Vec<String> = Vec::with_capacity(Ord::min(items.len(), CATALOG_ROWS_MAX));
        let mut named = BTreeSet::new();
        for item in items {
            let id = item.value.as_str().unwrap_or_default();
            if !self.ids.contains(id) {
                let shown: String = id.chars().take(64).collect();
                let message = format!("price `{shown}` is not declared in card `{}`", self.card);
                reader.refuse_field(&item, message);
                return None;
            }
            if named.insert(id) {
                ids.push(id.to_owned());
            }
        }
        Some(ids)
    }

    /// Reads which lines count: `counts`, and `fees` where that is not there.
    pub(super) fn counts<'d>(
        &self,
        reader: &mut Reader<'d>,
        section: &Section<'d>,
    ) -> Option<Counts> {
        let prices = match section.field("counts") {
            Some(field) => Some(self.read(reader, &field)?),
            None => None,
        };
        let fees = match section.field("fees") {
            None => true,
            Some(field) if prices.is_some() => {
                let message = "lines that are named count, fees too (expected `fees` only \
                               without `counts`)";
                reader.refuse_field(&field, message);
                return None;
            }
            Some(field) => read_bool(reader, &field)?,
        };
        Some(Counts { prices, fees })
    }
}

/// Reads `true` or `false`.
pub(super) fn read_bool(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<bool> {
    let value = field.value.as_bool();
    if value.is_none() {
        reader.refuse_field(field, "expected true or false");
    }
    value
}

/// Reads `prorate`: by duration unless something else is said.
#[expect(clippy::option_option, reason = "a mistake is not an absence")]
pub(super) fn read_prorate<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
) -> Option<Option<Proration>> {
    let Some(field) = section.field("prorate") else {
        return Some(Some(Proration::default()));
    };
    let expected = "expected \"duration\", \"days\" or \"none\"";
    let text = reader.string(&field, expected)?;
    if text == "none" {
        return Some(None);
    }
    let by = text.parse::<Proration>().ok();
    if by.is_none() {
        reader.refuse_field(&field, expected);
    }
    by.map(Some)
}

fn read_bounds<'d>(
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    names: &Names,
    name: &str,
) -> Option<Vec<Bound>> {
    let mut bounds: Vec<Bound> = Vec::new();
    let mut sound = true;
    for section in reader.tables(root, name, BOUNDS_MAX) {
        match read_bound(reader, &section, names) {
            Some(bound) if bounds.iter().any(|other| other.id == bound.id) => {
                let message = format!("{name} `{}` is declared twice", bound.id);
                reader.refuse(section.span(), &section.key("id"), message);
                sound = false;
            }
            Some(bound) => bounds.push(bound),
            None => sound = false,
        }
    }
    // Groups of lines come before the invoice, each in the order of the file.
    bounds.sort_by_key(|bound| bound.counts.prices.is_none());
    sound.then_some(bounds)
}

/// Reads an `amount` that somebody owes or has as it stands: none finer than can be paid.
pub(super) fn read_money<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    expected: &str,
    currency: Option<Currency>,
) -> Option<(Decimal, Field<'d>)> {
    let (Amount(amount), field) = reader.parse::<Amount>(section, "amount", expected)?;
    let too_fine = |of: &Currency| amount.normalize().scale() > of.exponent();
    if let Some(currency) = currency.filter(too_fine) {
        let message = format!(
            "{amount} {} cannot be paid (expected at most {} decimal places)",
            currency.code(),
            currency.exponent()
        );
        reader.refuse_field(&field, message);
        return None;
    }
    Some((amount, field))
}

fn read_bound<'d>(reader: &mut Reader<'d>, section: &Section<'d>, names: &Names) -> Option<Bound> {
    reader.only(section, &["id", "counts", "fees", "amount", "prorate"]);
    let id = reader.parse::<Id>(section, "id", "its name such as \"platform\"");
    let counts = names.counts(reader, section);
    let expected = "an amount as a decimal string such as \"100.00\"";
    let amount = read_money(reader, section, expected, names.currency);
    let prorate = read_prorate(reader, section);
    Some(Bound {
        id: id?.0.0,
        counts: counts?,
        amount: amount?.0,
        prorate: prorate?,
    })
}
