//! Many datagrams with one system call, and what the kernel dropped: the two calls for which
//! no safe wrapper exists.

use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use tollgate_agent_core::input::dogstatsd::DATAGRAM_SLACK_BYTES;

/// Datagrams of one call: enough that the call costs little beside them, and few enough that
/// what was received is still in the cache when it is read.
pub(super) const DATAGRAMS: usize = 32;
/// The largest UDP payload fits; a longer Unix datagram is cut after its last whole line.
pub(super) const DATAGRAM_BYTES_MAX: usize = 64 << 10;
/// Datagrams begin 24 cache lines beyond a multiple of 64 KiB, so that they do not all compete
/// for the same lines of the cache.
pub(super) const STRIDE: usize = DATAGRAM_BYTES_MAX + 24 * 64;
const _: () = assert!(STRIDE - DATAGRAM_BYTES_MAX >= DATAGRAM_SLACK_BYTES);

/// Room for the datagrams of one call. Pages that no datagram reached cost no memory.
pub(super) struct Datagrams {
    buffer: Box<[u8]>,
    places: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    received: usize,
}

impl Datagrams {
    pub(super) fn new() -> Self {
        let place = libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: DATAGRAM_BYTES_MAX,
        };
        Self {
            buffer: vec![0; DATAGRAMS * STRIDE].into_boxed_slice(),
            places: vec![place; DATAGRAMS],
            headers: vec![zeroed_header(); DATAGRAMS],
            received: 0,
        }
    }

    /// Receives what is there, without waiting; says how many datagrams.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.received = 0;
        let rooms = self.buffer.as_chunks_mut::<STRIDE>().0;
        let parts = self.places.iter_mut().zip(&mut self.headers).zip(rooms);
        for ((place, header), room) in parts {
            place.iov_base = room.as_mut_ptr().cast();
            header.msg_hdr.msg_iov = place;
            header.msg_hdr.msg_iovlen = 1;
        }
        let count = libc::c_uint::try_from(DATAGRAMS).expect("a small constant");
        #[expect(unsafe_code, reason = "recvmmsg has no safe wrapper")]
        // SAFETY: there are `count` headers. Each names one place, which names
        // DATAGRAM_BYTES_MAX bytes of the buffer that no other place names; all of them live,
        // and nothing else reads or writes them, until the call returns. Names and control
        // data are null with length 0. The timeout may be null.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        match usize::try_from(received) {
            Ok(received) => {
                self.received = received.min(DATAGRAMS);
                Ok(self.received)
            }
            Err(_) => Err(io::Error::last_os_error()),
        }
    }

    /// The bytes that the datagrams lie in, with slack behind each.
    pub(super) fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// Where each datagram lies, and whether it was longer than that.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Range<usize>, bool)> {
        let headers = &self.headers[..self.received];
        headers.iter().enumerate().map(|(index, header)| {
            let length = usize::try_from(header.msg_len).unwrap_or(usize::MAX);
            let at = index * STRIDE;
            let cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            (at..at + length.min(DATAGRAM_BYTES_MAX), cut)
        })
    }
}

fn zeroed_header() -> libc::mmsghdr {
    #[expect(
        unsafe_code,
        reason = "the C structure has private padding on some targets"
    )]
    // SAFETY: integers and pointers, for all of which zero is a value.
    unsafe {
        MaybeUninit::zeroed().assume_init()
    }
}

/// The place of the drops in what `SO_MEMINFO` tells, and how many numbers there are
/// (linux/sock_diag.h).
const SK_MEMINFO_DROPS: usize = 8;
const SK_MEMINFO_VARS: usize = 9;

/// Datagrams that the kernel dropped at this socket since it was made, modulo 2^32.
pub(super) fn drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = [0u32; SK_MEMINFO_VARS];
    let wanted = size_of_val(&info);
    let mut length = libc::socklen_t::try_from(wanted).expect("a small constant");
    #[expect(unsafe_code, reason = "SO_MEMINFO has no safe wrapper")]
    // SAFETY: the kernel writes at most `length` bytes to the array, which has as many, and
    // any bytes are numbers.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if usize::try_from(length).is_ok_and(|length| length < wanted) {
        return Err(io::Error::other("the kernel does not tell its drops"));
    }
    Ok(info[SK_MEMINFO_DROPS])
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn datagrams_arrive_in_order_each_in_its_place() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let to = receiver.local_addr().expect("bound");
        let mut datagrams = Datagrams::new();
        let none = datagrams.receive(receiver.as_fd());
        assert_eq!(none.expect_err("none").kind(), io::ErrorKind::WouldBlock);
        for n in 0..DATAGRAMS + 3 {
            let bytes = vec![b'a' + u8::try_from(n % 26).expect("small"); n];
            sender.send_to(&bytes, to).expect("sent");
        }
        let mut next = 0;
        for expected in [DATAGRAMS, 3] {
            assert_eq!(
                datagrams.receive(receiver.as_fd()).expect("there"),
                expected
            );
            for (range, cut) in datagrams.iter() {
                let bytes = &datagrams.buffer()[range];
                assert_eq!(bytes.len(), next);
                assert!(bytes.iter().all(|b| usize::from(b - b'a') == next % 26));
                assert!(!cut);
                next += 1;
            }
        }
        assert_eq!(next, DATAGRAMS + 3);
    }

    #[test]
    fn a_datagram_that_does_not_fit_says_so() {
        let (sender, receiver) = UnixDatagram::pair().expect("a pair");
        sender
            .send(&vec![b'x'; DATAGRAM_BYTES_MAX + 1])
            .expect("sent");
        let mut datagrams = Datagrams::new();
        assert_eq!(datagrams.receive(receiver.as_fd()).expect("there"), 1);
        let all: Vec<_> = datagrams.iter().collect();
        assert_eq!(all, [(0..DATAGRAM_BYTES_MAX, true)]);
    }

    #[test]
    fn the_kernel_tells_its_drops() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        rustix::net::sockopt::set_socket_recv_buffer_size(&receiver, 4096).expect("set");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let to = receiver.local_addr().expect("bound");
        assert_eq!(drops(receiver.as_fd()).expect("Linux 4.12"), 0);
        for _ in 0..100 {
            sender.send_to(&[0; 1000], to).expect("sent");
        }
        let mut datagrams = Datagrams::new();
        let mut received = 0;
        while let Ok(more) = datagrams.receive(receiver.as_fd()) {
            received += u32::try_from(more).expect("small");
        }
        assert_eq!(drops(receiver.as_fd()).expect("Linux 4.12") + received, 100);
    }
}
