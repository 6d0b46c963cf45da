//! Runs every example of the pages of `docs/pricing/` that are about bills.
//!
//! A `toml` block begins with the name of its file. The files of a page's first example are shared by all;
//! `# + NAME` adds to one of them. What stands before a test makes an example together with it and
//! the tests that follow; the next file begins another one.

use std::collections::BTreeMap;

use crate::catalog::Catalog;

const BILLS: &str = include_str!("../../../../../docs/pricing/bills.md");
const CONTRACTS: &str = include_str!("../../../../../docs/pricing/contracts.md");
const FEES: &str = include_str!("../../../../../docs/pricing/fees.md");

type Files = BTreeMap<String, String>;

/// The blocks with their files' names; true for what is added.
fn blocks(document: &str) -> Vec<(String, bool, String)> {
    let parts = document.split("\n```toml\n").skip(1);
    parts
        .map(|part| {
            let (block, _) = part.split_once("\n```").expect("a block ends");
            let first = block.lines().next().unwrap_or_default();
            let name = first.strip_prefix("# ").expect("it names its file");
            let (name, adds) = match name.strip_prefix("+ ") {
                Some(name) => (name, true),
                None => (name, false),
            };
            (name.to_owned(), adds, format!("{block}\n"))
        })
        .collect()
}

/// The files of each example, tests included.
fn examples(document: &str) -> Vec<Files> {
    let mut shared: Option<Files> = None;
    let mut examples = Vec::new();
    let mut open: Files = Files::new();
    let mut tested = false;
    for (name, adds, text) in blocks(document) {
        let is_test = name.ends_with(".test.toml");
        if tested && !is_test {
            let done = std::mem::take(&mut open);
            let base = shared.get_or_insert_with(|| {
                let files = done
                    .iter()
                    .filter(|(name, _)| !name.ends_with(".test.toml"));
                files
                    .map(|(name, text)| (name.clone(), text.clone()))
                    .collect()
            });
            open = base.clone();
            examples.push(done);
        }
        tested = is_test;
        if adds {
            open.get_mut(&name).expect("it is shared").push_str(&text);
        } else {
            open.insert(name, text);
        }
    }
    examples.push(open);
    examples
}

#[test]
fn every_example_is_as_documented() {
    let bills = examples(BILLS);
    assert!(bills.len() > 15, "the document is a cookbook");
    let others = [CONTRACTS, FEES].into_iter().flat_map(examples);
    for files in bills.into_iter().chain(others) {
        let named: Vec<&String> = files.keys().collect();
        let catalog = Catalog::parse(&files).unwrap_or_else(|errors| panic!("{named:?}\n{errors}"));
        let tests = catalog.run_tests();
        let passed = tests.unwrap_or_else(|errors| panic!("{named:?}\n{errors}"));
        assert!(passed > 0, "{named:?}");
    }
}
