//! The list of revoked certificates: whether it has changed, and what follows from it.

use std::fs;
use std::time::SystemTime;

use tollgate_collector_core::config::TlsConfig;
use tollgate_common::tls::{self, ClientGate, Credentials, Pem};

use crate::receive;

/// When a file was changed, and how long it is.
pub(super) type Looks = (Option<SystemTime>, u64);

/// How the list looks now; `None` if there is none. Taken before the list is read, so that a
/// change meanwhile is seen.
pub(super) fn looks(tls: &TlsConfig) -> Option<Looks> {
    let metadata = fs::metadata(tls.crl.as_ref()?).ok()?;
    Some((metadata.modified().ok(), metadata.len()))
}

/// What is known of the list.
#[derive(Clone, Debug)]
pub(super) struct RevokedList {
    /// How it looked when what is in force was read.
    in_force: Option<Looks>,
    /// It was refused, and not taken since.
    is_refused: bool,
    /// How it looked when it was refused last.
    refused: Option<Looks>,
}

/// What a changed list leads to.
pub(super) enum Change {
    /// Who is admitted from now on, and the listener that asks it.
    Taken(ClientGate, quinn::ServerConfig),
    /// Why it cannot be taken.
    Refused {
        why: String,
        /// The list looks as when this was found last: it has been told.
        is_known: bool,
    },
}

impl RevokedList {
    /// The list in force looked like this.
    pub(super) fn new(in_force: Option<Looks>) -> Self {
        Self {
            in_force,
            is_refused: false,
            refused: None,
        }
    }

    /// Reads the list if it does not look like the one in force. One that is refused is tried
    /// again each time.
    ///
    /// The authority and the collector's certificate are those in force: their files may be in
    /// the middle of an exchange, which is none of the list's business.
    pub(super) fn poll(&mut self, tls: &TlsConfig, credentials: &Credentials) -> Option<Change> {
        let path = tls.crl.as_ref()?;
        let found = looks(tls);
        if found == self.in_force {
            self.is_refused = false;
            return None;
        }
        let read = || {
            let list = Pem::read(path).map_err(|error| error.to_string())?;
            let gate = ClientGate::new(&credentials.ca, Some(&list));
            let gate = gate.map_err(|error| error.to_string())?;
            let config = tls::server_config_with(credentials, &gate);
            let config = config.map_err(|error| error.to_string())?;
            let server = receive::server_config(config).map_err(|error| error.to_string())?;
            Ok((gate, server))
        };
        Some(match read() {
            Ok((gate, server)) => {
                *self = Self::new(found);
                Change::Taken(gate, server)
            }
            Err(why) => {
                let was_refused = std::mem::replace(&mut self.is_refused, true);
                let before = std::mem::replace(&mut self.refused, found);
                let is_known = was_refused && before == found;
                Change::Refused { why, is_known }
            }
        })
    }
}

#[cfg(test)]
#[path = "revoked_tests.rs"]
mod tests;
