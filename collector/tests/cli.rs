//! The command line as scripts see it: exit codes, and what is printed where.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn collector(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tollgate-collector"))
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("TOLLGATE_COLLECTOR_CONFIG", "tollgate-collector.toml")
        .output()
        .expect("the collector's binary runs")
}

#[track_caller]
fn expect(output: &Output, code: i32) -> (String, String) {
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        output.status.code(),
        Some(code),
        "stdout:\n{out}\nstderr:\n{err}"
    );
    (out, err)
}

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging")
}

/// The sample configuration with its catalog, in a folder of its own.
fn sample() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary folder");
    std::fs::copy(
        packaging().join("tollgate-collector.toml"),
        dir.path().join("tollgate-collector.toml"),
    )
    .expect("the sample is there");
    copy_dir(&packaging().join("catalog"), &dir.path().join("catalog"));
    expect(&collector(dir.path(), &["pki", "init", "--dir", "pki"]), 0);
    dir
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("creates");
    for entry in std::fs::read_dir(from).expect("the sample catalog is there") {
        let entry = entry.expect("reads");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copies");
        }
    }
}

fn change(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).expect("reads");
    assert!(text.contains(from), "{from} is not in {}", path.display());
    std::fs::write(path, text.replacen(from, to, 1)).expect("writes");
}

#[test]
fn the_sample_is_true() {
    let dir = sample();
    let (out, _) = expect(&collector(dir.path(), &["check"]), 0);
    assert!(out.contains("all is well"), "{out}");
    let (out, _) = expect(
        &collector(dir.path(), &["check", "--json", "--http", "127.0.0.1:9"]),
        0,
    );
    let summary: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(summary["http"], "127.0.0.1:9");
    assert_eq!(summary["policy"]["agents"][0], "edge-1");
}

#[test]
fn the_defaults_in_the_sample_are_the_defaults() {
    let text = std::fs::read_to_string(packaging().join("tollgate-collector.toml"))
        .expect("the sample is there");
    let file = Path::new("tollgate-collector.toml");
    let parse =
        |text: &str| tollgate_collector_core::config::Config::parse(text, file).expect("valid");
    let is_key = |rest: &str| {
        rest.starts_with('[')
            || rest
                .split_once(" = ")
                .is_some_and(|(key, _)| !key.contains(' '))
    };
    let shown: Vec<&str> = text
        .lines()
        .map(|line| {
            line.strip_prefix("# ")
                .filter(|rest| is_key(rest))
                .unwrap_or(line)
        })
        // Neither has a default that a file could say.
        .filter(|line| !line.starts_with("admin_socket") && !line.starts_with("crl"))
        .collect();
    assert_eq!(parse(&shown.join("\n")), parse(&text));
}

#[test]
fn wrong_configurations_show_their_place() {
    let dir = sample();
    let file = dir.path().join("tollgate-collector.toml");
    change(
        &file,
        "listen = \"127.0.0.1:7430\"",
        "listen = \"localhost\"",
    );
    let (out, err) = expect(&collector(dir.path(), &["check"]), 78);
    assert!(out.is_empty(), "{out}");
    assert!(err.contains("tollgate-collector.toml:12:10"), "{err}");
    assert!(
        err.contains("`listen`") && err.contains("expected"),
        "{err}"
    );

    // All of them at once, in the order of the file.
    change(
        &file,
        "# http = \"127.0.0.1:7431\"",
        "http = \"0.0.0.0:7431\"",
    );
    let (_, err) = expect(&collector(dir.path(), &["check"]), 78);
    let listen = err.find("`listen`").expect("the first mistake");
    let http = err.find("`http`").expect("the second mistake");
    assert!(listen < http && err.contains("http_allow_remote"), "{err}");
    change(&file, "http = \"0.0.0.0:7431\"", "http = \"127.0.0.1:0\"");
    let remote = ["check", "--http", "0.0.0.0:7431"];
    change(&file, "\"localhost\"", "\"127.0.0.1:0\"");
    let (_, err) = expect(&collector(dir.path(), &remote), 78);
    assert!(
        err.contains("--http") && err.contains("http_allow_remote"),
        "{err}"
    );

    change(
        &file,
        "listen = \"127.0.0.1:0\"",
        "listen = \"127.0.0.1:0\"\nlisten_port = 1",
    );
    let (_, err) = expect(&collector(dir.path(), &["run"]), 78);
    assert!(err.contains("listen_port"), "{err}");

    let (_, err) = expect(
        &collector(dir.path(), &["check", "--config", "none.toml"]),
        78,
    );
    assert!(
        err.contains("none.toml") && err.contains("TOLLGATE_COLLECTOR_CONFIG"),
        "{err}"
    );
}

#[test]
fn prices_are_tried_without_a_server() {
    let dir = sample();
    let check = ["catalog", "check", "--catalog", "catalog"];
    let (out, _) = expect(&collector(dir.path(), &check), 0);
    assert!(out.contains("1 test passed"), "{out}");

    let usage = "period = \"2026-06\"\nusage.\"http.requests\" = \"3500000\"\n\
        usage.\"cpu.time\" = \"90 min\"\n";
    std::fs::write(dir.path().join("june.toml"), usage).expect("writes");
    let mut rate = vec![
        "rate",
        "--catalog",
        "catalog",
        "--tenant",
        "acme",
        "--usage",
        "june.toml",
    ];
    let (out, _) = expect(&collector(dir.path(), &rate), 0);
    assert!(
        out.contains("[2026-05-31T22:00:00.000Z, 2026-06-30T22:00:00.000Z)"),
        "{out}"
    );
    assert!(out.contains("= 800 + 375 = 1175.00 EUR"), "{out}");
    rate.extend(["--period", "2026-07-04", "--json"]);
    let (out, _) = expect(&collector(dir.path(), &rate), 0);
    let statement: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (&statement["period"], &statement["net"]),
        (&"2026-07".into(), &"1175.07".into())
    );
    let line = &statement["lines"][0];
    assert_eq!(
        (&line["line"], &line["tiers"][1]["exact"]),
        (&"requests".into(), &"375".into())
    );
    assert_eq!(statement["lines"][1]["quantity"], "5400");

    // What is not rated is said aloud, and by the exit code.
    let below = usage.replace("\"3500000\"", "\"-5\"");
    std::fs::write(dir.path().join("june.toml"), below).expect("writes");
    let (_, err) = expect(&collector(dir.path(), &rate), 4);
    assert!(err.contains("usage of http.requests is not rated"), "{err}");

    // A mistake in either file has its place, and a test that fails shows the arithmetic.
    std::fs::write(dir.path().join("june.toml"), usage.replace("min", "GB")).expect("writes");
    let (_, err) = expect(&collector(dir.path(), &rate), 78);
    assert!(
        err.contains("june.toml:3:20") && err.contains("counts data"),
        "{err}"
    );
    change(
        &dir.path().join("catalog/acme-june.test.toml"),
        "1175.00",
        "1175.01",
    );
    for args in [&check[..], &["check"][..]] {
        let (_, err) = expect(&collector(dir.path(), args), 78);
        assert!(
            err.contains("acme-june.test.toml:8") && err.contains("1175.00"),
            "{err}"
        );
    }
}

#[test]
fn wrong_catalogs_and_certificates_are_named() {
    let dir = sample();
    change(
        &dir.path().join("catalog/meters.toml"),
        "scale = ",
        "sclae = ",
    );
    let (_, err) = expect(&collector(dir.path(), &["check"]), 78);
    assert!(
        err.contains("meters.toml:") && err.contains("sclae"),
        "{err}"
    );

    let dir = sample();
    std::fs::write(dir.path().join("pki/collector.key"), "no key").expect("writes");
    let (_, err) = expect(&collector(dir.path(), &["check"]), 78);
    assert!(err.contains("collector.key"), "{err}");
}

#[test]
fn wrong_command_lines_are_refused() {
    let dir = tempfile::tempdir().expect("temporary folder");
    for args in [
        &["fly"][..],
        &["pki", "issue"],
        &["pki", "issue", "--dir", ".", "--agent", "a b"],
        &["run", "--listen", "x"],
    ] {
        expect(&collector(dir.path(), args), 2);
    }
    let (_, err) = expect(&collector(dir.path(), &["check", "--log-level", "=="]), 2);
    assert!(err.contains("--log-level"), "{err}");
}

#[test]
fn every_command_teaches() {
    let dir = tempfile::tempdir().expect("temporary folder");
    for command in [
        &["run"][..],
        &["check"],
        &["status"],
        &["pki", "init"],
        &["pki", "issue"],
        &["period", "list"],
        &["period", "close"],
        &["ledger", "list"],
        &["ledger", "verify"],
        &["ledger", "pack"],
        &["ledger", "line"],
        &["ledger", "credit"],
        &["ledger", "hold"],
        &["ledger", "release"],
        &["invoice", "list"],
        &["invoice", "show"],
        &["invoice", "preview"],
        &["invoice", "issue"],
        &["invoice", "void"],
        &["invoice", "explain"],
        &["invoice", "export"],
        &["party", "set"],
        &["party", "show"],
        &["party", "erase"],
        &["approval", "list"],
        &["approval", "give"],
        &["approval", "reject"],
        &["reconcile"],
        &["journal", "inspect"],
    ] {
        let (out, _) = expect(&collector(dir.path(), &[command, &["--help"]].concat()), 0);
        assert!(out.contains("Example"), "{command:?}:\n{out}");
    }
    let (out, _) = expect(&collector(dir.path(), &["--help"]), 0);
    assert!(out.contains("Exit codes"), "{out}");
}

#[test]
fn pki_overwrites_nothing() {
    let dir = tempfile::tempdir().expect("temporary folder");
    expect(&collector(dir.path(), &["pki", "init", "--dir", "pki"]), 0);
    let (_, err) = expect(&collector(dir.path(), &["pki", "init", "--dir", "pki"]), 1);
    assert!(err.contains("ca.pem") && err.contains("--force"), "{err}");
    let (out, _) = expect(
        &collector(
            dir.path(),
            &[
                "pki", "issue", "--dir", "pki", "--agent", "edge-1", "--json",
            ],
        ),
        0,
    );
    let files: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        files["files"],
        serde_json::json!(["pki/edge-1.pem", "pki/edge-1.key"])
    );
}

#[test]
fn a_certificate_is_revoked_by_its_owners_name_only() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let pki = |args: &[&str], code| {
        let all = [&["pki", args[0], "--dir", "pki"][..], &args[1..]].concat();
        expect(&collector(dir.path(), &all), code)
    };
    pki(&["init"], 0);
    pki(&["issue", "--agent", "a_b"], 0);
    // Its files would have the same names.
    let (_, err) = pki(&["revoke", "--agent", "a/b"], 1);
    assert!(
        err.contains("`a_b`") && err.contains("`a/b`") && err.contains("--certificate"),
        "{err}"
    );
    let file = "pki/a_b.pem";
    pki(&["revoke", "--agent", "a/b", "--certificate", file], 1);
    assert!(!dir.path().join("pki/crl.pem").exists());
    assert!(!dir.path().join("pki/revoked.txt").exists());
    for who in [&["--agent", "a_b"][..], &["--certificate", file]] {
        let (out, _) = pki(&[&["revoke"][..], who].concat(), 0);
        assert!(out.contains("(1 in all)"), "{out}");
    }
}

#[test]
fn what_needs_data_or_a_collector_says_so() {
    let dir = sample();
    let data = dir.path().join("data");
    let data = data.to_str().expect("UTF-8");
    for args in [
        &["ledger", "list"][..],
        &["ledger", "verify"],
        &["period", "list"],
        &["journal", "inspect"],
    ] {
        let (_, err) = expect(
            &collector(dir.path(), &[args, &["--data-dir", data]].concat()),
            1,
        );
        assert!(err.contains(data), "{args:?}: {err}");
    }
    let close = [
        "period",
        "close",
        "--tenant",
        "acme",
        "--at",
        "2026-06-01",
        "--reason",
        "x",
        "--data-dir",
        data,
    ];
    let (_, err) = expect(&collector(dir.path(), &close), 1);
    assert!(err.contains("is it running"), "{err}");
}
