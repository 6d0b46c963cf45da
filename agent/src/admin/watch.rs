//! What `top` and `tap` ask and are told. Everything here is bounded by the agent, whatever is
//! asked.

use serde::{Deserialize, Serialize};
pub use tollgate_agent_core::engine::{TopGroup, TopOrder, TopQuery, TopRates, TopSeries};

/// A page of `top`. Rates are the caller's business: events and amounts are what was counted
/// since the request before on the same connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopPage {
    /// The busiest tenants, meters and series.
    pub rates: TopRates,
    /// As `status` gives it.
    pub status: serde_json::Value,
}

/// Which events are to be shown. Patterns take `*` and `?`; what is left out fits all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TapQuery {
    /// The input's kind, such as `dogstatsd`, or listener, such as `dogstatsd.udp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Who pays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The meter that the event was attributed to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meter: Option<String>,
    /// The name that came in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// True to see only what was not counted.
    pub rejected: bool,
    /// Most events a second; the rest are skipped and counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
}

/// One event as it was attributed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tapped {
    /// Where it came in.
    pub input: String,
    /// What came in.
    pub raw: String,
    /// Who pays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What it counts for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meter: Option<String>,
    /// As `{key=value,…}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<String>,
    /// The value as it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Why it was not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
}

/// How a tap stands; sent about once a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapProgress {
    /// Events that fit since the tap began.
    pub matched: u64,
    /// Of these, those above the rate asked for.
    pub skipped: u64,
    /// Of these, those that the reader was too slow for.
    pub dropped: u64,
}
