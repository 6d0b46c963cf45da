//! The command line: what it says and its exit codes.

use std::process::{Command, Stdio};

use crate::support::{self, Home, command, exit_code, signal, stderr, stdout};

const SAMPLE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../packaging/tollgate-agent.toml"
);

#[test]
fn the_sample_configuration_is_right() {
    let output = command(&["check", "--no-files", "--config", SAMPLE]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("agent edge-1, 3 meters, 3 rules"));
}

#[test]
fn check_reads_the_certificates_too() {
    let home = Home::new(7430, "");
    let output = home.command(&["check", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert!(stdout(&output).contains("\"ok\":true"));

    let text = std::fs::read_to_string(&home.config).expect("written");
    std::fs::write(&home.config, text.replace("\"edge-1\"", "\"edge-2\"")).expect("writable");
    let output = home.command(&["check"]);
    assert_eq!(output.status.code(), Some(78));
    let said = stderr(&output);
    assert!(
        said.contains("edge-1.pem is for agent `edge-1`, but the configuration says"),
        "{said}"
    );

    std::fs::remove_file(home.dir.path().join("pki/ca.pem")).expect("there");
    let output = home.command(&["check"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("ca.pem"), "{}", stderr(&output));
}

#[test]
fn mistakes_are_shown_with_file_line_key_and_expectation() {
    let home = Home::new(7430, "[[rule]]\ntenant = \"a b\"\nmeter = \"bytes\"");
    for command in ["check", "run"] {
        let output = home.command(&[command]);
        assert_eq!(output.status.code(), Some(78));
        let said = stderr(&output);
        for part in [
            "agent.toml:23:10: key `rule[1].tenant`",
            "agent.toml:24:9: key `rule[1].meter`",
            "expected a declared meter: `requests`",
        ] {
            // The report is wrapped and drawn with lines; compare the words.
            let words = |text: &str| {
                text.replace(['│', '×'], " ")
                    .split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            assert!(words(&said).contains(part), "{part} is not in\n{said}");
        }
    }
    let output = home.command(&["check", "--json"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(
        stdout(&output).contains("\"line\":23"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let home = Home::new(7430, "");
    let code = |args: &[&str]| command(args).status.code();
    assert_eq!(code(&["--help"]), Some(0));
    assert_eq!(code(&["--version"]), Some(0));
    assert_eq!(code(&["frobnicate"]), Some(2));
    assert_eq!(code(&["count", "requests", "1", "--tag", "x"]), Some(2));
    assert_eq!(code(&["check", "--config", "/no/such/file"]), Some(78));
    let output = home.command(&["count", "requests", "1"]);
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    assert_eq!(home.command(&["status"]).status.code(), Some(69));
    for command in ["run", "check", "count", "status", "reload", "top", "tap"] {
        let help = support::command(&[command, "--help"]);
        assert!(stdout(&help).contains("Examples:"), "{command}");
    }
    assert!(stdout(&command(&["--help"])).contains("Exit codes:"));
}

#[test]
fn a_closed_pipe_is_no_panic() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate-agent"))
        .arg("--help")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
}

#[test]
fn count_and_status_talk_to_the_agent() {
    let home = Home::new(1, "");
    let (mut running, _client) = home.run();
    let output = home.command(&["count", "requests", "5", "--tag", "customer=acme", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains(r#""tenant":"acme""#));
    let output = home.command(&["count", "requests", "-5", "--tag", "customer=acme"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("below zero"),
        "{}",
        stderr(&output)
    );
    let output = home.command(&[
        "count",
        "requests",
        "0.5",
        "--tag",
        "customer=acme",
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains(r#""code":"inexact""#));
    let output = home.command(&["status"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        stdout(&output).contains("accepted: 1"),
        "{}",
        stdout(&output)
    );
    // The equation, for the input and for the tenant.
    let text = stdout(&output);
    let account =
        "account: 3 received = 1 accepted + 2 rejected + 0 lost + 0 under way; 1 accepted = ";
    // Of the input, of the tenant, and of the tenant at the input.
    assert_eq!(text.matches(account).count(), 3, "{text}");
    assert!(
        text.contains("busiest:") && text.contains("acme:"),
        "{text}"
    );
    assert!(!text.contains("BALANCE"), "{text}");

    // A second agent cannot have the same state.
    let second = home.command(&["run"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("in use by another agent"));

    signal(&running, "TERM");
    assert_eq!(exit_code(&mut running), Some(0), "{}", home.log());
    assert!(!home.admin_socket().exists());
}
