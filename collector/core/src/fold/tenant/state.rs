//! How maps with compound keys and catalogs stand in a snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::catalog::Catalog;
use crate::entry::Digest;

/// A map as a list of pairs, because JSON has only text for keys.
pub(super) mod pairs {
    use super::{BTreeMap, Deserialize, Deserializer, Serialize, Serializer};

    pub(in crate::fold::tenant) fn serialize<K, V, S>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error>
    where
        K: Serialize,
        V: Serialize,
        S: Serializer,
    {
        serializer.collect_seq(map)
    }

    pub(in crate::fold::tenant) fn deserialize<'de, K, V, D>(
        deserializer: D,
    ) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Vec::<(K, V)>::deserialize(deserializer).map(BTreeMap::from_iter)
    }
}

/// The catalogs that closings may name: all that ever were in force, by digest.
///
/// They stay because late usage is rated by the catalog of its period's closing. Catalogs
/// change by an operator's hand, so there are few.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Catalogs {
    current: Option<Arc<Catalog>>,
    known: BTreeMap<Digest, Arc<Catalog>>,
}

impl Catalogs {
    pub(super) fn current(&self) -> Option<&Arc<Catalog>> {
        self.current.as_ref()
    }

    /// The digest of the catalog in force; zeros while there is none.
    pub(super) fn current_digest(&self) -> Digest {
        self.current
            .as_ref()
            .map_or(NO_CATALOG, |catalog| catalog.digest())
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<&Arc<Catalog>> {
        self.known.get(digest)
    }

    pub(super) fn digests(&self) -> impl Iterator<Item = Digest> {
        self.known.keys().copied()
    }

    pub(super) fn set(&mut self, catalog: Arc<Catalog>) {
        self.known.insert(catalog.digest(), Arc::clone(&catalog));
        self.current = Some(catalog);
    }
}

/// What closings name while no catalog was ever in force.
pub(super) const NO_CATALOG: Digest = Digest([0; 32]);

#[derive(Serialize, Deserialize)]
struct CatalogsState {
    current: Option<Digest>,
    known: Vec<BTreeMap<String, String>>,
}

impl Serialize for Catalogs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let state = CatalogsState {
            current: self.current.as_ref().map(|catalog| catalog.digest()),
            known: self
                .known
                .values()
                .map(|catalog| catalog.files().clone())
                .collect(),
        };
        state.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Catalogs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let state = CatalogsState::deserialize(deserializer)?;
        let mut known = BTreeMap::new();
        for files in state.known {
            let catalog = Catalog::parse(&files).map_err(D::Error::custom)?;
            known.insert(catalog.digest(), Arc::new(catalog));
        }
        let current = match state.current {
            None => None,
            Some(digest) => {
                let catalog = known.get(&digest).cloned();
                Some(catalog.ok_or_else(|| D::Error::custom("the catalog in force is missing"))?)
            }
        };
        Ok(Self { current, known })
    }
}
