//! The interface for C: the header tells the truth, and the examples count.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

mod support;

use support::Agent;

const HEADER: &str = include_str!("../include/tollgate.h");
const SOURCE: &str = include_str!("../src/capi.rs");

/// Functions by name, with the number of their parameters.
fn functions(text: &str, is_c: bool) -> BTreeMap<String, usize> {
    let text = if is_c {
        without_comments(text)
    } else {
        text.to_owned()
    };
    let mut found = BTreeMap::new();
    for (at, _) in text.match_indices("tollgate_") {
        let rest = &text[at..];
        let end = rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(0);
        let declared = is_c || text[..at].ends_with("extern \"C\" fn ");
        if !declared || !rest[end..].starts_with('(') {
            continue;
        }
        let close = rest.find(')').expect("a list ends");
        let list = rest[end + 1..close].trim().trim_end_matches(',');
        let none = list.is_empty() || list == "void";
        let count = if none { 0 } else { list.split(',').count() };
        found.insert(rest[..end].to_owned(), count);
    }
    found
}

fn without_comments(text: &str) -> String {
    text.split("/*")
        .map(|part| part.split_once("*/").map_or(part, |(_, after)| after))
        .collect()
}

#[test]
fn the_header_declares_what_there_is() {
    let (declared, there) = (functions(HEADER, true), functions(SOURCE, false));
    assert!(there.len() >= 20, "{there:?}");
    assert_eq!(declared, there);
}

/// The shared library, which was built together with this test.
fn library() -> PathBuf {
    let test = std::env::current_exe().expect("known");
    let deps = test.parent().expect("in a folder");
    let found = [deps, deps.parent().expect("in a folder")]
        .map(|folder| folder.join("libtollgate.so"))
        .into_iter()
        .find(|path| path.exists());
    found.expect("the shared library lies beside the test")
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(name)
}

fn spawn(command: &mut Command, socket: &Path) -> Child {
    command
        .env("TOLLGATE_SOCKET", socket)
        .spawn()
        .expect("runs")
}

#[test]
fn the_example_in_c_counts() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (binary, library) = (dir.path().join("count"), library());
    let folder = library.parent().expect("in a folder");
    let built = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&binary)
        .arg(example("count.c"))
        .arg(concat!("-I", env!("CARGO_MANIFEST_DIR"), "/include"))
        .arg(&library)
        .arg(format!("-Wl,-rpath,{}", folder.display()))
        .status()
        .expect("a C compiler");
    assert!(built.success());

    let mut agent = Agent::listen(&dir.path().join("sdk.sock"));
    let mut child = spawn(&mut Command::new(binary), agent.path());
    let page = agent.accept();
    assert!(child.wait().expect("ends").success());
    // The process is gone, its counts are not.
    let total = page.total("acme/http.requests{method=GET,region=eu}");
    assert_eq!(total, (1000, 1000));
    for (series, kind) in [("peak", 3), ("bytes", 5), ("users", 4), ("sessions", 6)] {
        assert_eq!(page.kinds(&format!("acme/http.{series}{{}}")), vec![kind]);
    }
}

#[test]
fn the_example_in_python_counts() {
    let python = Command::new("python3").arg("--version").output();
    if !python.is_ok_and(|output| output.status.success()) {
        let required = std::env::var_os("TOLLGATE_REQUIRE_ALL").is_some();
        assert!(
            !required,
            "TOLLGATE_REQUIRE_ALL is set and there is no python3"
        );
        let skipped = b"skipped: there is no python3\n";
        let _ = std::io::Write::write_all(&mut std::io::stderr(), skipped);
        return;
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut agent = Agent::listen(&dir.path().join("sdk.sock"));
    let mut command = Command::new("python3");
    command.arg(example("count.py")).arg(library());
    let mut child = spawn(&mut command, agent.path());
    let page = agent.accept();
    assert!(child.wait().expect("ends").success());
    let total = page.total("acme/http.requests{method=GET,region=eu}");
    assert_eq!(total, (1000, 1000));
}
