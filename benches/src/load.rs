//! A paced DogStatsD load over UDP.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::mmsg;

/// Sockets that send in turn.
const SENDERS: usize = 8;

/// Datagrams ready to send, in turn.
pub(crate) struct Load {
    datagrams: Vec<Vec<u8>>,
    lines: Vec<u64>,
}

/// How lines are laid out.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// Different series.
    pub(crate) series: usize,
    /// Largest datagram in bytes; 1432 is what clients use on an Ethernet path. 0 puts each
    /// line into a datagram of its own.
    pub(crate) datagram_bytes: usize,
    /// DogStatsD tags on each line (0 for plain StatsD, which peers without tags understand).
    pub(crate) tags: bool,
}

impl Load {
    /// Counter lines `name:1|c`, one for each series, packed into datagrams.
    pub(crate) fn new(shape: Shape) -> Self {
        let (mut datagrams, mut lines) = (vec![Vec::new()], vec![0]);
        for index in 0..shape.series {
            let tags = if shape.tags {
                format!(
                    "|#customer:c{:03},region:r{},pop:p{:02}",
                    index % 100,
                    index % 4,
                    index / 100 % 25
                )
            } else {
                String::new()
            };
            let line = format!("http.requests.{index:06}:1|c{tags}");
            let full = datagrams.last().is_some_and(|d: &Vec<u8>| {
                !d.is_empty() && d.len() + 1 + line.len() > shape.datagram_bytes
            });
            if full {
                datagrams.push(Vec::new());
                lines.push(0);
            }
            if let (Some(datagram), Some(count)) = (datagrams.last_mut(), lines.last_mut()) {
                if !datagram.is_empty() {
                    datagram.push(b'\n');
                }
                datagram.extend_from_slice(line.as_bytes());
                *count += 1;
            }
        }
        Self { datagrams, lines }
    }

    /// Sends every datagram once, at a pace that a receiver follows while it learns them.
    pub(crate) fn teach(&self, to: SocketAddr) -> Result<()> {
        let lines: u64 = self.lines.iter().sum();
        let pace = 400_000.0;
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 lines")]
        let time = Duration::from_secs_f64(lines as f64 / pace);
        // Twice, so that one datagram that is lost does not matter.
        self.send(to, pace, time * 2).map(drop)
    }

    /// Sends at about `lines_per_second` for `time`; returns the lines sent and the time taken.
    ///
    /// From several sockets in turn, as several clients do, so that a receiver may spread them.
    /// Pacing is in slices of less than a millisecond, as bursts of a real sender are. A rate
    /// of infinity sends as fast as the sender can.
    pub(crate) fn send(
        &self,
        to: SocketAddr,
        lines_per_second: f64,
        time: Duration,
    ) -> Result<Sent> {
        let sockets: Vec<_> = (0..SENDERS)
            .map(|_| {
                let socket = UdpSocket::bind("127.0.0.1:0")?;
                socket.connect(to)?;
                std::io::Result::Ok(socket)
            })
            .collect::<Result<_, _>>()?;
        let begin = Instant::now();
        let (mut sent, mut datagrams, mut next, mut turn) = (0u64, 0u64, 0, 0);
        let mut batch: Vec<&[u8]> = Vec::with_capacity(mmsg::BATCH);
        while begin.elapsed() < time {
            let due = begin.elapsed().as_secs_f64() * lines_per_second;
            #[expect(
                clippy::cast_precision_loss,
                reason = "a run sends far fewer than 2^52 lines"
            )]
            let late = (sent as f64) < due;
            if !late {
                std::thread::sleep(Duration::from_micros(50));
                continue;
            }
            batch.clear();
            let mut index = next;
            for _ in 0..mmsg::BATCH.min(self.datagrams.len()) {
                batch.push(&self.datagrams[index]);
                index = (index + 1) % self.datagrams.len();
            }
            // A full socket buffer of the receiver drops silently; an error here means that
            // nobody listens.
            let count = mmsg::send(sockets[turn % SENDERS].as_fd(), &batch)?;
            turn += 1;
            for _ in 0..count {
                sent += self.lines[next];
                datagrams += 1;
                next = (next + 1) % self.datagrams.len();
            }
        }
        Ok(Sent {
            lines: sent,
            datagrams,
            time: begin.elapsed(),
        })
    }
}

/// What was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// Lines.
    pub(crate) lines: u64,
    /// Datagrams that held them.
    pub(crate) datagrams: u64,
    /// Time it took.
    pub(crate) time: Duration,
}
