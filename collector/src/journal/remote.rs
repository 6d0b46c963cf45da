//! The journal as the fold sees it: for reading, through the journal thread.

use crossbeam::channel::{Sender, bounded};
use tollgate_collector_core::journal::{Epoch, Journal, JournalError, JournalItem, PartitionId};
use tollgate_collector_core::position::Position;

use super::{Command, JournalHandle};

/// Reads what is committed. Writing through it is refused: there is one writer.
#[derive(Clone, Debug)]
pub struct RemoteJournal {
    handle: JournalHandle,
    partition: PartitionId,
}

impl RemoteJournal {
    /// The journal behind `handle`, whose thread has `partition`.
    pub fn new(handle: JournalHandle, partition: PartitionId) -> Self {
        Self { handle, partition }
    }

    fn ask<T>(
        &self,
        partition: PartitionId,
        command: impl FnOnce(Sender<Result<T, JournalError>>) -> Command,
    ) -> Result<T, JournalError> {
        let stopped = || JournalError::Io("the journal has stopped".to_owned());
        if partition != self.partition {
            return Err(JournalError::Io(format!(
                "partition {} is not of this journal",
                partition.0
            )));
        }
        let (answer, answered) = bounded(1);
        self.handle
            .commands
            .send(command(answer))
            .map_err(|_| stopped())?;
        answered.recv().map_err(|_| stopped())?
    }

    fn read_only<T>() -> Result<T, JournalError> {
        Err(JournalError::Io(
            "this side of the journal is for reading".to_owned(),
        ))
    }
}

impl Journal for RemoteJournal {
    fn acquire(&mut self, _: PartitionId) -> Result<Epoch, JournalError> {
        Self::read_only()
    }

    fn append(&mut self, _: PartitionId, _: &[u8]) -> Result<(), JournalError> {
        Self::read_only()
    }

    fn commit(&mut self, _: PartitionId) -> Result<Vec<Position>, JournalError> {
        Self::read_only()
    }

    fn read(
        &self,
        partition: PartitionId,
        after: Option<Position>,
        max_bytes: usize,
    ) -> Result<Vec<JournalItem>, JournalError> {
        self.ask(partition, |answer| Command::Read {
            after,
            max_bytes,
            answer,
        })
    }

    fn last(&self, partition: PartitionId) -> Result<Option<Position>, JournalError> {
        self.ask(partition, |answer| Command::Last { answer })
    }
}
