//! Levels over time whose tiers are those of every moment.
//!
//! Of a level that is divided by the length of the period, and whose tiers begin anew after an
//! interval, each interval has its own level: what was counted in it, by its true length, or that of the part in
//! which the price is in force. That is
//! priced as if it had held for the whole period, and charged by the share of the period for which
//! it did. So the line is the integral of the tiers over time: what is added is charged until the
//! period's end, and what is removed unwinds the highest tier first. A flat fee is due once, as soon
//! as its tier is reached, and stays.

use std::collections::BTreeMap;

use tollgate_common::{Quantity, Timestamp};

use super::Ratio;
use super::charge::{Entries, Version, Work};
use super::parts::{QUARTER_SECS, adds_up};
use super::piece::Piece;
use super::tiers::{TierAmount, list_amount};
use crate::catalog::{Interval, Over, Row, Tier, TierBy};
use crate::period::{Calendar, Every, Period};

/// Intervals in which the same was counted.
struct Group<'c> {
    /// Where the first of them begins.
    begin: Timestamp,
    entries: Entries<'c>,
    /// How long they are together.
    millis: i64,
}

/// What makes intervals alike: length, and what was counted under each version.
type Alike = (i64, Vec<(usize, i128)>);

impl<'c> Work<'_, 'c> {
    /// True if levels are priced interval by interval.
    pub(super) fn is_level(&self) -> bool {
        let is_level = |version: &Version<'_>| {
            version.price.over.is_some() && version.price.interval != Interval::Period
        };
        self.versions.iter().any(is_level)
    }

    /// The length that levels are divided by, in seconds.
    pub(super) fn over_secs(&self, over: Over) -> Option<Ratio> {
        match over.length_secs {
            Some(secs) => Some(secs),
            None => Ratio::new(self.parted.whole.millis().into(), 1000),
        }
    }

    /// The rating interval that begins at an instant, as far as it lies in the period.
    fn interval_at(&self, version: Version<'c>, begin: Timestamp) -> Period {
        let period = self.parted.period;
        let end = match version.price.interval {
            Interval::Period | Interval::Window => period.end,
            Interval::Day => {
                let zone = self.parted.zone();
                let days = Calendar::new(zone, Every::DAY);
                days.period_containing(begin).end
            }
            Interval::Quarter => {
                let secs = begin.secs();
                Timestamp::from_secs(secs - secs.rem_euclid(QUARTER_SECS) + QUARTER_SECS)
            }
            Interval::Hour => begin.plus_millis(3_600_000),
        };
        Period {
            start: begin,
            end: Ord::min(end, period.end),
        }
    }

    /// For how long the line's price is in force in the rating interval that begins at an instant:
    /// another card, or another price, may cut it.
    pub(super) fn millis_in(&self, version: Version<'c>, begin: Timestamp) -> i64 {
        let interval = self.interval_at(version, begin);
        let versions = self.versions.iter().map(|version| {
            let start = Ord::max(version.span.start, interval.start);
            let end = Ord::min(version.span.end, interval.end);
            Ord::max(end.millis_since(start), 0)
        });
        versions.sum()
    }

    /// The pieces of levels; `None` if a number leaves its range.
    pub(super) fn levels(
        &self,
        each: &mut impl FnMut(usize, Piece<'c>) -> Option<()>,
    ) -> Option<()> {
        let mut rows: BTreeMap<&str, (Vec<Group<'c>>, BTreeMap<Alike, usize>)> = BTreeMap::new();
        for ((interval, name), entries) in self.accumulators()? {
            let (first, _, _) = *entries.first()?;
            let since = i64::from(interval) * 1000;
            let begin = self.parted.period.start.plus_millis(since);
            let millis = self.millis_in(self.versions[first], begin);
            let counted = entries
                .iter()
                .map(|(at, _, quantity)| (*at, quantity.units()));
            let (groups, known) = rows.entry(name).or_default();
            let place = *known
                .entry((millis, counted.collect()))
                .or_insert(groups.len());
            match groups.get_mut(place) {
                Some(group) => group.millis = group.millis.checked_add(millis)?,
                None => groups.push(Group {
                    begin,
                    entries,
                    millis,
                }),
            }
        }
        for (groups, _) in rows.values() {
            let selected = self.at_peak(groups)?;
            let work = Work {
                versions: &selected,
                ..*self
            };
            for group in groups {
                work.level(group, each)?;
            }
            work.fees(groups, each)?;
        }
        Some(())
    }

    /// The versions, with the highest level where that selects the tier.
    fn at_peak(&self, groups: &[Group<'c>]) -> Option<Vec<Version<'c>>> {
        let mut versions = self.versions.to_vec();
        let by_peak = |row: Option<&Row>, version: &Version<'c>| {
            matches!(version.table(row).model.tier_by, Some(TierBy::Peak))
        };
        let mut peak = Ratio::ZERO;
        for group in groups {
            let (at, row, _) = *group.entries.first()?;
            if !by_peak(row, &self.versions[at]) {
                continue;
            }
            let mut whole = Quantity::ZERO;
            for (_, _, quantity) in &group.entries {
                whole = whole.checked_add(*quantity)?;
            }
            let level = self.piece(self.versions[at], row, group.begin, whole)?;
            if level.charged.checked_cmp(peak)?.is_gt() {
                peak = level.charged;
            }
        }
        for version in &mut versions {
            version.selects = version.selects.or(Some(peak));
        }
        Some(versions)
    }

    /// What a level costs for as long as it holds, without flat fees.
    fn level(
        &self,
        group: &Group<'c>,
        each: &mut impl FnMut(usize, Piece<'c>) -> Option<()>,
    ) -> Option<()> {
        let held = Ratio::new(group.millis.into(), 1000)?;
        let mut held_each = |at: usize, piece: Piece<'c>| {
            let over = self.versions.get(at)?.price.over?;
            let share = held.checked_div(self.over_secs(over)?)?;
            each(at, piece.held(share, held)?)
        };
        if adds_up(self.meter.aggregation) {
            self.adding(group.begin, &group.entries, &mut held_each)
        } else {
            self.standing(group.begin, &group.entries, &mut held_each)
        }
    }

    /// The flat fees of the tiers that were reached, each once, by the version under which that was.
    fn fees(
        &self,
        groups: &[Group<'c>],
        each: &mut impl FnMut(usize, Piece<'c>) -> Option<()>,
    ) -> Option<()> {
        let mut peak: Option<Ratio> = None;
        let mut fees: BTreeMap<usize, Piece<'c>> = BTreeMap::new();
        for group in groups {
            let mut reached = Quantity::ZERO;
            for (at, row, quantity) in &group.entries {
                reached = reached.checked_add(*quantity)?;
                let version = *self.versions.get(*at)?;
                let mut piece = self.piece(version, *row, group.begin, reached)?;
                let before = peak.unwrap_or(Ratio::ZERO);
                if !piece.charged.checked_cmp(before)?.is_gt() {
                    continue;
                }
                let mut had: Vec<*const Tier> = Vec::new();
                if let Some(peak) = peak {
                    list_amount(version.table(*row), peak, |tier| had.push(tier.tier))?;
                }
                peak = Some(piece.charged);
                piece.tiers.retain(|tier| {
                    tier.flat.is_some() && !had.iter().any(|known| std::ptr::eq(*known, tier.tier))
                });
                if piece.tiers.is_empty() {
                    continue;
                }
                let piece = piece.only_fees()?;
                match fees.remove(at) {
                    Some(before) => fees.insert(*at, before.and(&piece)?),
                    None => fees.insert(*at, piece),
                };
            }
        }
        fees.into_iter().try_for_each(|(at, piece)| each(at, piece))
    }
}

impl Piece<'_> {
    /// Without flat fees, and charged by the share of the period for which it holds.
    fn held(mut self, share: Ratio, secs: Ratio) -> Option<Self> {
        for tier in &mut self.tiers {
            if tier.flat.is_some() {
                let flat = tier.fee()?;
                tier.flat = None;
                tier.exact = tier.exact.checked_sub(flat)?;
                tier.amount = tier.amount.checked_sub(flat)?;
                self.amount = self.amount.checked_sub(flat)?;
            }
        }
        self.tiers.retain(|tier| tier.unit.is_some());
        self.interval = None;
        self.over_secs = Some(secs);
        self.amount = self.amount.checked_mul(share)?;
        let share = share.checked_mul(self.share.unwrap_or(Ratio::ONE))?;
        self.share = Some(share).filter(|share| *share != Ratio::ONE);
        Some(self)
    }

    /// Only the flat fees of its tiers.
    fn only_fees(mut self) -> Option<Self> {
        self.amount = Ratio::ZERO;
        for tier in &mut self.tiers {
            let fee = tier.fee()?;
            *tier = TierAmount {
                quantity: Ratio::ZERO,
                blocks: None,
                unit: None,
                exact: fee,
                amount: fee,
                ..*tier
            };
            self.amount = self.amount.checked_add(fee)?;
        }
        self.interval = None;
        self.over_secs = None;
        self.metered = Ratio::ZERO;
        self.charged = Ratio::ZERO;
        self.quantities = Vec::new();
        self.share = None;
        Some(self)
    }
}
