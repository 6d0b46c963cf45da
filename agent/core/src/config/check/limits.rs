//! Checks of the bounds of the cells.

use std::ops::RangeInclusive;
use std::time::Duration;

use tollgate_common::limits::{DIMENSIONS_MAX, SERIES_KEY_BYTES_MAX};
use toml::Spanned;

use super::Checker;
use crate::aggregate::WIDE_BYTES_MAX;
use crate::config::raw;
use crate::config::{Limits, SERIES_MAX};

const SERIES: u32 = 65_536;
const IDLE: Duration = Duration::from_hours(1);
/// Where idle series are to keep their room.
const NEVER: &str = "never";
/// With less a tenant and a meter of usual length leave no room for dimensions.
const KEY_BYTES_MIN: u64 = 32;
const WIDE_BYTES_MIN: u64 = 64 << 10;

fn narrow(limit: usize) -> u32 {
    u32::try_from(limit).expect("limits of the vocabulary are small")
}

impl Checker<'_> {
    pub(super) fn limits(&mut self, raw: &raw::Limits) -> Option<Limits> {
        let (key_bytes_max, dimensions) = (SERIES_KEY_BYTES_MAX as u64, narrow(DIMENSIONS_MAX));
        let series_max = self.number(raw.series_max.as_ref(), SERIES, 1..=SERIES_MAX);
        let per_tenant = raw.series_per_tenant.as_ref();
        let per_tenant = per_tenant.map(|limit| self.number(Some(limit), SERIES, 1..=SERIES_MAX));
        let key_range = KEY_BYTES_MIN..=key_bytes_max;
        let key_bytes = self.size(raw.key_bytes.as_ref(), key_bytes_max, key_range);
        let dimensions_max = self.number(raw.dimensions_max.as_ref(), dimensions, 0..=dimensions);
        let idle_range = Duration::from_secs(1)..=Duration::from_hours(24 * 366);
        let idle_series = match &raw.idle_series {
            Some(text) if text.get_ref() == NEVER => Some(None),
            text => self.duration(text.as_ref(), IDLE, idle_range).map(Some),
        };
        let wide_range = WIDE_BYTES_MIN..=WIDE_BYTES_MAX;
        let wide_bytes = raw.wide_bytes.as_ref();
        let wide_bytes = wide_bytes.map(|text| self.size(Some(text), 0, wide_range));
        Some(Limits {
            series_max: series_max?,
            series_per_tenant: match per_tenant {
                Some(limit) => Some(limit?),
                None => None,
            },
            key_bytes: u32::try_from(key_bytes?).expect("within its range"),
            dimensions_max: dimensions_max?,
            idle_series: idle_series?,
            wide_bytes: match wide_bytes {
                Some(bytes) => Some(bytes?),
                None => None,
            },
        })
    }

    fn number(
        &mut self,
        given: Option<&Spanned<u32>>,
        default: u32,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        let Some(given) = given else {
            return Some(default);
        };
        let (value, min, max) = (*given.get_ref(), range.start(), range.end());
        if !range.contains(&value) {
            let message = format!("{value} is out of range");
            self.report(given.span(), message, &format!("{min} to {max}"));
            return None;
        }
        Some(value)
    }
}
