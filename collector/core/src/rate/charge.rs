//! What a price costs whose usage is kept in several parts.
//!
//! Every accumulator (a rating interval, a row of a matrix) is priced by itself, and each version
//! of the price by what it adds: the list amount at the position that is reached, less that at the
//! position before, both by the version in force. So the versions of a price that never changes
//! cost together exactly what it costs at once.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use tollgate_common::{Quantity, Timestamp};

use super::around::{self, Dated, Included, QuantityStep, charged_quantity};
use super::included::Shared;
use super::line::AmountChange;
use super::meter::Parted;
use super::parts::{Part, adds_up};
use super::piece::Piece;
use super::tiers::{Places, Table, list_amount};
use super::{Ratio, metered, places};
use crate::catalog::{Card, Interval, Meter, Price, Row, Scheme, TierBy};
use crate::period::Period;

/// All that a line consists of.
pub(super) struct Worked<'c> {
    pub(super) pieces: Vec<Piece<'c>>,
    /// What each version lists, and comes to before maximum and minimum.
    pub(super) versions: Vec<Dated<'c>>,
    pub(super) list: Ratio,
    pub(super) rounded_list: Decimal,
    pub(super) steps: Vec<AmountChange<'c>>,
    pub(super) amount: Decimal,
}

/// One version of the price, in one slice.
#[derive(Clone, Copy)]
pub(super) struct Version<'c> {
    pub(super) index: usize,
    pub(super) span: Period,
    /// The day on which it begins in the period, in this slice or an earlier one.
    day: chrono::NaiveDate,
    /// False in a slice in which the version of the slice before goes on.
    is_new: bool,
    pub(super) price: &'c Price,
    card: &'c Card,
    /// What allowance and bounds of tiers are scaled by, where the price says so.
    pub(super) scale: Ratio,
    /// What selects the tier in place of the quantity that is priced.
    pub(super) selects: Option<Ratio>,
}

impl<'c> Version<'c> {
    pub(super) fn millis(self) -> i64 {
        self.span.end.millis_since(self.span.start)
    }

    /// How its amounts are rounded.
    pub(super) fn places(self) -> Places {
        places(self.price, self.card)
    }

    pub(super) fn table(self, row: Option<&'c Row>) -> Table<'c> {
        let table = Table::of(self.price, row, places(self.price, self.card));
        let selects = match &table.model.tier_by {
            Some(TierBy::Meter(_) | TierBy::Peak) => self.selects,
            Some(TierBy::Rounded { .. }) | None => None,
        };
        let scale = if self.price.prorated.tiers {
            self.scale
        } else {
            Ratio::ONE
        };
        let table = table.scaled(scale).in_force_for(self.scale);
        table.selected(selects)
    }

    /// What it charges for a quantity in the price's unit before conversion.
    pub(super) fn priced(
        self,
        row: Option<&'c Row>,
        begin: Timestamp,
        metered: Ratio,
        included: Included<'c>,
    ) -> Option<Piece<'c>> {
        let price = self.price;
        let (mut quantities, mut tiers) = (Vec::new(), Vec::new());
        let mut charged = charged_quantity(price, included, self.day, metered, |step, left| {
            quantities.push((step, left));
        })?;
        if let Some(commit) = price.percentile_of(row).and_then(|p| p.commit.as_ref())
            && charged.checked_cmp(commit.value())?.is_lt()
        {
            charged = commit.value();
            quantities.push((QuantityStep::Committed(commit), charged));
        }
        let amount = list_amount(self.table(row), charged, |tier| tiers.push(tier))?;
        Some(Piece {
            span: self.span,
            interval: (price.interval != Interval::Period).then_some(begin),
            row,
            ranked: None,
            events: None,
            apart: None,
            over_secs: None,
            metered,
            quantities,
            charged,
            tiers,
            share: None,
            amount,
        })
    }
}

/// The versions of a price, slice by slice. What cuts a period without a change of the price (a
/// grant, another price of the card) begins no version.
fn versions(parted: Parted<'_>, rates: Rates) -> Option<Vec<Version<'_>>> {
    let mut versions: Vec<Version<'_>> = Vec::new();
    for (index, slice, card, price) in parted.own() {
        let same = versions.last().filter(|last| *last.price == *price);
        versions.push(Version {
            index,
            span: slice.span,
            day: same.map_or_else(|| slice.day(), |last| last.day),
            is_new: same.is_none(),
            price,
            card,
            scale: parted.scale(price)?,
            selects: Parted::selects(slice, price)?,
        });
    }
    if rates == Rates::Listed {
        for version in &mut versions {
            version.price = version.price.as_listed();
        }
    }
    Some(versions)
}

/// By which rates usage is priced.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rates {
    /// Those of the tenant.
    Own,
    /// Those that the card lists.
    Listed,
}

/// What every version lists, with its pieces; `None` if a number leaves its range.
fn lists<'c>(
    parted: Parted<'c>,
    meter: &'c Meter,
    versions: &[Version<'c>],
) -> Option<(Vec<Ratio>, Vec<Piece<'c>>)> {
    let mut lists = vec![Ratio::ZERO; versions.len()];
    let mut pieces = Vec::new();
    let work = Work {
        parted,
        meter,
        versions,
        shared: None,
    };
    work.pieces(|at, piece| {
        lists[at] = lists[at].checked_add(piece.amount)?;
        pieces.push(piece);
        Some(())
    })?;
    Some((lists, pieces))
}

/// The list amount: what was worked out, unless rates are contracted.
pub(super) fn listed(parted: Parted<'_>, meter: &Meter, worked: &Worked<'_>) -> Option<Decimal> {
    if !parted.is_contracted() {
        return Some(worked.rounded_list);
    }
    let (_, list) = work_listed(parted, meter)?;
    let (_, _, card, price) = parted.own().last()?;
    places(price, card).round(list)
}

/// The pieces of a line by what the card lists, and the list amount before rounding.
pub(super) fn work_listed<'c>(
    parted: Parted<'c>,
    meter: &'c Meter,
) -> Option<(Vec<Piece<'c>>, Ratio)> {
    let (lists, pieces) = lists(parted, meter, &versions(parted, Rates::Listed)?)?;
    let list = sum(&lists)?;
    let list = if list.is_negative() {
        Ratio::ZERO
    } else {
        list
    };
    Some((pieces, list))
}

/// Works a line out; `None` if a number leaves its range.
pub(super) fn work<'c>(parted: Parted<'c>, meter: &'c Meter) -> Option<Worked<'c>> {
    let versions = versions(parted, Rates::Own)?;
    let last = versions.last()?;
    let places = places(last.price, last.card);
    let (mut lists, pieces) = lists(parted, meter, &versions)?;
    let mut list = sum(&lists)?;
    if list.is_negative() {
        // Only where more usage costs less, and a version came in between.
        list = Ratio::ZERO;
        lists.fill(Ratio::ZERO);
    }
    let rounded_list = places.round(list)?;
    let mut dated: Vec<Dated<'c>> = Vec::new();
    for (version, list) in versions.iter().zip(&lists) {
        match dated.last_mut() {
            Some(same) if !version.is_new => {
                same.millis = same.millis.checked_add(version.millis())?;
                same.list = same.list.checked_add(*list)?;
                same.amount = same.list;
            }
            _ => dated.push(Dated {
                price: version.price,
                day: version.day,
                millis: version.millis(),
                list: *list,
                amount: *list,
            }),
        }
    }
    let (mut steps, mut before) = (Vec::new(), rounded_list);
    let mut fits = true;
    let exact = around::final_amount_dated(&mut dated, |step, exact| {
        let Some(amount) = places.round(exact) else {
            fits = false;
            return;
        };
        steps.push(AmountChange {
            step,
            exact,
            change: amount - before,
        });
        before = amount;
    })?;
    Some(Worked {
        pieces,
        versions: dated,
        list,
        rounded_list,
        steps,
        amount: places.round(exact).filter(|_| fits)?,
    })
}

fn sum(amounts: &[Ratio]) -> Option<Ratio> {
    let mut amounts = amounts.iter();
    amounts.try_fold(Ratio::ZERO, |sum, amount| sum.checked_add(*amount))
}

#[derive(Clone, Copy)]
pub(super) struct Work<'w, 'c> {
    pub(super) parted: Parted<'c>,
    pub(super) meter: &'c Meter,
    pub(super) versions: &'w [Version<'c>],
    /// What is included where rows share it.
    pub(super) shared: Option<&'w Shared<'c>>,
}

/// What an accumulator has of each version: its place among the versions, the row, the quantity.
pub(super) type Entry<'c> = (usize, Option<&'c Row>, Quantity);
pub(super) type Entries<'c> = Vec<Entry<'c>>;

impl<'c> Work<'_, 'c> {
    fn pieces(&self, mut each: impl FnMut(usize, Piece<'c>) -> Option<()>) -> Option<()> {
        let sampled = |version: &Version<'_>| version.price.percentiles().next().is_some();
        if self.versions.iter().any(sampled) {
            // A percentile and a sum under one id are charged by their shares of time.
            return self.ranked(&mut each);
        }
        if self
            .versions
            .iter()
            .any(|v| v.price.event_dimension().is_some())
        {
            return self.events(&mut each);
        }
        if self.versions.iter().any(|v| v.price.each.is_some()) {
            return self.by_itself(&mut each);
        }
        if self.is_level() {
            return self.levels(&mut each);
        }
        let mut pools = BTreeMap::new();
        let accumulators = self.accumulators()?;
        let shared = self.share_included(&accumulators)?;
        let work = Work {
            shared: shared.as_ref(),
            ..*self
        };
        for ((interval, _), entries) in accumulators {
            if let Some(pool) = entries
                .iter()
                .find_map(|(_, row, _)| row.as_ref()?.pool.as_ref())
            {
                let entries = entries.into_iter().map(|entry| (interval, entry));
                pools.entry(pool).or_insert_with(Vec::new).extend(entries);
                continue;
            }
            let begin = self
                .parted
                .period
                .start
                .plus_millis(i64::from(interval) * 1000);
            if adds_up(self.meter.aggregation) {
                work.adding(begin, &entries, &mut each)?;
            } else {
                work.standing(begin, &entries, &mut each)?;
            }
        }
        for entries in pools.into_values() {
            self.pooled(entries, &mut each)?;
        }
        Some(())
    }

    /// Rows that fill the tiers of one pool together: in the order of windows, then of the rows,
    /// each at the position that all have reached. What they cost is told row by row.
    fn pooled(
        &self,
        mut entries: Vec<(u32, Entry<'c>)>,
        each: &mut impl FnMut(usize, Piece<'c>) -> Option<()>,
    ) -> Option<()> {
        let place = |(at, row, _): &Entry<'c>| {
            let matrix = self.versions.get(*at)?.price.matrix.as_ref()?;
            let same = |other: &Row| row.is_some_and(|row| std::ptr::eq(row, other));
            Some((*at, matrix.rows.iter().position(same)?))
        };
        entries.sort_by_key(|(window, entry)| (*window, place(entry)));
        // Windows of one row in a row are one step.
        let mut steps: Vec<Entry<'c>> = Vec::new();
        for (_, entry) in entries {
            match steps.last_mut() {
                Some(last) if place(last) == place(&entry) => {
                    last.2 = last.2.checked_add(entry.2)?;
                }
                _ => steps.push(entry),
            }
        }
        let mut by_row: BTreeMap<(usize, usize), Piece<'c>> = BTreeMap::new();
        let mut step = 0;
        let places: Vec<_> = steps.iter().map(place).collect::<Option<_>>()?;
        self.adding(self.parted.period.start, &steps, &mut |_, piece| {
            let place = places[step];
            step += 1;
            match by_row.remove(&place) {
                Some(before) => by_row.insert(place, before.and(&piece)?),
                None => by_row.insert(place, piece),
            };
            Some(())
        })?;
        by_row
            .into_iter()
            .try_for_each(|((at, _), piece)| each(at, piece))
    }

    /// Which version is in force in a slice, by its place among the versions.
    pub(super) fn version_of(&self, slice: u16) -> Option<usize> {
        let index = usize::from(slice);
        let mut versions = self.versions.iter();
        versions.position(|version| version.index == index)
    }

    /// What is priced by itself: by rating interval, and by the name of the row.
    pub(super) fn accumulators(&self) -> Option<BTreeMap<(u32, &'c str), Entries<'c>>> {
        let mut all: BTreeMap<(u32, &'c str), Entries<'c>> = BTreeMap::new();
        for (part, quantity) in self.parted.usage.parts() {
            let at = self.version_of(part.slice);
            let Some(at) = at.filter(|_| part.cell != Part::NO_CELL) else {
                continue;
            };
            let row = match &self.versions[at].price.matrix {
                Some(matrix) => Some(matrix.row(part.cell)?),
                None => None,
            };
            let key = (part.interval, row.map_or("", |row| row.id.as_str()));
            all.entry(key).or_default().push((at, row, quantity));
        }
        // What is due without usage is said by the first version.
        let first = self.versions.first()?.price;
        if first.matrix.is_none() && first.interval == Interval::Period {
            let entries = all.entry((0, "")).or_default();
            if entries.first().is_none_or(|(at, _, _)| *at > 0) {
                entries.insert(0, (0, None, Quantity::ZERO));
            }
        }
        Some(all)
    }

    /// Usage that adds up: each version prices what lies above the position that is reached.
    pub(super) fn adding(
        &self,
        begin: Timestamp,
        entries: &Entries<'c>,
        each: &mut impl FnMut(usize, Piece<'c>) -> Option<()>,
    ) -> Option<()> {
        let mut whole = Quantity::ZERO;
        for (_, _, quantity) in entries {
            whole = whole.checked_add(*quantity)?;
        }
        // What earlier periods reached is theirs: less than nothing here takes nothing of it back.
        let start = self.parted.reached;
        let mut reached = start;
        for (index, (at, row, quantity)) in entries.iter().enumerate() {
            let version = self.versions[*at];
            let before = reached;
            reached = reached.checked_add(*quantity)?;
            let by_volume = version.table(*row).model.scheme == Scheme::Volume;
            let piece = if by_volume && entries.len() > 1 {
                if whole.units() <= 0 {
                    self.piece(version, *row, begin, Quantity::ZERO)?
                        .shared(if index > 0 { Ratio::ZERO } else { Ratio::ONE })?
                } else {
                    let share = Ratio::new(quantity.units(), whole.units())?;
                    self.piece(version, *row, begin, whole)?.shared(share)?
                }
            } else {
                let mut piece = self.piece(version, *row, begin, reached.max(start))?;
                if index > 0 || !start.is_zero() {
                    let before = self.piece(version, *row, begin, before.max(start))?;
                    piece = piece.above(&before)?;
                }
                piece
            };
            each(*at, piece)?;
        }
        Some(())
    }

    /// Usage that does not add up: in a rating interval one quantity, which the version in force
    /// at its beginning prices; in the period all versions, by their shares of time.
    pub(super) fn standing(
        &self,
        begin: Timestamp,
        entries: &Entries<'c>,
        each: &mut impl FnMut(usize, Piece<'c>) -> Option<()>,
    ) -> Option<()> {
        let [(_, row, quantity)] = entries[..] else {
            return None;
        };
        if self.versions[0].price.interval != Interval::Period {
            let in_force = self.versions.iter().rposition(|v| v.span.start <= begin);
            let at = in_force.unwrap_or(0);
            let row = self.row_in(at, row)?;
            return each(at, self.piece(self.versions[at], row, begin, quantity)?);
        }
        let period = self.parted.period;
        let whole = period.end.millis_since(period.start);
        for (at, version) in self.versions.iter().enumerate() {
            let share = Ratio::new(version.millis().into(), whole.into())?;
            let row = self.row_in(at, row)?;
            each(
                at,
                self.piece(*version, row, begin, quantity)?.shared(share)?,
            )?;
        }
        Some(())
    }

    /// The row of the same name in another version; of one that has none, the one given.
    #[expect(clippy::option_option, reason = "no matrix is not a failure")]
    fn row_in(&self, at: usize, row: Option<&'c Row>) -> Option<Option<&'c Row>> {
        let Some(row) = row else { return Some(None) };
        let matrix = self.versions.get(at)?.price.matrix.as_ref();
        let same = matrix.and_then(|m| m.rows.iter().find(|other| other.id == row.id));
        Some(Some(same.unwrap_or(row)))
    }

    /// What a version charges for a whole quantity of an accumulator.
    pub(super) fn piece(
        &self,
        version: Version<'c>,
        row: Option<&'c Row>,
        begin: Timestamp,
        quantity: Quantity,
    ) -> Option<Piece<'c>> {
        let mut metered = metered(quantity, Some(self.meter))?;
        let mut over_secs = None;
        if let Some(over) = version.price.over {
            let secs = match version.price.interval {
                Interval::Period => self.over_secs(over)?,
                _ => Ratio::new(self.millis_in(version, begin).into(), 1000)?,
            };
            metered = metered.checked_mul(over.unit_secs)?.checked_div(secs)?;
            over_secs = Some(secs);
        }
        let included = self.included(version, row, begin)?;
        let mut piece = version.priced(row, begin, metered, included)?;
        piece.over_secs = over_secs;
        Some(piece)
    }
}
