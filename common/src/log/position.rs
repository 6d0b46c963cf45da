//! Where something is in a log.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// A position in a segment log: opaque, ordered as the records are.
///
/// A position that was read or synced stays valid for as long as its segment is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition {
    segment: u64,
    offset: u32,
}

impl LogPosition {
    /// Before everything.
    pub const ZERO: Self = Self {
        segment: 0,
        offset: 0,
    };

    pub(super) const fn new(segment: u64, offset: u32) -> Self {
        Self { segment, offset }
    }

    /// The number of the segment, from 1.
    pub const fn segment(self) -> u64 {
        self.segment
    }

    /// The byte offset in that segment.
    pub const fn offset(self) -> u32 {
        self.offset
    }

    /// Twelve bytes that sort as the positions do.
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.segment.to_be_bytes());
        bytes[8..].copy_from_slice(&self.offset.to_be_bytes());
        bytes
    }

    /// The inverse of [`to_bytes`](Self::to_bytes).
    pub fn from_bytes(bytes: [u8; 12]) -> Self {
        let (mut segment, mut offset) = ([0; 8], [0; 4]);
        segment.copy_from_slice(&bytes[..8]);
        offset.copy_from_slice(&bytes[8..]);
        Self {
            segment: u64::from_be_bytes(segment),
            offset: u32::from_be_bytes(offset),
        }
    }
}

/// `SEGMENT:OFFSET`, both decimal.
impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}

/// The text is not a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a log position is SEGMENT:OFFSET, two decimal numbers, as in 12:4096")]
pub struct ParsePositionError;

impl FromStr for LogPosition {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, ParsePositionError> {
        let (segment, offset) = text.split_once(':').ok_or(ParsePositionError)?;
        Ok(Self {
            segment: segment.parse().map_err(|_| ParsePositionError)?,
            offset: offset.parse().map_err(|_| ParsePositionError)?,
        })
    }
}

/// As text.
impl Serialize for LogPosition {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_sort_as_positions_do() {
        let positions = [
            LogPosition::ZERO,
            LogPosition::new(0, 1),
            LogPosition::new(1, 0),
            LogPosition::new(1, 255),
            LogPosition::new(1, 256),
            LogPosition::new(255, 0),
            LogPosition::new(256, 7),
            LogPosition::new(u64::MAX, u32::MAX),
        ];
        for pair in positions.windows(2) {
            assert!(pair[0] < pair[1] && pair[0].to_bytes() < pair[1].to_bytes());
        }
        for position in positions {
            assert_eq!(LogPosition::from_bytes(position.to_bytes()), position);
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        assert_eq!("1-2".parse::<LogPosition>(), Err(ParsePositionError));
    }
}
