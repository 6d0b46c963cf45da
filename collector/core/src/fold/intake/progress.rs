//! What the intake answers when an agent says hello.

use serde::{Deserialize, Serialize};
use tollgate_common::wire::{Held, Resume};
use tollgate_common::{AgentId, BatchHash, BatchSeq, Incarnation};

use super::Intake;
use super::agent::Agent;
use super::life::Life;
use crate::entry::{Digest, Missing};

/// Who asks, and what it still holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgressQuery {
    /// The agent that the certificate names.
    pub agent: AgentId,
    /// What its spool holds, from its hello.
    pub held: Vec<Held>,
}

/// How far an agent's lives have come in the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// For each held incarnation, in the order of the question.
    pub resume: Vec<Resume>,
    /// Batches that the agent no longer holds and the journal does not have: to be journaled.
    pub missing: Vec<Missing>,
    /// Other lives that may go on: incarnation and the end of its prefix.
    pub others: Vec<KnownLife>,
}

/// A life that the collector knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownLife {
    /// Its name.
    pub incarnation: Incarnation,
    /// Everything up to here is received or declared.
    pub durable: u64,
}

impl Intake {
    /// Where an agent goes on, and what is gone for good.
    ///
    /// The answer speaks of what the fold has read. If more is in the journal already, the
    /// agent sends something twice or something present is declared missing; the fold passes
    /// over both.
    pub fn progress(&self, query: &ProgressQuery) -> Progress {
        let none = Agent::default();
        let agent = self.agents.get(&query.agent).unwrap_or(&none);
        let mut progress = Progress::default();
        let missing = |incarnation, from: u64, to: u64| {
            let (from, to) = (BatchSeq::new(from)?, BatchSeq::new(to)?);
            (from <= to).then(|| Missing {
                agent: query.agent.clone(),
                incarnation,
                from,
                to,
            })
        };
        for held in &query.held {
            let (first, last) = (held.first.get(), held.last.get());
            let known = agent.lives.get(&held.incarnation);
            let (durable, durable_hash) = agent.resume(held);
            // What lies between is neither here nor there.
            let prefix = known.map_or(0, Life::prefix);
            progress.missing.extend(missing(
                held.incarnation,
                prefix.saturating_add(1),
                first - 1,
            ));
            let expected = known.map_or(0, Life::expected);
            progress.missing.extend(missing(
                held.incarnation,
                prefix.max(last).saturating_add(1),
                expected,
            ));
            progress.resume.push(Resume {
                incarnation: held.incarnation,
                durable,
                durable_hash,
                releasable: durable,
            });
        }
        let is_held = |name| query.held.iter().any(|held| held.incarnation == name);
        for (&name, life) in &agent.lives {
            if life.branch_of.is_some() || is_held(name) {
                continue;
            }
            progress
                .missing
                .extend(missing(name, life.prefix().saturating_add(1), life.top()));
            if !life.is_compacted() {
                let durable = life.prefix().max(life.top());
                progress.others.push(KnownLife {
                    incarnation: name,
                    durable,
                });
            }
        }
        progress
    }
}

impl Agent {
    /// How far the chain that the agent holds is in the journal, and the hash there.
    ///
    /// The agent may be on the losing branch of a fork; the hashes tell. Where they do not,
    /// the agent finds out by comparing the hash that it is told, and sends again from its
    /// first batch.
    fn resume(&self, held: &Held) -> (u64, BatchHash) {
        let (first, last) = (held.first.get(), held.last.get());
        let Some(main) = self.lives.get(&held.incarnation) else {
            return (first - 1, held.first_parent);
        };
        // A life that holds exactly the last batch has everything before it, as far as its
        // prefix goes.
        let hash = |hash: &BatchHash| Digest(*hash.as_bytes());
        let branches = || {
            self.branches_of(held.incarnation)
                .iter()
                .filter_map(|name| self.lives.get(name))
        };
        let lives = || std::iter::once(main).chain(branches());
        if let Some(life) = lives().find(|life| life.hash_of(last) == Some(hash(&held.last_hash))) {
            return life.resume_at(last.min(life.prefix()));
        }
        let in_main = main.prefix().max(first - 1);
        if main.hash_of(last).is_some() {
            // The number is taken by another batch: a fork that begins within what is held.
            return (first - 1, held.first_parent);
        }
        let before = first - 1;
        let parent = hash(&held.first_parent);
        if before > 0 && main.hash_of(before).is_some_and(|known| known != parent) {
            return match branches().find(|life| life.hash_of(before) == Some(parent)) {
                Some(branch) => branch.resume_at(branch.prefix().min(last)),
                None => (before, held.first_parent),
            };
        }
        if in_main == before && main.prefix() < before {
            return (before, held.first_parent);
        }
        main.resume_at(in_main.min(last))
    }
}

impl Life {
    /// Where an agent goes on whose chain agrees up to `sequence`: there, or at the last batch
    /// before it whose hash is known, so that the agent can compare.
    fn resume_at(&self, sequence: u64) -> (u64, BatchHash) {
        match self.known_hash_upto(sequence) {
            Some((sequence, digest)) => (sequence, BatchHash::from_bytes(digest.0)),
            None => (sequence, BatchHash::ZERO),
        }
    }
}
