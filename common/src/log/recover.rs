//! Finds out what of a segment is committed, from its entries alone.

use std::io;

use super::LogPosition;
use super::entry::{EntryHeader, EntryKind, group_check};
use super::item::{Damage, DamageReason, OpenReport};
use super::scan::{CHUNK_BYTES, Payload, Scanner, Step, Want, judge_gap};
use crate::storage::StorageFile;

/// Which bytes of a segment count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// All: a later segment exists.
    Closed {
        /// Number of the first record of the next segment, if known.
        number_next: Option<u64>,
    },
    /// The newest segment of its owner: proven groups, and the last one if it is complete.
    Owner,
    /// The newest segment of a reader: proven groups only.
    Reader,
}

/// What was found in a segment.
#[derive(Debug)]
pub(super) struct Found {
    /// Everything before was synced before something behind it was written.
    pub(super) proven: u32,
    /// Everything before counts.
    pub(super) committed: u32,
    /// The same, with the witness that directly follows, if one does.
    pub(super) end: u32,
    /// A valid entry header was found.
    pub(super) any_entry: bool,
    /// A record that counts was found, or may have been lost.
    pub(super) holds_records: bool,
    /// Number of the record after `committed`, if known.
    pub(super) number_next: Option<u64>,
}

/// Where scanning starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct From {
    pub(super) segment: u64,
    /// An entry starts here, the first of its group.
    pub(super) offset: u32,
    /// Number of the next record, if known.
    pub(super) number: Option<u64>,
}

/// Records and damage that count, or do not count yet.
#[derive(Debug, Default)]
struct Section {
    records: u64,
    damage: Vec<Damage>,
    damage_count: u64,
}

impl Section {
    fn add(&mut self, damage: Damage) {
        self.damage_count += 1;
        if self.damage.len() < OpenReport::DAMAGE_MAX {
            self.damage.push(damage);
        }
    }
}

struct Walk<'a> {
    segment: u64,
    extent: Extent,
    report: &'a mut OpenReport,
    /// Entries of the present group; those before are in the report.
    pending: Section,
    group_start: u32,
    /// Every byte from the start of the group to here belongs to a valid entry of it.
    whole: bool,
    /// Records of the group so far, those before its early marks included.
    count: u32,
    check: u32,
    /// Number that the next record should have.
    number: Option<u64>,
    gap: Option<(u32, u32)>,
    /// End of the last entry.
    entry_end: u32,
    /// The part before the present group of damage that reaches into it: what counts of the
    /// damage if the group does not.
    straddling: Option<Damage>,
    found: Found,
}

/// Scans a segment's file from `from` to `end`; adds what counts to the report, and of what
/// does not count the number of valid records.
pub(super) fn walk<F: StorageFile>(
    file: &F,
    from: From,
    end: u32,
    extent: Extent,
    report: &mut OpenReport,
) -> io::Result<Found> {
    let mut walk = Walk {
        segment: from.segment,
        extent,
        report,
        pending: Section::default(),
        group_start: from.offset,
        whole: true,
        count: 0,
        check: 0,
        number: from.number,
        gap: None,
        entry_end: from.offset,
        straddling: None,
        found: Found {
            proven: from.offset,
            committed: from.offset,
            end: from.offset,
            any_entry: false,
            holds_records: false,
            number_next: from.number,
        },
    };
    let mut scanner = Scanner::new(file, from.segment, end, CHUNK_BYTES);
    let mut offset = from.offset;
    loop {
        match scanner.step(offset, |_| Want::Verify)? {
            Step::Entry {
                offset: at,
                header,
                payload,
                next,
            } => {
                walk.entry(at, &header, &payload, next);
                offset = next;
            }
            Step::Gap { from, to } => {
                walk.whole = false;
                walk.gap = Some((from, to));
                offset = to;
            }
            Step::End => break,
        }
    }
    Ok(walk.finish(scanner.end()))
}

impl Walk<'_> {
    fn place(&self, from: u32, to: u32, reason: DamageReason, records: Option<u64>) -> Damage {
        Damage {
            position: LogPosition::new(self.segment, from),
            next: LogPosition::new(self.segment, to),
            reason,
            records,
        }
    }

    fn entry(&mut self, offset: u32, header: &EntryHeader, payload: &Payload, next: u32) {
        self.found.any_entry = true;
        // A group that starts within an entry that was seen was not written by this program.
        if header.group > self.found.proven && header.group >= self.entry_end {
            self.prove(offset, header);
        }
        self.entry_end = next;
        self.close_gap(Some(header.number));
        self.whole &= header.group == self.group_start;
        self.number = Some(header.number_next());
        match (header.kind, payload) {
            (EntryKind::Record { .. }, Payload::Damaged) => {
                self.whole = false;
                let damage = self.place(offset, next, DamageReason::Payload, Some(1));
                self.pending.add(damage);
            }
            (EntryKind::Record { .. }, _) => {
                self.count = self.count.wrapping_add(1);
                self.check = group_check(self.check, header.crc);
                self.pending.records += 1;
            }
            (EntryKind::Mark { count: 0, check: 0 }, _) if header.group == offset => {
                // The witness of the group before. Its own group goes on.
                if offset == self.found.committed {
                    self.found.end = next;
                }
            }
            (EntryKind::Mark { count, check }, _) => {
                let complete = self.whole && count == self.count && check == self.check;
                if complete && self.extent != Extent::Reader {
                    self.settle();
                    self.found.committed = next;
                    self.found.end = next;
                    self.found.number_next = self.number;
                }
                // The group may go on behind an early mark. If it does not, the next entry names
                // another group, and that proves this one.
            }
        }
    }

    fn start_group(&mut self, start: u32, whole: bool) {
        self.group_start = start;
        self.whole = whole;
        self.count = 0;
        self.check = 0;
    }

    /// The first entry seen of a group is the witness for all groups before, whether their
    /// marks were seen or not.
    fn prove(&mut self, offset: u32, header: &EntryHeader) {
        let start = header.group;
        let mut number = (offset == start).then_some(header.number).or(self.number);
        let mut straddling = None;
        match self.gap {
            Some((from, to)) if from < start && start < to => {
                number = None;
                let (reason, records) = judge_gap(start - from, None, None);
                straddling = Some(self.place(from, start, reason, records));
            }
            Some((_, to)) if to <= start => self.close_gap(number),
            _ => {}
        }
        self.settle();
        self.straddling = straddling;
        if start != self.group_start {
            self.start_group(start, offset == start);
        }
        self.found.proven = start;
        if self.found.committed < start {
            self.found.committed = start;
            self.found.end = start;
        }
        self.found.number_next = number;
    }

    /// Turns the bytes before a valid entry, or before the end, into damage.
    fn close_gap(&mut self, after: Option<u64>) {
        if let Some((from, to)) = self.gap.take() {
            let (reason, records) = judge_gap(to - from, self.number, after);
            let damage = self.place(from, to, reason, records);
            self.pending.add(damage);
        }
    }

    /// The entries so far count.
    fn settle(&mut self) {
        self.straddling = None;
        let section = std::mem::take(&mut self.pending);
        self.report.records += section.records;
        self.report.damage_count += section.damage_count - section.damage.len() as u64;
        let loses = |damage: &Damage| damage.reason.loses_records();
        self.found.holds_records |= section.records > 0 || section.damage.iter().any(loses);
        for damage in section.damage {
            self.report.add_damage(damage);
        }
    }

    fn finish(mut self, end: u32) -> Found {
        match self.extent {
            Extent::Closed { number_next } => {
                self.close_gap(number_next);
                self.settle();
                self.found.committed = end;
                self.found.end = end;
                self.found.proven = end;
                self.found.number_next = number_next.or(self.number);
            }
            Extent::Reader => {
                debug_assert_eq!(self.found.committed, self.found.proven);
            }
            Extent::Owner => {}
        }
        if let Some(damage) = self.straddling.take() {
            self.found.holds_records |= damage.reason.loses_records();
            self.report.add_damage(damage);
        }
        self.report.cut_records += self.pending.records;
        self.report.cut_bytes += u64::from(end.saturating_sub(self.found.end));
        self.found
    }
}
