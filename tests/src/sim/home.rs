//! Where the simulated agents keep their cells.
//!
//! The memory of a mapped file survives the death of a process whole. A reset of the host
//! leaves a mixture: any page may be as it is now, or as it was when the file was synced last.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tollgate_agent_core::aggregate::CellsHome;

use super::random::Random;

/// Words of a page, the unit in which the kernel writes a mapped file back.
const PAGE_WORDS: usize = 512;

#[derive(Debug, Default)]
struct State {
    region: Option<Arc<Vec<AtomicU64>>>,
    /// The region as it was when it was put in place.
    synced: Vec<u64>,
    fail_next: bool,
}

/// A home in memory. A clone is another handle to the same file.
#[derive(Clone, Debug, Default)]
pub struct MemoryHome {
    state: Arc<Mutex<State>>,
}

impl MemoryHome {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next replacement fails, as on a full disk.
    pub fn fail_next(&self) {
        self.state().fail_next = true;
    }

    /// No replacement fails.
    pub fn heal(&self) {
        self.state().fail_next = false;
    }

    /// The words of the file as they are.
    pub fn image(&self) -> Option<Vec<u64>> {
        let state = self.state();
        let region = state.region.as_ref()?;
        Some(region.iter().map(|word| word.load(Relaxed)).collect())
    }

    /// The file becomes what it was.
    pub fn set_back(&self, image: Option<&Vec<u64>>) {
        let mut state = self.state();
        state.synced = image.cloned().unwrap_or_default();
        let words = image.map(|words| words.iter().map(|word| AtomicU64::new(*word)).collect());
        state.region = words.map(Arc::new);
    }

    /// The process died: the file stays as it is, and nobody else holds its memory.
    pub fn kill(&self) {
        let mut state = self.state();
        if let Some(region) = state.region.take() {
            let words = region.iter().map(|word| AtomicU64::new(word.load(Relaxed)));
            state.region = Some(Arc::new(words.collect()));
        }
    }

    /// The host was reset: pages go back to what was synced, or do not.
    pub fn reset(&self, random: &mut Random) {
        let mut state = self.state();
        let Some(region) = state.region.take() else {
            return;
        };
        let mut words: Vec<_> = region.iter().map(|word| word.load(Relaxed)).collect();
        for (page, synced) in words
            .chunks_mut(PAGE_WORDS)
            .zip(state.synced.chunks(PAGE_WORDS))
        {
            if random.chance(500) {
                page.copy_from_slice(synced);
            }
        }
        state.synced.clone_from(&words);
        state.region = Some(Arc::new(words.into_iter().map(AtomicU64::new).collect()));
    }
}

impl CellsHome for MemoryHome {
    type Region = Arc<Vec<AtomicU64>>;

    fn load(&mut self) -> io::Result<Option<Self::Region>> {
        Ok(self.state().region.clone())
    }

    fn replace(
        &mut self,
        words: usize,
        fill: &mut dyn FnMut(&[AtomicU64]),
    ) -> io::Result<Self::Region> {
        if std::mem::take(&mut self.state().fail_next) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let region: Vec<_> = (0..words).map(|_| AtomicU64::new(0)).collect();
        fill(&region);
        let mut state = self.state();
        state.synced = region.iter().map(|word| word.load(Relaxed)).collect();
        let region = Arc::new(region);
        state.region = Some(Arc::clone(&region));
        Ok(region)
    }
}
