//! A journal that was restored from a backup: what it had beyond the copy is gone, and agents
//! may have released it.
//!
//! What an agent still holds it sends again. What is gone shows as a hole when the agent says
//! hello, and is priced like every other one (see [`super::totals`]). Here is what leaves no
//! hole: lives of which nobody has a batch any more. Nobody can know of those of agents that
//! are gone, so that a restore declares usage of unknown amount within the time that the lost
//! entries can speak of; and if a life that the journal knows in part does not show which life
//! it follows, usage between the two is declared unknown, until its first batch turns up.

use serde::{Deserialize, Serialize};
use tollgate_common::{AgentId, Batch, Incarnation, Lineage, LossReason, Timestamp};

use super::agent::Agent;
use super::life::Life;
use super::outbox::{Origin, Outbox, anybodys, unknown};
use super::{Intake, NoticeKind};
use crate::entry::Restored;
use crate::fold::TenantInput;
use crate::position::Position;

/// A restore of the journal, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// Where the new lineage begins.
    pub position: Position,
    /// When that was.
    pub at: Timestamp,
    /// Stamp of the last entry of the backup.
    pub backup: Timestamp,
    /// The lineage of the backup.
    pub previous: Lineage,
    /// Who said so.
    pub author: String,
    /// Why.
    pub reason: String,
}

/// Usage of unknown amount before the first known batch of a life that hides which life it
/// follows; taken back when its first batch turns up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hidden {
    /// The life that it is taken to follow.
    of: Incarnation,
    from: Timestamp,
    to: Timestamp,
}

impl Hidden {
    fn loss(self, agent: &AgentId) -> crate::fold::DeclaredLoss {
        let origin = Origin {
            agent: agent.clone(),
            incarnation: self.of,
        };
        let time = (self.from, self.to);
        unknown(&origin, None, LossReason::JournalDamaged, time)
    }
}

impl Intake {
    /// How often the journal was restored from a backup.
    pub fn restores(&self) -> u64 {
        self.restores.0
    }

    /// The newest restore.
    pub fn last_restore(&self) -> Option<&Restore> {
        self.restores.1.as_ref()
    }

    /// Begins a lineage. `before` is the stamp of the last entry of the backup.
    pub(super) fn take_restored(
        &mut self,
        restored: &Restored,
        before: Timestamp,
        position: Position,
        out: &mut Outbox,
    ) {
        let Some(opened) = &mut self.opened else {
            let detail = "a restore before the first entry of a journal".to_owned();
            out.notice(NoticeKind::Unsupported, None, None, detail);
            return;
        };
        opened.lineage = restored.lineage;
        self.numbers.restored();
        out.broadcast(&TenantInput::Opened(opened.clone()));
        let Restored {
            lineage,
            previous,
            author,
            reason,
        } = restored.clone();
        let detail = format!(
            "the journal up to {before} is a backup of lineage {previous}, restored by {author}: {reason}. Lineage \
             {lineage} begins"
        );
        out.notice(NoticeKind::Restored, None, None, detail);
        // A batch that is gone may have held usage since the end of what is known of its agent.
        let open = self.agents.values().filter_map(Agent::open_since);
        let from = open.fold(before, Timestamp::min);
        out.loss(anybodys(from, self.stamp));
        let restore = Restore {
            position,
            at: self.stamp,
            backup: before,
            previous,
            author,
            reason,
        };
        self.restores = (self.restores.0.saturating_add(1), Some(restore));
    }
}

impl Agent {
    /// The end of what is known of its newest life, if that may have gone on.
    fn open_since(&self) -> Option<Timestamp> {
        let life = self.newest_life()?;
        (!life.is_closed()).then(|| life.cut())
    }

    /// Declares what may lie before the life `name`, whose first batch the journal has lost:
    /// `before` is the life that it is taken to follow.
    pub(super) fn presume_hidden(
        &mut self,
        name: Incarnation,
        before: Incarnation,
        batch: &Batch,
        agent: &AgentId,
        out: &mut Outbox,
    ) {
        let Some(cut) = self.lives.get(&before).map(Life::cut) else {
            return;
        };
        let Some(life) = self.lives.get_mut(&name) else {
            return;
        };
        if life.hidden.is_some() || !life.has_lost_beginning() {
            return;
        }
        let hidden = Hidden {
            of: before,
            from: cut.min(batch.span.from),
            to: batch.span.from.max(cut),
        };
        life.hidden = Some(hidden);
        out.loss(hidden.loss(agent));
    }

    /// The first batch of the life `name` has turned up and tells what lies before.
    pub(super) fn reveal(&mut self, name: Incarnation, agent: &AgentId, out: &mut Outbox) {
        let life = self.lives.get_mut(&name);
        if let Some(hidden) = life.and_then(|life| life.hidden.take()) {
            out.reverse(hidden.loss(agent));
        }
    }
}
