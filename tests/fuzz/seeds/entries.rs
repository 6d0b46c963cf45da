//! Seeds of journal entries, one of each kind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tollgate_collector_core::entry::codec::encode;
use tollgate_collector_core::entry::{
    CatalogChange, CloseCause, Closing, Digest, Entry, LostEntry, Missing, Opened, PolicyChange,
    PublicKey, ReceivedBatch, RefusedReason, Restored, Signature, Verdicts,
};
use tollgate_collector_core::position::Position;
use tollgate_common::{AgentId, BatchSeq, Incarnation, Lineage, TenantId};

use super::{Seed, batch, time, tombstone};

/// Each kind, as it is (mode 0 of the target) and as kind, stamp and body (mode 1).
pub fn entries() -> Vec<Seed> {
    let names = [
        ("opened", "opened_body"),
        ("batch", "batch_body"),
        ("tombstone", "tombstone_body"),
        ("missing", "missing_body"),
        ("policy", "policy_body"),
        ("catalog", "catalog_body"),
        ("catalog_signed", "catalog_signed_body"),
        ("close", "close_body"),
        ("clock", "clock_body"),
        ("lost", "lost_body"),
        ("restored", "restored_body"),
    ];
    let mut seeds = Vec::new();
    for ((whole_name, body_name), entry) in names.into_iter().zip(all()) {
        let bytes = encode(&entry).expect("a valid entry").stamped(time(60));
        let mut body = vec![1, bytes[3]];
        body.extend_from_slice(&bytes[8..13]);
        body.extend_from_slice(&bytes[16..]);
        let mut whole = vec![0];
        whole.extend_from_slice(&bytes);
        seeds.push((whole_name, whole));
        seeds.push((body_name, body));
    }
    seeds
}

fn all() -> Vec<Entry> {
    let agent = AgentId::new("edge-1").expect("valid");
    let policy = PolicyChange {
        digest: Digest([1; 32]),
        text: "[[agent]]\nname = \"edge-*\"\n".to_owned(),
    };
    let files = BTreeMap::from([("meters.toml".to_owned(), "[[meter]]\n".to_owned())]);
    let verdicts = Verdicts::PerRow(vec![None, Some(RefusedReason::TenantNotAllowed)]);
    let closing = Closing {
        tenant: TenantId::new("acme").expect("valid"),
        start: time(0),
        end: time(900),
        round: 0,
        cause: CloseCause::Settled,
        catalog: Digest([2; 32]),
        zone_data: "2025b".to_owned(),
        fold_version: 1,
        agents: BTreeMap::from([(agent.clone(), time(30))]),
        missing: vec![agent.clone()],
    };
    vec![
        Entry::Opened(Opened {
            lineage: Lineage::from_bytes([3; 16]),
            partitions: 4,
            usage_window_secs: 900,
            settlement_millis: 86_400_000,
            future_tolerance_millis: 300_000,
        }),
        Entry::Batch(Arc::new(ReceivedBatch {
            batch: batch(2),
            policy: policy.digest,
            verdicts,
        })),
        Entry::Tombstone(tombstone()),
        Entry::Missing(Missing {
            agent,
            incarnation: Incarnation::from_bytes([3; 16]),
            from: BatchSeq::new(3).expect("not zero"),
            to: BatchSeq::new(5).expect("not zero"),
        }),
        Entry::Policy(policy),
        Entry::Catalog(CatalogChange::plain(Digest([4; 32]), files.clone())),
        Entry::Catalog(CatalogChange {
            author: Some("operator".to_owned()),
            reason: Some("new prices".to_owned()),
            tenants: Some(BTreeSet::from([TenantId::new("acme").expect("valid")])),
            signatures: vec![Signature {
                key: PublicKey([8; 32]),
                bytes: [9; 64],
            }],
            proposed: true,
            approves: Some(Position::from_bytes([5; 16])),
            ..CatalogChange::plain(Digest([4; 32]), files)
        }),
        Entry::Close(closing),
        Entry::Clock,
        Entry::Lost(LostEntry {
            position: Position::from_bytes([5; 16]),
            author: "operator".to_owned(),
            reason: "the disk is gone".to_owned(),
        }),
        Entry::Restored(Restored {
            lineage: Lineage::from_bytes([6; 16]),
            previous: Lineage::from_bytes([3; 16]),
            author: "operator".to_owned(),
            reason: "the disk is gone".to_owned(),
        }),
    ]
}
