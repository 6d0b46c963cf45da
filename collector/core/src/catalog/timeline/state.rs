//! All versions as they stand in a snapshot: the files of each catalog once, and when it was applied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tollgate_common::{TenantId, Timestamp};

use super::{Timeline, Version};
use crate::catalog::{Catalog, Families};
use crate::entry::Digest;

#[derive(Serialize, Deserialize)]
struct State {
    /// The files of each catalog.
    catalogs: Vec<BTreeMap<String, String>>,
    versions: Vec<VersionState>,
}

#[derive(Serialize, Deserialize)]
struct VersionState {
    stamp: Timestamp,
    digest: Digest,
    tenants: Option<Arc<BTreeSet<TenantId>>>,
}

impl Serialize for Timeline {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let catalogs = self.catalogs.values();
        let versions = self.versions.iter().map(|version| VersionState {
            stamp: version.stamp,
            digest: version.catalog.digest(),
            tenants: version.tenants.clone(),
        });
        let state = State {
            catalogs: catalogs.map(|catalog| catalog.files().clone()).collect(),
            versions: versions.collect(),
        };
        state.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Timeline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let state = State::deserialize(deserializer)?;
        let mut catalogs = BTreeMap::new();
        for files in state.catalogs {
            let catalog = Catalog::parse(&files).map_err(D::Error::custom)?;
            catalogs.insert(catalog.digest(), Arc::new(catalog));
        }
        let versions = state.versions.into_iter().map(|version| {
            let catalog = catalogs
                .get(&version.digest)
                .ok_or_else(|| D::Error::custom("a catalog that was in force is missing"))?;
            Ok(Version {
                stamp: version.stamp,
                catalog: Arc::clone(catalog),
                tenants: version.tenants,
            })
        });
        let versions: Vec<Version> = versions.collect::<Result<_, _>>()?;
        let mut families = Families::default();
        for version in &versions {
            families.learn(&version.catalog);
        }
        Ok(Self {
            catalogs,
            versions,
            families,
        })
    }
}
