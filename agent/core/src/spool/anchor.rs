//! Anchors: what is left of batches that a collector let go before they were synced.
//!
//! A lazy spool drops such batches before the kernel writes them to the disk. The next start
//! still has to know how far the incarnation had come; that is what an anchor says in a few
//! bytes. It is a record of the spool alone and never travels: where a collector turns up
//! that does not have the last batch, a tombstone goes out in its place, because that collector,
//! or the one before, has lost what it had taken responsibility for.
//!
//! | bytes | field |
//! | ---: | --- |
//! | 8 | magic `TGANCHOR`; no frame begins like that, it would be too long |
//! | 1 | version: 1 |
//! | 1 | 1 if the last batch is final, else 0 |
//! | 16 | incarnation |
//! | 8 | sequence of the last batch, little-endian |
//! | 32 | its hash |
//! | 8 | everything before this instant is sealed; milliseconds since 1970, little-endian |
//! | the rest | the agent's name |

use tollgate_common::{
    AgentId, BatchHash, BatchSeq, Incarnation, LossReason, Timestamp, Tombstone,
};

use super::Tail;

const MAGIC: [u8; 8] = *b"TGANCHOR";
const VERSION: u8 = 1;

/// The end of an incarnation whose last batches are released and gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Anchor {
    pub(super) agent: AgentId,
    pub(super) sequence: BatchSeq,
    /// As the batch would give it.
    pub(super) tail: Tail,
}

impl Anchor {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(74 + self.agent.as_str().len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[VERSION, u8::from(self.tail.is_final)]);
        bytes.extend_from_slice(self.tail.incarnation.as_bytes());
        bytes.extend_from_slice(&self.sequence.get().to_le_bytes());
        bytes.extend_from_slice(self.tail.last_hash.as_bytes());
        bytes.extend_from_slice(&self.tail.sealed_until.millis().to_le_bytes());
        bytes.extend_from_slice(self.agent.as_str().as_bytes());
        bytes
    }

    /// `None` for bytes that are no anchor.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&MAGIC)?;
        let (head, rest) = rest.split_first_chunk::<2>()?;
        let (incarnation, rest) = rest.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (hash, rest) = rest.split_first_chunk()?;
        let (sealed_until, name) = rest.split_first_chunk()?;
        let [VERSION, is_final @ (0 | 1)] = *head else {
            return None;
        };
        let sequence = BatchSeq::new(u64::from_le_bytes(*sequence))?;
        Some(Self {
            agent: AgentId::new(std::str::from_utf8(name).ok()?).ok()?,
            sequence,
            tail: Tail {
                incarnation: Incarnation::from_bytes(*incarnation),
                last: sequence.get(),
                last_hash: BatchHash::from_bytes(*hash),
                sealed_until: Timestamp::from_millis(i64::from_le_bytes(*sealed_until)),
                is_final: is_final == 1,
            },
        })
    }

    /// What goes out to a collector that does not have the batch.
    pub(super) fn tombstone(self) -> Tombstone {
        Tombstone {
            agent: self.agent,
            incarnation: self.tail.incarnation,
            sequence: self.sequence,
            reason: LossReason::JournalDamaged,
            remembered: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_comes_back_and_nothing_else_is_one() {
        let anchor = Anchor {
            agent: AgentId::new("edge-1").expect("valid"),
            sequence: BatchSeq::new(77).expect("positive"),
            tail: Tail {
                incarnation: Incarnation::from_bytes([3; 16]),
                last: 77,
                last_hash: BatchHash::from_bytes([5; 32]),
                sealed_until: Timestamp::from_millis(1_780_000_000_123),
                is_final: true,
            },
        };
        let bytes = anchor.encode();
        assert_eq!(Anchor::decode(&bytes), Some(anchor));
        for length in 0..75 {
            assert_eq!(Anchor::decode(&bytes[..length]), None, "{length}");
        }
        for (at, byte) in [(0, 0), (8, 2), (9, 2), (74, 0xFF)] {
            let mut other = bytes.clone();
            other[at] = byte;
            assert_eq!(Anchor::decode(&other), None, "byte {at}");
        }
    }
}
