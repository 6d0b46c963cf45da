//! What the service manager is told (`sd_notify`); nothing without one.

use sd_notify::NotifyState;
use std::time::Duration;
use tracing::debug;

/// Speaks to the service manager.
#[derive(Debug)]
pub(crate) struct Notifier {
    there: bool,
    status: String,
}

impl Notifier {
    pub(crate) fn new() -> Self {
        Self {
            there: std::env::var_os("NOTIFY_SOCKET").is_some(),
            status: String::new(),
        }
    }

    /// True if somebody listens.
    pub(crate) fn is_there(&self) -> bool {
        self.there
    }

    /// How often the watchdog wants to be fed at least.
    pub(crate) fn watchdog() -> Option<Duration> {
        sd_notify::watchdog_enabled()
    }

    fn tell(&self, state: &[NotifyState<'_>]) {
        if self.there
            && let Err(error) = sd_notify::notify(state)
        {
            debug!(%error, "the service manager cannot be told");
        }
    }

    /// The agent runs, or runs again with a new configuration.
    pub(crate) fn ready(&self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// A reload has begun; [`Notifier::ready`] ends it, whatever became of it.
    pub(crate) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(error) => debug!(%error, "no monotonic clock"),
        }
    }

    pub(crate) fn stopping(&self) {
        self.tell(&[NotifyState::Stopping]);
    }

    pub(crate) fn feed_watchdog(&self) {
        self.tell(&[NotifyState::Watchdog]);
    }

    /// A line for `systemctl status`; said again only if it has changed.
    pub(crate) fn status(&mut self, status: String) {
        if self.there && self.status != status {
            self.tell(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }
}
