//! Rates generated pairs of prices and usage, twice, and compares every byte.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;
use tollgate_tests::prices::pass;

/// Rates a million generated pairs of a card and usage of its meter, in two passes that read every
/// catalog anew. Fails if one of them panics or refuses a sound catalog, if the steps of a line do
/// not sum to its amount, or if the passes differ in a byte.
#[derive(Parser)]
#[command(name = "prices")]
struct Arguments {
    /// Generated cards.
    #[arg(long, value_name = "N", default_value_t = 2500)]
    cards: u64,
    /// Generated usages of each card.
    #[arg(long, value_name = "N", default_value_t = 400)]
    usages: u64,
    /// What everything follows from.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<ExitCode> {
    let Arguments {
        cards,
        usages,
        seed,
    } = Arguments::parse();
    let replay = std::thread::spawn(move || pass(seed, cards, usages));
    let first = pass(seed, cards, usages)?;
    let again = replay
        .join()
        .map_err(|_| anyhow::anyhow!("the second pass panicked"))??;
    ensure!(first == again, "the passes differ: {first:?} and {again:?}");
    writeln!(
        std::io::stdout(),
        "prices: {} pairs, {} rated and {} refused, twice to {}",
        cards * usages,
        first.rated,
        first.refused,
        first.digest
    )?;
    Ok(ExitCode::SUCCESS)
}
