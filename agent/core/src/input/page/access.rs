//! For whom a peer may count.

use tollgate_common::{MeterName, TenantId};

use crate::config::{SdkAllow, SdkTenants};

/// The entry that decides about a peer with this user and group.
pub fn find(allow: &[SdkAllow], uid: u32, gid: u32) -> Option<&SdkAllow> {
    allow.iter().find(|entry| {
        entry.uid.is_none_or(|allowed| allowed == uid)
            && entry.gid.is_none_or(|allowed| allowed == gid)
    })
}

/// The tenant that is counted for, or `None` if that is not allowed.
pub(super) fn tenant(access: &SdkAllow, named: &TenantId) -> Option<TenantId> {
    match &access.tenants {
        SdkTenants::Fixed(tenant) => Some(tenant.clone()),
        SdkTenants::Patterns(patterns) => patterns
            .iter()
            .any(|pattern| pattern.matches(named.as_str()))
            .then(|| named.clone()),
    }
}

/// True if a meter may be counted.
pub(super) fn meter(access: &SdkAllow, named: &MeterName) -> bool {
    access.meters.is_empty()
        || access
            .meters
            .iter()
            .any(|pattern| pattern.matches(named.as_str()))
}
