//! The collector's program under signals and with a journal that cannot be written.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::Site;

/// The program, ended with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Program {
    fn start(site: &Site) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_tollgate-collector"))
            .args(["run", "--log-format", "json"])
            .env_clear()
            .env("TOLLGATE_COLLECTOR_CONFIG", site.config())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("runs");
        Self(child)
    }

    /// The answer of `status`, as soon as the collector is ready.
    fn ready(site: &Site) -> serde_json::Value {
        wait(|| {
            let (code, out) = site.cli(&["status", "--json"]);
            let status: serde_json::Value = serde_json::from_str(&out).ok()?;
            (code == 0 && status["ready"] == true).then_some(status)
        })
    }

    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(
            Command::new("kill")
                .args([name, &pid])
                .status()
                .expect("kill runs")
                .success()
        );
    }

    fn exit_code(&mut self) -> i32 {
        wait(|| self.0.try_wait().expect("waits"))
            .code()
            .expect("no signal")
    }
}

fn wait<T>(mut poll: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_mins(1);
    loop {
        if let Some(value) = poll() {
            return value;
        }
        assert!(Instant::now() < until, "not in time");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn catalogs(site: &Site) -> usize {
    let (_, out) = site.cli(&["journal", "inspect", "--json"]);
    let entries: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    entries
        .as_array()
        .expect("a list")
        .iter()
        .filter(|entry| entry["kind"] == "catalog")
        .count()
}

#[test]
fn hangup_reloads_what_is_right_and_refuses_what_is_not() {
    let site = Site::new("");
    let mut program = Program::start(&site);
    let digest = Program::ready(&site)["fold"]["catalog"].clone();
    assert_eq!(catalogs(&site), 1);
    let meters = site.dir().join("catalog/meters.toml");
    let right = std::fs::read_to_string(&meters).expect("reads");

    std::fs::write(&meters, right.replace("sum", "total")).expect("writes");
    program.signal("-HUP");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(
        Program::ready(&site)["fold"]["catalog"],
        digest,
        "the old catalog stays in force"
    );

    let more = "[[meter]]\nname = \"net.bytes\"\nunit = \"By\"\nscale = 0\naggregation = \"sum\"\n";
    std::fs::write(&meters, format!("{right}\n{more}")).expect("writes");
    program.signal("-HUP");
    wait(|| (Program::ready(&site)["fold"]["catalog"] != digest).then_some(()));
    assert_eq!(catalogs(&site), 2);

    program.signal("-TERM");
    assert_eq!(program.exit_code(), 0);
    assert!(
        !site.data().join("admin.sock").exists(),
        "the socket is removed"
    );

    // What is in force is known to the journal: nothing is announced again.
    let mut program = Program::start(&site);
    Program::ready(&site);
    assert_eq!(catalogs(&site), 2);
    program.signal("-INT");
    assert_eq!(program.exit_code(), 0);
}

#[test]
fn two_collectors_do_not_share_a_journal_and_a_killed_one_leaves_no_lock() {
    let site = Site::new("");
    let program = Program::start(&site);
    Program::ready(&site);
    assert_eq!(Program::start(&site).exit_code(), 1);
    program.signal("-KILL");
    drop(program);
    let mut program = Program::start(&site);
    Program::ready(&site);
    program.signal("-TERM");
    assert_eq!(program.exit_code(), 0);
}

#[test]
fn a_journal_that_cannot_be_written_has_its_own_exit_code() {
    let site = Site::new("");
    let config = std::fs::read_to_string(site.config()).expect("reads");
    let small = "[journal]\nsegment_bytes = \"4KiB\"\nbytes_max = \"8KiB\"\n\n[fold]";
    std::fs::write(site.config(), config.replace("[fold]", small)).expect("writes");
    let meters = site.dir().join("catalog/meters.toml");
    let text = std::fs::read_to_string(&meters).expect("reads");
    let filler =
        "# a long comment, which belongs to the catalog like everything else\n".repeat(1000);
    std::fs::write(&meters, format!("{text}{filler}")).expect("writes");
    assert_eq!(Program::start(&site).exit_code(), 74);
}

/// Who issues documents, and what two persons decide, is read again too.
#[test]
fn hangup_puts_issuers_and_approvals_in_force() {
    let site = Site::new("");
    let mut program = Program::start(&site);
    Program::ready(&site);
    let by = ["--reason", "r", "--author", "kim", "--json"];
    let line = |key: &str| {
        let what = ["ledger", "line", "--tenant", "acme", "--line", "setup"];
        let how = ["--text", "Setup", "--amount", "10.00", "--currency", "EUR"];
        let (code, out) = site.cli(&[&what[..], &how, &["--key", key], &by].concat());
        assert_eq!(code, 0, "{out}");
        serde_json::from_str::<serde_json::Value>(&out).expect("JSON")
    };
    let issue = [&["invoice", "issue", "--tenant", "acme"][..], &by].concat();
    assert_eq!(line("a")[0]["kind"], "manual");
    assert_eq!(site.cli(&issue).0, 1, "nobody issues");

    let config = std::fs::read_to_string(site.config()).expect("reads");
    let issuer = format!("{config}\n[[issuer]]\nid = \"main\"\n");
    std::fs::write(site.config(), &issuer).expect("writes");
    program.signal("-HUP");
    wait(|| (site.cli(&issue).0 == 0).then_some(()));

    let approval = format!("{issuer}\n[approval]\nmanual = true\n");
    std::fs::write(site.config(), approval).expect("writes");
    program.signal("-HUP");
    let mut tries = 0;
    wait(|| {
        tries += 1;
        line(&format!("b{tries}"))[0]["waits"]
            .is_number()
            .then_some(())
    });
    program.signal("-TERM");
    assert_eq!(program.exit_code(), 0);
}
