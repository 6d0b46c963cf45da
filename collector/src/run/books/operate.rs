//! What operators do to usage and to periods: shown in money before, and said afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rust_decimal::Decimal;
use serde_json::{Value, json};
use tollgate_collector_core::entry::Entry;
use tollgate_collector_core::ledger::{EntryKind, LedgerEntry, Note};
use tollgate_common::TenantId;

use super::{Books, BooksRequest, Heads};
use crate::fold::operate::{OperateRequest, Prepared};

impl Books {
    /// Shows what an action would change; every other request as it is.
    pub(in crate::run) async fn preview(&self, request: BooksRequest) -> Result<Value, String> {
        match request {
            BooksRequest::Operate { request, note } => {
                let prepared = self.prepare(request, note).await?;
                Ok(json!({ "applied": false, "change": prepared.preview }))
            }
            request => Ok(request.describe()),
        }
    }

    async fn prepare(&self, request: OperateRequest, note: Note) -> Result<Box<Prepared>, String> {
        let prepared = self.fold.operate(request, note).await;
        prepared.map_err(|error| error.to_string())?
    }

    /// Journals an action, settles at once what it changes in closed periods, and says what that booked.
    pub(super) async fn operate(
        &self,
        request: OperateRequest,
        note: Note,
    ) -> Result<Value, String> {
        let prepared = self.prepare(request, note.clone()).await?;
        let operated = prepared.operated;
        let mut answer = json!({ "applied": true, "change": prepared.preview });
        let before = self.heads().await?;
        self.append(&Entry::Operated(Arc::new(operated.clone())))
            .await?;
        let done = self.fold.has_done(operated.clone()).await;
        if !done.map_err(|error| error.to_string())? {
            return Err(match operated.tenant() {
                Some(_) => "it was journaled and has no effect: the books changed meanwhile",
                None => {
                    "it was journaled, but the agent has reported meanwhile and is waited for again"
                }
            }
            .to_owned());
        }
        if operated.tenant().is_some() {
            let unsettled = || self.fold.unsettled(operated.clone(), note.clone());
            let closings = unsettled().await.map_err(|error| error.to_string())?;
            let count = closings.len();
            let closings: Vec<Entry> = closings.into_iter().map(Entry::Close).collect();
            self.append_all(&closings).await?;
            // What came late in this moment is settled by the next closing.
            let left = unsettled().await.map_err(|error| error.to_string())?;
            answer["settled"] = json!(count.saturating_sub(left.len()));
            answer["unsettled"] = json!(left.len());
            answer["booked"] = self.booked(prepared.concerned, before).await?;
        }
        Ok(answer)
    }

    /// How many entries closings have booked for these tenants behind `before`, and what they amount
    /// to in each currency; `null` where that does not fit. What another tenant pays for is booked
    /// for the payer; shares in that are not counted again.
    async fn booked(&self, tenants: BTreeSet<TenantId>, before: Heads) -> Result<Value, String> {
        let none = (0_u64, BTreeMap::<String, Option<Decimal>>::new());
        let sum = move |(entries, totals): &mut (u64, BTreeMap<_, _>), entry: LedgerEntry| {
            let posting = entry.posting;
            let is_theirs = posting.tenant.is_some_and(|whose| tenants.contains(&whose));
            let without_amount = matches!(posting.kind, EntryKind::Unrated | EntryKind::Refused);
            if !is_theirs || !(posting.kind.is_closing() || without_amount) {
                return;
            }
            *entries += 1;
            if let (Some(amount), Some(currency)) = (posting.amount, posting.currency) {
                let total = totals.entry(currency).or_insert(Some(Decimal::ZERO));
                *total = total.and_then(|total| total.checked_add(amount));
            }
        };
        let (entries, totals) = self.since(before, none, sum).await?;
        Ok(json!({ "entries": entries, "totals": totals }))
    }
}
