//! Cuts datagrams into lines and lines into key and value, in one pass over the bytes.
//!
//! Each block of 64 bytes becomes two masks, one bit for each newline and each colon. Lines
//! and names are then found by counting zeros from any bit on, without a branch for each byte. What this
//! finds is only where a line's parts are; whether they are good is for the grammar
//! ([`super::parse_suffix`]) when the line is seen for the first time.
#![expect(
    clippy::inline_always,
    reason = "a line is a few dozen instructions, and a call of one of these as many"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "places in a buffer of less than 4 GiB, lengths that were compared before, and bytes of a word"
)]

use wide::i8x16;

use super::LINE_BYTES_MAX;
use crate::attribute::{NAME_BYTES_MAX, SLACK_BYTES, word};

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
    newlines: Bits,
    colons: Bits,
    /// First byte of the datagram in its buffer.
    origin: u32,
    length: u32,
    at: u32,
}

/// A bit for each byte of a datagram, in bytes, with [`SLACK_BYTES`] behind them.
#[derive(Debug, Default)]
struct Bits(Vec<u8>);

impl Bits {
    /// How far it is from `at` to the first bit; there is one, because the end is marked.
    #[inline(always)]
    fn distance(&self, at: u32) -> u32 {
        match word(&self.0, at >> 3) >> (at & 7) {
            0 => self.distance_far(at),
            window => window.trailing_zeros(),
        }
    }

    /// For names and lines of more than 56 bytes.
    #[inline(never)]
    fn distance_far(&self, from: u32) -> u32 {
        let mut at = from;
        while (at >> 3) as usize + SLACK_BYTES <= self.0.len() {
            at = (at & !7) + 64;
            let window = word(&self.0, at >> 3);
            if window != 0 {
                return at + window.trailing_zeros() - from;
            }
        }
        u32::MAX
    }

    /// The bits of so many blocks, to be set.
    fn blocks(&mut self, blocks: usize) -> &mut [[u8; 8]] {
        let bytes = blocks * 8;
        if self.0.len() < bytes + SLACK_BYTES {
            self.0.resize(bytes + SLACK_BYTES, 0);
        }
        self.0[..bytes].as_chunks_mut().0
    }

    /// Sets the bit at `end`, and none behind it in its block.
    fn end(&mut self, end: usize) {
        let at = end / BLOCK * 8;
        if let Some(last) = self.0[at..].first_chunk_mut() {
            let bit = 1u64 << (end % BLOCK);
            *last = (u64::from_le_bytes(*last) & (bit - 1) | bit).to_le_bytes();
        }
    }
}

#[inline(always)]
fn mask(quarters: [i8x16; 4], byte: i8x16) -> [u8; 8] {
    let found = quarters.map(|quarter| u64::from(quarter.simd_eq(byte).to_bitmask()));
    (found[0] | found[1] << 16 | found[2] << 32 | found[3] << 48).to_le_bytes()
}

impl Scanner {
    /// Looks at the datagram of `length` bytes at `origin`. False if the buffer has too few
    /// bytes behind it ([`DATAGRAM_SLACK_BYTES`]); nothing is cut then.
    pub(super) fn start(&mut self, buffer: &[u8], origin: usize, length: usize) -> bool {
        (self.origin, self.length, self.at) = (origin as u32, 0, 0);
        let blocks = length / BLOCK + 1;
        let slack = buffer.len().checked_sub(origin.saturating_add(length));
        if slack.is_none_or(|slack| slack < DATAGRAM_SLACK_BYTES) {
            return false;
        }
        let bytes = &buffer[origin..origin + blocks * BLOCK];
        let [newline, colon] = [b'\n', b':'].map(|byte| i8x16::splat(byte.cast_signed()));
        let newlines = self.newlines.blocks(blocks).iter_mut();
        let masks = newlines.zip(self.colons.blocks(blocks));
        for (block, (newlines, colons)) in bytes.as_chunks::<BLOCK>().0.iter().zip(masks) {
            let quarter = |n: usize| {
                let bytes = block.as_chunks::<16>().0[n];
                i8x16::new(bytes.map(u8::cast_signed))
            };
            let quarters = [quarter(0), quarter(1), quarter(2), quarter(3)];
            *newlines = mask(quarters, newline);
            *colons = mask(quarters, colon);
        }
        // What lies behind the datagram is not looked at, and its end ends line and name.
        self.newlines.end(length);
        self.colons.end(length);
        self.length = length as u32;
        true
    }

    /// The next line that is not empty.
    #[inline(always)]
    pub(super) fn next(&mut self, buffer: &[u8]) -> Option<Line> {
        while self.at < self.length {
            let at = self.at;
            let length = self.newlines.distance(at);
            self.at = at.wrapping_add(length).wrapping_add(1);
            if length > 0 {
                let name = self.colons.distance(at);
                return Some(cut(buffer, self.origin.wrapping_add(at), length, name));
            }
        }
        None
    }
}

/// Cuts the line of `length` bytes at `at`, in which the first colon is at `name` if it is there.
#[inline(always)]
fn cut(buffer: &[u8], at: u32, length: u32, name: u32) -> Line {
    let end = at.wrapping_add(length);
    let mut line = Line {
        at,
        end,
        suffix_at: 0,
        name_len: 0,
        value: Found::Odd,
    };
    // None of these can be: no name, no colon within the line.
    let longest = length.wrapping_sub(1).min(NAME_BYTES_MAX as u32);
    if name.wrapping_sub(1) >= longest || length > LINE_BYTES_MAX as u32 {
        return line;
    }
    line.name_len = name as u16;
    let value_at = at.wrapping_add(name).wrapping_add(1);
    let (bar, value) = small(word(buffer, value_at));
    let suffix_at = value_at.wrapping_add(bar).wrapping_add(1);
    if bar > 0 && suffix_at <= end {
        line.value = Found::Small(value);
        line.suffix_at = suffix_at;
    } else {
        let suffix_at = behind_bar(buffer, value_at, end);
        if suffix_at > 0 {
            line.value = Found::Text;
            line.suffix_at = suffix_at;
        }
    }
    line
}

/// Where the bar after a value is that is no small number, plus one; 0 if there is none.
#[inline(never)]
fn behind_bar(buffer: &[u8], value_at: u32, end: u32) -> u32 {
    let value = buffer.get(value_at as usize..end as usize);
    let bar = value.and_then(|value| value.iter().position(|byte| *byte == b'|'));
    bar.filter(|bar| *bar > 0)
        .map_or(0, |bar| value_at + bar as u32 + 1)
}

/// One to seven digits before a bar at the start of a word: how many, and their value. Zero
/// if it is something else.
#[inline(always)]
fn small(word: u64) -> (u32, u32) {
    // Digits become 0 to 9. Adding 0x76 sets the high bit of every byte above 9; a carry
    // reaches only bytes behind the first one that is no digit.
    let digits = word ^ 0x3030_3030_3030_3030;
    let other = (digits.wrapping_add(0x7676_7676_7676_7676) | digits) & 0x8080_8080_8080_8080;
    // The bits of the digits; 64 where there is nothing else in the word.
    let bits = other.trailing_zeros() & !7;
    if bits == 0 || bits == 64 || (word >> bits) as u8 != b'|' {
        return (0, 0);
    }
    // Zeros in front, then pairs, then fours, then all eight at once.
    let digits = digits << (64 - bits);
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let low = (pairs & 0x0000_00ff_0000_00ff).wrapping_mul(0x000f_4240_0000_0064);
    let high = (pairs >> 16 & 0x0000_00ff_0000_00ff).wrapping_mul(0x0000_2710_0000_0001);
    let value = (low.wrapping_add(high) >> 32) as u32;
    (bits / 8, value)
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
