//! Whose cell a mirroring slot mirrors.
//!
//! The key of such a slot is the canonical form of its series, followed by its owner, and its
//! description says so.

use tollgate_common::limits::SERIES_KEY_BYTES_MAX;

/// Bytes of an owner behind a key.
pub(super) const OWNER_BYTES: usize = 16 + 4 + 4;

/// From this number on there are no users: owners of such pages are notes of the agent's own.
pub const NOTES_USER: u32 = u32::MAX - 1;

/// Longest canonical form of a series that can be mirrored, in bytes.
pub const MIRRORED_KEY_BYTES_MAX: usize = SERIES_KEY_BYTES_MAX - OWNER_BYTES;

/// A page, and who handed it over: what one user says of a page never touches another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageKey {
    /// The page's random name.
    pub id: [u8; 16],
    /// The user of the process that handed it over.
    pub user: u32,
}

/// A cell of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// The page.
    pub page: PageKey,
    /// The slot in the page's directory.
    pub slot: u32,
}

impl Owner {
    pub(super) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.page.id);
        out.extend_from_slice(&self.page.user.to_le_bytes());
        out.extend_from_slice(&self.slot.to_le_bytes());
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (id, rest) = bytes.split_first_chunk::<16>()?;
        let (user, slot) = rest.split_first_chunk::<4>()?;
        Some(Self {
            page: PageKey {
                id: *id,
                user: u32::from_le_bytes(*user),
            },
            slot: u32::from_le_bytes(slot.try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_round_trip() {
        let owner = Owner {
            page: PageKey {
                id: *b"0123456789abcdef",
                user: 1000,
            },
            slot: 7,
        };
        let mut bytes = Vec::new();
        owner.write(&mut bytes);
        assert_eq!(bytes.len(), OWNER_BYTES);
        assert_eq!(Owner::from_bytes(&bytes), Some(owner));
        bytes.pop();
        assert_eq!(Owner::from_bytes(&bytes), None);
    }
}
