//! Every bound of the vocabulary and of the formats, in one place.
//!
//! A length that comes from outside is compared with one of these before anything is
//! allocated for it. The assertions below relate the bounds to each other, so that a change
//! that breaks a format does not compile.

/// Longest tenant identifier, in bytes.
pub const TENANT_BYTES_MAX: usize = 128;
/// Longest meter name, in bytes.
pub const METER_BYTES_MAX: usize = 128;
/// Longest agent identifier, in bytes.
pub const AGENT_BYTES_MAX: usize = 128;
/// Most dimensions of one series.
pub const DIMENSIONS_MAX: usize = 16;
/// Longest dimension key, in bytes.
pub const DIMENSION_KEY_BYTES_MAX: usize = 64;
/// Longest dimension value, in bytes.
pub const DIMENSION_VALUE_BYTES_MAX: usize = 256;
/// Longest canonical form of a series key, in bytes.
pub const SERIES_KEY_BYTES_MAX: usize = 2048;
/// Largest decimal scale of a meter: quantities count units of 10^-12.
pub const SCALE_MAX: u8 = 12;

/// Most rollups in one batch.
pub const BATCH_ROWS_MAX: usize = 1 << 20;
/// Most running totals in one batch.
pub const BATCH_TOTALS_MAX: usize = 1 << 20;
/// Most running totals in one tombstone.
pub const TOMBSTONE_TOTALS_MAX: usize = 1 << 14;
/// Largest magnitude of a value, a total or a loss, in the smallest unit. Sums of honest figures
/// stay so far within the range of a quantity that they cannot leave it.
pub const VALUE_UNITS_MAX: i128 = 1 << 96;
/// Most loss declarations in one batch.
pub const BATCH_LOSSES_MAX: usize = 4096;
/// Most clock steps in one batch.
pub const BATCH_STEPS_MAX: usize = 64;
/// Most bytes that the details of one batch may have in canonical form: some 2,000 sketches of
/// many distinct values, or 8,000 histograms of 80 buckets. Whatever they hold, a frame has
/// room for them.
pub const BATCH_DETAIL_BYTES_MAX: usize = 8 << 20;
/// Longest free text (reason, detail) in a loss declaration, in bytes.
pub const LOSS_DETAIL_BYTES_MAX: usize = 256;

/// Largest payload of a frame as it travels (after compression), in bytes.
pub const FRAME_BYTES_MAX: usize = 16 << 20;
/// Largest payload of a frame after decompression, in bytes.
pub const FRAME_RAW_BYTES_MAX: usize = 64 << 20;
/// Largest zstd window that a decompressor accepts, as a power of two (8 MiB).
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Most series in the dictionary of one connection.
pub const DICTIONARY_SERIES_MAX: usize = 1 << 21;
/// Most memory that the series of one connection's dictionary may stand for, in bytes, by the
/// estimate in `docs/formats/wire.md`; about 400,000 series with three dimensions fit. A batch
/// with more cannot be encoded.
pub const DICTIONARY_BYTES_MAX: usize = 256 << 20;
/// Largest payload of any frame but a batch after decompression, in bytes.
pub const CONTROL_RAW_BYTES_MAX: usize = 8 << 20;
/// Most incarnations that a hello or a welcome names.
pub const HELD_INCARNATIONS_MAX: usize = 1 << 16;
/// Longest pause that a collector may ask of an agent, in milliseconds.
pub const PAUSE_MILLIS_MAX: u32 = 60_000;
/// Longest reason of a refusal, in bytes.
pub const REFUSE_REASON_BYTES_MAX: usize = 1024;

/// Largest record of a segment log, in bytes; a frame fits.
pub const RECORD_BYTES_MAX: usize = FRAME_BYTES_MAX + (1 << 16);
/// Smallest segment of a segment log, in bytes.
pub const SEGMENT_BYTES_MIN: u64 = 4096;

/// Longest configuration file that is read, in bytes.
pub const CONFIG_BYTES_MAX: usize = 4 << 20;
/// Longest path of a Unix socket, in bytes, as `sockaddr_un` holds it.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

const _: () = assert!(TENANT_BYTES_MAX <= u8::MAX as usize);
const _: () = assert!(METER_BYTES_MAX <= u8::MAX as usize);
const _: () = assert!(DIMENSION_KEY_BYTES_MAX <= u8::MAX as usize);
const _: () = assert!(DIMENSION_VALUE_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(DIMENSIONS_MAX <= u8::MAX as usize);
const _: () = assert!(SERIES_KEY_BYTES_MAX >= TENANT_BYTES_MAX + METER_BYTES_MAX + 3);
const _: () = assert!(BATCH_DETAIL_BYTES_MAX <= FRAME_BYTES_MAX / 2);
const _: () = assert!(FRAME_BYTES_MAX <= FRAME_RAW_BYTES_MAX);
const _: () = assert!(BATCH_ROWS_MAX <= DICTIONARY_SERIES_MAX);
const _: () = assert!(
    TOMBSTONE_TOTALS_MAX * (TENANT_BYTES_MAX + METER_BYTES_MAX + 32) <= CONTROL_RAW_BYTES_MAX
);
const _: () = assert!(HELD_INCARNATIONS_MAX * 128 <= CONTROL_RAW_BYTES_MAX);
const _: () = assert!(RECORD_BYTES_MAX <= u32::MAX as usize);
