//! Whole-process figures, read from the operating system.

use std::fs;
use std::io;
use std::time::Duration;

/// What the kernel accounts to a process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// User and system time of all threads.
    pub(crate) cpu: Duration,
    /// Resident memory in bytes.
    pub(crate) resident_bytes: u64,
}

/// Reads `/proc/PID/stat` and `/proc/PID/statm` (proc(5)).
pub(crate) fn usage(pid: u32) -> io::Result<Usage> {
    let malformed =
        |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/{what}"));
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command in parentheses may itself contain spaces and parentheses.
    let fields = stat
        .rsplit_once(") ")
        .map(|(_, rest)| rest)
        .ok_or_else(|| malformed("stat"))?;
    let mut fields = fields.split(' ').skip(11);
    let mut ticks = || fields.next().and_then(|f| f.parse::<u64>().ok());
    let (user, system) = ticks().zip(ticks()).ok_or_else(|| malformed("stat"))?;
    let per_second = rustix::param::clock_ticks_per_second();
    let statm = fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .and_then(|f| f.parse().ok())
        .ok_or_else(|| malformed("statm"))?;
    Ok(Usage {
        cpu: Duration::from_millis((user + system) * 1000 / per_second.max(1)),
        resident_bytes: pages * rustix::param::page_size() as u64,
    })
}

/// Time that a core has spent for the calling thread.
pub(crate) fn core_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.try_into().unwrap_or(0),
        time.tv_nsec.try_into().unwrap_or(0),
    )
}

/// Bytes that this process has from the allocator, with what that needs for itself.
pub(crate) fn allocated() -> usize {
    #[expect(unsafe_code, reason = "mallinfo2 has no safe wrapper")]
    // SAFETY: it takes nothing and returns a struct of numbers.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}

/// Restricts the calling thread, and what it starts from now on, to one processor. On a
/// machine with a single one this changes nothing.
pub(crate) fn pin_to(cpu: usize) {
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu % available);
    // A refusal (a restricted container) only makes the figures noisier.
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_usage_can_be_read() {
        let usage = usage(std::process::id()).expect("our own process exists");
        assert!(usage.resident_bytes > 0);
    }
}
