//! What `ledger verify` finds when somebody, or a disk, changes a byte.

mod support;

use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::Value;
use support::{Site, billed};

/// Flips tried per file.
const FLIPS: usize = 48;

/// A stopped collector that has billed something.
async fn closed() -> Site {
    let (site, collector) = billed("settlement = \"1h\"\n\n[[issuer]]\nid = \"main\"").await;
    let file = site.dir().join("acme.toml");
    std::fs::write(&file, "name = \"Erika Mustermann\"\n").expect("writes");
    let file = file.to_str().expect("UTF-8");
    for command in [
        &["party", "set", "--tenant", "acme", "--file", file][..],
        &[
            "invoice", "issue", "--tenant", "acme", "--reason", "June", "--author", "kim",
        ],
    ] {
        let (code, out) = tokio::task::block_in_place(|| site.cli(command));
        assert_eq!(code, 0, "{out}");
    }
    collector.stop().await;
    assert_eq!(site.cli(&["ledger", "verify"]).0, 0);
    // Everything into the one file.
    Connection::open(site.data().join("projection.sqlite"))
        .expect("opens")
        .pragma_update(None, "journal_mode", "DELETE")
        .expect("nobody else has it open");
    assert_eq!(site.cli(&["ledger", "verify"]).0, 0);
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn every_figure_of_the_projection_is_verified() {
    let site = closed().await;
    let file = site.data().join("projection.sqlite");
    let original = std::fs::read(&file).expect("reads");
    for forgery in [
        "UPDATE ledger SET tenant = 'rival'",
        "UPDATE ledger SET period_start = 0",
        "UPDATE ledger SET amount = '0.01'",
        "UPDATE ledger SET entry = entry || ' '",
        "INSERT INTO ledger SELECT partition + 100, idx, posted, kind, tenant, meter, line, period_start,
             period_end, quantity, scale, amount, currency, entry FROM ledger",
        "UPDATE usage SET quantity = '1'",
        "DELETE FROM usage WHERE dimensions LIKE '%us%'",
        "UPDATE accounts SET accepted = '320', counted = '320'",
        "INSERT INTO accounts VALUES ('rival', 'http.requests', 0, '5', '5', '0', '0', '0')",
        "UPDATE periods SET status = 'open'",
        "UPDATE catalogs SET change = replace(change, 'first start', 'nothing much')",
        "DELETE FROM catalogs",
        "UPDATE catalog_files SET files = replace(files, '0.50', '0.60')",
        "UPDATE agents SET state = replace(state, '\"lost\":0', '\"lost\":9')",
    ] {
        put(&file, &original);
        let database = Connection::open(&file).expect("opens");
        database
            .execute_batch(&format!(
                "DROP TRIGGER ledger_no_update; DROP TRIGGER ledger_no_delete; {forgery}"
            ))
            .expect("a forger has his ways");
        assert!(database.changes() > 0, "{forgery}");
        drop(database);
        let (code, out) = site.cli(&["ledger", "verify", "--json"]);
        assert_eq!(code, 3, "{forgery}: {out}");
        assert!(out.contains("\"verified\": false") || out.contains("\"verified\":false"), "{out}");
    }
}

/// Puts the database there, without what readers have left beside it.
fn put(file: &Path, bytes: &[u8]) {
    for beside in ["projection.sqlite-wal", "projection.sqlite-shm"] {
        let _ = std::fs::remove_file(file.with_file_name(beside));
    }
    std::fs::write(file, bytes).expect("writes");
}

/// Every row of every table that is derived, if the file can be read.
fn rows(file: &Path) -> rusqlite::Result<Vec<Vec<Value>>> {
    let database = Connection::open(file)?;
    let mut all = Vec::new();
    for table in [
        "progress",
        "ledger",
        "accounts",
        "periods",
        "agents",
        "usage",
        "catalogs",
        "catalog_files",
    ] {
        let mut statement = database.prepare(&format!("SELECT * FROM {table}"))?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            all.push((0..columns).map(|c| row.get(c)).collect::<Result<_, _>>()?);
        }
    }
    Ok(all)
}

fn flipped(bytes: &[u8], index: usize) -> (usize, Vec<u8>) {
    let at = index * (bytes.len() - 1) / (FLIPS - 1);
    let mut changed = bytes.to_vec();
    changed[at] ^= 1 << (index % 8);
    (at, changed)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flipped_bit_of_the_parties_is_found_or_changes_nothing() {
    let site = closed().await;
    let file = site.data().join("parties.sqlite");
    let original = std::fs::read(&file).expect("reads");
    let rows = |file: &Path| -> rusqlite::Result<Vec<Vec<Value>>> {
        let database = Connection::open(file)?;
        let mut all = Vec::new();
        for table in ["current", "snapshot"] {
            let mut statement = database.prepare(&format!("SELECT * FROM {table}"))?;
            let columns = statement.column_count();
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                all.push((0..columns).map(|c| row.get(c)).collect::<Result<_, _>>()?);
            }
        }
        Ok(all)
    };
    let honest = rows(&file).expect("whole");
    assert_eq!(
        honest.len(),
        2,
        "what is said now, and what the invoice says"
    );
    let mut found = 0;
    for index in 0..FLIPS {
        let (at, changed) = flipped(&original, index);
        std::fs::write(&file, &changed).expect("writes");
        let (code, out) = site.cli(&["ledger", "verify", "--json"]);
        found += usize::from(code != 0);
        assert!(
            code != 0 || rows(&file).is_ok_and(|rows| rows == honest),
            "byte {at}: {out}"
        );
    }
    assert!(found > 0, "no flip met anything");
    std::fs::remove_file(&file).expect("removes");
    let (code, out) = site.cli(&["ledger", "verify", "--json"]);
    assert_eq!(code, 3, "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_of_the_projection_is_found_or_changes_nothing() {
    let site = closed().await;
    let file = site.data().join("projection.sqlite");
    let original = std::fs::read(&file).expect("reads");
    let honest = rows(&file).expect("whole");
    let mut found = 0;
    for index in 0..FLIPS {
        let (at, changed) = flipped(&original, index);
        put(&file, &changed);
        let (code, out) = site.cli(&["ledger", "verify", "--json"]);
        found += usize::from(code != 0);
        // Most of a small file is unused space.
        assert!(
            code != 0 || rows(&file).is_ok_and(|rows| rows == honest),
            "byte {at}: {out}"
        );
    }
    assert!(found > 0, "no flip met anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_of_the_journal_is_found() {
    let site = closed().await;
    let segments: Vec<_> = std::fs::read_dir(site.data().join("journal"))
        .expect("reads")
        .map(|file| file.expect("reads").path())
        .collect();
    for file in segments {
        let original = std::fs::read(&file).expect("reads");
        // Behind the last byte that was written the file is room for more.
        let used = original
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        for index in 0..FLIPS.min(used) {
            let (at, mut changed) = flipped(&original[..used], index);
            changed.extend_from_slice(&original[used..]);
            std::fs::write(&file, changed).expect("writes");
            let (code, out) = site.cli(&["ledger", "verify", "--json"]);
            assert_ne!(
                code,
                0,
                "byte {at} of {} in {}: {out}",
                used,
                file.display()
            );
        }
        std::fs::write(&file, &original).expect("writes");
    }
    assert_eq!(site.cli(&["ledger", "verify"]).0, 0);
}
