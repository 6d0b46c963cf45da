//! Signatures of catalogs: Ed25519 keys as PEM files, and `catalog.sig` beside the files.
//!
//! A signature says that its owner has seen exactly these files. It says nothing of when and for
//! whom they are applied, so that a former version needs no new one to be applied again.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use tollgate_collector_core::config::CatalogRules;
use tollgate_collector_core::entry::{
    CHANGE_SIGNATURES_MAX, Digest, PublicKey, Signature, signed_message,
};

/// Where signatures stand in the catalog folder, one a line.
pub const FILE_NAME: &str = "catalog.sig";
/// Longest file of signatures, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 10;
/// Longest file of a key, in bytes.
const KEY_BYTES_MAX: u64 = 16 << 10;

/// Why something cannot be signed, or a signature does not count.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Not a private key.
    #[error(
        "{path}: {reason} (expected an Ed25519 key in PKCS#8 PEM, such as `tollgate-collector catalog keygen` makes)"
    )]
    Key {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A line that is not a signature, or too many.
    #[error("{path}:{line}: {reason}")]
    Line {
        /// Which file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The signature is of other files.
    #[error(
        "the signature by {0} does not fit this catalog: its files were changed since, or it is of another catalog (sign it again)"
    )]
    Invalid(PublicKey),
    /// Nobody trusts the key.
    #[error("the catalog is signed by {0}, which is not in [catalog.trusted_keys]")]
    Untrusted(PublicKey),
    /// There is none.
    #[error(
        "the catalog is not signed, and catalog.require_signature is set (sign it with `tollgate-collector catalog sign`)"
    )]
    Missing,
    /// The key could not be made.
    #[error("the key could not be made: {0}")]
    Generate(#[from] rcgen::Error),
}

/// A key that signs.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// Makes a key; its PEM text is for [`SigningKey::read`].
    pub fn generate() -> Result<(Self, String), SigningError> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.serialized_der())
            .map_err(|_| SigningError::Generate(rcgen::Error::CouldNotParseKeyPair))?;
        Ok((Self(pair), key.serialize_pem()))
    }

    /// Reads a private key.
    pub fn read(path: &Path) -> Result<Self, SigningError> {
        let failed = |reason: String| SigningError::Key {
            path: path.to_owned(),
            reason,
        };
        let text = bounded(path, KEY_BYTES_MAX)?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes())
            .map_err(|error| failed(error.to_string()))?;
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
            .map(Self)
            .map_err(|error| failed(error.to_string()))
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        let mut key = [0; 32];
        key.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(key)
    }

    /// Signs a catalog.
    pub fn sign(&self, digest: Digest) -> Signature {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.0.sign(&signed_message(digest)).as_ref());
        Signature {
            key: self.public(),
            bytes,
        }
    }
}

/// True if the signature is of the catalog with this digest.
pub fn is_valid(signature: &Signature, digest: Digest) -> bool {
    UnparsedPublicKey::new(&ED25519, signature.key.0)
        .verify(&signed_message(digest), &signature.bytes)
        .is_ok()
}

/// Whose a key is, by the configuration.
pub fn name_of(key: PublicKey, rules: &CatalogRules) -> Option<&str> {
    let mut keys = rules.trusted_keys.iter();
    let found = keys.find(|(_, known)| **known == key);
    found.map(|(name, _)| name.as_str())
}

/// Checks what vouches for a catalog: every signature must be of it. Where the configuration names
/// keys, every signature must be by one of them; where it requires a signature, there must be one.
pub fn check(
    signatures: &[Signature],
    digest: Digest,
    rules: &CatalogRules,
) -> Result<(), SigningError> {
    for signature in signatures {
        if !is_valid(signature, digest) {
            return Err(SigningError::Invalid(signature.key));
        }
        if !rules.trusted_keys.is_empty() && name_of(signature.key, rules).is_none() {
            return Err(SigningError::Untrusted(signature.key));
        }
    }
    if rules.require_signature && signatures.is_empty() {
        return Err(SigningError::Missing);
    }
    Ok(())
}

/// The signatures beside the files of a catalog folder; none if there is no such file.
pub fn read_beside(folder: &Path) -> Result<Vec<Signature>, SigningError> {
    let path = folder.join(FILE_NAME);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = bounded(&path, FILE_BYTES_MAX)?;
    let mut signatures = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let failed = |reason: String| SigningError::Line {
            path: path.clone(),
            line: at + 1,
            reason,
        };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if signatures.len() == CHANGE_SIGNATURES_MAX {
            let reason = format!("more than the {CHANGE_SIGNATURES_MAX} signatures allowed");
            return Err(failed(reason));
        }
        signatures.push(line.parse().map_err(|error| failed(format!("{error}")))?);
    }
    Ok(signatures)
}

/// Writes the signatures beside the files of a catalog folder.
pub fn write_beside(folder: &Path, signatures: &[Signature]) -> Result<PathBuf, SigningError> {
    let path = folder.join(FILE_NAME);
    let lines: Vec<String> = signatures.iter().map(|s| format!("{s}\n")).collect();
    fs::write(&path, lines.concat()).map_err(|source| SigningError::File {
        path: path.clone(),
        source,
    })?;
    Ok(path)
}

/// Writes a new private key, readable by its owner only; no file is overwritten.
pub fn write_key(path: &Path, pem: &str) -> Result<(), SigningError> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| {
            file.write_all(pem.as_bytes())
                .and_then(|()| file.sync_all())
        });
    written.map_err(|source| SigningError::File {
        path: path.to_owned(),
        source,
    })
}

/// The text of a file that is not longer than `max` bytes.
fn bounded(path: &Path, max: u64) -> Result<String, SigningError> {
    let failed = |source| SigningError::File {
        path: path.to_owned(),
        source,
    };
    let length = fs::metadata(path).map_err(failed)?.len();
    if length > max {
        let reason = format!("{length} bytes are more than the {max} allowed");
        return Err(failed(io::Error::other(reason)));
    }
    fs::read_to_string(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(keys: &[(&str, PublicKey)], require: bool) -> CatalogRules {
        let named = keys.iter().map(|(name, key)| ((*name).to_owned(), *key));
        CatalogRules {
            require_signature: require,
            trusted_keys: named.collect(),
            second_person: false,
        }
    }

    #[test]
    fn a_signature_counts_for_its_catalog_and_by_whom_is_trusted() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("kim.key");
        let (made, pem) = SigningKey::generate().expect("makes");
        write_key(&path, &pem).expect("writes");
        assert!(write_key(&path, &pem).is_err(), "nothing is overwritten");
        let kim = SigningKey::read(&path).expect("reads");
        assert_eq!(kim.public(), made.public());
        let (lee, _) = SigningKey::generate().expect("makes");

        let (ours, other) = (Digest([1; 32]), Digest([2; 32]));
        let by_kim = kim.sign(ours);
        let trusting = rules(&[("kim", kim.public())], true);
        assert!(check(&[by_kim], ours, &trusting).is_ok());
        assert_eq!(name_of(by_kim.key, &trusting), Some("kim"));
        let refused = |signatures: &[Signature], digest| {
            check(signatures, digest, &trusting)
                .expect_err("refused")
                .to_string()
        };
        assert!(refused(&[by_kim], other).contains("does not fit"));
        assert!(refused(&[], ours).contains("not signed"));
        assert!(refused(&[by_kim, lee.sign(ours)], ours).contains("trusted_keys"));
        let mut forged = lee.sign(ours);
        forged.key = kim.public();
        assert!(refused(&[forged], ours).contains("does not fit"));
        // Where nobody is named, a signature has to fit and may be missing.
        let none = rules(&[], false);
        assert!(check(&[lee.sign(ours)], ours, &none).is_ok());
        assert!(check(&[], ours, &none).is_ok());
        assert!(check(&[lee.sign(ours)], other, &none).is_err());
    }

    #[test]
    fn signatures_stand_beside_the_files() {
        let dir = tempfile::tempdir().expect("temporary folder");
        assert_eq!(read_beside(dir.path()).expect("none"), []);
        let (kim, _) = SigningKey::generate().expect("makes");
        let two = [kim.sign(Digest([1; 32])), kim.sign(Digest([2; 32]))];
        let path = write_beside(dir.path(), &two).expect("writes");
        assert_eq!(read_beside(dir.path()).expect("reads"), two);
        fs::write(&path, format!("# by hand\n\n{}\nx\n", two[0])).expect("writes");
        let error = read_beside(dir.path()).expect_err("not a signature");
        assert!(error.to_string().contains("catalog.sig:4:"), "{error}");
        fs::write(&path, format!("{}\n", two[0]).repeat(9)).expect("writes");
        assert!(read_beside(dir.path()).is_err());
        fs::write(&path, "no key").expect("writes");
        assert!(SigningKey::read(&path).is_err());
    }
}
