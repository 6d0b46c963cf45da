//! What few of a hundred thousand tenants have anything of: kept elsewhere, and only once there is
//! something.

use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value that mostly is the default one. In a snapshot it stands as it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Rare<T>(Option<Box<T>>);

/// What has a default value that stands there for everybody.
pub(super) trait Nothing: Default + PartialEq + 'static {
    /// The default value.
    const NOTHING: &'static Self;
}

impl<T: Nothing> From<T> for Rare<T> {
    fn from(value: T) -> Self {
        Self((value != *T::NOTHING).then(|| Box::new(value)))
    }
}

impl<T: Nothing> Rare<T> {
    /// The same without memory for a default value.
    pub(super) fn settled(self) -> Self {
        Self(self.0.filter(|value| **value != *T::NOTHING))
    }
}

impl<T: Nothing> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::NOTHING)
    }
}

impl<T: Nothing> DerefMut for Rare<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

impl<T: Nothing + Serialize> Serialize for Rare<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        T::serialize(self, serializer)
    }
}

impl<'de, T: Nothing + Deserialize<'de>> Deserialize<'de> for Rare<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Dues;
    use super::*;
    use crate::bill::Carried;

    #[test]
    fn the_default_value_takes_no_memory_and_reads_back() {
        assert_eq!(Dues::NOTHING, &Dues::default());
        assert_eq!(Carried::NOTHING, &Carried::default());
        let mut dues: Rare<Dues> = Rare::default();
        let nothing = postcard::to_allocvec(&dues).expect("it can be written");
        let plain = postcard::to_allocvec(&Dues::default()).expect("it can be written");
        assert_eq!(nothing, plain);
        let read: Rare<Dues> = postcard::from_bytes(&nothing).expect("it can be read");
        assert!(read.0.is_none() && *read == *dues);
        dues.reached
            .insert(tollgate_common::Timestamp::EPOCH, "EUR".to_owned());
        let bytes = postcard::to_allocvec(&dues).expect("it can be written");
        let read: Rare<Dues> = postcard::from_bytes(&bytes).expect("it can be read");
        assert_eq!(*read, *dues);
        let carried = Rare::from(Carried {
            credit: 7.into(),
            ..Carried::default()
        });
        assert_eq!(carried.credit, 7.into());
        let text = serde_json::to_string(&carried).expect("it can be written");
        let read: Rare<Carried> = serde_json::from_str(&text).expect("it can be read");
        assert_eq!(*read, *carried);
        assert!(Rare::from(Carried::default()).0.is_none());
        let mut settled = carried.settled();
        assert_eq!(settled.credit, 7.into());
        settled.credit = 0.into();
        assert!(settled.0.is_some() && settled.settled().0.is_none());
    }
}
