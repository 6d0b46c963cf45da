//! Lines that are not remembered: read, attributed, and then remembered.

use tollgate_common::Timestamp;

use super::{Known, Lines, Refused};
use crate::aggregate::{Region, Row};
use crate::attribute::{Hit, LineKey, NO_ENTRY, SLACK_BYTES};
use crate::input::dogstatsd::plan::{How, Plan};
use crate::input::dogstatsd::ratio::SampleRate;
use crate::input::dogstatsd::{
    Malformed, Suffix, check_name, parse_suffix, split_tags, split_values,
};
use crate::input::tally::{CountError, Counting, Placed, Refusal};
use crate::input::{Sample, Source};

impl Lines {
    /// Reads and remembers a line that is not in the cache; says besides when it counts.
    pub(super) fn learn<R: Region>(
        &mut self,
        counting: &mut Counting<R>,
        now: Timestamp,
        hash: u64,
        key: &LineKey<'_>,
        values: &[u8],
    ) -> Result<(Known, Timestamp), Refused> {
        let whole_line = |malformed| Refused {
            events: 1,
            refusal: CountError::Malformed(malformed).into(),
        };
        let (name, raw) = (key.name(), key.suffix());
        check_name(name).map_err(whole_line)?;
        let suffix = parse_suffix(raw.strip_suffix(b"\r").unwrap_or(raw)).map_err(whole_line)?;
        let events = split_values(suffix.kind, values).count() as u64;
        let (known, at) = match suffix.timestamp {
            None => (self.resolve(counting, hash, key, name, &suffix), Some(now)),
            Some(seconds) => (
                self.find_untimed(counting, key, name, raw, &suffix),
                counting.within_window(seconds, now),
            ),
        };
        let known = known.map_err(|refusal| Refused { events, refusal })?;
        if at.is_none() {
            counting.writer.retimed(events);
        }
        Ok((known, at.unwrap_or(now)))
    }

    /// A line that names a time would be new every second: it is remembered without it.
    fn find_untimed<R: Region>(
        &mut self,
        counting: &mut Counting<R>,
        key: &LineKey<'_>,
        name: &[u8],
        raw: &[u8],
        suffix: &Suffix<'_>,
    ) -> Result<Known, Refusal> {
        let mut buffer = std::mem::take(&mut self.untimed);
        buffer.clear();
        buffer.extend_from_slice(name);
        for (at, field) in raw.split(|b| *b == b'|').enumerate() {
            if at > 0 && field.starts_with(b"T") {
                continue;
            }
            if at > 0 {
                buffer.push(b'|');
            }
            buffer.extend_from_slice(field);
        }
        let suffix_len = buffer.len() - name.len();
        let suffix_len = u32::try_from(suffix_len).expect("shorter than the line");
        buffer.extend_from_slice(&[0; SLACK_BYTES]);
        let key = LineKey {
            buffer: &buffer,
            listener: key.listener,
            name_at: 0,
            name_len: key.name_len,
            suffix_at: key.name_len,
            suffix_len,
        };
        let hash = self.cache.hash(&key);
        let known = match self.known(hash, &key) {
            Some(known) => Ok(known),
            None => self.resolve(counting, hash, &key, name, suffix),
        };
        self.untimed = buffer;
        known
    }

    /// Attributes a line and remembers the answer, unless it may be another one soon.
    fn resolve<R: Region>(
        &mut self,
        counting: &mut Counting<R>,
        hash: u64,
        key: &LineKey<'_>,
        name: &[u8],
        suffix: &Suffix<'_>,
    ) -> Result<Known, Refusal> {
        let mut tags = Vec::new();
        let name = std::str::from_utf8(name).map_err(|_| CountError::Malformed(Malformed::Utf8))?;
        split_tags(suffix.tags, &mut tags).map_err(CountError::Malformed)?;
        let placed = counting.place(&Sample {
            source: Source::Dogstatsd(key.listener),
            metric: name,
            kind: Some(suffix.kind),
            tags: &tags,
        });
        let (payload, row, how) = match placed {
            Ok(Placed {
                slot,
                row,
                target,
                overflow,
            }) => (
                slot.to_bits(),
                row,
                How::Count {
                    aggregation: target.aggregation,
                    scale: target.scale,
                    inexact: target.inexact,
                    divisor: target.millis_divisor,
                    rate: suffix.rate,
                    overflow,
                },
            ),
            // No rule will say otherwise until the configuration changes.
            Err(refusal) if matches!(refusal.error, CountError::Attribute(_)) => {
                let reason = refusal.error.rejection();
                (0, Row::NONE, How::Refuse(reason))
            }
            Err(refusal) => return Err(refusal),
        };
        let plan = Plan::new(suffix.kind, how);
        let mut known = Known {
            payload,
            plan,
            row,
            entry: NO_ENTRY,
        };
        if let Some(number) = self.plans.number(&plan) {
            let hit = Hit {
                payload,
                plan: number,
                row: row.number(),
            };
            let carry = plan.fraction().map(SampleRate::carry);
            known.entry = self.cache.insert(hash, key, hit, carry);
        }
        Ok(known)
    }
}
