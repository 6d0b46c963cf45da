//! The two images of a [`super::MemoryStorage`] and the chance between them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

mod crash;

/// What a crash keeps or loses as a whole.
pub const SECTOR_BYTES: u64 = 512;

/// What happened on a disk since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Calls, reads included.
    pub operations: u64,
    /// Writes.
    pub writes: u64,
    /// Syncs of files, lies and failures included.
    pub syncs: u64,
    /// Syncs of the directory, lies and failures included.
    pub dir_syncs: u64,
    /// Machine crashes.
    pub crashes: u64,
    /// Process deaths.
    pub kills: u64,
    /// Unsynced writes of which a crash kept one part and lost another.
    pub torn_writes: u64,
    /// Unsynced writes that a crash lost wholly.
    pub lost_writes: u64,
    /// Unsynced names (created, renamed, removed) that a crash took back.
    pub lost_names: u64,
    /// Operations that failed because it was asked for.
    pub injected_failures: u64,
    /// Syncs among them: their pages were dropped.
    pub failed_syncs: u64,
    /// Writes refused for lack of space.
    pub out_of_space: u64,
    /// Bytes damaged at rest.
    pub flipped_bytes: u64,
}

/// The names, with the file that each one names.
type Names = BTreeMap<String, u64>;

/// One file: what processes see, what is on the platter, and which sectors the kernel still
/// means to write, each with the number of the write that last touched it.
#[derive(Debug, Default)]
pub(super) struct Inode {
    pub(super) visible: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeMap<u64, u64>,
    handles: u64,
}

/// An unsynced change of a name.
#[derive(Debug)]
enum NameChange {
    Set {
        name: String,
        inode: u64,
    },
    Unset {
        name: String,
    },
    Move {
        from: String,
        to: String,
        inode: u64,
    },
}

/// How an operation shall end.
pub(super) enum Outcome {
    /// As asked.
    Whole,
    /// With an error.
    Fails(io::Error),
    /// In the middle: the power failed.
    Stops(io::Error),
}

impl Outcome {
    /// For operations that change nothing.
    pub(super) fn read(self) -> io::Result<()> {
        match self {
            Self::Whole => Ok(()),
            Self::Fails(error) | Self::Stops(error) => Err(error),
        }
    }
}

#[derive(Debug)]
struct Failure {
    at: u64,
    kind: io::ErrorKind,
    forever: bool,
}

#[derive(Debug)]
pub(super) struct Disk {
    random: u64,
    pub(super) epoch: u64,
    inode_next: u64,
    write_next: u64,
    inodes: BTreeMap<u64, Inode>,
    visible: Names,
    durable: Names,
    pending: Vec<NameChange>,
    failure: Option<Failure>,
    stop_at: Option<u64>,
    pub(super) stopped: bool,
    pub(super) capacity: Option<u64>,
    pub(super) ignore_sync: bool,
    pub(super) ignore_sync_dir: bool,
    pub(super) stats: DiskStats,
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("a file in memory fits the address space")
}

impl Disk {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: seed,
            epoch: 0,
            inode_next: 1,
            write_next: 1,
            inodes: BTreeMap::new(),
            visible: Names::new(),
            durable: Names::new(),
            pending: Vec::new(),
            failure: None,
            stop_at: None,
            stopped: false,
            capacity: None,
            ignore_sync: false,
            ignore_sync_dir: false,
            stats: DiskStats::default(),
        }
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = self.random;
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound` (0 if that is 0).
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the upper half of a product of two u64")
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// Counts an operation and decides how it ends.
    pub(super) fn enter(&mut self) -> io::Result<Outcome> {
        self.stats.operations += 1;
        let number = self.stats.operations;
        if self.stopped {
            return Err(io::Error::other("the power is off"));
        }
        if self.stop_at.is_some_and(|at| number >= at) {
            self.stopped = true;
            return Ok(Outcome::Stops(io::Error::other("the power failed")));
        }
        if let Some(failure) = &self.failure
            && (number == failure.at || (failure.forever && number > failure.at))
        {
            self.stats.injected_failures += 1;
            return Ok(Outcome::Fails(io::Error::new(
                failure.kind,
                "injected fault",
            )));
        }
        Ok(Outcome::Whole)
    }

    /// Applies a change that happens wholly or not at all.
    pub(super) fn change<T>(
        &mut self,
        outcome: Outcome,
        apply: impl FnOnce(&mut Self) -> T,
    ) -> io::Result<T> {
        match outcome {
            Outcome::Whole => Ok(apply(self)),
            Outcome::Fails(error) => Err(error),
            Outcome::Stops(error) => {
                if self.coin() {
                    apply(self);
                }
                Err(error)
            }
        }
    }

    pub(super) fn fail_at(&mut self, number: u64, kind: io::ErrorKind, forever: bool) {
        self.failure = Some(Failure {
            at: self.stats.operations.saturating_add(number),
            kind,
            forever,
        });
    }

    pub(super) fn stop_at(&mut self, number: u64) {
        self.stop_at = Some(self.stats.operations.saturating_add(number));
    }

    pub(super) fn heal(&mut self) {
        self.failure = None;
        self.stop_at = None;
    }

    // Names.

    pub(super) fn names(&self) -> Vec<String> {
        self.visible.keys().cloned().collect()
    }

    pub(super) fn inode(&self, name: &str) -> Option<u64> {
        self.visible.get(name).copied()
    }

    pub(super) fn contents(&self, name: &str) -> Option<&[u8]> {
        let inode = self.inode(name)?;
        Some(&self.file(inode).visible)
    }

    pub(super) fn file(&self, inode: u64) -> &Inode {
        self.inodes
            .get(&inode)
            .expect("a file lives as long as a name or a handle refers to it")
    }

    fn file_mut(&mut self, inode: u64) -> &mut Inode {
        self.inodes
            .get_mut(&inode)
            .expect("a file lives as long as a name or a handle refers to it")
    }

    fn new_inode(&mut self) -> u64 {
        let inode = self.inode_next;
        self.inode_next += 1;
        self.inodes.insert(inode, Inode::default());
        inode
    }

    pub(super) fn create(&mut self, name: &str) -> u64 {
        let inode = self.new_inode();
        self.visible.insert(name.to_owned(), inode);
        self.pending.push(NameChange::Set {
            name: name.to_owned(),
            inode,
        });
        inode
    }

    pub(super) fn rename(&mut self, from: &str, to: &str, inode: u64) {
        self.visible.remove(from);
        self.visible.insert(to.to_owned(), inode);
        self.pending.push(NameChange::Move {
            from: from.to_owned(),
            to: to.to_owned(),
            inode,
        });
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.visible.remove(name);
        self.pending.push(NameChange::Unset {
            name: name.to_owned(),
        });
    }

    pub(super) fn sync_names(&mut self) {
        self.durable = self.visible.clone();
        self.pending.clear();
        self.collect();
    }

    pub(super) fn retain(&mut self, inode: u64) {
        self.file_mut(inode).handles += 1;
    }

    pub(super) fn release(&mut self, inode: u64) {
        self.file_mut(inode).handles -= 1;
        self.collect();
    }

    /// Forgets files that neither a name nor a handle refers to.
    fn collect(&mut self) {
        let pending = self.pending.iter().filter_map(|change| match change {
            NameChange::Set { inode, .. } | NameChange::Move { inode, .. } => Some(*inode),
            NameChange::Unset { .. } => None,
        });
        let named: BTreeSet<u64> = pending
            .chain(self.visible.values().copied())
            .chain(self.durable.values().copied())
            .collect();
        self.inodes
            .retain(|inode, file| file.handles > 0 || named.contains(inode));
    }

    // Bytes.

    pub(super) fn used(&self) -> u64 {
        let files = self.visible.values();
        files
            .map(|inode| self.file(*inode).visible.len() as u64)
            .sum()
    }

    pub(super) fn has_room(&self, inode: u64, length: u64) -> bool {
        self.capacity.is_none_or(|capacity| {
            let now = self.file(inode).visible.len() as u64;
            self.used().saturating_sub(now).saturating_add(length) <= capacity
        })
    }

    pub(super) fn write(&mut self, inode: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        // The kernel writes back when it likes: a later crash may find an older version.
        if self.below(8) == 0 {
            self.write_back(inode);
        }
        let length = self.file(inode).visible.len() as u64;
        let end = offset + bytes.len() as u64;
        let mut fits = bytes.len() as u64;
        if end > length && !self.has_room(inode, end) {
            let others = self.used().saturating_sub(length);
            let room = self.capacity.unwrap_or(u64::MAX).saturating_sub(others);
            fits = room.max(length).min(end).saturating_sub(offset);
        }
        let part = &bytes[..index(fits)];
        if !part.is_empty() {
            self.stats.writes += 1;
            let write = self.write_next;
            self.write_next += 1;
            let file = self.file_mut(inode);
            let from = file.visible.len().min(index(offset));
            let to = index(offset) + part.len();
            if file.visible.len() < to {
                file.visible.resize(to, 0);
            }
            file.visible[index(offset)..to].copy_from_slice(part);
            for sector in from as u64 / SECTOR_BYTES..=(to as u64 - 1) / SECTOR_BYTES {
                file.dirty.insert(sector, write);
            }
        }
        if fits == bytes.len() as u64 {
            Ok(())
        } else {
            self.stats.out_of_space += 1;
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    pub(super) fn set_len(&mut self, inode: u64, length: u64) {
        let write = self.write_next;
        self.write_next += 1;
        let file = self.file_mut(inode);
        let old = file.visible.len() as u64;
        file.visible.resize(index(length), 0);
        // What lay behind the cut must not come back when the file grows again.
        let (low, high) = (old.min(length), old.max(length));
        for sector in low / SECTOR_BYTES..high.div_ceil(SECTOR_BYTES) {
            file.dirty.insert(sector, write);
        }
    }

    pub(super) fn sync(&mut self, inode: u64) {
        let file = self.file_mut(inode);
        let dirty = std::mem::take(&mut file.dirty);
        file.durable.resize(file.visible.len(), 0);
        for sector in dirty.into_keys() {
            file.store(sector);
        }
    }

    /// A failed sync: some sectors arrived, none is dirty any more.
    pub(super) fn sync_failed(&mut self, inode: u64) {
        self.stats.failed_syncs += 1;
        self.write_back(inode);
        self.file_mut(inode).dirty.clear();
    }

    /// Stores an arbitrary part of the dirty sectors.
    pub(super) fn write_back(&mut self, inode: u64) {
        let sectors: Vec<u64> = self.file(inode).dirty.keys().copied().collect();
        for sector in sectors {
            if self.coin() {
                let file = self.file_mut(inode);
                let end = ((sector + 1) * SECTOR_BYTES).min(file.visible.len() as u64);
                if (file.durable.len() as u64) < end {
                    file.durable.resize(index(end), 0);
                }
                file.store(sector);
                file.dirty.remove(&sector);
            }
        }
    }

    // What tests do behind everybody's back.

    pub(super) fn flip(&mut self, name: &str, offset: u64, mask: u8) -> bool {
        let Some(inode) = self.inode(name) else {
            return false;
        };
        let file = self.file_mut(inode);
        let at = index(offset);
        let Some(byte) = file.visible.get_mut(at) else {
            return false;
        };
        *byte ^= mask;
        if let Some(byte) = file.durable.get_mut(at) {
            *byte ^= mask;
        }
        self.stats.flipped_bytes += 1;
        true
    }

    pub(super) fn set_contents(&mut self, name: &str, bytes: &[u8]) {
        let inode = match self.inode(name) {
            Some(inode) => inode,
            None => self.new_inode(),
        };
        let file = self.file_mut(inode);
        file.visible = bytes.to_vec();
        file.durable = bytes.to_vec();
        file.dirty.clear();
        self.visible.insert(name.to_owned(), inode);
        self.durable.insert(name.to_owned(), inode);
    }

    pub(super) fn lose_file(&mut self, name: &str) -> bool {
        let lost = self.visible.remove(name).is_some();
        self.durable.remove(name);
        self.pending.retain(|change| {
            !matches!(change, NameChange::Set { name: set, .. }
                | NameChange::Move { to: set, .. } if set == name)
        });
        self.collect();
        lost
    }
}

impl Inode {
    /// Copies a sector from what is visible to what is durable, as far as the latter reaches.
    fn store(&mut self, sector: u64) {
        let start = index(sector * SECTOR_BYTES);
        let end = index((sector + 1) * SECTOR_BYTES).min(self.durable.len());
        for at in start..end {
            self.durable[at] = self.visible.get(at).copied().unwrap_or(0);
        }
    }
}
