//! A projection in memory that commits transactions whole, as a database does.
//!
//! It checks what a database would not: that ledger entries are never rewritten, that each
//! partition's chain goes on without a break, and that a transaction builds on the last.
//! A host reset may take back the newest transactions (a database that does not sync every
//! commit promises no more), never a part of one.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_collector_core::effect::{AccountState, AgentState, Effect, UsageChange};
use tollgate_collector_core::journal::{Epoch, PartitionId};
use tollgate_collector_core::ledger::{Chain, LedgerEntry};
use tollgate_collector_core::position::Position;
use tollgate_collector_core::projection::{Projection, ProjectionError, Transaction};
use tollgate_common::sketch::Histogram;
use tollgate_common::{AgentId, Detail, MeterName, Scale, TenantId};

use super::bookkeeper::Bookkeeper;

/// Tables as of the last transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Where the projection stands.
    pub position: Option<Position>,
    /// All entries by partition and index.
    pub ledger: BTreeMap<(u16, u64), LedgerEntry>,
    /// Newest state of every conservation account.
    pub accounts: BTreeMap<(TenantId, MeterName, Scale), AccountState>,
    /// Newest state of every agent.
    pub agents: BTreeMap<AgentId, AgentState>,
    /// How the values of distributions were spread.
    pub recorded: BTreeMap<(TenantId, MeterName), Histogram>,
    /// The books, kept by hand.
    pub books: Bookkeeper,
    chains: BTreeMap<u16, Chain>,
}

impl Tables {
    fn apply(&mut self, transaction: &Transaction) -> Result<(), String> {
        let mut touched = BTreeSet::new();
        for effect in &transaction.effects {
            match effect {
                Effect::Ledger(entry) => self.book(entry)?,
                Effect::Account(account) => {
                    let key = (account.tenant.clone(), account.meter.clone(), account.scale);
                    touched.insert(key.clone());
                    self.accounts.insert(key, account.clone());
                }
                Effect::Agent(agent) => {
                    self.agents.insert(agent.agent.clone(), agent.clone());
                }
                Effect::Usage(usage) => self.record(usage),
                Effect::Rows(rows) => rows.changes().for_each(|usage| self.record(&usage)),
                Effect::Period(_) | Effect::Catalog(_) => {}
            }
        }
        self.position = Some(transaction.upto);
        let mut touched = touched.iter().filter_map(|key| self.accounts.get(key));
        touched.try_for_each(check_account)
    }

    fn record(&mut self, usage: &UsageChange) {
        if let (Detail::Distribution(more), None) = (&usage.detail, usage.refused) {
            let series = &usage.series;
            let key = (series.tenant().clone(), series.meter().clone());
            let recorded = self.recorded.entry(key).or_default();
            // Forged counts may be too many; nobody asks for theirs.
            let _ = recorded.merge(more);
        }
    }

    fn book(&mut self, entry: &LedgerEntry) -> Result<(), String> {
        let partition = entry.at.partition;
        let chain = self
            .chains
            .entry(partition)
            .or_insert_with(|| Chain::new(partition));
        chain
            .verify_next(entry)
            .map_err(|error| format!("booking {}: {error}", entry.at))?;
        self.books.take(entry)?;
        match self
            .ledger
            .insert((partition, entry.at.index), entry.clone())
        {
            None => Ok(()),
            Some(_) => Err(format!("ledger entry {} was rewritten", entry.at)),
        }
    }
}

/// Whatever was accepted is somewhere, whenever somebody looks.
fn check_account(account: &AccountState) -> Result<(), String> {
    let parts = [account.counted, account.refused, account.lost];
    let sum: i128 = parts.iter().map(|part| part.units()).sum();
    if sum == account.accepted.units() + account.corrected.units() {
        Ok(())
    } else {
        Err(format!("account does not balance: {account:?}"))
    }
}

/// The projection and the transactions that made it.
#[derive(Clone, Debug, Default)]
pub struct MemoryProjection {
    tables: Tables,
    epoch: Epoch,
    transactions: Vec<Transaction>,
}

impl MemoryProjection {
    /// The tables as they stand.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Number of transactions committed.
    pub fn len(&self) -> usize {
        self.transactions.len()
    }

    /// True without transactions.
    pub fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }

    /// Takes back all but the first `keep` transactions.
    pub fn roll_back(&mut self, keep: usize) -> Result<(), String> {
        self.transactions.truncate(keep);
        self.tables = Tables::default();
        self.transactions
            .iter()
            .try_for_each(|transaction| self.tables.apply(transaction))
    }
}

impl Projection for MemoryProjection {
    fn position(&self, _partition: PartitionId) -> Result<Option<Position>, ProjectionError> {
        Ok(self.tables.position)
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), ProjectionError> {
        if transaction.epoch < self.epoch {
            return Err(ProjectionError::Fenced {
                current: self.epoch,
                ours: transaction.epoch,
            });
        }
        if transaction.after != self.tables.position {
            return Err(ProjectionError::Moved {
                expected: transaction.after,
                found: self.tables.position,
            });
        }
        self.epoch = transaction.epoch;
        self.tables
            .apply(transaction)
            .map_err(ProjectionError::Store)?;
        self.transactions.push(transaction.clone());
        Ok(())
    }

    fn clear(&mut self) -> Result<(), ProjectionError> {
        self.tables = Tables::default();
        self.transactions.clear();
        Ok(())
    }

    fn ledger(
        &self,
        tenant_partition: u16,
        after: u64,
        limit: usize,
    ) -> Result<Vec<LedgerEntry>, ProjectionError> {
        let from = (tenant_partition, after + 1);
        let to = (tenant_partition, u64::MAX);
        Ok(self
            .tables
            .ledger
            .range(from..=to)
            .take(limit)
            .map(|(_, e)| e.clone())
            .collect())
    }
}
