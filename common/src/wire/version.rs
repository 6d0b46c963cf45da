//! Which version of the format two sides use.

use std::ops::RangeInclusive;

use super::Hello;

/// The newest version of the format that this build speaks.
pub const VERSION: u8 = 2;
/// The oldest version of the format that this build speaks.
pub const VERSION_MIN: u8 = 1;

const _: () = assert!(VERSION_MIN >= 1 && VERSION_MIN <= VERSION);

/// The version of one frame: the oldest that can say what the frame says. Only batches with
/// details or clock steps, and grants, need version 2, so that everything else can be read by builds that
/// know version 1 alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum FrameVersion {
    V1 = 1,
    V2 = 2,
}

impl FrameVersion {
    pub(super) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::V1),
            2 => Some(Self::V2),
            _ => None,
        }
    }
}

const _: () = assert!(FrameVersion::V1 as u8 == VERSION_MIN && FrameVersion::V2 as u8 == VERSION);

/// Two sides that have no version in common, or a range that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionRefusal {
    /// The peer only speaks versions that are too new.
    #[error(
        "peer speaks wire versions {theirs_min} to {theirs_max}, this side {ours_min} to \
         {ours_max}: upgrade this side first, or the peer to a release that still speaks {ours_max}"
    )]
    PeerTooNew {
        /// Oldest version of the peer.
        theirs_min: u8,
        /// Newest version of the peer.
        theirs_max: u8,
        /// Oldest version of this side.
        ours_min: u8,
        /// Newest version of this side.
        ours_max: u8,
    },
    /// The peer only speaks versions that are too old.
    #[error(
        "peer speaks wire versions {theirs_min} to {theirs_max}, this side {ours_min} to \
         {ours_max}: upgrade the peer"
    )]
    PeerTooOld {
        /// Oldest version of the peer.
        theirs_min: u8,
        /// Newest version of the peer.
        theirs_max: u8,
        /// Oldest version of this side.
        ours_min: u8,
        /// Newest version of this side.
        ours_max: u8,
    },
    /// The peer's range is empty or holds version 0, which does not exist.
    #[error("peer names the impossible range of wire versions {min} to {max}")]
    Range {
        /// Oldest version of the peer.
        min: u8,
        /// Newest version of the peer.
        max: u8,
    },
}

/// The version for a connection that begins with `hello`: the newest that both sides speak.
pub fn negotiate(hello: &Hello) -> Result<u8, VersionRefusal> {
    newest_common(VERSION_MIN..=VERSION, hello.version_min..=hello.version_max)
}

fn newest_common(
    ours: RangeInclusive<u8>,
    theirs: RangeInclusive<u8>,
) -> Result<u8, VersionRefusal> {
    let (ours_min, ours_max) = ours.into_inner();
    let (theirs_min, theirs_max) = theirs.into_inner();
    if theirs_min == 0 || theirs_min > theirs_max {
        return Err(VersionRefusal::Range {
            min: theirs_min,
            max: theirs_max,
        });
    }
    if theirs_min > ours_max {
        return Err(VersionRefusal::PeerTooNew {
            theirs_min,
            theirs_max,
            ours_min,
            ours_max,
        });
    }
    if theirs_max < ours_min {
        return Err(VersionRefusal::PeerTooOld {
            theirs_min,
            theirs_max,
            ours_min,
            ours_max,
        });
    }
    Ok(ours_max.min(theirs_max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_version_is_taken() {
        for (ours, theirs, expected) in [
            (1..=1, 1..=1, 1),
            (1..=2, 1..=1, 1),
            (2..=3, 1..=2, 2),
            (2..=3, 3..=9, 3),
            (1..=255, 1..=255, 255),
        ] {
            assert_eq!(newest_common(ours, theirs), Ok(expected));
        }
    }

    #[test]
    fn a_refusal_says_which_side_to_upgrade() {
        let too_new = newest_common(1..=2, 3..=4).expect_err("nothing in common");
        assert!(too_new.to_string().contains("upgrade this side"));
        let too_old = newest_common(3..=4, 1..=2).expect_err("nothing in common");
        assert!(too_old.to_string().contains("upgrade the peer"));
        assert_eq!(
            newest_common(1..=1, RangeInclusive::new(2, 1)),
            Err(VersionRefusal::Range { min: 2, max: 1 })
        );
        assert_eq!(
            newest_common(1..=1, 0..=1),
            Err(VersionRefusal::Range { min: 0, max: 1 })
        );
    }
}
