//! Many datagrams with one system call, so that neither the sender nor the receive-only loop
//! is limited by the number of its calls.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Datagrams of one call.
pub(crate) const BATCH: usize = 32;

fn header(place: &mut libc::iovec) -> libc::mmsghdr {
    #[expect(
        unsafe_code,
        reason = "the C structure has private padding on some targets"
    )]
    // SAFETY: integers and pointers, for all of which zero is a value.
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_iov = place;
    header.msg_hdr.msg_iovlen = 1;
    header
}

fn count(headers: &[libc::mmsghdr]) -> libc::c_uint {
    libc::c_uint::try_from(headers.len()).expect("at most BATCH")
}

/// Sends up to [`BATCH`] datagrams to the peer of a connected socket; says how many.
pub(crate) fn send(socket: BorrowedFd<'_>, datagrams: &[&[u8]]) -> io::Result<usize> {
    let datagrams = &datagrams[..datagrams.len().min(BATCH)];
    let mut places = [libc::iovec {
        iov_base: ptr::null_mut(),
        iov_len: 0,
    }; BATCH];
    for (place, datagram) in places.iter_mut().zip(datagrams) {
        place.iov_base = datagram.as_ptr().cast_mut().cast();
        place.iov_len = datagram.len();
    }
    let places = &mut places[..datagrams.len()];
    let mut headers: Vec<_> = places.iter_mut().map(header).collect();
    #[expect(unsafe_code, reason = "sendmmsg has no safe wrapper")]
    // SAFETY: every header names one place and every place the bytes of one slice, all of
    // which live until the call returns; the kernel only reads the bytes.
    let sent =
        unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count(&headers), 0) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Waits for one datagram and takes what else is there, up to a batch, each into a buffer of
/// its own; the lengths are in `lengths`.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffers: &mut [Vec<u8>],
    lengths: &mut Vec<usize>,
) -> io::Result<()> {
    lengths.clear();
    let mut places: Vec<_> = buffers
        .iter_mut()
        .map(|buffer| libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        })
        .collect();
    let mut headers: Vec<_> = places.iter_mut().map(header).collect();
    #[expect(unsafe_code, reason = "recvmmsg has no safe wrapper")]
    // SAFETY: every header names one place and every place the bytes of one buffer, which
    // nothing else reads or writes until the call returns. The timeout may be null.
    let received = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            count(&headers),
            libc::MSG_WAITFORONE,
            ptr::null_mut(),
        )
    };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    let lengths_of = headers[..received].iter();
    lengths.extend(lengths_of.map(|header| usize::try_from(header.msg_len).unwrap_or(0)));
    Ok(())
}
