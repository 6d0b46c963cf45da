//! Who is at the other end of a Unix socket, as the kernel tells it (unix(7)).
#![expect(
    unsafe_code,
    reason = "getsockopt of SO_PEERCRED and SO_PEERPIDFD: the safe wrapper takes a process of \
              another pid namespace, whose number is 0, for impossible"
)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Who connected, as he was then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// 0 for a process that this one cannot see: of a pid namespace that is not its own nor
    /// below it, as that of a container without a shared one.
    pub(crate) pid: i32,
}

impl Peer {
    /// Of a connected stream.
    pub(crate) fn of(stream: impl AsFd) -> io::Result<Self> {
        let libc::ucred { pid, uid, gid } = option::<libc::ucred>(&stream, libc::SO_PEERCRED)?;
        Ok(Self { uid, gid, pid })
    }

    /// A descriptor of the process, which becomes readable at its end. `None` where the kernel
    /// has no such thing, or forbids it.
    pub(crate) fn process(self, stream: impl AsFd) -> Option<OwnedFd> {
        // Since Linux 6.5: of processes that have no number here, too, and never of another one
        // that got the number since.
        if let Ok(fd) = option::<RawFd>(stream, libc::SO_PEERPIDFD)
            && fd >= 0
        {
            // SAFETY: the kernel has just made this descriptor for the caller, who is the only
            // one to know it.
            return Some(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        self.numbered()
    }

    /// The same, of whoever has the number now.
    pub(crate) fn numbered(self) -> Option<OwnedFd> {
        pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()
    }
}

/// An option of sockets whose value is plain data of the kernel's: any bytes are a `T`.
fn option<T: Copy>(socket: impl AsFd, name: libc::c_int) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::uninit();
    let mut length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `length` bytes, which `value` has.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if usize::try_from(length).ok() != Some(size_of::<T>()) {
        return Err(io::Error::other("the kernel gave another size"));
    }
    // SAFETY: all of it was written, as the length says, and `T` is integers only.
    Ok(unsafe { value.assume_init() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    #[test]
    fn a_peer_is_who_made_the_socket() {
        let (here, _there) = UnixStream::pair().expect("a pair");
        let peer = Peer::of(&here).expect("connected");
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        assert_eq!(peer.gid, rustix::process::getegid().as_raw());
        assert_eq!(u32::try_from(peer.pid), Ok(std::process::id()));
        let process = peer.process(&here).expect("a kernel since 5.3");
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut fds = [PollFd::new(&process, PollFlags::IN)];
        assert_eq!(poll(&mut fds, Some(&now)), Ok(0), "it lives");
        assert!(Peer { pid: 0, ..peer }.numbered().is_none());
    }
}
