//! Checks that `docs/unrated.md` lists every reason, and no other.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;

use crate::entry::RefusedReason;
use crate::fold::tenant::UnratedReason;

const PAGE: &str = include_str!("../../../../../../docs/unrated.md");

/// The names of an enum, which its reader tells when it meets another one.
fn names<T: DeserializeOwned + std::fmt::Debug>() -> BTreeSet<String> {
    let error = serde_json::from_str::<T>("\"no such reason\"").expect_err("an unknown name");
    let message = error.to_string();
    let (_, expected) = message
        .split_once("expected ")
        .expect("the names there are");
    let names = expected.split('`').skip(1).step_by(2);
    names.map(str::to_owned).collect()
}

fn documented(section: &str) -> BTreeSet<String> {
    let heading = format!("\n## {section}\n");
    let (_, rest) = PAGE.split_once(&heading).expect("the section");
    let rows = rest.split("\n## ").next().expect("its text").lines();
    rows.filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_reason_is_documented() {
    assert_eq!(documented("Unrated"), names::<UnratedReason>());
    assert_eq!(documented("Refused"), names::<RefusedReason>());
}
