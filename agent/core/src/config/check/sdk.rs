//! Checks of the SDK input: its socket, its bounds, and who may count for whom.

use std::path::PathBuf;

use tollgate::page::{PAGE_BYTES_MAX, PAGE_BYTES_MIN};
use toml::Spanned;

use super::{Checker, NAME_FORM};
use crate::attribute::Glob;
use crate::config::raw::{self, Text};
use crate::config::{Sdk, SdkAllow, SdkTenants};

const SOCKET: &str = "/run/tollgate-agent/sdk.sock";
const MODE: u32 = 0o660;
const PAGES: u32 = 64;
const PAGES_MAX: u32 = 1024;
const PAGE_BYTES: u64 = 16 << 20;
const PAGES_BYTES: u64 = 256 << 20;
const PAGES_BYTES_MAX: u64 = 64 << 30;
const ALLOW_MAX: usize = 1024;

impl Checker<'_> {
    pub(super) fn sdk(&mut self, raw: Spanned<raw::Sdk>) -> Option<Sdk> {
        let span = raw.span();
        let raw = raw.into_inner();
        let socket = match &raw.socket {
            Some(path) => self.socket_path(path),
            None => Some(PathBuf::from(SOCKET)),
        };
        let mode = match &raw.mode {
            Some(mode) => self.mode(mode),
            None => Some(MODE),
        };
        let pages_max = match &raw.pages_max {
            Some(pages) if !(1..=PAGES_MAX).contains(pages.get_ref()) => {
                let message = format!("{} is out of range", pages.get_ref());
                self.report(pages.span(), message, &format!("1 to {PAGES_MAX}"));
                None
            }
            Some(pages) => Some(*pages.get_ref()),
            None => Some(PAGES),
        };
        let range = PAGE_BYTES_MIN..=PAGE_BYTES_MAX;
        let page_bytes_max = self.size(raw.page_bytes_max.as_ref(), PAGE_BYTES, range);
        let range = PAGE_BYTES_MIN..=PAGES_BYTES_MAX;
        let pages_bytes_max = self.size(raw.pages_bytes_max.as_ref(), PAGES_BYTES, range);
        if raw.allow.is_empty() || raw.allow.len() > ALLOW_MAX {
            let message = format!("{} entries [[input.sdk.allow]]", raw.allow.len());
            let expected = "who may count for whom, such as uid = 1000 and tenants = [\"acme\"]";
            self.report(span, message, expected);
        }
        let allow = raw.allow.into_iter();
        let allow: Vec<_> = allow.filter_map(|allow| self.sdk_allow(allow)).collect();
        Some(Sdk {
            socket: socket?,
            mode: mode?,
            pages_max: pages_max?,
            page_bytes_max: page_bytes_max?,
            pages_bytes_max: pages_bytes_max?,
            allow,
        })
    }

    fn sdk_allow(&mut self, raw: Spanned<raw::SdkAllow>) -> Option<SdkAllow> {
        let span = raw.span();
        let raw = raw.into_inner();
        let globs = |texts: &[Text]| {
            let globs = texts.iter().map(|text| Glob::new(text.get_ref()));
            globs.collect::<Vec<_>>()
        };
        let tenants = match (&raw.tenant, raw.tenants.as_slice()) {
            (Some(tenant), []) => SdkTenants::Fixed(self.parsed(tenant, NAME_FORM)?),
            (None, patterns @ [_, ..]) => SdkTenants::Patterns(globs(patterns)),
            _ => {
                let expected = "either tenant = \"acme\", or tenants = [\"acme-*\"]";
                self.report(span, "not clear for which tenants", expected);
                return None;
            }
        };
        Some(SdkAllow {
            uid: raw.uid,
            gid: raw.gid,
            tenants,
            meters: globs(&raw.meters),
        })
    }
}
