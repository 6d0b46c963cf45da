//! The legal data of the parties: personal data, which may have to be erased.
//!
//! The ledger cannot forget, so it never has them. When a document is issued, the data of both
//! parties are kept beside the ledger together with 32 random bytes, and the ledger has the digest
//! of both. While the data are there, anybody can show that they are what was printed; once they
//! and the random bytes are erased, the digest says nothing about them, and the chain still holds.

use serde::{Deserialize, Serialize};

use crate::entry::Digest;

/// Random bytes that go with the data of a party.
pub type Salt = [u8; 32];

/// Longest text of a party, in bytes.
pub const PARTY_TEXT_BYTES_MAX: usize = 1024;
/// Most lines of an address.
pub const ADDRESS_LINES_MAX: usize = 8;

/// Legal data of an issuer or of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Party {
    /// Name, as registered.
    pub name: String,
    /// Lines of the address.
    #[serde(default)]
    pub address: Vec<String>,
    /// ISO 3166-1 alpha-2 code.
    #[serde(default)]
    pub country: String,
    /// VAT identification number.
    #[serde(default)]
    pub vat_id: String,
    /// Number in a register of companies, with the register.
    #[serde(default)]
    pub registration: String,
    /// Whom to write to.
    #[serde(default)]
    pub contact: String,
    /// Where to pay to: of issuers.
    #[serde(default)]
    pub bank: String,
    /// True if the tenant owes the tax itself (reverse charge); invoices say so.
    #[serde(default)]
    pub reverse_charge: bool,
    /// Anything else that documents must say.
    #[serde(default)]
    pub note: String,
}

/// Why texts are not the data of a party.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartyError {
    /// A text is too long or missing.
    #[error("`{0}` is missing or longer than {PARTY_TEXT_BYTES_MAX} bytes")]
    Text(&'static str),
    /// Too many lines.
    #[error("`address` has more than {ADDRESS_LINES_MAX} lines")]
    Address,
    /// Not a country.
    #[error("`country` {0:?} is no ISO 3166-1 code (expected two capital letters such as \"DE\")")]
    Country(String),
    /// Not TOML, or with unknown keys.
    #[error("{0}")]
    Toml(String),
}

impl Party {
    /// Reads the data from a TOML text.
    ///
    /// # Errors
    /// See [`PartyError`].
    pub fn parse(text: &str) -> Result<Self, PartyError> {
        let party: Self =
            toml::from_str(text).map_err(|error| PartyError::Toml(error.to_string()))?;
        party.check()?;
        Ok(party)
    }

    fn check(&self) -> Result<(), PartyError> {
        if self.name.trim().is_empty() {
            return Err(PartyError::Text("name"));
        }
        let texts = [
            ("name", &self.name),
            ("vat_id", &self.vat_id),
            ("registration", &self.registration),
            ("contact", &self.contact),
            ("bank", &self.bank),
            ("note", &self.note),
        ];
        let lines = self.address.iter().map(|line| ("address", line));
        for (name, text) in texts.into_iter().chain(lines) {
            if text.len() > PARTY_TEXT_BYTES_MAX {
                return Err(PartyError::Text(name));
            }
        }
        if self.address.len() > ADDRESS_LINES_MAX {
            return Err(PartyError::Address);
        }
        let is_code =
            self.country.len() == 2 && self.country.bytes().all(|b| b.is_ascii_uppercase());
        if !self.country.is_empty() && !is_code {
            return Err(PartyError::Country(self.country.chars().take(16).collect()));
        }
        Ok(())
    }

    /// The text that the digest is made of: JSON with the fields in their order.
    pub fn canonical(&self) -> String {
        serde_json::to_string(self).expect("a party is texts and a flag")
    }
}

/// The digest of a canonical text with its random bytes, as the ledger has it.
pub fn digest(salt: &Salt, canonical: &str) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"tollgate party v1\0");
    hasher.update(salt);
    hasher.update(canonical.as_bytes());
    Digest(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_sound_and_names_what_is_not() {
        let party = Party::parse(
            "name = \"Acme GmbH\"\naddress = [\"Weg 1\", \"10115 Berlin\"]\ncountry = \"DE\"\nvat_id = \"DE123\"",
        )
        .expect("sound");
        assert_eq!(party.address.len(), 2);
        for (text, what) in [
            ("", "name"),
            ("name = \" \"", "name"),
            ("name = \"A\"\ncountry = \"Germany\"", "ISO 3166-1"),
            ("name = \"A\"\nphone = \"1\"", "phone"),
            (
                "name = \"A\"\naddress = [\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\"]",
                "lines",
            ),
        ] {
            let error = Party::parse(text).expect_err(text).to_string();
            assert!(error.contains(what), "{text}: {error}");
        }
    }

    #[test]
    fn a_digest_says_nothing_without_its_salt() {
        let party = Party {
            name: "Acme".to_owned(),
            ..Party::default()
        };
        let text = party.canonical();
        assert_eq!(digest(&[1; 32], &text), digest(&[1; 32], &text));
        assert_ne!(digest(&[1; 32], &text), digest(&[2; 32], &text));
        assert_ne!(
            digest(&[1; 32], &text),
            digest(&[1; 32], &format!("{text} "))
        );
    }
}
