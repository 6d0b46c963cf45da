//! `rerate`: a month of 100,000 tenants with ten meters each, from a snapshot.
//!
//! The month is closed and booked by one version of the catalog and stands in a snapshot. What is
//! measured begins with the file: it is read, every tenant's period is rated anew by another version, as
//! `period rerate` has it, and the differences are booked, entry by entry, in the hash chains. DuckDB
//! does the join of the same quantities with the same prices and the sums, from a database file of its
//! own. What each tenant owes has to be the same, cent by cent.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tollgate_collector::fold::read_state;
use tollgate_collector_core::catalog::Catalog;
use tollgate_collector_core::effect::Effect;
use tollgate_collector_core::entry::{
    CatalogChange, CloseCause, Digest, Entry, Operated, OperatedAction, Rerate, Stamped,
};
use tollgate_collector_core::fold::TenantInput;
use tollgate_collector_core::fold::tenant::TenantFold;
use tollgate_collector_core::fold::whole::Fold;
use tollgate_collector_core::ledger::Note;
use tollgate_collector_core::position::Position;
use tollgate_common::{Aggregation, TenantId, Timestamp};

use super::population::{MONTH, Population, Shape};
use crate::binaries;
use crate::process::core_time;
use crate::report::{Better, Case, Report};

/// The variable that says how many tenants there are, for a look.
const TENANTS: &str = "TOLLGATE_BENCH_TENANTS";
const AGENTS: usize = 100;
const METERS: usize = 10;

static SHAPE: LazyLock<Shape> = LazyLock::new(|| {
    let said = std::env::var(TENANTS)
        .ok()
        .and_then(|said| said.parse().ok());
    // Agents have the same number of series each.
    let tenants = said.map_or(100_000, |said: usize| {
        said.clamp(10, 100_000).next_multiple_of(10)
    });
    Shape {
        agents: AGENTS,
        tenants,
        meters: METERS,
        series: tenants * METERS / AGENTS,
        dimensions: false,
        aggregation: Aggregation::Sum,
    }
});
const PARTITIONS: u16 = 8;
/// Windows in which everybody counts.
const WINDOWS: u32 = 3;
/// First instant after the month: 2026-07-01.
const MONTH_END: i64 = 1_782_864_000;
const TARGET_SECS: f64 = 10.0;
/// Upper bounds of the tiers, in requests, and what a thousand cost: before and after.
const TIERS: [(Option<u32>, &str, &str); 4] = [
    (Some(2000), "0.40", "0.42"),
    (Some(5000), "0.30", "0.29"),
    (Some(10_000), "0.25", "0.25"),
    (None, "0.20", "0.18"),
];

/// The version of DuckDB that is compared with.
const DUCKDB: &str = "duckdb==1.4.2";

pub(crate) fn run() -> Result<Report> {
    let folder = tempfile::tempdir_in(std::env::current_dir()?)?;
    let snapshot = folder.path().join("snapshot");
    let month = Month::make(&snapshot)?;
    let ours = rerate(&snapshot, month.before)?;
    let mut whole = Case::new(
        "a month rated anew from a snapshot, differences booked",
        (ours.read + ours.rated).as_secs_f64(),
        "s",
    )
    .target(TARGET_SECS, Better::Lower);
    match duckdb(folder.path(), &month.usage) {
        Ok(theirs) => {
            let differs = ours.owed.iter().zip(&theirs.owed).filter(|(a, b)| a != b);
            let (count, tenants) = (differs.count(), ours.owed.len());
            ensure!(
                count == 0 && tenants == theirs.owed.len(),
                "{count} of {tenants} tenants owe something else by DuckDB, which knows {}",
                theirs.owed.len()
            );
            whole = whole.against("DuckDB, join and sums alone", theirs.seconds);
        }
        Err(error) => whole = whole.absent("DuckDB", format!("{error:#}")),
    }
    #[expect(clippy::cast_precision_loss, reason = "some million entries")]
    let entries = ours.entries as f64;
    Ok(Report {
        bench: "rerate",
        cases: vec![
            whole,
            Case::new(
                "of that: reading the snapshot",
                ours.read.as_secs_f64(),
                "s",
            ),
            Case::new("of that: rating and booking", ours.rated.as_secs_f64(), "s"),
            Case::new(
                "of that: core time of rating and booking, all threads",
                ours.core.as_secs_f64(),
                "s",
            ),
            Case::new("entries booked by it", entries, "entries"),
        ],
    })
}

/// What a tenant owes, in cents, by its number.
type Owed = Vec<i128>;

/// The month before it is rated anew.
struct Month {
    /// Quantities by tenant and meter.
    usage: Vec<u64>,
    /// What was booked.
    before: Owed,
}

impl Month {
    /// Counts, closes, books, applies the other version, and writes the snapshot.
    fn make(path: &Path) -> Result<Self> {
        let mut population = Population::new(*SHAPE)?;
        let mut usage = vec![0; SHAPE.tenants * SHAPE.meters];
        let mut fold = Fold::new();
        let [opened, _] = population.beginning(PARTITIONS)?;
        let catalog = |is_new| -> Result<CatalogChange> {
            Ok(CatalogChange::of(&Catalog::parse(&files(is_new))?))
        };
        let first = Stamped {
            stamp: opened.stamp,
            entry: Entry::Catalog(catalog(false)?),
        };
        let mut number = 0_u128;
        let mut next = || {
            number += 1;
            Position::from_bytes(number.to_be_bytes())
        };
        fold.apply(next(), &opened);
        fold.apply(next(), &first);
        for window in 0..WINDOWS {
            for stamped in population.window(window) {
                if let Entry::Batch(received) = &stamped.entry {
                    for row in &received.batch.rows {
                        let (tenant, meter) = (row.series.tenant(), row.series.meter());
                        let place = index(tenant.as_str())? * SHAPE.meters + index(meter.as_str())?;
                        usage[place] += u64::try_from(row.value.units())?;
                    }
                }
                fold.apply(next(), &stamped);
            }
        }
        drop(population);
        let (intake, mut tenants, _) = fold.into_parts();
        let mut before = vec![0; SHAPE.tenants];
        let cause = cause("month's end");
        let change = std::sync::Arc::new(catalog(true)?);
        for fold in &mut tenants {
            for (number, name) in names_of(fold)? {
                let stamp = Timestamp::from_secs(MONTH_END + 86_400);
                let effects = close(fold, (next(), stamp), &name, cause.clone())?;
                before[number] += booked(&effects).0;
            }
            let stamp = Timestamp::from_secs(MONTH_END + 90_000);
            fold.apply(next(), stamp, &TenantInput::Catalog(change.clone()));
        }
        let fold = Fold::from_parts(intake, tenants, Some(next()));
        std::fs::write(path, fold.to_bytes())?;
        Ok(Self { usage, before })
    }
}

/// The number at the end of a name.
fn index(name: &str) -> Result<usize> {
    let number = name.rsplit('-').next().context("no number")?;
    Ok(number.parse()?)
}

/// The tenants of a partition.
fn names_of(fold: &TenantFold) -> Result<Vec<(usize, TenantId)>> {
    let mut names = Vec::new();
    for number in 0..SHAPE.tenants {
        let name = TenantId::new(&format!("customer-{number:06}"))?;
        if tollgate_collector_core::fold::partition_of(&name, PARTITIONS) == fold.partition() {
            names.push((number, name));
        }
    }
    Ok(names)
}

fn cause(reason: &str) -> CloseCause {
    CloseCause::Operator {
        author: "bench".to_owned(),
        reason: reason.to_owned(),
        approved_by: None,
    }
}

fn close(
    fold: &mut TenantFold,
    (position, stamp): (Position, Timestamp),
    name: &TenantId,
    cause: CloseCause,
) -> Result<Vec<Effect>> {
    let closing = fold.close_by_hand(stamp, name, Timestamp::from_secs(MONTH), cause)?;
    Ok(fold.apply(position, stamp, &TenantInput::Close(Box::new(closing))))
}

/// Cents and number of the entries.
fn booked(effects: &[Effect]) -> (i128, usize) {
    let (mut cents, mut entries) = (0, 0);
    for effect in effects {
        if let Effect::Ledger(entry) = effect {
            entries += 1;
            if let Some(amount) = entry.posting.amount {
                // Euros have two places.
                cents += amount.mantissa() * 10_i128.pow(2 - amount.scale());
            }
        }
    }
    (cents, entries)
}

/// The catalog before and after.
fn files(is_new: bool) -> BTreeMap<String, String> {
    let mut files = SHAPE.catalog();
    let mut card =
        "id = \"edge\"\ncurrency = \"EUR\"\nfrom = \"2020-01-01\"\norder = \"standard/1\"\n"
            .to_owned();
    for meter in 0..SHAPE.meters {
        let _ = write!(
            card,
            "[[price]]\nid = \"price-{meter}\"\nmeter = \"edge.meter-{meter}\"\nmodel = \"graduated\"\n\
             per = \"1000 {{request}}\"\ntiers = [\n"
        );
        for (to, old, new) in TIERS {
            let unit = if is_new { new } else { old };
            let _ = match to {
                Some(to) => writeln!(card, "{{ to = \"{to}\", unit = \"{unit}\" }},"),
                None => writeln!(card, "{{ unit = \"{unit}\" }},"),
            };
        }
        card.push_str("]\n");
    }
    files.insert("cards/edge.toml".to_owned(), card);
    files
}

/// What came out, and how long it took.
struct Rerated {
    read: Duration,
    rated: Duration,
    owed: Owed,
    entries: usize,
    /// What rating and booking took of all cores.
    core: Duration,
}

/// Reads the snapshot and has every tenant's month rated anew, on as many threads as there are
/// processors.
fn rerate(snapshot: &Path, before: Owed) -> Result<Rerated> {
    let start = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let fold = read_state(&std::fs::read(snapshot)?, threads)?;
    let read = start.elapsed();
    let (_, tenants, _) = fold.into_parts();
    let digest = tenants
        .first()
        .and_then(TenantFold::catalog_digest)
        .context("no catalog in the snapshot")?;
    // Who is where is known to a collector.
    let mut work = Vec::new();
    for fold in tenants {
        let names = names_of(&fold)?;
        work.push((fold, names));
    }
    let mut shares: Vec<Vec<_>> = (0..threads).map(|_| Vec::new()).collect();
    for (number, part) in work.into_iter().enumerate() {
        shares[number % threads].push(part);
    }
    let start = Instant::now();
    let running: Vec<_> = shares
        .into_iter()
        .map(|share| std::thread::spawn(move || rerate_share(share, digest)))
        .collect();
    let mut owed = before;
    let mut entries = 0;
    let mut core = Duration::ZERO;
    let mut kept = Vec::new();
    for thread in running {
        let done = thread.join().ok().context("a thread panicked")??;
        for (number, cents) in done.differences {
            owed[number] += cents;
        }
        entries += done.entries;
        core += done.core;
        kept.push(done.share);
    }
    let rated = start.elapsed();
    Ok(Rerated {
        read,
        rated,
        owed,
        entries,
        core,
    })
}

type Share = Vec<(TenantFold, Vec<(usize, TenantId)>)>;

/// What a thread has done.
struct Done {
    share: Share,
    /// Cents, by the tenant's number.
    differences: Vec<(usize, i128)>,
    entries: usize,
    core: Duration,
}

/// Gives the folds back, so that freeing them is nobody's time.
fn rerate_share(mut share: Share, catalog: Digest) -> Result<Done> {
    let stamp = Timestamp::from_secs(MONTH_END + 100_000);
    let begun = core_time();
    let cause = cause("new prices");
    let mut differences = Vec::new();
    let mut entries = 0;
    let mut number = u128::MAX / 2;
    for (fold, names) in &mut share {
        for (tenant, name) in names {
            number += 1;
            let position = Position::from_bytes(number.to_be_bytes());
            let operated = Operated {
                action: OperatedAction::Rerate(Rerate {
                    tenant: name.clone(),
                    from: Timestamp::from_secs(MONTH),
                    to: Timestamp::from_secs(MONTH_END),
                    catalog,
                }),
                note: Note {
                    author: "bench".to_owned(),
                    approved_by: None,
                    reason: "new prices".to_owned(),
                },
            };
            fold.apply(position, stamp, &TenantInput::Operated(operated.into()));
            let effects = close(fold, (position, stamp), name, cause.clone())?;
            let (cents, count) = booked(&effects);
            differences.push((*tenant, cents));
            entries += count;
        }
    }
    Ok(Done {
        share,
        differences,
        entries,
        core: core_time().saturating_sub(begun),
    })
}

/// What DuckDB says, and how long it took.
struct Theirs {
    seconds: f64,
    owed: Owed,
}

const SCRIPT: &str = r"
import sys, time
import duckdb
folder = sys.argv[1]
made = duckdb.connect(folder + '/usage.duckdb')
made.execute(f'''
    CREATE TABLE usage AS SELECT tenant, meter, quantity
        FROM read_csv('{folder}/usage.csv', columns={{'tenant': 'VARCHAR', 'meter': 'VARCHAR', 'quantity': 'BIGINT'}});
    CREATE TABLE profile AS SELECT DISTINCT tenant, 'edge' AS card FROM usage;
    CREATE TABLE tier AS SELECT *
        FROM read_csv('{folder}/tier.csv', columns={{'card': 'VARCHAR', 'meter': 'VARCHAR', 'above': 'BIGINT',
                      'upto': 'BIGINT', 'unit': 'DECIMAL(10,5)'}});
''')
made.close()
start = time.perf_counter()
base = duckdb.connect(folder + '/usage.duckdb')
base.execute('''
    CREATE TABLE owed AS
    SELECT tenant, sum(amount) AS amount FROM (
        SELECT tenant, meter, round(sum(CAST(least(quantity, upto) - above AS DECIMAL(18,0)) * unit), 2) AS amount
        FROM usage JOIN profile USING (tenant) JOIN tier USING (card, meter)
        WHERE quantity > above GROUP BY tenant, meter
    ) GROUP BY tenant
''')
base.commit()
print(time.perf_counter() - start)
for amount, in base.execute('SELECT CAST(amount * 100 AS HUGEINT) FROM owed ORDER BY tenant').fetchall():
    print(amount)
";

/// The same prices over the same quantities, in DuckDB of PyPI.
fn duckdb(folder: &Path, usage: &[u64]) -> Result<Theirs> {
    let python = install_duckdb()?;
    let mut rows = String::new();
    for (place, quantity) in usage.iter().enumerate() {
        let (tenant, meter) = (place / SHAPE.meters, place % SHAPE.meters);
        writeln!(rows, "customer-{tenant:06},edge.meter-{meter},{quantity}")?;
    }
    std::fs::write(folder.join("usage.csv"), rows)?;
    let mut tiers = String::new();
    for meter in 0..SHAPE.meters {
        let mut above = 0;
        for (to, _, unit) in TIERS {
            let upto = to.map_or(i64::MAX, i64::from);
            // Of one request in place of a thousand.
            let unit = unit.replacen("0.", "0.000", 1);
            writeln!(tiers, "edge,edge.meter-{meter},{above},{upto},{unit}")?;
            above = upto;
        }
    }
    std::fs::write(folder.join("tier.csv"), tiers)?;
    let output = Command::new(python)
        .arg("-c")
        .arg(SCRIPT)
        .arg(folder)
        .output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout)?;
    let mut lines = text.lines();
    let seconds = lines.next().context("DuckDB says nothing")?.parse()?;
    let owed = lines.map(str::parse).collect::<Result<_, _>>()?;
    Ok(Theirs { seconds, owed })
}

/// A Python with DuckDB in it, made once in the target folder.
fn install_duckdb() -> Result<PathBuf> {
    let venv = binaries::target()?.join("bench-duckdb");
    let python = venv.join("bin/python");
    let has_it = |python: &Path| {
        let asked = Command::new(python).args(["-c", "import duckdb"]).output();
        asked.is_ok_and(|output| output.status.success())
    };
    if has_it(&python) {
        return Ok(python);
    }
    let run = |command: &mut Command, what: &str| -> Result<()> {
        let output = command.output().context("python3 is not installed")?;
        ensure!(output.status.success(), "{what}");
        Ok(())
    };
    run(
        Command::new("python3").args(["-m", "venv"]).arg(&venv),
        "python3 could not make a virtual environment",
    )?;
    run(
        Command::new(&python).args(["-m", "pip", "install", "--quiet", DUCKDB]),
        "pip could not install DuckDB",
    )?;
    Ok(python)
}
