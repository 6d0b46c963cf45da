//! A client of the admin socket, for the commands and for programs that want an answer.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::protocol::{Answer, Count, Counted, Failure, Request};
use super::watch::{TopPage, TopQuery};
use crate::reload::Reloaded;

/// Longest answer that is read, in bytes: a status with many accounts.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket failed; whether the last count was taken is unknown.
    #[error("admin socket: {0}")]
    Io(#[from] io::Error),
    /// What came back is no answer of the protocol.
    #[error("agent gave an answer that this version does not understand: {0}")]
    Protocol(String),
    /// The agent refused; nothing was counted.
    #[error("agent refused: {} ({})", .0.message, .0.code)]
    Refused(Failure),
}

/// A connection to a running agent.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<UnixStream>,
    writer: BufWriter<UnixStream>,
}

impl Client {
    /// Connects to the socket at `path`; each read and write takes at most `timeout`.
    pub fn connect(path: &Path, timeout: Duration) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self {
            reader: BufReader::new(stream.try_clone()?),
            writer: BufWriter::new(stream),
        })
    }

    /// Sends a request without waiting; [`Client::receive`] gives the answers in order.
    pub fn send(&mut self, request: &Request) -> io::Result<()> {
        serde_json::to_writer(&mut self.writer, request)?;
        self.writer.write_all(b"\n")
    }

    /// Hands what was sent to the kernel.
    pub fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }

    /// Waits for the next answer.
    pub fn receive(&mut self) -> Result<Answer, ClientError> {
        self.writer.flush()?;
        let mut line = Vec::new();
        let mut bounded = self.reader.by_ref().take(ANSWER_BYTES_MAX);
        bounded.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            return Err(ClientError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_slice(&line).map_err(|error| ClientError::Protocol(error.to_string()))
    }

    fn ask(&mut self, request: &Request) -> Result<Answer, ClientError> {
        self.send(request)?;
        match self.receive()? {
            Answer::Error(failure) => Err(ClientError::Refused(failure)),
            answer => Ok(answer),
        }
    }

    /// Counts and waits until it is counted.
    pub fn count(&mut self, count: Count) -> Result<Counted, ClientError> {
        match self.ask(&Request::Count(count))? {
            Answer::Counted(counted) => Ok(counted),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks how the agent is.
    pub fn status(&mut self) -> Result<serde_json::Value, ClientError> {
        match self.ask(&Request::Status {})? {
            Answer::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks what was counted since the last such question of this client.
    pub fn top(&mut self, query: &TopQuery) -> Result<TopPage, ClientError> {
        match self.ask(&Request::Top(query.clone()))? {
            Answer::Top(page) => Ok(*page),
            other => Err(unexpected(&other)),
        }
    }

    /// Has the configuration read again, and waits for what became of it.
    pub fn reload(&mut self) -> Result<Reloaded, ClientError> {
        match self.ask(&Request::Reload {})? {
            Answer::Reloaded(done) => Ok(done),
            other => Err(unexpected(&other)),
        }
    }
}

/// Answers come in order, so another kind is a mistake of the agent.
fn unexpected(answer: &Answer) -> ClientError {
    ClientError::Protocol(format!("another question's answer: {answer:?}"))
}
