use tollgate_common::Timestamp;

use super::*;
use crate::entry::LostEntry;
use crate::entry::codec::encode;
use crate::journal::memory::MemoryJournal;

const PARTITION: PartitionId = PartitionId(0);

fn write(journal: &mut MemoryJournal, entry: &Entry, stamp: i64) {
    let bytes = encode(entry)
        .expect("encodes")
        .stamped(Timestamp::from_secs(stamp));
    journal.append(PARTITION, &bytes).expect("memory");
    journal.commit(PARTITION).expect("memory");
}

fn read_all(journal: &MemoryJournal) -> Result<Vec<i64>, ReadError> {
    let mut reader = Reader::new(PARTITION, None);
    let mut stamps = Vec::new();
    while let Some((_, stamped)) = reader.next(journal)? {
        stamps.push(stamped.stamp.secs());
    }
    Ok(stamps)
}

#[test]
fn damage_stops_the_reader_until_it_is_given_up() {
    let mut journal = MemoryJournal::new();
    for stamp in 1..=4 {
        write(&mut journal, &Entry::Clock, stamp);
    }
    assert_eq!(read_all(&journal).ok(), Some(vec![1, 2, 3, 4]));
    journal.damage(1);
    let error = read_all(&journal).expect_err("damaged");
    let text = error.to_string();
    assert!(
        text.contains(&MemoryJournal::position(1).to_string()) && text.contains("repair"),
        "{text}"
    );

    let give_up = |position| {
        Entry::Lost(LostEntry {
            position,
            author: "jane".to_owned(),
            reason: "no copy".to_owned(),
        })
    };
    write(&mut journal, &give_up(MemoryJournal::position(2)), 5);
    assert!(read_all(&journal).is_err(), "another one was given up");
    write(&mut journal, &give_up(MemoryJournal::position(1)), 6);
    assert_eq!(read_all(&journal).ok(), Some(vec![1, 3, 4, 5, 6]));
}

#[test]
fn the_reader_goes_on_when_more_is_committed_or_repaired() {
    let mut journal = MemoryJournal::new();
    let mut reader = Reader::new(PARTITION, None);
    assert!(reader.next(&journal).expect("reads").is_none());
    write(&mut journal, &Entry::Clock, 1);
    write(&mut journal, &Entry::Clock, 2);
    assert!(reader.next(&journal).expect("reads").is_some());
    let intact = journal.clone();
    journal.damage(1);
    let mut reader = Reader::new(PARTITION, reader.position());
    assert!(reader.next(&journal).is_err());
    assert!(reader.next(&journal).is_err(), "the error stays");
    assert!(
        reader
            .next(&intact)
            .expect("restored from a copy")
            .is_some()
    );
    assert_eq!(reader.position(), Some(MemoryJournal::position(1)));
}

#[test]
fn undecodable_entries_stop_the_reader() {
    let mut journal = MemoryJournal::new();
    journal
        .append(PARTITION, b"TJ\x63 from the future")
        .expect("memory");
    journal.commit(PARTITION).expect("memory");
    assert!(matches!(
        read_all(&journal),
        Err(ReadError::Undecodable { .. })
    ));
}
