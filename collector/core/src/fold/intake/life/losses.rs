//! What of a life is lost: declared, remembered, taken back, priced, given up.

use tollgate_common::{LossReason, Timestamp};

use super::{
    Context, LOST_RANGES_MAX, Life, LostRange, Origin, Outbox, REMEMBERED_MAX, Testimony, unknown,
};

impl Life {
    /// Declares those of the batches `from` to `to` lost that are neither received nor
    /// declared. Returns how many that are.
    pub(in crate::fold::intake) fn declare_lost(
        &mut self,
        (from, to): (u64, u64),
        reason: LossReason,
        stamp: Timestamp,
        origin: &Origin,
        out: &mut Outbox,
    ) -> u64 {
        let mut known = self.received.clone();
        if from <= self.base {
            known.insert_range(1, self.base);
        }
        for (from, to) in self.given_up.iter() {
            known.insert_range(from, to);
        }
        for (from, range) in self.lost.iter() {
            known.insert_range(from, range.to);
        }
        let time = (self.cut.min(stamp), stamp.max(self.cut));
        let mut count: u64 = 0;
        for (from, to) in known.missing(from, to) {
            self.lost.insert(
                from,
                LostRange {
                    to,
                    reason,
                    unknown: Some(time),
                },
            );
            out.loss(unknown(origin, Some((from, to)), reason, time));
            count = count.saturating_add((to - from).saturating_add(1));
        }
        self.drain(origin, out);
        self.bound();
        count
    }

    /// Takes up what is remembered of a batch that is about to be declared lost. What the prefix
    /// has passed, or is here, needs no testimony.
    pub(in crate::fold::intake) fn testify(&mut self, sequence: u64, testimony: Testimony) {
        let late = sequence <= self.prefix || self.received.contains(sequence);
        if !late && self.remembered.len() < REMEMBERED_MAX {
            self.remembered.insert(sequence, testimony);
        }
    }

    /// The prefix passes over the lost batches `from` to `to`: what is remembered of them prices
    /// them, and everything lost before them.
    pub(super) fn recall(&mut self, (from, to): (u64, u64), origin: &Origin, out: &mut Outbox) {
        while let Some((&sequence, _)) = self.remembered.range(from..=to).next()
            && let Some(testimony) = self.remembered.remove(&sequence)
        {
            let mut context = Context {
                origin,
                lost: &self.lost,
                out,
            };
            self.totals
                .recall(sequence, &testimony.figures, testimony.cut, &mut context);
            self.cut = self.cut.max(testimony.cut);
            self.watermark = self.watermark.max(testimony.watermark);
            if testimony.is_final {
                self.unpriced |= !testimony.is_complete;
                self.final_at = Some(sequence);
                self.price_unknown(origin, out);
            }
        }
    }

    /// Removes `sequence` from what is declared lost and takes the declaration back; the rest
    /// of its range is declared anew.
    pub(super) fn take_back(&mut self, sequence: u64, origin: &Origin, out: &mut Outbox) -> bool {
        self.remembered.remove(&sequence);
        let Some((from, range)) = self.lost.remove_at(sequence) else {
            return false;
        };
        if let Some(time) = range.unknown {
            out.reverse(unknown(origin, Some((from, range.to)), range.reason, time));
        }
        let mut keep = |from: u64, to: u64| {
            self.lost.insert(from, LostRange { to, ..range });
            if let Some(time) = range.unknown {
                out.loss(unknown(origin, Some((from, to)), range.reason, time));
            }
        };
        if from < sequence {
            keep(from, sequence - 1);
        }
        if sequence < range.to {
            keep(sequence + 1, range.to);
        }
        true
    }

    /// The totals of the final batch have priced every loss exactly: what stands as unknown is
    /// taken back.
    pub(super) fn price_unknown(&mut self, origin: &Origin, out: &mut Outbox) {
        let Some(last) = self.final_at else { return };
        // Only sums have totals, and not all where the agent's room for them is used up: what else
        // a lost batch held stays unknown.
        if self.unpriced || !self.totals.prices_everything() {
            return;
        }
        for (from, range) in self.lost.iter_mut() {
            if range.to <= last
                && let Some(time) = range.unknown.take()
            {
                out.reverse(unknown(origin, Some((from, range.to)), range.reason, time));
            }
        }
    }

    /// Gives up the oldest losses beyond the bounds of what can still be taken back.
    pub(super) fn bound(&mut self) {
        while self.lost.len() > LOST_RANGES_MAX
            && let Some((from, range)) = self.lost.remove_first()
        {
            self.given_up.insert_range(from, range.to);
        }
        while let Some((from, to)) = self.totals.over_bound() {
            while let Some((first, _, _)) = self
                .lost
                .between(from.saturating_sub(1), to.saturating_add(1))
            {
                let Some((start, range)) = self.lost.remove_at(first) else {
                    break;
                };
                self.given_up.insert_range(start, range.to);
            }
            self.totals.forget_given_up(&self.lost);
        }
    }
}
