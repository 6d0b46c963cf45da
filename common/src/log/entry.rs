//! The bytes of segment and entry headers.

use crate::limits::RECORD_BYTES_MAX;

pub(super) const SEGMENT_HEADER_BYTES: u32 = 40;
pub(super) const ENTRY_HEADER_BYTES: u32 = 32;
pub(super) const VERSION: u16 = 1;
/// Not text, not zstd, no repeated byte.
pub(super) const MARKER: [u8; 4] = [0xB7, 0xE4, 0x1C, 0xD9];

const MAGIC: [u8; 8] = *b"TGSEGLOG";
const RECORD: u8 = 1;
const MARK: u8 = 2;

/// A u32 as a length in memory.
pub(super) const fn size(length: u32) -> usize {
    const _: () = assert!(usize::BITS >= 32);
    length as usize
}

/// CRC-32C.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// CRC-32C of bytes that come in parts.
pub(super) struct Crc32c(crc_fast::Digest);

impl Crc32c {
    pub(super) fn new() -> Self {
        Self(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi))
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> u32 {
        u32::try_from(self.0.finalize()).expect("a 32-bit checksum")
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let mut value = [0; 2];
    value.copy_from_slice(&bytes[at..at + 2]);
    u16::from_le_bytes(value)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

/// The first bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// Number of the segment, from 1.
    pub(super) segment: u64,
    /// Length of the segment before; 0 if there is none.
    pub(super) prior_end: u32,
    /// Number of the first record that this segment will hold, from 1.
    pub(super) number_first: u64,
}

/// What the first bytes of a segment are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderState {
    Valid(SegmentHeader),
    /// Intact, written by another version of this program.
    Version(u16),
    Invalid,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; size(SEGMENT_HEADER_BYTES)] {
        let mut bytes = [0; size(SEGMENT_HEADER_BYTES)];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10..12].copy_from_slice(&40_u16.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.prior_end.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.segment.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.number_first.to_le_bytes());
        let crc = crc32c(&bytes[..36]);
        bytes[36..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Judges the first bytes (there may be fewer than a header's) of the file of `segment`.
    pub(super) fn decode(bytes: &[u8], segment: u64) -> HeaderState {
        let Some(bytes) = bytes.get(..size(SEGMENT_HEADER_BYTES)) else {
            return HeaderState::Invalid;
        };
        if bytes[..8] != MAGIC || u32_at(bytes, 36) != crc32c(&bytes[..36]) {
            return HeaderState::Invalid;
        }
        let version = u16_at(bytes, 8);
        if version != VERSION {
            return HeaderState::Version(version);
        }
        let header = Self {
            segment: u64_at(bytes, 16),
            prior_end: u32_at(bytes, 12),
            number_first: u64_at(bytes, 24),
        };
        if header.segment == segment && header.encode() == bytes {
            HeaderState::Valid(header)
        } else {
            HeaderState::Invalid
        }
    }
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryKind {
    /// A record with this many bytes of payload and their checksum.
    Record { length: u32, check: u32 },
    /// The end of a group of this many records.
    Mark { count: u32, check: u32 },
}

/// The header of a record or a commit mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryHeader {
    pub(super) kind: EntryKind,
    /// Offset of the first entry of the group. Everything before it was synced before this
    /// entry was written.
    pub(super) group: u32,
    /// Record: its number. Mark: the number of the next record.
    pub(super) number: u64,
    /// The checksum of the header.
    pub(super) crc: u32,
}

fn header_crc(bytes: &[u8], segment: u64, offset: u32) -> u32 {
    let mut place = [0; 40];
    place[..8].copy_from_slice(&segment.to_le_bytes());
    place[8..12].copy_from_slice(&offset.to_le_bytes());
    place[12..].copy_from_slice(&bytes[..28]);
    crc32c(&place)
}

impl EntryHeader {
    /// The bytes of a header at this place, and the header with its checksum.
    pub(super) fn encode(
        kind: EntryKind,
        group: u32,
        number: u64,
        segment: u64,
        offset: u32,
    ) -> ([u8; size(ENTRY_HEADER_BYTES)], Self) {
        let (code, length, check) = match kind {
            EntryKind::Record { length, check } => (RECORD, length, check),
            EntryKind::Mark { count, check } => (MARK, count, check),
        };
        let mut bytes = [0; size(ENTRY_HEADER_BYTES)];
        bytes[..4].copy_from_slice(&MARKER);
        bytes[4] = code;
        bytes[8..12].copy_from_slice(&length.to_le_bytes());
        bytes[12..16].copy_from_slice(&group.to_le_bytes());
        bytes[16..24].copy_from_slice(&number.to_le_bytes());
        bytes[24..28].copy_from_slice(&check.to_le_bytes());
        let crc = header_crc(&bytes, segment, offset);
        bytes[28..].copy_from_slice(&crc.to_le_bytes());
        let header = Self {
            kind,
            group,
            number,
            crc,
        };
        (bytes, header)
    }

    /// The header at this place, or `None` if these bytes (there may be fewer than a header's)
    /// are not one that was written here.
    pub(super) fn decode(bytes: &[u8], segment: u64, offset: u32) -> Option<Self> {
        let bytes = bytes.get(..size(ENTRY_HEADER_BYTES))?;
        if bytes[..4] != MARKER || bytes[5..8] != [0; 3] {
            return None;
        }
        let crc = u32_at(bytes, 28);
        if crc != header_crc(bytes, segment, offset) {
            return None;
        }
        let (length, check) = (u32_at(bytes, 8), u32_at(bytes, 24));
        let kind = match bytes[4] {
            RECORD if length > 0 && size(length) <= RECORD_BYTES_MAX => {
                EntryKind::Record { length, check }
            }
            MARK => EntryKind::Mark {
                count: length,
                check,
            },
            _ => return None,
        };
        let group = u32_at(bytes, 12);
        let number = u64_at(bytes, 16);
        let sound = (SEGMENT_HEADER_BYTES..=offset).contains(&group) && number > 0;
        sound.then_some(Self {
            kind,
            group,
            number,
            crc,
        })
    }

    /// Bytes of the entry, its payload included.
    pub(super) fn bytes(&self) -> u32 {
        match self.kind {
            EntryKind::Record { length, .. } => ENTRY_HEADER_BYTES + length,
            EntryKind::Mark { .. } => ENTRY_HEADER_BYTES,
        }
    }

    /// The number of the record that follows this entry.
    pub(super) fn number_next(&self) -> u64 {
        match self.kind {
            EntryKind::Record { .. } => self.number.saturating_add(1),
            EntryKind::Mark { .. } => self.number,
        }
    }
}

/// Takes a record into the check of its group.
pub(super) fn group_check(check: u32, record_crc: u32) -> u32 {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&check.to_le_bytes());
    bytes[4..].copy_from_slice(&record_crc.to_le_bytes());
    crc32c(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc_32c() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        let mut parts = Crc32c::new();
        parts.update(b"1234");
        parts.update(b"");
        parts.update(b"56789");
        assert_eq!(parts.finish(), 0xE306_9283);
    }

    #[test]
    fn an_entry_is_valid_at_its_place_only() {
        let kind = EntryKind::Record {
            length: 5,
            check: 77,
        };
        let (bytes, header) = EntryHeader::encode(kind, 40, 3, 9, 1000);
        assert_eq!(EntryHeader::decode(&bytes, 9, 1000), Some(header));
        assert_eq!(EntryHeader::decode(&bytes, 9, 1001), None);
        assert_eq!(EntryHeader::decode(&bytes, 8, 1000), None);
        assert_eq!(EntryHeader::decode(&bytes[..31], 9, 1000), None);
        for at in 0..bytes.len() {
            let mut damaged = bytes;
            damaged[at] ^= 0x10;
            assert_eq!(EntryHeader::decode(&damaged, 9, 1000), None, "byte {at}");
        }
    }

    #[test]
    fn unsound_entries_are_refused_whatever_their_checksum() {
        let refused = |kind, group, number| {
            let (bytes, _) = EntryHeader::encode(kind, group, number, 1, 500);
            assert_eq!(EntryHeader::decode(&bytes, 1, 500), None);
        };
        let record = |length| EntryKind::Record { length, check: 0 };
        let longest = u32::try_from(RECORD_BYTES_MAX).expect("fits");
        refused(record(0), 40, 1);
        refused(record(longest + 1), 40, 1);
        refused(record(u32::MAX), 40, 1);
        refused(record(1), 39, 1);
        refused(record(1), 501, 1);
        refused(record(1), 40, 0);
    }

    #[test]
    fn a_segment_header_names_its_version() {
        let header = SegmentHeader {
            segment: 7,
            prior_end: 4096,
            number_first: 12,
        };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes, 7), HeaderState::Valid(header));
        assert_eq!(SegmentHeader::decode(&bytes, 8), HeaderState::Invalid);
        for at in 0..bytes.len() {
            let mut damaged = bytes;
            damaged[at] ^= 1;
            let state = SegmentHeader::decode(&damaged, 7);
            assert_eq!(state, HeaderState::Invalid, "byte {at}");
        }
        let mut newer = bytes;
        newer[8] = 2;
        let crc = crc32c(&newer[..36]);
        newer[36..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&newer, 7), HeaderState::Version(2));
    }
}
