//! What operators do to usage and to periods: shown in money before, and said afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;

use rust_decimal::Decimal;
use serde_json::{Value, json};
use tollgate_collector_core::entry::Entry;
use tollgate_collector_core::ledger::{EntryKind, LedgerEntry, Note};
use tollgate_common::TenantId;

use super::{Books, BooksRequest, each_entry};
use crate::fold::operate::{OperateRequest, Prepared};
use crate::sqlite::query::Reader;

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
        let before = match operated.tenant() {
            Some(tenant) => self.last_of(tenant).await?,
            None => None,
        };
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
        if let Some(tenant) = operated.tenant() {
            let unsettled = || self.fold.unsettled(tenant.clone(), note.clone());
            let closings = unsettled().await.map_err(|error| error.to_string())?;
            let count = closings.len();
            let closings: Vec<Entry> = closings.into_iter().map(Entry::Close).collect();
            self.append_all(&closings).await?;
            // What came late in this moment is settled by the next closing.
            let left = unsettled().await.map_err(|error| error.to_string())?;
            answer["settled"] = json!(count.saturating_sub(left.len()));
            answer["unsettled"] = json!(left.len());
            answer["booked"] = self.booked(tenant, before).await?;
        }
        Ok(answer)
    }

    /// How many entries closings have booked for a tenant behind `before`, and what they amount to in
    /// each currency; `null` where that does not fit.
    async fn booked(
        &self,
        tenant: &TenantId,
        before: Option<LedgerEntry>,
    ) -> Result<Value, String> {
        let sum = |reader: &Reader, filter| {
            let mut entries = 0_u64;
            let mut totals: BTreeMap<String, Option<Decimal>> = BTreeMap::new();
            each_entry(reader, filter, |entry| {
                let posting = entry.posting;
                let without_amount =
                    matches!(posting.kind, EntryKind::Unrated | EntryKind::Refused);
                if !posting.kind.is_closing() && !without_amount {
                    return Ok(());
                }
                entries += 1;
                if let (Some(amount), Some(currency)) = (posting.amount, posting.currency) {
                    let total = totals.entry(currency).or_insert(Some(Decimal::ZERO));
                    *total = total.and_then(|total| total.checked_add(amount));
                }
                Ok(())
            })?;
            Ok(json!({ "entries": entries, "totals": totals }))
        };
        self.since(tenant, before, sum).await
    }
}
