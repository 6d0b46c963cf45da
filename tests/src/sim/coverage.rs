//! What a campaign has really exercised. A fault that never fired proves nothing.

use std::fmt;

macro_rules! probes {
    ($($(#[doc = $doc:literal])+ $name:ident = $label:literal,)+) => {
        /// A rare thing that a campaign must have seen.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Probe {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Probe {
            /// All probes in order.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The name in reports.
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)+
                }
            }
        }
    };
}

probes! {
    /// SIGKILL of an agent: cells and written bytes stay.
    AgentKill = "agent_kills",
    /// Reset of an agent's host: cells are gone, what was not synced may be.
    AgentReset = "agent_resets",
    /// An agent stopped in order and started again.
    AgentStop = "agent_clean_stops",
    /// SIGKILL of the collector.
    CollectorKill = "collector_kills",
    /// Reset of the collector's host.
    CollectorReset = "collector_resets",
    /// The collector's disk was set back to a backup, and its operator said so.
    CollectorRestored = "collectors_restored",
    /// The same, and its operator forgot to say so.
    RestoreUnmarked = "restores_unmarked",
    /// A journal lost acknowledged batches to a restore.
    RestoredTail = "batches_lost_by_restores",
    /// A reset lost written bytes that were not synced.
    LostWrite = "lost_writes",
    /// A reset left a part of a write.
    TornWrite = "torn_writes",
    /// A reset lost a name that was not synced.
    LostName = "lost_names",
    /// A storage operation failed with EIO or ENOSPC.
    StorageError = "storage_errors",
    /// The agent had to recover from a poisoned spool.
    SpoolPoisoned = "spools_poisoned",
    /// The collector had to recover from a poisoned journal.
    JournalPoisoned = "journals_poisoned",
    /// A connection was established.
    Connection = "connections",
    /// A connection was established by an agent that had been connected before.
    Reconnection = "reconnections",
    /// A connection broke with bytes on the way.
    DroppedBytes = "drops_with_bytes_in_flight",
    /// A network partition.
    Partition = "partitions",
    /// A slow link.
    SlowLink = "slow_links",
    /// Bytes of an old connection arrived after a new one stood.
    ZombieBytes = "zombie_connection_bytes",
    /// A second receiver appended an entry again.
    ReplayedAppend = "replayed_appends",
    /// A second receiver appended entries in another order.
    ReorderedAppend = "reordered_appends",
    /// The intake saw a batch again.
    Duplicate = "duplicates",
    /// A host was set back to an image of itself.
    SetBack = "hosts_set_back",
    /// Two branches of one incarnation.
    Fork = "forks",
    /// The intake saw a hole in a chain.
    GapSeen = "gaps",
    /// Rows of windows that had not begun by the collector's clock.
    FutureRow = "rows_from_the_future",
    /// A byte of a spool segment was flipped.
    SpoolFlip = "spool_bytes_flipped",
    /// An agent sent a tombstone.
    Tombstone = "tombstones",
    /// A clock jumped forward.
    ClockForward = "clock_jumps_forward",
    /// A clock jumped backward.
    ClockBackward = "clock_jumps_backward",
    /// A full spool held usage back in the cells.
    SpoolFull = "spools_full",
    /// A batch spanned several windows.
    WideRow = "wide_rows",
    /// A row was refused by policy.
    RefusedRow = "refused_rows",
    /// Usage without a price was booked.
    Unrated = "unrated_entries",
    /// A period was closed because it was complete.
    CloseComplete = "closings_complete",
    /// A period was closed because its settlement time was over.
    CloseSettled = "closings_settled",
    /// Usage arrived after its period was closed, and the line was taken back and booked anew.
    LateUsage = "late_reversals",
    /// Usage arrived after its period was closed, and the difference was booked in the next one.
    LateNext = "late_adjustments",
    /// A fee was booked.
    Fee = "fees",
    /// What a tenant has of a line that another one pays was booked.
    Share = "shares",
    /// A period of a length that divides no day was closed.
    AnchoredPeriod = "anchored_periods",
    /// An operator corrected usage.
    Corrected = "operator_corrections",
    /// An operator had closed periods rated anew.
    Rerated = "operator_reratings",
    /// An operator retired an agent.
    Retired = "operator_retirements",
    /// A one-off line or a credit was decided.
    ManualLine = "manual_lines",
    /// A line was disputed, or a dispute ended.
    Disputed = "disputes",
    /// An invoice was decided.
    Invoiced = "invoices_decided",
    /// A sum was decided to be split over several invoices.
    Split = "splits_decided",
    /// Not all documents of a split were written.
    SplitTorn = "splits_torn",
    /// Invoices over a part of their lines.
    DocumentOfPart = "invoices_of_parts",
    /// It was decided to bill a period before its end.
    BilledSoFar = "interims_decided",
    /// A period was billed before its end because it had come to so much.
    ThresholdReached = "thresholds_reached",
    /// The voiding of an invoice was decided.
    Voided = "voidings_decided",
    /// Documents that came to be.
    Document = "documents",
    /// Invoices that were voided.
    DocumentVoided = "invoices_voided",
    /// A period was closed by hand.
    CloseByHand = "closings_by_hand",
    /// A former version of the catalog was applied again.
    CatalogTakenBack = "catalogs_taken_back",
    /// A period whose usage was priced by several versions.
    VersionInside = "versions_inside_periods",
    /// A period of which another tenant paid for a part, with usage in the other.
    PayerInside = "payers_inside_periods",
    /// A period with usage that several prices price.
    SeveralPrices = "several_prices_of_a_meter",
    /// A period with usage at rates of the tenant's own.
    ContractedRate = "contracted_rates",
    /// A closed period that an operator corrected, and had rated anew.
    RerateCorrected = "corrected_and_rated_anew",
    /// The same where the difference is booked in the next period.
    RerateCorrectedNext = "corrected_and_rated_anew_in_the_next",
    /// A bill that was worked out by hand as well, and was the same.
    BillByHand = "bills_by_hand",
    /// A bill of an open period that was worked out by hand as well, and was the same.
    InterimByHand = "bills_so_far_by_hand",
    /// The same with what others have of it for whom the tenant pays.
    SharesByHand = "shares_by_hand",
    /// A bill with tax.
    BilledTax = "bills_with_tax",
    /// A bill with what a minimum adds.
    BilledMinimum = "bills_with_minimum",
    /// A bill with what is missing to a commitment.
    BilledTrueUp = "bills_with_true_up",
    /// A bill with what draws a commitment down.
    BilledDrawdown = "bills_with_drawdown",
    /// A bill with what is above a commitment.
    BilledOverage = "bills_with_overage",
    /// A bill that a grant pays for.
    BilledGrant = "bills_with_grant",
    /// The same with a grant that comes again.
    BilledGrantAgain = "bills_with_grant_again",
    /// A bill with largest values.
    BilledPeak = "bills_with_largest_values",
    /// A bill with levels.
    BilledLevel = "bills_with_levels",
    /// What is left of a line of which invoices have billed a part was disputed.
    DisputedPart = "disputes_of_parts",
    /// A bill that was worked out again because an earlier one left something else.
    WorkedOutAgain = "bills_worked_out_again",
    /// The conservation law was checked between two steps.
    CheckedStep = "steps_checked",
    /// A loss of exact amount was booked.
    LossExact = "losses_exact",
    /// A loss of bounded amount was booked.
    LossAtMost = "losses_at_most",
    /// A loss of unknown amount was booked.
    LossUnknown = "losses_unknown",
    /// A loss was taken back.
    LossReversed = "losses_reversed",
    /// The price or profile changed during the run.
    CatalogChange = "catalog_changes",
    /// A price change was limited to one tenant.
    CatalogLimited = "catalogs_limited",
    /// A price change waited for a second person.
    CatalogProposed = "catalogs_proposed",
    /// The policy changed during the run.
    PolicyChange = "policy_changes",
    /// The projection was deleted or found ahead, and built again.
    ProjectionRebuilt = "projection_rebuilds",
    /// A host reset took back committed transactions of the projection.
    ProjectionRolledBack = "projection_rollbacks",
    /// A collector started from a snapshot.
    SnapshotStart = "snapshot_starts",
    /// A collector started by reading its whole journal.
    JournalStart = "full_replay_starts",
    /// Snapshots were deleted.
    SnapshotsDeleted = "snapshots_deleted",
    /// A damaged snapshot was passed over.
    SnapshotDamaged = "snapshots_damaged",
    /// A batch was refused by the session and the connection closed.
    SessionRefused = "sessions_refused",
    /// An agent sealed from its cells what a killed life had left open.
    UncleanCells = "unclean_cells",
    /// A life went on under the old incarnation because the spool was too full to end it.
    LifeContinued = "lives_continued",
    /// Cells could not be used after a reset.
    CellsLost = "cells_lost",
    /// Counts of a page were taken.
    PageCounted = "page_counts_taken",
    /// A page that an earlier life of the agent knew was taken again.
    PageAgain = "pages_taken_again",
    /// A page was counted for the last time after its application had ended.
    PageOrphan = "pages_orphaned",
    /// A page vanished while no agent ran, and was told.
    PageVanished = "pages_vanished",
    /// A look at a forged page.
    PageForged = "forged_pages_read",
    /// The spool asked for rarer seals.
    RareSeal = "rare_seals",
    /// The spool asked inputs to wait.
    Hold = "inputs_held",
    /// A seal found no room on the disk itself.
    DiskFull = "disks_full",
    /// A seal found room after the disk had been full.
    DiskRoomAgain = "disks_with_room_again",
    /// Series were retired.
    SeriesRetired = "series_retired",
    /// Series of a tenant lost their dimensions.
    SeriesOverflow = "series_overflowed",
    /// A batch told a step of its clock.
    ClockStep = "clock_steps_told",
    /// A batch carried what a value alone does not say.
    Detail = "details_shipped",
    /// A run in which every figure of every aggregation had to be exact.
    ExactRun = "exact_runs",
    /// A run in which seals were rare and the figures of all windows together had to be exact.
    ExactTotals = "exact_totals",
    /// A tenant's meter whose series lost their dimensions, and that was billed exactly.
    ExactOverflow = "exact_overflows",
    /// A tenant's meter that was billed exactly, a part of it with a payer and another part alone.
    ExactWithPayer = "exact_with_payer_and_alone",
    /// A level that was billed exactly.
    ExactLevel = "exact_levels",
    /// An application tried to hand over a page that was declared lost.
    PageQuarantined = "pages_quarantined",
    /// A page that no agent had taken ended with what its application had counted.
    PageNeverTaken = "pages_never_taken",
    /// A batch from an agent that speaks version 1 of the wire format alone.
    OldAgent = "batches_of_old_agents",
    /// An agent left a collector that cannot read its next batch.
    AwaitsUpgrade = "waits_for_an_upgrade",
    /// The collector was replaced by one that speaks version 2.
    CollectorUpgraded = "collectors_upgraded",
    /// An agent was told of another window, or to pause.
    Granted = "grants",
    /// Batches sealed.
    Sealed = "batches_sealed",
    /// Batches acknowledged.
    Acknowledged = "batches_acknowledged",
    /// Counts accepted.
    Accepted = "counts_accepted",
    /// Ledger entries booked.
    Booked = "ledger_entries",
}

/// How often each probe fired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    counts: Vec<u64>,
}

impl Default for Coverage {
    fn default() -> Self {
        Self {
            counts: vec![0; Probe::ALL.len()],
        }
    }
}

impl Coverage {
    /// Counts `probe` once.
    pub fn hit(&mut self, probe: Probe) {
        self.add(probe, 1);
    }

    /// Counts `probe` several times.
    pub fn add(&mut self, probe: Probe, times: u64) {
        self.counts[probe as usize] += times;
    }

    /// How often `probe` fired.
    pub fn of(&self, probe: Probe) -> u64 {
        self.counts[probe as usize]
    }

    /// Adds what another run has covered.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
    }

    /// Every probe with its count, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Probe, u64)> {
        Probe::ALL.iter().map(|&probe| (probe, self.of(probe)))
    }

    /// The probes that never fired.
    pub fn never(&self) -> Vec<&'static str> {
        self.iter()
            .filter(|(_, count)| *count == 0)
            .map(|(probe, _)| probe.label())
            .collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (probe, count) in self.iter() {
            writeln!(f, "  {:<28} {count:>12}", probe.label())?;
        }
        Ok(())
    }
}
