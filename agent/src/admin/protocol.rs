//! The protocol of the admin socket: one JSON object per line, answered in order.
//!
//! ```text
//! → {"count":{"metric":"http.requests","value":"5","tags":{"customer":"acme"}}}
//! ← {"counted":{"tenant":"acme","meter":"http.requests","units":"5","scale":0,"rounded":false}}
//! → {"status":{}}
//! ← {"status":{…}}
//! → {"reload":{}}
//! ← {"reloaded":{"changed":["rule"],"restart":[]}}
//! → {"top":{"rows":20}}
//! ← {"top":{"rates":{…},"status":{…}}}
//! → {"tap":{"tenant":"acme"}}
//! ← {"tapped":{"input":"dogstatsd.udp","raw":"…","tenant":"acme",…}}
//! ← {"tap":{"matched":1,"skipped":0,"dropped":0}}
//! ← {"error":{"code":"malformed","message":"…"}}
//! ```
//!
//! A count is answered only after it is in its cell: an agent or host that is killed by
//! SIGKILL after the answer does not lose it. A caller that gets no answer does not know.
//! Values are decimal strings, because JSON numbers are floats to many readers. Many requests
//! may be sent before the first answer is read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::access::Right;
use super::watch::{TapProgress, TapQuery, Tapped, TopPage, TopQuery};
use crate::reload::Reloaded;

/// Longest line of a request or an answer to a count, in bytes.
pub const REQUEST_BYTES_MAX: usize = 64 << 10;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Count something.
    Count(Count),
    /// Say how the agent is.
    Status {},
    /// Read the configuration again and put into force what can be.
    Reload {},
    /// Say what was counted since the last such question on this connection.
    Top(TopQuery),
    /// Send events as they are attributed, until the connection is closed.
    Tap(TapQuery),
}

impl Request {
    /// What who asks must be allowed to do.
    pub(crate) fn right(&self) -> Right {
        match self {
            Self::Count(_) => Right::Count,
            Self::Status {} | Self::Top(_) | Self::Tap(_) => Right::Read,
            Self::Reload {} => Right::Change,
        }
    }
}

/// One count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// Name of the metric, attributed by the rules like that of a DogStatsD line.
    pub metric: String,
    /// A decimal such as `5` or `0.25`.
    pub value: String,
    /// Tags, attributed by the rules.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// What became of a count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Who pays.
    pub tenant: String,
    /// What was counted.
    pub meter: String,
    /// How much, in units of 10^-scale, as a decimal string.
    pub units: String,
    /// Decimal places of a unit.
    pub scale: u8,
    /// True if the value was rounded to the meter's scale, as the meter declares.
    pub rounded: bool,
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A word for scripts: `malformed`, `inexact`, `out_of_range`, `series_full`, `forbidden`, `refused`, `stopping` …
    pub code: String,
    /// A sentence for people.
    pub message: String,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The count is in its cell.
    Counted(Counted),
    /// The agent's status.
    Status(serde_json::Value),
    /// The configuration was read again.
    Reloaded(Reloaded),
    /// What was counted.
    Top(Box<TopPage>),
    /// An event.
    Tapped(Tapped),
    /// How the tap stands; sent about once a second.
    Tap(TapProgress),
    /// Nothing was counted.
    Error(Failure),
}

impl Answer {
    /// An answer that says why not.
    pub fn failure(code: &str, message: &(impl ToString + ?Sized)) -> Self {
        Self::Error(Failure {
            code: code.to_owned(),
            message: message.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_on_the_wire_is_stable() {
        let count = Request::Count(Count {
            metric: "http.requests".to_owned(),
            value: "5".to_owned(),
            tags: BTreeMap::from([("customer".to_owned(), "acme".to_owned())]),
        });
        let text = r#"{"count":{"metric":"http.requests","value":"5","tags":{"customer":"acme"}}}"#;
        assert_eq!(serde_json::to_string(&count).ok().as_deref(), Some(text));
        assert_eq!(serde_json::from_str::<Request>(text).ok(), Some(count));
        let status = serde_json::from_str::<Request>(r#"{"status":{}}"#);
        assert_eq!(status.ok(), Some(Request::Status {}));
    }

    #[test]
    fn unknown_keys_and_numbers_are_refused() {
        for text in [
            r#"{"count":{"metric":"m","value":5}}"#,
            r#"{"count":{"metric":"m","value":"5","tag":{}}}"#,
            r#"{"restart":{}}"#,
            "[]",
        ] {
            assert!(serde_json::from_str::<Request>(text).is_err(), "{text}");
        }
    }
}
