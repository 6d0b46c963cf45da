//! Looks at the pages: when, and what comes of them.

use std::time::{Duration, Instant};

use tollgate_agent_core::aggregate::Region;
use tollgate_agent_core::input::page::Pass;
use tollgate_common::Window;
use tracing::{debug, warn};

use super::{BEFORE_END_MILLIS, LOOK_EVERY, LOOK_SOON, Server, store};
use crate::clock;

impl<R: Region> Server<R> {
    /// Looks at all pages, or at those that are due again, and says when the next is due.
    pub(super) fn look(&mut self, full: bool) -> Duration {
        let (now, clock) = (Instant::now(), clock::now());
        self.tally.poll_retired(clock);
        if full {
            let waiting = std::mem::take(&mut self.waiting);
            self.adopt(waiting);
        }
        let mut next = LOOK_EVERY;
        for connection in &mut self.connections {
            let gone = connection.closed.is_some() && connection.is_gone(now);
            let pause_ending = connection.pause_ending(now);
            let Some(page) = &mut connection.page else {
                continue;
            };
            let due = page.again.is_some_and(|at| at <= now);
            if !(full || due || connection.closed.is_some() && page.again.is_none()) {
                let left = page.again.map(|at| at.saturating_duration_since(now));
                next = left.map_or(next, |left| next.min(left));
                continue;
            }
            page.begin_look();
            let pass = self
                .tally
                .handle_pass(page.key, page.map.words(), clock, gone);
            page.complete = pass == Pass::Complete;
            if page.complete {
                let tell = self.tally.has_windows(page.key);
                connection.end_look(tell);
            }
            let Some(page) = &mut connection.page else {
                continue;
            };
            if pass == Pass::Quarantined {
                warn!(
                    pid = connection.peer.pid,
                    "a page was marked as another agent's; it is quarantined"
                );
                connection.closed.get_or_insert(now);
            }
            let pause = self.tally.pause(page.key, pass, clock);
            let mut pause = Duration::from_millis(pause.unsigned_abs());
            if connection.closed.is_none() {
                page.again = Some(now + pause);
                next = next.min(pause);
                continue;
            }
            // The last look has to come after the end of the process, whose levels last until
            // then; a page that waits for room is looked at until it has found some.
            let undecided = !gone && pass != Pass::Quarantined;
            if undecided || pass == Pass::More {
                if undecided {
                    pause = pause.min(pause_ending);
                }
                page.again = Some(now + pause);
                next = next.min(pause);
                continue;
            }
            self.tally.handle_end(page.key, clock);
            store::remove(&page.stored);
            connection.page = None;
            debug!(pid = connection.peer.pid, "an application has ended");
        }
        self.connections.retain(|c| !c.is_over());
        while let Some(vanished) = self.tally.poll_vanished(clock) {
            warn!(
                tenants = ?vanished.tenants,
                "a page that was known did not come back; what it counted while the agent was \
                 down is declared lost"
            );
        }
        next
    }

    /// How long until all pages are to be looked at.
    pub(super) fn until_full(&self) -> Duration {
        let clock = clock::now();
        let end = Window::containing(clock, self.width).end();
        let left = end.millis_since(clock) - BEFORE_END_MILLIS;
        let left = u64::try_from(left).unwrap_or(0);
        let before_end = Duration::from_millis(left).max(LOOK_SOON);
        before_end.min(LOOK_EVERY)
    }
}
