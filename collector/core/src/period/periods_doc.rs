//! Checks every example of `docs/periods.md`.

use chrono::NaiveDateTime;
use tollgate_common::Timestamp;

use super::{Calendar, Calendars, Period, Proration, Zone};

const DOCUMENT: &str = include_str!("../../../../docs/periods.md");

/// The examples of a language, split at their arrow.
pub(crate) fn examples(language: &str) -> Vec<(&'static str, &'static str)> {
    let fence = format!("\n```{language}\n");
    let (_, rest) = DOCUMENT.split_once(&fence).expect("the block is there");
    let (block, _) = rest.split_once("\n```").expect("the block ends");
    let split = |line: &'static str| line.split_once(" => ").expect("an example has an arrow");
    block.lines().map(split).collect()
}

/// `zone length anchor`, where `-` or nothing is no anchor.
fn calendar(text: &str) -> Calendar {
    let mut words = text.split(' ');
    let mut word = || words.next();
    let zone = word().expect("a zone").parse().expect("known");
    let every = word().expect("a length").parse().expect("supported");
    let anchor = word().filter(|anchor| *anchor != "-");
    let anchor = anchor.map(|anchor| anchor.parse().expect("supported"));
    Calendar::anchored(zone, every, anchor).expect("anchored where that is needed")
}

/// RFC 3339, or a local day or time in `zone`.
fn instant(zone: Zone, text: &str) -> Timestamp {
    if let Ok(instant) = chrono::DateTime::parse_from_rfc3339(text) {
        return Timestamp::from_millis(instant.timestamp_millis());
    }
    match NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M") {
        Ok(local) => zone.first_shown(local),
        Err(_) => zone.start_of_day(text.parse().expect("a day")),
    }
}

#[test]
fn periods_begin_as_documented() {
    for (question, expected) in examples("starts") {
        let (words, from) = question.split_once(", ").expect("a beginning");
        let calendar = calendar(words);
        let mut period = calendar.period_containing(instant(calendar.zone, from));
        let mut starts = Vec::new();
        for _ in 0..5 {
            starts.push(calendar.zone.date_at(period.start).to_string());
            period = calendar.period_containing(period.end);
        }
        assert_eq!(starts.join(" "), expected, "{question}");
    }
    for (question, expected) in examples("period") {
        let (words, at) = question.split_once(", ").expect("an instant");
        let calendar = calendar(words);
        let period = calendar.period_containing(instant(calendar.zone, at));
        assert_eq!(period.to_string(), expected, "{question}");
    }
}

#[test]
fn changes_of_the_calendar_are_as_documented() {
    for (question, expected) in examples("change") {
        let (before, rest) = question.split_once(", then ").expect("a change");
        let (after, at) = rest.split_once("; changed at ").expect("a time");
        let mut calendars = Calendars::new(calendar(before));
        let at = instant(Zone::UTC, at);
        let open = calendars.period_containing(at);
        calendars.change(at, calendar(after));
        let first = calendars.period_containing(open.end);
        for by in [Proration::Duration, Proration::Days] {
            let share = calendars.share_of_whole(first, by);
            assert_eq!(format!("{first}, {share}"), expected, "{question}");
        }
    }
}

#[test]
fn shares_are_as_documented() {
    for (question, expected) in examples("share") {
        let (words, part) = question.split_once(": ").expect("a part");
        let (words, inside) = words.rsplit_once(' ').expect("an instant");
        let (from, to) = part.split_once(", ").expect("from and to");
        let calendar = calendar(words);
        let at = |text| instant(calendar.zone, text);
        let part = Period {
            start: at(from),
            end: at(to),
        };
        let period = calendar.period_containing(at(inside));
        let share = |by| period.fraction(part, by, calendar.zone).to_string();
        let shares = format!("{}, {}", share(Proration::Duration), share(Proration::Days));
        assert_eq!(shares, expected, "{question}");
    }
}
