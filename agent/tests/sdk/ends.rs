//! When an application has ended, and when it has not.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use tollgate_agent::admin::client::Client;

use super::support::Home;
use super::{ALL, Application, Manager, PATIENCE, SOCKET, count_quickly, home, sealed, stop};

/// Leaves its connection to a child, which outlives it.
pub(super) fn leave_connection_to_child() {
    count_quickly();
    let mut kept = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd").expect("listed") {
        let path = entry.expect("listed").path();
        let target = std::fs::read_link(&path).unwrap_or_default();
        if !target.to_string_lossy().starts_with("socket:") {
            continue;
        }
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        #[expect(unsafe_code, reason = "the library does not give its descriptor away")]
        // SAFETY: it is open as long as the library has it, which is as long as this process.
        let socket = unsafe { BorrowedFd::borrow_raw(number.expect("a number")) };
        // A duplicate is inherited, the original is not.
        kept.push(rustix::io::dup(socket).expect("free"));
    }
    assert!(kept.iter().any(|fd| fd.as_raw_fd() > 2));
    let child = Command::new("sleep")
        .arg("100")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    let child = child.expect("sleep is there").id().to_string();
    std::fs::write(child_file(), child).expect("writable");
}

/// Becomes another program, which does not count.
pub(super) fn become_another() {
    count_quickly();
    let mut out = std::io::stdout();
    std::io::Write::write_all(&mut out, b"done\n").expect("the test reads");
    let error = Command::new("sleep").arg("100").exec();
    panic!("{error}");
}

fn child_file() -> PathBuf {
    let socket = std::env::var_os(SOCKET).expect("given");
    PathBuf::from(socket).with_file_name("child")
}

/// What the status says of pages, once it is so.
fn until(client: &mut Client, wish: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let pages = client.status().expect("answers")["pages"].take();
        if wish(&pages) {
            return pages;
        }
        assert!(Instant::now() < deadline, "{pages:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn start(home: &Home, job: &str) -> Application {
    let mut application = Application::start(home, job);
    application.wait_done();
    application
}

#[test]
fn an_application_ends_with_its_process_though_a_child_has_its_connection() {
    let home = home(ALL);
    let (agent, mut client) = home.run();
    let application = start(&home, "connection");
    until(&mut client, |pages| pages["connected"] == 1);
    application.kill();
    let pages = until(&mut client, |pages| pages["connected"] == 0);
    assert_eq!(pages["missing"], 0);
    assert_eq!(pages["mirrored"], 0, "nothing of it is counted any more");
    let child = std::fs::read_to_string(home.dir.path().join("child")).expect("written");
    let alive = Command::new("kill").args(["-s", "KILL", &child]).status();
    assert!(alive.expect("kill is there").success(), "the child lived");
    stop(agent);
    assert_eq!(sealed(&home)["acme/requests"], (3004, 1001));
}

#[test]
fn a_process_that_is_another_program_now_has_not_ended() {
    let home = home(ALL);
    let (agent, mut client) = home.run();
    let application = start(&home, "another");
    // Longer than the end of a process may come after that of its connection.
    std::thread::sleep(Duration::from_millis(2500));
    until(&mut client, |pages| pages["connected"] == 1);
    application.kill();
    let pages = until(&mut client, |pages| pages["connected"] == 0);
    assert_eq!(pages["missing"], 0);
    stop(agent);
    assert_eq!(sealed(&home)["acme/requests"], (3004, 1001));
}

#[test]
fn a_page_that_the_manager_kept_takes_no_place_from_its_own_application() {
    let home = home(ALL);
    home.replace("[input.sdk]\n", "[input.sdk]\npages_max = 1\n");
    let mut manager = Manager::new(&home);
    let application = manager.leave(&home, "late");
    let agent = manager.start(&home);
    manager.keep_until(2);
    let mut client = Client::connect(&home.admin_socket(), PATIENCE).expect("ready");
    // It has come again, and is refused nothing.
    std::thread::sleep(Duration::from_millis(1500));
    let pages = until(&mut client, |pages| pages["connected"] == 1);
    assert_eq!(pages["refused"], serde_json::json!({}), "{pages:#}");
    application.end();
    manager.keep_until(0);
    stop(agent);
    assert_eq!(sealed(&home)["acme/requests"], (1_003_004, 1002));
}
