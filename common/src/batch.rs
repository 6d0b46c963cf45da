//! Batches: the rollups that were sealed together, and the chain that they form.

mod canonical;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use crate::ids::{AgentId, BatchSeq, Incarnation, MeterName, TenantId};
use crate::limits::{
    BATCH_DETAIL_BYTES_MAX, BATCH_LOSSES_MAX, BATCH_ROWS_MAX, BATCH_STEPS_MAX, BATCH_TOTALS_MAX,
    TOMBSTONE_TOTALS_MAX,
};
use crate::loss::{Loss, LossReason};
use crate::meter::{Aggregation, Scale};
use crate::quantity::Quantity;
use crate::series::SeriesKey;
use crate::sketch::{Histogram, SketchError, UniqueSketch};
use crate::time::Timestamp;
use crate::window::Window;
pub(crate) use canonical::Canonical;
pub use canonical::RowRef;

/// One series' increment for one window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rollup {
    /// What was counted.
    pub series: Arc<SeriesKey>,
    /// How the value combines with others.
    pub aggregation: Aggregation,
    /// Decimal places of the value.
    pub scale: Scale,
    /// The window that the usage belongs to.
    pub window: Window,
    /// What the aggregation makes of the window's values: their sum, the newest, the largest,
    /// an estimate of how many differ, the sum of what was recorded, or the integral of a level
    /// over time. What adds up is never negative.
    pub value: Quantity,
    /// How many accepted events made the value.
    pub events: u64,
    /// What the value alone does not say.
    #[serde(skip_serializing_if = "Detail::is_none")]
    pub detail: Detail,
}

/// What a rollup carries beside its value; which one follows from the aggregation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    /// The value says it all.
    #[default]
    None,
    /// Which values were seen: of `unique`.
    Unique(Arc<UniqueSketch>),
    /// How the values were distributed: of `distribution`.
    Distribution(Arc<Histogram>),
}

impl Detail {
    /// True if the value says it all.
    pub const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Bytes of the canonical form: what counts against [`BATCH_DETAIL_BYTES_MAX`].
    pub fn canonical_len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Unique(sketch) => sketch.canonical_len(),
            Self::Distribution(histogram) => histogram.canonical_len(),
        }
    }

    /// True if this is the detail that rollups of `aggregation` carry.
    pub const fn fits(&self, aggregation: Aggregation) -> bool {
        match aggregation {
            Aggregation::Unique => matches!(self, Self::Unique(_)),
            Aggregation::Distribution => matches!(self, Self::Distribution(_)),
            _ => self.is_none(),
        }
    }
}

impl Rollup {
    /// Takes in another rollup of the same series and window, as this aggregation does:
    /// of `last` the other one stands.
    ///
    /// # Errors
    ///
    /// [`SketchError::Overflow`] if a sum leaves the range of a quantity or a histogram that
    /// of its counts; the rollup is unchanged then.
    pub fn absorb(&mut self, other: &Self) -> Result<(), SketchError> {
        let mut value = match self.aggregation {
            Aggregation::Sum | Aggregation::Distribution | Aggregation::TimeWeighted => {
                let sum = self.value.checked_add(other.value);
                sum.ok_or(SketchError::Overflow)?
            }
            Aggregation::Last => other.value,
            Aggregation::Max | Aggregation::Unique => self.value.max(other.value),
        };
        match (&mut self.detail, &other.detail) {
            (Detail::Unique(ours), Detail::Unique(theirs)) => {
                let ours = Arc::make_mut(ours);
                ours.merge(theirs);
                value = Quantity::new(ours.estimate().into());
            }
            (Detail::Distribution(ours), Detail::Distribution(theirs)) => {
                Arc::make_mut(ours).merge(theirs)?;
            }
            _ => {}
        }
        self.value = value;
        self.events = self.events.saturating_add(other.events);
        Ok(())
    }

    /// A rollup whose value says it all: not of `unique` or `distribution`.
    pub fn new(
        series: Arc<SeriesKey>,
        aggregation: Aggregation,
        scale: Scale,
        window: Window,
        value: Quantity,
        events: u64,
    ) -> Self {
        Self {
            series,
            aggregation,
            scale,
            window,
            value,
            events,
            detail: Detail::None,
        }
    }

    /// The order of rows in a batch, and what must be unique in it.
    fn order_key(&self) -> (&SeriesKey, Aggregation, Scale, Window) {
        (&self.series, self.aggregation, self.scale, self.window)
    }
}

/// What an incarnation had counted for a tenant and meter when the batch was sealed.
///
/// Only sums have running totals. They let the collector price a batch that it never gets:
/// what the totals say beyond the batches that arrived is the loss.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Total {
    /// Who pays.
    pub tenant: TenantId,
    /// What is measured.
    pub meter: MeterName,
    /// Decimal places of the total.
    pub scale: Scale,
    /// Everything counted by this incarnation up to and including this batch.
    pub quantity: Quantity,
}

/// The time between the cut before and the cut of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// When the cut before was made.
    pub from: Timestamp,
    /// When this cut was made; not before `from`.
    pub to: Timestamp,
}

/// How a parent incarnation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "end")]
pub enum ParentEnd {
    /// Its last batch is marked final: nothing of it is missing after that.
    Final,
    /// Its cells could not be read: what was counted in this time may be missing.
    Unclean {
        /// Why.
        reason: LossReason,
        /// From the last cut that is known.
        from: Timestamp,
        /// To the start of the child.
        to: Timestamp,
    },
}

/// The incarnation before, as its child remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Parent {
    /// Its name.
    pub incarnation: Incarnation,
    /// The last batch that its child knows of, 0 if none was ever sealed.
    pub last_sequence: u64,
    /// The hash of that batch, or [`BatchHash::ZERO`].
    pub last_hash: BatchHash,
    /// How it ended.
    pub end: ParentEnd,
}

/// The wall clock of an agent was set while it counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockStep {
    /// What the clock showed after the step.
    pub at: Timestamp,
    /// By how many milliseconds it was set forward, or back if negative.
    pub by_millis: i64,
}

/// What only the first batch of an incarnation carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Opening {
    /// The incarnation before; `None` for the first life of a state directory.
    pub parent: Option<Parent>,
}

/// BLAKE3 of a batch's canonical content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchHash([u8; 32]);

impl BatchHash {
    /// The parent hash of the first batch of an incarnation.
    pub const ZERO: Self = Self([0; 32]);

    /// The hash made of these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for BatchHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BatchHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BatchHash({self})")
    }
}

impl Serialize for BatchHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The rollups of one seal, numbered and chained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Batch {
    /// Who sealed it.
    pub agent: AgentId,
    /// In which life.
    pub incarnation: Incarnation,
    /// Which batch of that life.
    pub sequence: BatchSeq,
    /// Hash of the batch before, [`BatchHash::ZERO`] for the first.
    pub parent_hash: BatchHash,
    /// The time between the cuts; counts without a time of their own belong to it.
    pub span: Span,
    /// Everything before this instant has been sealed.
    pub watermark: Timestamp,
    /// Present exactly in the first batch.
    pub opening: Option<Opening>,
    /// True for the last batch of the incarnation.
    pub is_final: bool,
    /// Sorted by series, aggregation, scale, window; unique in these.
    pub rows: Vec<Rollup>,
    /// Running totals of the tenants and meters of this batch, sorted, unique. A final batch
    /// has those of the whole incarnation.
    pub totals: Vec<Total>,
    /// Losses that the agent declares.
    pub losses: Vec<Loss>,
    /// Steps of the wall clock in the span, in the order in which they were seen.
    pub steps: Vec<ClockStep>,
}

/// Stands in for a batch that the agent sealed and lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tombstone {
    /// Who sealed the batch.
    pub agent: AgentId,
    /// In which life.
    pub incarnation: Incarnation,
    /// Which batch of that life.
    pub sequence: BatchSeq,
    /// Why it is gone.
    pub reason: LossReason,
    /// What its incarnation had counted by then, where something besides the batch knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remembered: Option<Box<Remembered>>,
}

/// What an incarnation had counted when it sealed a batch that is lost. It prices the loss, as
/// the totals of a later batch would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remembered {
    /// When the cut of the lost batch was made.
    pub cut: Timestamp,
    /// Everything before this instant had been sealed.
    pub watermark: Timestamp,
    /// True if the lost batch was the last of its incarnation.
    pub is_final: bool,
    /// True if `totals` are all of the incarnation, and tell all that it has counted: nothing of
    /// an aggregation without totals.
    pub is_complete: bool,
    /// Running totals up to and including the lost batch, sorted, unique.
    pub totals: Vec<Total>,
}

impl Remembered {
    /// Checks the rules that make the form unique.
    ///
    /// # Errors
    ///
    /// [`BatchError`] if there are more than [`TOMBSTONE_TOTALS_MAX`] totals, or if they are not
    /// in order.
    pub fn validate(&self) -> Result<(), BatchError> {
        bounded("totals", self.totals.len(), TOMBSTONE_TOTALS_MAX)?;
        totals_in_order(&self.totals)
    }
}

fn totals_in_order(totals: &[Total]) -> Result<(), BatchError> {
    let key = |total: &Total| (total.tenant.clone(), total.meter.clone(), total.scale);
    let out_of_order = totals.windows(2).position(|t| key(&t[0]) >= key(&t[1]));
    match out_of_order {
        Some(index) => Err(BatchError::Order {
            what: "total",
            index: index + 1,
        }),
        None => Ok(()),
    }
}

/// A rule of batches that is broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Too many rows, totals, losses or clock steps.
    #[error("batch has {count} {what}, more than the {max} allowed")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// Rows or totals out of order, or the same one twice.
    #[error("{what} {index} of the batch is out of order or a repetition")]
    Order {
        /// Rows or totals.
        what: &'static str,
        /// Index of the offender.
        index: usize,
    },
    /// The first batch lacks its opening, or a later one has one.
    #[error("batch {0} and its opening do not fit (exactly the first batch has one)")]
    Opening(BatchSeq),
    /// The first batch has a parent hash, or a later one has none.
    #[error("batch {0} and its parent hash do not fit (exactly the first batch has none)")]
    ParentHash(BatchSeq),
    /// The span ends before it begins.
    #[error("span of the batch ends before it begins")]
    Span,
    /// A sum, distribution or integral below zero.
    #[error("row {0} of the batch adds up and is below zero")]
    NegativeSum(usize),
    /// A row lacks the detail of its aggregation, or has that of another.
    #[error("row {0} of the batch does not carry the detail of its aggregation")]
    Detail(usize),
}

impl Batch {
    /// Checks the rules that make the canonical form unique.
    pub fn validate(&self) -> Result<(), BatchError> {
        self.validate_but_order_of_rows()?;
        let out_of_order = self
            .rows
            .windows(2)
            .position(|r| r[0].order_key() >= r[1].order_key());
        match out_of_order {
            Some(index) => Err(BatchError::Order {
                what: "row",
                index: index + 1,
            }),
            None => Ok(()),
        }
    }

    /// All of [`Batch::validate`] but the order of the rows, which costs most, and which the wire
    /// format finds out on its way.
    pub(crate) fn validate_but_order_of_rows(&self) -> Result<(), BatchError> {
        bounded("rows", self.rows.len(), BATCH_ROWS_MAX)?;
        bounded("totals", self.totals.len(), BATCH_TOTALS_MAX)?;
        bounded("losses", self.losses.len(), BATCH_LOSSES_MAX)?;
        bounded("clock steps", self.steps.len(), BATCH_STEPS_MAX)?;
        let first = self.sequence == BatchSeq::FIRST;
        if first != self.opening.is_some() {
            return Err(BatchError::Opening(self.sequence));
        }
        if first != (self.parent_hash == BatchHash::ZERO) {
            return Err(BatchError::ParentHash(self.sequence));
        }
        if self.span.to < self.span.from {
            return Err(BatchError::Span);
        }
        totals_in_order(&self.totals)?;
        let negative = |row: &Rollup| row.aggregation.adds_up() && row.value.is_negative();
        if let Some(index) = self.rows.iter().position(negative) {
            return Err(BatchError::NegativeSum(index));
        }
        let strange = |row: &Rollup| !row.detail.fits(row.aggregation);
        if let Some(index) = self.rows.iter().position(strange) {
            return Err(BatchError::Detail(index));
        }
        let details = self.rows.iter().map(|row| row.detail.canonical_len()).sum();
        bounded("bytes of details", details, BATCH_DETAIL_BYTES_MAX)?;
        Ok(())
    }

    /// BLAKE3 of the canonical content.
    ///
    /// The canonical content is independent of any encoding: fixed-width little-endian fields
    /// in the order of the struct, every list preceded by its length as `u64`. It is described
    /// in `docs/formats/batch-hash.md`.
    pub fn hash(&self) -> BatchHash {
        let mut canonical = Canonical::default();
        canonical.head(self, self.rows.len());
        for row in &self.rows {
            canonical.rollup(row);
        }
        canonical.totals(self.totals.len());
        for total in &self.totals {
            let names = [total.tenant.as_str(), total.meter.as_str()];
            canonical.total(names.map(str::as_bytes), total.scale, total.quantity);
        }
        canonical.finish(&self.losses, &self.steps)
    }
}

fn bounded(what: &'static str, count: usize, max: usize) -> Result<(), BatchError> {
    if count > max {
        Err(BatchError::TooMany { what, count, max })
    } else {
        Ok(())
    }
}
