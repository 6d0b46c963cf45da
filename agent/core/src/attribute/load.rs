//! Bytes in words: hashing and comparing keys sixteen bytes at a time.
//!
//! A key is read in whole words, past its end where it is short; what is too much is masked.
//! That needs [`SLACK_BYTES`] readable bytes behind it, which every function here checks once
//! for the whole key, so that the loops need no check for each word.

#![expect(
    clippy::inline_always,
    reason = "a key is a few words, and a call costs as much as comparing it"
)]

use super::SLACK_BYTES;

/// True if `len` bytes at `at` and the slack behind them are inside; the sum of 32-bit numbers
/// does not overflow.
#[inline(always)]
fn inside(bytes: &[u8], at: u32, len: u32) -> bool {
    u64::from(at) + u64::from(len) + SLACK_BYTES as u64 <= bytes.len() as u64
}

/// The word at a place.
///
/// # Safety
///
/// Eight bytes are readable from `place` on.
#[inline(always)]
#[expect(unsafe_code, reason = "checked once for a whole key, see `inside`")]
unsafe fn word_at(place: *const u8) -> u64 {
    // SAFETY: as the caller promises; an array of bytes needs no alignment.
    u64::from_le_bytes(unsafe { place.cast::<[u8; 8]>().read() })
}

/// # Safety
///
/// Sixteen bytes are readable from both places on.
#[inline(always)]
#[expect(unsafe_code, reason = "checked once for a whole key, see `inside`")]
unsafe fn sixteen_equal(one: *const u8, two: *const u8) -> bool {
    // SAFETY: as the caller promises; an array of bytes needs no alignment.
    let [one, two] = unsafe { [one, two].map(|place| place.cast::<[u8; 16]>().read()) };
    one == two
}

/// The first bytes of a word that count, of which there are fewer than eight.
#[inline(always)]
fn low(word: u64, bytes: u32) -> u64 {
    word & !(u64::MAX << ((bytes & 7) * 8))
}

/// The word at `at`; zero where the slack behind it is missing.
#[inline(always)]
#[expect(unsafe_code, reason = "a load that was checked")]
pub(crate) fn word(bytes: &[u8], at: u32) -> u64 {
    if inside(bytes, at, 0) {
        // SAFETY: sixteen bytes are there.
        unsafe { word_at(bytes.as_ptr().add(at as usize)) }
    } else {
        0
    }
}

/// The two words at `at`; `None` where they are not there.
#[inline(always)]
#[expect(unsafe_code, reason = "loads that were checked")]
pub(super) fn two_words(bytes: &[u8], at: u32) -> Option<(u64, u64)> {
    if !inside(bytes, at, 0) {
        return None;
    }
    // SAFETY: sixteen bytes are there.
    unsafe {
        let place = bytes.as_ptr().add(at as usize);
        Some((word_at(place), word_at(place.add(8))))
    }
}

/// Mixes two words into one: the high and the low half of their product.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the halves of a product")]
pub(super) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Mixes `len` bytes at `at` into a hash. The length has to be in the hash already.
///
/// # Panics
///
/// If the bytes or the slack behind them are not there.
#[inline(always)]
#[expect(unsafe_code, reason = "loads that were checked")]
pub(super) fn absorb(mut hash: u64, secret: u64, bytes: &[u8], at: u32, len: u32) -> u64 {
    assert!(inside(bytes, at, len), "a key has slack behind it");
    // SAFETY: every load begins within the key, or at its start where it is short, and ends
    // within the sixteen bytes behind it at most.
    unsafe {
        let mut place = bytes.as_ptr().add(at as usize);
        let end = place.add(len as usize);
        if len >= 16 {
            // The last sixteen, of which some are taken a second time.
            let last = end.sub(16);
            while place < last {
                hash = fold(word_at(place) ^ hash, word_at(place.add(8)) ^ secret);
                place = place.add(16);
            }
            return fold(word_at(last) ^ hash, word_at(last.add(8)) ^ secret);
        }
        let (a, b) = if len >= 8 {
            (word_at(place), word_at(end.sub(8)))
        } else {
            (low(word_at(place), len), 0)
        };
        fold(a ^ hash, b ^ secret)
    }
}

/// `len` bytes of `left` at `at` equal those of `right` at `other`.
///
/// # Panics
///
/// If the bytes or the slack behind them are not there.
#[inline(always)]
#[expect(unsafe_code, reason = "loads that were checked")]
pub(super) fn equal(left: &[u8], at: u32, right: &[u8], other: u32, len: u32) -> bool {
    assert!(
        inside(left, at, len) && inside(right, other, len),
        "a key has slack behind it"
    );
    // SAFETY: as in `absorb`, on both sides.
    unsafe {
        let mut one = left.as_ptr().add(at as usize);
        let mut two = right.as_ptr().add(other as usize);
        let (one_end, two_end) = (one.add(len as usize), two.add(len as usize));
        if len >= 16 {
            let last = one_end.sub(16);
            while one < last {
                if !sixteen_equal(one, two) {
                    return false;
                }
                (one, two) = (one.add(16), two.add(16));
            }
            return sixteen_equal(last, two_end.sub(16));
        }
        let differ = word_at(one) ^ word_at(two);
        if len >= 8 {
            (differ | (word_at(one_end.sub(8)) ^ word_at(two_end.sub(8)))) == 0
        } else {
            low(differ, len) == 0
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_are_equal_byte_by_byte(
            key in proptest::collection::vec(any::<u8>(), 0..70),
            behind in any::<[u8; 2 * SLACK_BYTES]>(),
            changed in any::<usize>(),
        ) {
            let length = u32::try_from(key.len()).expect("short");
            let (left, right) = behind.split_at(SLACK_BYTES);
            let one = [b"..", &key[..], left].concat();
            let mut two = [b".", &key[..], right].concat();
            prop_assert!(equal(&one, 2, &two, 1, length));
            let hash = |bytes: &[u8], at| absorb(7, 0x9e37_79b9_7f4a_7c15, bytes, at, length);
            prop_assert_eq!(hash(&one, 2), hash(&two, 1));
            if let Some(at) = changed.checked_rem(key.len()) {
                two[1 + at] ^= 1;
                prop_assert!(!equal(&one, 2, &two, 1, length));
                prop_assert_ne!(hash(&one, 2), hash(&two, 1));
            }
        }
    }

    #[test]
    fn nothing_is_read_beyond_the_slack() {
        let bytes = [1; 31];
        assert_eq!(
            two_words(&bytes, 15),
            Some((0x0101_0101_0101_0101, 0x0101_0101_0101_0101))
        );
        assert_eq!((two_words(&bytes, 16), word(&bytes, 16)), (None, 0));
        assert_eq!((two_words(&bytes, u32::MAX), word(&[], 0)), (None, 0));
    }

    #[test]
    #[should_panic(expected = "slack")]
    fn a_key_without_slack_is_refused() {
        equal(&[0; 40], 0, &[0; 39], 0, 24);
    }
}
