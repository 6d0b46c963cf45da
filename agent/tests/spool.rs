//! `tollgate-agent spool`: the spool of real agents, damaged on purpose.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{self, Home, stderr, stdout};
use serde_json::Value;
use tollgate_agent::admin::protocol::Count;

fn count(value: u64) -> Count {
    Count {
        metric: "requests".to_owned(),
        value: value.to_string(),
        tags: [("customer".to_owned(), "acme".to_owned())].into(),
    }
}

/// What a command wrote, line by line.
fn objects(output: &std::process::Output) -> Vec<Value> {
    let text = stdout(output);
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().expect("JSON lines")
}

/// An agent without a collector, whose windows do not end while a test runs.
fn home() -> Home {
    let home = Home::new(1, "");
    let text = fs::read_to_string(&home.config).expect("written");
    let text = text.replace("window = \"1s\"", "window = \"900s\"");
    fs::write(&home.config, text).expect("writable");
    home
}

fn segments(home: &Home) -> Vec<PathBuf> {
    let folder = home.dir.path().join("state/spool");
    let entries = fs::read_dir(folder).expect("there");
    entries.map(|entry| entry.expect("read").path()).collect()
}

/// Flips a bit in the middle of these bytes, wherever they lie in the spool.
fn damage(home: &Home, record: &[u8]) {
    for path in segments(home) {
        let mut bytes = fs::read(&path).expect("reads");
        let found = bytes.windows(record.len()).position(|part| part == record);
        if let Some(at) = found {
            bytes[at + record.len() / 2] ^= 4;
            fs::write(&path, bytes).expect("writes");
            return;
        }
    }
    panic!("no such record");
}

fn record_of(folder: &Path, batch: &Value) -> Vec<u8> {
    let life = batch["incarnation"].as_str().expect("a name");
    let sequence = batch["sequence"].as_u64().expect("a number");
    fs::read(folder.join(format!("{life}-{sequence:020}.record"))).expect("exported")
}

/// Four lives that are killed: an opening and a final batch each, but for the last.
fn lives(home: &Home) {
    for round in 1..=4 {
        let (running, mut client) = home.run();
        client.count(count(round * 100)).expect("counted");
        if round == 4 {
            // Reading needs no lock, repairing does.
            let output = home.command(&["spool", "list", "--json"]);
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
            assert_eq!(objects(&output).len(), 7);
            let output = home.command(&["spool", "repair"]);
            assert_eq!(output.status.code(), Some(1));
            assert!(stderr(&output).contains("in use by another agent"));
        }
        // Dropping kills with SIGKILL.
        drop(running);
    }
}

#[test]
fn a_damaged_spool_is_found_told_and_repaired() {
    let home = home();
    lives(&home);
    let output = home.command(&["spool", "verify"]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert!(stdout(&output).contains("whole; 7 batches, 0 tombstones, 0 problems"));
    let output = home.command(&["spool", "repair"]);
    assert!(
        stdout(&output).contains("nothing to do (7 records)"),
        "{}",
        stdout(&output)
    );

    let folder = home.dir.path().join("records");
    let to = folder.to_str().expect("UTF-8");
    let output = home.command(&["spool", "export", "--records", to]);
    assert!(
        stdout(&output).starts_with("7 records"),
        "{}",
        stderr(&output)
    );
    let exported = objects(&home.command(&["spool", "export"]));
    assert_eq!(exported.len(), 7);
    // The final batch of the second life: its 200 requests.
    let lost = &exported[3];
    assert_eq!(
        (lost["sequence"].as_u64(), lost["final"].as_bool()),
        (Some(2), Some(true))
    );
    assert_eq!(lost["batch"]["rows"][0]["events"], 1);
    let life = lost["incarnation"].as_str().expect("a name");
    let output = home.command(&["spool", "inspect", "2", "--incarnation", &life[..12]]);
    assert!(
        stdout(&output).contains("final: true"),
        "{}",
        stdout(&output)
    );
    damage(&home, &record_of(&folder, lost));

    let output = home.command(&["spool", "verify", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let told = objects(&output);
    let gap = told
        .iter()
        .find(|object| object["kind"] == "gap")
        .expect("told");
    assert_eq!(
        (&gap["first"], &gap["last"], &gap["incarnation"]),
        (&2.into(), &2.into(), &lost["incarnation"])
    );
    assert!(home.command(&["spool", "inspect", "9"]).status.code() == Some(1));

    let output = home.command(&["spool", "repair", "--dry-run"]);
    assert!(
        stdout(&output).contains("would be written"),
        "{}",
        stdout(&output)
    );
    assert_eq!(home.command(&["spool", "verify"]).status.code(), Some(1));
    let output = home.command(&["spool", "repair", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let repaired = &objects(&output)[0];
    assert_eq!(repaired["records"], 6);
    assert_eq!(
        repaired["tombstones"][0]["incarnation"],
        lost["incarnation"]
    );
    assert_eq!(repaired["kept"], "spool.damaged-1");
    assert!(home.dir.path().join("state/spool.damaged-1").is_dir());
    assert!(!home.dir.path().join("state/spool.repaired").exists());

    let output = home.command(&["spool", "verify"]);
    assert!(stdout(&output).contains("whole; 6 batches, 1 tombstones, 0 problems"));
    // The agent goes on with it, and nothing of the last life is lost.
    let (running, _client) = home.run();
    drop(running);
    let batches = objects(&home.command(&["spool", "export"]));
    let counted = |batch: &Value| batch["batch"]["rows"][0]["value"].to_string();
    let told: Vec<_> = batches.iter().map(counted).collect();
    assert!(told.iter().any(|value| value.contains("400")), "{told:?}");
    assert!(!told.iter().any(|value| value.contains("200")), "{told:?}");
    assert!(batches.iter().any(|batch| batch["kind"] == "tombstone"));
}

#[test]
fn a_state_directory_needs_no_configuration() {
    let home = home();
    let (running, _client) = home.run();
    drop(running);
    let state = home.dir.path().join("state");
    let state = state.to_str().expect("UTF-8");
    let list = |dir| {
        support::command(&[
            "spool",
            "list",
            "--config",
            "/nowhere.toml",
            "--state-dir",
            dir,
        ])
    };
    let output = list(state);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("batch"), "{}", stdout(&output));
    assert_eq!(list("/nowhere").status.code(), Some(1));
    let output = support::command(&["spool", "list", "--config", "/nowhere.toml"]);
    assert_eq!(output.status.code(), Some(78));
}
