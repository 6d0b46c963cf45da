//! Definitions of new series: canonical keys, front-coded in the order of the rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::archive::{ArchivedBatchV1, BatchV1, count32};
use super::cache::{Cached, SeriesCache};
use super::dictionary::{Dictionary, Entry};
use super::varint::{Reader, put_u64};
use super::{DecodeError, FrameVersion};
use crate::limits::SERIES_KEY_BYTES_MAX;
use crate::meter::{Aggregation, Scale};
use crate::series::SeriesKey;

/// Fewest bytes of a definition: two lengths, aggregation, scale.
const DEFINITION_BYTES_MIN: usize = 4;

/// Writes the series from `defined` on, which the dictionary has got already.
pub(super) fn encode(dictionary: &Dictionary, defined: usize, columns: &mut BatchV1) {
    let mut key = Vec::new();
    let mut before = Vec::new();
    for entry in (defined..dictionary.len()).filter_map(|index| dictionary.get(index)) {
        key.clear();
        entry.series.write_canonical(&mut key);
        put_front_coded(&mut columns.definitions, &before, &key);
        columns
            .definitions
            .extend_from_slice(&[entry.aggregation.code(), entry.scale.get()]);
        std::mem::swap(&mut key, &mut before);
    }
    columns.definition_count = count32(dictionary.len() - defined);
}

/// Appends how many bytes `key` shares with `before`, how many follow, and these.
pub(super) fn put_front_coded(column: &mut Vec<u8>, before: &[u8], key: &[u8]) {
    let shared = shared_bytes(before, key);
    put_u64(column, shared as u64);
    put_u64(column, (key.len() - shared) as u64);
    column.extend_from_slice(&key[shared..]);
}

/// How many bytes two keys begin with in common, eight at a time: neighbours mostly differ at
/// their end.
fn shared_bytes(a: &[u8], b: &[u8]) -> usize {
    let words = a.chunks_exact(8).zip(b.chunks_exact(8));
    let equal = 8 * words.take_while(|(a, b)| a == b).count();
    let rest = a[equal..].iter().zip(&b[equal..]);
    equal + rest.take_while(|(a, b)| a == b).count()
}

/// Turns `key`, which holds the key before, into the next one.
pub(super) fn read_front_coded(
    reader: &mut Reader<'_>,
    key: &mut Vec<u8>,
    length_max: usize,
) -> Result<(), DecodeError> {
    let shared = reader.index()?;
    let rest = reader.index()?;
    if shared > key.len() || rest > length_max.saturating_sub(shared) {
        return Err(reader.malformed());
    }
    key.truncate(shared);
    key.extend_from_slice(reader.take(rest)?);
    Ok(())
}

type SeenKey = (Arc<SeriesKey>, Aggregation, Scale);

/// Which series the dictionary has, to refuse a second definition.
///
/// Definitions of one frame are in strict order, so that the first frame of a dictionary
/// needs no look-up; the set is filled when a second frame defines something. It is a tree
/// and no hash table because the other side chooses the keys.
#[derive(Default)]
pub(super) struct Seen {
    keys: BTreeSet<SeenKey>,
    indexed: usize,
}

impl Seen {
    fn catch_up(&mut self, dictionary: &Dictionary) {
        while let Some(entry) = dictionary.get(self.indexed) {
            let key = (Arc::clone(&entry.series), entry.aggregation, entry.scale);
            self.keys.insert(key);
            self.indexed += 1;
        }
    }
}

pub(super) fn rank(entry: &Entry) -> (&SeriesKey, Aggregation, Scale) {
    (&entry.series, entry.aggregation, entry.scale)
}

/// Adds the definitions of a frame with `rows` rows to the dictionary.
pub(super) fn decode(
    archive: &ArchivedBatchV1,
    version: FrameVersion,
    rows: usize,
    dictionary: &mut Dictionary,
    seen: &mut Seen,
    mut cache: Option<&mut SeriesCache>,
) -> Result<(), DecodeError> {
    let count = archive.definition_count.to_native() as usize;
    // Each definition has a row of its own.
    let possible = rows.min(archive.definitions.len() / DEFINITION_BYTES_MIN);
    if count > possible {
        return Err(DecodeError::TooMany {
            what: "definitions",
            count,
            max: possible,
        });
    }
    let first = dictionary.len();
    if count > 0 && first > 0 {
        seen.catch_up(dictionary);
    }
    if let Some(cache) = &mut cache {
        cache.begin();
    }
    let mut reader = Reader::new("definitions", &archive.definitions);
    let mut key = Vec::new();
    for index in 0..count {
        read_front_coded(&mut reader, &mut key, SERIES_KEY_BYTES_MAX)?;
        let found = if let Some(cache) = &mut cache {
            cache.get(&key)
        } else {
            let series = SeriesKey::from_canonical_near(&key, dictionary.newest());
            series.map(|series| Cached {
                series: Arc::new(series),
                rising: false,
            })
        };
        let found = found.map_err(|source| DecodeError::Series { index, source })?;
        let mut series = found.series;
        let aggregation = Aggregation::from_code(reader.byte()?)
            .filter(|&aggregation| {
                let old = matches!(aggregation, Aggregation::Sum | Aggregation::Last);
                old || version > FrameVersion::V1
            })
            .ok_or(DecodeError::Range("aggregation of a definition"))?;
        let scale =
            Scale::new(reader.byte()?).map_err(|_| DecodeError::Range("scale of a definition"))?;
        if index > 0
            && !found.rising
            && let Some(before) = dictionary.get(dictionary.len() - 1)
        {
            if rank(before) >= (&*series, aggregation, scale) {
                return Err(DecodeError::Definition(index));
            }
            if before.series == series {
                series = Arc::clone(&before.series);
            }
        }
        if first > 0 {
            let key = (Arc::clone(&series), aggregation, scale);
            if seen.keys.contains(&key) {
                return Err(DecodeError::Definition(index));
            }
        }
        dictionary
            .define(series, key.len(), aggregation, scale)
            .map_err(|_| DecodeError::DictionaryFull)?;
    }
    reader.finish()
}
