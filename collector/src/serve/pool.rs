//! Connections for readers, few and reused.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use crate::sqlite::query::{QueryError, ReadOnly, Reader};

/// Queries that run at the same time; more wait.
const READERS_MAX: usize = 4;

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The query failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The thread that ran it ended; the process is going down.
    #[error("the collector is stopping")]
    Stopping,
}

/// Runs queries on threads that may block.
#[derive(Debug)]
pub struct ReaderPool<R = Reader> {
    path: Arc<PathBuf>,
    idle: Arc<Mutex<Vec<R>>>,
    permits: Arc<Semaphore>,
}

impl<R> Clone for ReaderPool<R> {
    fn clone(&self) -> Self {
        Self {
            path: Arc::clone(&self.path),
            idle: Arc::clone(&self.idle),
            permits: Arc::clone(&self.permits),
        }
    }
}

impl<R: ReadOnly> ReaderPool<R> {
    /// Readers of the file at `path`, opened when they are first needed.
    pub fn new(path: PathBuf) -> Self {
        let permits = Arc::new(Semaphore::new(READERS_MAX));
        Self {
            path: Arc::new(path),
            idle: Arc::new(Mutex::new(Vec::new())),
            permits,
        }
    }

    /// Runs `query` with a reader of its own.
    pub async fn run<T, Q>(&self, query: Q) -> Result<T, PoolError>
    where
        T: Send + 'static,
        Q: FnOnce(&R) -> Result<T, QueryError> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| PoolError::Stopping)?;
        let pool = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            // Held by the query and not by the request, which may be given up before.
            let _permit = permit;
            let idle = pool
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop();
            let reader = match idle.filter(|reader| reader.is_current(&pool.path)) {
                Some(reader) => reader,
                None => R::open(&pool.path)?,
            };
            let answer = query(&reader)?;
            // A reader that failed is not used again.
            pool.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(reader);
            Ok(answer)
        });
        task.await.map_err(|_| PoolError::Stopping)?
    }
}
