//! Rows on their way from a journal entry to the tenant folds and on to the projections.
//!
//! A batch that is booked whole is shared and never copied: a partition's rows are runs of it.
//! Rows of a run agree in everything but dimensions, window and value, so that whoever counts them
//! looks up their tenant and meter once for each run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Serialize, Serializer};
use tollgate_common::{
    AgentId, Aggregation, Detail, Quantity, Rollup, TenantId, Timestamp, Window, WindowWidth,
};

use super::partition_of;
use crate::effect::UsageChange;
use crate::entry::{ReceivedBatch, RefusedReason};

/// Most smallest units of one rollup, as a magnitude.
///
/// Agents count in `u64` within a window, so this leaves room for integrals. Sums of up to
/// 2^47 rollups, more than a partition ever sees, stay within the range of a quantity; what
/// is larger is booked as unrated by itself and never added to anything.
pub(crate) const ROLLUP_UNITS_MAX: u128 = 1 << 80;

/// True if a rollup can be added to others.
pub(crate) fn is_countable(row: &Rollup) -> bool {
    row.value.units().unsigned_abs() <= ROLLUP_UNITS_MAX
}

/// Rows `from..to` of a source: of one tenant, meter, aggregation, scale and verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    from: u32,
    to: u32,
    refused: Option<RefusedReason>,
    extent: Extent,
}

impl Span {
    fn of<'r>(&self, rows: &'r [Rollup]) -> &'r [Rollup] {
        let range = self.from as usize..self.to as usize;
        rows.get(range).unwrap_or_default()
    }
}

/// What rows come to and where they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    sum: Quantity,
    /// Start of the earliest and of the latest window.
    pub(crate) starts: (Timestamp, Timestamp),
    /// No row reaches beyond.
    pub(crate) end: Timestamp,
    /// All of them can be added to others.
    pub(crate) is_countable: bool,
}

impl Extent {
    fn of_row(row: &Rollup) -> Self {
        let start = row.window.start();
        Self {
            sum: row.value,
            starts: (start, start),
            end: row.window.end(),
            is_countable: is_countable(row),
        }
    }

    fn and(self, row: &Rollup) -> Self {
        let other = Self::of_row(row);
        let (first, last) = self.starts;
        Self {
            sum: Quantity::new(self.sum.units().saturating_add(other.sum.units())),
            starts: (first.min(other.starts.0), last.max(other.starts.1)),
            end: self.end.max(other.end),
            is_countable: self.is_countable && other.is_countable,
        }
    }

    fn of(rows: &[Rollup]) -> Option<Self> {
        let (first, rest) = rows.split_first()?;
        Some(rest.iter().fold(Self::of_row(first), Self::and))
    }
}

/// Rows that agree in tenant, meter, aggregation, scale and verdict; at least one.
#[derive(Clone, Copy, Debug)]
pub struct Run<'r> {
    /// The rows, in the order of their batch.
    pub rows: &'r [Rollup],
    /// Why the policy refuses them; `None` if they count.
    pub refused: Option<RefusedReason>,
    pub(crate) extent: Extent,
}

impl<'r> Run<'r> {
    /// A row that stands for what all of them agree in.
    pub fn first(&self) -> &'r Rollup {
        &self.rows[0]
    }

    /// The sum of their values. Values of what adds up are not negative and at most 2^96, so that
    /// those of a batch cannot leave the range; of anything else the sum says nothing.
    pub fn sum(&self) -> Quantity {
        self.extent.sum
    }

    /// Some of the rows, at least one.
    pub(crate) fn part(&self, rows: &'r [Rollup]) -> Self {
        Self {
            rows,
            extent: Extent::of(rows).unwrap_or(self.extent),
            ..*self
        }
    }
}

#[derive(Clone, Debug)]
enum Source {
    /// Rows as they were received.
    Received(Arc<ReceivedBatch>),
    /// What is booked of rows.
    Own(Arc<[Rollup]>),
}

/// Rows of one batch, each with the verdict of the policy.
#[derive(Clone, Debug)]
pub struct RowSet {
    source: Source,
    spans: Arc<[Span]>,
}

impl RowSet {
    /// Rows on their own.
    pub fn new(rows: impl IntoIterator<Item = (Rollup, Option<RefusedReason>)>) -> Self {
        let (rows, verdicts): (Vec<Rollup>, Vec<_>) = rows.into_iter().unzip();
        let spans = spans(&rows, |index| verdicts[index]);
        Self {
            source: Source::Own(rows.into()),
            spans: spans.into(),
        }
    }

    /// All rows of a batch.
    pub fn whole(batch: &Arc<ReceivedBatch>) -> Self {
        let spans = spans(&batch.batch.rows, |index| batch.verdicts.of(index));
        Self {
            source: Source::Received(Arc::clone(batch)),
            spans: spans.into(),
        }
    }

    /// The same, where rows whose windows begin behind an instant are refused as well.
    pub(super) fn refused_after(self, instant: Timestamp) -> Self {
        let is_behind = |row: &Rollup| row.window.start() > instant;
        let mut counted = self.spans.iter().filter(|span| span.refused.is_none());
        if !counted.any(|span| span.extent.starts.1 > instant) {
            return self;
        }
        let mut spans = Vec::with_capacity(self.spans.len() + 1);
        for (span, run) in self.spans.iter().zip(self.runs()) {
            let mut from = span.from;
            for rows in run.rows.chunk_by(|a, b| is_behind(a) == is_behind(b)) {
                // As many as rows of a batch, which fit.
                let to = from.saturating_add(u32::try_from(rows.len()).unwrap_or(u32::MAX));
                let future = is_behind(&rows[0]).then_some(RefusedReason::FromTheFuture);
                let refused = span.refused.or(future);
                spans.push(Span {
                    from,
                    to,
                    refused,
                    extent: Extent::of(rows).unwrap_or(span.extent),
                });
                from = to;
            }
        }
        Self {
            source: self.source.clone(),
            spans: spans.into(),
        }
    }

    /// The same by tenant partition, in the order of the partitions. Shows each tenant with its
    /// partition to `each`, in the order of the batch.
    pub(super) fn by_partition(
        self,
        partitions: u16,
        mut each: impl FnMut(&TenantId, u16),
    ) -> Vec<(u16, Self)> {
        let mut parts: Vec<Vec<Span>> = Vec::new();
        parts.resize_with(usize::from(partitions.max(1)), Vec::new);
        let mut before = None;
        for (span, run) in self.spans.iter().zip(self.runs()) {
            let tenant = run.first().series.tenant();
            let partition = match before {
                Some((known, partition)) if known == tenant => partition,
                _ => {
                    let partition = partition_of(tenant, partitions);
                    each(tenant, partition);
                    partition
                }
            };
            before = Some((tenant, partition));
            parts[usize::from(partition)].push(*span);
        }
        let part = |(partition, spans): (u16, Vec<Span>)| {
            let part = Self {
                source: self.source.clone(),
                spans: spans.into(),
            };
            (!part.is_empty()).then_some((partition, part))
        };
        (0..).zip(parts).filter_map(part).collect()
    }

    /// Rows that count and that concern other partitions too: those of which `partitions` names
    /// any, in the order of the partitions.
    pub(super) fn spread(
        &self,
        partitions: impl Fn(&TenantId) -> BTreeSet<u16>,
    ) -> Vec<(u16, Self)> {
        let mut parts: BTreeMap<u16, Vec<Span>> = BTreeMap::new();
        for (span, run) in self.spans.iter().zip(self.runs()) {
            if run.refused.is_some() {
                continue;
            }
            for partition in partitions(run.first().series.tenant()) {
                parts.entry(partition).or_default().push(*span);
            }
        }
        let part = |(partition, spans): (u16, Vec<Span>)| {
            let part = Self {
                source: self.source.clone(),
                spans: spans.into(),
            };
            (partition, part)
        };
        parts.into_iter().map(part).collect()
    }

    /// The runs, in the order of the batch.
    pub fn runs(&self) -> impl ExactSizeIterator<Item = Run<'_>> + Clone {
        let rows = match &self.source {
            Source::Received(batch) => &batch.batch.rows[..],
            Source::Own(rows) => rows,
        };
        self.spans.iter().map(|span| Run {
            rows: span.of(rows),
            refused: span.refused,
            extent: span.extent,
        })
    }

    /// The rows one by one, in the order of the batch.
    pub fn iter(&self) -> impl Iterator<Item = (&Rollup, Option<RefusedReason>)> {
        self.runs()
            .flat_map(|run| run.rows.iter().map(move |row| (row, run.refused)))
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.runs().map(|run| run.rows.len()).sum()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }
}

/// Cuts rows into runs. A batch has at most 2^20 rows.
fn spans(rows: &[Rollup], verdict: impl Fn(usize) -> Option<RefusedReason>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let at = u32::try_from(index).expect("a batch has at most 2^20 rows");
        let refused = verdict(index);
        if let Some(span) = spans.last_mut()
            && span.refused == refused
            && agree(&rows[index - 1], row)
        {
            span.to = at + 1;
            span.extent = span.extent.and(row);
        } else {
            spans.push(Span {
                from: at,
                to: at + 1,
                refused,
                extent: Extent::of_row(row),
            });
        }
    }
    spans
}

fn agree(one: &Rollup, other: &Rollup) -> bool {
    let (a, b) = (&one.series, &other.series);
    let same_series = Arc::ptr_eq(a, b) || (a.meter() == b.meter() && a.tenant() == b.tenant());
    same_series && one.aggregation == other.aggregation && one.scale == other.scale
}

/// Usage of one batch that changes the projections, row by row; see [`UsageChange`].
#[derive(Clone, Debug)]
pub struct UsageRows {
    agent: AgentId,
    rows: RowSet,
    /// Width of the projections' windows; `None` for agents' own.
    window: Option<WindowWidth>,
}

impl UsageRows {
    pub(super) fn new(agent: AgentId, rows: RowSet, window: Option<WindowWidth>) -> Self {
        Self {
            agent,
            rows,
            window,
        }
    }

    /// Number of rows, those included that are too large to be added to anything.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows as agents sent them, in the order of the batch, each with the verdict of the
    /// policy.
    pub fn rows(&self) -> impl Iterator<Item = (&Rollup, Option<RefusedReason>)> {
        self.rows.iter()
    }

    /// The changes, in the order of the batch. What is too large to be added to anything stands in
    /// the ledger alone: no table of usage has to add it either, and a few such rows cannot
    /// overflow one.
    pub fn changes(&self) -> impl Iterator<Item = UsageChange> {
        let countable = self.rows.iter().filter(|(row, _)| is_countable(row));
        countable.map(|(row, refused)| self.change(row, refused))
    }

    fn change(&self, row: &Rollup, refused: Option<RefusedReason>) -> UsageChange {
        let window = match self.window {
            Some(width) if width.secs() > row.window.width().secs() => {
                Window::containing(row.window.start(), width)
            }
            _ => row.window,
        };
        let order = (row.aggregation == Aggregation::Last)
            .then(|| format!("{:015}/{}", row.window.start().millis(), self.agent));
        UsageChange {
            series: Arc::clone(&row.series),
            aggregation: row.aggregation,
            scale: row.scale,
            window,
            refused,
            quantity: match &row.detail {
                Detail::Unique(sketch) => Quantity::new(sketch.estimate().into()),
                Detail::None | Detail::Distribution(_) => row.value,
            },
            detail: row.detail.clone(),
            events: row.events,
            order,
        }
    }
}

impl PartialEq for UsageRows {
    fn eq(&self, other: &Self) -> bool {
        self.agent == other.agent
            && self.window == other.window
            && self.rows.iter().eq(other.rows.iter())
    }
}

impl Eq for UsageRows {}

impl Serialize for UsageRows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.changes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tollgate_common::{Dimensions, MeterName, Scale, SeriesKey};

    use super::*;

    type Said = (u8, u8, u8, i128, bool);

    fn rollup((tenant, meter, start, value, _): &Said) -> Rollup {
        let series = SeriesKey::new(
            TenantId::new(&format!("t{tenant}")).expect("valid"),
            MeterName::new(&format!("m{meter}")).expect("valid"),
            Dimensions::none(),
        );
        let width = WindowWidth::from_secs(if start % 2 == 0 { 10 } else { 60 });
        let at = Timestamp::from_secs(60 * i64::from(*start));
        Rollup::new(
            Arc::new(series.expect("short")),
            Aggregation::Sum,
            Scale::ZERO,
            Window::containing(at, width.expect("divides 900")),
            Quantity::new(*value),
            1,
        )
    }

    fn values() -> impl Strategy<Value = i128> {
        prop_oneof![4 => 0i128..9, 1 => Just(1 << 81)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn runs_know_what_their_rows_come_to(mut said in proptest::collection::vec(
            (0u8..3, 0u8..3, 0u8..5, values(), any::<bool>()), 0..40,
        )) {
            said.sort_by_key(|(tenant, meter, ..)| (*tenant, *meter));
            let verdict = |is: bool| is.then_some(RefusedReason::TenantNotAllowed);
            let rows = RowSet::new(said.iter().map(|said| (rollup(said), verdict(said.4))));
            prop_assert_eq!(rows.len(), said.len());
            let mut rest = &said[..];
            for run in rows.runs() {
                let (own, after) = rest.split_at(run.rows.len());
                let same = (own[0].0, own[0].1, own[0].4);
                prop_assert!(own.iter().all(|said| (said.0, said.1, said.4) == same));
                prop_assert!(after.first().is_none_or(|said| (said.0, said.1, said.4) != same));
                let rollups: Vec<Rollup> = own.iter().map(rollup).collect();
                prop_assert_eq!(run.rows, &rollups[..]);
                prop_assert_eq!(run.refused, verdict(same.2));
                prop_assert_eq!(run.sum().units(), own.iter().map(|said| said.3).sum::<i128>());
                let starts = || rollups.iter().map(|row| row.window.start());
                prop_assert_eq!(Some(run.extent.starts), starts().min().zip(starts().max()));
                let end = rollups.iter().map(|row| row.window.end()).max();
                prop_assert_eq!(Some(run.extent.end), end);
                prop_assert_eq!(run.extent.is_countable, rollups.iter().all(is_countable));
                prop_assert_eq!(run.part(&run.rows[..1]).extent, Extent::of_row(&rollups[0]));
                rest = after;
            }
            prop_assert!(rest.is_empty());
            let parts = rows.clone().by_partition(3, |_, _| {});
            prop_assert_eq!(parts.iter().map(|(_, part)| part.len()).sum::<usize>(), said.len());
            for (partition, part) in parts {
                let home = |row: &Rollup| partition_of(row.series.tenant(), 3);
                prop_assert!(part.iter().all(|(row, _)| home(row) == partition));
            }
        }
    }
}
