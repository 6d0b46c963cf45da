//! `fold`: rollups per second through intake and tenant folds on one core, and what the state takes
//! for each live series.

use std::time::Duration;

use anyhow::Result;
use tollgate_collector_core::entry::Stamped;
use tollgate_collector_core::entry::codec::{EntryDecoder, EntryEncoder};
use tollgate_collector_core::fold::whole::Fold;
use tollgate_collector_core::position::Position;
use tollgate_common::Aggregation;

use super::population::{Population, Shape};
use crate::process::{allocated, core_time};
use crate::report::{Better, Case, Report, median};

const ROUNDS: u32 = 5;
const PARTITIONS: u16 = 8;

const CASES: [(&str, Shape); 4] = [
    ("sums, 100 agents", Shape::LARGE),
    (
        "sums, 1,000 agents, whose last rows are kept for forks",
        Shape {
            agents: 1000,
            series: 1000,
            ..Shape::LARGE
        },
    ),
    (
        "maxima, each series of which is kept",
        Shape {
            aggregation: Aggregation::Max,
            ..Shape::LARGE
        },
    ),
    (
        "sums of 100,000 tenants with 10 meters each",
        Shape {
            tenants: 100_000,
            meters: 10,
            dimensions: false,
            ..Shape::LARGE
        },
    ),
];

pub(crate) fn run() -> Result<Report> {
    let mut cases = Vec::new();
    for (number, (name, shape)) in CASES.iter().enumerate() {
        let [rate, bytes, replay] = measure(name, *shape)?;
        // The targets are those of the usual case and of the one that has to keep every series.
        let (judged_rate, judged_bytes) = (number < 2, number < 3);
        cases.push(if judged_rate {
            rate.target(3e6, Better::Higher)
        } else {
            rate
        });
        cases.push(if judged_bytes {
            bytes.target(160.0, Better::Lower)
        } else {
            bytes
        });
        cases.push(replay);
    }
    Ok(Report {
        bench: "fold",
        cases,
    })
}

fn measure(name: &str, shape: Shape) -> Result<[Case; 3]> {
    let mut population = Population::new(shape)?;
    let mut journal = Journal::new();
    let mut fold = Fold::new();
    for stamped in population.beginning(PARTITIONS)? {
        journal.pass(&stamped, &mut fold)?;
    }
    let (mut folded, mut replayed) = (Vec::new(), Vec::new());
    // In the first window everything is new.
    for window in 0..=ROUNDS {
        let (mut folding, mut decoding) = (Duration::ZERO, Duration::ZERO);
        for stamped in population.window(window) {
            let [decode, fold] = journal.pass(&stamped, &mut fold)?;
            decoding += decode;
            folding += fold;
        }
        if window > 0 {
            folded.push(per_second(shape, folding));
            replayed.push(per_second(shape, folding + decoding));
        }
    }
    // The decoder and the population share names with the fold: what is left then is its own.
    drop(journal);
    drop(population);
    let before = allocated();
    drop(fold);
    let taken = before.saturating_sub(allocated());
    #[expect(clippy::cast_precision_loss, reason = "some hundred megabytes")]
    let bytes = taken as f64 / shape.all_series() as f64;
    Ok([
        Case::new(name, median(folded), "rollups/s"),
        Case::new(format!("{name}: a live series"), bytes, "By"),
        Case::new(
            format!("{name}: decoded and folded"),
            median(replayed),
            "rollups/s",
        ),
    ])
}

#[expect(clippy::cast_precision_loss, reason = "a million")]
fn per_second(shape: Shape, time: Duration) -> f64 {
    shape.all_series() as f64 / time.as_secs_f64()
}

/// What lies between who reports and the fold: entries are encoded and decoded again.
struct Journal {
    encoder: EntryEncoder,
    decoder: EntryDecoder,
    position: u128,
}

impl Journal {
    fn new() -> Self {
        Self {
            encoder: EntryEncoder::new(),
            decoder: EntryDecoder::with_cache(1),
            position: 0,
        }
    }

    /// Folds an entry. Says how long it took to decode and to fold it.
    fn pass(&mut self, stamped: &Stamped, fold: &mut Fold) -> Result<[Duration; 2]> {
        let bytes = self.encoder.encode(&stamped.entry)?.stamped(stamped.stamp);
        self.position += 1;
        let position = Position::from_bytes(self.position.to_be_bytes());
        let start = core_time();
        let stamped = self.decoder.decode(&bytes)?;
        let decoded = core_time();
        drop(fold.apply(position, &stamped));
        Ok([
            decoded.saturating_sub(start),
            core_time().saturating_sub(decoded),
        ])
    }
}
