//! Frames to messages.

use super::archive::{self, ArchivedBatchV1, ArchivedBatchV2};
use super::cache::{CACHE_BYTES_MAX, SeriesCache};
use super::definitions::Seen;
use super::details::DetailReader;
use super::dictionary::Dictionary;
use super::frame::{FrameReader, HEADER_BYTES, Header, Kind, check_length};
use super::{
    DecodeError, FLAG_FINAL, FLAG_RESET, FLAG_TOTALS_EXPECTED, FrameVersion, Message, control,
    details, head, rows, tombstone, totals,
};
use crate::batch::Batch;
use crate::limits::FRAME_BYTES_MAX;

/// Most bytes that may wait to be decoded: two of the largest frames.
const BUFFER_BYTES_MAX: usize = 2 * (HEADER_BYTES + FRAME_BYTES_MAX);
/// A buffer above this size is given back once it is empty.
const BUFFER_BYTES_KEPT: usize = 1 << 20;

/// The dictionary of one direction, as the receiving side sees it.
#[derive(Default)]
struct Session {
    dictionary: Dictionary,
    seen: Seen,
    cache: Option<SeriesCache>,
}

/// Decodes the messages of one direction of a connection.
///
/// Push what arrives, in pieces of any size up to a frame, and after each push take the
/// messages that are complete. Memory is bounded: an oversize frame is refused when its first
/// four bytes are here. The first error is final; see [`DecodeError`].
#[derive(Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Bytes of the buffer that are decoded already.
    start: usize,
    session: Session,
    frames: FrameReader,
    failed: Option<DecodeError>,
}

impl Decoder {
    /// A decoder at the start of a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes as they arrived. What is wrong with them is said by [`Decoder::next`].
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        let waiting = self.buffer.len() - self.start + bytes.len();
        if waiting > BUFFER_BYTES_MAX {
            self.fail(DecodeError::Overrun(waiting));
            return;
        }
        if self.start > 0 && self.buffer.len() + bytes.len() > self.buffer.capacity() {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
        // An oversize frame must not be collected first.
        if let Err(error) = self.header() {
            self.fail(error);
        }
    }

    /// The next message, `None` if it has not arrived completely.
    #[expect(
        clippy::should_implement_trait,
        reason = "no iterator: `None` is not the end"
    )]
    pub fn next(&mut self) -> Result<Option<Message>, DecodeError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let message = self.try_next();
        if let Err(error) = &message {
            self.fail(error.clone());
        }
        message
    }

    /// Bytes that are waiting to be decoded.
    pub fn buffered(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Bounds the dictionary more tightly than the format does, as the encoder must, too.
    #[cfg(test)]
    pub(super) fn set_dictionary_bytes_max(&mut self, bytes_max: usize) {
        self.session.dictionary = Dictionary::with_bytes_max(bytes_max);
    }

    fn fail(&mut self, error: DecodeError) {
        self.buffer = Vec::new();
        self.start = 0;
        self.session = Session::default();
        self.failed = Some(error);
    }

    /// The header of the next frame; checks the length alone while the rest is missing.
    fn header(&self) -> Result<Option<Header>, DecodeError> {
        let waiting = &self.buffer[self.start..];
        if let Some(header) = waiting.first_chunk::<HEADER_BYTES>() {
            return Header::parse(header).map(Some);
        }
        if let Some(length) = waiting.first_chunk::<4>() {
            check_length(*length)?;
        }
        Ok(None)
    }

    fn try_next(&mut self) -> Result<Option<Message>, DecodeError> {
        let Some(header) = self.header()? else {
            return Ok(None);
        };
        let end = self.start + header.frame_bytes();
        let Some(frame) = self.buffer.get(self.start..end) else {
            return Ok(None);
        };
        let session = &mut self.session;
        let message = self
            .frames
            .open(&header, frame, |raw| session.decode(&header, raw))?;
        self.start = end;
        if self.start == self.buffer.len() {
            self.start = 0;
            self.buffer.clear();
            if self.buffer.capacity() > BUFFER_BYTES_KEPT {
                self.buffer = Vec::new();
            }
        }
        Ok(Some(message))
    }
}

impl Session {
    fn decode(&mut self, header: &Header, raw: &[u8]) -> Result<Message, DecodeError> {
        Ok(match header.kind {
            Kind::Hello => Message::Hello(control::decode_hello(raw)?),
            Kind::Welcome => Message::Welcome(control::decode_welcome(raw)?),
            Kind::Batch => Message::Batch(self.decode_batch(header.version, raw, false)?),
            Kind::Tombstone => Message::Tombstone(tombstone::decode(header.version, raw)?),
            Kind::Ack => Message::Ack(control::decode_ack(raw)?),
            Kind::Refuse => Message::Refuse(control::decode_refuse(raw)?),
            Kind::Grant => Message::Grant(control::decode_grant(raw)?),
        })
    }

    /// Changes the dictionary while it reads: after an error the session is of no use.
    fn decode_batch(
        &mut self,
        version: FrameVersion,
        raw: &[u8],
        self_contained: bool,
    ) -> Result<Batch, DecodeError> {
        match version {
            FrameVersion::V1 => {
                let archive = archive::access("batch", raw)?;
                self.read_batch(archive, None, self_contained)
            }
            FrameVersion::V2 => {
                let archive: &ArchivedBatchV2 = archive::access("batch", raw)?;
                let mut details = DetailReader::new(archive);
                let mut batch =
                    self.read_batch(&archive.base, Some(&mut details), self_contained)?;
                details.finish()?;
                batch.steps = details::decode_steps(archive)?;
                Ok(batch)
            }
        }
    }

    fn read_batch(
        &mut self,
        archive: &ArchivedBatchV1,
        details: Option<&mut DetailReader<'_>>,
        self_contained: bool,
    ) -> Result<Batch, DecodeError> {
        let flags = archive.flags;
        if flags & !(FLAG_FINAL | FLAG_RESET | FLAG_TOTALS_EXPECTED) != 0 {
            return Err(DecodeError::Flags(flags));
        }
        if flags & FLAG_RESET != 0 {
            self.dictionary.reset();
            self.seen = Seen::default();
        } else if self_contained {
            return Err(DecodeError::NotSelfContained);
        }
        let mut batch = head::decode(archive)?;
        batch.is_final = flags & FLAG_FINAL != 0;
        self.dictionary.begin(batch.incarnation);
        batch.rows = rows::decode(
            archive,
            batch.watermark,
            &mut self.dictionary,
            &mut self.seen,
            self.cache.as_mut(),
            details,
        )?;
        let as_expected = flags & FLAG_TOTALS_EXPECTED != 0;
        batch.totals = totals::decode(archive, as_expected, &mut self.dictionary)?;
        batch.validate_but_order_of_rows()?;
        Ok(batch)
    }
}

/// Decodes records, each on its own. Keeps its memory between records; [`decode_record`] is
/// the same for a single one.
#[derive(Default)]
pub struct RecordDecoder {
    frames: FrameReader,
    session: Session,
}

impl RecordDecoder {
    /// A decoder of records.
    pub fn new() -> Self {
        Self::default()
    }

    /// A decoder that remembers the series of records before (up to about 256 MiB), which is
    /// several times faster where records repeat them, as those of a journal do. `seed` is a
    /// random number, for a hash table whose keys come from outside; it has no influence on
    /// what is decoded.
    pub fn with_cache(seed: u64) -> Self {
        Self::with_cache_bytes(seed, CACHE_BYTES_MAX)
    }

    /// The same with another bound of what is remembered, in bytes of memory.
    pub fn with_cache_bytes(seed: u64, bytes_max: usize) -> Self {
        Self {
            session: Session {
                cache: Some(SeriesCache::new(seed, bytes_max)),
                ..Session::default()
            },
            ..Self::default()
        }
    }

    /// The batch or tombstone whose record is exactly `bytes`. An error concerns this record
    /// alone.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Message, DecodeError> {
        let wrong_length = |expected| DecodeError::RecordLength {
            expected,
            found: bytes.len(),
        };
        let header = bytes
            .first_chunk::<HEADER_BYTES>()
            .ok_or(wrong_length(HEADER_BYTES))?;
        let header = Header::parse(header)?;
        if header.frame_bytes() != bytes.len() {
            return Err(wrong_length(header.frame_bytes()));
        }
        match header.kind {
            Kind::Batch => {
                let session = &mut self.session;
                let batch = self.frames.open(&header, bytes, |raw| {
                    session.decode_batch(header.version, raw, true)
                });
                session.dictionary.reset();
                batch.map(Message::Batch)
            }
            Kind::Tombstone => self
                .frames
                .open(&header, bytes, |raw| tombstone::decode(header.version, raw))
                .map(Message::Tombstone),
            other => Err(DecodeError::NotARecord(other.as_str())),
        }
    }
}

/// Decodes one record, which is exactly `bytes`.
pub fn decode_record(bytes: &[u8]) -> Result<Message, DecodeError> {
    RecordDecoder::new().decode(bytes)
}
