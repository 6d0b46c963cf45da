//! The bytes of a journal entry.
//!
//! An entry is a header of sixteen bytes and a body; `docs/formats/journal.md` has the layout
//! byte by byte. Batches and tombstones are carried as self-contained wire records, so that
//! their columns and their compression are the same as on the way in; what is rare (figures,
//! policies, catalogs, closings) is JSON, so that it can be read with any tool.
//!
//! The body can be made before the stamp is known: the stamp is written when the entry takes
//! its place in the journal, which is the only moment at which its order is certain.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tollgate_common::Timestamp;
use tollgate_common::limits::{BATCH_ROWS_MAX, RECORD_BYTES_MAX};
use tollgate_common::wire::{self, Message, RecordDecoder, RecordEncoder};

use super::{Digest, Entry, Opened, ReceivedBatch, RefusedReason, Stamped, Verdicts};

/// First two bytes of every entry.
const MAGIC: [u8; 2] = *b"TJ";
/// Version of the format.
pub const VERSION: u8 = 1;
/// Bytes before the body: magic, version, kind, body length, stamp.
pub const HEADER_BYTES: usize = 16;
/// Most bytes of one entry; it has to fit a record of the segment log.
pub const ENTRY_BYTES_MAX: usize = RECORD_BYTES_MAX;

const KIND_OPENED: u8 = 1;
const KIND_BATCH: u8 = 2;
const KIND_TOMBSTONE: u8 = 3;
const KIND_MISSING: u8 = 4;
const KIND_POLICY: u8 = 5;
const KIND_CATALOG: u8 = 6;
const KIND_CLOSE: u8 = 7;
const KIND_CLOCK: u8 = 8;
const KIND_LOST: u8 = 9;
const KIND_RESTORED: u8 = 10;
const KIND_MANUAL: u8 = 20;
const KIND_ISSUE: u8 = 21;
const KIND_OPERATED: u8 = 30;
const KIND_INTERIM: u8 = 40;

/// An encoded entry that waits for its stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedEntry {
    /// Header and body; the stamp in the header is zero.
    bytes: Vec<u8>,
}

impl EncodedEntry {
    /// The bytes to append to the journal.
    pub fn stamped(mut self, stamp: Timestamp) -> Vec<u8> {
        self.bytes[8..HEADER_BYTES].copy_from_slice(&stamp.millis().to_le_bytes());
        self.bytes
    }

    /// Number of bytes, with the header.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never true: there always is a header.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Why an entry cannot be encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The batch or tombstone does not fit a wire record.
    #[error("journal entry: {0}")]
    Record(#[from] wire::EncodeError),
    /// The entry is too long for one record of the journal.
    #[error(
        "journal entry of {0} bytes is longer than the {ENTRY_BYTES_MAX} allowed; make the catalog or the policy smaller"
    )]
    TooLong(usize),
    /// The verdicts are not one per row.
    #[error("{verdicts} verdicts for {rows} rows")]
    Verdicts {
        /// Verdicts given.
        verdicts: usize,
        /// Rows of the batch.
        rows: usize,
    },
    /// A value that JSON cannot hold.
    #[error("journal entry: {0}")]
    Json(#[from] serde_json::Error),
}

/// Why bytes are not a journal entry.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not the first bytes of an entry.
    #[error("not a journal entry (bad magic)")]
    Magic,
    /// Written by a version that this one does not know.
    #[error(
        "journal entry has format version {0}; this program reads version {VERSION}; use the program that wrote it"
    )]
    Version(u8),
    /// A kind that this version does not know.
    #[error("journal entry has the unknown kind {0}")]
    Kind(u8),
    /// The length does not fit.
    #[error("journal entry is {found} bytes long where {expected} are expected")]
    Length {
        /// Bytes expected.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// A stamp before 1970 or after 9999.
    #[error("journal entry has the stamp {0}, which is out of range")]
    Stamp(i64),
    /// The verdicts are malformed.
    #[error("verdicts of the journal entry are malformed at byte {0}")]
    Verdicts(usize),
    /// The record inside is malformed.
    #[error("record in the journal entry: {0}")]
    Record(#[from] wire::DecodeError),
    /// The record inside is of another kind than the entry.
    #[error("record in the journal entry is a {0}, which does not fit the kind of the entry")]
    Mixed(&'static str),
    /// The JSON inside is malformed.
    #[error("journal entry: {0}")]
    Json(#[from] serde_json::Error),
    /// A figure that is out of range.
    #[error("journal entry: {0}")]
    Range(&'static str),
}

/// Encodes entries; keeps its memory between them.
#[derive(Default)]
pub struct EntryEncoder {
    records: RecordEncoder,
}

impl EntryEncoder {
    /// An encoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes an entry; the stamp comes later, see [`EncodedEntry::stamped`].
    pub fn encode(&mut self, entry: &Entry) -> Result<EncodedEntry, EncodeError> {
        let mut bytes = vec![0; HEADER_BYTES];
        let kind = match entry {
            Entry::Opened(opened) => json(KIND_OPENED, opened, &mut bytes)?,
            Entry::Batch(received) => {
                encode_verdicts(received, &mut bytes)?;
                self.records.batch(&received.batch, &mut bytes)?;
                KIND_BATCH
            }
            Entry::Tombstone(tombstone) => {
                self.records.tombstone(tombstone, &mut bytes)?;
                KIND_TOMBSTONE
            }
            Entry::Missing(missing) => json(KIND_MISSING, missing, &mut bytes)?,
            Entry::Policy(policy) => json(KIND_POLICY, policy, &mut bytes)?,
            Entry::Catalog(catalog) => json(KIND_CATALOG, catalog, &mut bytes)?,
            Entry::Close(closing) => json(KIND_CLOSE, closing, &mut bytes)?,
            Entry::Clock => KIND_CLOCK,
            Entry::Lost(lost) => json(KIND_LOST, lost, &mut bytes)?,
            Entry::Restored(restored) => json(KIND_RESTORED, restored, &mut bytes)?,
            Entry::Manual(manual) => json(KIND_MANUAL, manual, &mut bytes)?,
            Entry::Issue(issue) => json(KIND_ISSUE, issue, &mut bytes)?,
            Entry::Operated(operated) => json(KIND_OPERATED, &**operated, &mut bytes)?,
            Entry::Interim(interim) => json(KIND_INTERIM, interim, &mut bytes)?,
        };
        let body = u32::try_from(bytes.len() - HEADER_BYTES)
            .map_err(|_| EncodeError::TooLong(bytes.len()))?;
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(EncodeError::TooLong(bytes.len()));
        }
        bytes[..2].copy_from_slice(&MAGIC);
        bytes[2] = VERSION;
        bytes[3] = kind;
        bytes[4..8].copy_from_slice(&body.to_le_bytes());
        Ok(EncodedEntry { bytes })
    }
}

/// Encodes one entry, as [`EntryEncoder::encode`] does.
pub fn encode(entry: &Entry) -> Result<EncodedEntry, EncodeError> {
    EntryEncoder::new().encode(entry)
}

/// Decodes entries; keeps its memory between them.
#[derive(Default)]
pub struct EntryDecoder {
    records: RecordDecoder,
}

impl EntryDecoder {
    /// A decoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// A decoder that remembers series, for reading a journal. `seed` is a random number for
    /// a hash table; it has no influence on what is decoded.
    pub fn with_cache(seed: u64) -> Self {
        Self {
            records: RecordDecoder::with_cache(seed),
        }
    }

    /// Decodes an entry. Bytes from anywhere are safe: lengths are checked before anything is
    /// allocated, and whatever breaks a rule is an error that concerns this entry alone.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Stamped, DecodeError> {
        let (header, body) =
            bytes
                .split_first_chunk::<HEADER_BYTES>()
                .ok_or(DecodeError::Length {
                    expected: HEADER_BYTES,
                    found: bytes.len(),
                })?;
        let [m0, m1, version, kind, l0, l1, l2, l3, stamp @ ..] = *header;
        if [m0, m1] != MAGIC {
            return Err(DecodeError::Magic);
        }
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let declared = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if declared != body.len() || bytes.len() > ENTRY_BYTES_MAX {
            return Err(DecodeError::Length {
                expected: declared.min(ENTRY_BYTES_MAX),
                found: body.len(),
            });
        }
        let millis = i64::from_le_bytes(stamp);
        let stamp = Timestamp::from_millis(millis);
        if stamp.millis() != millis {
            return Err(DecodeError::Stamp(millis));
        }
        Ok(Stamped {
            stamp,
            entry: self.body(kind, body)?,
        })
    }

    fn body(&mut self, kind: u8, body: &[u8]) -> Result<Entry, DecodeError> {
        Ok(match kind {
            KIND_OPENED => Entry::Opened(check_opened(parse(body)?)?),
            KIND_BATCH => Entry::Batch(Arc::new(self.batch(body)?)),
            KIND_TOMBSTONE => match self.records.decode(body)? {
                Message::Tombstone(tombstone) => Entry::Tombstone(tombstone),
                other => return Err(DecodeError::Mixed(other.kind())),
            },
            KIND_MISSING => {
                let missing: super::Missing = parse(body)?;
                // `BatchSeq` reads any number from JSON, zero included.
                if missing.from.get() == 0 || missing.to < missing.from {
                    return Err(DecodeError::Range("missing batches are a range from 1 on"));
                }
                Entry::Missing(missing)
            }
            KIND_POLICY => Entry::Policy(parse(body)?),
            KIND_CATALOG => Entry::Catalog(parse(body)?),
            KIND_CLOSE => Entry::Close(parse(body)?),
            KIND_CLOCK if body.is_empty() => Entry::Clock,
            KIND_CLOCK => {
                return Err(DecodeError::Length {
                    expected: 0,
                    found: body.len(),
                });
            }
            KIND_LOST => Entry::Lost(parse(body)?),
            KIND_RESTORED => Entry::Restored(parse(body)?),
            KIND_MANUAL => Entry::Manual(parse(body)?),
            KIND_ISSUE => Entry::Issue(parse(body)?),
            KIND_OPERATED => Entry::Operated(std::sync::Arc::new(parse(body)?)),
            KIND_INTERIM => Entry::Interim(parse(body)?),
            other => return Err(DecodeError::Kind(other)),
        })
    }

    /// Policy digest, verdicts, then the batch as a wire record.
    fn batch(&mut self, body: &[u8]) -> Result<ReceivedBatch, DecodeError> {
        let mut reader = Reader { bytes: body, at: 0 };
        let policy = Digest(reader.array()?);
        let [kind] = reader.array()?;
        let verdicts = match kind {
            VERDICTS_ALL_ALLOWED => None,
            VERDICTS_RUNS => Some(reader.runs()?),
            _ => return Err(DecodeError::Verdicts(reader.at - 1)),
        };
        let Message::Batch(batch) = self.records.decode(&body[reader.at..])? else {
            return Err(DecodeError::Mixed("tombstone"));
        };
        let verdicts = match verdicts {
            None => Verdicts::AllAllowed,
            Some(verdicts) if verdicts.len() == batch.rows.len() => Verdicts::PerRow(verdicts),
            Some(verdicts) => {
                return Err(DecodeError::Length {
                    expected: batch.rows.len(),
                    found: verdicts.len(),
                });
            }
        };
        Ok(ReceivedBatch {
            batch,
            policy,
            verdicts,
        })
    }
}

/// Decodes one entry, as [`EntryDecoder::decode`] does. This is the target for fuzzing.
pub fn decode(bytes: &[u8]) -> Result<Stamped, DecodeError> {
    EntryDecoder::new().decode(bytes)
}

fn check_opened(opened: Opened) -> Result<Opened, DecodeError> {
    let width = opened.usage_window_secs;
    if opened.partitions == 0 {
        return Err(DecodeError::Range("there is at least one tenant partition"));
    }
    if tollgate_common::WindowWidth::from_secs(width).is_err() {
        return Err(DecodeError::Range(
            "the width of usage windows divides 900 s",
        ));
    }
    if opened.settlement_millis < 0 || opened.future_tolerance_millis < 0 {
        return Err(DecodeError::Range(
            "settlement time and tolerance are not negative",
        ));
    }
    Ok(opened)
}

fn json<T: Serialize>(kind: u8, value: &T, out: &mut Vec<u8>) -> Result<u8, EncodeError> {
    serde_json::to_writer(out, value)?;
    Ok(kind)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    Ok(serde_json::from_slice(body)?)
}

const VERDICTS_ALL_ALLOWED: u8 = 0;
const VERDICTS_RUNS: u8 = 1;

/// Policy digest and verdicts; the batch follows.
fn encode_verdicts(received: &ReceivedBatch, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    out.extend_from_slice(&received.policy.0);
    match &received.verdicts {
        Verdicts::AllAllowed => out.push(VERDICTS_ALL_ALLOWED),
        Verdicts::PerRow(verdicts) => {
            if verdicts.len() != received.batch.rows.len() || verdicts.len() > BATCH_ROWS_MAX {
                return Err(EncodeError::Verdicts {
                    verdicts: verdicts.len(),
                    rows: received.batch.rows.len(),
                });
            }
            out.push(VERDICTS_RUNS);
            encode_runs(verdicts, out);
        }
    }
    Ok(())
}

/// Number of runs, then per run its length and its reason (0 for allowed).
///
/// Rows are sorted by tenant and meter, so that a policy cuts them into few runs.
fn encode_runs(verdicts: &[Option<RefusedReason>], out: &mut Vec<u8>) {
    let runs = || verdicts.chunk_by(|a, b| a == b);
    let length = |n: usize| {
        u32::try_from(n)
            .expect("at most as long as the rows of a batch")
            .to_le_bytes()
    };
    out.extend_from_slice(&length(runs().count()));
    for run in runs() {
        out.extend_from_slice(&length(run.len()));
        out.push(run[0].map_or(0, RefusedReason::code));
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest
            .first_chunk::<N>()
            .ok_or(DecodeError::Verdicts(self.at))?;
        self.at += N;
        Ok(*taken)
    }

    fn runs(&mut self) -> Result<Vec<Option<RefusedReason>>, DecodeError> {
        let count = u32::from_le_bytes(self.array()?);
        let mut verdicts = Vec::new();
        let mut before = None;
        for _ in 0..count {
            let start = self.at;
            let length = u32::from_le_bytes(self.array()?) as usize;
            let [code] = self.array()?;
            let reason = match code {
                0 => None,
                code => Some(RefusedReason::from_code(code).ok_or(DecodeError::Verdicts(start))?),
            };
            // Empty and split runs would be second encodings of the same verdicts.
            if length == 0 || before == Some(reason) || verdicts.len() + length > BATCH_ROWS_MAX {
                return Err(DecodeError::Verdicts(start));
            }
            before = Some(reason);
            verdicts.resize(verdicts.len() + length, reason);
        }
        Ok(verdicts)
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
