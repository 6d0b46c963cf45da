//! Removing what is no longer needed.

use std::io;

use super::segment;
use super::{LogPosition, SegmentLog, TrimError};
use crate::storage::Storage;

impl<S: Storage> SegmentLog<S> {
    /// Removes whole segments that end at or before `before`, oldest first. Returns the bytes
    /// that were freed.
    ///
    /// The newest segment that holds a durable record stays, and all behind it: what the
    /// last record says about the sequence is never lost.
    pub fn trim(&mut self, before: LogPosition) -> Result<u64, TrimError> {
        if self.config.is_none() {
            return Err(TrimError::ReadOnly);
        }
        if self.poisoned {
            return Err(TrimError::Poisoned);
        }
        let newest = self.segments.iter().rfind(|segment| segment.holds_records);
        let keep = newest.map_or(0, |segment| segment.number);
        let mut freed = 0;
        while let Some(oldest) = self.segments.front()
            && oldest.number < keep
            && oldest.end_position() <= before
        {
            let (number, bytes) = (oldest.number, u64::from(oldest.end));
            // One at a time: a crash may take unsynced removals back in any combination, and
            // a gap between segments would look like damage.
            let removed = match self.storage.remove(&segment::name(number)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                result => result,
            };
            if let Err(source) = removed.and_then(|()| self.storage.sync_dir()) {
                self.poisoned = true;
                return Err(TrimError::Io {
                    segment: number,
                    source,
                });
            }
            self.segments.pop_front();
            self.closed_bytes = self.closed_bytes.saturating_sub(bytes);
            freed += bytes;
        }
        Ok(freed)
    }
}
