//! Settings of the process, and what can be asked about it.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::process;

/// The variable of the environment that names the agent's socket.
const SOCKET_VARIABLE: &str = "TOLLGATE_SOCKET";
const SOCKET: &str = "/run/tollgate-agent/sdk.sock";
/// Bytes of a page. The memory file is sparse: what is not used takes no memory.
const PAGE_BYTES: u64 = 8 << 20;

static INSTALLED: OnceLock<Options> = OnceLock::new();

/// Settings of the process. They hold from the first count on; [`Options::install`] before it
/// changes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub(crate) socket: PathBuf,
    pub(crate) page_bytes: u64,
    pub(crate) thread: bool,
}

/// The settings hold already: something was counted, or they were installed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("options are in use already; install them before the first count")]
pub struct AlreadyStarted;

impl Default for Options {
    fn default() -> Self {
        let socket = std::env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty());
        Self {
            socket: socket.map_or_else(|| PathBuf::from(SOCKET), PathBuf::from),
            page_bytes: PAGE_BYTES,
            thread: true,
        }
    }
}

impl Options {
    /// The agent's socket. Default: what the environment variable `TOLLGATE_SOCKET` says, or
    /// `/run/tollgate-agent/sdk.sock`.
    #[must_use]
    pub fn socket(self, socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            ..self
        }
    }

    /// Size of the page, 64 KiB to 1 GiB. Default: 8 MiB, enough for some 100,000 counters.
    #[must_use]
    pub fn page_bytes(self, page_bytes: u64) -> Self {
        Self { page_bytes, ..self }
    }

    /// No thread in the background: the process calls
    /// [`poll_connection`](crate::poll_connection) now and then.
    #[must_use]
    pub fn without_thread(self) -> Self {
        Self {
            thread: false,
            ..self
        }
    }

    /// Makes these the settings of the process.
    pub fn install(self) -> Result<(), AlreadyStarted> {
        INSTALLED.set(self).map_err(|_| AlreadyStarted)
    }

    pub(crate) fn installed() -> Self {
        INSTALLED.get_or_init(Self::default).clone()
    }
}

/// Events of this process that were not counted: without room, too large, or with names that
/// no series can have. The agent sees those of the page, too.
pub fn dropped() -> u64 {
    process::dropped_total()
}

/// Waits until an agent has the page, from when on the end of this process loses nothing; for
/// programs that count and end at once. False if none has it within `patience`.
pub fn wait_until_handed_over(patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    let thread = Options::installed().thread;
    loop {
        let handed_over = if thread {
            process::current().is_some_and(process::Page::is_handed_over)
        } else {
            crate::poll_connection()
        };
        if handed_over || Instant::now() >= deadline {
            return handed_over;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
