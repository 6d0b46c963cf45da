//! What is included in the rows of a matrix: in each its own, or in all of them together.
//!
//! What rows share is used up in the order of the rows, by all that each has in the rating interval,
//! so that it does not matter when usage came. One unit of a row may use up more than one.

use std::collections::BTreeMap;

use tollgate_common::{Quantity, Timestamp};

use super::around::{Included, converted};
use super::charge::{Entries, Version, Work};
use super::{Ratio, metered};
use crate::catalog::Row;

/// What is included of a row, in the price's unit: by the interval, the version, and the row's name.
pub(super) type Shared<'c> = BTreeMap<(u32, usize, &'c str), Ratio>;

impl<'c> Work<'_, 'c> {
    /// Divides what rows share; `None` inside where none do.
    #[expect(clippy::option_option, reason = "nothing to share is not a failure")]
    pub(super) fn share_included(
        &self,
        accumulators: &BTreeMap<(u32, &'c str), Entries<'c>>,
    ) -> Option<Option<Shared<'c>>> {
        let shares = |version: &&Version<'c>| {
            version.price.matrix.is_some() && version.price.allowance.is_some()
        };
        if !self.versions.iter().any(|version| shares(&version)) {
            return Some(None);
        }
        let mut used: BTreeMap<u32, BTreeMap<&str, Ratio>> = BTreeMap::new();
        for ((interval, name), entries) in accumulators {
            let quantities = entries.iter().map(|(_, _, quantity)| *quantity);
            let all = metered(Quantity::checked_sum(quantities)?, Some(self.meter))?;
            used.entry(*interval).or_default().insert(name, all);
        }
        let mut shared = Shared::new();
        for version in self.versions.iter().filter(shares) {
            let price = version.price;
            let (matrix, allowance) = (price.matrix.as_ref()?, price.allowance.as_ref()?);
            let whole = allowance.quantity.value().checked_mul(version.prorated())?;
            for (interval, used) in &used {
                let mut left = whole;
                for row in &matrix.rows {
                    let Some(all) = used.get(row.id.as_str()) else {
                        continue;
                    };
                    let all = converted(price, *all)?;
                    let most = left.checked_div(row.uses)?;
                    let part = if all.checked_cmp(most)?.is_gt() {
                        most
                    } else {
                        all
                    };
                    left = left.checked_sub(part.checked_mul(row.uses)?)?;
                    shared.insert((*interval, version.index, &row.id), part);
                }
            }
        }
        Some(Some(shared))
    }

    /// What is included in what a version prices, of a row or without rows.
    pub(super) fn included(
        &self,
        version: Version<'c>,
        row: Option<&'c Row>,
        begin: Timestamp,
    ) -> Option<Included<'c>> {
        let own = row.and_then(|row| row.allowance.as_ref());
        let Some(allowance) = own.or(version.price.allowance.as_ref()) else {
            return Some(None);
        };
        if let (None, Some(row)) = (own, row) {
            let since = begin.secs() - self.parted.period.start.secs();
            let key = (u32::try_from(since).ok()?, version.index, row.id.as_str());
            let part = self.shared.and_then(|shared| shared.get(&key));
            return Some(Some((allowance, part.copied().unwrap_or(Ratio::ZERO))));
        }
        let all = allowance.quantity.value();
        Some(Some((allowance, all.checked_mul(version.prorated())?)))
    }
}

impl Version<'_> {
    /// How much of an allowance is included.
    fn prorated(&self) -> Ratio {
        if self.price.prorated.allowance {
            self.scale
        } else {
            Ratio::ONE
        }
    }
}
