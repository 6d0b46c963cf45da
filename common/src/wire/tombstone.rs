//! Tombstones; in version 2 with what is remembered of the lost batch's incarnation.

use super::archive::{
    self, ArchivedTombstoneV1, ArchivedTombstoneV2, TombstoneV1, TombstoneV2, count32,
};
use super::definitions::put_front_coded;
use super::head::{put_time, read_agent, read_reason, read_sequence, read_time};
use super::totals::{KEY_BYTES_MIN, put_difference, put_names, read_key, read_quantity};
use super::varint::{Reader, SparseReader, elide_zeros};
use super::{DecodeError, EncodeError, FrameVersion};
use crate::batch::{Remembered, Tombstone};
use crate::ids::Incarnation;
use crate::limits::TOMBSTONE_TOTALS_MAX;

const FLAG_FINAL: u8 = 1;
const FLAG_COMPLETE: u8 = 2;

/// Writes a tombstone in the oldest version that says what it says, and not above `newest`: what
/// a peer does not understand is left out for it, and the loss stays unknown for longer.
pub(super) fn encode(
    tombstone: &Tombstone,
    newest: FrameVersion,
    raw: &mut Vec<u8>,
) -> Result<FrameVersion, EncodeError> {
    let base = TombstoneV1 {
        agent: tombstone.agent.as_str().as_bytes().to_vec(),
        incarnation: *tombstone.incarnation.as_bytes(),
        sequence: tombstone.sequence.get(),
        reason: tombstone.reason.code(),
    };
    let remembered = tombstone.remembered.as_deref();
    let Some(remembered) = remembered.filter(|_| newest >= FrameVersion::V2) else {
        archive::write(&base, raw)?;
        return Ok(FrameVersion::V1);
    };
    remembered.validate()?;
    let mut flags = 0;
    if remembered.is_final {
        flags |= FLAG_FINAL;
    }
    if remembered.is_complete {
        flags |= FLAG_COMPLETE;
    }
    let mut archived = TombstoneV2 {
        base,
        cut: put_time(remembered.cut),
        watermark: put_time(remembered.watermark),
        flags,
        total_count: count32(remembered.totals.len()),
        total_keys: Vec::new(),
        total_values: Vec::new(),
    };
    let (mut names, mut before) = (Vec::new(), Vec::new());
    for total in &remembered.totals {
        put_names(total, &mut names);
        put_front_coded(&mut archived.total_keys, &before, &names);
        archived.total_keys.push(total.scale.get());
        std::mem::swap(&mut names, &mut before);
        put_difference(&mut archived.total_values, total.quantity, 0)?;
    }
    elide_zeros(&mut archived.total_values);
    archive::write(&archived, raw)?;
    Ok(FrameVersion::V2)
}

/// Reads a tombstone.
pub(super) fn decode(version: FrameVersion, raw: &[u8]) -> Result<Tombstone, DecodeError> {
    match version {
        FrameVersion::V1 => read(archive::access("tombstone", raw)?, None),
        FrameVersion::V2 => {
            let archived: &ArchivedTombstoneV2 = archive::access("tombstone", raw)?;
            let remembered = read_remembered(archived)?;
            read(&archived.base, Some(Box::new(remembered)))
        }
    }
}

fn read(
    archived: &ArchivedTombstoneV1,
    remembered: Option<Box<Remembered>>,
) -> Result<Tombstone, DecodeError> {
    Ok(Tombstone {
        agent: read_agent(&archived.agent)?,
        incarnation: Incarnation::from_bytes(archived.incarnation),
        sequence: read_sequence(archived.sequence.to_native())?,
        reason: read_reason(archived.reason)?,
        remembered,
    })
}

fn read_remembered(archived: &ArchivedTombstoneV2) -> Result<Remembered, DecodeError> {
    let flags = archived.flags;
    if flags & !(FLAG_FINAL | FLAG_COMPLETE) != 0 {
        return Err(DecodeError::Flags(flags));
    }
    let count = archived.total_count.to_native() as usize;
    let possible = TOMBSTONE_TOTALS_MAX.min(archived.total_keys.len() / KEY_BYTES_MIN);
    if count > possible {
        return Err(DecodeError::TooMany {
            what: "totals",
            count,
            max: possible,
        });
    }
    let mut keys = Reader::new("total keys", &archived.total_keys);
    let mut values = SparseReader::new("total values", &archived.total_values);
    let mut totals = Vec::with_capacity(count);
    let mut names = Vec::new();
    for _ in 0..count {
        let mut total = read_key(&mut keys, &mut names)?;
        total.quantity = read_quantity(&mut values, 0)?;
        totals.push(total);
    }
    keys.finish()?;
    values.finish()?;
    let remembered = Remembered {
        cut: read_time(archived.cut.to_native(), "cut of a tombstone")?,
        watermark: read_time(archived.watermark.to_native(), "watermark of a tombstone")?,
        is_final: flags & FLAG_FINAL != 0,
        is_complete: flags & FLAG_COMPLETE != 0,
        totals,
    };
    remembered.validate()?;
    Ok(remembered)
}
