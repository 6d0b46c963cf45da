//! The canonical bytes of sketches: what batch hashes and stored states contain.

use super::{Histogram, REGISTERS, SketchError, UniqueSketch};

impl Histogram {
    /// Bytes of the canonical form.
    pub fn canonical_len(&self) -> usize {
        4 + 12 * self.buckets().len()
    }

    /// Appends the canonical form: the number of buckets as `u32`, then each bucket as `u32`
    /// and its count as `u64`, by bucket; all little-endian.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most BUCKETS, which fits u32"
    )]
    pub fn write_canonical(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.buckets().len() as u32).to_le_bytes());
        for (bucket, count) in self.buckets() {
            out.extend_from_slice(&bucket.to_le_bytes());
            out.extend_from_slice(&count.to_le_bytes());
        }
    }

    /// Reads exactly one canonical form.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, SketchError> {
        let (count, rest) = split_count(bytes)?;
        let (entries, []) = rest.as_chunks::<12>() else {
            return Err(SketchError::Malformed(bytes.len()));
        };
        if entries.len() != count {
            return Err(SketchError::Malformed(bytes.len()));
        }
        let entry = |bytes: &[u8; 12]| {
            let [b0, b1, b2, b3, count @ ..] = *bytes;
            (
                u32::from_le_bytes([b0, b1, b2, b3]),
                u64::from_le_bytes(count),
            )
        };
        Self::from_buckets(entries.iter().map(entry).collect())
    }
}

/// The number that stands for registers where the number of hashes would be.
const REGISTERS_FOLLOW: usize = u32::MAX as usize;

impl UniqueSketch {
    /// Bytes of the canonical form.
    pub fn canonical_len(&self) -> usize {
        4 + self.hashes().map_or(REGISTERS, |hashes| 8 * hashes.len())
    }

    /// Appends the canonical form: the number of hashes as `u32` and each hash as `u64`,
    /// sorted, little-endian; or `u32::MAX` and the 4,096 registers, a byte each.
    #[expect(clippy::cast_possible_truncation, reason = "at most EXACT_MAX hashes")]
    pub fn write_canonical(&self, out: &mut Vec<u8>) {
        if let Some(hashes) = self.hashes() {
            out.extend_from_slice(&(hashes.len() as u32).to_le_bytes());
            for hash in hashes {
                out.extend_from_slice(&hash.to_le_bytes());
            }
        }
        if let Some(registers) = self.registers() {
            out.extend_from_slice(&u32::MAX.to_le_bytes());
            out.extend_from_slice(registers);
        }
    }

    /// Reads exactly one canonical form.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, SketchError> {
        let (count, rest) = split_count(bytes)?;
        let malformed = SketchError::Malformed(bytes.len());
        if count == REGISTERS_FOLLOW {
            let registers: &[u8; REGISTERS] = rest.try_into().map_err(|_| malformed)?;
            return Self::from_registers(Box::new(*registers));
        }
        let (hashes, []) = rest.as_chunks::<8>() else {
            return Err(malformed);
        };
        if hashes.len() != count {
            return Err(malformed);
        }
        Self::from_hashes(
            hashes
                .iter()
                .map(|hash| u64::from_le_bytes(*hash))
                .collect(),
        )
    }
}

fn split_count(bytes: &[u8]) -> Result<(usize, &[u8]), SketchError> {
    let (count, rest) = bytes
        .split_first_chunk::<4>()
        .ok_or(SketchError::Malformed(bytes.len()))?;
    Ok((u32::from_le_bytes(*count) as usize, rest))
}
