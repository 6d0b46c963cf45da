//! Bytes as hexadecimal text. An entry of the ledger has up to eight of them, so that two digits at
//! a time through a formatter would be most of what writing it takes.

/// Bytes that are turned into text at a time.
const PIECE_BYTES: usize = 32;
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Shows the text of bytes to `each`, in pieces of at most 64 digits; digests and positions are one.
pub(crate) fn text<E>(bytes: &[u8], mut each: impl FnMut(&str) -> Result<(), E>) -> Result<(), E> {
    for piece in bytes.chunks(PIECE_BYTES) {
        let mut digits = [0; 2 * PIECE_BYTES];
        for (byte, pair) in piece.iter().zip(digits.as_chunks_mut::<2>().0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 0xf)];
        }
        let text = std::str::from_utf8(&digits[..2 * piece.len()]);
        each(text.expect("digits are ASCII"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_is_two_digits() {
        for length in [0, 1, 31, 32, 33, 64, 65] {
            let bytes: Vec<u8> = (0..length).map(|n: u8| n.wrapping_mul(37)).collect();
            let mut shown = String::new();
            let done: Result<(), ()> = text(&bytes, |piece| {
                shown.push_str(piece);
                Ok(())
            });
            assert_eq!(done, Ok(()));
            let one_by_one: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(shown, one_by_one.concat());
        }
    }
}
