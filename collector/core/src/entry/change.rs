//! A change of the catalog, as the journal keeps it: what, by whom, why, for whom, and who
//! vouches for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tollgate_common::TenantId;

use super::Digest;
use crate::catalog::Catalog;
use crate::position::Position;

/// Longest author and longest reason, in bytes.
pub const CHANGE_TEXT_BYTES_MAX: usize = 1024;
/// Most tenants to which a change is limited.
pub const CHANGE_TENANTS_MAX: usize = 10_000;
/// Most signatures of a change.
pub const CHANGE_SIGNATURES_MAX: usize = 8;

/// A catalog that is applied, or proposed, whole.
///
/// What is optional was not there in the first version of the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogChange {
    /// Digest over all files.
    pub digest: Digest,
    /// Path below the catalog folder, with `/`, to content.
    pub files: BTreeMap<String, String>,
    /// Who applies or proposes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whom it concerns; `None` for everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<BTreeSet<TenantId>>,
    /// Who vouches for the files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<Signature>,
    /// True if it waits for a second person: nothing changes yet.
    #[serde(default, skip_serializing_if = "is_false")]
    pub proposed: bool,
    /// The entry that proposed it, where this one approves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approves: Option<Position>,
}

impl CatalogChange {
    /// Applies a catalog to everybody, by nobody in particular.
    pub fn of(catalog: &Catalog) -> Self {
        Self::plain(catalog.digest(), catalog.files().clone())
    }

    /// A change as the first version of the format had it.
    pub const fn plain(digest: Digest, files: BTreeMap<String, String>) -> Self {
        Self {
            digest,
            files,
            author: None,
            reason: None,
            tenants: None,
            signatures: Vec::new(),
            proposed: false,
            approves: None,
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over references"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// Text before the digest in what is signed, so that a signature cannot be taken for one of
/// anything else.
const SIGNED: &[u8] = b"tollgate catalog signature v1\0";

/// What is signed for a catalog: the text `tollgate catalog signature v1`, a zero byte, and the 32
/// bytes of its digest.
pub fn signed_message(digest: Digest) -> Vec<u8> {
    [SIGNED, &digest.0].concat()
}

/// An Ed25519 public key (RFC 8032), 64 hexadecimal digits as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

/// A signature of [`signed_message`]; as text both parts are hexadecimal digits with a space
/// between them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// Whose.
    pub key: PublicKey,
    /// The 64 bytes of an Ed25519 signature.
    pub bytes: [u8; 64],
}

/// Not a key or a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseSignatureError {
    /// Not a key.
    #[error("an Ed25519 public key is 64 hexadecimal digits")]
    Key,
    /// Not a signature.
    #[error(
        "a signature is the public key (64 hexadecimal digits), a space, and 128 hexadecimal digits"
    )]
    Signature,
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    crate::hex::text(bytes, |text| f.write_str(text))
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = ParseSignatureError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        from_hex(text).map(Self).ok_or(ParseSignatureError::Key)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.key)?;
        hex(&self.bytes, f)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({self})")
    }
}

impl FromStr for Signature {
    type Err = ParseSignatureError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, bytes) = text.split_once(' ').ok_or(ParseSignatureError::Signature)?;
        Ok(Self {
            key: key.parse()?,
            bytes: from_hex(bytes).ok_or(ParseSignatureError::Signature)?,
        })
    }
}

macro_rules! serde_as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

serde_as_text!(PublicKey);
serde_as_text!(Signature);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_signatures_print_and_parse() {
        let signature = Signature {
            key: PublicKey([0xab; 32]),
            bytes: [0x01; 64],
        };
        let text = signature.to_string();
        assert_eq!(text, format!("{} {}", "ab".repeat(32), "01".repeat(64)));
        assert_eq!(text.parse(), Ok(signature));
        assert_eq!(text.to_uppercase().parse(), Ok(signature));
        for wrong in ["", " ", &text[1..], &text[..192], &format!("{text} ")] {
            assert!(wrong.parse::<Signature>().is_err(), "{wrong}");
        }
        assert_eq!(
            "+f".repeat(32).parse::<PublicKey>(),
            Err(ParseSignatureError::Key)
        );
    }

    /// Signatures outlive versions of this program.
    #[test]
    fn what_is_signed_is_pinned() {
        let message = signed_message(Digest([7; 32]));
        assert_eq!(message.len(), 62);
        assert_eq!(&message[..30], b"tollgate catalog signature v1\0");
        assert_eq!(message[30..], [7; 32]);
    }
}
