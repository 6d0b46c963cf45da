//! Pages left with the service manager, so that they outlive both the application and the agent.
//!
//! An application that lives brings its page to the next agent itself. One that ends while there
//! is no agent cannot; so the agent leaves the descriptor of every page that it takes with the
//! service manager (`FDSTORE=1` of `sd_notify`), and that of its process, by which the next agent
//! tells whether it has ended. The manager hands them to the next agent (`LISTEN_FDS`). They are
//! taken out of the store when the page is done with. Without such a manager nothing happens.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, sendmsg_addr, socket_with,
};
use tollgate_agent_core::aggregate::PageKey;
use tracing::{debug, warn};

use super::mapping::passed_descriptors;
use crate::peer::Peer;

const PAGE: &str = "tollgate-page";
const PROCESS: &str = "tollgate-process";

/// What the service manager kept of a page.
#[derive(Debug)]
pub(super) struct Kept {
    /// Under which name.
    pub(super) name: Name,
    pub(super) page: OwnedFd,
    /// The process that it is of, if the kernel has such descriptors.
    pub(super) process: Option<OwnedFd>,
}

/// The name of a page in the store: whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) peer: Peer,
    id: [u8; 16],
}

impl Name {
    pub(super) fn new(peer: Peer, page: PageKey) -> Self {
        Self { peer, id: page.id }
    }

    /// The page's own name.
    pub(super) fn key(&self) -> PageKey {
        PageKey {
            id: self.id,
            user: self.peer.uid,
        }
    }

    fn of(&self, what: &str) -> String {
        let Peer { uid, gid, pid } = self.peer;
        let id = u128::from_be_bytes(self.id);
        format!("{what}.{uid}.{gid}.{pid}.{id:032x}")
    }

    fn parse(text: &str) -> Option<(&str, Self)> {
        let mut parts = text.split('.');
        let what = parts.next()?;
        let peer = Peer {
            uid: parts.next()?.parse().ok()?,
            gid: parts.next()?.parse().ok()?,
            pid: parts.next()?.parse().ok()?,
        };
        let id = u128::from_str_radix(parts.next()?, 16).ok()?.to_be_bytes();
        parts.next().is_none().then_some((what, Self { peer, id }))
    }
}

/// What the manager handed over at the start. To be asked once; later there is nothing.
pub(super) fn inherited() -> Vec<Kept> {
    let descriptors = match passed_descriptors() {
        Ok(descriptors) => descriptors,
        Err(error) => {
            warn!(%error, "what the service manager kept cannot be taken");
            return Vec::new();
        }
    };
    let mut pages = BTreeMap::new();
    let mut processes = BTreeMap::new();
    for (text, fd) in descriptors {
        match Name::parse(&text) {
            Some((PAGE, name)) => drop(pages.insert(name.of(""), (name, fd))),
            Some((PROCESS, name)) => drop(processes.insert(name.of(""), (name, fd))),
            // Another version's, or somebody else's: closed.
            _ => debug!(name = text, "the service manager kept something unknown"),
        }
    }
    let kept = pages.into_iter().map(|(key, (name, page))| Kept {
        name,
        page,
        process: processes.remove(&key).map(|(_, fd)| fd),
    });
    let kept = kept.collect();
    // A process whose page is not there only takes room.
    for (name, _) in processes.values() {
        remove_as(PROCESS, name);
    }
    kept
}

/// Leaves a page with the manager, if its process can be left there: a page of which nobody
/// could tell whether its application has ended would be of less use. True if it was sent all.
pub(super) fn keep(name: &Name, page: BorrowedFd<'_>, process: Option<BorrowedFd<'_>>) -> bool {
    // Without a poll: an ended process is just what is to be told.
    let store = |what, fd| {
        tell(
            &format!("FDSTORE=1\nFDPOLL=0\nFDNAME={}\n", name.of(what)),
            &[fd],
        )
    };
    if !process.is_none_or(|fd| store(PROCESS, fd)) {
        return false;
    }
    let kept = store(PAGE, page);
    if !kept {
        remove_as(PROCESS, name);
    }
    kept
}

/// Takes a page out of the store.
pub(super) fn remove(name: &Name) {
    for what in [PAGE, PROCESS] {
        remove_as(what, name);
    }
}

fn remove_as(what: &str, name: &Name) {
    tell(&format!("FDSTOREREMOVE=1\nFDNAME={}\n", name.of(what)), &[]);
}

/// True if it was sent.
fn tell(state: &str, fds: &[BorrowedFd<'_>]) -> bool {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return false;
    };
    let sent = send(path.as_bytes(), state.as_bytes(), fds);
    if let Err(error) = &sent {
        debug!(%error, "the service manager cannot be told of a page");
    }
    sent.is_ok()
}

fn send(path: &[u8], state: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let address = match path.strip_prefix(b"@") {
        Some(name) => SocketAddrUnix::new_abstract_name(name)?,
        None => SocketAddrUnix::new(path)?,
    };
    // A manager that is slow must not hold up the counting.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    let state = [IoSlice::new(state)];
    sendmsg_addr(
        socket.as_fd(),
        &address,
        &state,
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_nonsense_is_none() {
        let name = Name {
            peer: Peer {
                uid: 1000,
                gid: 7,
                pid: 4711,
            },
            id: *b"\xff123456789abcde\x00",
        };
        let text = name.of(PAGE);
        assert_eq!(Name::parse(&text), Some((PAGE, name)));
        assert!(!text.contains(':') && text.len() < 255, "{text}");
        for text in [
            "",
            "stored",
            "tollgate-page.1.2.3",
            "tollgate-page.1.2.3.zz",
            "a.1.2.3.4.5",
        ] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
    }
}
