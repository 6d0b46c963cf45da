//! What the threads of a simulated agent count.

use tollgate_agent_core::aggregate::{Slot, Writer};
use tollgate_common::{Aggregation, Timestamp, Window, sketch};

use super::super::context::{Broken, Context};
use super::super::coverage::Probe;
use super::super::workload::{self, Series};
use super::{AgentNode, LastStop, SimEngine, SimRegion};

impl AgentNode {
    pub(super) fn count(&mut self, context: &mut Context) -> Result<(), Broken> {
        let now = context.now;
        if self.last_stop != LastStop::Running || self.next_count > now {
            return Ok(());
        }
        self.next_count = now.plus_millis(
            self.random
                .millis(1, 2 * context.options.count_every_millis),
        );
        self.count_pages(context)?;
        self.retire(context);
        let steady = self.steady(now);
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let time = process.engine.anchor().time(steady);
        let most = 3 + self.series.len() as u64 / 20;
        for _ in 0..=self.random.below(most) {
            let number = self.random.index(self.series.len());
            let series = &self.series[number];
            let writer = self.random.index(process.writers.len());
            let hand = &mut process.writers[writer];
            hand.received(1);
            let (slot, overflow) = match process.slots.get(&(writer, number)) {
                Some(known) => *known,
                None => match look_up(hand, &process.engine, series) {
                    Some(found) => found,
                    None => continue,
                },
            };
            process.slots.insert((writer, number), (slot, overflow));
            let quantity = workload::value(series.aggregation, &mut self.random);
            if !count_one(hand, series, slot, time, quantity)
                .map_err(|error| format!("agent {}: {error}", self.index))?
            {
                continue;
            }
            context.coverage.hit(Probe::Accepted);
            context.oracle.accepted(self.index, series, quantity);
            let window = Window::containing(time, context.options.width).start();
            let figures = &mut context.oracle.figures;
            figures.taken(self.index, (series, overflow), (window, time), quantity);
            context.trace.event(
                now,
                format_args!("agent {} counts {quantity} of {}", self.index, series.key),
            );
        }
        Ok(())
    }

    /// Gives back series that nobody counts on.
    fn retire(&mut self, context: &mut Context) {
        let Some(process) = &mut self.process else {
            return;
        };
        for (number, writer) in process.writers.iter_mut().enumerate() {
            if writer.poll_retired() {
                process.slots.retain(|(of, _), _| *of != number);
                context.coverage.hit(Probe::SeriesRetired);
            }
        }
    }
}

/// Finds room for a series, maybe without its dimensions.
fn look_up(
    hand: &mut Writer<SimRegion>,
    engine: &SimEngine,
    series: &Series,
) -> Option<(Slot, bool)> {
    let overflowed = || -> u64 {
        let inputs = engine.status().inputs;
        let lookups = inputs
            .iter()
            .map(|input| input.cardinality.overflow_lookups);
        lookups.sum()
    };
    let before = overflowed();
    let slot = hand
        .resolve(&series.key, series.aggregation, series.scale)
        .ok()?;
    Some((slot, overflowed() > before))
}

/// Counts one value; false if it was not accepted.
fn count_one(
    hand: &mut Writer<SimRegion>,
    series: &Series,
    slot: Slot,
    time: Timestamp,
    quantity: u64,
) -> Result<bool, String> {
    let value = i64::try_from(quantity).expect("far below 2^63");
    let set = match series.aggregation {
        Aggregation::Sum => return Ok(hand.add(slot, quantity).is_ok()),
        Aggregation::Distribution => return Ok(hand.record(slot, quantity, 1).is_ok()),
        Aggregation::Unique => {
            let hash = sketch::hash(&quantity.to_le_bytes());
            return Ok(hand.insert(slot, time, hash).is_ok());
        }
        Aggregation::Last => hand.set(slot, time, value),
        Aggregation::Max => hand.set_max(slot, time, value),
        Aggregation::TimeWeighted => hand.set_level(slot, time, value),
    };
    set.map(|()| true).map_err(|error| error.to_string())
}
