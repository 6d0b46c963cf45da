//! The inputs' sockets and threads. What they read goes to the core's tallies.

pub(crate) mod dogstatsd;
pub(crate) mod interfaces;
pub(crate) mod sdk;
pub(crate) mod stop;

use std::io;
use std::path::Path;
use std::thread::JoinHandle;

/// Enough for a loop with its buffers on the heap.
pub(crate) const STACK_BYTES: usize = 256 << 10;

/// Starts a named thread.
pub(crate) fn spawn(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK_BYTES)
        .spawn(body)
}

/// Removes a socket file that nobody listens on any more, so that its path can be bound.
///
/// A file that is no socket, or a socket with a listener, is left: binding then fails and
/// says so.
pub(crate) fn remove_stale_socket(path: &Path, is_stale: impl FnOnce(&Path) -> bool) {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if is_socket && is_stale(path) {
        // If it cannot be removed, binding fails and says why.
        let _ = std::fs::remove_file(path);
    }
}
