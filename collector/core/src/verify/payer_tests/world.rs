//! A fold with a closer, a journal and its tables, in which one tenant pays for others.

use std::collections::BTreeMap;
use std::sync::Arc;

use tollgate_common::{Quantity, Rollup, Scale, TenantId, Timestamp};

use crate::closer::Closer;
use crate::entry::{
    CatalogChange, CorrectedRow, Correction, Digest, Entry, Opened, Operated, OperatedAction,
    ReceivedBatch, Verdicts,
};
use crate::fold::intake::test_support::{Sealer, row};
use crate::journal::memory::MemoryJournal;
use crate::ledger::{LedgerEntry, Note};
use crate::verify::tests::{PARTITION, Tables};
use crate::verify::{Fold, verify};

const METERS: &str = r#"
[[meter]]
name = "http.requests"
unit = "{request}"
scale = 0
aggregation = "sum"

[[meter]]
name = "free"
unit = "1"
scale = 0
aggregation = "sum"
"#;

pub(in crate::verify) const CARD: &str = r#"
id = "edge"
currency = "EUR"
from = "1970-01-01"
order = "standard/1"

[[price]]
id = "requests"
meter = "http.requests"
model = "graduated"
per = "10 {request}"
tiers = [{ to = "100", unit = "1.00" }, { unit = "0.50" }]

[[price]]
id = "platform"
model = "flat"
flat = "3.00"
"#;

const TAX: &str = "[[tax]]\ncode = \"de\"\njurisdiction = \"DE\"\n\
    rates = [{ percent = \"19\", from = \"1970-01-01\" }]\n";

pub(in crate::verify) const PARTITIONS: u16 = 5;

/// The payer, and two tenants of other partitions than its own and each other's.
pub(in crate::verify) const NAMES: [&str; 3] = ["acme", "shop", "depot"];

pub(in crate::verify) fn tenant(name: &str) -> TenantId {
    TenantId::new(name).expect("valid")
}

/// Profiles of the payer, with `agreed` beside, and of the tenants with what is said of each.
pub(in crate::verify) fn files(agreed: &str, theirs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let profile = |name: &str, more: &str| {
        let text = format!(
            "tenant = \"{name}\"\ncard = \"edge\"\nzone = \"UTC\"\nperiod = {{ every = \"PT1H\" }}\n\
             {more}\n"
        );
        (format!("profiles/{name}.toml"), text)
    };
    let mut files = BTreeMap::from([
        ("meters.toml".to_owned(), METERS.to_owned()),
        ("cards/edge.toml".to_owned(), CARD.to_owned()),
        ("tax/de.toml".to_owned(), TAX.to_owned()),
    ]);
    files.extend([profile("acme", agreed)]);
    files.extend(theirs.iter().map(|(name, more)| profile(name, more)));
    files
}

pub(in crate::verify) struct World {
    pub(in crate::verify) journal: MemoryJournal,
    pub(in crate::verify) tables: Tables,
    pub(in crate::verify) fold: Fold,
    closer: Closer,
    pub(in crate::verify) sealer: Sealer,
    pub(in crate::verify) now: Timestamp,
}

impl World {
    pub(in crate::verify) fn new(files: BTreeMap<String, String>) -> Self {
        let mut world = Self {
            journal: MemoryJournal::new(),
            tables: Tables::default(),
            fold: Fold::new(),
            closer: Closer::new(),
            sealer: Sealer::new(1),
            now: Timestamp::EPOCH,
        };
        world.take(Entry::Opened(Opened {
            lineage: tollgate_common::Lineage::from_bytes([1; 16]),
            partitions: PARTITIONS,
            usage_window_secs: 60,
            settlement_millis: 0,
            future_tolerance_millis: 0,
        }));
        world.catalog(files);
        world
    }

    pub(in crate::verify) fn take(&mut self, entry: Entry) {
        let now = self.now;
        self.tables
            .take(&mut self.journal, &mut self.fold, now, entry);
    }

    pub(in crate::verify) fn catalog(&mut self, files: BTreeMap<String, String>) {
        crate::catalog::Catalog::parse(&files).expect("sound");
        self.take(Entry::Catalog(CatalogChange::plain(Digest([0; 32]), files)));
    }

    /// Usage of tenants at seconds after 1970.
    pub(in crate::verify) fn rows(&mut self, rows: &[(&str, i64, i128)]) {
        let rows = rows.iter().enumerate().map(|(index, (tenant, at, value))| {
            let series = index.to_string();
            row(tenant, "http.requests", &series, at / 10, *value)
        });
        self.batch(rows.collect());
    }

    pub(in crate::verify) fn batch(&mut self, rows: Vec<Rollup>) {
        let batch = self.sealer.seal(rows, false);
        self.take(Entry::Batch(Arc::new(ReceivedBatch {
            batch,
            policy: Digest([0; 32]),
            verdicts: Verdicts::AllAllowed,
        })));
    }

    pub(in crate::verify) fn correct(&mut self, name: &str, key: &str, at: i64, quantity: i128) {
        let row = CorrectedRow {
            meter: tollgate_common::MeterName::new("http.requests").expect("valid"),
            dimensions: BTreeMap::new(),
            aggregation: tollgate_common::Aggregation::Sum,
            scale: Scale::ZERO,
            at: Timestamp::from_secs(at),
            quantity: Quantity::new(quantity),
            release: None,
        };
        self.take(Entry::Operated(Arc::new(Operated {
            action: OperatedAction::Correct(Correction {
                tenant: tenant(name),
                key: key.to_owned(),
                rows: vec![row],
            }),
            note: Note {
                author: "kim".to_owned(),
                approved_by: None,
                reason: "a proxy that counts twice".to_owned(),
            },
        })));
    }

    /// Time passes, and what is due by then is closed; what was booked meanwhile.
    pub(in crate::verify) fn close(&mut self, secs: i64) -> Vec<String> {
        let before = self.tables.ledger.len();
        self.now = Timestamp::from_secs(secs);
        for closing in self.closer.poll(self.now, self.fold.tenants()) {
            self.take(closing);
        }
        self.tables.ledger[before..].iter().map(short).collect()
    }

    pub(in crate::verify) fn verify(&self) {
        let report = verify(&self.journal, PARTITION, &self.tables).expect("reads");
        assert!(report.verified, "{report:#?}");
        // A restart from a snapshot at the end has come to the same.
        let bytes = self.fold.to_bytes();
        assert!(Fold::from_bytes(&bytes).expect("own bytes").to_bytes() == bytes);
    }
}

fn short(entry: &LedgerEntry) -> String {
    let posting = &entry.posting;
    let tenant = posting.tenant.as_ref().map_or("-", TenantId::as_str);
    let amount = posting
        .amount
        .map_or("-".to_owned(), |amount| amount.to_string());
    format!(
        "{tenant} {} {} {} {amount}",
        posting.kind, posting.line, posting.quantity
    )
}

pub(in crate::verify) fn paid() -> World {
    World::new(files(
        "",
        &[("shop", "payer = \"acme\""), ("depot", "payer = \"acme\"")],
    ))
}
