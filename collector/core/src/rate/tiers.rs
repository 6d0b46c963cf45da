//! From a quantity to the list amount, tier by tier.

use rust_decimal::Decimal;

use super::{Mode, Ratio, Site};
use crate::catalog::{Blocks, Bounds, FirstFlat, Measure, Model, Price, Row, Scheme, Tier, TierBy};

/// What one tier contributes to a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierAmount<'c> {
    /// The tier.
    pub tier: &'c Tier,
    /// The usage that is priced in the tier, in the price's unit.
    pub quantity: Ratio,
    /// Where whole blocks are charged: how many.
    pub blocks: Option<i128>,
    /// What its unit price is quoted for.
    pub per: &'c Measure,
    /// The unit price that is charged; `None` if there is only a flat fee.
    pub unit: Option<Decimal>,
    /// The flat fee, if it is due.
    pub flat: Option<Decimal>,
    /// How much of the flat fee is due.
    pub part: Ratio,
    /// What the tier's minimum adds.
    pub lifted: Ratio,
    /// `quantity × unit / per + flat`, or the least that the tier costs, before rounding.
    pub exact: Ratio,
    /// What counts for the line: `exact`, rounded if tiers are rounded.
    pub amount: Ratio,
}

/// How a price's amounts are rounded in a currency.
#[derive(Clone, Copy)]
pub(super) struct Places {
    pub(super) mode: Mode,
    pub(super) places: u32,
    /// What amounts are multiples of, if not of the smallest amount of so many places.
    pub(super) step: Option<Ratio>,
}

impl Places {
    pub(super) fn round(self, exact: Ratio) -> Option<Decimal> {
        let exact = match self.step {
            Some(step) => exact.round_to(step, self.mode)?,
            None => exact,
        };
        exact.round(self.places, self.mode)
    }
}

/// What a quantity is priced by.
#[derive(Clone, Copy)]
pub(super) struct Table<'c> {
    pub(super) model: &'c Model,
    per: &'c Measure,
    site: Site,
    places: Places,
    /// What the bounds of tiers are scaled by.
    scale: Ratio,
    /// How much of the first tier's flat fee is due, where it is prorated.
    fee: Ratio,
    /// What selects the tier in place of the quantity that is priced.
    selects: Option<Ratio>,
}

impl<'c> Table<'c> {
    /// That of a price, or of a row of its matrix.
    pub(super) fn of(price: &'c Price, row: Option<&'c Row>, places: Places) -> Self {
        Self {
            model: row.map_or(&price.model, |row| &row.model),
            per: row.map_or(&price.per, |row| &row.per),
            site: price.rounding.site,
            places,
            scale: Ratio::ONE,
            fee: Ratio::ONE,
            selects: None,
        }
    }

    /// With bounds that are scaled.
    pub(super) fn scaled(self, scale: Ratio) -> Self {
        Self { scale, ..self }
    }

    /// With a part of the first tier's flat fee, where that is prorated.
    pub(super) fn in_force_for(self, part: Ratio) -> Self {
        let fee = if self.model.first_flat == FirstFlat::Prorated {
            part
        } else {
            Ratio::ONE
        };
        Self { fee, ..self }
    }

    /// With another quantity that selects the tier.
    pub(super) fn selected(self, selects: Option<Ratio>) -> Self {
        Self { selects, ..self }
    }

    /// Where a tier begins, and where it ends.
    fn bounds(&self, tier: &Tier) -> Option<(Ratio, Option<Ratio>)> {
        let to = tier.to.as_ref().map(Measure::value);
        if self.scale == Ratio::ONE {
            return Some((tier.from, to));
        }
        let to = match to {
            Some(to) => Some(to.checked_mul(self.scale)?),
            None => None,
        };
        Some((tier.from.checked_mul(self.scale)?, to))
    }
}

impl TierAmount<'_> {
    /// The flat fee that is due, before rounding; zero if none is.
    pub(super) fn fee(&self) -> Option<Ratio> {
        let flat = self.flat.map_or(Ratio::ZERO, Ratio::from_decimal);
        flat.checked_mul(self.part)
    }

    /// What this has more than a lower position in the same tier. A flat fee that was due there is
    /// not due again.
    pub(super) fn less(mut self, before: &Self) -> Option<Self> {
        self.quantity = self.quantity.checked_sub(before.quantity)?;
        self.blocks = match (self.blocks, before.blocks) {
            (Some(blocks), Some(others)) => Some(blocks.checked_sub(others)?),
            (blocks, _) => blocks,
        };
        self.flat = self.flat.filter(|_| before.flat.is_none());
        self.lifted = self.lifted.checked_sub(before.lifted)?;
        self.exact = self.exact.checked_sub(before.exact)?;
        self.amount = self.amount.checked_sub(before.amount)?;
        Some(self)
    }
}

impl TierAmount<'_> {
    /// What two parts of the same tier have together.
    pub(super) fn and(mut self, other: &Self) -> Option<Self> {
        self.quantity = self.quantity.checked_add(other.quantity)?;
        self.blocks = match (self.blocks, other.blocks) {
            (Some(blocks), Some(others)) => Some(blocks.checked_add(others)?),
            (blocks, others) => blocks.or(others),
        };
        self.unit = self.unit.or(other.unit);
        self.flat = self.flat.or(other.flat);
        self.lifted = self.lifted.checked_add(other.lifted)?;
        self.exact = self.exact.checked_add(other.exact)?;
        self.amount = self.amount.checked_add(other.amount)?;
        Some(self)
    }
}

/// The sum of the tiers' amounts for a quantity that is not negative; each is shown to `each`.
///
/// `None` if a number leaves its range.
pub(super) fn list_amount<'c>(
    table: Table<'c>,
    quantity: Ratio,
    mut each: impl FnMut(TierAmount<'c>),
) -> Option<Ratio> {
    let model = table.model;
    let selects = match &model.tier_by {
        Some(TierBy::Rounded { to, mode }) => quantity.round_to(to.value(), *mode)?,
        Some(TierBy::Meter(_) | TierBy::Peak) | None => table.selects.unwrap_or(quantity),
    };
    let mut sum = Ratio::ZERO;
    let mut tiers = model.tiers.iter().enumerate().peekable();
    while let Some((index, tier)) = tiers.next() {
        let (from, to) = table.bounds(tier)?;
        let is_top = match to {
            Some(to) => !is_beyond(model.bounds, selects, to)?,
            None => tiers.peek().is_none(),
        };
        let inside = match model.scheme {
            Scheme::Volume if is_top => quantity,
            Scheme::Volume => continue,
            Scheme::Graduated => inside((from, to), quantity, is_top)?,
        };
        let is_due = index > 0 || !quantity.is_zero() || model.first_flat != FirstFlat::Usage;
        let flat = tier.flat.filter(|_| is_due);
        // At an exclusive bound the next tier is reached and has nothing yet.
        if index == 0 || !inside.is_zero() || flat.is_some() {
            let part = if index == 0 { table.fee } else { Ratio::ONE };
            let amount = tier_amount(table, tier, inside, (flat, part))?;
            sum = sum.checked_add(amount.amount)?;
            each(amount);
        }
        if is_top {
            break;
        }
    }
    Some(sum)
}

/// What a quantity costs without flat fees.
pub(super) fn unit_amount(table: Table<'_>, quantity: Ratio) -> Option<Ratio> {
    let mut fees = Some(Ratio::ZERO);
    let amount = list_amount(table, quantity, |tier| {
        fees = fees.and_then(|fees| fees.checked_add(tier.fee()?));
    })?;
    amount.checked_sub(fees?)
}

/// Whether a quantity lies in the tiers above a bound.
fn is_beyond(bounds: Bounds, quantity: Ratio, bound: Ratio) -> Option<bool> {
    let order = quantity.checked_cmp(bound)?;
    Some(match bounds {
        Bounds::Inclusive => order.is_gt(),
        Bounds::Exclusive => order.is_ge(),
    })
}

/// The part of the quantity that lies in a tier. What selects tiers may be rounded, so the top
/// tier can hold a little more or less than its bounds say; all parts together are the quantity.
fn inside((from, to): (Ratio, Option<Ratio>), quantity: Ratio, is_top: bool) -> Option<Ratio> {
    let upto = match to {
        Some(to) if !is_top && quantity.checked_cmp(to)?.is_gt() => to,
        _ => quantity,
    };
    let inside = upto.checked_sub(from)?;
    Some(if inside.is_negative() {
        Ratio::ZERO
    } else {
        inside
    })
}

fn tier_amount<'c>(
    table: Table<'c>,
    tier: &'c Tier,
    quantity: Ratio,
    (flat, part): (Option<Decimal>, Ratio),
) -> Option<TierAmount<'c>> {
    let places = table.places;
    let per = tier.per.as_ref().unwrap_or(table.per);
    let unit = match (tier.unit, table.site) {
        (Some(unit), Site::Increment) => Some(places.round(Ratio::from_decimal(unit))?),
        (unit, _) => unit,
    };
    let count = quantity.checked_div(per.value())?;
    let blocks = match table.model.blocks {
        Blocks::Exact => None,
        Blocks::Started => Some(count.round_whole(Mode::Up)),
        Blocks::Full => Some(count.round_whole(Mode::Down)),
    };
    let count = match blocks {
        Some(blocks) => Ratio::from_integer(blocks)?,
        None => count,
    };
    let mut exact = match unit {
        Some(unit) => count.checked_mul(Ratio::from_decimal(unit))?,
        None => Ratio::ZERO,
    };
    if let Some(flat) = flat {
        exact = exact.checked_add(Ratio::from_decimal(flat).checked_mul(part)?)?;
    }
    let mut lifted = Ratio::ZERO;
    if let Some(minimum) = tier.minimum.map(Ratio::from_decimal)
        && !quantity.is_zero()
        && exact.checked_cmp(minimum)?.is_lt()
    {
        lifted = minimum.checked_sub(exact)?;
        exact = minimum;
    }
    let amount = match table.site {
        Site::Tier => Ratio::from_decimal(places.round(exact)?),
        Site::Line | Site::Event | Site::Increment | Site::Invoice => exact,
    };
    Some(TierAmount {
        tier,
        quantity,
        blocks: blocks.filter(|_| unit.is_some()),
        per,
        unit,
        flat,
        part,
        lifted,
        exact,
        amount,
    })
}
