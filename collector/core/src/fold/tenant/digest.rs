//! Digests of usage: what a line of the ledger rests on, so that a ledger can be compared with
//! usage that somebody else has kept. `docs/formats/ledger.md` has the bytes.

use std::collections::BTreeMap;

use tollgate_common::MeterName;

use super::usage::PeriodBook;
use crate::entry::{Digest, RefusedReason};

/// The digest of each meter's usage in a period: one sum for each way in which agents declared it.
pub(super) fn of_meters(book: &PeriodBook) -> BTreeMap<MeterName, Digest> {
    let mut digests: BTreeMap<MeterName, blake3::Hasher> = BTreeMap::new();
    let own = book.usage().iter().map(|usage| (None, usage));
    let theirs = book.children().flat_map(|(tenant, book)| {
        let usage = book.usage().iter();
        usage.map(move |usage| (Some(tenant), usage))
    });
    for (tenant, usage) in own.chain(theirs) {
        let key = usage.key();
        let hasher = digests.entry(key.meter.clone()).or_insert_with(|| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(b"tollgate usage v1\0");
            text(&mut hasher, key.meter.as_str());
            hasher
        });
        if let Some(tenant) = tenant {
            text(hasher, tenant.as_str());
        }
        text(hasher, key.aggregation.as_str());
        hasher.update(&[key.scale.get(), key.refused.map_or(0, RefusedReason::code)]);
        hasher.update(&usage.quantity().units().to_le_bytes());
    }
    digests
        .into_iter()
        .map(|(meter, hasher)| (meter, Digest(*hasher.finalize().as_bytes())))
        .collect()
}

/// A text behind its length.
fn text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}
