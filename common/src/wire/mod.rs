//! The wire format: messages between agent and collector, and the records of spool and
//! journal.
//!
//! A frame is a header with length and checksum, and a flat rkyv archive, mostly compressed.
//! Inside a batch the rollups are columns; their series are references into a dictionary that
//! lives as long as the connection. The bytes are described in `docs/formats/wire.md`.
//!
//! Order of use: an [`Encoder`] and a [`Decoder`] per direction of a connection, a
//! [`RecordEncoder`] and a [`RecordDecoder`] for what is stored. Nothing here is compatible by
//! accident: another layout is another version, chosen by [`negotiate`].

mod archive;
mod cache;
mod control;
mod decode;
mod definitions;
mod details;
mod dictionary;
mod encode;
mod error;
mod frame;
mod head;
mod message;
mod rows;
mod stream;
#[cfg(test)]
mod tests;
mod tombstone;
mod totals;
mod varint;
mod version;

pub use decode::{Decoder, RecordDecoder, decode_record};
pub use encode::{Encoder, RecordEncoder, encode_record, encode_tombstone_record};
pub use error::{DecodeError, EncodeError};
pub use message::{
    Ack, GRANT_VERSION, Grant, Held, Hello, Message, Refuse, RefuseCode, Resume, Welcome,
};
pub use stream::{RecordStream, TotalRef};
use version::FrameVersion;
pub use version::{VERSION, VERSION_MIN, VersionRefusal, negotiate};

/// The protocol name in the TLS handshake (ALPN).
pub const ALPN: &[u8] = b"tollgate/1";

/// The batch is the last of its incarnation.
const FLAG_FINAL: u8 = 1;
/// The dictionary is empty before this batch.
const FLAG_RESET: u8 = 2;
/// The totals have the keys that the rows suggest.
const FLAG_TOTALS_EXPECTED: u8 = 4;
