//! What people decide about the books of a running collector: closing early, one-off lines,
//! credits, disputes, documents, corrections of usage; by two persons where the configuration says so.
//!
//! What waits for a second person waits in memory: it is forgotten at a stop, and nothing of it
//! was journaled. What is done is journaled with both names.

mod operate;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use tollgate_collector_core::config::{Approval, Config, IssuerRule};
use tollgate_collector_core::entry::{Digest, Entry, Issue, Manual, ManualAction, codec};
use tollgate_collector_core::fold::tenant::{IssueWish, Issuer, WishedDocument};
use tollgate_collector_core::ledger::{Document, EntryKind, LedgerEntry, Note};
use tollgate_common::TenantId;

use super::DataDir;
use super::service::{append, claimed_name};
use crate::fold::FoldHandle;
use crate::fold::handle::CloseRequest;
use crate::fold::operate::OperateRequest;
use crate::journal::JournalHandle;
use crate::parties::{Parties, PartyRole};
use crate::sqlite::query::{Filter, LIMIT_MAX, Reader};

/// Most requests that wait for a second person.
const WAITING_MAX: usize = 256;

/// The number of the newest entry of each partition's chain.
type Heads = BTreeMap<u16, u64>;

/// What can be asked for.
#[derive(Clone, Debug)]
pub(super) enum BooksRequest {
    Close(CloseRequest),
    Manual(Box<Manual>),
    Issue {
        tenant: TenantId,
        what: WishedDocument,
        note: Note,
    },
    Operate {
        request: OperateRequest,
        note: Note,
    },
}

impl BooksRequest {
    fn author(&self) -> &str {
        match self {
            Self::Close(request) => &request.author,
            Self::Manual(manual) => &manual.note.author,
            Self::Issue { note, .. } | Self::Operate { note, .. } => &note.author,
        }
    }

    fn approve(&mut self, by: String) {
        let approved = match self {
            Self::Close(request) => &mut request.approved_by,
            Self::Manual(manual) => &mut manual.note.approved_by,
            Self::Issue { note, .. } | Self::Operate { note, .. } => &mut note.approved_by,
        };
        *approved = Some(by);
    }

    fn describe(&self) -> Value {
        match self {
            Self::Close(request) => json!({
                "what": "close", "tenant": request.tenant, "at": request.at.to_string(),
                "author": request.author, "reason": request.reason,
            }),
            Self::Manual(manual) => json!({ "what": "manual", "entry": manual }),
            Self::Issue { tenant, what, note } => json!({
                "what": "issue", "tenant": tenant, "document": what,
                "author": note.author, "reason": note.reason,
            }),
            Self::Operate { request, note } => json!({
                "what": "operate", "request": request,
                "author": note.author, "reason": note.reason,
            }),
        }
    }
}

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    requests: BTreeMap<u64, BooksRequest>,
}

/// Who issues documents, and what two persons decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BookRules {
    issuers: Vec<IssuerRule>,
    approval: Approval,
}

impl BookRules {
    /// As the configuration says.
    pub(super) fn of(config: &Config) -> Self {
        Self {
            issuers: config.issuers.clone(),
            approval: config.approval,
        }
    }
}

/// Does what people decide.
#[derive(Debug)]
pub(super) struct Books {
    fold: FoldHandle,
    journal: JournalHandle,
    rules: std::sync::RwLock<Arc<BookRules>>,
    projection: PathBuf,
    parties: PathBuf,
    waiting: std::sync::Mutex<Waiting>,
    /// One decision at a time: each is made with the one before in the ledger.
    turn: tokio::sync::Mutex<()>,
}

impl Books {
    pub(super) fn new(
        config: &Config,
        data: &DataDir,
        fold: FoldHandle,
        journal: JournalHandle,
    ) -> Self {
        Self {
            fold,
            journal,
            rules: std::sync::RwLock::new(Arc::new(BookRules::of(config))),
            projection: data.projection(),
            parties: data.parties(),
            waiting: std::sync::Mutex::default(),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    fn rules(&self) -> Arc<BookRules> {
        let rules = self.rules.read();
        Arc::clone(&rules.unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Puts other rules in force, for what is decided from now on; true if they are others. What waits
    /// for a second person goes on to wait.
    pub(super) fn set_rules(&self, rules: BookRules) -> bool {
        let known = self.rules.write();
        let mut known = known.unwrap_or_else(std::sync::PoisonError::into_inner);
        let differs = **known != rules;
        *known = Arc::new(rules);
        differs
    }

    /// Does what is asked for, or lets it wait for a second person.
    pub(super) async fn handle(&self, request: BooksRequest) -> Result<Value, String> {
        let approval = self.rules().approval;
        let needs_second = match &request {
            BooksRequest::Close(_) => approval.close,
            BooksRequest::Manual(_) => approval.manual,
            BooksRequest::Issue { .. } => approval.issue,
            BooksRequest::Operate { .. } => approval.corrections,
        };
        if !needs_second {
            return self.act(request).await;
        }
        // What is not possible need not wait; what it would change is shown to who asks.
        let shown = match &request {
            BooksRequest::Operate { .. } => Some(self.preview(request.clone()).await?),
            _ => None,
        };
        let mut waiting = self.waiting();
        if waiting.requests.len() == WAITING_MAX {
            return Err(format!(
                "{WAITING_MAX} requests wait for a second person already"
            ));
        }
        waiting.last += 1;
        let id = waiting.last;
        let mut answer = request.describe();
        waiting.requests.insert(id, request);
        answer["waits"] = id.into();
        if let Some(shown) = shown {
            answer["applied"] = false.into();
            answer["change"] = shown["change"].clone();
        }
        Ok(answer)
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        // Nothing in here panics half way.
        self.waiting
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What waits for a second person.
    pub(super) fn list(&self) -> Value {
        let waiting = self.waiting();
        let shown = waiting.requests.iter().map(|(id, request)| {
            let mut shown = request.describe();
            shown["waits"] = (*id).into();
            shown
        });
        json!({ "waiting": shown.collect::<Vec<_>>() })
    }

    /// The second person agrees, or rejects.
    pub(super) async fn decide(
        &self,
        id: u64,
        (person, reason): (String, String),
        agrees: bool,
    ) -> Result<Value, String> {
        let mut request = {
            let mut waiting = self.waiting();
            let Some(request) = waiting.requests.get(&id) else {
                return Err(format!("nothing waits under number {id}"));
            };
            if agrees && claimed_name(request.author()) == claimed_name(&person) {
                return Err(format!(
                    "`{}` asked for it: somebody else has to agree",
                    claimed_name(&person)
                ));
            }
            waiting
                .requests
                .remove(&id)
                .ok_or_else(|| format!("nothing waits under number {id}"))?
        };
        if !agrees {
            return Ok(json!({ "rejected": id }));
        }
        request.approve(format!("{person}: {reason}"));
        self.act(request).await
    }

    async fn act(&self, request: BooksRequest) -> Result<Value, String> {
        let _turn = self.turn.lock().await;
        match request {
            BooksRequest::Close(request) => self.close(request).await,
            BooksRequest::Manual(manual) => self.book(manual).await,
            BooksRequest::Issue { tenant, what, note } => self.issue(tenant, what, note).await,
            BooksRequest::Operate { request, note } => self.operate(request, note).await,
        }
    }

    async fn close(&self, request: CloseRequest) -> Result<Value, String> {
        let closing = self
            .fold
            .closing(request)
            .await
            .map_err(|error| error.to_string())??;
        let answer = json!({
            "tenant": closing.tenant,
            "start": closing.start.to_string(),
            "end": closing.end.to_string(),
            "round": closing.round,
            "missing": closing.missing,
        });
        self.append(&Entry::Close(*closing)).await?;
        Ok(answer)
    }

    async fn book(&self, manual: Box<Manual>) -> Result<Value, String> {
        manual.check().map_err(|error| error.to_string())?;
        let may = self.fold.may_decide(manual.clone()).await;
        may.map_err(|error| error.to_string())??;
        let (tenant, key) = (manual.tenant.clone(), manual.key.clone());
        let kind = match &manual.action {
            ManualAction::Line(_) => EntryKind::Manual,
            ManualAction::Credit(_) => EntryKind::Credit,
            ManualAction::Hold { .. } => EntryKind::Hold,
            ManualAction::Release { .. } => EntryKind::Release,
        };
        let note = manual.note.clone();
        let before = self.heads().await?;
        self.append(&Entry::Manual(manual)).await?;
        // Usage may have been booked meanwhile, but no other decision.
        let whose = tenant.clone();
        let is_it = move |entry: &LedgerEntry| {
            entry.posting.tenant.as_ref() == Some(&whose)
                && entry.posting.kind == kind
                && entry.posting.note.as_deref() == Some(&note)
        };
        match self.booked_since(before, is_it).await? {
            Some(entry) => Ok(json!({
                "entry": entry.at.to_string(),
                "kind": entry.posting.kind,
                "amount": entry.posting.amount,
                "currency": entry.posting.currency,
            })),
            None => Err(format!(
                "nothing was booked: what was there for key `{key}` has changed meanwhile"
            )),
        }
    }

    async fn issue(
        &self,
        tenant: TenantId,
        what: WishedDocument,
        note: Note,
    ) -> Result<Value, String> {
        let issuer = self.issuer_of(&tenant, &what).await?;
        let whose = tenant.clone();
        if matches!(what, WishedDocument::SoFar { .. }) {
            let interim = self.fold.interim(tenant.clone(), note.clone()).await;
            if let Some(interim) = interim.map_err(|error| error.to_string())?? {
                self.append(&Entry::Interim(Box::new(interim))).await?;
            }
        }
        let wish = IssueWish {
            tenant: tenant.clone(),
            issuer: issuer.clone(),
            what,
            note,
        };
        let issued = self.fold.issue(wish).await;
        let mut issues = issued.map_err(|error| error.to_string())??;
        self.keep_parties(&mut issues, &tenant, issuer.id).await?;
        let serials: BTreeSet<u32> = issues.iter().map(|issue| issue.serial).collect();
        let count = serials.len();
        let before = self.heads().await?;
        let issues = issues
            .into_iter()
            .map(|issue| Entry::Issue(Box::new(issue)));
        self.append_all(&issues.collect::<Vec<_>>()).await?;
        let take = move |found: &mut Vec<Value>, entry: LedgerEntry| {
            let posting = &entry.posting;
            if let (Some(document), Some(tenant)) = (&posting.document, &posting.tenant)
                && *tenant == whose
                && serials.contains(&document.serial)
            {
                found.push(issued_document(&entry, document, tenant));
            }
        };
        let mut found = self.since(before, Vec::new(), take).await?;
        match found.pop() {
            Some(only) if count == 1 => Ok(only),
            Some(last) if found.len() + 1 == count => {
                found.push(last);
                Ok(json!({ "tenant": tenant, "documents": found }))
            }
            _ => Err("the document was issued, but is not in the ledger".to_owned()),
        }
    }

    /// Keeps what the document will say of the parties, before it is issued: a digest in the
    /// ledger whose data were lost would be worse than data without a document.
    async fn keep_parties(
        &self,
        issues: &mut [Issue],
        tenant: &TenantId,
        issuer: String,
    ) -> Result<(), String> {
        let path = self.parties.clone();
        let tenant = tenant.to_string();
        let keep = move || -> Result<(Option<Digest>, Option<Digest>), String> {
            let keep = |parties: &Parties, role, id: &str| {
                let party = parties.current(role, id).map_err(|e| e.to_string())?;
                let kept = party.map(|party| parties.keep(role, id, &party));
                kept.transpose().map_err(|error| error.to_string())
            };
            let Some(parties) = Parties::open_existing(&path).map_err(|e| e.to_string())? else {
                return Ok((None, None));
            };
            let seller = keep(&parties, PartyRole::Issuer, &issuer)?;
            Ok((seller, keep(&parties, PartyRole::Tenant, &tenant)?))
        };
        let kept = tokio::task::spawn_blocking(keep).await;
        let kept = kept.map_err(|error| error.to_string())??;
        for issue in issues {
            (issue.seller, issue.buyer) = kept;
        }
        Ok(())
    }

    /// Who issues: of an invoice the first issuer that bills the tenant, of what voids one whoever
    /// issued it.
    async fn issuer_of(&self, tenant: &TenantId, what: &WishedDocument) -> Result<Issuer, String> {
        let rules = self.rules();
        let current = rules.issuers.iter().find(|rule| {
            let mut tenants = rule.tenants.iter();
            tenants.any(|pattern| pattern.matches(tenant.as_str()))
        });
        let mut by = current.map(|rule| rule.issuer.id.clone());
        if let WishedDocument::Void { number } = what {
            let issuers = self.issuers_of(tenant, number).await?;
            if !issuers.iter().any(|issuer| by.as_ref() == Some(issuer)) {
                match &issuers[..] {
                    [] => {}
                    [issuer] => by = Some(issuer.clone()),
                    _ => {
                        return Err(format!(
                            "`{number}` is the number of invoices of several issuers ({}), none of which bills `{tenant}` now",
                            issuers.join(", ")
                        ));
                    }
                }
            }
        }
        let by =
            by.ok_or_else(|| format!("no [[issuer]] of the configuration bills `{tenant}`"))?;
        let rule = rules.issuers.iter().find(|rule| rule.issuer.id == by);
        rule.map(|rule| rule.issuer.clone()).ok_or_else(|| {
            format!(
                "the configuration has no [[issuer]] `{by}`, which issued it: add it to void it"
            )
        })
    }

    /// Who issued the tenant's invoices of this number.
    async fn issuers_of(&self, tenant: &TenantId, number: &str) -> Result<Vec<String>, String> {
        let (path, number) = (self.projection.clone(), number.to_owned());
        let filter = Filter {
            tenant: Some(tenant.to_string()),
            kind: Some(EntryKind::Invoice.as_str().to_owned()),
            ..Filter::default()
        };
        let read = move || {
            let reader = Reader::open(&path).map_err(|error| error.to_string())?;
            let mut issuers = BTreeSet::new();
            each_entry(&reader, filter, |entry| {
                if let Some(document) = entry.posting.document
                    && document.number == number
                {
                    issuers.insert(document.issuer);
                }
                Ok(())
            })?;
            Ok::<_, String>(issuers.into_iter().collect())
        };
        let read = tokio::task::spawn_blocking(read).await;
        read.map_err(|error| error.to_string())?
    }

    async fn append(&self, entry: &Entry) -> Result<(), String> {
        self.append_all(std::slice::from_ref(entry)).await
    }

    /// Makes entries durable and waits until they are folded.
    async fn append_all(&self, entries: &[Entry]) -> Result<(), String> {
        let entries = entries.iter().map(codec::encode);
        let entries: Result<Vec<_>, _> = entries.collect();
        append(&self.journal, entries.map_err(|error| error.to_string())?)
            .await
            .map_err(|error| error.to_string())?;
        self.fold
            .reached(self.journal.committed())
            .await
            .map_err(|error| error.to_string())
    }

    /// Where the ledger stands.
    async fn heads(&self) -> Result<Heads, String> {
        let path = self.projection.clone();
        let read = move || {
            let reader = Reader::open(&path).map_err(|error| error.to_string())?;
            reader.ledger_heads().map_err(|error| error.to_string())
        };
        let read = tokio::task::spawn_blocking(read).await;
        read.map_err(|error| error.to_string())?
    }

    /// The first entry behind `before` that `is_it`.
    async fn booked_since(
        &self,
        before: Heads,
        is_it: impl Fn(&LedgerEntry) -> bool + Send + 'static,
    ) -> Result<Option<LedgerEntry>, String> {
        let read = move |found: &mut Option<LedgerEntry>, entry| {
            if found.is_none() && is_it(&entry) {
                *found = Some(entry);
            }
        };
        self.since(before, None, read).await
    }

    /// What `read` makes of `made` with each entry behind `before`, of whichever tenant.
    async fn since<T: Send + 'static>(
        &self,
        before: Heads,
        mut made: T,
        read: impl Fn(&mut T, LedgerEntry) + Send + 'static,
    ) -> Result<T, String> {
        let path = self.projection.clone();
        let each = move || {
            let reader = Reader::open(&path).map_err(|error| error.to_string())?;
            let heads = reader.ledger_heads().map_err(|error| error.to_string())?;
            for partition in heads.into_keys() {
                let mut after = before.get(&partition).copied().unwrap_or_default();
                loop {
                    let page = reader.ledger_chain(partition, after, LIMIT_MAX);
                    let page = page.map_err(|error| error.to_string())?;
                    let Some(last) = page.last() else {
                        break;
                    };
                    after = last.at.index;
                    for entry in page {
                        read(&mut made, entry);
                    }
                }
            }
            Ok(made)
        };
        let each = tokio::task::spawn_blocking(each).await;
        each.map_err(|error| error.to_string())?
    }

    /// Issues the invoices of tenants that have reached their threshold, and answers the tenants for
    /// which that was refused, with the reason. `skip` are not tried.
    pub(super) async fn bill_thresholds(
        &self,
        skip: impl Fn(&TenantId) -> bool,
    ) -> Vec<(TenantId, String)> {
        // Where two persons issue invoices, what a threshold booked waits for them.
        if self.rules().approval.issue {
            return Vec::new();
        }
        // The fold is busy or ends; the next time is soon.
        let tenants = self.fold.to_bill().await.unwrap_or_default();
        let mut refused = Vec::new();
        for tenant in tenants.into_iter().filter(|tenant| !skip(tenant)) {
            let request = BooksRequest::Issue {
                tenant: tenant.clone(),
                what: WishedDocument::Threshold,
                note: Note {
                    author: "tollgate-collector".to_owned(),
                    approved_by: None,
                    reason: "the threshold is reached".to_owned(),
                },
            };
            match self.act(request).await {
                Ok(issued) => tracing::info!(%tenant, %issued, "threshold invoice issued"),
                Err(reason) => refused.push((tenant, reason)),
            }
        }
        refused
    }

    /// The tenants for which lines wait.
    pub(super) async fn dues(&self) -> Result<Value, String> {
        let tenants = self.fold.dues().await.map_err(|error| error.to_string())?;
        Ok(json!({ "tenants": tenants }))
    }
}

/// An issued document, for who asked for it.
fn issued_document(entry: &LedgerEntry, document: &Document, tenant: &TenantId) -> Value {
    json!({
        "number": document.number,
        "issuer": document.issuer,
        "kind": entry.posting.kind,
        "tenant": tenant,
        "lines": document.lines.len(),
        "part_of": document.part_of,
        "total": entry.posting.amount,
        "currency": entry.posting.currency,
        "entry": entry.at.to_string(),
    })
}

/// Every ledger entry that matches, page by page.
pub(crate) fn each_entry(
    reader: &Reader,
    mut filter: Filter,
    mut each: impl FnMut(LedgerEntry) -> Result<(), String>,
) -> Result<(), String> {
    filter.limit = Some(LIMIT_MAX);
    loop {
        let page = reader.ledger(&filter).map_err(|error| error.to_string())?;
        for row in page.items {
            each(row.entry)?;
        }
        filter.cursor = page.next_cursor;
        if filter.cursor.is_none() {
            return Ok(());
        }
    }
}
