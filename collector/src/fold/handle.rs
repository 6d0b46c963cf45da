//! Questions to the fold thread.
//!
//! The fold's state belongs to its thread. Others send a question and wait for the answer;
//! the queue is bounded, and a question that finds it full is refused.

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use serde::Serialize;
use tokio::sync::oneshot;
use tollgate_collector_core::entry::{Closing, Interim, Issue, Manual, Operated};
use tollgate_collector_core::fold::intake::{Progress, ProgressQuery, Restore};
use tollgate_collector_core::fold::tenant::IssueWish;
use tollgate_collector_core::ledger::Note;
use tollgate_common::{TenantId, Timestamp};

use super::operate::{OperateRequest, Prepared};
use crate::accruals::Freshness;

/// Questions that may wait at a time.
const QUEUE_MAX: usize = 256;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Too many questions wait already.
    #[error("too many questions are waiting for the fold; try again")]
    Busy,
    /// The fold has ended.
    #[error("the collector is stopping")]
    Stopping,
}

/// What can be asked.
#[derive(Debug)]
pub enum Question {
    /// To bring the accruals up to date, as far as that takes a moment only.
    Accrue {
        /// Of this tenant, or of all.
        tenant: Option<TenantId>,
        /// Where to say how old they are, once they are written.
        answer: oneshot::Sender<Freshness>,
    },
    /// What open periods would cost if they ended now, as JSON values.
    Accruals {
        /// Of this tenant, or of all.
        tenant: Option<TenantId>,
        /// Where to answer.
        answer: oneshot::Sender<Vec<serde_json::Value>>,
    },
    /// What periods wait for, as a JSON value.
    Standings {
        /// Of this tenant, or of all.
        tenant: Option<TenantId>,
        /// Only of periods that are over.
        over: bool,
        /// Where to answer.
        answer: oneshot::Sender<serde_json::Value>,
    },
    /// Where an agent goes on.
    Progress {
        /// Who asks, and what it holds.
        query: ProgressQuery,
        /// Where to answer.
        answer: oneshot::Sender<Progress>,
    },
    /// To be told when so many entries of the journal thread are folded.
    Reached {
        /// How many.
        entries: u64,
        /// Where to answer.
        answer: oneshot::Sender<()>,
    },
    /// How an operator's closing of a period would read.
    Closing {
        /// What to close.
        request: CloseRequest,
        /// Where to answer: the closing, or why there is none.
        answer: oneshot::Sender<Result<Box<Closing>, String>>,
    },
    /// What an operator asks for, as a journal entry with its preview.
    Operate {
        /// What is asked for.
        request: Box<OperateRequest>,
        /// By whom, and why.
        note: Note,
        /// Where to answer: what is to be journaled, or what is wrong.
        answer: oneshot::Sender<Result<Box<Prepared>, String>>,
    },
    /// Whether a decision about a tenant's books would have an effect.
    MayDecide {
        /// What is decided.
        manual: Box<Manual>,
        /// Where to answer.
        answer: oneshot::Sender<Result<(), String>>,
    },
    /// Whether what an operator decided has been done.
    Done {
        /// What was decided.
        operated: Box<Operated>,
        /// Where to answer.
        answer: oneshot::Sender<bool>,
    },
    /// Closings of the closed periods that an operator's action left to be settled, by the operator's word.
    Unsettled {
        /// What was done.
        operated: Box<Operated>,
        /// By whom, and why.
        note: Note,
        /// Where to answer.
        answer: oneshot::Sender<Vec<Closing>>,
    },
    /// How a document that somebody wishes for would be issued.
    Issue {
        /// What is wished for.
        wish: Box<IssueWish>,
        /// Where to answer: the entry to be journaled, or why there is none.
        answer: oneshot::Sender<Result<Vec<Issue>, String>>,
    },
    /// The tenants for which lines wait.
    Dues {
        /// Where to answer.
        answer: oneshot::Sender<Vec<TenantId>>,
    },
    /// The tenants whose threshold invoice is to be issued.
    ToBill {
        /// Where to answer.
        answer: oneshot::Sender<Vec<TenantId>>,
    },
    /// How a tenant's open period would be booked as it stands.
    Interim {
        /// Whose.
        tenant: TenantId,
        /// By whom, and why.
        note: Note,
        /// Where to answer: `None` if nothing is known of it, or why it cannot be billed yet.
        answer: oneshot::Sender<Result<Option<Interim>, String>>,
    },
    /// How the fold stands.
    Status {
        /// Where to answer.
        answer: oneshot::Sender<FoldStatus>,
    },
}

/// An operator's wish to close a period.
#[derive(Clone, Debug)]
pub struct CloseRequest {
    /// Whose period.
    pub tenant: TenantId,
    /// An instant in the period, or its first.
    pub at: Timestamp,
    /// Who asks.
    pub author: String,
    /// Why.
    pub reason: String,
    /// Who agreed, where two persons are needed.
    pub approved_by: Option<String>,
}

/// How the fold stands.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FoldStatus {
    /// The last entry that is folded and reflected in the projection.
    pub position: Option<String>,
    /// Its stamp.
    pub stamp: Option<String>,
    /// Entries folded since the start, replay included.
    pub entries: u64,
    /// Number of tenant partitions.
    pub partitions: usize,
    /// Digest of the catalog in force.
    pub catalog: Option<String>,
    /// Tenants with usage that have no profile; it is held unrated.
    pub without_profile: WithoutProfile,
    /// Digest of the policy in force.
    pub policy: Option<String>,
    /// The journal's life.
    pub lineage: Option<String>,
    /// How often the journal was restored from a backup.
    pub restores: u64,
    /// The last time.
    pub last_restore: Option<Restore>,
}

/// Tenants without a profile.
#[derive(Clone, Debug, Default, Serialize)]
pub struct WithoutProfile {
    /// How many.
    pub count: usize,
    /// The first of them by partition and name, at most [`WITHOUT_PROFILE_SHOWN`].
    pub first: Vec<TenantId>,
}

/// Tenants without a profile that are named.
pub const WITHOUT_PROFILE_SHOWN: usize = 100;

/// Sends questions to the fold.
#[derive(Clone, Debug)]
pub struct FoldHandle {
    questions: Sender<Question>,
}

/// A handle, and the end at which the fold takes the questions.
pub fn channel() -> (FoldHandle, Receiver<Question>) {
    let (sender, receiver) = bounded(QUEUE_MAX);
    (FoldHandle { questions: sender }, receiver)
}

impl FoldHandle {
    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Question,
    ) -> Result<T, AskError> {
        let (answer, answered) = oneshot::channel();
        self.questions
            .try_send(question(answer))
            .map_err(|error| match error {
                TrySendError::Full(_) => AskError::Busy,
                TrySendError::Disconnected(_) => AskError::Stopping,
            })?;
        answered.await.map_err(|_| AskError::Stopping)
    }

    /// Where an agent goes on, by what is folded.
    pub async fn progress(&self, query: ProgressQuery) -> Result<Progress, AskError> {
        self.ask(|answer| Question::Progress { query, answer })
            .await
    }

    /// Waits until `entries` entries of the journal thread are folded, so that nothing that
    /// was committed before is missing in later answers.
    pub async fn reached(&self, entries: u64) -> Result<(), AskError> {
        self.ask(|answer| Question::Reached { entries, answer })
            .await
    }

    /// Brings the accruals up to date, as far as that takes a moment only, and says how old they are.
    pub async fn accrue(&self, tenant: Option<TenantId>) -> Result<Freshness, AskError> {
        self.ask(|answer| Question::Accrue { tenant, answer }).await
    }

    /// What open periods would cost if they ended now.
    pub async fn accruals(
        &self,
        tenant: Option<TenantId>,
    ) -> Result<Vec<serde_json::Value>, AskError> {
        self.ask(|answer| Question::Accruals { tenant, answer })
            .await
    }

    /// What periods wait for.
    pub async fn standings(
        &self,
        tenant: Option<TenantId>,
        over: bool,
    ) -> Result<serde_json::Value, AskError> {
        self.ask(|answer| Question::Standings {
            tenant,
            over,
            answer,
        })
        .await
    }

    /// The closing that an operator asks for, ready to be journaled; inside, why there is none.
    pub async fn closing(
        &self,
        request: CloseRequest,
    ) -> Result<Result<Box<Closing>, String>, AskError> {
        self.ask(|answer| Question::Closing { request, answer })
            .await
    }

    /// What an operator asks for, ready to be journaled, with what it changes in money.
    pub async fn operate(
        &self,
        request: OperateRequest,
        note: Note,
    ) -> Result<Result<Box<Prepared>, String>, AskError> {
        self.ask(|answer| Question::Operate {
            request: Box::new(request),
            note,
            answer,
        })
        .await
    }

    /// Whether what an operator decided has been done, by what is folded.
    pub async fn has_done(&self, operated: Operated) -> Result<bool, AskError> {
        let operated = Box::new(operated);
        self.ask(|answer| Question::Done { operated, answer }).await
    }

    /// Closings that settle what waits in the closed periods in which this was done.
    pub async fn unsettled(
        &self,
        operated: Operated,
        note: Note,
    ) -> Result<Vec<Closing>, AskError> {
        let operated = Box::new(operated);
        self.ask(|answer| Question::Unsettled {
            operated,
            note,
            answer,
        })
        .await
    }

    /// Whether a decision about a tenant's books would have an effect; inside, why not.
    pub async fn may_decide(&self, manual: Box<Manual>) -> Result<Result<(), String>, AskError> {
        self.ask(|answer| Question::MayDecide { manual, answer })
            .await
    }

    /// The documents that somebody wishes for, ready to be journaled; inside, why there are none.
    pub async fn issue(&self, wish: IssueWish) -> Result<Result<Vec<Issue>, String>, AskError> {
        let wish = Box::new(wish);
        self.ask(|answer| Question::Issue { wish, answer }).await
    }

    /// The tenants for which lines wait.
    pub async fn dues(&self) -> Result<Vec<TenantId>, AskError> {
        self.ask(|answer| Question::Dues { answer }).await
    }

    /// The tenants whose threshold invoice is to be issued.
    pub async fn to_bill(&self) -> Result<Vec<TenantId>, AskError> {
        self.ask(|answer| Question::ToBill { answer }).await
    }

    /// The entry that books a tenant's open period as it stands; `None` if nothing is known of it.
    pub async fn interim(
        &self,
        tenant: TenantId,
        note: Note,
    ) -> Result<Result<Option<Interim>, String>, AskError> {
        self.ask(|answer| Question::Interim {
            tenant,
            note,
            answer,
        })
        .await
    }

    /// How the fold stands.
    pub async fn status(&self) -> Result<FoldStatus, AskError> {
        self.ask(|answer| Question::Status { answer }).await
    }
}
