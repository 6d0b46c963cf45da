//! What a batch has besides its lists: names, chain, times, opening, losses.

use super::archive::{ArchivedBatchV1, BatchV1, count32};
use super::varint::{Reader, put_u64, put_u128, zigzag128};
use super::{DecodeError, EncodeError};
use crate::batch::{Batch, BatchHash, Opening, Parent, ParentEnd, Span};
use crate::ids::{AgentId, BatchSeq, Incarnation, MeterName, TenantId};
use crate::limits::BATCH_LOSSES_MAX;
use crate::loss::{Loss, LossAmount, LossReason};
use crate::quantity::Quantity;
use crate::time::Timestamp;

/// Fewest bytes of a loss: reason, two lengths, amount and two times.
const LOSS_BYTES_MIN: usize = 6;
const EXACT: u8 = 0;
const AT_MOST: u8 = 1;
const UNKNOWN: u8 = 2;

/// The instant as it travels.
pub(super) const fn put_time(time: Timestamp) -> u64 {
    // Timestamps are never negative.
    time.millis().unsigned_abs()
}

/// An instant; what is outside the range of timestamps is refused, not moved into it,
/// because the hash covers it.
pub(super) fn read_time(millis: u64, what: &'static str) -> Result<Timestamp, DecodeError> {
    i64::try_from(millis)
        .map(Timestamp::from_millis)
        .ok()
        .filter(|time| put_time(*time) == millis)
        .ok_or(DecodeError::Range(what))
}

/// Reads the name of an agent.
pub(super) fn read_agent(bytes: &[u8]) -> Result<AgentId, DecodeError> {
    let name = std::str::from_utf8(bytes).map_err(|_| DecodeError::Column("agent"))?;
    Ok(AgentId::new(name)?)
}

/// Reads a sequence number.
pub(super) fn read_sequence(number: u64) -> Result<BatchSeq, DecodeError> {
    BatchSeq::new(number).ok_or(DecodeError::Range("sequence number 0"))
}

/// Reads the reason of a loss.
pub(super) fn read_reason(code: u8) -> Result<LossReason, DecodeError> {
    LossReason::from_code(code).ok_or(DecodeError::Range("reason of a loss"))
}

/// Writes everything but the rows and totals.
pub(super) fn encode(batch: &Batch, columns: &mut BatchV1) -> Result<(), EncodeError> {
    columns
        .agent
        .extend_from_slice(batch.agent.as_str().as_bytes());
    columns.incarnation = *batch.incarnation.as_bytes();
    columns.sequence = batch.sequence.get();
    columns.parent_hash = *batch.parent_hash.as_bytes();
    columns.span_from = put_time(batch.span.from);
    columns.span_to = put_time(batch.span.to);
    columns.watermark = put_time(batch.watermark);
    if let Some(opening) = &batch.opening {
        columns.opening = 1;
        if let Some(parent) = &opening.parent {
            columns.opening = 2;
            columns.parent_incarnation = *parent.incarnation.as_bytes();
            columns.parent_last_sequence = parent.last_sequence;
            columns.parent_last_hash = *parent.last_hash.as_bytes();
            if let ParentEnd::Unclean { reason, from, to } = parent.end {
                columns.parent_end = reason.code();
                columns.parent_from = put_time(from);
                columns.parent_to = put_time(to);
            }
        }
    }
    for loss in &batch.losses {
        put_loss(&mut columns.losses, loss)?;
    }
    columns.loss_count = count32(batch.losses.len());
    Ok(())
}

fn put_loss(column: &mut Vec<u8>, loss: &Loss) -> Result<(), EncodeError> {
    column.push(loss.reason.code());
    let names = [
        loss.tenant.as_ref().map_or("", TenantId::as_str),
        loss.meter.as_ref().map_or("", MeterName::as_str),
    ];
    for name in names {
        // Names are 1 to 128 bytes long; 0 stands for none.
        column.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        column.extend_from_slice(name.as_bytes());
    }
    let (code, quantity) = match loss.amount {
        LossAmount::Exact(quantity) => (EXACT, Some(quantity)),
        LossAmount::AtMost(quantity) => (AT_MOST, Some(quantity)),
        LossAmount::Unknown => (UNKNOWN, None),
    };
    column.push(code);
    if let Some(quantity) = quantity {
        if quantity.units() == i128::MIN {
            return Err(EncodeError::Range { what: "loss" });
        }
        put_u128(column, zigzag128(quantity.units()));
    }
    put_u64(column, put_time(loss.from));
    put_u64(column, put_time(loss.to));
    Ok(())
}

/// Reads everything but the rows and totals, which the result lacks.
pub(super) fn decode(archive: &ArchivedBatchV1) -> Result<Batch, DecodeError> {
    let time = |millis: &rkyv::rend::unaligned::u64_ule, what| read_time(millis.to_native(), what);
    Ok(Batch {
        agent: read_agent(&archive.agent)?,
        incarnation: Incarnation::from_bytes(archive.incarnation),
        sequence: read_sequence(archive.sequence.to_native())?,
        parent_hash: BatchHash::from_bytes(archive.parent_hash),
        span: Span {
            from: time(&archive.span_from, "start of the span")?,
            to: time(&archive.span_to, "end of the span")?,
        },
        watermark: time(&archive.watermark, "watermark")?,
        opening: read_opening(archive)?,
        is_final: false,
        rows: Vec::new(),
        totals: Vec::new(),
        losses: read_losses(archive)?,
        // In version 2 alone; the caller fills them in.
        steps: Vec::new(),
    })
}

fn read_opening(archive: &ArchivedBatchV1) -> Result<Option<Opening>, DecodeError> {
    let parent = match archive.opening {
        0 => return Ok(None),
        1 => None,
        2 => Some(read_parent(archive)?),
        _ => return Err(DecodeError::Range("opening")),
    };
    Ok(Some(Opening { parent }))
}

fn read_parent(archive: &ArchivedBatchV1) -> Result<Parent, DecodeError> {
    let end = match archive.parent_end {
        0 => ParentEnd::Final,
        code => ParentEnd::Unclean {
            reason: read_reason(code)?,
            from: read_time(archive.parent_from.to_native(), "end of the parent")?,
            to: read_time(archive.parent_to.to_native(), "end of the parent")?,
        },
    };
    Ok(Parent {
        incarnation: Incarnation::from_bytes(archive.parent_incarnation),
        last_sequence: archive.parent_last_sequence.to_native(),
        last_hash: BatchHash::from_bytes(archive.parent_last_hash),
        end,
    })
}

fn read_losses(archive: &ArchivedBatchV1) -> Result<Vec<Loss>, DecodeError> {
    let count = archive.loss_count.to_native() as usize;
    let possible = BATCH_LOSSES_MAX.min(archive.losses.len() / LOSS_BYTES_MIN);
    if count > possible {
        return Err(DecodeError::TooMany {
            what: "losses",
            count,
            max: possible,
        });
    }
    let mut reader = Reader::new("losses", &archive.losses);
    let mut losses = Vec::with_capacity(count);
    for _ in 0..count {
        losses.push(read_loss(&mut reader)?);
    }
    reader.finish()?;
    Ok(losses)
}

fn read_loss(reader: &mut Reader<'_>) -> Result<Loss, DecodeError> {
    let reason = read_reason(reader.byte()?)?;
    let tenant = match reader.text()? {
        "" => None,
        name => Some(TenantId::new(name)?),
    };
    let meter = match reader.text()? {
        "" => None,
        name => Some(MeterName::new(name)?),
    };
    let amount = match reader.byte()? {
        code @ (EXACT | AT_MOST) => {
            let units = reader.zigzag128()?;
            if units == i128::MIN {
                return Err(DecodeError::Range("amount of a loss"));
            }
            if code == EXACT {
                LossAmount::Exact(Quantity::new(units))
            } else {
                LossAmount::AtMost(Quantity::new(units))
            }
        }
        UNKNOWN => LossAmount::Unknown,
        _ => return Err(DecodeError::Range("amount of a loss")),
    };
    Ok(Loss {
        reason,
        tenant,
        meter,
        amount,
        from: read_time(reader.u64()?, "start of a loss")?,
        to: read_time(reader.u64()?, "end of a loss")?,
    })
}
