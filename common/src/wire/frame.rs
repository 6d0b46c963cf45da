//! Frames: header, checksum, compression.
//!
//! ```text
//!  0  u32  length of the payload as it travels, 1 to FRAME_BYTES_MAX
//!  4  u32  CRC-32C of everything from offset 8 to the end of the payload
//!  8  u8   version of the format
//!  9  u8   kind of message
//! 10  u8   flags: bit 0 = payload is compressed with zstd
//! 11  u8   0
//! 12  u32  length of the payload after decompression
//! 16       payload
//! ```
//!
//! All numbers are little-endian.

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::CParameter;

use super::{DecodeError, EncodeError, FrameVersion};
use crate::limits::{
    CONTROL_RAW_BYTES_MAX, FRAME_BYTES_MAX, FRAME_RAW_BYTES_MAX, ZSTD_WINDOW_LOG_MAX,
};

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 16;
const CHECKED_FROM: usize = 8;
const FLAG_ZSTD: u8 = 1;
/// Payloads below this size are not worth a call of the compressor.
const COMPRESS_BYTES_MIN: usize = 128;
/// A scratch buffer above this size is given back after use.
const SCRATCH_BYTES_KEPT: usize = 4 << 20;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Hello = 1,
    Welcome = 2,
    Batch = 3,
    Tombstone = 4,
    Ack = 5,
    Refuse = 6,
    Grant = 7,
}

impl Kind {
    const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Hello,
            2 => Self::Welcome,
            3 => Self::Batch,
            4 => Self::Tombstone,
            5 => Self::Ack,
            6 => Self::Refuse,
            7 => Self::Grant,
            _ => return None,
        })
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Welcome => "welcome",
            Self::Batch => "batch",
            Self::Tombstone => "tombstone",
            Self::Ack => "ack",
            Self::Refuse => "refuse",
            Self::Grant => "grant",
        }
    }

    const fn raw_bytes_max(self) -> usize {
        match self {
            Self::Batch => FRAME_RAW_BYTES_MAX,
            _ => CONTROL_RAW_BYTES_MAX,
        }
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// Writes frames; keeps the compressor's memory between them.
pub(super) struct FrameWriter {
    /// 0 for no compression, else 1 to 3.
    level: i32,
    compressor: Option<Compressor<'static>>,
}

impl FrameWriter {
    pub(super) fn new(level: i32) -> Self {
        Self {
            level: level.clamp(0, 3),
            compressor: None,
        }
    }

    /// Appends the frame of `raw` to `out`; leaves `out` as it was if that fails.
    pub(super) fn write(
        &mut self,
        version: FrameVersion,
        kind: Kind,
        raw: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let start = out.len();
        let written = self.try_write(version, kind, raw, out);
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    fn try_write(
        &mut self,
        version: FrameVersion,
        kind: Kind,
        raw: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let raw_length = bounded(kind.as_str(), raw.len(), kind.raw_bytes_max())?;
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        let payload = out.len();
        let mut flags = 0;
        if self.level > 0 && raw.len() >= COMPRESS_BYTES_MIN {
            out.resize(payload + zstd::zstd_safe::compress_bound(raw.len()), 0);
            let length = self
                .compressor()?
                .compress_to_buffer(raw, &mut out[payload..])?;
            out.truncate(payload + length);
            flags = FLAG_ZSTD;
        }
        if flags == 0 || out.len() - payload >= raw.len() {
            out.truncate(payload);
            out.extend_from_slice(raw);
            flags = 0;
        }
        let length = bounded("frame", out.len() - payload, FRAME_BYTES_MAX)?;
        let frame = &mut out[start..];
        frame[..4].copy_from_slice(&length.to_le_bytes());
        frame[8..12].copy_from_slice(&[version as u8, kind as u8, flags, 0]);
        frame[12..16].copy_from_slice(&raw_length.to_le_bytes());
        let checksum = crc32c(&frame[CHECKED_FROM..]);
        frame[4..8].copy_from_slice(&checksum.to_le_bytes());
        Ok(())
    }

    fn compressor(&mut self) -> Result<&mut Compressor<'static>, EncodeError> {
        if self.compressor.is_none() {
            let mut compressor = Compressor::new(self.level)?;
            // So that a reader with the window of `ZSTD_WINDOW_LOG_MAX` can read every frame.
            compressor.set_parameter(CParameter::WindowLog(ZSTD_WINDOW_LOG_MAX))?;
            self.compressor = Some(compressor);
        }
        Ok(self.compressor.as_mut().expect("was set above"))
    }
}

fn bounded(what: &'static str, length: usize, max: usize) -> Result<u32, EncodeError> {
    match u32::try_from(length) {
        Ok(short) if length <= max => Ok(short),
        _ => Err(EncodeError::TooLong { what, length, max }),
    }
}

/// A checked header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) version: FrameVersion,
    pub(super) kind: Kind,
    /// Bytes of the payload as it travels.
    pub(super) length: usize,
    checksum: u32,
    compressed: bool,
    raw_length: usize,
}

/// Checks the length alone, which comes first, so that an oversize frame is refused as soon
/// as its first four bytes are here.
pub(super) fn check_length(bytes: [u8; 4]) -> Result<usize, DecodeError> {
    let declared = u32::from_le_bytes(bytes);
    match usize::try_from(declared) {
        Ok(length @ 1..=FRAME_BYTES_MAX) => Ok(length),
        _ => Err(DecodeError::FrameLength {
            length: usize::try_from(declared).unwrap_or(usize::MAX),
            min: 1,
        }),
    }
}

impl Header {
    /// Checks everything but the checksum.
    pub(super) fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, DecodeError> {
        let word = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        let length = check_length(word(0))?;
        let [version, kind, flags, reserved] = word(8);
        let known = FrameVersion::from_code(version);
        let known = known.ok_or(DecodeError::Version(version))?;
        let code = kind;
        let kind = Kind::from_code(code).ok_or(DecodeError::Kind(code))?;
        // Nothing but batches and tombstones has changed since version 1, and grants came with
        // version 2.
        match (known, kind) {
            (FrameVersion::V1, Kind::Grant) => return Err(DecodeError::Kind(code)),
            (FrameVersion::V1, _)
            | (FrameVersion::V2, Kind::Batch | Kind::Tombstone | Kind::Grant) => {}
            (FrameVersion::V2, _) => return Err(DecodeError::Version(version)),
        }
        if flags & !FLAG_ZSTD != 0 {
            return Err(DecodeError::Flags(flags));
        }
        if reserved != 0 {
            return Err(DecodeError::Range("reserved byte of the frame"));
        }
        let raw_length = usize::try_from(u32::from_le_bytes(word(12))).unwrap_or(usize::MAX);
        if raw_length == 0 || raw_length > kind.raw_bytes_max() {
            return Err(DecodeError::RawLength {
                kind: kind.as_str(),
                length: raw_length,
                max: kind.raw_bytes_max(),
            });
        }
        let compressed = flags & FLAG_ZSTD != 0;
        if !compressed && raw_length != length {
            return Err(DecodeError::Range("raw length of an uncompressed frame"));
        }
        Ok(Self {
            version: known,
            kind,
            length,
            checksum: u32::from_le_bytes(word(4)),
            compressed,
            raw_length,
        })
    }

    /// Bytes of the whole frame.
    pub(super) const fn frame_bytes(&self) -> usize {
        HEADER_BYTES + self.length
    }
}

/// Opens payloads; keeps the decompressor's memory between them.
#[derive(Default)]
pub(super) struct FrameReader {
    decompressor: Option<Decompressor<'static>>,
    scratch: Vec<u8>,
}

impl FrameReader {
    /// Checks the checksum of a whole frame and hands its decompressed payload to `read`.
    pub(super) fn open<T>(
        &mut self,
        header: &Header,
        frame: &[u8],
        read: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let found = crc32c(&frame[CHECKED_FROM..]);
        if found != header.checksum {
            return Err(DecodeError::Checksum {
                expected: header.checksum,
                found,
            });
        }
        let payload = &frame[HEADER_BYTES..];
        if !header.compressed {
            return read(payload);
        }
        self.decompress(payload, header.raw_length)?;
        let result = read(&self.scratch);
        if self.scratch.capacity() > SCRATCH_BYTES_KEPT {
            self.scratch = Vec::new();
        }
        result
    }

    fn decompress(&mut self, payload: &[u8], declared: usize) -> Result<(), DecodeError> {
        let failed = |reason: String| DecodeError::Decompress { declared, reason };
        check_window(payload).map_err(|reason| failed(reason.to_owned()))?;
        self.scratch.clear();
        self.scratch.reserve_exact(declared);
        // Decompression in one call writes straight into the buffer, whose capacity bounds
        // it, and needs no window of its own.
        let decompressor = self.decompressor.get_or_insert_default();
        let length = decompressor
            .decompress_to_buffer(payload, &mut self.scratch)
            .map_err(|error| failed(error.to_string()))?;
        if length == declared {
            Ok(())
        } else {
            Err(failed(format!("it has {length} bytes")))
        }
    }
}

/// Refuses a zstd frame that asks for a window beyond the bound (RFC 8878, section 3.1.1.1):
/// other readers of the format may have to allocate it.
fn check_window(payload: &[u8]) -> Result<(), &'static str> {
    const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let rest = payload.strip_prefix(&MAGIC).ok_or("it is no zstd frame")?;
    let (&descriptor, rest) = rest.split_first().ok_or("it is cut off")?;
    if descriptor & 0x20 != 0 {
        // Single segment: the window is the content, which the output bounds.
        return Ok(());
    }
    let window = rest.first().ok_or("it is cut off")?;
    let (log, mantissa) = (10 + u32::from(window >> 3), window & 7);
    if log < ZSTD_WINDOW_LOG_MAX || (log == ZSTD_WINDOW_LOG_MAX && mantissa == 0) {
        Ok(())
    } else {
        Err("it asks for a window larger than 8 MiB")
    }
}

const _: () = assert!(ZSTD_WINDOW_LOG_MAX == 23, "the message above says 8 MiB");
