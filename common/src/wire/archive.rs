//! The rkyv archives of versions 1 and 2.
//!
//! Flat on purpose: scalars, fixed arrays, `Vec` of bytes and `Vec` of flat rows. bytecheck
//! walks such a type without recursion, whatever the bytes are. A type here never changes;
//! another layout is another type and another version.

use rkyv::{Archive, Serialize};

use super::{DecodeError, EncodeError};

/// [`super::Hello`].
#[derive(Archive, Serialize, Default)]
pub(super) struct HelloV1 {
    pub(super) version_min: u8,
    pub(super) version_max: u8,
    pub(super) agent: Vec<u8>,
    pub(super) now: u64,
    pub(super) held: Vec<HeldV1>,
}

/// [`super::Held`].
#[derive(Archive, Serialize)]
pub(super) struct HeldV1 {
    pub(super) incarnation: [u8; 16],
    pub(super) first: u64,
    pub(super) first_parent: [u8; 32],
    pub(super) last: u64,
    pub(super) last_hash: [u8; 32],
}

/// [`super::Welcome`].
#[derive(Archive, Serialize)]
pub(super) struct WelcomeV1 {
    pub(super) version: u8,
    pub(super) lineage: [u8; 16],
    pub(super) now: u64,
    pub(super) window_batches: u32,
    pub(super) window_bytes: u64,
    pub(super) resume: Vec<ResumeV1>,
}

/// [`super::Resume`].
#[derive(Archive, Serialize)]
pub(super) struct ResumeV1 {
    pub(super) incarnation: [u8; 16],
    pub(super) durable: u64,
    pub(super) durable_hash: [u8; 32],
    pub(super) releasable: u64,
}

/// [`crate::Tombstone`].
#[derive(Archive, Serialize)]
pub(super) struct TombstoneV1 {
    pub(super) agent: Vec<u8>,
    pub(super) incarnation: [u8; 16],
    pub(super) sequence: u64,
    pub(super) reason: u8,
}

/// [`crate::Tombstone`] with what is remembered: version 2.
#[derive(Archive, Serialize)]
pub(super) struct TombstoneV2 {
    pub(super) base: TombstoneV1,
    pub(super) cut: u64,
    pub(super) watermark: u64,
    pub(super) flags: u8,
    pub(super) total_count: u32,
    pub(super) total_keys: Vec<u8>,
    pub(super) total_values: Vec<u8>,
}

/// [`super::Ack`].
#[derive(Archive, Serialize)]
pub(super) struct AckV1 {
    pub(super) incarnation: [u8; 16],
    pub(super) durable: u64,
    pub(super) releasable: u64,
}

/// [`super::Grant`].
#[derive(Archive, Serialize)]
pub(super) struct GrantV2 {
    pub(super) window_batches: u32,
    pub(super) window_bytes: u64,
    pub(super) pause_millis: u32,
}

/// [`super::Refuse`].
#[derive(Archive, Serialize)]
pub(super) struct RefuseV1 {
    pub(super) code: u8,
    pub(super) reason: Vec<u8>,
}

/// [`crate::Batch`], its lists as columns.
#[derive(Archive, Serialize, Default)]
pub(super) struct BatchV1 {
    pub(super) agent: Vec<u8>,
    pub(super) incarnation: [u8; 16],
    pub(super) sequence: u64,
    pub(super) parent_hash: [u8; 32],
    pub(super) span_from: u64,
    pub(super) span_to: u64,
    pub(super) watermark: u64,
    /// 0 no opening, 1 an opening without parent, 2 one with a parent.
    pub(super) opening: u8,
    pub(super) parent_incarnation: [u8; 16],
    pub(super) parent_last_sequence: u64,
    pub(super) parent_last_hash: [u8; 32],
    /// 0 final, else the reason of the unclean end.
    pub(super) parent_end: u8,
    pub(super) parent_from: u64,
    pub(super) parent_to: u64,
    pub(super) flags: u8,
    pub(super) definition_count: u32,
    pub(super) row_count: u32,
    pub(super) window_count: u32,
    pub(super) total_count: u32,
    pub(super) loss_count: u32,
    pub(super) definitions: Vec<u8>,
    pub(super) series: Vec<u8>,
    pub(super) window_table: Vec<u8>,
    pub(super) windows: Vec<u8>,
    pub(super) values: Vec<u8>,
    pub(super) events: Vec<u8>,
    pub(super) total_keys: Vec<u8>,
    pub(super) total_values: Vec<u8>,
    pub(super) losses: Vec<u8>,
}

impl BatchV1 {
    /// Everything empty again; the columns keep their memory.
    pub(super) fn clear(&mut self) {
        let mut columns = [
            &mut self.agent,
            &mut self.definitions,
            &mut self.series,
            &mut self.window_table,
            &mut self.windows,
            &mut self.values,
            &mut self.events,
            &mut self.total_keys,
            &mut self.total_values,
            &mut self.losses,
        ]
        .map(|column| {
            column.clear();
            std::mem::take(column)
        })
        .into_iter();
        let mut next = || columns.next().unwrap_or_default();
        *self = Self {
            agent: next(),
            definitions: next(),
            series: next(),
            window_table: next(),
            windows: next(),
            values: next(),
            events: next(),
            total_keys: next(),
            total_values: next(),
            losses: next(),
            ..Self::default()
        };
    }
}

/// [`crate::Batch`] with details and clock steps: version 2.
#[derive(Archive, Serialize, Default)]
pub(super) struct BatchV2 {
    pub(super) base: BatchV1,
    pub(super) step_count: u32,
    pub(super) steps: Vec<u8>,
    pub(super) sizes: Vec<u8>,
    pub(super) buckets: Vec<u8>,
    pub(super) bucket_counts: Vec<u8>,
    pub(super) hashes: Vec<u8>,
    pub(super) registers: Vec<u8>,
}

impl BatchV2 {
    /// Everything empty again; the columns keep their memory.
    pub(super) fn clear(&mut self) {
        self.base.clear();
        self.step_count = 0;
        self.steps.clear();
        self.sizes.clear();
        self.buckets.clear();
        self.bucket_counts.clear();
        self.hashes.clear();
        self.registers.clear();
    }
}

/// The length of a list whose bound is far below 2^32.
pub(super) fn count32(length: usize) -> u32 {
    u32::try_from(length).expect("lists of a batch are bounded below 2^32 entries")
}

/// Writes one archive into `raw`, replacing what is there.
pub(super) fn write<T>(archive: &T, raw: &mut Vec<u8>) -> Result<(), EncodeError>
where
    T: for<'a> Serialize<
        rkyv::api::high::HighSerializer<
            Vec<u8>,
            rkyv::ser::allocator::ArenaHandle<'a>,
            rkyv::rancor::Error,
        >,
    >,
{
    raw.clear();
    *raw =
        rkyv::api::high::to_bytes_in(archive, std::mem::take(raw)).map_err(EncodeError::Archive)?;
    Ok(())
}

/// Checks the bytes and gives access to the archive in place.
pub(super) fn access<'a, T>(kind: &'static str, raw: &'a [u8]) -> Result<&'a T, DecodeError>
where
    T: rkyv::Portable
        + for<'b> rkyv::bytecheck::CheckBytes<
            rkyv::api::high::HighValidator<'b, rkyv::rancor::Failure>,
        >,
{
    rkyv::access::<T, rkyv::rancor::Failure>(raw).map_err(|_| DecodeError::Archive(kind))
}
