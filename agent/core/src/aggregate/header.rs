//! The header of a region: who counts here, since when, and how far it has been sealed.
//!
//! The first page is written once, before the file gets its name, and is synced with it: it
//! can be trusted after a power cut. The second page changes with every seal and lives by the
//! same rule as the cells: it is believed only under the boot that wrote it.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use tollgate::cell::baseline;
use tollgate_common::limits::AGENT_BYTES_MAX;
use tollgate_common::{
    AgentId, BatchHash, Incarnation, LossReason, Parent, ParentEnd, Timestamp, WindowWidth,
};

use super::layout::{CellsLayout, HEADER_WORDS, LayoutError, PAGE_WORDS};
use super::words::{Put, crc32c_words, get_array, get_bytes, put_bytes, words_for};

/// `TGCELLS1`, read as a little-endian word; another byte order or another file differs.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"TGCELLS1");
/// Version of the layout that this code writes. Version 1 is brought to it when it is met,
/// see [`v1`](super::v1).
pub(crate) const VERSION: u64 = 2;
/// Longest name of a writer, in bytes.
pub const WRITER_NAME_BYTES_MAX: usize = 32;

const AT_LAYOUT: usize = 2;
const AT_WINDOW: usize = 5;
const AT_BOOT: usize = 6;
const AT_INCARNATION: usize = 8;
const AT_OPENED: usize = 10;
const AT_AGENT_LENGTH: usize = 11;
const AT_AGENT: usize = 12;
const AT_PARENT: usize = 28;
const AT_INHERITED: usize = 38;
const AT_PAIRS: usize = 41;
const AT_NAMES: usize = 64;
const NAME_WORDS: usize = words_for(WRITER_NAME_BYTES_MAX);
const AT_CHECKSUM: usize = PAGE_WORDS - 1;
const _: () = assert!(AT_AGENT + words_for(AGENT_BYTES_MAX) == AT_PARENT);
const _: () = assert!(AT_NAMES + NAME_WORDS * super::WRITERS_MAX as usize <= AT_CHECKSUM);

pub(crate) const AT_APPLIED: usize = PAGE_WORDS;
const AT_ALIVE: usize = PAGE_WORDS + 1;
const AT_RELEASED: usize = PAGE_WORDS + 2;
const AT_PAIR_COUNT: usize = PAGE_WORDS + 3;
/// 1 where what is received is counted before it is decided on, for tenants too. Agents before
/// that left 0 here.
const AT_RECEIPTS: usize = PAGE_WORDS + 4;
/// 1 from before the first batch on that has rows whose amount no running total tells.
const AT_BESIDE: usize = PAGE_WORDS + 5;
/// Since when levels, and pages, that the life before gave up are not declared, in milliseconds;
/// 0 where there is nothing to declare.
const AT_GIVEN_UP: [usize; 2] = [PAGE_WORDS + 6, PAGE_WORDS + 7];
const AT_CUTS: [usize; 2] = [PAGE_WORDS + 16, PAGE_WORDS + 32];
const CUT_WORDS: usize = 9;
/// Account of writers that the configuration no longer names.
pub(crate) const AT_RETIRED: usize = PAGE_WORDS + 64;

/// A loss that a new incarnation declares in its first batch because the one in which it
/// happened never sealed anything and so has no name that a collector could know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InheritedLoss {
    /// Why.
    pub reason: LossReason,
    /// The loss happened at or after this instant.
    pub from: Timestamp,
    /// And before this one.
    pub to: Timestamp,
}

/// What never changes in the life of an incarnation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Whose counts these are.
    pub agent: AgentId,
    /// Which life of the agent.
    pub incarnation: Incarnation,
    /// The boot of the host under which the cells are valid.
    pub boot_id: [u8; 16],
    /// When the incarnation began; the first cut.
    pub opened_at: Timestamp,
    /// The width of its windows.
    pub window: WindowWidth,
    /// The incarnation before.
    pub parent: Option<Parent>,
    /// A loss to declare with the first batch.
    pub inherited: Option<InheritedLoss>,
    /// Names of the writers, by index.
    pub writers: Vec<String>,
}

/// What a seal leaves behind: the last batch and where it cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CutRecord {
    /// Sequence of the batch, at least 1.
    pub sequence: u64,
    /// Its hash.
    pub hash: BatchHash,
    /// Counts after this instant are in no batch.
    pub cut: Timestamp,
    /// The watermark that the batch gave.
    pub watermark: Timestamp,
    /// True if the batch was the incarnation's last.
    pub is_final: bool,
}

/// Why a region is not readable as cells.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CellsError {
    /// Shorter than a header, or than its header says.
    #[error("cells file has {actual} words, fewer than the {expected} it needs")]
    Short {
        /// Words needed.
        expected: usize,
        /// Words there.
        actual: usize,
    },
    /// Another kind of file.
    #[error("cells file does not start with its magic")]
    Magic,
    /// Written by another version.
    #[error("cells file has format version {0}, this agent reads versions 1 and {VERSION}")]
    Version(u64),
    /// The checksum of the first page is wrong.
    #[error("header of the cells file is damaged (checksum)")]
    Checksum,
    /// The sizes are out of range.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A field has a value that nobody writes.
    #[error("header of the cells file has an invalid {0}")]
    Field(&'static str),
}

fn put_time(words: &[AtomicU64], at: usize, time: Timestamp) {
    words[at].put(time.millis().cast_unsigned(), Relaxed);
}

fn time(words: &[AtomicU64], at: usize) -> Timestamp {
    Timestamp::from_millis(words[at].load(Relaxed).cast_signed())
}

impl Identity {
    /// Writes the first page of a region of zeros that is as long as `layout` says.
    pub(crate) fn write(&self, layout: CellsLayout, words: &[AtomicU64]) {
        words[0].put(MAGIC, Relaxed);
        words[1].put(VERSION, Relaxed);
        let [sizes @ .., pairs] = layout.to_words();
        for (word, value) in words[AT_LAYOUT..].iter().zip(sizes) {
            word.put(value, Relaxed);
        }
        words[AT_PAIRS].put(pairs, Relaxed);
        words[AT_WINDOW].put(self.window.secs().into(), Relaxed);
        put_bytes(&words[AT_BOOT..], &self.boot_id);
        put_bytes(&words[AT_INCARNATION..], self.incarnation.as_bytes());
        put_time(words, AT_OPENED, self.opened_at);
        words[AT_AGENT_LENGTH].put(self.agent.as_str().len() as u64, Relaxed);
        put_bytes(&words[AT_AGENT..], self.agent.as_str().as_bytes());
        if let Some(parent) = &self.parent {
            put_bytes(&words[AT_PARENT + 1..], parent.incarnation.as_bytes());
            words[AT_PARENT + 3].put(parent.last_sequence, Relaxed);
            put_bytes(&words[AT_PARENT + 4..], parent.last_hash.as_bytes());
            let kind = match parent.end {
                ParentEnd::Final => 1,
                ParentEnd::Unclean { reason, from, to } => {
                    put_time(words, AT_PARENT + 8, from);
                    put_time(words, AT_PARENT + 9, to);
                    2 | u64::from(reason.code()) << 8
                }
            };
            words[AT_PARENT].put(kind, Relaxed);
        }
        if let Some(loss) = &self.inherited {
            words[AT_INHERITED].put(loss.reason.code().into(), Relaxed);
            put_time(words, AT_INHERITED + 1, loss.from);
            put_time(words, AT_INHERITED + 2, loss.to);
        }
        for (name, at) in self.writers.iter().zip((AT_NAMES..).step_by(NAME_WORDS)) {
            put_bytes(&words[at..], name.as_bytes());
        }
        words[AT_CHECKSUM].put(crc32c_words(&words[..AT_CHECKSUM]).into(), Relaxed);
    }

    /// Reads and checks the first page.
    pub(crate) fn read(words: &[AtomicU64]) -> Result<(Self, CellsLayout), CellsError> {
        let word = |at: usize| words[at].load(Relaxed);
        let version = version(words)?;
        if version != VERSION {
            return Err(CellsError::Version(version));
        }
        let layout = CellsLayout::from_words([2, 3, 4, AT_PAIRS].map(word))?;
        if words.len() < layout.words() {
            return Err(CellsError::Short {
                expected: layout.words(),
                actual: words.len(),
            });
        }
        Ok((Self::read_fields(words, layout.writers())?, layout))
    }

    /// Reads what both versions have in the same places.
    pub(super) fn read_fields(words: &[AtomicU64], writers: u32) -> Result<Self, CellsError> {
        let word = |at: usize| words[at].load(Relaxed);
        let window = u32::try_from(word(AT_WINDOW))
            .ok()
            .and_then(|secs| WindowWidth::from_secs(secs).ok())
            .ok_or(CellsError::Field("window width"))?;
        let length = usize::try_from(word(AT_AGENT_LENGTH))
            .ok()
            .filter(|&length| length <= AGENT_BYTES_MAX)
            .ok_or(CellsError::Field("agent name length"))?;
        Ok(Self {
            agent: String::from_utf8(get_bytes(&words[AT_AGENT..], length))
                .ok()
                .and_then(|name| AgentId::new(&name).ok())
                .ok_or(CellsError::Field("agent name"))?,
            incarnation: Incarnation::from_bytes(get_array(&words[AT_INCARNATION..])),
            boot_id: get_array(&words[AT_BOOT..]),
            opened_at: time(words, AT_OPENED),
            window,
            parent: read_parent(words)?,
            inherited: read_inherited(words)?,
            writers: (0..writers as usize)
                .map(|writer| read_name(&words[AT_NAMES + writer * NAME_WORDS..]))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// The version of a region whose first page is whole.
pub(super) fn version(words: &[AtomicU64]) -> Result<u64, CellsError> {
    if words.len() < HEADER_WORDS {
        return Err(CellsError::Short {
            expected: HEADER_WORDS,
            actual: words.len(),
        });
    }
    let word = |at: usize| words[at].load(Relaxed);
    if word(0) != MAGIC {
        return Err(CellsError::Magic);
    }
    if word(AT_CHECKSUM) != u64::from(crc32c_words(&words[..AT_CHECKSUM])) {
        return Err(CellsError::Checksum);
    }
    Ok(word(1))
}

fn reason(code: u64) -> Result<LossReason, CellsError> {
    u8::try_from(code)
        .ok()
        .and_then(LossReason::from_code)
        .ok_or(CellsError::Field("loss reason"))
}

fn read_parent(words: &[AtomicU64]) -> Result<Option<Parent>, CellsError> {
    let kind = words[AT_PARENT].load(Relaxed);
    let end = match kind & 0xff {
        0 => return Ok(None),
        1 => ParentEnd::Final,
        2 => ParentEnd::Unclean {
            reason: reason(kind >> 8)?,
            from: time(words, AT_PARENT + 8),
            to: time(words, AT_PARENT + 9),
        },
        _ => return Err(CellsError::Field("parent")),
    };
    Ok(Some(Parent {
        incarnation: Incarnation::from_bytes(get_array(&words[AT_PARENT + 1..])),
        last_sequence: words[AT_PARENT + 3].load(Relaxed),
        last_hash: BatchHash::from_bytes(get_array(&words[AT_PARENT + 4..])),
        end,
    }))
}

fn read_inherited(words: &[AtomicU64]) -> Result<Option<InheritedLoss>, CellsError> {
    match words[AT_INHERITED].load(Relaxed) {
        0 => Ok(None),
        code => Ok(Some(InheritedLoss {
            reason: reason(code)?,
            from: time(words, AT_INHERITED + 1),
            to: time(words, AT_INHERITED + 2),
        })),
    }
}

fn read_name(words: &[AtomicU64]) -> Result<String, CellsError> {
    let bytes = get_bytes(words, WRITER_NAME_BYTES_MAX);
    let length = bytes.iter().position(|&byte| byte == 0);
    let name = &bytes[..length.unwrap_or(bytes.len())];
    String::from_utf8(name.to_vec()).map_err(|_| CellsError::Field("writer name"))
}

/// The sequence of the last batch that is durable; its parity names the baselines in force.
pub(crate) fn applied(words: &[AtomicU64]) -> u64 {
    words[AT_APPLIED].load(Acquire)
}

/// The number of running totals in use.
pub(super) fn pairs_word(words: &[AtomicU64]) -> &AtomicU64 {
    &words[AT_PAIR_COUNT]
}

/// The word that says that something was counted whose amount no running total tells.
pub(super) fn beside_word(words: &[AtomicU64]) -> &AtomicU64 {
    &words[AT_BESIDE]
}

/// Says that what is received is counted for itself.
pub(super) fn set_receipts(words: &[AtomicU64]) {
    words[AT_RECEIPTS].put(1, Relaxed);
}

/// Makes it as older agents left it.
#[cfg(test)]
pub(super) fn clear_receipts(words: &[AtomicU64]) {
    words[AT_RECEIPTS].put(0, Relaxed);
}

/// True if what is received is counted for itself.
pub(super) fn has_receipts(words: &[AtomicU64]) -> bool {
    words[AT_RECEIPTS].load(Relaxed) == 1
}

/// The word that [`applied`] reads.
pub(crate) fn applied_word(words: &[AtomicU64]) -> &AtomicU64 {
    &words[AT_APPLIED]
}

/// The one store that makes the cut of batch `sequence` the baseline.
pub(crate) fn set_applied(words: &[AtomicU64], sequence: u64) {
    baseline::apply(&words[AT_APPLIED], sequence);
}

pub(crate) fn last_alive(words: &[AtomicU64]) -> Timestamp {
    time(words, AT_ALIVE)
}

pub(crate) fn set_last_alive(words: &[AtomicU64], now: Timestamp) {
    put_time(words, AT_ALIVE, now);
}

/// The last batch of this incarnation that a collector let go; a hint, see recovery.
pub(crate) fn released(words: &[AtomicU64]) -> u64 {
    words[AT_RELEASED].load(Relaxed)
}

pub(crate) fn set_released(words: &[AtomicU64], sequence: u64) {
    words[AT_RELEASED].put(sequence, Relaxed);
}

/// Since when there are losses of levels and of pages that no durable batch declares.
pub(super) fn given_up(words: &[AtomicU64]) -> [Option<Timestamp>; 2] {
    AT_GIVEN_UP.map(|at| Some(time(words, at)).filter(|since| *since != Timestamp::EPOCH))
}

pub(super) fn set_given_up(words: &[AtomicU64], since: [Option<Timestamp>; 2]) {
    for (at, since) in AT_GIVEN_UP.into_iter().zip(since) {
        put_time(words, at, since.unwrap_or(Timestamp::EPOCH));
    }
}

/// Writes the record of a cut into the place that its parity names.
pub(crate) fn put_cut(words: &[AtomicU64], cut: &CutRecord) {
    let words = &words[AT_CUTS[usize::from(cut.sequence & 1 == 1)]..];
    words[0].put(cut.sequence, Relaxed);
    put_bytes(&words[1..], cut.hash.as_bytes());
    put_time(words, 5, cut.cut);
    put_time(words, 6, cut.watermark);
    words[7].put(cut.is_final.into(), Relaxed);
    words[CUT_WORDS - 1].put(crc32c_words(&words[..CUT_WORDS - 1]).into(), Relaxed);
}

/// The record of the cut that batch `sequence` made, if it is whole and of that batch.
pub(crate) fn cut(words: &[AtomicU64], sequence: u64) -> Option<CutRecord> {
    let words = &words[AT_CUTS[usize::from(sequence & 1 == 1)]..];
    let checksum = u64::from(crc32c_words(&words[..CUT_WORDS - 1]));
    let whole = words[CUT_WORDS - 1].load(Relaxed) == checksum;
    let record = CutRecord {
        sequence: words[0].load(Relaxed),
        hash: BatchHash::from_bytes(get_array(&words[1..])),
        cut: time(words, 5),
        watermark: time(words, 6),
        is_final: words[7].load(Relaxed) == 1,
    };
    (whole && sequence > 0 && record.sequence == sequence).then_some(record)
}
