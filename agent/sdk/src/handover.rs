//! Handing the page to the agent, and keeping the connection that says "I am alive".
//!
//! A thread of its own connects to the agent's socket, sends the descriptor of the page, and
//! then sleeps until the connection ends: the agent sees the end of the application by it,
//! and the application that of the agent. It tries again for as long as the process lives.
//! The page is counted in all the while, whether anybody has it or not.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, recv, sendmsg, socket_with,
};

use crate::Options;
use crate::page::hello::{self, ANSWER_BYTES, Answer};
use crate::process::{self, Page};
use crate::sys;

/// First and longest pause between two attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// Pause after a refusal that only an operator can end.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// How long an agent may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Little is done on this stack.
const STACK_BYTES: usize = 64 << 10;

enum Phase {
    Idle {
        until: Instant,
    },
    Asked {
        socket: OwnedFd,
        since: Instant,
        got: Vec<u8>,
    },
    Up {
        socket: OwnedFd,
        /// The beginning of what the agent says.
        got: Vec<u8>,
    },
}

/// Brings one page to the agent, and again after every end of the connection.
pub(crate) struct Connector {
    page: &'static Page,
    phase: Phase,
    pause: Duration,
}

/// The connector of those who forbid threads.
static POLLED: Mutex<Option<Connector>> = Mutex::new(None);

/// Begins to bring a page to the agent, in a thread unless that is not wanted.
pub(crate) fn start(page: &'static Page) {
    if !Options::installed().thread {
        return;
    }
    let thread = std::thread::Builder::new()
        .name("tollgate".to_owned())
        .stack_size(STACK_BYTES);
    // Without threads to be had the page waits for `poll`.
    let _ = thread.spawn(move || {
        sys::block_signals();
        let mut connector = Connector::new(page);
        while page.is_in_use() {
            let pause = connector.step();
            connector.wait(pause);
        }
    });
}

/// One step without waiting, for processes that forbid threads; true once an agent has the
/// page. To be called now and then, such as once a second.
pub fn poll_connection() -> bool {
    let Some(page) = process::current() else {
        return false;
    };
    let Ok(mut polled) = POLLED.try_lock() else {
        return false;
    };
    let same = polled
        .as_ref()
        .is_some_and(|connector| std::ptr::eq(connector.page, page));
    if !same {
        *polled = Some(Connector::new(page));
    }
    if let Some(connector) = polled.as_mut() {
        // From idle through asked to up, if the agent is quick.
        for _ in 0..3 {
            connector.step();
        }
    }
    page.is_handed_over()
}

impl Connector {
    fn new(page: &'static Page) -> Self {
        Self {
            page,
            phase: Phase::Idle {
                until: Instant::now(),
            },
            pause: PAUSE.0,
        }
    }

    /// Does what can be done now, and says how long there is nothing to do unless the socket
    /// has something; `None` for as long as the connection stands.
    fn step(&mut self) -> Option<Duration> {
        let now = Instant::now();
        match &mut self.phase {
            Phase::Idle { until } if *until > now => return Some(*until - now),
            Phase::Idle { .. } => match ask(self.page) {
                Ok(socket) => {
                    self.phase = Phase::Asked {
                        socket,
                        since: now,
                        got: Vec::new(),
                    };
                    return Some(ANSWER_TIMEOUT);
                }
                Err(_) => self.back_off(),
            },
            Phase::Asked { socket, since, got } => match read_answer(socket, got) {
                Ok(None) if now.duration_since(*since) < ANSWER_TIMEOUT => {
                    return Some(ANSWER_TIMEOUT.saturating_sub(now.duration_since(*since)));
                }
                Ok(Some(answer)) => return self.handle_answer(answer),
                Ok(None) | Err(_) => self.back_off(),
            },
            Phase::Up { socket, got } => {
                if read_looks(socket, got) {
                    if let Some(looked) = hello::take_looks(got) {
                        self.page.looked_at(looked);
                    }
                    return None;
                }
                self.page.let_go();
                self.pause = PAUSE.0;
                self.back_off();
            }
        }
        Some(Duration::ZERO)
    }

    fn handle_answer(&mut self, answer: Answer) -> Option<Duration> {
        match answer.code {
            hello::TAKEN => {
                self.page.hand_over(answer);
                self.pause = PAUSE.0;
                let before = std::mem::replace(
                    &mut self.phase,
                    Phase::Idle {
                        until: Instant::now(),
                    },
                );
                if let Phase::Asked { socket, .. } = before {
                    let got = Vec::new();
                    self.phase = Phase::Up { socket, got };
                }
                return None;
            }
            hello::QUARANTINED => {
                // What this page holds stays where it is, for the operator to look at; from
                // here on a new one is counted in.
                self.page.give_up();
                process::current();
                self.pause = PAUSE.1;
            }
            hello::UNACCEPTABLE => self.pause = REFUSED_PAUSE,
            _ => {}
        }
        self.back_off();
        Some(Duration::ZERO)
    }

    fn back_off(&mut self) {
        // Spread, so that the processes of a host do not come all at once.
        let jitter = sys::random().map_or(0, |bytes| u32::from(bytes[0]));
        let pause = self.pause / 2 + self.pause / 512 * jitter;
        self.phase = Phase::Idle {
            until: Instant::now() + pause,
        };
        self.pause = (self.pause * 2).clamp(PAUSE.0, PAUSE.1.max(self.pause.min(REFUSED_PAUSE)));
    }

    fn wait(&self, pause: Option<Duration>) {
        let socket = match &self.phase {
            Phase::Idle { .. } => None,
            Phase::Asked { socket, .. } | Phase::Up { socket, .. } => Some(socket),
        };
        let Some(socket) = socket else {
            std::thread::sleep(pause.unwrap_or_default().min(PAUSE.1));
            return;
        };
        let timeout = pause.and_then(|pause| Timespec::try_from(pause).ok());
        let mut fds = [PollFd::new(socket, PollFlags::IN)];
        // An error shows again when the socket is read.
        let _ = poll(&mut fds, timeout.as_ref());
    }
}

/// Connects and sends hello with the page.
fn ask(page: &Page) -> io::Result<OwnedFd> {
    let path = Options::installed().socket;
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    connect(&socket, &SocketAddrUnix::new(path.as_path() as &Path)?)?;
    let hello = hello::hello(page.id(), page.bytes());
    let fds = [page.fd().as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    let sent = sendmsg(
        &socket,
        &[IoSlice::new(&hello)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    if sent == hello.len() {
        Ok(socket)
    } else {
        Err(io::Error::other("hello does not fit into a fresh socket"))
    }
}

fn read_answer(socket: &OwnedFd, got: &mut Vec<u8>) -> io::Result<Option<Answer>> {
    let mut bytes = [0; ANSWER_BYTES];
    let rest = ANSWER_BYTES.saturating_sub(got.len());
    match recv(socket, &mut bytes[..rest], RecvFlags::empty()) {
        Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
        Ok((length, _)) => got.extend_from_slice(&bytes[..length]),
        Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    }
    let Some(bytes) = got.first_chunk() else {
        return Ok(None);
    };
    let answer = Answer::parse(bytes).filter(|answer| answer.mirror != 0);
    answer
        .map(Some)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Reads what the agent tells of its looks; false once the connection has ended.
fn read_looks(socket: &OwnedFd, got: &mut Vec<u8>) -> bool {
    let mut bytes = [0; 16 * hello::LOOK_BYTES];
    match recv(socket, &mut bytes, RecvFlags::empty()) {
        Ok((0, _)) => false,
        Ok((length, _)) => {
            got.extend_from_slice(&bytes[..length]);
            true
        }
        Err(Errno::AGAIN | Errno::INTR) => true,
        Err(_) => false,
    }
}
