//! The server of the admin socket: a thread that accepts, and one for each connection.
//!
//! Who may do what is decided by [`access`](super::access), anew for every request, so that a
//! reload also counts for connections that stand. Connections, line lengths and silences are
//! bounded. All connections share one tally, because a writer has one owner; a count is
//! answered after it is in its cell.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::RecvTimeoutError;

use super::tap::OpenTap;
use tollgate_agent_core::aggregate::Region;
use tollgate_agent_core::engine::TopMemory;
use tollgate_agent_core::input::tally::Tally;
use tracing::{debug, info, warn};

use super::access::Access;
use super::protocol::{Answer, Count, Counted, REQUEST_BYTES_MAX, Request};
use crate::clock;
use crate::desk::{Desk, Viewer};
use crate::input::remove_stale_socket;
use crate::input::stop::{Stop, Waited};
use crate::peer::Peer;
use tollgate_agent_core::config::Admin;

/// Most connections at a time.
pub(crate) const CONNECTIONS_MAX: usize = 64;

/// Most memory of the connections, if there are `slots` of series: a line of a request and
/// its answer for each, and what the viewers of `top` remember.
pub(crate) fn memory_max(slots: u64) -> u64 {
    // One list at a time may be moved to a place where it can grow.
    let viewers = (crate::desk::VIEWERS_MAX as u64 + 1) * slots * TOP_SLOT_BYTES;
    CONNECTIONS_MAX as u64 * 4 * REQUEST_BYTES_MAX as u64 + viewers
}
/// What `top` remembers of a slot.
const TOP_SLOT_BYTES: u64 = TopMemory::SLOT_BYTES as u64;
/// How long a connection may be silent, and how long a client may take to read an answer.
const SILENCE: Duration = Duration::from_secs(30);

/// How often room of idle series is given to others while nobody asks anything.
const RETIRE_EVERY: Duration = Duration::from_secs(15);

/// How often a tap says how it stands; also how long one lives on after its reader has gone.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// A bound admin socket.
pub(crate) struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    access: Access,
}

/// The tally while the agent runs; `None` once it stops.
type SharedTally<R> = Arc<Mutex<Option<Tally<R>>>>;

impl AdminSocket {
    pub(crate) fn bind(path: &Path, admin: &Admin) -> io::Result<Self> {
        let access = Access::new(admin)?;
        remove_stale_socket(path, |path| UnixStream::connect(path).is_err());
        // Bound under another name and renamed, so that it is never there with other rights.
        let temporary = path.with_extension("binding");
        remove_stale_socket(&temporary, |_| true);
        let listener = match UnixListener::bind(&temporary) {
            Ok(listener) => listener,
            // The longer name may not fit `sockaddr_un`.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => UnixListener::bind(path)?,
            Err(error) => return Err(error),
        };
        listener.set_nonblocking(true)?;
        if temporary.exists() {
            access.apply(&temporary)?;
            if path.exists() {
                let _ = std::fs::remove_file(&temporary);
                return Err(io::ErrorKind::AddrInUse.into());
            }
            std::fs::rename(&temporary, path)?;
        } else {
            access.apply(path)?;
        }
        info!(path = %path.display(), "admin socket is open");
        Ok(Self {
            listener,
            path: path.to_owned(),
            access,
        })
    }

    /// Who may use it.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// Serves until `stop` is raised; then no count is taken any more and the tally is
    /// dropped before the thread ends.
    pub(crate) fn serve<R: Region + 'static>(
        self,
        tally: Tally<R>,
        desk: Desk,
        stop: Stop,
    ) -> io::Result<JoinHandle<()>> {
        let tally = Arc::new(Mutex::new(Some(tally)));
        crate::input::spawn("admin", move || {
            self.accept_until(&tally, &desk, &stop);
            lock(&tally).take();
        })
    }

    fn accept_until<R: Region + 'static>(&self, tally: &SharedTally<R>, desk: &Desk, stop: &Stop) {
        let open = Arc::new(AtomicUsize::new(0));
        loop {
            match stop.wait(Some(self.listener.as_fd()), Some(RETIRE_EVERY)) {
                Ok(Waited::Stopped) => return,
                Ok(Waited::Ready) => {}
                Ok(Waited::TimedOut) => {
                    if let Some(tally) = lock(tally).as_mut() {
                        tally.retire_idle();
                    }
                    continue;
                }
                Err(error) => pause("cannot wait for connections", &error),
            }
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => {
                    pause("cannot accept a connection", &error);
                    continue;
                }
            };
            let slot = Slot::take(&open);
            let Some(slot) = slot else {
                // Told in one write that cannot block for long; then closed.
                let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
                let _ = reply(
                    &mut &stream,
                    &Answer::failure("busy", "too many connections"),
                );
                continue;
            };
            let mut connection = Connection {
                tally: Arc::clone(tally),
                desk: desk.clone(),
                top: TopMemory::default(),
                viewer: None,
            };
            let spawned = crate::input::spawn("admin-client", move || {
                if let Err(error) = connection.serve(&stream) {
                    debug!(%error, "admin connection ended");
                }
                drop(slot);
            });
            if let Err(error) = spawned {
                warn!(%error, "cannot start a thread for an admin connection");
            }
        }
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn pause(what: &str, error: &io::Error) {
    warn!(%error, "{what}");
    std::thread::sleep(Duration::from_millis(100));
}

/// A panicking connection thread cannot leave a tally half changed: cells and accounts are
/// single stores.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One of the connections that may be open; given back when dropped.
struct Slot(Arc<AtomicUsize>);

impl Slot {
    fn take(open: &Arc<AtomicUsize>) -> Option<Self> {
        open.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| {
            (n < CONNECTIONS_MAX).then_some(n + 1)
        })
        .ok()
        .map(|_| Self(Arc::clone(open)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn reply(out: &mut impl Write, answer: &Answer) -> io::Result<()> {
    serde_json::to_writer(&mut *out, answer)?;
    out.write_all(b"\n")
}

/// How a request is answered.
enum Reply {
    Once(Answer),
    /// Until the other side or the agent has enough.
    Stream(OpenTap),
}

/// Sends what a tap sees until the reader goes away or the agent stops.
fn stream_events(
    tap: &OpenTap,
    stream: &UnixStream,
    writer: &mut impl Write,
    desk: &Desk,
) -> io::Result<()> {
    let mut told = Instant::now();
    while !desk.is_stopping() {
        match tap.events.recv_timeout(PROGRESS_EVERY) {
            Ok(event) => {
                reply(writer, &Answer::Tapped(event))?;
                if !tap.events.is_empty() && told.elapsed() < PROGRESS_EVERY {
                    continue;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if told.elapsed() >= PROGRESS_EVERY {
            told = Instant::now();
            // A reader that has gone shows when it is written to.
            reply(writer, &Answer::Tap(tap.progress()))?;
        }
        writer.flush()?;
    }
    let _ = stream.shutdown(std::net::Shutdown::Write);
    Ok(())
}

struct Connection<R: Region + 'static> {
    tally: SharedTally<R>,
    desk: Desk,
    /// What the last page of `top` saw.
    top: TopMemory,
    /// The right to remember that.
    viewer: Option<Viewer>,
}

impl<R: Region + 'static> Connection<R> {
    fn serve(&mut self, stream: &UnixStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        let user = Peer::of(stream)?.uid;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        let mut reader = BufReader::new(stream);
        let mut writer = BufWriter::new(stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut bounded = (&mut reader).take(REQUEST_BYTES_MAX as u64 + 1);
            bounded.read_until(b'\n', &mut line)?;
            if line.is_empty() {
                return writer.flush();
            }
            if !line.ends_with(b"\n") {
                // Cut off: a part of a request is none, and where the next begins is unknown.
                let message = format!("a request is one line of at most {REQUEST_BYTES_MAX} bytes");
                reply(&mut writer, &Answer::failure("malformed", &message))?;
                return writer.flush();
            }
            match self.answer(&line, user) {
                Reply::Once(answer) => reply(&mut writer, &answer)?,
                Reply::Stream(tap) => return stream_events(&tap, stream, &mut writer, &self.desk),
            }
            // Pipelined requests are answered together, once no whole one is waiting.
            if !reader.buffer().contains(&b'\n') {
                writer.flush()?;
            }
        }
    }

    fn answer(&mut self, line: &[u8], user: u32) -> Reply {
        let request: Request = match serde_json::from_slice(line) {
            Ok(request) => request,
            Err(error) => return Reply::Once(Answer::failure("malformed", &error)),
        };
        if !self.desk.access().allows(user, request.right()) {
            return Reply::Once(Answer::failure(
                "forbidden",
                "the agent's own user and root may do this; see the table [admin] of the configuration",
            ));
        }
        let answer = match request {
            Request::Count(count) => self.count(&count),
            Request::Status {} => match self.desk.report().map(serde_json::to_value) {
                Some(Ok(status)) => Answer::Status(status),
                _ => Answer::failure("unavailable", "the agent does not give its status now"),
            },
            Request::Reload {} => match self.desk.reload() {
                Some(Ok(done)) => Answer::Reloaded(done),
                Some(Err(refusal)) => Answer::failure("refused", &refusal.message),
                None => Answer::failure("stopping", "the agent is stopping"),
            },
            Request::Top(_) if !self.take_viewer() => {
                Answer::failure("busy", "too many look at `top` already")
            }
            Request::Top(query) => match self.desk.top(&mut self.top, &query) {
                Some(page) => Answer::Top(Box::new(page)),
                None => Answer::failure("unavailable", "the engine does not answer now"),
            },
            Request::Tap(query) => match self.desk.taps().open(&query) {
                Some(tap) => return Reply::Stream(tap),
                None => Answer::failure("busy", "too many taps are open"),
            },
        };
        Reply::Once(answer)
    }

    /// Once for a connection; false if too many others have it.
    fn take_viewer(&mut self) -> bool {
        if self.viewer.is_none() {
            self.viewer = self.desk.view();
        }
        self.viewer.is_some()
    }

    fn count(&self, count: &Count) -> Answer {
        let tags: Vec<_> = count
            .tags
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let mut tally = lock(&self.tally);
        let Some(tally) = tally.as_mut() else {
            return Answer::failure("stopping", "the agent is stopping");
        };
        match tally.handle_count(&count.metric, &tags, &count.value, clock::now()) {
            Ok(counted) => Answer::Counted(Counted {
                tenant: counted.series.tenant().to_string(),
                meter: counted.series.meter().to_string(),
                units: counted.quantity.to_string(),
                scale: counted.scale.get(),
                rounded: counted.rounded,
            }),
            Err(error) => Answer::failure(error.rejection().as_str(), &error),
        }
    }
}
