//! Cuts datagrams into lines and lines into key and value, in one pass over the bytes.
//!
//! Each block of 64 bytes becomes two masks, one bit for each newline and each colon. Lines
//! and names are then found by counting zeros, without a branch for each byte. What this
//! finds is only where a line's parts are; whether they are good is for the grammar
//! ([`super::parse_suffix`]) when the line is seen for the first time.
#![expect(
    clippy::cast_possible_truncation,
    reason = "places in a buffer of less than 4 GiB, lengths that were compared before, and bytes of a word"
)]

use wide::i8x16;

use super::LINE_BYTES_MAX;
use crate::attribute::{NAME_BYTES_MAX, SLACK_BYTES};

/// Bytes that must be readable behind a datagram.
pub const DATAGRAM_SLACK_BYTES: usize = BLOCK + SLACK_BYTES;

const BLOCK: usize = 64;

/// Where the parts of a line lie in its buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// First byte of the line and of its name.
    pub(super) at: u32,
    /// First byte behind the line.
    pub(super) end: u32,
    /// First byte of the suffix: the type and what follows it.
    pub(super) suffix_at: u32,
    /// Bytes of the name.
    pub(super) name_len: u16,
    /// What kind of value lies between.
    pub(super) value: Found,
}

/// What the scanner says about the value of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Found {
    /// One to seven digits: their value.
    Small(u32),
    /// Something else between colon and bar.
    Text,
    /// The line is not of the form `name:value|suffix`.
    #[default]
    Odd,
}

/// The masks of the datagram being cut.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    newlines: Vec<u64>,
    colons: Vec<u64>,
    /// First byte of the datagram in its buffer.
    origin: usize,
    length: usize,
    at: usize,
}

#[inline]
fn mask(block: &[u8; BLOCK], byte: u8) -> u64 {
    let wanted = i8x16::splat(byte.cast_signed());
    let (quarters, _) = block.as_chunks::<16>();
    quarters.iter().rev().fold(0, |mask, quarter| {
        let lanes = i8x16::new(quarter.map(u8::cast_signed));
        mask << 16 | u64::from(lanes.simd_eq(wanted).to_bitmask())
    })
}

/// The first bit at or behind `at`; there is one, because the end is marked.
#[inline]
fn first(masks: &[u64], at: usize) -> usize {
    let (block, shift) = (at / BLOCK, at % BLOCK);
    let window = masks[block] >> shift | masks[block + 1] << 1 << (63 - shift);
    if window != 0 {
        return at + window.trailing_zeros() as usize;
    }
    first_far(masks, block + 1)
}

/// For names and lines of more than 64 bytes.
fn first_far(masks: &[u64], mut block: usize) -> usize {
    while block < masks.len() && masks[block] == 0 {
        block += 1;
    }
    let bit = masks.get(block).map_or(0, |mask| mask.trailing_zeros());
    block * BLOCK + bit as usize
}

impl Scanner {
    /// Looks at the datagram of `length` bytes at `origin`. False if the buffer has too few
    /// bytes behind it ([`DATAGRAM_SLACK_BYTES`]); nothing is cut then.
    pub(super) fn start(&mut self, buffer: &[u8], origin: usize, length: usize) -> bool {
        self.newlines.clear();
        self.colons.clear();
        (self.origin, self.length, self.at) = (origin, 0, 0);
        let blocks = length / BLOCK + 1;
        let slack = buffer.len().checked_sub(origin.saturating_add(length));
        if slack.is_none_or(|slack| slack < DATAGRAM_SLACK_BYTES) {
            return false;
        }
        let bytes = &buffer[origin..origin + blocks * BLOCK];
        for block in bytes.as_chunks::<BLOCK>().0 {
            self.newlines.push(mask(block, b'\n'));
            self.colons.push(mask(block, b':'));
        }
        // What lies behind the datagram is not looked at, and its end ends line and name.
        let end = 1u64 << (length % BLOCK);
        for masks in [&mut self.newlines, &mut self.colons] {
            masks[blocks - 1] = masks[blocks - 1] & (end - 1) | end;
            masks.push(0);
        }
        self.length = length;
        true
    }

    /// The next line that is not empty.
    #[inline]
    pub(super) fn next(&mut self, buffer: &[u8]) -> Option<Line> {
        while self.at < self.length {
            let at = self.at;
            let end = first(&self.newlines, at);
            self.at = end + 1;
            if end > at {
                return Some(self.line(buffer, at, end));
            }
        }
        None
    }

    #[inline]
    fn line(&self, buffer: &[u8], at: usize, end: usize) -> Line {
        let colon = first(&self.colons, at);
        let name_len = colon.wrapping_sub(at);
        let (at, end, colon) = (self.origin + at, self.origin + end, self.origin + colon);
        let mut line = Line {
            at: at as u32,
            end: end as u32,
            ..Line::default()
        };
        let keyed = colon < end && end - at <= LINE_BYTES_MAX;
        if !keyed || name_len == 0 || name_len > NAME_BYTES_MAX {
            return line;
        }
        line.name_len = name_len as u16;
        let value_at = colon + 1;
        let (digits, value) = small(buffer, value_at);
        let bar = value_at + digits;
        if digits > 0 && bar < end && buffer[bar] == b'|' {
            line.value = Found::Small(value);
            line.suffix_at = (bar + 1) as u32;
            return line;
        }
        let bar = buffer[value_at..end].iter().position(|byte| *byte == b'|');
        if let Some(bar) = bar.filter(|bar| *bar > 0) {
            line.value = Found::Text;
            line.suffix_at = (value_at + bar + 1) as u32;
        }
        line
    }
}

/// Up to seven digits at `at`: how many, and their value. Eight and more are none.
#[inline]
fn small(buffer: &[u8], at: usize) -> (usize, u32) {
    let Some(bytes) = buffer.get(at..).and_then(|rest| rest.first_chunk()) else {
        return (0, 0);
    };
    // Digits become 0 to 9. Adding 0x76 sets the high bit of every byte above 9; a carry
    // reaches only bytes behind the first one that is no digit.
    let digits = u64::from_le_bytes(*bytes) ^ 0x3030_3030_3030_3030;
    let other = (digits.wrapping_add(0x7676_7676_7676_7676) | digits) & 0x8080_8080_8080_8080;
    let count = other.trailing_zeros() as usize / 8;
    if count == 1 {
        return (1, digits as u32 & 0xf);
    }
    if count == 0 || count == 8 {
        return (0, 0);
    }
    // Zeros in front, then pairs, then fours, then all eight at once.
    let digits = digits << (64 - 8 * count);
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let low = (pairs & 0x0000_00ff_0000_00ff).wrapping_mul(0x000f_4240_0000_0064);
    let high = (pairs >> 16 & 0x0000_00ff_0000_00ff).wrapping_mul(0x0000_2710_0000_0001);
    (count, (low.wrapping_add(high) >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(datagram: &[u8], before: usize) -> Vec<Line> {
        let mut buffer = vec![b'\n'; before];
        buffer.extend_from_slice(datagram);
        // Bytes that would change every answer if they were looked at.
        buffer.extend_from_slice(&b"7|:\n"[..].repeat(DATAGRAM_SLACK_BYTES / 4));
        let mut scanner = Scanner::default();
        assert!(scanner.start(&buffer, before, datagram.len()));
        std::iter::from_fn(|| scanner.next(&buffer)).collect()
    }

    /// The same, a byte at a time.
    fn slowly(datagram: &[u8], before: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut start = 0;
        for bytes in datagram.split(|b| *b == b'\n') {
            let at = start;
            start += bytes.len() + 1;
            if bytes.is_empty() {
                continue;
            }
            let mut line = Line {
                at: (before + at) as u32,
                end: (before + at + bytes.len()) as u32,
                ..Line::default()
            };
            let colon = bytes.iter().position(|b| *b == b':');
            if let Some(colon) = colon
                && (1..=NAME_BYTES_MAX).contains(&colon)
                && bytes.len() <= LINE_BYTES_MAX
            {
                line.name_len = colon as u16;
                let value = &bytes[colon + 1..];
                let bar = value.iter().position(|b| *b == b'|');
                if let Some(bar) = bar.filter(|bar| *bar > 0) {
                    let digits = std::str::from_utf8(&value[..bar])
                        .ok()
                        .filter(|v| v.len() < 8 && v.bytes().all(|b| b.is_ascii_digit()));
                    line.suffix_at = line.at + (colon + 1 + bar + 1) as u32;
                    line.value = digits.map_or(Found::Text, |v| Found::Small(v.parse().unwrap()));
                }
            }
            lines.push(line);
        }
        lines
    }

    #[test]
    fn lines_have_parts() {
        let line = lines(b"ab:17|c|#x:y", 3)[0];
        assert_eq!((line.at, line.end, line.name_len), (3, 15, 2));
        assert_eq!((line.suffix_at, line.value), (9, Found::Small(17)));
        assert_eq!(lines(b"ab:1.5|c", 0)[0].value, Found::Text);
        for odd in ["ab", "ab:", "ab:1", ":1|c", "ab:|c", "ab|c"] {
            assert_eq!(lines(odd.as_bytes(), 0)[0].value, Found::Odd, "{odd}");
        }
        assert!(lines(b"", 0).is_empty() && lines(b"\n\n", 0).is_empty());
    }

    #[test]
    fn a_buffer_without_slack_is_not_cut() {
        let mut scanner = Scanner::default();
        for length in [0, 5, 63, 64, 1000] {
            let buffer = vec![b'a'; length + DATAGRAM_SLACK_BYTES - 1];
            assert!(!scanner.start(&buffer, 0, length));
            assert_eq!(scanner.next(&buffer), None);
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_slow_way(
            parts in proptest::collection::vec(
                prop_oneof![
                    "[a-c.]{1,12}:[0-9]{1,9}\\|c\n",
                    "[a-c:|\n0-9]{0,40}",
                    "[a-c]{50,150}:[0-9]{0,3}\\|c(\\|#[a-z:,]{0,200})?\n",
                    "(?s).{0,10}",
                ],
                0..12,
            ),
            before in 0usize..70,
        ) {
            let datagram = parts.concat().into_bytes();
            prop_assert_eq!(lines(&datagram, before), slowly(&datagram, before));
        }

        #[test]
        fn every_byte_can_be_in_a_line(
            datagram in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            prop_assert_eq!(lines(&datagram, 1), slowly(&datagram, 1));
        }
    }
}
