//! A thread that is stuck, and what the service manager hears of it.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Home, Running};

/// A thread counts as stuck after half a minute; on a busy machine all takes longer.
const PATIENCE: Duration = Duration::from_mins(3);

/// A thread of a child process, stopped for as long as this lives. Only that thread: the others go
/// on as if it waited for something that never comes.
struct Stopped(libc::pid_t);

#[expect(unsafe_code, reason = "ptrace(2) has no safe wrapper in std")]
fn trace(request: libc::c_uint, thread: libc::pid_t) {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: these requests take no pointers and touch no memory of ours.
    let done = unsafe { libc::ptrace(request, thread, none, none) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

impl Stopped {
    fn thread(thread: libc::pid_t) -> Self {
        trace(libc::PTRACE_SEIZE, thread);
        trace(libc::PTRACE_INTERRUPT, thread);
        let stopped = Self(thread);
        stopped.wait_until_it_stands();
        stopped
    }

    /// Only a thread that stands can be let go.
    #[expect(
        unsafe_code,
        reason = "waitpid(2) for a thread has no safe wrapper in std"
    )]
    fn wait_until_it_stands(&self) {
        let mut status = 0;
        // SAFETY: `status` is a place for an integer that outlives the call.
        let waited = unsafe { libc::waitpid(self.0, &raw mut status, libc::__WALL) };
        assert_eq!(waited, self.0, "{}", std::io::Error::last_os_error());
    }

    fn go_on(self) {
        trace(libc::PTRACE_DETACH, self.0);
    }
}

fn thread_named(running: &Running, name: &str) -> libc::pid_t {
    let tasks = format!("/proc/{}/task", running.0.id());
    for task in fs::read_dir(tasks).expect("alive") {
        let task = task.expect("readable");
        let comm = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if comm.trim_end() == name {
            let number = task.file_name();
            return number.to_string_lossy().parse().expect("a number");
        }
    }
    panic!("no thread {name}");
}

/// Whether the watchdog was fed in what has come until now.
fn fed(socket: &UnixDatagram) -> bool {
    let mut buffer = [0; 4096];
    let mut fed = false;
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let text = String::from_utf8_lossy(&buffer[..length]);
                fed |= text.lines().any(|line| line == "WATCHDOG=1");
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return fed,
            Err(error) => panic!("{error}"),
        }
    }
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_watchdog_is_not_fed_while_the_engine_is_stuck() {
    let home = Home::new(9, "");
    let path = home.dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("bound");
    socket.set_nonblocking(true).expect("set");
    let log = home.dir.path().join("log");
    let child = Command::new(env!("CARGO_BIN_EXE_tollgate-agent"))
        .args(["run", "--config"])
        .arg(&home.config)
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "600000")
        .stderr(Stdio::from(File::create(&log).expect("writable")))
        .spawn()
        .expect("the binary starts");
    let running = Running(child);
    wait("the watchdog is fed", || fed(&socket));

    let stopped = Stopped::thread(thread_named(&running, "engine"));
    // Each look finds it anew, so that the thread which looks is not stuck as well.
    let looks = || {
        let log = fs::read_to_string(&log).expect("readable");
        let stuck = log.lines().filter(|line| line.contains("no sign of life"));
        stuck.filter(|line| line.contains("engine")).count()
    };
    wait("the silence is noticed", || {
        fed(&socket);
        looks() > 0
    });
    fed(&socket);
    let before = looks();
    wait("it is looked at again", || looks() >= before + 3);
    assert!(!fed(&socket), "nobody may say that the agent is well");

    stopped.go_on();
    wait("the watchdog is fed again", || fed(&socket));
}
