//! Where the simulated agents keep their cells.
//!
//! The memory of a mapped file survives the death of a process whole. A reset of the host
//! leaves a mixture: any page may be as it is now, or as it was when the file was synced last.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tollgate_agent_core::aggregate::{CellsHome, Region};

use super::random::Random;

/// Words of a page, the unit in which the kernel writes a mapped file back.
const PAGE_WORDS: usize = 512;

/// A mapped file.
#[derive(Debug)]
pub struct Mapped {
    words: Vec<AtomicU64>,
    /// As it was when it was put in place, or synced last.
    synced: Mutex<Vec<u64>>,
}

impl Mapped {
    fn new(words: &[u64], synced: Vec<u64>) -> Arc<Self> {
        let words = words.iter().map(|word| AtomicU64::new(*word));
        Arc::new(Self {
            words: words.collect(),
            synced: Mutex::new(synced),
        })
    }

    fn now(&self) -> Vec<u64> {
        self.words.iter().map(|word| word.load(Relaxed)).collect()
    }

    fn synced(&self) -> MutexGuard<'_, Vec<u64>> {
        self.synced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Region for Mapped {
    fn words(&self) -> &[AtomicU64] {
        &self.words
    }

    fn sync(&self) -> io::Result<()> {
        *self.synced() = self.now();
        Ok(())
    }
}

#[derive(Debug, Default)]
struct State {
    region: Option<Arc<Mapped>>,
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
        state.region.as_ref().map(|region| region.now())
    }

    /// The file becomes what it was.
    pub fn set_back(&self, image: Option<&Vec<u64>>) {
        self.state().region = image.map(|words| Mapped::new(words, words.clone()));
    }

    /// The process died: the file stays as it is, and nobody else holds its memory.
    pub fn kill(&self) {
        let mut state = self.state();
        if let Some(region) = state.region.take() {
            state.region = Some(Mapped::new(&region.now(), region.synced().clone()));
        }
    }

    /// The host was reset: pages go back to what was synced, or do not.
    pub fn reset(&self, random: &mut Random) {
        let mut state = self.state();
        let Some(region) = state.region.take() else {
            return;
        };
        let (mut words, synced) = (region.now(), region.synced());
        for (page, synced) in words.chunks_mut(PAGE_WORDS).zip(synced.chunks(PAGE_WORDS)) {
            if random.chance(500) {
                page.copy_from_slice(synced);
            }
        }
        state.region = Some(Mapped::new(&words, words.clone()));
    }
}

impl CellsHome for MemoryHome {
    type Region = Arc<Mapped>;

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
        let region = Mapped::new(&vec![0; words], Vec::new());
        fill(&region.words);
        region.sync()?;
        self.state().region = Some(Arc::clone(&region));
        Ok(region)
    }
}
