//! Numbers and bytes packed for a state that holds millions of them.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Appends a number in groups of seven bits, the lowest first; the highest bit of a byte says that
/// another follows.
pub(super) fn put_u128(out: &mut Vec<u8>, number: u128) {
    // Nearly all numbers are short.
    let mut number = match u64::try_from(number) {
        Ok(short) => return put_u64(out, short),
        Err(_) => number,
    };
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

fn put_u64(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7f) as u8);
}

/// Appends a number with its sign in the lowest bit, so that small ones of either sign are short.
pub(super) fn put_i128(out: &mut Vec<u8>, number: i128) {
    put_u128(
        out,
        (number.cast_unsigned() << 1) ^ (number >> 127).cast_unsigned(),
    );
}

/// Appends bytes with their number before them.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u128(out, bytes.len() as u128);
    out.extend_from_slice(bytes);
}

/// Reads what the functions above wrote; `None` where the bytes end early or say too much.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unpack<'a>(pub(super) &'a [u8]);

impl<'a> Unpack<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn u128(&mut self) -> Option<u128> {
        let mut number = 0u128;
        for shift in (0..=126).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u128::from(byte & 0x7f);
            if shift == 126 && bits > 3 {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn i128(&mut self) -> Option<i128> {
        let number = self.u128()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.u128()?.try_into().ok()
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u128()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
}

/// Bytes that stand in a snapshot as they are.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Packed(pub(super) Box<[u8]>);

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packed({} bytes)", self.0.len())
    }
}

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Packed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Packed, E> {
                Ok(Packed(bytes.into()))
            }

            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Packed, E> {
                Ok(Packed(bytes.into()))
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}

/// Low and high half of sixteen bytes, as little-endian numbers.
pub(super) fn halves(bytes: [u8; 16]) -> [u64; 2] {
    let (halves, _) = bytes.as_chunks::<8>();
    [u64::from_le_bytes(halves[0]), u64::from_le_bytes(halves[1])]
}

/// Makes room for `more` elements, growing by a quarter: with millions of elements the usual
/// doubling would leave as much again unused.
pub(super) fn reserve<T>(vec: &mut Vec<T>, more: usize) {
    if vec.capacity() - vec.len() < more {
        vec.reserve_exact(Ord::max(more, vec.len() / 4));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_and_bytes_read_back(number: i128, count: u128, bytes: Vec<u8>) {
            let mut out = Vec::new();
            put_i128(&mut out, number);
            put_u128(&mut out, count);
            put_bytes(&mut out, &bytes);
            let mut reader = Unpack(&out);
            prop_assert_eq!(reader.i128(), Some(number));
            prop_assert_eq!(reader.u128(), Some(count));
            prop_assert_eq!(reader.bytes(), Some(&bytes[..]));
            prop_assert!(reader.is_empty());
            prop_assert_eq!(reader.u128(), None);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let mut reader = Unpack(&bytes);
            while reader.i128().is_some() || reader.bytes().is_some() {}
        }
    }
}
