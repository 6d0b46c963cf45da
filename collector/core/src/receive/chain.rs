//! Where one incarnation stands in a connection.

use tollgate_common::Incarnation;

use super::SessionError;

/// Which batch of an incarnation may come next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    /// The smallest number that the next batch may have; it differs from `latest` only before
    /// the first batch.
    earliest: u64,
    /// The largest number that it may have.
    latest: u64,
}

impl Chain {
    /// The next batch has a number of `earliest..=latest`.
    pub(super) fn within(earliest: u64, latest: u64) -> Self {
        Self { earliest, latest }
    }

    /// The chain once batch `number` has come, if that is the next.
    pub(super) fn after(self, incarnation: Incarnation, number: u64) -> Result<Self, SessionError> {
        if number < self.earliest || number > self.latest {
            let expected = if self.earliest == self.latest {
                format!("{}", self.latest)
            } else {
                format!("{} to {}", self.earliest, self.latest)
            };
            return Err(SessionError::Protocol(format!(
                "batch {number} of incarnation {incarnation} where {expected} is expected"
            )));
        }
        let next = number
            .checked_add(1)
            .ok_or_else(|| SessionError::Protocol("sequence number is too large".to_owned()))?;
        Ok(Self::within(next, next))
    }
}
