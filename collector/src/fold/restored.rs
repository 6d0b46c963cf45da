//! Reads the fold's state on several threads: of a hundred thousand tenants with their books it takes
//! seconds, and its parts know nothing of each other.

use std::sync::atomic::{AtomicUsize, Ordering};

use tollgate_collector_core::fold::tenant::TenantFold;
use tollgate_collector_core::fold::whole::{Fold, StateError, StateParts};

/// The state that [`Fold::to_bytes`] wrote, read on at most so many threads.
///
/// # Errors
/// See [`StateError`].
pub fn read_state(bytes: &[u8], threads: usize) -> Result<Fold, StateError> {
    let parts = StateParts::of(bytes)?;
    let next = AtomicUsize::new(0);
    let read = || {
        let mut own: Vec<(usize, Result<TenantFold, StateError>)> = Vec::new();
        loop {
            let partition = next.fetch_add(1, Ordering::Relaxed);
            if partition >= parts.tenants() {
                return own;
            }
            own.push((partition, parts.tenant(partition)));
        }
    };
    let (intake, mut tenants) = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(parts.tenants()))
            .map(|_| scope.spawn(read))
            .collect();
        let intake = parts.intake();
        let mut tenants = read();
        for other in others {
            match other.join() {
                Ok(own) => tenants.extend(own),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        (intake, tenants)
    });
    tenants.sort_unstable_by_key(|(partition, _)| *partition);
    let tenants = tenants.into_iter().map(|(_, tenant)| tenant);
    parts.together(intake?, tenants.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use tollgate_collector_core::entry::{Entry, Opened, Stamped};
    use tollgate_collector_core::position::Position;
    use tollgate_common::{Lineage, Timestamp};

    use super::*;

    #[test]
    fn every_number_of_threads_reads_the_same_state() {
        let mut fold = Fold::new();
        let opened = Opened {
            lineage: Lineage::from_bytes([7; 16]),
            partitions: 5,
            usage_window_secs: 60,
            settlement_millis: 0,
            future_tolerance_millis: 0,
        };
        let stamped = Stamped {
            stamp: Timestamp::from_secs(1),
            entry: Entry::Opened(opened),
        };
        fold.apply(Position::from_bytes([1; 16]), &stamped);
        let bytes = fold.to_bytes();
        for threads in [0, 1, 2, 8] {
            let read = read_state(&bytes, threads).expect("own state");
            assert_eq!(read.tenants().len(), 5);
            assert_eq!(read.to_bytes(), bytes);
        }
        let cut = read_state(&bytes[..bytes.len() - 1], 2);
        assert!(matches!(cut, Err(StateError::Malformed(_))), "{cut:?}");
    }
}
