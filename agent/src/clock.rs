//! The clock of the host; the cores are told the time.

use std::time::{SystemTime, UNIX_EPOCH};

use tollgate_common::Timestamp;

/// Now. A clock before 1970 shows 1970.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
