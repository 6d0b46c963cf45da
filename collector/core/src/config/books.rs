//! `[[issuer]]` and `[approval]`: who issues documents, and what two persons decide.

use std::collections::BTreeSet;

use serde::Deserialize;
use toml::Spanned;

use super::raw::Check;
use crate::entry::{NUMBER_DIGITS_MAX, NUMBER_PREFIX_BYTES_MAX};
use crate::fold::tenant::{Issuer, NegativePolicy, ZeroPolicy};
use crate::policy::Pattern;

/// Longest name of an issuer, in bytes.
const ISSUER_BYTES_MAX: usize = 64;

/// An issuer with the tenants that it bills.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerRule {
    /// The issuer.
    pub issuer: Issuer,
    /// The tenants; the first issuer that matches bills a tenant.
    pub tenants: Vec<Pattern>,
}

/// What needs a second person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the configuration"
)]
pub struct Approval {
    /// Closing a period by hand.
    pub close: bool,
    /// One-off lines, credits, holds and releases.
    pub manual: bool,
    /// Issuing and voiding documents.
    pub issue: bool,
    /// Corrections of usage, releases, ratings anew, retiring agents.
    pub corrections: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawIssuer {
    id: Spanned<String>,
    tenants: Option<Spanned<Vec<Spanned<String>>>>,
    prefix: Option<Spanned<String>>,
    digits: Option<Spanned<i64>>,
    first: Option<Spanned<i64>>,
    terms: Option<Spanned<String>>,
    zero: Option<ZeroPolicy>,
    negative: Option<NegativePolicy>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the configuration"
)]
pub(super) struct RawApproval {
    #[serde(default)]
    close: bool,
    #[serde(default)]
    manual: bool,
    #[serde(default)]
    issue: bool,
    #[serde(default)]
    corrections: bool,
}

impl From<RawApproval> for Approval {
    fn from(raw: RawApproval) -> Self {
        Self {
            close: raw.close,
            manual: raw.manual,
            issue: raw.issue,
            corrections: raw.corrections,
        }
    }
}

/// The issuers without mistakes; those of the others are reported.
pub(super) fn issuers(check: &mut Check<'_>, raw: &[RawIssuer]) -> Vec<IssuerRule> {
    let mut ids = BTreeSet::new();
    raw.iter()
        .filter_map(|raw| {
            let rule = issuer(check, raw);
            if !ids.insert(raw.id.get_ref()) {
                let message = format!("a second issuer `{}`", raw.id.get_ref());
                check.report(raw.id.span(), message);
            }
            rule
        })
        .collect()
}

fn issuer(check: &mut Check<'_>, raw: &RawIssuer) -> Option<IssuerRule> {
    let id = raw.id.get_ref();
    let sound = !id.is_empty()
        && id.len() <= ISSUER_BYTES_MAX
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if !sound {
        let message = format!(
            "{id:?} is no issuer (expected 1 to {ISSUER_BYTES_MAX} letters, digits, `-`, `_` or `.`)"
        );
        check.report(raw.id.span(), message);
    }
    let prefix = raw.prefix.as_ref().map_or("", |prefix| prefix.get_ref());
    if prefix.len() > NUMBER_PREFIX_BYTES_MAX || prefix.chars().any(char::is_control) {
        let message = format!("the prefix has at most {NUMBER_PREFIX_BYTES_MAX} bytes");
        check.report(raw.prefix.as_ref().map_or(0..0, Spanned::span), message);
    }
    let digits = check.number(raw.digits.as_ref(), 6, 1..=i64::from(NUMBER_DIGITS_MAX));
    let first = check.number(raw.first.as_ref(), 1, 0..=999_999_999_999);
    let terms = check.millis(raw.terms.as_ref(), 14 * DAY_MILLIS);
    if terms.is_some_and(|terms| terms % DAY_MILLIS != 0) {
        let span = raw.terms.as_ref().map_or(0..0, Spanned::span);
        check.report(span, "terms are whole days (expected for example \"14d\")");
    }
    let tenants = match &raw.tenants {
        Some(tenants) => check.patterns(tenants),
        None => check
            .pattern(&Spanned::new(0..0, "*".to_owned()))
            .map(|all| vec![all]),
    };
    Some(IssuerRule {
        issuer: Issuer {
            id: id.clone(),
            prefix: prefix.to_owned(),
            digits: u8::try_from(digits?).unwrap_or(NUMBER_DIGITS_MAX),
            first: u64::try_from(first?).unwrap_or(1),
            terms_days: u32::try_from(terms? / DAY_MILLIS).unwrap_or(0),
            zero: raw.zero.unwrap_or_default(),
            negative: raw.negative.unwrap_or_default(),
        },
        tenants: tenants?,
    })
}

const DAY_MILLIS: i64 = 86_400_000;
