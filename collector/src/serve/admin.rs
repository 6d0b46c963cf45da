//! The admin socket: one JSON object per line each way, on a Unix socket that only the
//! collector's own user may open.
//!
//! Requests: `{"command":"status"}`, `{"command":"period_status","tenant":null,"over":true}` and
//! `{"command":"close_period","tenant":"acme","at":"2026-06-01","author":"kim","reason":"…"}`.
//! A catalog comes with `{"command":"apply_catalog","files":{…},"author":"kim","reason":"…"}`, and what
//! waits for a second person with `{"command":"approve_catalog","digest":"…",…}`.
//! Answers: `{"ok":…}` or `{"error":"…"}`. A closing is answered when it is durable and booked, a
//! catalog when it is durable and folded.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tollgate_collector_core::catalog::CATALOG_BYTES_MAX;
use tollgate_collector_core::entry::{CHANGE_TEXT_BYTES_MAX, Digest, Manual, Signature};
use tollgate_collector_core::fold::tenant::WishedDocument;
use tollgate_common::TenantId;
use tollgate_common::limits::SOCKET_PATH_BYTES_MAX;

use crate::fold::operate::OperateRequest;
use crate::stop::stopped;

/// Longest request, in bytes: a catalog, every second character of it escaped, and a little more.
const REQUEST_BYTES_MAX: u64 = 2 * CATALOG_BYTES_MAX as u64 + (1 << 20);
/// Connections at a time.
const CONNECTIONS_MAX: usize = 16;
/// Longest wait for a request line, and for an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(30);

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "command", deny_unknown_fields)]
pub enum AdminRequest {
    /// How the collector stands.
    Status,
    /// What periods wait for.
    PeriodStatus {
        /// Only of this tenant.
        tenant: Option<TenantId>,
        /// Only periods that are over and not closed.
        over: bool,
    },
    /// Correct usage, rate periods anew, or retire an agent.
    Operate {
        /// What.
        request: OperateRequest,
        /// Who decides.
        author: String,
        /// Why.
        reason: String,
        /// False to see only what it would change.
        apply: bool,
    },
    /// Close a period now.
    ClosePeriod {
        /// Whose period.
        tenant: TenantId,
        /// An instant inside the period, see [`crate::time::parse_instant`].
        at: String,
        /// Who decides.
        author: String,
        /// Why.
        reason: String,
    },
    /// A decision about a tenant's books.
    Book {
        /// What is decided, by whom and why.
        entry: Box<Manual>,
    },
    /// Issue a document.
    Issue {
        /// To whom.
        tenant: TenantId,
        /// What.
        what: WishedDocument,
        /// Who decides.
        author: String,
        /// Why.
        reason: String,
    },
    /// The tenants for which lines wait.
    Dues,
    /// Bring the accruals up to date, as far as that takes a moment only.
    Accrue {
        /// Of this tenant, or of all.
        tenant: Option<TenantId>,
    },
    /// Open periods of a tenant as they stand.
    Accruals {
        /// Whose.
        tenant: TenantId,
    },
    /// What waits for a second person.
    Waiting,
    /// The second person agrees, or rejects.
    Decide {
        /// The number under which it waits.
        id: u64,
        /// True to agree.
        agrees: bool,
        /// Who.
        author: String,
        /// Why.
        reason: String,
    },
    /// Put a catalog in force, or propose it where a second person is needed.
    ApplyCatalog {
        /// Path below the catalog folder, with `/`, to content.
        files: BTreeMap<String, String>,
        /// For whom; left out for everybody.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenants: Option<BTreeSet<TenantId>>,
        /// Who decides.
        author: String,
        /// Why.
        reason: String,
        /// Who vouches for the files.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        signatures: Vec<Signature>,
    },
    /// Put in force what somebody else proposed.
    ApproveCatalog {
        /// The digest of the proposed catalog.
        digest: Digest,
        /// Who decides.
        author: String,
        /// Why.
        reason: String,
        /// Who vouches for the files.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        signatures: Vec<Signature>,
    },
}

impl AdminRequest {
    /// Who decides and why, where something is decided.
    fn decision(&mut self) -> Option<(&mut String, &mut String)> {
        match self {
            Self::Status
            | Self::PeriodStatus { .. }
            | Self::Dues
            | Self::Accrue { .. }
            | Self::Accruals { .. }
            | Self::Waiting => None,
            Self::Book { entry } => Some((&mut entry.note.author, &mut entry.note.reason)),
            Self::ClosePeriod { author, reason, .. }
            | Self::Operate { author, reason, .. }
            | Self::Issue { author, reason, .. }
            | Self::Decide { author, reason, .. }
            | Self::ApplyCatalog { author, reason, .. }
            | Self::ApproveCatalog { author, reason, .. } => Some((author, reason)),
        }
    }
}

/// Does what is asked for over the socket.
pub trait AdminService: Send + Sync + 'static {
    /// The answer to a request, or what is wrong with it.
    fn handle(&self, request: AdminRequest) -> impl Future<Output = Result<Value, String>> + Send;
}

/// Why the socket cannot be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The path does not fit a socket address.
    #[error(
        "admin socket path {0} is longer than {SOCKET_PATH_BYTES_MAX} bytes (set `admin_socket` to a shorter one)"
    )]
    PathTooLong(PathBuf),
    /// Something that is not a socket is in the way.
    #[error("{0} exists and is not a socket; it is left alone")]
    NotASocket(PathBuf),
    /// The system refuses.
    #[error("admin socket {path}: {source}")]
    Io {
        /// Which socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Nobody answers.
    #[error("no collector answers at {path} ({source}); is it running with this configuration?")]
    NotRunning {
        /// Which socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The collector refused the request.
    #[error("{0}")]
    Refused(String),
    /// The answer is not what this version understands.
    #[error("the collector's answer cannot be read: {0}")]
    Answer(String),
}

/// Opens the socket with mode 0600. A socket that a killed collector left behind is replaced;
/// the caller holds the lock of the data folder, so that it cannot belong to a living one.
pub fn bind(path: &Path) -> Result<UnixListener, AdminError> {
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        return Err(AdminError::PathTooLong(path.to_owned()));
    }
    let failed = |source| AdminError::Io {
        path: path.to_owned(),
        source,
    };
    match path.symlink_metadata() {
        Ok(metadata) if metadata.file_type().is_socket() => {
            std::fs::remove_file(path).map_err(failed)?;
        }
        Ok(_) => return Err(AdminError::NotASocket(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    // Between bind and chmod the socket has the mode of the umask; peers are checked by user
    // as well, so that nobody slips in.
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Answers requests until `stop` turns true.
pub async fn serve<S: AdminService>(
    listener: UnixListener,
    service: Arc<S>,
    mut stop: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = Arc::clone(&permits)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let service = Arc::clone(&service);
                tokio::spawn(async move {
                    let _permit = permit;
                    if let Err(error) = connection(stream, &*service).await {
                        tracing::debug!(%error, "admin connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an admin connection");
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }
    }
}

async fn connection<S: AdminService>(stream: UnixStream, service: &S) -> io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    if peer != 0 && peer != rustix::process::geteuid().as_raw() {
        tracing::warn!(uid = peer, "admin connection of another user refused");
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = (&mut stream).take(REQUEST_BYTES_MAX);
        if timeout(PATIENCE, bounded.read_until(b'\n', &mut line)).await?? == 0 {
            return Ok(());
        }
        let whole_line = line.last() == Some(&b'\n');
        let answer = if whole_line {
            answer(service, &line, peer).await
        } else {
            Err(format!(
                "a request is one line of at most {REQUEST_BYTES_MAX} bytes"
            ))
        };
        let mut text = match answer {
            Ok(value) => json!({ "ok": value }),
            Err(error) => json!({ "error": error }),
        }
        .to_string();
        text.push('\n');
        timeout(PATIENCE, stream.write_all(text.as_bytes())).await??;
        if !whole_line {
            return Ok(());
        }
    }
}

async fn answer<S: AdminService>(service: &S, line: &[u8], peer: u32) -> Result<Value, String> {
    let mut request: AdminRequest =
        serde_json::from_slice(line).map_err(|error| format!("request: {error}"))?;
    if let AdminRequest::Book { entry } = &mut request {
        // Who agreed is said by the second person alone.
        entry.note.approved_by = None;
    }
    if let Some((author, reason)) = request.decision() {
        for (name, text) in [("author", &*author), ("reason", &*reason)] {
            if text.trim().is_empty() || text.len() > CHANGE_TEXT_BYTES_MAX {
                return Err(format!(
                    "{name} is needed, with at most {CHANGE_TEXT_BYTES_MAX} bytes"
                ));
            }
        }
        // What the caller calls himself is a claim; the user id is a fact.
        *author = format!("{author} (uid {peer})");
    }
    service.handle(request).await
}

/// Asks the collector that runs at `path`.
pub async fn ask(path: &Path, request: &AdminRequest) -> Result<Value, AdminError> {
    let failed = |source| AdminError::Io {
        path: path.to_owned(),
        source,
    };
    let stream = UnixStream::connect(path)
        .await
        .map_err(|source| AdminError::NotRunning {
            path: path.to_owned(),
            source,
        })?;
    let mut stream = BufReader::new(stream);
    let mut line =
        serde_json::to_string(request).map_err(|error| AdminError::Answer(error.to_string()))?;
    line.push('\n');
    stream.write_all(line.as_bytes()).await.map_err(failed)?;
    line.clear();
    stream.read_line(&mut line).await.map_err(failed)?;
    let mut answer: Value =
        serde_json::from_str(&line).map_err(|error| AdminError::Answer(error.to_string()))?;
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        return Err(AdminError::Refused(error.to_owned()));
    }
    answer
        .get_mut("ok")
        .map(Value::take)
        .ok_or(AdminError::Answer(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    impl AdminService for Echo {
        async fn handle(&self, request: AdminRequest) -> Result<Value, String> {
            match request {
                AdminRequest::Status
                | AdminRequest::PeriodStatus { .. }
                | AdminRequest::Dues
                | AdminRequest::Accrue { .. }
                | AdminRequest::Accruals { .. }
                | AdminRequest::Waiting => Ok(json!({ "fine": true })),
                AdminRequest::Book { entry } => Err(format!(
                    "{} {:?}",
                    entry.note.author, entry.note.approved_by
                )),
                AdminRequest::ClosePeriod { author, .. }
                | AdminRequest::Operate { author, .. }
                | AdminRequest::Issue { author, .. }
                | AdminRequest::Decide { author, .. }
                | AdminRequest::ApplyCatalog { author, .. }
                | AdminRequest::ApproveCatalog { author, .. } => Err(author),
            }
        }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime")
    }

    #[test]
    fn answers_its_own_user_and_survives_garbage() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("admin.sock");
        runtime().block_on(async {
            let listener = bind(&path).expect("binds");
            let mode = std::fs::metadata(&path)
                .expect("exists")
                .permissions()
                .mode()
                & 0o777;
            assert_eq!(mode, 0o600);
            let (stop, stopped) = watch::channel(false);
            let server = tokio::spawn(serve(listener, Arc::new(Echo), stopped));
            assert_eq!(
                ask(&path, &AdminRequest::Status).await.expect("answers"),
                json!({ "fine": true })
            );

            let close = |reason: &str| AdminRequest::ClosePeriod {
                tenant: TenantId::new("acme").expect("valid"),
                at: "2026-06-01".to_owned(),
                author: "kim".to_owned(),
                reason: reason.to_owned(),
            };
            let error = ask(&path, &close("audit"))
                .await
                .expect_err("echoes the author");
            assert!(error.to_string().starts_with("kim (uid "), "{error}");
            let error = ask(&path, &close(" ")).await.expect_err("needs a reason");
            assert!(error.to_string().contains("reason"), "{error}");

            let book: AdminRequest = serde_json::from_value(json!({
                "command": "book",
                "entry": {
                    "tenant": "acme", "key": "1", "action": "hold",
                    "entry": { "partition": 2, "index": 17 },
                    "author": "kim", "approved_by": "lee (uid 0)", "reason": "disputed",
                },
            }))
            .expect("a request");
            let error = ask(&path, &book).await.expect_err("echoes the author");
            assert!(error.to_string().ends_with(" None"), "{error}");

            let mut garbage = UnixStream::connect(&path).await.expect("connects");
            let long = usize::try_from(REQUEST_BYTES_MAX).expect("fits");
            garbage.write_all(&vec![b'x'; long]).await.ok();
            let mut text = String::new();
            garbage.read_to_string(&mut text).await.ok();
            assert!(text.contains("one line of at most"), "{text}");
            ask(&path, &AdminRequest::Status)
                .await
                .expect("still answers");
            stop.send(true).expect("the server listens");
            server.await.expect("ends");
        });
    }

    #[test]
    fn replaces_a_stale_socket_and_nothing_else() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("admin.sock");
        runtime().block_on(async {
            drop(bind(&path).expect("binds"));
            let error = ask(&path, &AdminRequest::Status)
                .await
                .expect_err("nobody there");
            assert!(matches!(error, AdminError::NotRunning { .. }));
            drop(bind(&path).expect("replaces"));
            std::fs::remove_file(&path).expect("removes");
            std::fs::write(&path, "precious").expect("writes");
            assert!(matches!(bind(&path), Err(AdminError::NotASocket(_))));
            let long = dir.path().join("x".repeat(120));
            assert!(matches!(bind(&long), Err(AdminError::PathTooLong(_))));
        });
    }
}
