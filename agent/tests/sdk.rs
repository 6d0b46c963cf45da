//! Applications that count in process, agents that die, and both.
//!
//! The application is this test binary, started again with a job in its environment.

#[path = "sdk/ends.rs"]
mod ends;
#[path = "sdk/hostile.rs"]
mod hostile;
#[path = "sdk/jobs.rs"]
mod jobs;
#[path = "sdk/stalls.rs"]
mod stalls;
mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jobs::count_quickly;
use rustix::net::RecvFlags;
use serde_json::Value;
use support::{Home, Running, exit_code, signal, stdout};

/// Names the job of an application.
const JOB: &str = "TOLLGATE_TEST_JOB";
const SOCKET: &str = "TOLLGATE_SOCKET";
const PATIENCE: Duration = Duration::from_mins(1);

/// A port that nobody answers on: everything stays in the spool.
const NOBODY: u16 = 9;

fn home(allow: &str) -> Home {
    let more = format!(
        r#"
[input.sdk]
socket = "sdk.sock"
mode = "0600"
{allow}
"#
    );
    Home::new(NOBODY, &more)
}

const ALL: &str = "[[input.sdk.allow]]\ntenants = [\"*\"]\n";

/// An application at its job.
struct Application {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Application {
    fn start(home: &Home, job: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("known"))
            .args(["--exact", "application", "--nocapture", "--test-threads=1"])
            .env(JOB, job)
            .env(SOCKET, home.dir.path().join("sdk.sock"))
            .stdout(Stdio::piped())
            .stdin(Stdio::piped())
            .spawn()
            .expect("this binary starts");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, lines }
    }

    /// Waits until it says that it has done its job.
    fn wait_done(&mut self) {
        let mut line = String::new();
        while self.lines.read_line(&mut line).expect("readable") > 0 {
            if line.contains("done") {
                return;
            }
            line.clear();
        }
        panic!("the application ended before it was done");
    }

    /// Lets a late one do the rest and end.
    fn end(mut self) {
        let mut stdin = self.child.stdin.take().expect("piped");
        stdin.write_all(b"go on\n").expect("it reads");
        self.wait_done();
        drop(stdin);
        self.child.wait().expect("ours");
    }

    fn kill(mut self) {
        self.child.kill().expect("ours");
        self.child.wait().expect("ours");
    }
}

/// Not a test: what the application does when it is one.
#[test]
fn application() {
    let Ok(job) = std::env::var(JOB) else {
        return;
    };
    match job.as_str() {
        "quick" => count_quickly(),
        "slow" => jobs::count_slowly(),
        "threads" => jobs::count_in_threads(),
        "late" => jobs::count_late(),
        "peaks" => jobs::peaks(),
        "connection" => ends::leave_connection_to_child(),
        "another" => ends::become_another(),
        other => panic!("no such job: {other}"),
    }
    jobs::say_done();
    // Until it is killed.
    let _ = std::io::stdin().read_line(&mut String::new());
}

fn stop(mut agent: Running) {
    signal(&agent, "TERM");
    let code = exit_code(&mut agent);
    assert!(code.is_some(), "a clean end");
}

fn kill(mut agent: Running) {
    agent.0.kill().expect("ours");
    agent.0.wait().expect("ours");
}

/// What the spool holds: sums of values and of events by meter and tenant.
fn sealed(home: &Home) -> BTreeMap<String, (i128, u64)> {
    let output = home.command(&["spool", "export"]);
    let mut sums = BTreeMap::new();
    for line in stdout(&output).lines() {
        let batch: Value = serde_json::from_str(line).expect("JSON");
        collect(&batch, &mut sums);
    }
    sums
}

fn collect(value: &Value, sums: &mut BTreeMap<String, (i128, u64)>) {
    match value {
        Value::Object(map) if map.contains_key("series") && map.contains_key("events") => {
            let text = |key: &str| {
                let value = &map["series"][key];
                value.as_str().unwrap_or("?").to_owned()
            };
            let number = |value: &Value| {
                let text = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                text.parse::<i128>().expect("a number")
            };
            let sum = sums
                .entry(format!("{}/{}", text("tenant"), text("meter")))
                .or_insert((0, 0));
            sum.0 += number(&map["value"]);
            sum.1 += u64::try_from(number(&map["events"])).expect("not negative");
        }
        Value::Object(map) => map.values().for_each(|value| collect(value, sums)),
        Value::Array(list) => list.iter().for_each(|value| collect(value, sums)),
        _ => {}
    }
}

#[test]
fn a_killed_application_loses_nothing() {
    let home = home(ALL);
    let (agent, _) = home.run();
    let mut application = Application::start(&home, "quick");
    application.wait_done();
    application.kill();
    std::thread::sleep(Duration::from_millis(200));
    stop(agent);
    let sealed = sealed(&home);
    assert_eq!(sealed["acme/requests"], (3004, 1001), "{sealed:?}");
}

/// What a service manager keeps: descriptors with their names, of which several may be the same.
struct Manager {
    socket: std::os::unix::net::UnixDatagram,
    kept: Vec<(String, std::os::fd::OwnedFd)>,
    ready: bool,
}

impl Manager {
    fn new(home: &Home) -> Self {
        let path = Self::socket(home);
        let socket = std::os::unix::net::UnixDatagram::bind(path).expect("bound");
        socket.set_read_timeout(Some(PATIENCE)).expect("settable");
        Self {
            socket,
            kept: Vec::new(),
            ready: false,
        }
    }

    fn socket(home: &Home) -> PathBuf {
        home.dir.path().join("notify")
    }

    /// Starts an agent and an application that does this job, and kills the agent once the
    /// page and its process are kept beside what was kept before.
    fn leave(&mut self, home: &Home, job: &str) -> Application {
        let before = self.kept.len();
        let agent = self.start(home);
        let mut application = Application::start(home, job);
        application.wait_done();
        self.keep_until(before + 2);
        kill(agent);
        application
    }

    /// Takes messages until it keeps so many and the agent is ready.
    fn keep_until(&mut self, wanted: usize) {
        while self.kept.len() != wanted || !self.ready {
            self.take(RecvFlags::empty());
        }
    }

    /// Takes one message; false if there is none, where that is asked for.
    fn take(&mut self, flags: RecvFlags) -> bool {
        use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, recvmsg};
        let mut bytes = [0; 4096];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let read = recvmsg(
            &self.socket,
            &mut [std::io::IoSliceMut::new(&mut bytes)],
            &mut control,
            flags | RecvFlags::CMSG_CLOEXEC,
        );
        let length = match read {
            Err(rustix::io::Errno::AGAIN) if flags.contains(RecvFlags::DONTWAIT) => return false,
            read => read.expect("the agent tells").bytes,
        };
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        self.ready |= text.lines().any(|line| line == "READY=1");
        let name = text.lines().find_map(|line| line.strip_prefix("FDNAME="));
        let fds = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds.collect::<Vec<_>>()),
            _ => None,
        });
        let fd = fds.flatten().next();
        match (name, fd) {
            (Some(name), Some(fd)) if text.contains("FDSTORE=1") => {
                // The same file again is not kept twice; every descriptor of a process is
                // another one.
                let is_kept = self.kept.iter().any(|(kept, _)| kept == name);
                if !(is_kept && name.starts_with("tollgate-page.")) {
                    self.kept.push((name.to_owned(), fd));
                }
            }
            (Some(name), None) if text.contains("FDSTOREREMOVE=1") => {
                self.kept.retain(|(kept, _)| kept != name);
            }
            _ => {}
        }
        true
    }

    /// A command line that starts the agent with what is kept, from descriptor 3 on.
    fn start(&mut self, home: &Home) -> Running {
        self.ready = false;
        // Far from those that they become.
        let from: Vec<_> = self
            .kept
            .iter()
            .map(|(_, fd)| {
                let fd = rustix::io::fcntl_dupfd_cloexec(fd, 100).expect("free");
                rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty()).expect("ours");
                fd
            })
            .collect();
        let mut script = String::from("export LISTEN_PID=$$;");
        for (to, fd) in (3..).zip(&from) {
            use std::os::fd::AsRawFd;
            script.push_str(&format!("exec {to}<&{};", fd.as_raw_fd()));
        }
        script.push_str("exec \"$@\"");
        let names: Vec<_> = self.kept.iter().map(|(name, _)| name.as_str()).collect();
        let child = Command::new("bash")
            .args(["-c", &script, "bash", env!("CARGO_BIN_EXE_tollgate-agent")])
            .args(["run", "--config"])
            .arg(&home.config)
            .env("NOTIFY_SOCKET", Self::socket(home))
            .env("LISTEN_FDS", names.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            .stderr(std::fs::File::create(home.dir.path().join("log")).expect("writable"))
            .spawn()
            .expect("bash starts");
        Running(child)
    }
}

#[test]
fn an_application_that_ends_while_no_agent_is_there_is_counted_by_the_next() {
    let home = home(ALL);
    let mut manager = Manager::new(&home);
    manager.leave(&home, "late").end();
    let agent = manager.start(&home);
    // Counted, and done with.
    manager.keep_until(0);
    stop(agent);
    assert_eq!(sealed(&home)["acme/requests"], (1_003_004, 1002));
}

#[test]
fn what_was_left_for_an_agent_that_takes_fewer_pages_is_counted_when_there_is_room() {
    let home = home(ALL);
    let mut manager = Manager::new(&home);
    let applications = [0, 1].map(|_| manager.leave(&home, "late"));
    for application in applications {
        application.end();
    }
    let config = std::fs::read_to_string(&home.config).expect("written");
    let fewer = config.replace("[input.sdk]\n", "[input.sdk]\npages_max = 1\n");
    assert_ne!(config, fewer);
    std::fs::write(&home.config, fewer).expect("writable");
    let agent = manager.start(&home);
    manager.keep_until(0);
    stop(agent);
    assert_eq!(sealed(&home)["acme/requests"], (2 * 1_003_004, 2 * 1002));
}

#[test]
fn the_manager_keeps_one_page_and_one_process_of_each_application_however_often_agents_start() {
    let home = home(ALL);
    let mut manager = Manager::new(&home);
    let application = manager.leave(&home, "quick");
    let mut last: Option<Running> = None;
    for life in 0..3 {
        if let Some(agent) = last.take() {
            kill(agent);
        }
        if life == 2 {
            // Half of what another page left.
            let (name, fd) = &manager.kept[0];
            assert!(name.starts_with("tollgate-process."), "{name}");
            let end = name.rfind('.').expect("the page's name");
            let other = format!("{}.{:032x}", &name[..end], 7);
            let fd = fd.try_clone().expect("ours");
            manager.kept.push((other, fd));
        }
        last = Some(manager.start(&home));
        // Adopted, and brought by the application, which lives.
        let deadline = Instant::now() + PATIENCE;
        let taken = |log: &str| {
            let of = log.lines().filter(|line| line.contains("took a page"));
            of.filter(|line| !line.contains("service manager")).count()
        };
        let log = home.dir.path().join("log");
        while taken(&std::fs::read_to_string(&log).expect("written")) == 0 {
            assert!(Instant::now() < deadline, "the page is not brought");
            std::thread::sleep(Duration::from_millis(20));
        }
        manager.keep_until(2);
        // What it told of the page before that is in the socket.
        while manager.take(RecvFlags::DONTWAIT) {}
        let names: Vec<_> = manager.kept.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }
    application.kill();
    manager.keep_until(0);
    stop(last.expect("three lives"));
    assert_eq!(sealed(&home)["acme/requests"], (3004, 1001));
}

#[test]
fn the_manager_keeps_a_page_that_is_not_billed_until_its_loss_is_declared() {
    let home = home(ALL);
    let mut manager = Manager::new(&home);
    manager.leave(&home, "quick").kill();
    std::fs::remove_dir_all(home.dir.path().join("state")).expect("there");
    let agent = manager.start(&home);
    while !manager.kept.is_empty() {
        manager.take(RecvFlags::empty());
    }
    // From here on nothing but the spool knows of it.
    kill(agent);
    let output = home.command(&["spool", "export"]);
    let exported = stdout(&output);
    assert!(exported.contains("page_quarantined"), "{exported}");
}

#[test]
fn a_killed_agent_goes_on_where_it_stood() {
    let home = home(ALL);
    let mut application = Application::start(&home, "slow");
    // Some of it is counted before there is an agent.
    std::thread::sleep(Duration::from_millis(500));
    for life in 0..4u64 {
        let (agent, _) = home.run();
        std::thread::sleep(Duration::from_millis(700 + life * 190));
        kill(agent);
    }
    let (agent, _) = home.run();
    application.wait_done();
    std::thread::sleep(Duration::from_millis(1500));
    application.kill();
    std::thread::sleep(Duration::from_millis(200));
    stop(agent);
    assert_eq!(sealed(&home)["acme/requests"], (200_000, 200_000));
}

#[test]
fn a_hundred_threads_are_counted_and_whom_one_may_count_for_is_kept() {
    let home = home("[[input.sdk.allow]]\ntenants = [\"t1\"]\n");
    let (agent, mut client) = home.run();
    let mut application = Application::start(&home, "threads");
    application.wait_done();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = client.status().expect("answers");
        let input = find(&status, "sdk").expect("the input is listed");
        // What is shown of pages is up to a second old.
        let shown = status["pages"]["applications"][0]["tenants"] == serde_json::json!(["t1"]);
        if input["rejected"]["other"] == 5000 && shown {
            assert_eq!(status["pages"]["connected"], 1);
            assert_eq!(
                status["pages"]["applications"][0]["pid"],
                application.child.id()
            );
            break;
        }
        assert!(Instant::now() < deadline, "{input}");
        std::thread::sleep(Duration::from_millis(50));
    }
    application.kill();
    stop(agent);
    let sealed = sealed(&home);
    assert_eq!(sealed.get("t1/requests"), Some(&(5000, 5000)), "{sealed:?}");
    assert_eq!(sealed.get("t0/requests"), None);
}

/// The account of an input by its name.
fn find<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    match status {
        Value::Object(map) if map.get("name").is_some_and(|n| n == name) => Some(status),
        Value::Object(map) => map.values().find_map(|value| find(value, name)),
        Value::Array(list) => list.iter().find_map(|value| find(value, name)),
        _ => None,
    }
}

#[test]
fn hostile_pages_harm_nobody() {
    let home = home(ALL);
    let (agent, _) = home.run();
    let mut application = Application::start(&home, "quick");
    let socket = home.dir.path().join("sdk.sock");
    let hostile = std::thread::spawn(move || hostile::attack(&socket));
    application.wait_done();
    hostile.join().expect("the attack went through");
    application.kill();
    std::thread::sleep(Duration::from_millis(200));
    stop(agent);
    assert_eq!(sealed(&home)["acme/requests"], (3004, 1001));
}
