//! Reading the spool in order: batches, and tombstones in the place of what is damaged.

use std::collections::VecDeque;
use std::fmt;

use tollgate_common::log::{LogItem, LogPosition, SegmentLog};
use tollgate_common::storage::Storage;
use tollgate_common::wire::{Message, RecordDecoder};
use tollgate_common::{
    AgentId, Batch, BatchHash, BatchSeq, Incarnation, LossReason, Opening, Tombstone,
};

use super::SpoolError;
use super::anchor::Anchor;
use super::chain::{Chain, Gap};
use super::index::Entry;
use super::lazy::Generation;

/// How much is read from the log at once.
const READ_BYTES: usize = 1 << 20;
/// Memory in which the series of a backlog are remembered: enough for some 80,000 of them.
/// With more, they are read anew in every batch, which is slower and takes no more memory.
pub(crate) const CACHE_BYTES: usize = 32 << 20;
/// Bytes that a tombstone counts for in flow control.
const TOMBSTONE_BYTES: u64 = 256;

/// A batch or tombstone that is durable and may be shipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shipment {
    pub(crate) incarnation: Incarnation,
    pub(crate) sequence: u64,
    /// Size of the record, for flow control.
    pub(crate) bytes: u64,
    /// [`Message::Batch`] or [`Message::Tombstone`].
    pub(crate) message: Message,
}

/// A record, decoded.
#[derive(Debug)]
pub(super) enum Record {
    Batch(Box<Batch>),
    Tombstone(Tombstone),
    Anchor(Anchor),
}

impl Record {
    /// `None` for bytes that are no record: damage that the log's checksum did not see, or a
    /// format of another version.
    pub(super) fn decode(bytes: &[u8], decoder: &mut RecordDecoder) -> Option<Self> {
        if let Some(anchor) = Anchor::decode(bytes) {
            return Some(Self::Anchor(anchor));
        }
        match decoder.decode(bytes).ok()? {
            Message::Batch(batch) => Some(Self::Batch(Box::new(batch))),
            Message::Tombstone(tombstone) => Some(Self::Tombstone(tombstone)),
            _ => None,
        }
    }

    pub(super) fn agent(&self) -> &AgentId {
        match self {
            Self::Batch(batch) => &batch.agent,
            Self::Tombstone(tombstone) => &tombstone.agent,
            Self::Anchor(anchor) => &anchor.agent,
        }
    }

    pub(super) fn incarnation(&self) -> Incarnation {
        match self {
            Self::Batch(batch) => batch.incarnation,
            Self::Tombstone(tombstone) => tombstone.incarnation,
            Self::Anchor(anchor) => anchor.tail.incarnation,
        }
    }

    pub(super) fn sequence(&self) -> u64 {
        match self {
            Self::Batch(batch) => batch.sequence.get(),
            Self::Tombstone(tombstone) => tombstone.sequence.get(),
            Self::Anchor(anchor) => anchor.sequence.get(),
        }
    }

    pub(super) fn opening(&self) -> Option<&Opening> {
        match self {
            Self::Batch(batch) => batch.opening.as_ref(),
            Self::Tombstone(_) | Self::Anchor(_) => None,
        }
    }
}

/// A decoded record and where it was.
#[derive(Debug)]
struct Found {
    position: LogPosition,
    bytes: u64,
    record: Record,
}

/// What comes next at a cursor.
enum Step {
    /// Batches that are missing before the record at a position.
    Gap(Gap, AgentId, LogPosition),
    Found(Found),
}

/// Decodes records. While a backlog is read, series that come again are recognised, which is
/// several times faster; at the end of the spool the memory for that is given back.
#[derive(Default)]
struct Decoding {
    seed: u64,
    shared: Option<Box<RecordDecoder>>,
}

impl Decoding {
    /// `more` is true if another record is known to follow.
    fn decode(&mut self, bytes: &[u8], more: bool) -> Option<Record> {
        if more && self.shared.is_none() {
            self.shared = Some(Box::new(RecordDecoder::with_cache_bytes(
                self.seed,
                CACHE_BYTES,
            )));
        }
        match &mut self.shared {
            Some(shared) => Record::decode(bytes, shared),
            None => Record::decode(bytes, &mut RecordDecoder::new()),
        }
    }
}

impl fmt::Debug for Decoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares = self.shared.is_some();
        f.debug_struct("Decoding")
            .field("shares", &shares)
            .finish_non_exhaustive()
    }
}

/// A place in the spool, and what has been read ahead from there.
#[derive(Debug)]
pub(crate) struct Cursor {
    from: LogPosition,
    chain: Chain,
    items: VecDeque<LogItem>,
    gaps: VecDeque<Gap>,
    /// A record that waits for the gaps before it.
    found: Option<Found>,
    /// What its positions mean.
    generation: Generation,
    decoding: Decoding,
}

impl Cursor {
    /// A cursor at `from`, with nothing known about what is before.
    pub(crate) fn at(from: LogPosition) -> Self {
        Self {
            from,
            chain: Chain::default(),
            items: VecDeque::new(),
            gaps: VecDeque::new(),
            found: None,
            generation: Generation::default(),
            decoding: Decoding::default(),
        }
    }

    /// The same, with positions of a generation. `seed` is hard to guess for whoever names
    /// series, so that nobody can aim at one place of a hash table.
    pub(super) fn of(self, generation: Generation, seed: u64) -> Self {
        let decoding = Decoding { seed, shared: None };
        Self {
            generation,
            decoding,
            ..self
        }
    }

    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// A cursor at the record of batch `sequence`, with what is before it accounted for.
    pub(crate) fn after(from: LogPosition, incarnation: Incarnation, sequence: u64) -> Self {
        Self {
            chain: Chain::after(incarnation, sequence.saturating_sub(1)),
            ..Self::at(from)
        }
    }

    fn next_item<S: Storage>(
        &mut self,
        log: &SegmentLog<S>,
    ) -> Result<Option<LogItem>, SpoolError> {
        if self.items.is_empty() {
            self.items = log.read(self.from, READ_BYTES)?.into();
        }
        let item = self.items.pop_front();
        if let Some(item) = &item {
            self.from = item.next();
        }
        Ok(item)
    }

    fn step<S: Storage>(&mut self, log: &SegmentLog<S>) -> Result<Option<Step>, SpoolError> {
        while self.found.is_none() {
            let Some(item) = self.next_item(log)? else {
                self.decoding.shared = None;
                return Ok(None);
            };
            let more = !self.items.is_empty() || self.from < log.readable_end();
            // Damage needs no further look: the next record's number tells what it cost.
            if let LogItem::Record {
                position, bytes, ..
            } = item
                && let Some(record) = self.decoding.decode(&bytes, more)
            {
                let (incarnation, sequence) = (record.incarnation(), record.sequence());
                if let Record::Anchor(_) = record {
                    // What is missing before it is released.
                    self.chain = Chain::after(incarnation, sequence);
                } else {
                    let gaps = self.chain.follow(incarnation, sequence, record.opening());
                    self.gaps.extend(gaps.into_iter().flatten());
                }
                self.found = Some(Found {
                    position,
                    bytes: bytes.len() as u64,
                    record,
                });
            }
        }
        if let Some(found) = &self.found
            && let Some(gap) = self.gaps.pop_front()
        {
            let agent = found.record.agent().clone();
            return Ok(Some(Step::Gap(gap, agent, found.position)));
        }
        Ok(self.found.take().map(Step::Found))
    }

    /// The next batch or tombstone; `None` at the end of what is durable.
    pub(super) fn next_shipment<S: Storage>(
        &mut self,
        log: &SegmentLog<S>,
    ) -> Result<Option<Shipment>, SpoolError> {
        Ok(self.step(log)?.map(|step| match step {
            Step::Found(found) => Shipment {
                incarnation: found.record.incarnation(),
                sequence: found.record.sequence(),
                bytes: found.bytes,
                message: match found.record {
                    Record::Batch(batch) => Message::Batch(*batch),
                    Record::Tombstone(tombstone) => Message::Tombstone(tombstone),
                    Record::Anchor(anchor) => Message::Tombstone(anchor.tombstone()),
                },
            },
            Step::Gap(gap, agent, _) => Shipment {
                incarnation: gap.incarnation,
                sequence: gap.from,
                bytes: TOMBSTONE_BYTES,
                message: Message::Tombstone(self.split(gap, agent)),
            },
        }))
    }

    /// Takes the first batch of a gap and leaves the rest.
    fn split(&mut self, gap: Gap, agent: AgentId) -> Tombstone {
        if gap.from < gap.to {
            self.gaps.push_front(Gap {
                from: gap.from + 1,
                ..gap
            });
        }
        Tombstone {
            agent,
            incarnation: gap.incarnation,
            sequence: BatchSeq::new(gap.from).unwrap_or(BatchSeq::FIRST),
            reason: LossReason::SpoolDamaged,
            remembered: None,
        }
    }

    /// The next record or gap for the index.
    pub(super) fn next_entry<S: Storage>(
        &mut self,
        log: &SegmentLog<S>,
    ) -> Result<Option<Entry>, SpoolError> {
        Ok(self.step(log)?.map(|step| match step {
            Step::Gap(gap, _, position) => Entry::of_gap(position, gap),
            Step::Found(found) => match found.record {
                Record::Batch(batch) => Entry::of_batch(found.position, &batch, batch.hash()),
                Record::Tombstone(tombstone) => {
                    Entry::of_tombstone(found.position, &tombstone, BatchHash::ZERO)
                }
                Record::Anchor(anchor) => Entry::of_anchor(found.position, &anchor),
            },
        }))
    }
}
