//! Tests of the journal thread.

use tollgate_collector_core::entry::Entry;
use tollgate_collector_core::entry::codec;
use tollgate_collector_core::journal::Epoch;
use tollgate_collector_core::journal::group::Token;
use tollgate_common::Timestamp;

use super::*;

const P: PartitionId = PartitionId(0);

/// Counts commits and fails the one it is told to.
#[derive(Default)]
struct Counting {
    staged: usize,
    committed: u64,
    commits: Arc<AtomicU64>,
    fail: bool,
    delay: std::time::Duration,
}

impl Journal for Counting {
    fn acquire(&mut self, _: PartitionId) -> Result<Epoch, JournalError> {
        Ok(Epoch(1))
    }

    fn append(&mut self, _: PartitionId, _: &[u8]) -> Result<(), JournalError> {
        self.staged += 1;
        Ok(())
    }

    fn commit(&mut self, _: PartitionId) -> Result<Vec<Position>, JournalError> {
        std::thread::sleep(self.delay);
        if self.fail {
            return Err(JournalError::Io("disk on fire".to_owned()));
        }
        self.commits.fetch_add(1, Ordering::Relaxed);
        let staged = std::mem::take(&mut self.staged);
        Ok((0..staged)
            .map(|_| {
                self.committed += 1;
                Position::from_bytes(u128::from(self.committed).to_be_bytes())
            })
            .collect())
    }

    fn read(
        &self,
        _: PartitionId,
        _: Option<Position>,
        _: usize,
    ) -> Result<Vec<JournalItem>, JournalError> {
        Ok(Vec::new())
    }

    fn last(&self, _: PartitionId) -> Result<Option<Position>, JournalError> {
        Ok(Some(Position::from_bytes(
            u128::from(self.committed).to_be_bytes(),
        )))
    }
}

fn start(journal: Counting) -> JournalThread {
    spawn(
        GroupCommit::new(journal, P, Timestamp::EPOCH),
        P,
        Arc::new(Metrics::new()),
    )
    .expect("spawns")
}

fn pending(session: u64, number: u64) -> Pending {
    Pending {
        token: Token { session, number },
        entry: codec::encode(&Entry::Clock).expect("encodes"),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime")
}

#[test]
fn one_commit_serves_everybody_and_each_gets_its_own_proofs() {
    let commits = Arc::new(AtomicU64::new(0));
    let delay = std::time::Duration::from_millis(20);
    let running = start(Counting {
        commits: Arc::clone(&commits),
        delay,
        ..Counting::default()
    });
    runtime().block_on(async {
        let mut waiting = Vec::new();
        for session in 1..=50 {
            let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
            let entries = vec![pending(session, 1), pending(session, 2)];
            running
                .handle
                .append(entries, sender)
                .await
                .expect("appends");
            waiting.push((session, receiver));
        }
        for (session, mut receiver) in waiting {
            let proofs = receiver.recv().await.expect("durable");
            let tokens: Vec<_> = proofs.iter().map(Durable::token).collect();
            assert_eq!(
                tokens,
                [Token { session, number: 1 }, Token { session, number: 2 }]
            );
        }
    });
    assert!(commits.load(Ordering::Relaxed) < 10, "grouped: {commits:?}");
    assert_eq!(running.handle.committed(), 100);
    let patience = std::time::Duration::from_secs(5);
    assert_eq!(running.wake.recv_timeout(patience), Ok(()));
    let remote = RemoteJournal::new(running.handle.clone(), P);
    assert_eq!(
        remote.last(P).expect("reads"),
        Some(Position::from_bytes(100_u128.to_be_bytes()))
    );
    running.handle.stop();
    running
        .thread
        .join()
        .expect("no panic")
        .expect("a clean end");
    assert!(remote.last(P).is_err(), "stopped");
}

#[test]
fn a_failed_commit_proves_nothing_and_ends_the_thread() {
    let running = start(Counting {
        fail: true,
        ..Counting::default()
    });
    runtime().block_on(async {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        running
            .handle
            .append(vec![pending(1, 1)], sender)
            .await
            .expect("queued");
        assert_eq!(receiver.recv().await, None, "no proof");
    });
    let error = running
        .thread
        .join()
        .expect("no panic")
        .expect_err("failed");
    assert!(error.to_string().contains("disk on fire"));
    runtime().block_on(async {
        let (sender, _receiver) = tokio::sync::mpsc::unbounded_channel();
        assert_eq!(
            running.handle.append(vec![pending(1, 2)], sender).await,
            Err(JournalStopped)
        );
    });
}

#[test]
fn what_waits_is_bounded() {
    let delay = std::time::Duration::from_secs(1);
    let running = start(Counting {
        delay,
        ..Counting::default()
    });
    runtime().block_on(async {
        let (sender, _receiver) = tokio::sync::mpsc::unbounded_channel();
        let room = usize::try_from(BUDGET_UNITS).expect("fits");
        let _held = Arc::clone(&running.handle.budget)
            .acquire_many_owned(BUDGET_UNITS)
            .await
            .expect("open");
        assert_eq!(
            running.handle.budget.available_permits(),
            0,
            "{room} are held"
        );
        let append = running.handle.append(vec![pending(1, 1)], sender);
        let waited = tokio::time::timeout(std::time::Duration::from_millis(50), append).await;
        assert!(waited.is_err(), "it waits for room");
    });
}
