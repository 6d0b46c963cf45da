//! Checks of what the operator sees and asks: admin socket, metrics, memory.

use std::net::{Ipv4Addr, SocketAddr};

use super::Checker;
use crate::config::raw;
use crate::config::{Admin, METRICS_PORT, Metrics};

/// Less than this no agent can run in.
const MEMORY_MIN: u64 = 16 << 20;
/// Longest name of a group, as Linux tools allow.
const GROUP_BYTES_MAX: usize = 32;

impl Checker<'_> {
    pub(super) fn memory_max(&mut self, text: &raw::Text) -> Option<u64> {
        self.size(Some(text), 0, MEMORY_MIN..=(1 << 40))
    }

    pub(super) fn admin(&mut self, raw: &raw::Admin) -> Option<Admin> {
        let group_may_count = raw.group_may_count.as_ref();
        let Some(group) = &raw.group else {
            if let Some(count) = group_may_count {
                self.report(count.span(), "no group that may count", "admin.group");
                return None;
            }
            return Some(Admin::default());
        };
        let name = group.get_ref();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if name.is_empty() || name.len() > GROUP_BYTES_MAX || !name.bytes().all(allowed) {
            let expected = "the name or number of a group of this host";
            self.report(group.span(), "not a group", expected);
            return None;
        }
        Some(Admin {
            group: Some(name.clone()),
            group_may_count: group_may_count.is_some_and(|count| *count.get_ref()),
        })
    }

    /// Metrics name inputs, and the tenants that lost dimensions: nobody's business outside.
    pub(super) fn metrics(&mut self, raw: &raw::Metrics) -> Option<Metrics> {
        let Some(text) = &raw.listen else {
            let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, METRICS_PORT));
            return Some(Metrics { listen });
        };
        let listen: SocketAddr = self.parsed(text, "an address such as \"127.0.0.1:9464\"")?;
        let remote = raw
            .allow_remote
            .as_ref()
            .is_some_and(|allow| *allow.get_ref());
        if !listen.ip().is_loopback() && !remote {
            self.report(
                text.span(),
                format!("{} is not a loopback address", listen.ip()),
                "127.0.0.1 or [::1]; or metrics.allow_remote = true, because there is neither \
                 encryption nor authentication",
            );
            return None;
        }
        Some(Metrics { listen })
    }
}
