//! The slow way through a tally while somebody watches: the same counting, line by line, and
//! a word about each.
//!
//! What is shown is what happened: the reason of a rejection is read from the account that
//! the counting left behind. Tenant and dimensions are those of the rules; where a limit took
//! the dimensions afterwards, `top` shows how much that was.

use std::ops::Range;

use tollgate_common::Timestamp;

use super::dogstatsd::{Item, parse_line, split_tags};
use super::live::Seen;
use super::tally::Tally;
use super::{Listener, Sample, Source};
use crate::aggregate::{Region, Rejection};

impl<R: Region> Tally<R> {
    /// Counts datagrams and tells the observer of each line.
    #[cold]
    pub(super) fn observe_datagrams(
        &mut self,
        listener: Listener,
        buffer: &[u8],
        datagrams: impl IntoIterator<Item = Range<usize>>,
        now: Timestamp,
    ) {
        for datagram in datagrams {
            for line in buffer[datagram].split(|byte| *byte == b'\n') {
                if line.is_empty() {
                    continue;
                }
                let before = self.counting.writer.rejections();
                let whole = std::iter::once(0..line.len());
                self.count_datagrams(listener, line, whole, now);
                let rejection = self.rejected_since(&before);
                self.tell_line(listener, line, rejection);
            }
        }
    }

    fn tell_line(&self, listener: Listener, line: &[u8], rejection: Option<Rejection>) {
        let source = Source::Dogstatsd(listener);
        let nothing = Sample {
            source,
            metric: "",
            kind: None,
            tags: &[],
        };
        let Item::Metric(metric) = parse_line(line) else {
            self.tell(line, &nothing, "", rejection);
            return;
        };
        let mut tags = Vec::new();
        let tags_are_right = split_tags(metric.tag_bytes(), &mut tags).is_ok();
        match metric.name() {
            Ok(name) if tags_are_right => {
                let sample = Sample {
                    metric: name,
                    kind: Some(metric.kind()),
                    tags: &tags,
                    ..nothing
                };
                // Between the name and the type.
                let values = line.get(name.len() + 1..).unwrap_or_default();
                let values = values
                    .split(|byte| *byte == b'|')
                    .next()
                    .unwrap_or_default();
                self.tell(line, &sample, &String::from_utf8_lossy(values), rejection);
            }
            _ => self.tell(line, &nothing, "", rejection),
        }
    }

    /// Tells of one event that did not come as a line.
    #[cold]
    pub(super) fn observe_sample(
        &self,
        sample: &Sample<'_>,
        value: &str,
        rejection: Option<Rejection>,
    ) {
        let tags: Vec<String> = sample
            .tags
            .iter()
            .map(|(k, v)| format!("{k}:{v}"))
            .collect();
        let raw = format!("{} {value} {}", sample.metric, tags.join(","));
        self.tell(raw.trim_end().as_bytes(), sample, value, rejection);
    }

    fn tell(&self, raw: &[u8], sample: &Sample<'_>, values: &str, rejection: Option<Rejection>) {
        let Some(observer) = &self.counting.current.observer else {
            return;
        };
        let target = (!sample.metric.is_empty())
            .then(|| self.counting.current.attributor.attribute(sample).ok())
            .flatten();
        observer.observe(&Seen {
            source: sample.source,
            raw,
            metric: sample.metric,
            target: target.as_ref(),
            values,
            rejection,
        });
    }

    /// The first reason that has been counted since.
    fn rejected_since(&self, before: &[u64; Rejection::ALL.len()]) -> Option<Rejection> {
        let now = self.counting.writer.rejections();
        let grown = Rejection::ALL.iter().zip(before.iter().zip(&now));
        grown
            .filter(|(_, (before, now))| before != now)
            .map(|(reason, _)| *reason)
            .next()
    }
}
