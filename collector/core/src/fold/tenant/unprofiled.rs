//! Tenants with whom nothing is agreed: what they use is held unrated, and should be seen.

use tollgate_common::TenantId;

use super::TenantFold;

impl TenantFold {
    /// Tenants of this partition that have no profile by the catalog that was applied to them
    /// last, and that no default one serves, by name. What belongs to nobody is not among them.
    pub fn without_profile(&self) -> impl Iterator<Item = &TenantId> {
        self.tenants.keys().filter(|name| {
            let catalog = self.catalogs.current_for(name);
            !name.is_unattributed() && catalog.is_none_or(|c| c.profile(name).is_none())
        })
    }
}
