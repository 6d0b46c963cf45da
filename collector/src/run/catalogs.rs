//! Who may put a catalog in force, and how: every change of prices goes through here into the
//! journal, and is refused as a whole before anything changes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Value, json};
use tollgate_collector_core::catalog::Catalog;
use tollgate_collector_core::catalog::timeline::takes_effect;
use tollgate_collector_core::config::CatalogRules;
use tollgate_collector_core::entry::{
    CHANGE_SIGNATURES_MAX, CHANGE_TENANTS_MAX, CatalogChange, Digest, Entry, PublicKey, Signature,
    codec,
};
use tollgate_common::TenantId;

use super::service::{self, claimed_name};
use crate::fold::FoldHandle;
use crate::journal::JournalHandle;
use crate::serve::ReaderPool;
use crate::signing;
use crate::sqlite::query::{CatalogRow, Reader};

/// A wish to put a catalog in force.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    /// Path below the catalog folder, with `/`, to content.
    pub(super) files: BTreeMap<String, String>,
    /// For whom; `None` for everybody.
    pub(super) tenants: Option<BTreeSet<TenantId>>,
    pub(super) author: String,
    pub(super) reason: String,
    /// Who vouches for it.
    pub(super) signatures: Vec<Signature>,
}

/// A wish to approve what somebody else proposed.
#[derive(Clone, Debug)]
pub(super) struct Approval {
    /// Of the proposed catalog.
    pub(super) digest: Digest,
    pub(super) author: String,
    pub(super) reason: String,
    pub(super) signatures: Vec<Signature>,
}

/// Where wishes become journal entries.
#[derive(Debug)]
pub(super) struct Desk {
    fold: FoldHandle,
    journal: JournalHandle,
    readers: ReaderPool,
    rules: RwLock<Arc<CatalogRules>>,
    /// One wish at a time, so that what it was checked against still stands when it is journaled.
    turn: tokio::sync::Mutex<()>,
}

impl Desk {
    pub(super) fn new(
        fold: FoldHandle,
        journal: JournalHandle,
        projection: &Path,
        rules: CatalogRules,
    ) -> Self {
        Self {
            fold,
            journal,
            readers: ReaderPool::new(projection.to_owned()),
            rules: RwLock::new(Arc::new(rules)),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    pub(super) fn rules(&self) -> Arc<CatalogRules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_rules(&self, rules: CatalogRules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    /// Puts a catalog in force, or proposes it where a second person is needed. What is wrong with
    /// it is said before anything changes.
    pub(super) async fn apply(&self, wish: Wish) -> Result<Value, String> {
        let _turn = self.turn.lock().await;
        let rules = self.rules();
        let Wish {
            files,
            tenants,
            author,
            reason,
            signatures,
        } = wish;
        check_lists(tenants.as_ref(), &signatures)?;
        let checked = tokio::task::spawn_blocking(move || {
            let catalog = Catalog::parse(&files).map_err(|errors| errors.to_string())?;
            let tests = catalog.run_tests().map_err(|errors| errors.to_string())?;
            Ok::<_, String>((catalog, tests))
        });
        let (catalog, tests) = checked.await.map_err(|error| error.to_string())??;
        signing::check(&signatures, catalog.digest(), &rules).map_err(|error| error.to_string())?;
        let rows = self.history().await?;
        refuse_the_same(&rows, catalog.digest(), tenants.as_ref())?;
        let catalog = self.check_next(Arc::new(catalog), tenants.clone()).await?;
        let change = CatalogChange {
            author: Some(author),
            reason: Some(reason),
            tenants,
            signatures,
            proposed: rules.second_person,
            ..CatalogChange::of(&catalog)
        };
        let mut answer = self.journal(change).await?;
        answer["tests"] = tests.into();
        Ok(answer)
    }

    /// Puts in force what somebody else proposed.
    pub(super) async fn approve(&self, approval: Approval) -> Result<Value, String> {
        let _turn = self.turn.lock().await;
        let rules = self.rules();
        let Approval {
            digest,
            author,
            reason,
            signatures,
        } = approval;
        check_lists(None, &signatures)?;
        let rows = self.history().await?;
        let proposal = open_proposal(&rows, digest)?;
        let change = &proposal.change;
        let proposer = change.author.as_deref().unwrap_or_default();
        if claimed_name(proposer) == claimed_name(&author) {
            return Err(format!(
                "{proposer} proposed it, so somebody else has to approve it"
            ));
        }
        signing::check(&signatures, digest, &rules).map_err(|error| error.to_string())?;
        let keys = |signatures: &[Signature]| -> BTreeSet<PublicKey> {
            signatures.iter().map(|signature| signature.key).collect()
        };
        if rules.require_signature && keys(&signatures).is_subset(&keys(&change.signatures)) {
            return Err(
                "the key that signed the proposal signed the approval too, so it shows no second \
                 person (sign with another key)"
                    .to_owned(),
            );
        }
        let files = self
            .readers
            .run(move |reader| reader.catalog_files(digest))
            .await
            .map_err(|error| error.to_string())?
            .ok_or("the files of the proposal are not in the projection")?;
        // It may have been proposed to an older collector, which looked at less.
        let tenants = change.tenants.clone();
        let checked = tokio::task::spawn_blocking(move || {
            let catalog = Catalog::parse(&files).map_err(|errors| errors.to_string())?;
            catalog.run_tests().map_err(|errors| errors.to_string())?;
            Ok::<_, String>((catalog, files))
        });
        let (catalog, files) = checked.await.map_err(|error| error.to_string())??;
        self.check_next(Arc::new(catalog), tenants).await?;
        let change = CatalogChange {
            author: Some(author),
            reason: Some(reason),
            tenants: change.tenants.clone(),
            signatures,
            approves: Some(proposal.position),
            ..CatalogChange::plain(digest, files)
        };
        self.journal(change).await
    }

    /// What was in force at any time, and what stays in force for others, allows this one.
    async fn check_next(
        &self,
        catalog: Arc<Catalog>,
        tenants: Option<BTreeSet<TenantId>>,
    ) -> Result<Arc<Catalog>, String> {
        let check = move |reader: &Reader| {
            let checked = reader.timeline()?.check_next(&catalog, tenants.as_ref());
            Ok(checked.map(|()| catalog))
        };
        let checked = self.readers.run(check).await;
        checked.map_err(|error| error.to_string())?
    }

    /// All that was applied or proposed, oldest first.
    async fn history(&self) -> Result<Vec<CatalogRow>, String> {
        let rows = self.readers.run(Reader::catalogs).await;
        rows.map_err(|error| error.to_string())
    }

    /// Writes a change, and answers when it is durable and folded.
    async fn journal(&self, change: CatalogChange) -> Result<Value, String> {
        let mut answer = json!({
            "digest": change.digest,
            "author": change.author,
            "tenants": change.tenants,
            "proposed": change.proposed,
        });
        let entry = codec::encode(&Entry::Catalog(change)).map_err(|error| error.to_string())?;
        service::append(&self.journal, vec![entry])
            .await
            .map_err(|error| error.to_string())?;
        self.fold
            .reached(self.journal.committed())
            .await
            .map_err(|error| error.to_string())?;
        let rows = self.history().await?;
        if let Some(row) = rows.last() {
            answer["position"] = json!(row.position);
            answer["stamp"] = row.stamp.to_string().into();
            if !row.change.proposed {
                answer["from"] = takes_effect(row.stamp).to_string().into();
            }
        }
        tracing::info!(
            digest = answer["digest"].as_str(),
            author = answer["author"].as_str(),
            proposed = answer["proposed"].as_bool(),
            from = answer["from"].as_str(),
            "catalog journaled"
        );
        Ok(answer)
    }
}

/// What is in the lists is bounded, and a list of nobody is a mistake.
fn check_lists(
    tenants: Option<&BTreeSet<TenantId>>,
    signatures: &[Signature],
) -> Result<(), String> {
    if let Some(tenants) = tenants
        && (tenants.is_empty() || tenants.len() > CHANGE_TENANTS_MAX)
    {
        return Err(format!(
            "{} tenants (expected 1 to {CHANGE_TENANTS_MAX}, or none for everybody)",
            tenants.len()
        ));
    }
    if signatures.len() > CHANGE_SIGNATURES_MAX {
        return Err(format!(
            "more than the {CHANGE_SIGNATURES_MAX} signatures allowed"
        ));
    }
    Ok(())
}

/// Applying what is in force anyway would only look like a change.
fn refuse_the_same(
    rows: &[CatalogRow],
    digest: Digest,
    tenants: Option<&BTreeSet<TenantId>>,
) -> Result<(), String> {
    let applied = rows.iter().rev().filter(|row| !row.change.proposed);
    let in_force = |tenant: Option<&TenantId>| {
        let concerns = |row: &&CatalogRow| match (&row.change.tenants, tenant) {
            (Some(some), Some(tenant)) => some.contains(tenant),
            // For everybody it is in force only if nobody has another one.
            (None, _) | (Some(_), None) => true,
        };
        applied.clone().find(concerns).is_some_and(|row| {
            row.change.digest == digest && (tenant.is_some() || row.change.tenants.is_none())
        })
    };
    let nothing_changes = match tenants {
        None => in_force(None),
        Some(tenants) => tenants.iter().all(|tenant| in_force(Some(tenant))),
    };
    if nothing_changes {
        return Err(format!("catalog {digest} is in force already"));
    }
    Ok(())
}

/// The proposal of a catalog that waits for approval.
fn open_proposal(rows: &[CatalogRow], digest: Digest) -> Result<&CatalogRow, String> {
    let found = rows
        .iter()
        .enumerate()
        .rev()
        .find(|(_, row)| row.change.proposed && row.change.digest == digest);
    let Some((at, proposal)) = found else {
        return Err(format!("nobody has proposed catalog {digest}"));
    };
    let mut later = rows[at + 1..].iter().filter(|row| !row.change.proposed);
    match later.next() {
        None => Ok(proposal),
        Some(row) if row.change.approves == Some(proposal.position) => {
            Err(format!("catalog {digest} is approved already"))
        }
        // What was seen when it was proposed is no longer what it would change.
        Some(row) => Err(format!(
            "catalog {} was applied since; propose {digest} anew",
            row.change.digest
        )),
    }
}

#[cfg(test)]
mod tests {
    use tollgate_collector_core::position::Position;
    use tollgate_common::Timestamp;

    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).expect("valid")
    }

    fn row(at: u8, digest: u8, tenants: Option<&[&str]>) -> CatalogRow {
        let mut change = CatalogChange::plain(Digest([digest; 32]), BTreeMap::new());
        change.tenants = tenants.map(|names| names.iter().map(|name| tenant(name)).collect());
        CatalogRow {
            position: Position::from_bytes([at; 16]),
            stamp: Timestamp::EPOCH,
            change,
        }
    }

    fn proposal(at: u8, digest: u8) -> CatalogRow {
        let mut row = row(at, digest, None);
        row.change.proposed = true;
        row
    }

    #[test]
    fn what_is_in_force_is_not_applied_again() {
        let refused = |rows: &[CatalogRow], digest: u8, tenants: Option<&[&str]>| {
            let tenants = tenants.map(|names| names.iter().map(|name| tenant(name)).collect());
            refuse_the_same(rows, Digest([digest; 32]), tenants.as_ref()).is_err()
        };
        let rows = [row(1, 1, None)];
        assert!(refused(&rows, 1, None) && refused(&rows, 1, Some(&["acme"])));
        assert!(!refused(&rows, 2, None));
        // Some have another one first: it can be applied to everybody, and taken back.
        let rows = [row(1, 1, None), row(2, 2, Some(&["acme"]))];
        assert!(!refused(&rows, 2, None) && !refused(&rows, 1, None));
        assert!(!refused(&rows, 1, Some(&["acme"])) && refused(&rows, 2, Some(&["acme"])));
        assert!(refused(&rows, 1, Some(&["globex"])));
        assert!(!refused(&rows, 2, Some(&["acme", "globex"])));
        assert!(!refused(&[proposal(1, 1)], 1, None));
        assert!(!refused(&[], 1, None));
    }

    #[test]
    fn a_proposal_is_approved_once_and_while_nothing_else_was_applied() {
        let digest = Digest([2; 32]);
        let error = |rows: &[CatalogRow]| open_proposal(rows, digest).expect_err("refused");
        assert!(error(&[row(1, 1, None)]).contains("nobody has proposed"));
        let rows = [row(1, 1, None), proposal(2, 2), proposal(3, 3)];
        assert_eq!(
            open_proposal(&rows, digest).expect("open").position,
            rows[1].position
        );
        let mut approval = row(4, 2, None);
        approval.change.approves = Some(rows[1].position);
        let approved = [rows[0].clone(), rows[1].clone(), approval];
        assert!(error(&approved).contains("approved already"));
        let passed = [rows[1].clone(), row(4, 3, None)];
        assert!(error(&passed).contains("propose"));
        // Anew.
        let anew = [rows[1].clone(), row(4, 3, None), proposal(5, 2)];
        assert_eq!(
            open_proposal(&anew, digest).expect("open").position,
            anew[2].position
        );
    }

    #[test]
    fn a_name_is_a_name_whatever_its_case() {
        assert_eq!(claimed_name("Kim (uid 0)"), claimed_name(" kim (uid 1000)"));
        assert_ne!(claimed_name("kim (uid 0)"), claimed_name("lee (uid 0)"));
        assert_eq!(claimed_name("kim"), "kim");
    }
}
