//! Verification: the ledger, recomputed from the journal.
//!
//! The journal is folded anew up to where the projection stands. Every ledger entry that comes
//! out is compared with the stored one, and the stored chain is checked on the way; the first
//! difference is located by partition, number and field. At the end every account must have
//! `accepted + corrected = counted + refused + lost`, and its parts must be what the ledger says:
//! `accepted + corrected = billed + unrated + refused + lost + open`. Legs must sum to zero, lines to their
//! invoice, and numbers of documents must have no gaps.

mod accounts;
mod books;
mod shares;

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use tollgate_common::{MeterName, Quantity, Scale, TenantId};

use crate::effect::Effect;
use crate::entry::{Digest, Entry};
use crate::fold::intake::Restore;
use crate::fold::whole::Fold;
use crate::journal::reader::{ReadError, Reader};
use crate::journal::{Journal, PartitionId};
use crate::ledger::{Chain, ChainError, EntryRef, LedgerEntry};
use crate::position::Position;
use crate::projection::{Projection, ProjectionError};

use books::Books;
pub use books::{BooksReport, Fault, UsageSums};

/// Ledger entries read from the projection at a time.
const PAGE: usize = 1024;

/// Why nothing could be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// The projection cannot be read.
    #[error(transparent)]
    Projection(#[from] ProjectionError),
    /// The projection reflects entries that the journal does not have.
    #[error(
        "the journal ends at {reached:?}, before {upto}, which the ledger reflects: committed entries are gone from its end"
    )]
    JournalEndsEarly {
        /// Where the projection stands.
        upto: Position,
        /// The last entry of the journal.
        reached: Option<Position>,
    },
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// True if the ledger is what the journal gives and every account is conserved.
    pub verified: bool,
    /// Journal entries that were folded.
    pub journal_entries: u64,
    /// Where the projection stands.
    pub upto: Option<Position>,
    /// The last of them: the same, if the projection stands at an entry that can be read.
    pub reached: Option<Position>,
    /// Where the journal was restored from a backup and began a new lineage, oldest first.
    pub restores: Vec<Restore>,
    /// Ledger entries that agree.
    pub ledger_entries: u64,
    /// The end of each partition's chain.
    pub chains: Vec<ChainEnd>,
    /// The first place where the ledger is not what the journal gives.
    pub difference: Option<Difference>,
    /// What the books add up to.
    pub books: BooksReport,
    /// Every account, by tenant, meter and scale.
    pub accounts: Vec<AccountCheck>,
    /// True if every account is conserved.
    pub conserved: bool,
}

/// The end of a verified chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChainEnd {
    /// Tenant partition.
    pub partition: u16,
    /// Number of entries.
    pub entries: u64,
    /// Hash of the last one.
    pub head: Digest,
}

/// One account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountCheck {
    /// Whose.
    pub tenant: TenantId,
    /// Of which meter.
    pub meter: MeterName,
    /// Decimal places.
    pub scale: Scale,
    /// What agents counted.
    pub accepted: Quantity,
    /// What was folded into periods.
    pub counted: Quantity,
    /// What was refused.
    pub refused: Quantity,
    /// What was declared lost.
    pub lost: Quantity,
    /// What operators added and took away.
    pub corrected: Quantity,
    /// What became of it, by the entries of the ledger.
    pub booked: UsageSums,
    /// True if all of it adds up.
    pub conserved: bool,
}

/// Where ledger and journal differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Which ledger entry.
    #[serde(flatten)]
    pub at: EntryRef,
    /// How.
    #[serde(flatten)]
    pub kind: DifferenceKind,
}

/// Kinds of differences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "difference")]
pub enum DifferenceKind {
    /// The journal gives an entry that the ledger does not have.
    Missing,
    /// The ledger has an entry that the journal does not give.
    Surplus,
    /// What stands there cannot be read as an entry.
    Unreadable {
        /// Why.
        detail: String,
    },
    /// The ledger has entries, but nothing says up to where of the journal it goes.
    NoPosition,
    /// A field differs.
    Field {
        /// Its name.
        field: String,
        /// What the journal gives, as JSON.
        journal: String,
        /// What the ledger has, as JSON.
        ledger: String,
    },
    /// The stored chain is broken.
    Chain {
        /// How.
        detail: String,
    },
}

/// Folds `partition` of `journal` anew and compares with `projection`.
pub fn verify<J: Journal, P: Projection>(
    journal: &J,
    partition: PartitionId,
    projection: &P,
) -> Result<Report, VerifyError> {
    verify_with(journal, partition, projection, |_| Ok(()))
}

/// The same; `witness` gets the effects of each entry, in order, to compare what else the
/// projection holds.
pub fn verify_with<J: Journal, P: Projection>(
    journal: &J,
    partition: PartitionId,
    projection: &P,
    mut witness: impl FnMut(&[Effect]) -> Result<(), ProjectionError>,
) -> Result<Report, VerifyError> {
    let upto = projection.position(partition)?;
    let mut fold = Fold::new();
    let mut reader = Reader::new(partition, None);
    let mut stored: BTreeMap<u16, Stored> = BTreeMap::new();
    let mut accounts = BTreeMap::new();
    let mut books = Books::default();
    let mut difference = None;
    let mut restores = Vec::new();
    let mut journal_entries = 0;
    let mut ledger_entries = 0;
    while upto.is_some_and(|upto| reader.position().is_none_or(|position| position < upto)) {
        let Some((position, stamped)) = reader.next(journal)? else {
            // The entries that are gone need not have left a trace in the ledger.
            if let Some(upto) = upto {
                return Err(VerifyError::JournalEndsEarly {
                    upto,
                    reached: reader.position(),
                });
            }
            break;
        };
        // A skipped entry may have stood between.
        if upto.is_some_and(|upto| position > upto) {
            break;
        }
        journal_entries += 1;
        if let Entry::Issue(issue) = &stamped.entry {
            books.issue(issue);
        }
        let effects = fold.apply(position, &stamped);
        if matches!(stamped.entry, Entry::Restored(_)) {
            restores.extend(fold.intake().last_restore().cloned());
            books.restored();
        }
        witness(&effects)?;
        for effect in effects {
            if let Effect::Ledger(entry) = &effect {
                books.take(entry, fold.intake().families());
            }
            match effect {
                Effect::Ledger(entry) if difference.is_none() => {
                    let of = entry.at.partition;
                    let stored = stored.entry(of).or_insert_with(|| Stored::new(of));
                    match stored.compare(&entry, projection)? {
                        None => ledger_entries += 1,
                        Some(found) => difference = Some(found),
                    }
                }
                Effect::Account(account) => {
                    let key = (account.tenant.clone(), account.meter.clone(), account.scale);
                    accounts.insert(key, account);
                }
                Effect::Ledger(_)
                | Effect::Usage(_)
                | Effect::Rows(_)
                | Effect::Agent(_)
                | Effect::Period(_)
                | Effect::Catalog(_) => {}
            }
        }
    }
    if difference.is_none() {
        difference = surplus(&fold, &mut stored, projection)?;
        if let Some(found) = difference.as_mut().filter(|_| upto.is_none()) {
            found.kind = DifferenceKind::NoPosition;
        }
    }
    let chains = stored.values().map(Stored::end).collect();
    let (books, booked) = books.finish(&fold);
    let (accounts, conserved) = accounts::check(accounts, booked);
    // It stands at an entry, or somebody changed where it stands.
    let reached = fold.position();
    let verified = difference.is_none() && conserved && books.faults.is_empty() && reached == upto;
    Ok(Report {
        verified,
        journal_entries,
        upto,
        reached,
        restores,
        ledger_entries,
        chains,
        difference,
        books,
        accounts,
        conserved,
    })
}

/// Entries that no journal entry gave.
fn surplus<P: Projection>(
    fold: &Fold,
    stored: &mut BTreeMap<u16, Stored>,
    projection: &P,
) -> Result<Option<Difference>, ProjectionError> {
    for partition in 0..fold.intake().partitions() {
        let stored = stored
            .entry(partition)
            .or_insert_with(|| Stored::new(partition));
        let at = stored.at();
        let kind = match stored.next(projection) {
            Ok(None) => continue,
            Ok(Some(entry)) => {
                return Ok(Some(Difference {
                    at: entry.at,
                    kind: DifferenceKind::Surplus,
                }));
            }
            Err(error) => unreadable(error)?,
        };
        return Ok(Some(Difference { at, kind }));
    }
    Ok(None)
}

/// The stored ledger of one tenant partition, page by page.
struct Stored {
    partition: u16,
    chain: Chain,
    page: VecDeque<LedgerEntry>,
    read: u64,
}

impl Stored {
    fn new(partition: u16) -> Self {
        Self {
            partition,
            chain: Chain::new(partition),
            page: VecDeque::new(),
            read: 0,
        }
    }

    fn next<P: Projection>(
        &mut self,
        projection: &P,
    ) -> Result<Option<LedgerEntry>, ProjectionError> {
        if self.page.is_empty() {
            let page = |limit| projection.ledger(self.partition, self.read, limit);
            // One that cannot be read says nothing of those before it.
            let read = match page(PAGE) {
                Err(ProjectionError::Unreadable(_)) => page(1),
                read => read,
            };
            self.page = read?.into();
        }
        let entry = self.page.pop_front();
        if let Some(entry) = &entry {
            self.read = entry.at.index;
        }
        Ok(entry)
    }

    fn compare<P: Projection>(
        &mut self,
        computed: &LedgerEntry,
        projection: &P,
    ) -> Result<Option<Difference>, ProjectionError> {
        let at = computed.at;
        let stored = match self.next(projection) {
            Ok(Some(stored)) => stored,
            Ok(None) => {
                let kind = DifferenceKind::Missing;
                return Ok(Some(Difference { at, kind }));
            }
            Err(error) => {
                let kind = unreadable(error)?;
                return Ok(Some(Difference { at, kind }));
            }
        };
        // The field first: it says more than that the hash is wrong.
        if let Some(kind) = first_difference(computed, &stored) {
            return Ok(Some(Difference { at, kind }));
        }
        let chain = self.chain.verify_next(&stored);
        Ok(chain.err().map(|error: ChainError| Difference {
            at,
            kind: DifferenceKind::Chain {
                detail: error.to_string(),
            },
        }))
    }

    /// Where the next entry should stand.
    fn at(&self) -> EntryRef {
        EntryRef {
            partition: self.partition,
            index: self.read.saturating_add(1),
        }
    }

    fn end(&self) -> ChainEnd {
        ChainEnd {
            partition: self.partition,
            entries: self.chain.len(),
            head: self.chain.head(),
        }
    }
}

/// What stands in the place of an entry, if it is that which failed.
fn unreadable(error: ProjectionError) -> Result<DifferenceKind, ProjectionError> {
    match error {
        ProjectionError::Unreadable(detail) => Ok(DifferenceKind::Unreadable { detail }),
        error => Err(error),
    }
}

/// The first field in which two entries differ, in the order in which they are printed.
fn first_difference(computed: &LedgerEntry, stored: &LedgerEntry) -> Option<DifferenceKind> {
    if computed == stored {
        return None;
    }
    let fields = |entry| serde_json::to_value(entry).expect("a ledger entry is plain JSON");
    let (computed, stored) = (fields(computed), fields(stored));
    let text = |value: Option<&serde_json::Value>| {
        value.map_or_else(|| "nothing".to_owned(), ToString::to_string)
    };
    let empty = serde_json::Map::new();
    let (computed, stored) = (
        computed.as_object().unwrap_or(&empty),
        stored.as_object().unwrap_or(&empty),
    );
    // The hashes differ whenever something else does.
    let (last, first): (Vec<_>, Vec<_>) = computed
        .keys()
        .partition(|key| *key == "hash" || *key == "previous");
    let field = first
        .into_iter()
        .chain(last)
        .find(|key| computed.get(*key) != stored.get(*key))?;
    Some(DifferenceKind::Field {
        field: field.clone(),
        journal: text(computed.get(field)),
        ledger: text(stored.get(field)),
    })
}

#[cfg(test)]
mod field_tests;
#[cfg(test)]
mod payer_tests;
#[cfg(test)]
mod tests;
