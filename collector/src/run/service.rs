//! What the admin socket can do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tollgate_collector_core::entry::codec;
use tollgate_collector_core::journal::group::{Pending, Token};
use tollgate_collector_core::ledger::Note;

use super::books::{Books, BooksRequest};
use super::catalogs::{Approval, Desk, Wish};
use crate::fold::handle::CloseRequest;
use crate::fold::{AskError, FoldHandle};
use crate::journal::JournalHandle;
use crate::metrics::Metrics;
use crate::serve::admin::{AdminRequest, AdminService};

/// The running collector, as the admin socket sees it.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) fold: FoldHandle,
    pub(super) catalogs: Arc<Desk>,
    pub(super) books: Arc<Books>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) ready: Arc<AtomicBool>,
    pub(super) listen: SocketAddr,
    pub(super) http: SocketAddr,
}

impl AdminService for Service {
    async fn handle(&self, request: AdminRequest) -> Result<Value, String> {
        match request {
            AdminRequest::Status => self.status().await,
            AdminRequest::PeriodStatus { tenant, over } => {
                shown(self.fold.standings(tenant, over).await)
            }
            AdminRequest::Operate {
                request,
                author,
                reason,
                apply,
            } => {
                let note = note(author, reason);
                let request = BooksRequest::Operate { request, note };
                if apply {
                    self.books.handle(request).await
                } else {
                    self.books.preview(request).await
                }
            }
            AdminRequest::ClosePeriod {
                tenant,
                at,
                author,
                reason,
            } => {
                let at = crate::time::parse_instant(&at)?;
                let request = CloseRequest {
                    tenant,
                    at,
                    author,
                    reason,
                    approved_by: None,
                };
                self.books.handle(BooksRequest::Close(request)).await
            }
            AdminRequest::Book { entry } => self.books.handle(BooksRequest::Manual(entry)).await,
            AdminRequest::Issue {
                tenant,
                what,
                author,
                reason,
            } => {
                let note = note(author, reason);
                let request = BooksRequest::Issue { tenant, what, note };
                self.books.handle(request).await
            }
            AdminRequest::Dues => self.books.dues().await,
            AdminRequest::Accrue { tenant } => shown(self.fold.accrue(tenant).await),
            AdminRequest::Accruals { tenant } => {
                let accruals = self.fold.accruals(Some(tenant)).await;
                shown(accruals.map(|accruals| json!({ "accruals": accruals })))
            }
            AdminRequest::Waiting => Ok(self.books.list()),
            AdminRequest::Decide {
                id,
                agrees,
                author,
                reason,
            } => self.books.decide(id, (author, reason), agrees).await,
            AdminRequest::ApplyCatalog {
                files,
                tenants,
                author,
                reason,
                signatures,
            } => {
                let wish = Wish {
                    files,
                    tenants,
                    author,
                    reason,
                    signatures,
                };
                self.catalogs.apply(wish).await
            }
            AdminRequest::ApproveCatalog {
                digest,
                author,
                reason,
                signatures,
            } => {
                let approval = Approval {
                    digest,
                    author,
                    reason,
                    signatures,
                };
                self.catalogs.approve(approval).await
            }
        }
    }
}

impl Service {
    async fn status(&self) -> Result<Value, String> {
        let fold = self
            .fold
            .status()
            .await
            .map_err(|error| error.to_string())?;
        let (clocks, worst) = self.metrics.clocks.worst();
        Ok(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "ready": self.ready.load(Ordering::Acquire),
            "listen": self.listen,
            "http": self.http,
            "connections": self.metrics.connections_open.get(),
            // Of the agents that said hello since the start; whose clock is farthest off.
            "clocks": {
                "agents": clocks,
                "worst": worst.map(|(agent, millis)| json!({"agent": agent, "offset_millis": millis})),
            },
            "fold": fold,
            "fold_lag_entries": self.metrics.fold_lag.get(),
        }))
    }
}

/// What the fold answers, as JSON.
fn shown<T: serde::Serialize>(answer: Result<T, AskError>) -> Result<Value, String> {
    answer
        .map(|answer| json!(answer))
        .map_err(|error| error.to_string())
}

/// Nobody has agreed yet.
fn note(author: String, reason: String) -> Note {
    Note {
        author,
        approved_by: None,
        reason,
    }
}

/// What somebody calls himself, without the user id that the socket added.
pub(super) fn claimed_name(author: &str) -> String {
    let name = author
        .rsplit_once(" (uid ")
        .map_or(author, |(name, _)| name);
    name.trim().to_lowercase()
}

/// Appends entries of the collector's own and waits until they are durable.
pub(super) async fn append(
    journal: &JournalHandle,
    entries: Vec<codec::EncodedEntry>,
) -> Result<(), crate::journal::JournalStopped> {
    if entries.is_empty() {
        return Ok(());
    }
    let (proofs, mut durable) = tokio::sync::mpsc::unbounded_channel();
    let pending = entries
        .into_iter()
        .map(|entry| Pending {
            token: Token::NOBODY,
            entry,
        })
        .collect();
    journal.append_own(pending, Some(proofs))?;
    durable
        .recv()
        .await
        .map(|_| ())
        .ok_or(crate::journal::JournalStopped)
}
