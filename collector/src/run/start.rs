//! From the disk to a state that is ready to run: journal, projection, snapshot, replay.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tollgate_collector_core::catalog::Catalog;
use tollgate_collector_core::config::Config;
use tollgate_collector_core::entry::codec::{EncodedEntry, EntryEncoder};
use tollgate_collector_core::entry::{CatalogChange, Entry};
use tollgate_collector_core::fold::whole::Fold;
use tollgate_collector_core::journal::Journal;
use tollgate_collector_core::journal::group::GroupCommit;
use tollgate_collector_core::journal::segment::PARTITION;
use tollgate_collector_core::position::Position;
use tollgate_collector_core::projection::Projection;
use tollgate_common::Lineage;

use super::data_dir::FileJournal;
use super::reload::AUTHOR;
use super::{DataDir, DataDirError, InputError, RunError};
use crate::fold::{Beginning, Engine, FoldError, read_state};
use crate::metrics::Metrics;
use crate::sqlite::SqliteProjection;

/// Most threads that run tenant folds.
const THREADS_MAX: usize = 16;

/// Ready to run.
pub(super) struct Started {
    /// The fold, which has read everything.
    pub(super) engine: Engine<SqliteProjection>,
    /// The journal, for writing.
    pub(super) group: GroupCommit<FileJournal>,
    /// Entries to append before anybody is listened to.
    pub(super) announce: Vec<EncodedEntry>,
    /// The journal's life.
    pub(super) lineage: Lineage,
}

/// Opens everything and replays the journal, on a thread that may block. Ends early when
/// `shutdown` is over. `folder` is put in force if nothing is yet.
pub(super) async fn start<F>(
    config: &Config,
    data: &DataDir,
    folder: Result<Catalog, InputError>,
    metrics: &Arc<Metrics>,
    shutdown: Pin<&mut F>,
) -> Result<Started, RunError>
where
    F: Future<Output = ()>,
{
    let given_up = Arc::new(AtomicBool::new(false));
    let (config, data) = (config.clone(), data.clone());
    let (metrics, flag) = (Arc::clone(metrics), Arc::clone(&given_up));
    let mut opening =
        tokio::task::spawn_blocking(move || open(&config, &data, folder, metrics, &flag));
    tokio::select! {
        opened = &mut opening => return opened.map_err(|_| RunError::Panicked("start"))?,
        () = shutdown => given_up.store(true, Ordering::Release),
    }
    let _ = opening.await;
    Err(RunError::Interrupted)
}

fn open(
    config: &Config,
    data: &DataDir,
    folder: Result<Catalog, InputError>,
    metrics: Arc<Metrics>,
    given_up: &AtomicBool,
) -> Result<Started, RunError> {
    let (mut journal, report) = data.open_journal(config.journal)?;
    tracing::info!(?report, "journal opened");
    let epoch = journal.acquire(PARTITION).map_err(RunError::Journal)?;
    let last = journal.last(PARTITION).map_err(RunError::Journal)?;

    let mut projection = SqliteProjection::open(&data.projection()).map_err(FoldError::from)?;
    let mut standing = projection.position(PARTITION).map_err(FoldError::from)?;
    if standing > last {
        tracing::warn!(
            ?standing,
            ?last,
            "the projection is ahead of the journal (was the journal restored from a copy?); it is built anew"
        );
        projection.clear().map_err(FoldError::from)?;
        standing = None;
    }
    discard_foreign_snapshots(data, last)?;
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(THREADS_MAX);
    let fold = load_snapshot(data, standing, threads)?;
    let threads = threads.min(usize::from(config.fold.partitions));
    let mut engine = Engine::new(Beginning {
        fold,
        projection,
        partition: PARTITION,
        epoch,
        threads,
        metrics,
    })?;

    let begun = Instant::now();
    let mut reported = begun;
    while engine.step(&journal)? > 0 {
        if given_up.load(Ordering::Acquire) {
            return Err(RunError::Interrupted);
        }
        if reported.elapsed().as_secs() >= 5 {
            reported = Instant::now();
            tracing::info!(entries = engine.entries(), position = ?engine.position(), "replaying the journal");
        }
    }
    tracing::info!(
        entries = engine.entries(),
        millis = begun.elapsed().as_millis(),
        "journal replayed"
    );

    let (announce, lineage) = announcements(config, folder, &engine)?;
    let group = GroupCommit::new(journal, PARTITION, engine.intake().stamp());
    Ok(Started {
        engine,
        group,
        announce,
        lineage,
    })
}

/// A snapshot that stands behind the end of the journal would be believed once the journal has
/// grown past it, which is why not even a failure to remove it is passed over.
fn discard_foreign_snapshots(data: &DataDir, last: Option<Position>) -> Result<(), RunError> {
    let gone = data
        .snapshots()?
        .discard_after(last)
        .map_err(|error| DataDirError::Io {
            path: data.snapshots_dir(),
            source: std::io::Error::other(error),
        })?;
    for name in gone {
        tracing::warn!(
            name,
            ?last,
            "a snapshot is ahead of the journal (was the journal restored from a copy?); it is removed"
        );
    }
    Ok(())
}

fn load_snapshot(
    data: &DataDir,
    standing: Option<Position>,
    threads: usize,
) -> Result<Fold, RunError> {
    // A snapshot that cannot be used only costs time.
    let read = |bytes: &[u8]| read_state(bytes, threads);
    match data.snapshots()?.load_by(standing, read) {
        Ok(loaded) => {
            for (name, reason) in &loaded.unusable {
                tracing::warn!(name, %reason, "snapshot passed over");
            }
            let fold = loaded.fold.unwrap_or_default();
            tracing::info!(position = ?fold.position(), projection = ?standing, "fold begins");
            Ok(fold)
        }
        Err(error) => {
            tracing::warn!(%error, "snapshots cannot be read; the whole journal is replayed");
            Ok(Fold::new())
        }
    }
}

/// The entries that make the journal know the configuration, where it does not yet.
fn announcements(
    config: &Config,
    folder: Result<Catalog, InputError>,
    engine: &Engine<SqliteProjection>,
) -> Result<(Vec<EncodedEntry>, Lineage), RunError> {
    let mut entries = Vec::new();
    let known = engine.intake().opened();
    let lineage = known.map_or_else(
        || Lineage::from_bytes(rand::random()),
        |opened| opened.lineage,
    );
    let mut opened = config.opened(lineage);
    if let Some(known) = known
        && known.partitions != opened.partitions
    {
        tracing::warn!(
            configured = opened.partitions,
            in_force = known.partitions,
            "fold.partitions is fixed once the journal has begun; the configured number is ignored"
        );
        opened.partitions = known.partitions;
    }
    if known != Some(&opened) {
        entries.push(Entry::Opened(opened));
    }
    if engine.policy() != Some(config.policy.digest()) {
        entries.push(Entry::Policy(config.policy.change()));
    }
    match (engine.catalog(), &folder) {
        (Some(in_force), Ok(folder)) if in_force == folder.digest() => {}
        // Prices do not change because a program is started.
        (Some(in_force), Ok(folder)) => tracing::warn!(
            folder = %folder.digest(),
            %in_force,
            "the catalog folder is not what is in force, which stays in force; put the folder in force with \
             `tollgate-collector catalog apply` or a reload (SIGHUP)"
        ),
        // Nor does anybody wait because somebody edits the folder.
        (Some(in_force), Err(error)) => tracing::error!(
            %error,
            %in_force,
            "the catalog folder is wrong; what is in force stays in force"
        ),
        (None, Ok(folder)) if config.catalog_rules.by_hand_only() => tracing::warn!(
            folder = %folder.digest(),
            "no catalog is in force: usage stays unrated until one is put in force with `tollgate-collector \
             catalog apply`"
        ),
        (None, Ok(folder)) => entries.push(Entry::Catalog(CatalogChange {
            author: Some(AUTHOR.to_owned()),
            reason: Some("first start".to_owned()),
            ..CatalogChange::of(folder)
        })),
        (None, Err(_)) => folder.map(drop)?,
    }
    let mut encoder = EntryEncoder::new();
    let announced = entries
        .iter()
        .map(|entry| encoder.encode(entry))
        .collect::<Result<_, _>>()?;
    Ok((announced, lineage))
}
