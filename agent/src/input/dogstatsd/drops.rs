//! Datagrams that the kernel dropped because a socket's buffer was full, each told once.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use tollgate_agent_core::input::udp_drops::{NET_UDP_BYTES_MAX, parse_drops};

use super::receive;

/// How often the kernel is asked at most.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// The kernel's count of drops at one socket.
pub(super) struct Drops {
    /// The table and the inode of the socket in it, for kernels that do not answer for the
    /// socket itself.
    table: &'static str,
    inode: u64,
    seen: u32,
    looked: Instant,
    text: String,
}

/// What a look gave.
pub(super) enum Look {
    TooSoon,
    Dropped(u64),
}

impl Drops {
    pub(super) fn new(socket: BorrowedFd<'_>, ipv4: bool) -> std::io::Result<Self> {
        Ok(Self {
            table: if ipv4 {
                "/proc/self/net/udp"
            } else {
                "/proc/self/net/udp6"
            },
            inode: rustix::fs::fstat(socket)?.st_ino,
            seen: 0,
            looked: Instant::now(),
            text: String::new(),
        })
    }

    /// Asks for the drops since the last look; the kernel is asked at most once in
    /// [`INTERVAL`] unless `now`.
    pub(super) fn look(&mut self, socket: BorrowedFd<'_>, now: bool) -> Look {
        if !now && self.looked.elapsed() < INTERVAL {
            return Look::TooSoon;
        }
        self.looked = Instant::now();
        let drops = receive::drops(socket).ok().or_else(|| self.ask_table());
        let drops = drops.unwrap_or(self.seen);
        // The kernel counts modulo 2^32.
        let more = drops.wrapping_sub(self.seen);
        self.seen = drops;
        Look::Dropped(u64::from(more))
    }

    fn ask_table(&mut self) -> Option<u32> {
        crate::read_proc(self.table, NET_UDP_BYTES_MAX, &mut self.text).ok()?;
        let drops = parse_drops(&self.text, self.inode)?;
        u32::try_from(drops & u64::from(u32::MAX)).ok()
    }
}
