//! The configuration as written: every value with its place in the text, nothing checked
//! beyond its type.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tollgate_common::quantity::Inexact;
use toml::Spanned;

use crate::input::{Input, Listener};
use crate::ship::EndpointOrder;

pub(super) type Text = Spanned<String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Root {
    pub(super) agent: Text,
    pub(super) state_dir: Option<Text>,
    pub(super) window: Option<Text>,
    pub(super) stop_deadline: Option<Text>,
    pub(super) admin_socket: Option<Text>,
    pub(super) memory_max: Option<Text>,
    #[serde(default)]
    pub(super) admin: Admin,
    pub(super) metrics: Option<Metrics>,
    pub(super) collector: Collector,
    #[serde(default)]
    pub(super) spool: Spool,
    #[serde(default)]
    pub(super) limits: Limits,
    #[serde(default)]
    pub(super) meter: Vec<Meter>,
    #[serde(default)]
    pub(super) input: Inputs,
    #[serde(default)]
    pub(super) rule: Vec<Spanned<Rule>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    pub(super) group: Option<Text>,
    pub(super) group_may_count: Option<Spanned<bool>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metrics {
    pub(super) listen: Option<Text>,
    pub(super) allow_remote: Option<Spanned<bool>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Collector {
    pub(super) endpoints: Spanned<Vec<Spanned<Endpoint>>>,
    pub(super) order: Option<Spanned<EndpointOrder>>,
    pub(super) prefer_after: Option<Text>,
    pub(super) server_name: Option<Text>,
    pub(super) bandwidth_max: Option<Text>,
    pub(super) clock_warn: Option<Text>,
    pub(super) ca: Text,
    pub(super) certificate: Text,
    pub(super) key: Text,
}

/// `"host:7430"` or `{ address = "host:7430", server_name = "name" }`.
pub(super) struct Endpoint {
    pub(super) address: String,
    pub(super) server_name: Option<String>,
}

// As for `Tenant`.
impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EndpointVisitor;

        impl<'de> Visitor<'de> for EndpointVisitor {
            type Value = Endpoint;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(ENDPOINT_FORM)
            }

            fn visit_str<E>(self, text: &str) -> Result<Endpoint, E> {
                Ok(Endpoint {
                    address: text.to_owned(),
                    server_name: None,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Endpoint, A::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Named {
                    address: String,
                    server_name: Option<String>,
                }
                let named = Named::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(Endpoint {
                    address: named.address,
                    server_name: named.server_name,
                })
            }
        }

        deserializer.deserialize_any(EndpointVisitor)
    }
}

pub(super) const ENDPOINT_FORM: &str = "a name or address with a port, such as \"127.0.0.1:7430\", or { address = \"10.0.0.7:7430\", server_name = \"collector.example\" }";

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spool {
    pub(super) bytes_max: Option<Text>,
    pub(super) segment_bytes: Option<Text>,
    pub(super) free_min: Option<Text>,
    pub(super) sync: Option<Spanned<Sync>>,
    pub(super) sync_interval: Option<Text>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Sync {
    Always,
    Interval,
    OnDisconnect,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) series_max: Option<Spanned<u32>>,
    pub(super) series_per_tenant: Option<Spanned<u32>>,
    pub(super) key_bytes: Option<Text>,
    pub(super) dimensions_max: Option<Spanned<u32>>,
    pub(super) idle_series: Option<Text>,
    pub(super) wide_bytes: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Meter {
    pub(super) name: Text,
    pub(super) unit: Text,
    pub(super) scale: Option<Spanned<u8>>,
    pub(super) aggregation: Option<Text>,
    pub(super) inexact: Option<Inexact>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Inputs {
    pub(super) dogstatsd: Option<Spanned<Dogstatsd>>,
    pub(super) interfaces: Option<Interfaces>,
    pub(super) sdk: Option<Spanned<Sdk>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sdk {
    pub(super) socket: Option<Text>,
    pub(super) mode: Option<Text>,
    pub(super) pages_max: Option<Spanned<u32>>,
    pub(super) page_bytes_max: Option<Text>,
    pub(super) pages_bytes_max: Option<Text>,
    #[serde(default)]
    pub(super) allow: Vec<Spanned<SdkAllow>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SdkAllow {
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) tenant: Option<Text>,
    #[serde(default)]
    pub(super) tenants: Vec<Text>,
    #[serde(default)]
    pub(super) meters: Vec<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dogstatsd {
    pub(super) udp: Option<Text>,
    pub(super) udp_sockets: Option<Spanned<u16>>,
    #[serde(default)]
    pub(super) allow_remote: bool,
    pub(super) unix: Option<Text>,
    pub(super) unix_stream: Option<Text>,
    pub(super) unix_mode: Option<Text>,
    pub(super) receive_buffer: Option<Text>,
    pub(super) cache: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Interfaces {
    pub(super) interval: Option<Text>,
    #[serde(default)]
    pub(super) exclude: Vec<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) input: Option<Spanned<Input>>,
    pub(super) listener: Option<Spanned<Listener>>,
    pub(super) metric: Option<Text>,
    #[serde(default)]
    pub(super) tags: BTreeMap<String, Text>,
    pub(super) interface: Option<Text>,
    pub(super) quantity: Option<Spanned<Quantity>>,
    pub(super) direction: Option<Spanned<Direction>>,
    pub(super) tenant: Spanned<Tenant>,
    pub(super) meter: Option<Text>,
    #[serde(default)]
    pub(super) dimensions: Vec<Text>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Quantity {
    Bytes,
    Packets,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Direction {
    In,
    Out,
}

/// `"acme"` or `{ tag = "customer" }`.
pub(super) enum Tenant {
    Fixed(String),
    Tag(String),
}

// Not an untagged enum: that would lose the reason and the place of an error.
impl<'de> Deserialize<'de> for Tenant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TenantVisitor;

        impl<'de> Visitor<'de> for TenantVisitor {
            type Value = Tenant;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(TENANT_FORM)
            }

            fn visit_str<E>(self, text: &str) -> Result<Tenant, E> {
                Ok(Tenant::Fixed(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Tenant, A::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct ByTag {
                    tag: String,
                }
                let by_tag = ByTag::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(Tenant::Tag(by_tag.tag))
            }
        }

        deserializer.deserialize_any(TenantVisitor)
    }
}

const TENANT_FORM: &str = "the name of a tenant, or { tag = \"customer\" } to take it from a tag";

/// What belongs under a key that is missing.
pub(super) fn describe(key: &str) -> &'static str {
    let last = key.rsplit('.').next().unwrap_or(key);
    match (key, last) {
        ("agent", _) => "the agent's name as in its certificate, such as agent = \"edge-1\"",
        ("collector", _) => "a table [collector] with endpoints, ca, certificate and key",
        (_, "endpoints") => "addresses of collectors, such as [\"127.0.0.1:7430\"]",
        (_, "ca" | "certificate" | "key") => "the path of a PEM file",
        (_, "tenant") => TENANT_FORM,
        (_, "name") => "the name of the meter, such as \"http.requests\"",
        (_, "unit") => "the unit in UCUM style, such as \"By\", \"s\" or \"{request}\"",
        _ => "a value",
    }
}
