//! Metrics and health over HTTP/1.1: three pages, GET only.
//!
//! Written by hand, because three fixed paths without bodies need neither a router nor a
//! protocol library (hyper and axum add about a megabyte to the program). The rules that make
//! it safe are few: a request head of bounded size, within a bounded time, on a bounded number
//! of connections; one answer; `Connection: close`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use crate::desk::Desk;

/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// How long a connection may take, from its first byte to its last.
const DEADLINE: Duration = Duration::from_secs(10);
/// Most connections at a time; others wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 8;
/// After an error that will not go away at once, such as too many open files.
const PAUSE: Duration = Duration::from_millis(200);
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Serves until it is dropped.
#[derive(Debug)]
pub(crate) struct MetricsServer(JoinHandle<()>);

impl MetricsServer {
    /// Opens the port and begins to serve.
    pub(crate) async fn bind(listen: SocketAddr, desk: &Desk) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        info!(address = %listen, "serving /metrics, /livez and /readyz");
        Ok(Self(tokio::spawn(serve(listener, desk.clone()))))
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn serve(listener: TcpListener, desk: Desk) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Taken before a connection is: what has none waits in the kernel.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "cannot accept a connection for metrics");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let desk = desk.clone();
        tokio::spawn(async move {
            let served = tokio::time::timeout(DEADLINE, connection(stream, &desk)).await;
            if let Ok(Err(error)) = served {
                debug!(%error, "metrics connection ended");
            }
            drop(slot);
        });
    }
}

async fn connection(mut stream: TcpStream, desk: &Desk) -> io::Result<()> {
    let mut head = Vec::with_capacity(512);
    let request = loop {
        if let Some(end) = head_end(&head) {
            break parse(&head[..end]);
        }
        if head.len() >= HEAD_BYTES_MAX {
            break Err(Answer::text(431, "request head is too long\n"));
        }
        let room = HEAD_BYTES_MAX - head.len();
        if (&mut stream).take(room as u64).read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    };
    let (head_only, answer) = match request {
        Ok(Request { path, head_only }) => (head_only, page(&path, desk).await),
        Err(answer) => (false, answer),
    };
    stream
        .write_all(answer.render(head_only).as_bytes())
        .await?;
    stream.shutdown().await
}

/// Where the head ends, if it is whole. Some clients end lines with a bare newline.
fn head_end(bytes: &[u8]) -> Option<usize> {
    let crlf = bytes.windows(4).position(|w| w == b"\r\n\r\n");
    let bare = bytes.windows(2).position(|w| w == b"\n\n");
    crlf.into_iter().chain(bare).min()
}

#[derive(Debug, PartialEq, Eq)]
struct Request {
    path: String,
    head_only: bool,
}

fn parse(head: &[u8]) -> Result<Request, Answer> {
    let malformed = || Answer::text(400, "not an HTTP/1 request\n");
    let line = head.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| malformed())?;
    let mut words = line.trim_end_matches('\r').split(' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let (Some(method), Some(target), Some(version), None) = (method, target, version, words.next())
    else {
        return Err(malformed());
    };
    if !version.starts_with("HTTP/1.") {
        return Err(malformed());
    }
    let head_only = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Err(Answer::text(405, "only GET and HEAD are served\n")),
    };
    let path = target.split('?').next().unwrap_or(target).to_owned();
    Ok(Request { path, head_only })
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    kind: &'static str,
    body: String,
}

impl Answer {
    fn text(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            kind: TEXT,
            body: body.into(),
        }
    }

    fn render(&self, head_only: bool) -> String {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            431 => "Request Header Fields Too Large",
            _ => "Service Unavailable",
        };
        let allow = if self.status == 405 {
            "Allow: GET, HEAD\r\n"
        } else {
            ""
        };
        let mut text = format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{allow}\
             Cache-Control: no-store\r\nConnection: close\r\n\r\n",
            self.status,
            self.kind,
            self.body.len()
        );
        if !head_only {
            text.push_str(&self.body);
        }
        text
    }
}

async fn page(path: &str, desk: &Desk) -> Answer {
    match path {
        "/metrics" => match desk.report_async().await {
            Some(report) => Answer {
                status: 200,
                kind: OPENMETRICS,
                body: super::encode(&report),
            },
            None => Answer::text(503, "the engine does not answer\n"),
        },
        // Alive: no restart would help.
        "/livez" => match desk.stuck() {
            stuck if stuck.is_empty() => Answer::text(200, "ok\n"),
            stuck => Answer::text(503, format!("no sign of life: {}\n", stuck.join(", "))),
        },
        // Ready: counts sent now are taken. A collector is not needed for that.
        "/readyz" if desk.is_stopping() => Answer::text(503, "stopping\n"),
        "/readyz" => match (desk.stuck(), desk.is_closed().await) {
            (stuck, Some(false)) if stuck.is_empty() => Answer::text(200, "ok\n"),
            _ => Answer::text(503, "the engine does not answer\n"),
        },
        _ => Answer::text(404, "there are /metrics, /livez and /readyz\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_strictly() {
        let good = parse(b"GET /metrics?x=1 HTTP/1.1\r\nHost: a").expect("a request");
        assert_eq!((good.path.as_str(), good.head_only), ("/metrics", false));
        assert!(parse(b"HEAD /livez HTTP/1.0").expect("a request").head_only);
        let status = |head: &[u8]| parse(head).expect_err("refused").status;
        assert_eq!(status(b"POST /metrics HTTP/1.1"), 405);
        for bad in [
            &b""[..],
            b"GET",
            b"GET  /metrics HTTP/1.1",
            b"GET /metrics",
            b"GET /metrics HTTP/2",
            b"GET /metrics HTTP/1.1 x",
            b"\xff\xfe / HTTP/1.1",
            b"\x16\x03\x01\x02\x00",
        ] {
            assert_eq!(status(bad), 400, "{bad:?}");
        }
    }

    #[test]
    fn heads_end_at_an_empty_line() {
        assert_eq!(head_end(b"GET / HTTP/1.1\r\nA: b\r\n\r\nrest"), Some(20));
        assert_eq!(head_end(b"GET / HTTP/1.1\n\n"), Some(14));
        assert_eq!(head_end(b"GET / HTTP/1.1\r\n"), None);
    }

    #[test]
    fn a_head_request_has_no_body_but_its_length() {
        let answer = Answer::text(200, "ok\n");
        assert!(answer.render(false).ends_with("\r\n\r\nok\n"));
        let head = answer.render(true);
        assert!(head.ends_with("\r\n\r\n") && head.contains("Content-Length: 3"));
    }
}
