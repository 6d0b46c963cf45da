//! strace kills a process in place of a chosen system call.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::PATIENCE;

/// strace with one process that it traces; ended when dropped.
pub(crate) struct Strace(Child);

impl Strace {
    /// Kills the traced process with its Nth call of a kind, instead of making the call.
    pub(crate) fn start(
        point: (&str, usize),
        arguments: &[&str],
        rest: &[&std::ffi::OsStr],
    ) -> Self {
        let (call, nth) = point;
        let child = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e"])
            .arg(format!("trace={call}"))
            .arg("-e")
            .arg(format!("inject={call}:signal=SIGKILL:when={nth}"))
            .args(arguments)
            .args(rest)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("strace was found before");
        Self(child)
    }

    /// Starts a program of ours with its configuration and waits for its end at this call; false if it
    /// came through with fewer, until it had started, and was killed then.
    pub(crate) fn ends_a_start(
        point: (&str, usize),
        program: &str,
        config: &std::path::Path,
        mut started: impl FnMut() -> bool,
    ) -> bool {
        let node = std::ffi::OsStr::new(env!("CARGO_BIN_EXE_node"));
        let rest = [
            node,
            program.as_ref(),
            "run".as_ref(),
            "--config".as_ref(),
            config.as_os_str(),
        ];
        let mut strace = Self::start(point, &[], &rest);
        let begin = Instant::now();
        while !strace.ended(Duration::from_millis(20)) {
            assert!(
                begin.elapsed() < PATIENCE,
                "{program} neither starts nor ends"
            );
            if started() && strace.kill_traced() {
                return false;
            }
        }
        true
    }

    /// Waits until the traced process has ended, up to `patience`.
    pub(crate) fn ended(&mut self, patience: Duration) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < patience {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// Kills the process that was started under strace; false if there is none yet.
    pub(crate) fn kill_traced(&mut self) -> bool {
        let Some(pid) = child_of(self.0.id()) else {
            return false;
        };
        kill(pid);
        assert!(self.ended(PATIENCE), "strace follows its process");
        true
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// True if strace is there and may trace.
pub(crate) fn strace_works() -> bool {
    let found = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "-e", "trace=fsync", "true"])
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        assert!(
            std::env::var_os("TOLLGATE_REQUIRE_ALL").is_none(),
            "strace is required (TOLLGATE_REQUIRE_ALL) and cannot trace here"
        );
        // Not `eprintln!`: the test harness would swallow that.
        let _ = writeln!(
            std::io::stderr(),
            "skipped: strace is missing or may not trace"
        );
    }
    found
}

fn child_of(parent: u32) -> Option<i32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let children = std::fs::read_to_string(path).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

fn kill(pid: i32) {
    #[expect(unsafe_code, reason = "kill(2) has no safe wrapper in std")]
    // SAFETY: kill has no memory effects; the process is a child of our strace.
    let _ = unsafe { libc::kill(pid, libc::SIGKILL) };
}
