//! Names and numbers that identify things: tenants, meters, agents, incarnations, batches.
//!
//! Every type validates on construction and has no setter, so that a value of the type is
//! proof of its rules.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::{AGENT_BYTES_MAX, METER_BYTES_MAX, TENANT_BYTES_MAX};

/// Why a text is not a valid name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// More bytes than allowed.
    #[error("{what} has {length} bytes, more than the {max} allowed")]
    TooLong {
        /// What kind of name.
        what: &'static str,
        /// Bytes given.
        length: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A character outside the allowed set.
    #[error(
        "{what} `{name}` has the character {character:?} (allowed: ASCII letters, digits and . _ - / : @)"
    )]
    Character {
        /// What kind of name.
        what: &'static str,
        /// The name, cut to a printable length.
        name: String,
        /// The first offending character.
        character: char,
    },
    /// Names that start with an underscore belong to Tollgate.
    #[error("{what} `{name}` starts with `_`, which is reserved for Tollgate's own names")]
    Reserved {
        /// What kind of name.
        what: &'static str,
        /// The name.
        name: String,
    },
}

fn check_name(what: &'static str, name: &str, max: usize) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty(what));
    }
    if name.len() > max {
        return Err(NameError::TooLong {
            what,
            length: name.len(),
            max,
        });
    }
    if name.bytes().all(is_allowed) {
        return Ok(());
    }
    let allowed = |c: char| u8::try_from(c).is_ok_and(is_allowed);
    let character = name.chars().find(|&c| !allowed(c));
    Err(NameError::Character {
        what,
        name: name.to_owned(),
        character: character.unwrap_or_default(),
    })
}

const fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/' | b':' | b'@')
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr, reserved: $reserved:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `name` against the rules of the type.
            pub fn new(name: &str) -> Result<Self, NameError> {
                Self::check(name)?;
                Ok(Self(name.into()))
            }

            /// As [`Self::new`], for who needs no name of his own.
            pub fn check(name: &str) -> Result<(), NameError> {
                check_name($what, name, $max)?;
                let reserved: &[&str] = $reserved;
                if name.starts_with('_') && !reserved.contains(&name) {
                    return Err(NameError::Reserved { what: $what, name: name.to_owned() });
                }
                Ok(())
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(name: &str) -> Result<Self, Self::Err> {
                Self::new(name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Name;
                impl serde::de::Visitor<'_> for Name {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a string")
                    }

                    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<$name, E> {
                        $name::new(name).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Name)
            }
        }
    };
}

/// The reserved tenant of usage that no rule attributes.
pub const UNATTRIBUTED: &str = "_unattributed";

name_type! {
    /// Who pays. 1 to [`TENANT_BYTES_MAX`] bytes of ASCII letters, digits and `. _ - / : @`;
    /// a leading underscore is reserved.
    TenantId, "tenant", TENANT_BYTES_MAX, reserved: &[UNATTRIBUTED]
}

impl TenantId {
    /// The tenant of usage that no rule attributes: `_unattributed`.
    pub fn unattributed() -> Self {
        Self(UNATTRIBUTED.into())
    }

    /// True for `_unattributed`.
    pub fn is_unattributed(&self) -> bool {
        &*self.0 == UNATTRIBUTED
    }
}

name_type! {
    /// The name of a meter. 1 to [`METER_BYTES_MAX`] bytes of ASCII letters, digits and
    /// `. _ - / : @`; a leading underscore is reserved.
    MeterName, "meter", METER_BYTES_MAX, reserved: &[]
}

name_type! {
    /// The name of an agent, as in the URI name of its certificate:
    /// `tollgate://agent/NAME`. 1 to [`AGENT_BYTES_MAX`] bytes of ASCII letters, digits and
    /// `. _ - / : @`.
    AgentId, "agent", AGENT_BYTES_MAX, reserved: &[]
}

/// Not 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 hexadecimal digits")]
pub struct ParseHexError;

fn parse_hex16(text: &str) -> Result<[u8; 16], ParseHexError> {
    let mut bytes = [0; 16];
    if text.len() != 32 || !text.is_ascii() {
        return Err(ParseHexError);
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| ParseHexError)?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| ParseHexError)?;
    }
    Ok(bytes)
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// The identifier made of these random bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The sixteen bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseHexError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse_hex16(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if !deserializer.is_human_readable() {
                    return <[u8; 16]>::deserialize(deserializer).map(Self);
                }
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

random_id! {
    /// One life of an agent: 128 random bits. It names its parent in its first batch and ends
    /// with a final batch or a declared loss.
    Incarnation
}

random_id! {
    /// One life of a collector's journal: 128 random bits, new when a journal is created or
    /// restored from a backup.
    Lineage
}

/// The number of a batch within its incarnation: 1, 2, 3 … without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BatchSeq(u64);

impl BatchSeq {
    /// The first batch of an incarnation.
    pub const FIRST: Self = Self(1);

    /// The sequence number `number`, or `None` for zero, which no batch has.
    pub const fn new(number: u64) -> Option<Self> {
        if number == 0 {
            None
        } else {
            Some(Self(number))
        }
    }

    /// The number, at least 1.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number after this one; saturates at 2^64 - 1, which no incarnation reaches.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for BatchSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_rules() {
        assert_eq!(
            TenantId::new("acme").map(|t| t.to_string()),
            Ok("acme".to_owned())
        );
        assert_eq!(TenantId::new(""), Err(NameError::Empty("tenant")));
        assert!(matches!(
            TenantId::new("a b"),
            Err(NameError::Character { character: ' ', .. })
        ));
        assert!(matches!(
            TenantId::new("_mine"),
            Err(NameError::Reserved { .. })
        ));
        assert!(TenantId::new(UNATTRIBUTED).is_ok_and(|t| t.is_unattributed()));
        assert!(matches!(
            MeterName::new(&"m".repeat(129)),
            Err(NameError::TooLong { length: 129, .. })
        ));
    }

    #[test]
    fn incarnations_print_and_parse() {
        let id = Incarnation::from_bytes([0xab; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("xyz".parse::<Incarnation>(), Err(ParseHexError));
        assert_eq!("é".repeat(16).parse::<Incarnation>(), Err(ParseHexError));
    }
}
