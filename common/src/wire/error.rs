//! Why messages cannot be encoded or decoded.

use crate::batch::BatchError;
use crate::ids::NameError;
use crate::limits::{DICTIONARY_BYTES_MAX, FRAME_BYTES_MAX};
use crate::series::SeriesKeyError;
use crate::sketch::SketchError;

/// Why a message could not become a frame. The encoder stays usable: the next batch defines
/// its series anew.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The batch breaks a rule that the other side would refuse.
    #[error("batch to encode is invalid")]
    Batch(#[from] BatchError),
    /// A list or a frame is longer than the format allows.
    #[error("{what} of the message to encode: {length}, more than the {max} allowed")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// Its length.
        length: usize,
        /// The length allowed.
        max: usize,
    },
    /// A value that the format cannot carry.
    #[error("{what} of the message to encode is out of range")]
    Range {
        /// Which field.
        what: &'static str,
    },
    /// Details, clock steps or a grant for a peer that does not know them.
    #[error(
        "the other side speaks version {0} of the format, which cannot carry details of rows, \
         clock steps and grants: upgrade it"
    )]
    NotInVersion(u8),
    /// The archive could not be written.
    #[error("message could not be archived: {0}")]
    Archive(rkyv::rancor::Error),
    /// The compressor failed, as it does without memory.
    #[error("message could not be compressed")]
    Compress(#[from] std::io::Error),
}

/// Why bytes are not a message.
///
/// No error is recoverable: what follows on the connection may refer to what was not
/// understood. The decoder answers every later call with the same error, and its owner closes
/// the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The declared length is out of range.
    #[error("frame declares {length} bytes (expected {min} to {FRAME_BYTES_MAX})")]
    FrameLength {
        /// Bytes declared.
        length: usize,
        /// Smallest possible length.
        min: usize,
    },
    /// The checksum differs.
    #[error("frame has the checksum {found:08x}, its header says {expected:08x}")]
    Checksum {
        /// The checksum in the header.
        expected: u32,
        /// The checksum of the bytes.
        found: u32,
    },
    /// A version of the format that this build does not speak.
    #[error("frame has the unknown version {0}")]
    Version(u8),
    /// A kind of message that this version does not have.
    #[error("frame has the unknown kind {0}")]
    Kind(u8),
    /// A histogram or sketch that is none.
    #[error("detail of a row: {0}")]
    Sketch(SketchError),
    /// Flags that this version does not have.
    #[error("frame has the unknown flags {0:#010b}")]
    Flags(u8),
    /// The declared length after decompression is out of range.
    #[error("{kind} declares {length} bytes after decompression, more than the {max} allowed")]
    RawLength {
        /// The kind of message.
        kind: &'static str,
        /// Bytes declared.
        length: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The payload does not decompress to what was declared.
    #[error("payload does not decompress to the {declared} bytes declared: {reason}")]
    Decompress {
        /// Bytes declared.
        declared: usize,
        /// What is wrong.
        reason: String,
    },
    /// The payload is not a valid archive.
    #[error("payload of the {0} is not a valid archive")]
    Archive(&'static str),
    /// A list is longer than the format allows, or longer than the bytes that carry it.
    #[error("{what}: {count}, more than the {max} possible")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many are possible.
        max: usize,
    },
    /// A column ends early, has a rest, or holds a number that is not in shortest form.
    #[error("column of {0} is malformed")]
    Column(&'static str),
    /// A field has a value outside its range.
    #[error("{0} out of range")]
    Range(&'static str),
    /// A name breaks its rules.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A series key breaks its rules.
    #[error("definition {index} is no series: {source}")]
    Series {
        /// Index of the definition in its frame.
        index: usize,
        /// What is wrong with it.
        source: SeriesKeyError,
    },
    /// A definition that is already in the dictionary, or out of order.
    #[error("definition {0} repeats a series or is out of order")]
    Definition(usize),
    /// A definition that no row uses.
    #[error("{0} definitions are not used by any row")]
    UnusedDefinition(usize),
    /// A row refers to a series that is not in the dictionary.
    #[error("row {row} refers to the series {reference}, which is not defined")]
    Dangling {
        /// Index of the row.
        row: usize,
        /// The reference.
        reference: i64,
    },
    /// The dictionary would grow beyond its bound.
    #[error("series dictionary would exceed its bound of {DICTIONARY_BYTES_MAX} bytes")]
    DictionaryFull,
    /// The batch breaks a rule.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The bytes of a record are fewer or more than its frame.
    #[error("record has {found} bytes, its frame {expected}")]
    RecordLength {
        /// Bytes that the frame has, as far as they tell.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// A record that is neither a batch nor a tombstone.
    #[error("record holds a {0}, which is no record")]
    NotARecord(&'static str),
    /// A record that needs definitions from elsewhere.
    #[error("record of a batch does not begin its own dictionary")]
    NotSelfContained,
    /// More was pushed than a frame can be, without asking for the messages.
    #[error("{0} undecoded bytes were pushed, more than two frames")]
    Overrun(usize),
}
