//! How a session begins: the hello, the question to the intake, and the welcome.

use std::collections::BTreeMap;

use tollgate_common::Timestamp;
use tollgate_common::wire::{Hello, Message, Welcome, negotiate};

use super::chain::Chain;
use super::{Desk, Session, SessionError, State};
use crate::entry::Entry;
use crate::fold::intake::{Progress, ProgressQuery};
use crate::policy::Policy;

impl Session {
    pub(super) fn take_hello(
        &mut self,
        now: Timestamp,
        hello: Hello,
        policy: &Policy,
    ) -> Result<(), SessionError> {
        self.check_identity(&hello.agent, "hello")?;
        if !policy.knows(&self.identity) {
            return Err(SessionError::UnknownAgent(self.identity.clone()));
        }
        let version =
            negotiate(&hello).map_err(|error| SessionError::Version(error.to_string()))?;
        let mut seen = BTreeMap::new();
        for held in &hello.held {
            if seen.insert(held.incarnation, held.first.get()).is_some() {
                return Err(SessionError::Protocol(format!(
                    "incarnation {} is held twice",
                    held.incarnation
                )));
            }
        }
        self.held = hello
            .held
            .iter()
            .map(|held| (held.incarnation, held.first.get()))
            .collect();
        self.clock_offset_millis = Some(hello.now.millis_since(now));
        self.query = Some(ProgressQuery {
            agent: self.identity.clone(),
            held: hello.held,
        });
        self.state = State::AwaitProgress { version, now };
        Ok(())
    }

    /// The question to the intake, once after the hello.
    pub fn poll_query(&mut self) -> Option<ProgressQuery> {
        self.query.take()
    }

    /// Takes the intake's answer and welcomes the agent.
    pub fn handle_progress(
        &mut self,
        now: Timestamp,
        progress: Progress,
        desk: &mut Desk<'_>,
    ) -> Result<(), SessionError> {
        let State::AwaitProgress { version, .. } = self.state else {
            return Ok(());
        };
        for missing in progress.missing {
            self.stage(&Entry::Missing(missing), None, 0, desk)?;
        }
        self.known = progress
            .others
            .iter()
            .map(|life| (life.incarnation, life.durable))
            .collect();
        for ((incarnation, first), resume) in self.held.drain(..).zip(&progress.resume) {
            let latest = resume.durable.saturating_add(1).max(first);
            self.chains
                .insert(incarnation, Chain::within(first, latest));
        }
        self.state = State::Open { version };
        self.outgoing.push_back(Message::Welcome(Welcome {
            version,
            lineage: self.config.lineage,
            now,
            resume: progress.resume,
            window_batches: self.window.told().batches,
            window_bytes: self.window.told().bytes,
        }));
        Ok(())
    }
}
