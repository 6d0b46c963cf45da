//! The disk keeps what it must, loses what it may, and does so the same way for a seed.

use super::*;

fn image(storage: &MemoryStorage) -> Vec<(String, Vec<u8>)> {
    let names = storage.names().into_iter();
    names
        .map(|name| {
            let bytes = storage.contents(&name).expect("a listed file");
            (name, bytes)
        })
        .collect()
}

#[test]
fn what_was_synced_survives_every_crash() {
    for seed in 0..200 {
        let storage = MemoryStorage::new(seed);
        let file = storage.create("a").expect("creates");
        file.write_at(0, &[1; 3000]).expect("writes");
        file.sync().expect("syncs");
        storage.sync_dir().expect("syncs");
        file.write_at(1000, &[2; 3000]).expect("writes");
        storage.create("b").expect("creates");
        storage.crash();
        let bytes = storage.contents("a").expect("the name was synced");
        assert!(bytes.len() >= 3000 && bytes[..512].iter().all(|byte| *byte == 1));
        assert!(bytes[..3000].iter().all(|byte| *byte == 1 || *byte == 2));
        assert!(file.sync().is_err(), "its process is gone");
    }
}

#[test]
fn crashes_tear_and_lose_but_kills_do_not() {
    let mut seen = DiskStats::default();
    for seed in 0..100 {
        let storage = MemoryStorage::new(seed);
        let file = storage.create("a").expect("creates");
        storage.sync_dir().expect("syncs");
        file.write_at(0, &[7; 5000]).expect("writes");
        storage.remove("a").expect("removes");
        storage.create("b").expect("creates");
        let before = image(&storage);
        storage.kill();
        assert_eq!(image(&storage), before);
        storage.crash();
        let stats = storage.stats();
        seen.torn_writes += stats.torn_writes;
        seen.lost_writes += stats.lost_writes;
        seen.lost_names += stats.lost_names;
    }
    assert!(
        seen.torn_writes > 20 && seen.lost_writes > 20 && seen.lost_names > 20,
        "{seen:?}"
    );
}

#[test]
fn the_same_seed_gives_the_same_crash() {
    let run = |seed| {
        let storage = MemoryStorage::new(seed);
        for name in ["a", "b", "c"] {
            let file = storage.create(name).expect("creates");
            file.write_at(0, &[3; 4000]).expect("writes");
            file.set_len(1234).expect("cuts");
        }
        storage.crash();
        image(&storage)
    };
    assert_eq!(run(5), run(5));
    assert!((0..20).any(|seed| run(seed) != run(5)));
}

#[test]
fn a_failed_sync_forgets_its_pages() {
    let mut lost = 0;
    for seed in 0..50 {
        let storage = MemoryStorage::new(seed);
        let file = storage.create("a").expect("creates");
        storage.sync_dir().expect("syncs");
        file.write_at(0, &[9; 2048]).expect("writes");
        storage.fail_at(1, io::ErrorKind::Other, false);
        file.sync().expect_err("asked for");
        file.sync().expect("the next one succeeds");
        assert_eq!(storage.contents("a").expect("visible"), [9; 2048]);
        storage.crash();
        lost += u32::from(storage.contents("a").expect("named") != [9; 2048]);
    }
    assert!(lost > 30, "{lost}");
}

#[test]
fn a_cut_file_that_grows_again_reads_as_zeros() {
    let storage = MemoryStorage::new(1);
    let file = storage.create("a").expect("creates");
    storage.sync_dir().expect("syncs");
    file.write_at(0, &[5; 2000]).expect("writes");
    file.sync().expect("syncs");
    file.set_len(100).expect("cuts");
    file.write_at(1500, b"x").expect("writes");
    file.sync().expect("syncs");
    storage.crash();
    let bytes = storage.contents("a").expect("named");
    assert_eq!(bytes.len(), 1501);
    assert!(bytes[100..1500].iter().all(|byte| *byte == 0));
}

#[test]
fn a_full_disk_takes_what_fits() {
    let storage = MemoryStorage::new(1);
    storage.set_capacity(Some(10));
    let file = storage.create("a").expect("creates");
    let error = file.write_at(0, &[1; 20]).expect_err("too much");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(storage.used(), 10);
    file.write_at(0, &[2; 10]).expect("rewrites in place");
    file.set_len(4).expect("cuts");
    file.write_at(4, &[3; 6]).expect("fits again");
}

#[test]
fn liars_lose_in_the_end() {
    let (mut names, mut bytes) = (0, 0);
    for seed in 0..20 {
        let storage = MemoryStorage::new(seed);
        storage.set_ignore_sync_dir(true);
        storage.create("a").expect("creates");
        storage.sync_dir().expect("lies");
        storage.crash();
        names += u32::from(storage.names().is_empty());

        let storage = MemoryStorage::new(seed);
        storage.set_ignore_sync(true);
        let file = storage.create("a").expect("creates");
        storage.sync_dir().expect("syncs");
        file.write_at(0, &[1; 10_000]).expect("writes");
        file.sync().expect("lies");
        storage.crash();
        let left = storage.contents("a").expect("named");
        bytes += u32::from(left != [1; 10_000]);
    }
    assert!(names > 5 && bytes > 5, "{names} {bytes}");
}

#[test]
fn power_stays_off_until_the_restart() {
    let storage = MemoryStorage::new(9);
    let file = storage.create("a").expect("creates");
    storage.stop_at(2);
    file.write_at(0, b"one").expect("before");
    file.write_at(3, b"two").expect_err("the power fails here");
    assert!(storage.is_stopped());
    storage.list().expect_err("off");
    storage.crash();
    storage.list().expect("on again");
}
