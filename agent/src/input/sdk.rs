//! Applications that count in process: takes their pages and counts what is in them.
//!
//! One thread serves the socket and looks at all pages: shortly before every window's end, at
//! least once a second, when an application ends, and when the agent stops. The number of
//! connections, the size of a page and of all pages, the time of one look and the looks in a
//! second are bounded. Who is at the other
//! end is told by the kernel (`SO_PEERCRED`), and the configuration says for whom that user may
//! count.

pub(crate) mod board;
mod connection;
mod look;
mod mapping;
mod store;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tollgate::page::PageReader;
use tollgate::page::hello::{self, Answer};
use tollgate_agent_core::aggregate::{PageKey, Region};
use tollgate_agent_core::config::Sdk;
use tollgate_agent_core::input::page::{LOOK_EVERY_MILLIS, PageRefusal, PageTally, find_access};
use tollgate_common::WindowWidth;
use tracing::{debug, info, warn};

use super::stop::Stop;
use crate::clock;
use board::{APPLICATIONS_SHOWN, ApplicationStatus, Board, PagesStatus};
use connection::{Brought, Connection, Page};
use mapping::MappedPage;
use store::Kept;

/// Longest time between two looks at the pages.
const LOOK_EVERY: Duration = Duration::from_millis(LOOK_EVERY_MILLIS.unsigned_abs());
/// How long before the end of a window the pages are looked at.
const BEFORE_END_MILLIS: i64 = 25;
/// How soon the end of a process is looked for again, and pause after a failure.
const LOOK_SOON: Duration = Duration::from_millis(10);
/// Connections beside those that have a page: hellos under way.
const HELLOS_MAX: usize = 32;
/// The same of one user, who must not keep all others out.
const HELLOS_OF_USER_MAX: usize = 16;
/// The part of the places and bytes that is there for users who have no page yet.
const RESERVE: u64 = 8;
/// Looks at pages that a stopping agent takes at most, to leave nothing behind.
const LAST_LOOKS: u32 = 200;

/// A bound socket.
pub(crate) struct SdkSocket {
    listener: UnixListener,
    config: Sdk,
    /// What the service manager kept of an earlier agent.
    kept: Vec<Kept>,
}

impl SdkSocket {
    /// Binds the socket in place of one that a dead agent left.
    pub(crate) fn bind(config: &Sdk) -> io::Result<Self> {
        let path = &config.socket;
        super::remove_stale_socket(path, |path| UnixStream::connect(path).is_err());
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(config.mode))?;
        listener.set_nonblocking(true)?;
        info!(path = %path.display(), "listening for applications");
        Ok(Self {
            listener,
            config: config.clone(),
            kept: store::inherited(),
        })
    }

    /// Takes pages until `stop` is raised, and counts what they hold then.
    pub(crate) fn serve<R: Region + 'static>(
        self,
        tally: PageTally<R>,
        width: WindowWidth,
        board: Arc<Board>,
        stop: Stop,
    ) -> io::Result<JoinHandle<()>> {
        let mut server = Server {
            socket: self,
            tally,
            width,
            board,
            connections: Vec::new(),
            refused: BTreeMap::new(),
            waiting: Vec::new(),
        };
        let kept = std::mem::take(&mut server.socket.kept);
        server.adopt(kept);
        server.show();
        super::spawn("sdk", move || server.run(&stop))
    }
}

impl Drop for SdkSocket {
    fn drop(&mut self) {
        // The next start removes it otherwise.
        let _ = std::fs::remove_file(&self.config.socket);
    }
}

struct Server<R: Region> {
    socket: SdkSocket,
    tally: PageTally<R>,
    width: WindowWidth,
    board: Arc<Board>,
    connections: Vec<Connection>,
    /// Pages that were not taken, by reason.
    refused: BTreeMap<&'static str, u64>,
    /// What the service manager kept and is not taken yet: what is not to be billed stays there,
    /// as the evidence, until its loss is durably declared, and what there is no room for until
    /// there is.
    waiting: Vec<Kept>,
}

impl<R: Region> Server<R> {
    fn run(&mut self, stop: &Stop) {
        // All pages, and those of which something is left.
        let (mut next_full, mut next_look) = (Instant::now(), Instant::now());
        while !stop.is_raised() {
            let pause = next_look.saturating_duration_since(Instant::now());
            if let Err(error) = self.wait(stop, pause) {
                warn!(%error, "cannot wait for applications");
                std::thread::sleep(LOOK_SOON);
            }
            self.accept();
            self.read();
            let now = Instant::now();
            if now >= next_full {
                next_look = now + self.look(true);
                next_full = now + self.until_full();
                self.show();
            } else if now >= next_look {
                next_look = now + self.look(false);
            }
            next_look = next_look.min(next_full);
        }
        for _ in 0..LAST_LOOKS {
            let _ = self.look(true);
            if self.connections.iter().all(is_complete) {
                break;
            }
        }
    }

    fn wait(&self, stop: &Stop, pause: Duration) -> io::Result<()> {
        // A closed connection would be readable for ever.
        let open = self.connections.iter().filter(|c| c.closed.is_none());
        let open = open.flat_map(|c| c.socket().into_iter().chain(c.process()));
        let sockets: Vec<_> = std::iter::once(self.socket.listener.as_fd())
            .chain(open)
            .collect();
        stop.wait_any(&sockets, pause).map(|_| ())
    }

    fn accept(&mut self) {
        let most = self.socket.config.pages_max as usize + HELLOS_MAX;
        while self.connections.len() < most {
            let stream = match self.socket.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    warn!(%error, "cannot accept an application");
                    std::thread::sleep(LOOK_SOON);
                    return;
                }
            };
            let connection = match Connection::new(stream) {
                Ok(connection) => connection,
                Err(error) => {
                    debug!(%error, "application has gone already");
                    continue;
                }
            };
            let uid = connection.peer.uid;
            let hellos = self.connections.iter().filter(|c| c.page.is_none());
            if hellos.filter(|c| c.peer.uid == uid).count() < HELLOS_OF_USER_MAX {
                self.connections.push(connection);
            } else {
                debug!(uid, "a user has too many connections without a page");
            }
        }
    }

    fn read(&mut self) {
        let now = Instant::now();
        for at in 0..self.connections.len() {
            if self.connections[at].closed.is_some() {
                continue;
            }
            match self.connections[at].read(now) {
                Brought::Nothing if !self.connections[at].is_late(now) => {}
                Brought::Hello { bytes, fd } => {
                    let answer = self.take(at, bytes, &fd);
                    self.connections[at].answer(answer);
                    if answer.code != hello::TAKEN {
                        self.connections[at].closed = Some(now);
                    }
                }
                Brought::Nothing | Brought::Nonsense | Brought::Closed => {
                    self.connections[at].closed = Some(now);
                }
            }
        }
        // What has no page is done with; the others are, when they are counted.
        self.connections.retain(|c| !c.is_over());
    }

    /// Takes pages that the service manager kept. Their applications may have ended; one
    /// that lives brings its page again, and takes the place of what is made here.
    fn adopt(&mut self, kept: Vec<Kept>) {
        for kept in kept {
            let (peer, config) = (kept.name.peer, &self.socket.config);
            let bytes = MappedPage::bytes_of(&kept.page);
            let key = kept.name.key();
            if bytes <= config.page_bytes_max && self.lacks(key, bytes).is_some() {
                self.waiting.push(kept);
                continue;
            }
            let access = find_access(&config.allow, peer.uid, peer.gid);
            let map = MappedPage::map(&kept.page, bytes, config.page_bytes_max);
            let taken = map.ok().zip(access).map(|(map, access)| {
                let words = map.words();
                let taken = self
                    .tally
                    .handle_page(words, peer.uid, access, clock::now());
                taken.map(|key| (key, map))
            });
            match taken {
                Some(Ok((key, map))) => {
                    info!(
                        pid = peer.pid,
                        uid = peer.uid,
                        "took a page from the service manager"
                    );
                    self.connections.push(Connection::adopted(kept, key, map));
                }
                Some(Err(PageRefusal::Declaring | PageRefusal::Full)) => self.waiting.push(kept),
                Some(Err(_)) | None => {
                    warn!(
                        pid = peer.pid,
                        "a page that the service manager kept is not taken"
                    );
                    store::remove(&kept.name);
                }
            }
        }
    }

    /// Decides about a page.
    fn take(&mut self, at: usize, bytes: u64, fd: &std::os::fd::OwnedFd) -> Answer {
        let config = &self.socket.config;
        let peer = self.connections[at].peer;
        let (window_secs, mirror) = (self.width.secs(), self.tally.mirror());
        let answer = |code| Answer {
            code,
            window_secs,
            mirror,
            tells: true,
        };
        let Some(access) = find_access(&config.allow, peer.uid, peer.gid).cloned() else {
            warn!(
                uid = peer.uid,
                gid = peer.gid,
                "an application is refused: no [[input.sdk.allow]] fits"
            );
            *self.refused.entry("not_allowed").or_default() += 1;
            return answer(hello::UNACCEPTABLE);
        };
        let map = match MappedPage::map(fd, bytes, config.page_bytes_max) {
            Ok(map) => map,
            Err(error) => {
                warn!(pid = peer.pid, %error, "a page is refused");
                *self.refused.entry("unacceptable").or_default() += 1;
                return answer(hello::UNACCEPTABLE);
            }
        };
        let key = PageReader::open(map.words()).map(|reader| PageKey {
            id: reader.id(),
            user: peer.uid,
        });
        if let Some(key) = key.ok().and_then(|key| self.lacks(key, bytes)) {
            warn!(
                pid = peer.pid,
                uid = peer.uid,
                "no place for another page; raise input.sdk.{key}"
            );
            *self.refused.entry("too_many").or_default() += 1;
            return answer(hello::BUSY);
        }
        match self
            .tally
            .handle_page(map.words(), peer.uid, &access, clock::now())
        {
            Ok(key) => {
                let answer = answer(hello::TAKEN);
                let stored = store::Name::new(peer, key);
                let replaced = self.replace(key, &stored);
                // Descriptors of the same process are not the same to the manager: it would
                // keep one more with every agent until it has no room left.
                let process = self.connections[at].process();
                let kept = replaced || store::keep(&stored, fd.as_fd(), process);
                self.connections[at].page = Some(Page {
                    key,
                    map,
                    again: None,
                    complete: false,
                    looking: None,
                    stored,
                    kept,
                });
                self.succeed(at);
                info!(pid = peer.pid, uid = peer.uid, "took a page");
                answer
            }
            Err(error) => {
                let (code, reason) = match error {
                    PageRefusal::Quarantined => (hello::QUARANTINED, "quarantined"),
                    PageRefusal::NotAPage(_) => (hello::UNACCEPTABLE, "unacceptable"),
                    PageRefusal::Full => (hello::BUSY, "no_room"),
                    // It comes again, and is refused for good then.
                    PageRefusal::Declaring => (hello::BUSY, "declaring"),
                };
                warn!(pid = peer.pid, uid = peer.uid, %error, "a page is refused");
                *self.refused.entry(reason).or_default() += 1;
                answer(code)
            }
        }
    }

    /// The key of the limit that leaves no room for a page beside all others; one that comes
    /// again takes its own place. The last places are for users who have none.
    fn lacks(&self, key: PageKey, bytes: u64) -> Option<&'static str> {
        let config = &self.socket.config;
        let pages = self.connections.iter().filter_map(|c| c.page.as_ref());
        let others = pages.filter(|page| page.key != key);
        let (mut count, mut mapped, mut has_one) = (1u64, bytes, false);
        for other in others {
            (count, mapped) = (count + 1, mapped.saturating_add(other.map.bytes()));
            has_one |= other.key.user == key.user;
        }
        let most = |all: u64| all - if has_one { all / RESERVE } else { 0 };
        if count > most(config.pages_max.into()) {
            Some("pages_max")
        } else if mapped > most(config.pages_bytes_max) {
            Some("pages_bytes_max")
        } else {
            None
        }
    }

    /// The connections of a process that has begun anew, as by execve(2): what it had before is
    /// not counted on by anybody.
    fn succeed(&mut self, at: usize) {
        let (peer, closed) = (self.connections[at].peer, Instant::now());
        for other in &mut self.connections {
            let ended = other.closed.is_some_and(|at| at <= closed);
            other.succeeded |= ended && peer.pid != 0 && other.peer == peer;
        }
    }

    /// A new connection for a page takes the place of the old one. True if the manager has
    /// the page already, and its process, by the same name.
    fn replace(&mut self, key: PageKey, name: &store::Name) -> bool {
        let mut kept = false;
        for other in &mut self.connections {
            if let Some(page) = other.page.take_if(|page| page.key == key) {
                if page.stored == *name {
                    kept |= page.kept;
                } else {
                    store::remove(&page.stored);
                }
            }
        }
        kept
    }

    /// Leaves the status for whoever asks.
    fn show(&self) {
        let pages = self.connections.iter();
        let mut applications: Vec<_> = pages
            .filter_map(|connection| {
                let page = connection.page.as_ref()?;
                let (counts, tenants) = self.tally.counts_of(page.key)?;
                let peer = connection.peer;
                Some(ApplicationStatus {
                    name: format!("pid {}", peer.pid),
                    pid: peer.pid,
                    uid: peer.uid,
                    gid: peer.gid,
                    tenants,
                    bytes: page.map.bytes(),
                    mirrored: counts.mirrored,
                    waiting: counts.waiting,
                    rejected: counts.rejected,
                    stopped: counts.stopped,
                    dropped: counts.dropped,
                })
            })
            .collect();
        let bytes = applications.iter().map(|of| of.bytes).sum();
        applications.sort_by_key(|of| std::cmp::Reverse(of.mirrored));
        applications.truncate(APPLICATIONS_SHOWN);
        self.board.show(PagesStatus {
            counts: self.tally.counts(),
            bytes,
            bytes_max: self.socket.config.pages_bytes_max,
            refused: self.refused.clone(),
            applications,
        });
    }
}

fn is_complete(connection: &Connection) -> bool {
    let page = connection.page.as_ref();
    page.is_none_or(|page| page.complete)
}
