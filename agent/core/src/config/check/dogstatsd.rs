//! The DogStatsD sockets.

use std::net::SocketAddr;
use std::path::PathBuf;

use toml::Spanned;

use super::super::raw::{self, Text};
use super::super::{Dogstatsd, UDP_SOCKETS_MAX};
use super::Checker;
use crate::attribute::{CACHE_BYTES_MAX, CACHE_BYTES_MIN};

const RECEIVE_BUFFER: u64 = 8 << 20;
/// A hundred thousand lines of 60 bytes, and some.
const CACHE: u64 = 16 << 20;
/// The owner and the group.
const UNIX_MODE: u32 = 0o660;

impl Checker<'_> {
    pub(super) fn dogstatsd(&mut self, raw: Spanned<raw::Dogstatsd>) -> Option<Dogstatsd> {
        let span = raw.span();
        let raw = raw.into_inner();
        if raw.udp.is_none() && raw.unix.is_none() && raw.unix_stream.is_none() {
            self.report(span, "no listener", "`udp`, `unix` or `unix_stream`");
        }
        let remote = raw.allow_remote;
        let udp = raw.udp.as_ref().map(|udp| self.udp(udp, remote));
        let unix = raw.unix.as_ref().map(|unix| self.socket_path(unix));
        let stream = raw.unix_stream.as_ref();
        let unix_stream = stream.map(|stream| self.unix_stream(stream, raw.unix.as_ref()));
        let udp_sockets = self.udp_sockets(raw.udp_sockets.as_ref(), raw.udp.is_some());
        let unix_mode = raw
            .unix_mode
            .as_ref()
            .map_or(Some(UNIX_MODE), |mode| self.mode(mode));
        let cache = self.size(
            raw.cache.as_ref(),
            CACHE,
            CACHE_BYTES_MIN as u64..=CACHE_BYTES_MAX as u64,
        );
        let buffer = self.size(
            raw.receive_buffer.as_ref(),
            RECEIVE_BUFFER,
            (64 << 10)..=(1 << 30),
        )?;
        Some(Dogstatsd {
            udp: match udp {
                Some(udp) => Some(udp?),
                None => None,
            },
            unix: match unix {
                Some(unix) => Some(unix?),
                None => None,
            },
            unix_stream: match unix_stream {
                Some(stream) => Some(stream?),
                None => None,
            },
            udp_sockets: udp_sockets?,
            unix_mode: unix_mode?,
            receive_buffer: u32::try_from(buffer).unwrap_or(u32::MAX),
            cache_bytes: usize::try_from(cache?).unwrap_or(usize::MAX),
        })
    }

    /// Every socket has a thread and its own cells, so there is a bound.
    fn udp_sockets(&mut self, raw: Option<&Spanned<u16>>, udp: bool) -> Option<u16> {
        let Some(raw) = raw else {
            return Some(1);
        };
        let sockets = *raw.get_ref();
        if !udp {
            self.report(
                raw.span(),
                "there is no UDP listener",
                "`udp`, or no `udp_sockets`",
            );
            return None;
        }
        if sockets == 0 || sockets > UDP_SOCKETS_MAX {
            self.report(
                raw.span(),
                format!("{sockets} sockets"),
                &format!("1 to {UDP_SOCKETS_MAX}, at most one for each processor"),
            );
            return None;
        }
        Some(sockets)
    }

    fn unix_stream(&mut self, text: &Text, datagram: Option<&Text>) -> Option<PathBuf> {
        if datagram.is_some_and(|datagram| datagram.get_ref() == text.get_ref()) {
            self.report(
                text.span(),
                "the datagram socket has this path",
                "another path than that of `unix`",
            );
            return None;
        }
        self.socket_path(text)
    }

    /// Permissions in octal, as `chmod` takes them.
    pub(super) fn mode(&mut self, text: &Text) -> Option<u32> {
        let mode = u32::from_str_radix(text.get_ref(), 8).ok();
        let mode = mode.filter(|mode| *mode <= 0o777 && mode & 0o200 != 0);
        if mode.is_none() {
            self.report(
                text.span(),
                "not permissions of a socket",
                "three octal digits with which the owner may write, such as \"0660\"",
            );
        }
        mode
    }

    /// DogStatsD has neither encryption nor authentication: whoever reaches the socket
    /// writes bills. So it stays on the host unless the configuration says otherwise.
    fn udp(&mut self, text: &Text, allow_remote: bool) -> Option<SocketAddr> {
        let address: SocketAddr = self.parsed(text, "an address such as \"127.0.0.1:8125\"")?;
        if !allow_remote && !address.ip().is_loopback() {
            self.report(
                text.span(),
                format!("{} is not a loopback address", address.ip()),
                "127.0.0.1 or [::1], because DogStatsD is not authenticated; or \
                 `allow_remote = true` where the network keeps strangers out",
            );
            return None;
        }
        Some(address)
    }
}
