//! Variable-length integers, and the reader that takes them from a column.
//!
//! LEB128: seven bits per byte, lowest first, the high bit set on all but the last byte.
//! Signed numbers are zigzag-coded first. Only the shortest form is valid, so that every
//! number has one encoding.

use super::DecodeError;

/// Appends `value`; 1 to 10 bytes.
pub(super) fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Appends `value`; 1 to 19 bytes.
pub(super) fn put_u128(out: &mut Vec<u8>, mut value: u128) {
    while value > u128::from(u64::MAX) {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    // What is left fits: the loop ends with at most 64 bits.
    put_u64(out, u64::try_from(value).unwrap_or(u64::MAX));
}

/// Maps small magnitudes of either sign to small numbers.
pub(super) const fn zigzag64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// Undoes [`zigzag64`].
pub(super) const fn unzigzag64(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// Maps small magnitudes of either sign to small numbers.
pub(super) const fn zigzag128(value: i128) -> u128 {
    ((value << 1) ^ (value >> 127)).cast_unsigned()
}

/// Undoes [`zigzag128`].
pub(super) const fn unzigzag128(value: u128) -> i128 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// Reads a column from front to back. Its errors name the column.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { bytes, what }
    }

    pub(super) const fn malformed(&self) -> DecodeError {
        DecodeError::Column(self.what)
    }

    pub(super) fn byte(&mut self) -> Result<u8, DecodeError> {
        let (&first, rest) = self.bytes.split_first().ok_or(self.malformed())?;
        self.bytes = rest;
        Ok(first)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(length)
            .ok_or(self.malformed())?;
        self.bytes = rest;
        Ok(taken)
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        let mut shift = 7;
        loop {
            let byte = self.byte()?;
            // The tenth byte holds the one bit that is left of 64.
            if shift == 63 && byte > 1 {
                return Err(self.malformed());
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return if byte == 0 {
                    Err(self.malformed())
                } else {
                    Ok(value)
                };
            }
            shift += 7;
        }
    }

    pub(super) fn u128(&mut self) -> Result<u128, DecodeError> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(first.into());
        }
        // Nine groups fit a word, and hardly any number has more.
        let mut low = u64::from(first & 0x7f);
        let mut shift = 7;
        while shift < 63 {
            let byte = self.byte()?;
            low |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return if byte == 0 {
                    Err(self.malformed())
                } else {
                    Ok(low.into())
                };
            }
            shift += 7;
        }
        let mut value = u128::from(low);
        loop {
            let byte = self.byte()?;
            // The nineteenth byte holds the two bits that are left of 128.
            if shift == 126 && byte > 3 {
                return Err(self.malformed());
            }
            value |= u128::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return if byte == 0 {
                    Err(self.malformed())
                } else {
                    Ok(value)
                };
            }
            shift += 7;
        }
    }

    pub(super) fn zigzag64(&mut self) -> Result<i64, DecodeError> {
        self.u64().map(unzigzag64)
    }

    pub(super) fn zigzag128(&mut self) -> Result<i128, DecodeError> {
        self.u128().map(unzigzag128)
    }

    /// A text with its length before it in one byte.
    pub(super) fn text(&mut self) -> Result<&'a str, DecodeError> {
        let length = self.byte()?;
        let bytes = self.take(usize::from(length))?;
        std::str::from_utf8(bytes).map_err(|_| self.malformed())
    }

    /// A number that counts or indexes something in memory.
    pub(super) fn index(&mut self) -> Result<usize, DecodeError> {
        usize::try_from(self.u64()?).map_err(|_| self.malformed())
    }

    /// Refuses what is left over.
    pub(super) const fn finish(&self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(self.malformed())
        }
    }
}

/// Reads a column that is left out when all of its numbers are zero.
pub(super) struct SparseReader<'a>(Option<Reader<'a>>);

impl<'a> SparseReader<'a> {
    pub(super) const fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        if bytes.is_empty() {
            Self(None)
        } else {
            Self(Some(Reader::new(what, bytes)))
        }
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.0.as_mut().map_or(Ok(0), Reader::u64)
    }

    pub(super) fn zigzag128(&mut self) -> Result<i128, DecodeError> {
        self.0.as_mut().map_or(Ok(0), Reader::zigzag128)
    }

    pub(super) fn finish(&self) -> Result<(), DecodeError> {
        self.0.as_ref().map_or(Ok(()), Reader::finish)
    }
}

/// Empties a column in which every number is zero.
pub(super) fn elide_zeros(column: &mut Vec<u8>) {
    if column.iter().all(|&byte| byte == 0) {
        column.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_round_trip(small in any::<u64>(), large in any::<i128>(), shift in 0u32..128) {
            let small = small >> (shift % 64);
            let large = large >> shift;
            let mut column = Vec::new();
            put_u64(&mut column, small);
            put_u128(&mut column, zigzag128(large));
            put_u64(&mut column, zigzag64(small.cast_signed()));
            let mut reader = Reader::new("numbers", &column);
            prop_assert_eq!(reader.u64(), Ok(small));
            prop_assert_eq!(reader.zigzag128(), Ok(large));
            prop_assert_eq!(reader.zigzag64(), Ok(small.cast_signed()));
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn every_number_has_one_form(bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
            let mut reader = Reader::new("numbers", &bytes);
            if let Ok(value) = reader.u128() {
                let mut again = Vec::new();
                put_u128(&mut again, value);
                prop_assert_eq!(&again[..], &bytes[..bytes.len() - reader.bytes.len()]);
            }
            let mut reader = Reader::new("numbers", &bytes);
            if let Ok(value) = reader.u64() {
                let mut again = Vec::new();
                put_u64(&mut again, value);
                prop_assert_eq!(&again[..], &bytes[..bytes.len() - reader.bytes.len()]);
            }
        }
    }

    #[test]
    fn the_ends_of_the_range_fit() {
        let mut column = Vec::new();
        put_u128(&mut column, u128::MAX);
        put_u64(&mut column, u64::MAX);
        assert_eq!(column.len(), 19 + 10);
        let mut reader = Reader::new("numbers", &column);
        assert_eq!(reader.u128(), Ok(u128::MAX));
        assert_eq!(reader.u64(), Ok(u64::MAX));
        assert!(reader.byte().is_err());
    }
}
