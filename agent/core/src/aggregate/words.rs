//! Bytes in words: how text, hashes and checksums lie in a region of `AtomicU64`.
//!
//! Bytes are packed eight to a word, the first byte in the lowest bits, so that on a
//! little-endian host they are contiguous in the file. All accesses here are relaxed; who
//! publishes what was written orders it with a release store of its own.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, Ordering};

/// Stores to a region. Tests may look at the region after every single one, to see what a
/// process leaves behind that is killed there.
pub(crate) trait Put {
    /// Stores a word.
    fn put(&self, value: u64, order: Ordering);
}

impl Put for AtomicU64 {
    #[inline]
    fn put(&self, value: u64, order: Ordering) {
        self.store(value, order);
        #[cfg(test)]
        probe::stored();
    }
}

/// What is done after every store of this thread to a region.
#[cfg(test)]
pub(crate) mod probe {
    use std::cell::RefCell;

    type Look = Box<dyn FnMut()>;

    thread_local! {
        static LOOK: RefCell<Option<Look>> = const { RefCell::new(None) };
    }

    /// Calls `look` after every store that `run` makes, but not after those of `look` itself.
    pub(crate) fn watch<T>(look: impl FnMut() + 'static, run: impl FnOnce() -> T) -> T {
        LOOK.set(Some(Box::new(look)));
        let result = run();
        LOOK.set(None);
        result
    }

    /// Something was stored.
    pub(crate) fn stored() {
        if let Some(mut look) = LOOK.take() {
            look();
            LOOK.set(Some(look));
        }
    }
}

/// Words needed for `bytes` bytes.
pub(crate) const fn words_for(bytes: usize) -> usize {
    bytes.div_ceil(8)
}

/// Packs `bytes` into `out`, the rest of the last word zero.
pub(crate) fn pack(bytes: &[u8], out: &mut Vec<u64>) {
    out.extend(bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    }));
}

/// Writes `bytes` at the start of `words`, which must be long enough.
pub(crate) fn put_bytes(words: &[AtomicU64], bytes: &[u8]) {
    let mut packed = Vec::with_capacity(words_for(bytes.len()));
    pack(bytes, &mut packed);
    for (word, value) in words[..packed.len()].iter().zip(packed) {
        word.put(value, Relaxed);
    }
}

/// Reads `length` bytes from the start of `words`, which must be long enough.
pub(crate) fn get_bytes(words: &[AtomicU64], length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = words[..words_for(length)]
        .iter()
        .flat_map(|word| word.load(Relaxed).to_le_bytes())
        .collect();
    bytes.truncate(length);
    bytes
}

/// Reads `length` bytes from the start of `words`, which must be long enough, into `bytes`.
#[inline]
pub(crate) fn read_bytes(words: &[AtomicU64], length: usize, bytes: &mut Vec<u8>) {
    // What is there is overwritten, and need not be cleared before.
    bytes.resize(words_for(length) * 8, 0);
    copy_bytes(words, bytes);
    bytes.truncate(length);
}

/// The same, behind the bytes that are there.
pub(crate) fn append_bytes(words: &[AtomicU64], length: usize, bytes: &mut Vec<u8>) {
    let before = bytes.len();
    bytes.resize(before + words_for(length) * 8, 0);
    copy_bytes(words, &mut bytes[before..]);
    bytes.truncate(before + length);
}

/// Fills `bytes`, whose number is a multiple of eight, from the start of `words`.
#[inline]
fn copy_bytes(words: &[AtomicU64], bytes: &mut [u8]) {
    let words = &words[..bytes.len() / 8];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.load(Relaxed).to_le_bytes());
    }
}

/// Reads `N` bytes from the start of `words`; `N` is a multiple of eight.
pub(crate) fn get_array<const N: usize>(words: &[AtomicU64]) -> [u8; N] {
    let mut out = [0; N];
    for (chunk, word) in out.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.load(Relaxed).to_le_bytes());
    }
    out
}

/// CRC-32C of bytes.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
    u32::try_from(crc).expect("a 32-bit checksum fits 32 bits")
}

/// CRC-32C of words, each as eight little-endian bytes.
pub(crate) fn crc32c_words(words: &[AtomicU64]) -> u32 {
    crc32c(&get_bytes(words, words.len() * 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_trip() {
        let words: Vec<AtomicU64> = (0..4).map(|_| AtomicU64::new(u64::MAX)).collect();
        put_bytes(&words, b"tollgate cells");
        assert_eq!(get_bytes(&words, 14), b"tollgate cells");
        assert_eq!(words[2].load(Relaxed), u64::MAX);
        assert_eq!(get_array::<8>(&words), *b"tollgate");
    }

    #[test]
    fn checksum_is_castagnoli() {
        // The check value of CRC-32/ISCSI in the catalogue of parametrised CRC algorithms.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
