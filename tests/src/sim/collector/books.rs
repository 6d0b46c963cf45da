//! The end of a run: the books are checked against the oracle and against the journal.

use std::collections::BTreeMap;

use tollgate_collector_core::effect::Effect;
use tollgate_collector_core::entry::{CloseCause, Entry, InterimCause};
use tollgate_collector_core::fold::tenant::{Accrual, TenantFold};
use tollgate_collector_core::journal::reader::Reader;
use tollgate_collector_core::journal::segment::PARTITION;
use tollgate_collector_core::ledger::{Certainty, Chain, EntryKind, LedgerEntry};
use tollgate_collector_core::projection::{Projection, Transaction};
use tollgate_collector_core::verify::verify;
use tollgate_common::{Aggregation, MeterName, Quantity};

use super::super::agent::cover_disk;
use super::super::context::{Broken, Context};
use super::super::coverage::Probe;
use super::super::money::{Money, Versions};
use super::super::options::Canary;
use super::super::oracle::LedgerSums;
use super::super::projection::MemoryProjection;
use super::CollectorNode;

fn is_sum(meter: &MeterName) -> bool {
    matches!(
        meter.as_str(),
        "http.requests" | "net.bytes" | "cpu.seconds" | "http.size"
    )
}

impl CollectorNode {
    /// True once everything is folded and every period is closed.
    pub fn is_settled(&self) -> bool {
        let Some(process) = &self.process else {
            return false;
        };
        let idle = self.late.is_empty()
            && process.pending.is_empty()
            && process.commit_at.is_none()
            && process.fold_at.is_none();
        let stamp = process.fold.stamp();
        // Fees are due for periods without end: those that nobody used may stay open.
        let unused = |accrual: &Accrual| accrual.lines.iter().all(|line| line.meter.is_none());
        idle && process.fold.tenants().iter().all(|tenant| {
            tenant.accruals(None).iter().all(unused)
                && tenant
                    .standings(stamp, None)
                    .all(|standing| standing.rounds == 0)
        })
    }

    /// Where it stands, for reports.
    pub fn describe(&self) -> String {
        let Some(process) = &self.process else {
            return "collector is down".to_owned();
        };
        let open = process
            .fold
            .tenants()
            .iter()
            .flat_map(|tenant| tenant.accruals(None));
        let open: Vec<_> = open
            .map(|a| format!("{}/{}..{}", a.tenant, a.start, a.end))
            .collect();
        format!(
            "stamp {}, {} pending, open: {}",
            process.fold.stamp(),
            process.pending.len(),
            open.join(" ")
        )
    }

    /// Checks everything that must hold at the end.
    pub fn check_books(&mut self, context: &mut Context) -> Result<(), Broken> {
        let versions = self.check_replay(context)?;
        let ledger: Vec<LedgerEntry> = self.projection.tables().ledger.values().cloned().collect();
        check_chains(&ledger)?;
        cover_ledger(&ledger, context);
        cover_disk(&self.journal_disk, context);
        cover_disk(&self.snapshot_disk, context);
        self.check_step()?;
        self.check_dues()?;
        let books = &self.projection.tables().books;
        context.coverage.add(Probe::Document, books.documents);
        context.coverage.add(Probe::DocumentVoided, books.voided);
        context.coverage.add(Probe::DocumentOfPart, books.parts);
        let disputed = books.disputed_parts;
        context.coverage.add(Probe::DisputedPart, disputed);
        let process = self
            .process
            .as_ref()
            .ok_or("the collector is down at the end")?;
        self.tell_of_restores(process.group.journal(), context)?;
        let sums = LedgerSums::of(&ledger, is_sum);
        context.oracle.check_conserved(&sums)?;
        context.oracle.figures.check(
            &context.options,
            &ledger,
            &self.projection.tables().recorded,
            &versions,
            &mut context.coverage,
        )
    }

    /// The journal from the first entry on gives the same state and the same books, byte by
    /// byte, as the life full of restarts. Answers who paid for whom.
    fn check_replay(&mut self, context: &mut Context) -> Result<Versions, Broken> {
        let options = context.options.clone();
        let mut money = Money::new(&options, &self.numbers);
        let process = self
            .process
            .as_ref()
            .ok_or("the collector is down at the end")?;
        let journal = process.group.journal();
        self.check_journal(journal)?;
        let mut fold = Self::empty_fold(context);
        let mut replayed = MemoryProjection::default();
        let mut notices = Vec::new();
        let mut closings = Vec::new();
        let mut reader = Reader::new(PARTITION, None);
        while let Some((position, stamped)) =
            reader.next(journal).map_err(|error| error.to_string())?
        {
            if let Entry::Operated(operated) = &stamped.entry {
                context.oracle.operated(operated);
            }
            if let Entry::Interim(interim) = &stamped.entry
                && matches!(interim.cause, InterimCause::Threshold { .. })
            {
                context.hit(Probe::ThresholdReached);
            }
            if let Entry::Close(closing) = &stamped.entry {
                let cause: CloseCause = closing.cause.clone();
                closings.push((position, cause));
            }
            let applied = fold.apply_with_notices(position, &stamped);
            notices.extend(
                applied
                    .notices
                    .into_iter()
                    .map(|notice| (notice.kind, notice.agent)),
            );
            let after = replayed.tables().position;
            let effects: Vec<Effect> = applied.effects;
            money.take(&stamped, &effects, &mut context.coverage)?;
            let epoch = process.epoch;
            let transaction = Transaction {
                partition: PARTITION,
                epoch,
                after,
                upto: position,
                effects,
            };
            replayed
                .commit(&transaction)
                .map_err(|error| error.to_string())?;
        }
        if fold.to_bytes() != process.fold.to_bytes() {
            return Err(
                "replaying the journal gives another state than the running fold".to_owned(),
            );
        }
        if replayed.tables() != self.projection.tables() {
            return Err("replaying the journal gives other books than the projection".to_owned());
        }
        let report = verify(journal, PARTITION, &self.projection).map_err(|e| e.to_string())?;
        // What the planted bug books has to be found from outside.
        if !report.verified && !context.options.canary.is_some_and(Canary::is_in_fold) {
            return Err(format!("the ledger does not verify: {report:?}"));
        }
        Self::cover(&notices, &closings, context);
        context
            .coverage
            .add(Probe::Booked, context.oracle.entries());
        Ok(money.into_versions())
    }

    /// At any time: what agents accepted is counted, refused or lost, and what is counted is
    /// booked or waits in a period.
    pub(super) fn check_step(&self) -> Result<(), Broken> {
        let Some(process) = &self.process else {
            return Ok(());
        };
        let mut sums: BTreeMap<_, [i128; 3]> = BTreeMap::new();
        for posting in self.projection.tables().ledger.values().map(|e| &e.posting) {
            let (Some(tenant), Some(meter)) = (&posting.tenant, &posting.meter) else {
                continue;
            };
            let is_loss = matches!(posting.kind, EntryKind::Loss | EntryKind::LossReversed);
            let counts = if is_loss {
                posting.certainty != Certainty::Unknown
            } else {
                posting.aggregation.is_some_and(Aggregation::adds_up)
            };
            if !counts {
                continue;
            }
            let of = sums
                .entry((tenant.clone(), meter.clone(), posting.scale))
                .or_default();
            let place = match posting.kind {
                EntryKind::Refused => 1,
                _ if is_loss => 2,
                _ => 0,
            };
            of[place] += posting.quantity.units();
            // The line that it is a share of is its payer's.
            if let (EntryKind::Share, Some(payer)) = (posting.kind, &posting.payer) {
                let key = (payer.clone(), meter.clone(), posting.scale);
                sums.entry(key).or_default()[0] -= posting.quantity.units();
            }
        }
        for (key, refused, quantity) in process.fold.tenants().iter().flat_map(TenantFold::unbooked)
        {
            sums.entry(key).or_default()[usize::from(refused)] += quantity.units();
        }
        for account in self.projection.tables().accounts.values() {
            let parts = [account.counted, account.refused, account.lost];
            let parts = parts.map(Quantity::units);
            let key = (account.tenant.clone(), account.meter.clone(), account.scale);
            let booked = sums.remove(&key).unwrap_or_default();
            let whole = account.accepted.units() + account.corrected.units();
            if parts != booked || parts.iter().sum::<i128>() != whole {
                return Err(format!(
                    "account does not balance: {account:?}, booked and waiting {booked:?}"
                ));
            }
        }
        match sums.into_iter().find(|(_, sums)| *sums != [0; 3]) {
            Some((key, sums)) => Err(format!("{key:?} has no account and {sums:?} booked")),
            None => Ok(()),
        }
    }
}

/// Chains hold for entries as others get them: written as JSON and read back.
fn check_chains(ledger: &[LedgerEntry]) -> Result<(), Broken> {
    let mut chains = BTreeMap::new();
    for entry in ledger {
        let partition = entry.at.partition;
        let chain = chains
            .entry(partition)
            .or_insert_with(|| Chain::new(partition));
        let text = serde_json::to_string(entry).map_err(|error| error.to_string())?;
        let read: LedgerEntry =
            serde_json::from_str(&text).map_err(|error| format!("ledger: {error}: {text}"))?;
        chain
            .verify_next(&read)
            .map_err(|error| format!("ledger: {error}: {text}"))?;
    }
    Ok(())
}

fn cover_ledger(ledger: &[LedgerEntry], context: &mut Context) {
    for entry in ledger {
        match (entry.posting.kind, entry.posting.certainty) {
            (EntryKind::Reversal, _) => context.hit(Probe::LateUsage),
            (EntryKind::Adjustment, _) => context.hit(Probe::LateNext),
            (EntryKind::Charge, _) if entry.posting.meter.is_none() => context.hit(Probe::Fee),
            (EntryKind::Charge, _) if context.options.anchored => {
                context.hit(Probe::AnchoredPeriod);
            }
            (EntryKind::Refused, _) => context.hit(Probe::RefusedRow),
            (EntryKind::Share, _) => context.hit(Probe::Share),
            (EntryKind::Unrated, _) => context.hit(Probe::Unrated),
            (EntryKind::Loss, Certainty::Exact) => context.hit(Probe::LossExact),
            (EntryKind::Loss, Certainty::AtMost) => context.hit(Probe::LossAtMost),
            (EntryKind::Loss, Certainty::Unknown) => context.hit(Probe::LossUnknown),
            (
                EntryKind::Charge
                | EntryKind::Manual
                | EntryKind::Credit
                | EntryKind::Hold
                | EntryKind::Release
                | EntryKind::Invoice
                | EntryKind::CreditNote
                | EntryKind::LossReversed,
                _,
            ) => {}
        }
    }
}
