//! A spool, or a file system, without room.

use super::*;

#[test]
fn the_reserve_is_kept_for_ends_and_openings() {
    let storage = MemoryStorage::new(1);
    let config = LogConfig {
        segment_bytes: 1 << 20,
        bytes_max: SPOOL_BYTES_MIN,
    };
    let (mut spool, _) = Spool::open(storage.clone(), config).expect("opens");
    let mut maker = Maker::new(1);
    let fill = |spool: &mut Spool<MemoryStorage>, maker: &mut Maker, room| loop {
        match spool.append(&maker.next(false), room) {
            Ok(_) => {}
            Err(SpoolError::Full { .. }) => break spool.bytes(),
            Err(error) => panic!("{error}"),
        }
    };
    let ordinary = fill(&mut spool, &mut maker, Room::Ordinary);
    assert!(ordinary <= SPOOL_BYTES_MIN * 7 / 8);
    maker.sequence -= 1;
    let reserve = fill(&mut spool, &mut maker, Room::Reserve);
    assert!(reserve > ordinary && reserve <= SPOOL_BYTES_MIN);
    assert!(storage.used() <= SPOOL_BYTES_MIN);
    // However full it was, once all is released there is room.
    let acknowledged = Acknowledged::for_test(incarnation(1), u64::MAX);
    spool.release(acknowledged).expect("trims");
    maker.sequence -= 1;
    spool
        .append(&maker.next(false), Room::Ordinary)
        .expect("room");
    let tiny = LogConfig {
        bytes_max: SPOOL_BYTES_MIN - 1,
        ..config
    };
    assert!(matches!(
        Spool::open(storage, tiny),
        Err(SpoolError::TooSmall(_))
    ));
}

/// Others fill the file system: a window's seal leaves `free_min` alone, a final one may use it,
/// and once there is room again everything goes on.
#[test]
fn the_file_system_is_left_room_to_breathe() {
    let storage = MemoryStorage::new(1);
    let config = SpoolConfig {
        free_min: 10_000,
        ..SpoolConfig::from(CONFIG)
    };
    let (mut spool, _) = Spool::open(storage.clone(), config).expect("opens");
    let mut maker = Maker::new(1);
    spool
        .append(&maker.next(false), Room::Ordinary)
        .expect("room");
    storage.set_capacity(Some(storage.used() + 10_100));
    let waiting = maker.next(false);
    let error = spool.append(&waiting, Room::Ordinary).expect_err("no room");
    assert!(
        matches!(error, SpoolError::Full { free: 10_100, .. }),
        "{error}"
    );
    spool.append(&waiting, Room::Reserve).expect("the reserve");
    storage.set_capacity(None);
    spool
        .append(&maker.next(false), Room::Ordinary)
        .expect("room again");
    assert_eq!(all(&spool).len(), 3);
}

/// No room at any operation: nothing is lost, and only a failed sync or cut ends the spool.
#[test]
fn a_full_disk_refuses_a_batch_and_takes_it_later() {
    for policy in [SyncPolicy::Always, SyncPolicy::Interval { millis: 1000 }] {
        let mut refused = 0;
        for room in (0..6000).step_by(37) {
            let storage = MemoryStorage::new(room);
            let config = SpoolConfig {
                sync: policy,
                ..SpoolConfig::from(CONFIG)
            };
            let (mut spool, _) = Spool::open(storage.clone(), config).expect("opens");
            let mut maker = Maker::new(1);
            storage.set_capacity(Some(storage.used() + room));
            for _ in 0..20 {
                let sealed = maker.next(false);
                match spool.append(&sealed, Room::Ordinary) {
                    Ok(_) => {}
                    Err(SpoolError::Full { .. }) => {
                        refused += 1;
                        // Somebody deletes something.
                        let more = storage.used() + room + 3000;
                        storage.set_capacity(Some(more));
                        spool.append(&sealed, Room::Ordinary).expect("room");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(all(&spool).len(), 20);
            storage.kill();
            let spool = open(&storage);
            assert!(all(&spool).iter().all(|seen| seen.2 == "batch"));
            assert_eq!(spool.tail(incarnation(1)).expect("held").last, 20);
        }
        assert!(refused > 150, "{refused}");
    }
}
