//! The page: the memory that an application counts in and an agent reads.
//!
//! One sealed memory file per process, an array of 64-bit words that only grows in use: a
//! header, a directory of slots, and an arena with the keys and cells that slots point to.
//! `docs/formats/page.md` has every word. This module holds the places and the checksum; it
//! touches no operating system, so that the agent's core reads pages with it, and trusts
//! nothing that it finds there.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

mod read;

pub use read::{PageError, PageReader, PageSlot};

/// `TGPAGE01`, read as a little-endian word; another byte order or another file differs.
pub const MAGIC: u64 = u64::from_le_bytes(*b"TGPAGE01");
/// Version of the layout.
pub const VERSION: u64 = 1;

/// Where the header's words are.
pub mod at {
    /// Magic.
    pub const MAGIC: usize = 0;
    /// Version.
    pub const VERSION: usize = 1;
    /// Words of the page.
    pub const WORDS: usize = 2;
    /// Slots that the directory has room for.
    pub const SLOTS_MAX: usize = 3;
    /// Random name of the page, two words.
    pub const ID: usize = 4;
    /// When it was made, in milliseconds since 1970.
    pub const CREATED: usize = 6;
    /// Checksum over the words before.
    pub const CHECKSUM: usize = 7;
    /// The mirror that the page was handed to; 0 for none yet.
    pub const HOME: usize = 8;
    /// Published slots.
    pub const COUNT: usize = 9;
    /// Events that found no room.
    pub const DROPPED: usize = 10;
    /// Series that lost their dimensions for want of room.
    pub const OVERFLOWED: usize = 11;
    /// Width of windows in seconds, as the agent said; 0 before that.
    pub const WINDOW: usize = 12;
    /// First word of the directory.
    pub const DIRECTORY: usize = 64;
}

/// Words of a slot.
pub const SLOT_WORDS: usize = 4;
/// Smallest page in bytes.
pub const PAGE_BYTES_MIN: u64 = 64 << 10;
/// Largest page in bytes.
pub const PAGE_BYTES_MAX: u64 = 1 << 30;
/// Words of a page for each slot of its directory.
const WORDS_PER_SLOT: usize = 64;

/// The most that one count may add. Between two looks of an agent, counters move by less than
/// half of their range, unless more than a hundred of the largest counts come at once; only
/// so it can tell a counter that runs on from one that runs backwards.
pub const ADD_MAX: u64 = (1 << 56) - 1;

/// The sizes of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLayout {
    words: usize,
    slots_max: u32,
}

impl PageLayout {
    /// The layout of a page of about `bytes` bytes, which is brought into range and rounded
    /// up to whole pages of memory.
    #[must_use]
    pub fn for_bytes(bytes: u64) -> Self {
        let bytes = bytes
            .clamp(PAGE_BYTES_MIN, PAGE_BYTES_MAX)
            .next_multiple_of(4096);
        let words = usize::try_from(bytes / 8).unwrap_or(1 << 13);
        Self {
            words,
            slots_max: u32::try_from(words / WORDS_PER_SLOT).unwrap_or(1),
        }
    }

    /// The layout that a header claims, if it can be true of a file of `words` words.
    #[must_use]
    pub fn claimed(words: usize, claimed_words: u64, claimed_slots: u64) -> Option<Self> {
        let slots_max = u32::try_from(claimed_slots).ok()?;
        let layout = Self { words, slots_max };
        let fits = usize::try_from(claimed_words) == Ok(words)
            && words >= at::DIRECTORY
            && slots_max >= 1
            // What is kept of each slot outside is bounded by the size of the page, too.
            && slots_max as usize <= words / WORDS_PER_SLOT
            && layout.arena() < words;
        fits.then_some(layout)
    }

    /// Words of the page.
    #[must_use]
    pub const fn words(self) -> usize {
        self.words
    }

    /// Bytes of the page.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.words as u64 * 8
    }

    /// Slots that the directory has room for.
    #[must_use]
    pub const fn slots_max(self) -> u32 {
        self.slots_max
    }

    /// First word of a slot, which must be below [`Self::slots_max`].
    #[must_use]
    pub const fn slot(self, slot: u32) -> usize {
        at::DIRECTORY + slot as usize * SLOT_WORDS
    }

    /// First word of the arena.
    #[must_use]
    pub const fn arena(self) -> usize {
        self.slot(self.slots_max).next_multiple_of(8)
    }
}

/// The words of a slot: where key and cell are, what the cell counts, whose block it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotWords {
    /// First word of the key.
    pub key_at: u32,
    /// Bytes of the key.
    pub key_bytes: u32,
    /// First word of the cell.
    pub cell_at: u32,
    /// Words of the cell.
    pub cell_words: u32,
    /// Code of the aggregation.
    pub aggregation: u8,
    /// Scale of the meter.
    pub scale: u8,
}

impl SlotWords {
    /// The slot's words without its checksum.
    #[must_use]
    pub fn to_words(self) -> [u64; 3] {
        [
            u64::from(self.key_at) << 32 | u64::from(self.key_bytes),
            u64::from(self.cell_at) << 32 | u64::from(self.cell_words),
            u64::from(self.aggregation) << 8 | u64::from(self.scale),
        ]
    }

    /// Reads a slot's words, whatever they hold. The last word of a slot has the checksum.
    #[must_use]
    pub fn from_words(words: [u64; 3]) -> Option<Self> {
        let [key, cell, kind] = words;
        Some(Self {
            key_at: high(key),
            key_bytes: low(key),
            cell_at: high(cell),
            cell_words: low(cell),
            aggregation: u8::try_from(kind >> 8).ok()?,
            scale: (kind & 0xff).to_le_bytes()[0],
        })
    }

    /// The checksum of a slot with this key.
    #[must_use]
    pub fn checksum(self, key: &[u8]) -> u64 {
        let mut crc = Crc::new();
        for word in self.to_words() {
            crc.add(&word.to_le_bytes());
        }
        crc.add(key);
        u64::from(crc.finish())
    }
}

fn high(word: u64) -> u32 {
    u32::try_from(word >> 32).unwrap_or(u32::MAX)
}

fn low(word: u64) -> u32 {
    u32::try_from(word & 0xffff_ffff).unwrap_or(u32::MAX)
}

/// The checksum of a header, over the words that never change.
#[must_use]
pub fn header_checksum(words: &[AtomicU64]) -> u64 {
    let mut crc = Crc::new();
    for word in words.iter().take(at::CHECKSUM) {
        crc.add(&word.load(Relaxed).to_le_bytes());
    }
    u64::from(crc.finish())
}

/// Words needed for `bytes` bytes.
#[must_use]
pub const fn words_for(bytes: usize) -> usize {
    bytes.div_ceil(8)
}

/// Copies `length` bytes out of words, eight to a word, the first in the lowest bits; as many
/// as there are.
#[must_use]
pub fn get_bytes(words: &[AtomicU64], length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = words
        .iter()
        .take(words_for(length))
        .flat_map(|word| word.load(Relaxed).to_le_bytes())
        .collect();
    bytes.truncate(length);
    bytes
}

/// Stores bytes in words, eight to a word; what does not fit is left out.
pub fn put_bytes(words: &[AtomicU64], bytes: &[u8]) {
    for (word, chunk) in words.iter().zip(bytes.chunks(8)) {
        let mut packed = [0; 8];
        packed[..chunk.len()].copy_from_slice(chunk);
        word.store(u64::from_le_bytes(packed), Relaxed);
    }
}

/// CRC-32C (Castagnoli), a byte at a time: keys are short and written once.
struct Crc(u32);

const CRC_TABLE: [u32; 256] = crc_table();

const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte: u32 = 0;
    while byte < 256 {
        let mut crc = byte;
        let mut bit = 0;
        while bit < 8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
            bit += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
}

impl Crc {
    const fn new() -> Self {
        Self(u32::MAX)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let at = self.0.to_le_bytes()[0] ^ byte;
            self.0 = self.0 >> 8 ^ CRC_TABLE[usize::from(at)];
        }
    }

    const fn finish(self) -> u32 {
        !self.0
    }
}

/// What application and agent say on the socket.
pub mod hello {
    /// First bytes of what the application says.
    pub const HELLO: [u8; 8] = *b"TGSDKHI1";
    /// First bytes of what the agent answers.
    pub const ANSWER: [u8; 8] = *b"TGSDKOK1";
    /// Bytes of a hello; the descriptor of the page comes with it.
    pub const HELLO_BYTES: usize = 32;
    /// Bytes of an answer.
    pub const ANSWER_BYTES: usize = 32;
    /// Bytes in which an agent tells of a look, see [`look`].
    pub const LOOK_BYTES: usize = 8;

    /// Taken: the page may be marked as handed over to the mirror that the answer names.
    pub const TAKEN: u32 = 0;
    /// Refused: the page was handed to another agent. Start a new one.
    pub const QUARANTINED: u32 = 1;
    /// Refused: it is not a sealed page of a size that this agent takes.
    pub const UNACCEPTABLE: u32 = 2;
    /// Refused for now: the agent has as many pages as it may have.
    pub const BUSY: u32 = 3;

    /// The hello for a page.
    #[must_use]
    pub fn hello(id: [u8; 16], bytes: u64) -> [u8; HELLO_BYTES] {
        let mut out = [0; HELLO_BYTES];
        out[..8].copy_from_slice(&HELLO);
        out[8..24].copy_from_slice(&id);
        out[24..].copy_from_slice(&bytes.to_le_bytes());
        out
    }

    /// Reads a hello: the page's name and size.
    #[must_use]
    pub fn parse_hello(bytes: &[u8; HELLO_BYTES]) -> Option<([u8; 16], u64)> {
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let (id, rest) = rest.split_first_chunk::<16>()?;
        let (size, _) = rest.split_first_chunk::<8>()?;
        (*magic == HELLO).then_some((*id, u64::from_le_bytes(*size)))
    }

    /// What an agent says, after its answer, of a look at the page: everything that was counted
    /// before this instant, in milliseconds since 1970, is in its hands.
    #[must_use]
    pub fn look(began: i64) -> [u8; LOOK_BYTES] {
        began.to_le_bytes()
    }

    /// Takes what was said of whole looks from the bytes; gives the newest instant.
    pub fn take_looks(bytes: &mut Vec<u8>) -> Option<i64> {
        let whole = bytes.len() - bytes.len() % LOOK_BYTES;
        let began = i64::from_le_bytes(*bytes[..whole].last_chunk()?);
        bytes.drain(..whole);
        Some(began)
    }

    /// What an agent answers.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Answer {
        /// One of the codes above.
        pub code: u32,
        /// Width of the agent's windows, in seconds.
        pub window_secs: u32,
        /// The mirror's name, never 0.
        pub mirror: u64,
        /// The agent will tell of its looks; agents before that left 0 here.
        pub tells: bool,
    }

    impl Answer {
        /// The bytes of the answer.
        #[must_use]
        pub fn to_bytes(self) -> [u8; ANSWER_BYTES] {
            let mut out = [0; ANSWER_BYTES];
            out[..8].copy_from_slice(&ANSWER);
            out[8..12].copy_from_slice(&self.code.to_le_bytes());
            out[12..16].copy_from_slice(&self.window_secs.to_le_bytes());
            out[16..24].copy_from_slice(&self.mirror.to_le_bytes());
            out[24] = self.tells.into();
            out
        }

        /// Reads an answer.
        #[must_use]
        pub fn parse(bytes: &[u8; ANSWER_BYTES]) -> Option<Self> {
            let (magic, rest) = bytes.split_first_chunk::<8>()?;
            let (code, rest) = rest.split_first_chunk::<4>()?;
            let (window, rest) = rest.split_first_chunk::<4>()?;
            let (mirror, rest) = rest.split_first_chunk::<8>()?;
            (*magic == ANSWER).then_some(Self {
                code: u32::from_le_bytes(*code),
                window_secs: u32::from_le_bytes(*window),
                mirror: u64::from_le_bytes(*mirror),
                tells: rest.first() == Some(&1),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::hello::Answer;
    use super::*;

    #[test]
    fn checksum_is_castagnoli() {
        // The check value of CRC-32/ISCSI in the catalogue of parametrised CRC algorithms.
        let mut crc = Crc::new();
        crc.add(b"123456789");
        assert_eq!(crc.finish(), 0xe306_9283);
    }

    #[test]
    fn layouts_hold_what_they_say() {
        for bytes in [0, 70_000, 4 << 20, u64::MAX] {
            let layout = PageLayout::for_bytes(bytes);
            assert!(layout.arena() < layout.words(), "{layout:?}");
            let claimed = PageLayout::claimed(
                layout.words(),
                layout.words() as u64,
                layout.slots_max().into(),
            );
            assert_eq!(claimed, Some(layout));
        }
        assert_eq!(PageLayout::claimed(8192, 8192, 0), None);
        assert_eq!(PageLayout::claimed(8192, 8192, 2048), None);
        assert_eq!(PageLayout::claimed(8192, 8193, 1), None);
        assert_eq!(PageLayout::claimed(8192, 8192, u64::MAX), None);
    }

    #[test]
    fn slots_and_messages_round_trip() {
        let slot = SlotWords {
            key_at: 7,
            key_bytes: 33,
            cell_at: u32::MAX,
            cell_words: 2,
            aggregation: 5,
            scale: 12,
        };
        assert_eq!(SlotWords::from_words(slot.to_words()), Some(slot));
        let hello = hello::hello([9; 16], 1 << 22);
        assert_eq!(hello::parse_hello(&hello), Some(([9; 16], 1 << 22)));
        assert_eq!(hello::parse_hello(&[0; 32]), None);
        let answer = Answer {
            code: hello::BUSY,
            window_secs: 10,
            mirror: 77,
            tells: true,
        };
        assert_eq!(Answer::parse(&answer.to_bytes()), Some(answer));
        let before = Answer {
            tells: false,
            ..answer
        };
        assert_eq!(before.to_bytes()[24..], [0; 8]);
        assert_eq!(Answer::parse(&before.to_bytes()), Some(before));
    }

    #[test]
    fn looks_are_taken_whole_and_the_newest_counts() {
        let mut bytes = Vec::new();
        assert_eq!(hello::take_looks(&mut bytes), None);
        bytes.extend(hello::look(5));
        bytes.extend(hello::look(-7));
        bytes.extend(&hello::look(9)[..3]);
        assert_eq!(hello::take_looks(&mut bytes), Some(-7));
        assert_eq!(hello::take_looks(&mut bytes), None);
        bytes.extend(&hello::look(9)[3..]);
        assert_eq!(hello::take_looks(&mut bytes), Some(9));
        assert!(bytes.is_empty());
    }
}
