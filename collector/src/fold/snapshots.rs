//! Snapshots, written on a thread of their own: the fold only waits while its state is
//! turned into bytes, not for the disk.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::{Sender, bounded};
use tollgate_collector_core::position::Position;
use tollgate_collector_core::snapshot::SnapshotStore;
use tollgate_common::storage::Storage;

use crate::metrics::Metrics;

/// The writer of snapshots.
#[derive(Debug)]
pub(crate) struct Snapshots {
    work: Sender<(Position, Vec<u8>)>,
    thread: JoinHandle<()>,
}

impl Snapshots {
    /// Starts the thread.
    pub(crate) fn spawn<S>(store: SnapshotStore<S>, metrics: Arc<Metrics>) -> std::io::Result<Self>
    where
        S: Storage + Send + 'static,
    {
        let (work, jobs) = bounded::<(Position, Vec<u8>)>(1);
        let thread = std::thread::Builder::new()
            .name("snapshot".to_owned())
            .spawn(move || {
                for (position, bytes) in jobs {
                    match store.save_bytes(position, &bytes) {
                        Ok(()) => {
                            metrics.snapshots.inc();
                            tracing::debug!(%position, bytes = bytes.len(), "snapshot written");
                        }
                        Err(error) => {
                            // Only the next start takes longer.
                            metrics.snapshot_failures.inc();
                            tracing::warn!(%error, "snapshot not written");
                        }
                    }
                }
            })?;
        Ok(Self { work, thread })
    }

    /// Writes a snapshot; waits if two are waiting already.
    pub(crate) fn save(&self, position: Position, bytes: Vec<u8>) {
        if self.work.send((position, bytes)).is_err() {
            tracing::warn!("the snapshot thread has ended");
        }
    }

    /// Waits until everything is written.
    pub(crate) fn finish(self) {
        drop(self.work);
        if self.thread.join().is_err() {
            tracing::warn!("the snapshot thread panicked");
        }
    }
}
