//! Looking at a spool from outside: what it holds, what is wrong with it, and making it whole.
//!
//! An [`Inspection`] changes nothing and may run beside the agent that owns the spool.
//! [`repair`] copies what can be read into an empty directory, with tombstones in the places of
//! what cannot; the caller holds the lock of the state directory and exchanges the two.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use tollgate_common::log::{
    AppendError, DamageReason, LogItem, LogPosition, OpenReport, SegmentLog, SyncError,
};
use tollgate_common::storage::Storage;
use tollgate_common::wire::{RecordDecoder, encode_tombstone_record};
use tollgate_common::{
    AgentId, Aggregation, Batch, BatchHash, BatchSeq, Incarnation, LossReason, MeterName, Quantity,
    Scale, TenantId, Tombstone,
};

use super::chain::Chain;
use super::reader::Record;
use super::{SpoolConfig, SpoolError};

/// How much is read from the log at once.
const READ_BYTES: usize = 1 << 20;
/// A repair syncs what it has written after so many bytes.
const SYNC_BYTES: u64 = 8 << 20;

/// What is at a place of a spool.
#[derive(Clone, Debug)]
pub enum Piece {
    /// A batch.
    Batch {
        /// Its record as it is stored.
        record: Vec<u8>,
        /// What the record says.
        batch: Box<Batch>,
    },
    /// A tombstone that was written.
    Tombstone(Tombstone),
    /// The end of an incarnation whose batches a collector let go before they were synced.
    Anchor {
        /// Whose.
        agent: AgentId,
        /// Which life.
        incarnation: Incarnation,
        /// Its last batch.
        sequence: u64,
        /// The hash of that.
        hash: BatchHash,
    },
    /// Batches that are missing between two records; a tombstone goes out for each.
    Gap {
        /// Whose.
        agent: AgentId,
        /// Of which life.
        incarnation: Incarnation,
        /// The first one.
        from: u64,
        /// The last one.
        to: u64,
    },
    /// Bytes that cannot be read. What they cost shows as a gap before the next record.
    Damage {
        /// What is wrong.
        reason: DamageReason,
        /// Where the log goes on.
        next: LogPosition,
    },
    /// A whole record that this version cannot decode.
    Foreign {
        /// Its size.
        bytes: usize,
    },
}

/// A [`Piece`] and where it is; a gap is where the record behind it is.
#[derive(Clone, Debug)]
pub struct Place {
    /// In the log.
    pub position: LogPosition,
    /// What is there.
    pub piece: Piece,
}

/// Usage that is gone with batches, as the running totals around them tell. More may show
/// later: a tenant that was not counted since shows with the final batch of the life.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Missing {
    /// In which life.
    pub incarnation: Incarnation,
    /// Whose.
    pub tenant: TenantId,
    /// Of what.
    pub meter: MeterName,
    /// Decimal places of the quantity.
    pub scale: Scale,
    /// Exactly how much.
    pub quantity: Quantity,
}

/// Follows the running totals and prices what is missing.
#[derive(Debug, Default)]
pub struct Pricing {
    /// What each life had counted by its last readable batch, and whether the first one was seen.
    known: BTreeMap<(Incarnation, TenantId, MeterName, Scale), i128>,
    whole: BTreeMap<Incarnation, bool>,
    missing: BTreeMap<(Incarnation, TenantId, MeterName, Scale), i128>,
}

impl Pricing {
    /// Takes the next batch in the order of the spool.
    pub fn follow(&mut self, batch: &Batch) {
        let life = batch.incarnation;
        let first = batch.sequence == BatchSeq::FIRST;
        let whole = *self.whole.entry(life).or_insert(first);
        let mut rows: BTreeMap<_, i128> = BTreeMap::new();
        for row in batch
            .rows
            .iter()
            .filter(|row| row.aggregation == Aggregation::Sum)
        {
            let key = (row.series.tenant(), row.series.meter(), row.scale);
            let sum = rows.entry(key).or_insert(0);
            *sum = sum.saturating_add(row.value.units());
        }
        for total in &batch.totals {
            let told = total.quantity.units();
            let here = rows.get(&(&total.tenant, &total.meter, total.scale));
            let before = told.saturating_sub(here.copied().unwrap_or(0));
            let key = (life, total.tenant.clone(), total.meter.clone(), total.scale);
            let known = self.known.insert(key.clone(), told);
            // Without the beginning of the life, a total that is new says nothing.
            let Some(known) = known.or(whole.then_some(0)) else {
                continue;
            };
            if before > known {
                let sum = self.missing.entry(key).or_insert(0);
                *sum = sum.saturating_add(before - known);
            }
        }
    }

    /// What is known to be missing, in order.
    pub fn missing(self) -> Vec<Missing> {
        let missing = self.missing.into_iter();
        missing
            .map(|((incarnation, tenant, meter, scale), units)| Missing {
                incarnation,
                tenant,
                meter,
                scale,
                quantity: Quantity::new(units),
            })
            .collect()
    }
}

/// A spool, opened to be looked at.
pub struct Inspection<S: Storage> {
    log: SegmentLog<S>,
    report: OpenReport,
}

impl<S: Storage> Inspection<S> {
    /// Reads every byte once and changes nothing. An agent may own the spool meanwhile; what
    /// it appends later is not seen.
    pub fn open(storage: S) -> Result<Self, SpoolError> {
        let (log, report) = SegmentLog::inspect(storage)?;
        Ok(Self { log, report })
    }

    /// What opening found: damage that cost no record is only here.
    pub fn report(&self) -> &OpenReport {
        &self.report
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.log.bytes()
    }

    /// Everything in order.
    pub fn places(&self) -> Places<'_, S> {
        Places {
            log: &self.log,
            from: self.log.start(),
            chain: Chain::default(),
            items: VecDeque::new(),
            ready: VecDeque::new(),
            decoder: RecordDecoder::new(),
        }
    }
}

/// See [`Inspection::places`].
pub struct Places<'a, S: Storage> {
    log: &'a SegmentLog<S>,
    from: LogPosition,
    chain: Chain,
    items: VecDeque<LogItem>,
    ready: VecDeque<Place>,
    decoder: RecordDecoder,
}

impl<S: Storage> Places<'_, S> {
    fn take(&mut self, item: LogItem) {
        let position = item.position();
        let mut push = |piece| self.ready.push_back(Place { position, piece });
        let bytes = match item {
            LogItem::Damaged { next, reason, .. } => return push(Piece::Damage { reason, next }),
            LogItem::Record { bytes, .. } => bytes,
        };
        let Some(record) = Record::decode(&bytes, &mut self.decoder) else {
            return push(Piece::Foreign { bytes: bytes.len() });
        };
        let (incarnation, sequence) = (record.incarnation(), record.sequence());
        if let Record::Anchor(anchor) = record {
            self.chain = Chain::after(incarnation, sequence);
            return push(Piece::Anchor {
                agent: anchor.agent,
                incarnation,
                sequence,
                hash: anchor.tail.last_hash,
            });
        }
        let gaps = self.chain.follow(incarnation, sequence, record.opening());
        for gap in gaps.into_iter().flatten() {
            push(Piece::Gap {
                agent: record.agent().clone(),
                incarnation: gap.incarnation,
                from: gap.from,
                to: gap.to,
            });
        }
        match record {
            Record::Batch(batch) => push(Piece::Batch {
                record: bytes,
                batch,
            }),
            Record::Tombstone(tombstone) => push(Piece::Tombstone(tombstone)),
            Record::Anchor(_) => {}
        }
    }
}

impl<S: Storage> Iterator for Places<'_, S> {
    type Item = Result<Place, SpoolError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() {
            if self.items.is_empty() {
                match self.log.read(self.from, READ_BYTES) {
                    Ok(items) => self.items = items.into(),
                    Err(error) => return Some(Err(error.into())),
                }
            }
            let item = self.items.pop_front()?;
            self.from = item.next();
            self.take(item);
        }
        self.ready.pop_front().map(Ok)
    }
}

/// Why a spool was not repaired. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The spool cannot be read, or the copy cannot be written.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A whole record in a format that is not known.
    #[error(
        "the record at {0} is whole, and this version cannot decode it: repair with the version that wrote it"
    )]
    Foreign(LogPosition),
}

/// What a repair did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// Batches, tombstones and anchors that were taken over as they were.
    pub records: u64,
    /// Damaged places that were left out.
    pub places: u64,
    /// Bytes past the last whole group that were left out: nobody was told that they are safe.
    pub cut_bytes: u64,
    /// Tombstones that were written, by life: first and last number.
    pub tombstones: Vec<(Incarnation, u64, u64)>,
    /// What is known to be gone.
    pub missing: Vec<Missing>,
}

/// Copies what can be read of a spool into an empty one, with tombstones for what is missing.
/// Everything is synced when this returns.
pub fn repair<S: Storage, T: Storage>(
    damaged: &Inspection<S>,
    target: T,
    config: SpoolConfig,
) -> Result<Repaired, RepairError> {
    let (mut log, _) = SegmentLog::open(target, config.log()).map_err(SpoolError::from)?;
    let mut repaired = Repaired {
        places: damaged.report.damage_count,
        cut_bytes: damaged.report.cut_bytes,
        ..Repaired::default()
    };
    let mut pricing = Pricing::default();
    let mut unsynced = 0;
    let mut append = |record: &[u8]| -> Result<(), SpoolError> {
        log.append(record).map_err(full)?;
        unsynced += record.len() as u64;
        if unsynced >= SYNC_BYTES {
            log.sync()?;
            unsynced = 0;
        }
        Ok(())
    };
    for place in damaged.places() {
        let Place { position, piece } = place?;
        match piece {
            Piece::Batch { record, batch } => {
                pricing.follow(&batch);
                append(&record)?;
                repaired.records += 1;
            }
            Piece::Tombstone(tombstone) => {
                append(&encoded(&tombstone)?)?;
                repaired.records += 1;
            }
            Piece::Anchor { .. } => {
                let items = damaged.log.read(position, 1).map_err(SpoolError::from)?;
                if let Some(LogItem::Record { bytes, .. }) = items.first() {
                    append(bytes)?;
                    repaired.records += 1;
                }
            }
            Piece::Gap {
                agent,
                incarnation,
                from,
                to,
            } => {
                for sequence in (from..=to).filter_map(BatchSeq::new) {
                    append(&encoded(&Tombstone {
                        agent: agent.clone(),
                        incarnation,
                        sequence,
                        reason: LossReason::SpoolDamaged,
                        remembered: None,
                    })?)?;
                }
                repaired.tombstones.push((incarnation, from, to));
            }
            Piece::Damage { .. } => {}
            Piece::Foreign { .. } => return Err(RepairError::Foreign(position)),
        }
    }
    log.sync().map_err(SpoolError::from)?;
    repaired.missing = pricing.missing();
    Ok(repaired)
}

fn encoded(tombstone: &Tombstone) -> Result<Vec<u8>, SpoolError> {
    let mut record = Vec::new();
    encode_tombstone_record(tombstone, &mut record)?;
    Ok(record)
}

fn full(error: AppendError) -> SpoolError {
    match error {
        AppendError::NoSpace(error) => SpoolError::Sync(SyncError::NoSpace(error)),
        error => SpoolError::Append(error),
    }
}
