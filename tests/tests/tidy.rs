//! Style as tests: what review would otherwise have to notice by eye.
//!
//! Every rule walks the files that belong to the repository (tracked, or new and not ignored)
//! and lists all offenders at once.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longest source file, tests included. The aim is 500 lines before tests.
const FILE_LINES_MAX: usize = 700;

/// Crates that touch the operating system; no core may depend on one of them.
const IMPURE: &[&str] = &[
    "async-std",
    "mio",
    "quinn",
    "quinn-udp",
    "rusqlite",
    "rustls",
    "smol",
    "socket2",
    "tokio",
];

/// What may stand at the top of the repository besides dotted files.
const TOP_LEVEL: &[&str] = &[
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "agent",
    "benches",
    "clippy.toml",
    "collector",
    "common",
    "docs",
    "packaging",
    "rustfmt.toml",
    "tests",
];

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest
        .parent()
        .expect("tests/ lies in the repository")
        .to_owned()
}

/// Paths relative to the root, of files that exist.
fn files() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    let listed = match output {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8(output.stdout).expect("paths are UTF-8");
            text.lines().map(PathBuf::from).collect()
        }
        // An unpacked archive has no git; then every file that is not a build product counts.
        _ => walk(&root()),
    };
    listed
        .into_iter()
        .filter(|path: &PathBuf| root().join(path).is_file())
        .collect()
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository is readable") {
            let path = entry
                .expect("a folder of the repository is readable")
                .path();
            let name = path.file_name().expect("an entry has a name");
            if path.is_dir() && name != "target" && name != ".git" {
                open.push(path);
            } else if path.is_file() {
                let relative = path.strip_prefix(root()).expect("found below the root");
                found.push(relative.to_owned());
            }
        }
    }
    found
}

fn sources() -> Vec<(PathBuf, String)> {
    let rust = |path: &PathBuf| path.extension().is_some_and(|e| e == "rs");
    files()
        .into_iter()
        .filter(rust)
        .map(|path| {
            let text = fs::read_to_string(root().join(&path)).expect("sources are UTF-8");
            (path, text)
        })
        .collect()
}

fn report(rule: &str, offenders: &[String]) {
    assert!(
        offenders.is_empty(),
        "{rule}:\n  {}",
        offenders.join("\n  ")
    );
}

#[test]
fn files_are_short() {
    let long: Vec<_> = sources()
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    report(&format!("files above {FILE_LINES_MAX} lines"), &long);
}

#[test]
fn every_file_says_what_it_is_for() {
    let mute: Vec<_> = sources()
        .into_iter()
        .filter(|(path, _)| !is_test_module(path))
        .filter(|(_, text)| {
            let doc = text.lines().find(|line| line.starts_with("//!"));
            doc.is_none_or(|line| line.trim_start_matches("//!").trim().len() < 8)
        })
        .map(|(path, _)| path.display().to_string())
        .collect();
    report("files without a module doc comment", &mute);
}

/// The tests of one module, whose name says what they are for.
fn is_test_module(path: &Path) -> bool {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    name == "tests" || name.ends_with("_tests")
}

#[test]
fn nothing_is_left_unfinished() {
    // Assembled, so that this file does not offend itself.
    let words = ["todo", "unimplemented", "dbg"].map(|word| format!("{word}!("));
    let marks = ["FIX", "XXX", "TODO"].map(|mark| match mark {
        "FIX" => "FIXME".to_owned(),
        other => format!("{other}:"),
    });
    let mut offenders = Vec::new();
    for (path, text) in sources() {
        if path.ends_with("tests/tidy.rs") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            if words
                .iter()
                .chain(&marks)
                .any(|word| line.contains(word.as_str()))
            {
                offenders.push(format!(
                    "{}:{}: {}",
                    path.display(),
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    report("unfinished code", &offenders);
}

#[test]
fn no_path_of_a_developers_machine() {
    let machine = ["work", "root", "home"].map(|folder| format!("/{folder}/"));
    let mut offenders = Vec::new();
    for path in files() {
        if path.ends_with("tests/tidy.rs") || path.starts_with("tests/fuzz/corpus") {
            continue;
        }
        let Ok(text) = fs::read_to_string(root().join(&path)) else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            if machine.iter().any(|folder| names_folder(line, folder)) {
                offenders.push(format!(
                    "{}:{}: {}",
                    path.display(),
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    report("paths that exist on one machine only", &offenders);
}

/// True if `line` has `folder` at the start of an absolute path.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !(c.is_alphanumeric() || "._-~*}/".contains(c)))
    })
}

#[test]
fn cores_are_pure() {
    let mut offenders = Vec::new();
    for core in [
        "tollgate-common",
        "tollgate-agent-core",
        "tollgate-collector-core",
    ] {
        let output = Command::new(env!("CARGO"))
            .args(["tree", "--offline", "--package", core, "--edges", "normal"])
            .args(["--prefix", "none", "--format", "{p}"])
            .current_dir(root())
            .output()
            .expect("cargo runs");
        assert!(
            output.status.success(),
            "cargo tree: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let tree = String::from_utf8(output.stdout).expect("cargo prints UTF-8");
        let names: BTreeSet<_> = tree.lines().filter_map(|l| l.split(' ').next()).collect();
        assert!(names.contains(core), "cargo tree lists {core} itself");
        for name in names.intersection(&IMPURE.iter().copied().collect()) {
            offenders.push(format!("{core} depends on {name}"));
        }
    }
    report("cores that could touch the operating system", &offenders);
}

/// What threads and processes share without a lock is in one place, where models reach it.
#[test]
fn every_protocol_without_a_lock_has_a_model() {
    let models: String = sources()
        .into_iter()
        .filter(|(path, _)| path.starts_with("agent/sdk/tests") && names_folder_of_models(path))
        .map(|(_, text)| text)
        .collect();
    let mut found = 0;
    let mut offenders = Vec::new();
    for (path, _) in sources() {
        let name = path.file_stem().and_then(|name| name.to_str());
        let name = name.filter(|name| !["mod", "atomic"].contains(name));
        if let Some(name) = name.filter(|_| path.parent() == Some(Path::new("agent/sdk/src/cell")))
        {
            found += 1;
            if !models.contains(&format!("`cell::{name}`"))
                || !models.contains(&format!("{name}::"))
            {
                offenders.push(format!(
                    "{}: no model in agent/sdk/tests/loom.rs",
                    path.display()
                ));
            }
        }
    }
    assert!(found >= 10, "only {found} protocols were found");
    report("protocols without a lock are modelled", &offenders);
}

fn names_folder_of_models(path: &Path) -> bool {
    path.ends_with("loom.rs") || path.parent().is_some_and(|folder| folder.ends_with("loom"))
}

#[test]
fn one_tls_provider() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("the lock file is tracked");
    for name in ["aws-lc-sys", "aws-lc-rs", "openssl-sys", "native-tls"] {
        let entry = format!("name = \"{name}\"");
        assert!(
            !lock.contains(&entry),
            "{name} in Cargo.lock: ring is the only provider"
        );
    }
}

#[test]
fn the_top_level_stays_short() {
    let top: BTreeSet<_> = files()
        .iter()
        .filter_map(|path| path.components().next())
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect();
    let surplus: Vec<_> = top
        .into_iter()
        .filter(|name| !TOP_LEVEL.contains(&name.as_str()))
        .collect();
    report("unexpected entries at the top of the repository", &surplus);
}

#[test]
fn links_between_documents_resolve() {
    let mut offenders = Vec::new();
    let markdown = |path: &PathBuf| path.extension().is_some_and(|e| e == "md");
    for path in files().into_iter().filter(markdown) {
        let text = fs::read_to_string(root().join(&path)).expect("documents are UTF-8");
        let folder = root().join(path.parent().unwrap_or(Path::new("")));
        for target in links(&text) {
            let file = target.split('#').next().unwrap_or("");
            let outside = target.contains("://") || target.starts_with("mailto:");
            if !outside && !file.is_empty() && !folder.join(file).exists() {
                offenders.push(format!("{}: {target}", path.display()));
            }
        }
    }
    report("links to nowhere", &offenders);
}

/// The targets of `[text](target)` outside of code blocks.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for (at, _) in line.match_indices("](") {
            let rest = &line[at + 2..];
            if let Some(end) = rest.find(')') {
                found.push(rest[..end].to_owned());
            }
        }
    }
    found
}

/// What a manifest takes out of the tests for the sake of build times has none.
#[test]
fn no_test_is_passed_over() {
    let manifest = |path: &PathBuf| path.ends_with("Cargo.toml");
    let mut passed = Vec::new();
    for path in files().into_iter().filter(manifest) {
        let text = fs::read_to_string(root().join(&path)).expect("manifests are UTF-8");
        let package = path.parent().unwrap_or(Path::new(""));
        let own = |folder: &str| {
            let folder = package.join(folder);
            let inside = sources().into_iter();
            inside.filter(move |(path, _)| path.starts_with(&folder))
        };
        if text.contains("doctest = false") {
            let shown = own("src").filter(|(_, text)| has_doc_test(text));
            passed.extend(shown.map(|(path, _)| path.display().to_string()));
        }
        for program in programs_without_tests(&text) {
            // Where there is no library, all sources are the program's.
            let alone = !root().join(package).join("src/lib.rs").exists();
            let sources = own(if alone { "src" } else { &program });
            let shown = sources.filter(|(_, text)| text.contains("#[test]"));
            passed.extend(shown.map(|(path, _)| path.display().to_string()));
        }
        if text.contains("autotests = false") {
            let main = fs::read_to_string(root().join(package).join("tests/main.rs"));
            let main = main.unwrap_or_default();
            let programs = own("tests").filter(|(path, _)| {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                path.parent() == Some(&package.join("tests"))
                    && !path.ends_with("main.rs")
                    && !main.contains(&format!("mod {name};"))
                    && !text.contains(&format!("path = \"tests/{name}.rs\""))
            });
            passed.extend(programs.map(|(path, _)| path.display().to_string()));
        }
    }
    report("tests that no run of the tests runs", &passed);
}

/// Code in documentation that is not marked as something else than Rust.
fn has_doc_test(source: &str) -> bool {
    let mut inside = false;
    source.lines().any(|line| {
        let line = line.trim_start();
        let doc = line.strip_prefix("//!").or(line.strip_prefix("///"));
        let Some(fence) = doc.and_then(|doc| doc.trim_start().strip_prefix("```")) else {
            return false;
        };
        inside = !inside;
        inside && !["text", "toml", "json", "sh", "csv"].contains(&fence.trim())
    })
}

/// The sources of programs that a manifest says have no tests.
fn programs_without_tests(manifest: &str) -> Vec<String> {
    let programs = manifest.split("[[bin]]").skip(1);
    let programs = programs.map(|table| table.split("\n[").next().unwrap_or_default());
    let programs = programs.filter(|table| table.contains("test = false"));
    let path = |table: &str| {
        let (_, path) = table.split_once("path = \"")?;
        Some(path.split('"').next()?.to_owned())
    };
    programs.filter_map(path).collect()
}

#[test]
fn the_rules_can_fail() {
    assert!(has_doc_test("/// ```\n/// let a = 1;\n/// ```\n"));
    assert!(!has_doc_test("//! ```text\n//! a\n//! ```\n"));
    let manifest =
        "[[bin]]\nname = \"a\"\npath = \"src/a.rs\"\ntest = false\n\n[[bin]]\npath = \"b.rs\"\n";
    assert_eq!(programs_without_tests(manifest), ["src/a.rs"]);
    assert!(names_folder("see /home/x", "/home/"));
    assert!(!names_folder("a/home/x", "/home/"));
    assert_eq!(links("[a](b.md#c) `x`\n```\n[d](e)\n```"), vec!["b.md#c"]);
}
