//! Running totals as columns: mostly guessed exactly, and then empty.

use super::archive::{ArchivedBatchV1, BatchV1, count32};
use super::definitions::{put_front_coded, read_front_coded};
use super::dictionary::Dictionary;
use super::varint::{Reader, SparseReader, elide_zeros, put_u128, zigzag128};
use super::{DecodeError, EncodeError};
use crate::batch::Total;
use crate::ids::{MeterName, TenantId};
use crate::limits::{BATCH_TOTALS_MAX, METER_BYTES_MAX, TENANT_BYTES_MAX};
use crate::meter::Scale;
use crate::quantity::Quantity;

/// Fewest bytes of a key: two lengths of the front coding, and the scale.
pub(super) const KEY_BYTES_MIN: usize = 3;
const KEY_BYTES_MAX: usize = 2 + TENANT_BYTES_MAX + METER_BYTES_MAX;

/// Writes the totals; true if their keys are those that the rows suggest and so are left out.
/// The rows must have been encoded.
pub(super) fn encode(
    totals: &[Total],
    dictionary: &mut Dictionary,
    columns: &mut BatchV1,
) -> Result<bool, EncodeError> {
    let same_key =
        |a: &Total, b: &Total| a.tenant == b.tenant && a.meter == b.meter && a.scale == b.scale;
    let as_expected = {
        let mut expected = dictionary.expected_totals();
        expected.len() == totals.len()
            && expected
                .by_ref()
                .zip(totals)
                .all(|((expected, _), total)| same_key(&expected, total))
    };
    let values = &mut columns.total_values;
    if as_expected {
        for ((_, guess), total) in dictionary.expected_totals().zip(totals) {
            put_difference(values, total.quantity, guess)?;
        }
    } else {
        let (mut key, mut before) = (Vec::new(), Vec::new());
        for total in totals {
            put_names(total, &mut key);
            put_front_coded(&mut columns.total_keys, &before, &key);
            columns.total_keys.push(total.scale.get());
            std::mem::swap(&mut key, &mut before);
            put_difference(values, total.quantity, dictionary.expected_total(total))?;
        }
    }
    elide_zeros(values);
    columns.total_count = count32(totals.len());
    dictionary.finish(totals, as_expected);
    Ok(as_expected)
}

/// Writes tenant and meter into `key`, in place of what is there.
pub(super) fn put_names(total: &Total, key: &mut Vec<u8>) {
    key.clear();
    for name in [total.tenant.as_str(), total.meter.as_str()] {
        // Names are at most 128 bytes long.
        key.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        key.extend_from_slice(name.as_bytes());
    }
}

/// Writes a total as the difference to what was guessed.
pub(super) fn put_difference(
    column: &mut Vec<u8>,
    quantity: Quantity,
    guess: i128,
) -> Result<(), EncodeError> {
    let quantity = quantity.units();
    if quantity == i128::MIN {
        return Err(EncodeError::Range { what: "total" });
    }
    put_u128(column, zigzag128(quantity.wrapping_sub(guess)));
    Ok(())
}

/// Reads the totals of a batch whose rows have been decoded.
pub(super) fn decode(
    archive: &ArchivedBatchV1,
    as_expected: bool,
    dictionary: &mut Dictionary,
) -> Result<Vec<Total>, DecodeError> {
    let count = archive.total_count.to_native() as usize;
    let mut values = SparseReader::new("total values", &archive.total_values);
    let mut totals: Vec<Total>;
    if as_expected {
        let expected = dictionary.expected_totals();
        if expected.len() != count || !archive.total_keys.is_empty() {
            return Err(DecodeError::Column("total keys"));
        }
        totals = Vec::with_capacity(count);
        for (mut total, guess) in expected {
            total.quantity = read_quantity(&mut values, guess)?;
            totals.push(total);
        }
    } else {
        let possible = BATCH_TOTALS_MAX.min(archive.total_keys.len() / KEY_BYTES_MIN);
        if count > possible {
            return Err(DecodeError::TooMany {
                what: "totals",
                count,
                max: possible,
            });
        }
        totals = Vec::with_capacity(count);
        let mut keys = Reader::new("total keys", &archive.total_keys);
        let mut key = Vec::new();
        for _ in 0..count {
            let mut total = read_key(&mut keys, &mut key)?;
            let guess = dictionary.expected_total(&total);
            total.quantity = read_quantity(&mut values, guess)?;
            totals.push(total);
        }
        keys.finish()?;
    }
    values.finish()?;
    dictionary.finish(&totals, as_expected);
    Ok(totals)
}

pub(super) fn read_quantity(
    values: &mut SparseReader<'_>,
    guess: i128,
) -> Result<Quantity, DecodeError> {
    match guess.wrapping_add(values.zigzag128()?) {
        i128::MIN => Err(DecodeError::Range("total")),
        units => Ok(Quantity::new(units)),
    }
}

/// Reads tenant, meter and scale of the next total. `key` holds the names of the one before.
pub(super) fn read_key(keys: &mut Reader<'_>, key: &mut Vec<u8>) -> Result<Total, DecodeError> {
    read_front_coded(keys, key, KEY_BYTES_MAX)?;
    let mut names = Reader::new("total keys", key);
    let tenant = TenantId::new(names.text()?)?;
    let meter = MeterName::new(names.text()?)?;
    names.finish()?;
    Ok(Total {
        tenant,
        meter,
        scale: Scale::new(keys.byte()?).map_err(|_| DecodeError::Range("scale of a total"))?,
        quantity: Quantity::ZERO,
    })
}
