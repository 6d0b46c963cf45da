//! The end of a process and the end of the machine.

use std::collections::BTreeMap;

use super::{Disk, NameChange, SECTOR_BYTES, index};

impl Disk {
    pub(in crate::storage::memory) fn restart(&mut self) {
        self.stats.kills += 1;
        self.end_process();
    }

    fn end_process(&mut self) {
        self.epoch += 1;
        self.stopped = false;
        self.heal();
        for file in self.inodes.values_mut() {
            file.handles = 0;
        }
        self.collect();
    }

    pub(in crate::storage::memory) fn crash(&mut self) {
        self.stats.crashes += 1;
        // How much survives varies from crash to crash: all, nothing, and between.
        let odds = self.below(5);
        let inodes: Vec<u64> = self.inodes.keys().copied().collect();
        for inode in inodes {
            self.crash_file(inode, odds);
        }
        let mut names = std::mem::take(&mut self.durable);
        for change in std::mem::take(&mut self.pending) {
            if self.below(4) >= odds {
                self.stats.lost_names += 1;
                continue;
            }
            match change {
                NameChange::Set { name, inode } => {
                    names.insert(name, inode);
                }
                NameChange::Unset { name } => {
                    names.remove(&name);
                }
                NameChange::Move { from, to, inode } => {
                    if names.get(&from) == Some(&inode) {
                        names.remove(&from);
                    }
                    names.insert(to, inode);
                }
            }
        }
        self.visible.clone_from(&names);
        self.durable = names;
        self.end_process();
    }

    fn crash_file(&mut self, inode: u64, odds: u64) {
        let file = self.file_mut(inode);
        let dirty = std::mem::take(&mut file.dirty);
        let (old, new) = (file.durable.len() as u64, file.visible.len() as u64);
        let length = match self.below(4) {
            _ if old == new => old,
            0 => old,
            1 => old.min(new) + self.below(old.abs_diff(new) + 1),
            _ => new,
        };
        // Write number -> sectors kept and lost.
        let mut writes: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        self.file_mut(inode).durable.resize(index(length), 0);
        for (sector, write) in dirty {
            let kept = sector * SECTOR_BYTES < length && self.below(4) < odds;
            let counts = writes.entry(write).or_default();
            if kept {
                counts.0 += 1;
                self.file_mut(inode).store(sector);
            } else {
                counts.1 += 1;
            }
        }
        for (kept, lost) in writes.into_values() {
            match (kept, lost) {
                (0, _) => self.stats.lost_writes += 1,
                (_, 0) => {}
                _ => self.stats.torn_writes += 1,
            }
        }
        let file = self.file_mut(inode);
        file.visible.clone_from(&file.durable);
    }
}
