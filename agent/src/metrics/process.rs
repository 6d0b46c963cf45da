//! The process as the kernel sees it, under the names that Prometheus clients use.

use rustix::param::{clock_ticks_per_second, page_size};

/// `/proc/self/stat` is one line.
const STAT_BYTES_MAX: usize = 16 << 10;

/// What `/proc/self` says; what cannot be read is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Process {
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) threads: Option<u64>,
    pub(crate) open_files: Option<u64>,
}

impl Process {
    pub(crate) fn read() -> Self {
        let mut text = String::new();
        let read = crate::read_proc("/proc/self/stat", STAT_BYTES_MAX, &mut text);
        let mut process = read.ok().map(|()| Self::parse(&text)).unwrap_or_default();
        let files = std::fs::read_dir("/proc/self/fd").ok();
        // One of them is the folder itself.
        process.open_files = files.map(|files| files.count().saturating_sub(1) as u64);
        process
    }

    fn parse(stat: &str) -> Self {
        // The name of the program, in parentheses, may hold anything.
        let Some((_, fields)) = stat.rsplit_once(')') else {
            return Self::default();
        };
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        // proc_pid_stat(5) counts from 1, and the state after the name is field 3.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        #[expect(clippy::cast_precision_loss, reason = "ticks are far below 2^53")]
        let seconds = |ticks: u64| ticks as f64 / clock_ticks_per_second() as f64;
        Self {
            cpu_seconds: field(14)
                .zip(field(15))
                .map(|(user, system)| seconds(user + system)),
            threads: field(20),
            resident_bytes: field(24).map(|pages| pages.saturating_mul(page_size() as u64)),
            open_files: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_of_this_process() {
        let process = Process::read();
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 1 << 20));
        assert!(process.threads.is_some_and(|threads| threads >= 1));
        assert!(process.cpu_seconds.is_some() && process.open_files.is_some());
        assert_eq!(Process::parse("1 (a"), Process::default());
        assert_eq!(Process::parse("1 (a) b) S 1"), Process::default());
    }
}
