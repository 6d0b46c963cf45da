//! Datagrams that the kernel dropped because a UDP socket's buffer was full.
//!
//! `/proc/net/udp` (`udp6`) has a line for each socket with its inode and, last, the drops
//! since the socket was made.

/// Longest text of `/proc/net/udp` that is read, in bytes.
pub const NET_UDP_BYTES_MAX: usize = 4 << 20;

/// The drops of the socket with this inode; `None` if the text has no such socket.
pub fn parse_drops(text: &str, inode: u64) -> Option<u64> {
    text.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        // sl local remote st tx:rx tr:when retrnsmt uid timeout inode ref pointer drops
        let found: u64 = fields.nth(9)?.parse().ok()?;
        if found != inode {
            return None;
        }
        fields.nth(2)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  117: 0100007F:1FBD 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 42
  118: 0100007F:1FBE 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 0
";

    #[test]
    fn the_line_of_the_socket_counts() {
        assert_eq!(parse_drops(TEXT, 4711), Some(42));
        assert_eq!(parse_drops(TEXT, 4712), Some(0));
        assert_eq!(parse_drops(TEXT, 1), None);
        assert_eq!(parse_drops("", 4711), None);
        assert_eq!(parse_drops("a\nb c\n1 2 3 4 5 6 7 8 9 4711", 4711), None);
    }
}
