use tollgate_common::{Incarnation, LossReason, Timestamp, Tombstone};

use super::*;
use crate::entry::codec::encode;
use crate::entry::{Entry, Opened, ReceivedBatch, RefusedReason, Verdicts};
use crate::fold::intake::test_support::{Sealer, agent_id, row};
use crate::journal::Epoch;
use crate::journal::memory::MemoryJournal;
use crate::projection::Transaction;

pub(super) const PARTITION: PartitionId = PartitionId(0);

/// A projection in memory.
#[derive(Default)]
pub(super) struct Tables {
    position: Option<Position>,
    pub(super) ledger: Vec<LedgerEntry>,
    /// What stands there is no entry.
    unreadable: Option<EntryRef>,
}

impl Projection for Tables {
    fn position(&self, _: PartitionId) -> Result<Option<Position>, ProjectionError> {
        Ok(self.position)
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), ProjectionError> {
        self.position = Some(transaction.upto);
        let entries = transaction
            .effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Ledger(entry) => Some(entry.as_ref().clone()),
                _ => None,
            });
        self.ledger.extend(entries);
        Ok(())
    }

    fn clear(&mut self) -> Result<(), ProjectionError> {
        *self = Self::default();
        Ok(())
    }

    fn ledger(
        &self,
        partition: u16,
        after: u64,
        limit: usize,
    ) -> Result<Vec<LedgerEntry>, ProjectionError> {
        let of = self
            .ledger
            .iter()
            .filter(|entry| entry.at.partition == partition && entry.at.index > after);
        let page: Vec<LedgerEntry> = of.take(limit).cloned().collect();
        match page.iter().find(|entry| Some(entry.at) == self.unreadable) {
            Some(entry) => Err(ProjectionError::Unreadable(entry.at.to_string())),
            None => Ok(page),
        }
    }
}

impl Tables {
    /// The same with another ledger.
    pub(super) fn with(&self, ledger: Vec<LedgerEntry>) -> Self {
        Self {
            position: self.position,
            ledger,
            unreadable: None,
        }
    }

    /// Journals an entry, folds it, and takes up what it causes; where it stands.
    pub(super) fn take(
        &mut self,
        journal: &mut MemoryJournal,
        fold: &mut Fold,
        stamp: Timestamp,
        entry: Entry,
    ) -> Position {
        let bytes = encode(&entry).expect("encodes").stamped(stamp);
        journal.append(PARTITION, &bytes).expect("memory");
        let upto = journal.commit(PARTITION).expect("memory")[0];
        let effects = fold.apply(upto, &crate::entry::Stamped { stamp, entry });
        let transaction = Transaction {
            partition: PARTITION,
            epoch: Epoch(1),
            after: self.position,
            upto,
            effects,
        };
        self.commit(&transaction).expect("memory");
        upto
    }
}

/// A journal with usage, refused usage and a loss, and what a collector made of it.
pub(super) fn collected() -> (MemoryJournal, Tables) {
    let mut sealer = Sealer::new(1);
    let mut batch = || {
        let rows = vec![
            row("acme", "http.requests", "eu", 1, 5),
            row("villain", "net.bytes", "eu", 1, 3),
        ];
        let verdicts = Verdicts::PerRow(vec![None, Some(RefusedReason::TenantNotAllowed)]);
        std::sync::Arc::new(ReceivedBatch {
            batch: sealer.seal(rows, false),
            policy: Digest([0; 32]),
            verdicts,
        })
    };
    let (first, second, third) = (batch(), batch(), batch());
    let lost = Tombstone {
        agent: agent_id(),
        incarnation: Incarnation::from_bytes([1; 16]),
        sequence: second.batch.sequence,
        reason: LossReason::SpoolDamaged,
        remembered: None,
    };
    let opened = Opened {
        lineage: tollgate_common::Lineage::from_bytes([1; 16]),
        partitions: 2,
        usage_window_secs: 60,
        settlement_millis: 0,
        future_tolerance_millis: 0,
    };
    let entries = [
        Entry::Opened(opened),
        Entry::Batch(first),
        Entry::Tombstone(lost),
        Entry::Batch(third.clone()),
        Entry::Batch(third),
    ];
    let (mut journal, mut tables, mut fold) =
        (MemoryJournal::new(), Tables::default(), Fold::new());
    for (index, entry) in entries.into_iter().enumerate() {
        let stamp = Timestamp::from_secs(1000 + i64::try_from(index).expect("small"));
        tables.take(&mut journal, &mut fold, stamp, entry);
    }
    (journal, tables)
}

#[test]
fn an_honest_ledger_is_verified() {
    let (journal, tables) = collected();
    assert!(
        tables.ledger.len() >= 3,
        "an unknown loss, and an exact one for each tenant"
    );
    let report = verify(&journal, PARTITION, &tables).expect("reads");
    assert!(report.verified, "{report:?}");
    assert_eq!(report.journal_entries, 5);
    assert_eq!(report.ledger_entries, tables.ledger.len() as u64);
    assert_eq!(
        report.chains.iter().map(|chain| chain.entries).sum::<u64>(),
        report.ledger_entries
    );
    let account = |tenant: &str| {
        let found = report
            .accounts
            .iter()
            .find(|account| account.tenant.as_str() == tenant)
            .expect("there");
        [found.accepted, found.counted, found.refused, found.lost].map(Quantity::units)
    };
    assert_eq!(account("acme"), [15, 10, 0, 5]);
    assert_eq!(account("villain"), [9, 0, 6, 3]);
    assert!(serde_json::to_string(&report).is_ok());
}

#[test]
fn an_empty_projection_of_a_journal_agrees() {
    let (journal, _) = collected();
    let report = verify(&journal, PARTITION, &Tables::default()).expect("reads");
    assert!(report.verified);
    assert_eq!(report.journal_entries, 0);
}

#[test]
fn every_change_of_the_ledger_is_located() {
    let (journal, tables) = collected();
    for index in 0..tables.ledger.len() {
        let at = tables.ledger[index].at;
        let with = |change: &dyn Fn(&mut Vec<LedgerEntry>)| {
            let mut changed = tables.with(tables.ledger.clone());
            change(&mut changed.ledger);
            verify(&journal, PARTITION, &changed)
                .expect("reads")
                .difference
                .expect("found")
        };
        let field = |name: &str, found: Difference| {
            assert_eq!(found.at, at);
            assert!(
                matches!(&found.kind, DifferenceKind::Field { field, .. } if field == name),
                "{found:?}"
            );
        };
        field(
            "quantity",
            with(&|ledger| ledger[index].posting.quantity = Quantity::new(77)),
        );
        field(
            "posted",
            with(&|ledger| ledger[index].posted = Timestamp::EPOCH),
        );
        field("hash", with(&|ledger| ledger[index].hash = Digest([9; 32])));
        field(
            "previous",
            with(&|ledger| ledger[index].previous = Digest([9; 32])),
        );
        let found = with(&|ledger| {
            ledger.remove(index);
        });
        assert_eq!(found.at, at);
        let mut broken = tables.with(tables.ledger.clone());
        broken.unreadable = Some(at);
        let report = verify(&journal, PARTITION, &broken).expect("reads");
        let detail = at.to_string();
        let kind = DifferenceKind::Unreadable { detail };
        assert_eq!(report.difference, Some(Difference { at, kind }));
    }
    let last = tables.ledger.last().expect("entries").clone();
    let mut more = tables.with(tables.ledger.clone());
    more.ledger.push(LedgerEntry {
        at: EntryRef {
            index: last.at.index + 1,
            ..last.at
        },
        ..last
    });
    let found = verify(&journal, PARTITION, &more)
        .expect("reads")
        .difference
        .expect("found");
    assert_eq!(found.kind, DifferenceKind::Surplus);
    more.position = None;
    let report = verify(&journal, PARTITION, &more).expect("reads");
    let found = report.difference.expect("found");
    assert_eq!(found.kind, DifferenceKind::NoPosition);
}

#[test]
fn a_damaged_journal_is_an_error() {
    let (mut journal, tables) = collected();
    journal.damage(1);
    assert!(matches!(
        verify(&journal, PARTITION, &tables),
        Err(VerifyError::Journal(_))
    ));
}

#[test]
fn a_journal_that_lost_its_end_is_noticed() {
    let (_, tables) = collected();
    let mut shorter = MemoryJournal::new();
    let (journal, _) = collected();
    // The last entry is a duplicate and left no trace in the ledger.
    for item in journal
        .read(PARTITION, None, usize::MAX)
        .expect("memory")
        .drain(..4)
    {
        let crate::journal::JournalItem::Entry { bytes, .. } = item else {
            panic!("undamaged")
        };
        shorter.append(PARTITION, &bytes).expect("memory");
    }
    shorter.commit(PARTITION).expect("memory");
    assert!(matches!(
        verify(&shorter, PARTITION, &tables),
        Err(VerifyError::JournalEndsEarly { .. })
    ));
}

#[test]
fn the_same_journal_gives_the_same_bytes() {
    let (journal, _) = collected();
    let replay = |cut: usize| {
        let (mut fold, mut reader, mut effects) =
            (Fold::new(), Reader::new(PARTITION, None), Vec::new());
        let mut index = 0;
        while let Some((position, stamped)) = reader.next(&journal).expect("reads") {
            if index == cut {
                // A restart from a snapshot in between.
                fold = Fold::from_bytes(&fold.to_bytes()).expect("own bytes");
            }
            index += 1;
            effects.push(format!("{:?}", fold.apply(position, &stamped)));
        }
        (fold.to_bytes(), effects)
    };
    let straight = replay(usize::MAX);
    for cut in 0..5 {
        assert!(replay(cut) == straight, "cut at {cut}");
    }
}

/// Who invents names of meters without end: all is counted and verified, and what a period keeps of it
/// is bounded.
#[test]
fn usage_of_too_many_meters_is_counted_together() {
    let (mut journal, mut fold, mut tables) =
        (MemoryJournal::new(), Fold::new(), Tables::default());
    let take = |journal: &mut MemoryJournal, fold: &mut Fold, tables: &mut Tables, entry| {
        tables.take(journal, fold, Timestamp::from_secs(2_000_000_000), entry);
    };
    let mut sealer = Sealer::new(1);
    let mut invented = |numbers: std::ops::Range<u32>, reason: Option<RefusedReason>| {
        let names = numbers.map(|number| format!("m{number:05}"));
        let rows: Vec<_> = names.map(|name| row("acme", &name, "eu", 1, 3)).collect();
        let verdicts = Verdicts::PerRow(vec![reason; rows.len()]);
        Entry::Batch(std::sync::Arc::new(ReceivedBatch {
            batch: sealer.seal(rows, false),
            policy: Digest([0; 32]),
            verdicts,
        }))
    };
    let batches = [
        invented(0..9_990, None),
        // Ten of them have a place of their own yet.
        invented(9_980..10_040, None),
        invented(20_000..20_007, Some(RefusedReason::MeterNotAllowed)),
    ];
    for batch in batches {
        take(&mut journal, &mut fold, &mut tables, batch);
    }
    let open = verify(&journal, PARTITION, &tables).expect("readable");
    assert!(open.verified && open.accounts.len() == 10_047);
    let closings = fold.tenants()[0].poll_closable(Timestamp::from_secs(2_000_000_000));
    for closing in closings {
        take(&mut journal, &mut fold, &mut tables, Entry::Close(closing));
    }
    let together = tables
        .ledger
        .iter()
        .filter(|entry| entry.posting.meter.is_none());
    let together = together.map(|entry| (&*entry.posting.line, entry.posting.quantity.units()));
    let together: Vec<_> = together.collect();
    assert_eq!(
        together,
        [("too_many_meters", 3 * 40), ("meter_not_allowed", 3 * 7)]
    );
    assert_eq!(tables.ledger.len(), 10_002);
    assert!(
        verify(&journal, PARTITION, &tables)
            .expect("readable")
            .verified
    );
    let mut less = tables.ledger.clone();
    less.retain(|entry| entry.posting.line != "too_many_meters");
    assert!(
        !verify(&journal, PARTITION, &tables.with(less))
            .expect("readable")
            .verified
    );
}
