//! What `ledger verify` finds when somebody, or a disk, changes a byte.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::support::{Collector, Site, billed};
use rusqlite::Connection;
use rusqlite::types::Value;

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

/// What is booked from now on would not belong to a ledger that is another one: as an older version of
/// the program leaves it that books something else.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_booked_behind_another_ledger() {
    let site = closed().await;
    let file = site.data().join("projection.sqlite");
    let database = Connection::open(&file).expect("opens");
    let triggers = "SELECT group_concat(sql, ';') FROM sqlite_master WHERE type = 'trigger'";
    let triggers: String = database
        .query_row(triggers, [], |row| row.get(0))
        .expect("there are some");
    database
        .execute_batch(&format!(
            "DROP TRIGGER ledger_no_delete;
             DELETE FROM ledger WHERE kind = 'invoice';
             DROP TRIGGER ledger_no_update; DROP TRIGGER ledger_no_replace; {triggers}"
        ))
        .expect("a forger has his ways");
    drop(database);
    // From the newest snapshot, and from the journal's beginning.
    for _ in 0..2 {
        let (code, _, error) = tokio::task::block_in_place(|| site.cli_with_errors(&["run"]));
        assert_ne!(code, 0);
        // As it is printed on several lines.
        let error = error.replace('│', " ");
        let error: Vec<&str> = error.split_whitespace().collect();
        let error = error.join(" ");
        assert!(
            error.contains("is not what this program makes of the journal"),
            "{error}"
        );
        assert!(error.contains("After an upgrade"), "{error}");
        std::fs::remove_dir_all(site.data().join("snapshots")).expect("removes");
        std::fs::create_dir(site.data().join("snapshots")).expect("creates");
    }
    assert_eq!(site.cli(&["ledger", "verify"]).0, 3);
    // Moved away, it is made anew.
    std::fs::rename(&file, site.dir().join("kept.sqlite")).expect("moves");
    Collector::start(&site).await.stop().await;
    assert_eq!(site.cli(&["ledger", "verify"]).0, 0);
}

/// A column of a table, and the columns of the table's key.
struct Column {
    table: String,
    name: String,
    keys: Vec<String>,
}

/// Every column of every table.
fn columns(database: &Connection) -> rusqlite::Result<Vec<Column>> {
    let mut all: Vec<Column> = Vec::new();
    let mut statement = database.prepare(
        "SELECT m.name, c.name, c.pk FROM sqlite_master m, pragma_table_info(m.name) c
         WHERE m.type = 'table' ORDER BY m.name, c.pk",
    )?;
    let mut rows = statement.query([])?;
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let (table, name, place): (String, String, u32) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if place > 0 {
            keys.entry(table.clone()).or_default().push(name.clone());
        }
        all.push(Column {
            table,
            name,
            keys: Vec::new(),
        });
    }
    for column in &mut all {
        column.keys.clone_from(&keys[&column.table]);
    }
    Ok(all)
}

/// Changes a column of the first or the last row of its table.
fn change(database: &Connection, column: &Column, order: &str) -> rusqlite::Result<usize> {
    let Column { table, name, keys } = column;
    let ordered: Vec<String> = keys.iter().map(|key| format!("{key} {order}")).collect();
    let (keys, ordered) = (keys.join(", "), ordered.join(", "));
    let sql = format!(
        "UPDATE {table} SET {name} = CASE typeof({name})
             WHEN 'integer' THEN {name} + 1000003
             WHEN 'blob' THEN CAST({name} || x'00' AS BLOB)
             WHEN 'null' THEN '1'
             ELSE {name} || '1' END
         WHERE ({keys}) = (SELECT {keys} FROM {table} ORDER BY {ordered} LIMIT 1)"
    );
    database.execute(&sql, [])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_any_column_of_any_table_is_found_in_its_table() {
    let site = closed().await;
    let file = site.data().join("projection.sqlite");
    let original = std::fs::read(&file).expect("reads");
    let columns = columns(&Connection::open(&file).expect("opens")).expect("whole");
    let tables: BTreeSet<&str> = columns.iter().map(|column| &*column.table).collect();
    assert_eq!(tables.len(), 9, "{tables:?}");
    for (column, order) in columns
        .iter()
        .flat_map(|column| [(column, "ASC"), (column, "DESC")])
    {
        put(&file, &original);
        let database = Connection::open(&file).expect("opens");
        let (table, name) = (&*column.table, &column.name);
        if table == "ledger" {
            let triggers = "DROP TRIGGER ledger_no_update; DROP TRIGGER ledger_no_replace;";
            database.execute_batch(triggers).expect("drops");
        }
        let changed = change(&database, column, order).expect("a forger has his ways");
        assert_eq!(changed, 1, "{table}.{name}");
        drop(database);
        let (code, out, errors) = site.cli_with_errors(&["ledger", "verify", "--json"]);
        let is_found = if table == "ledger" {
            code == 3
        } else {
            code != 0
        };
        assert!(is_found, "{table}.{name}: {code} {out}");
        // Errors are broken into lines.
        let words = errors.split_whitespace().filter(|word| *word != "│");
        let errors = words.collect::<Vec<_>>().join(" ");
        let report: serde_json::Value = serde_json::from_str(&out).unwrap_or_default();
        let located = match table {
            "ledger" => {
                report["difference"]["index"].is_u64() || report["table"]["table"] == "ledger"
            }
            // Where it stands says how much of the rest there has to be.
            "progress" => {
                errors.contains("position")
                    || !report["table"].is_null()
                    || !report["difference"].is_null()
                    || report["upto"] != report["reached"]
            }
            // What the file says of itself is read before anything else.
            "meta" => !errors.is_empty() || report["table"]["table"] == "meta",
            _ => report["table"]["table"] == table,
        };
        assert!(located, "{table}.{name}: {out}{errors}");
    }
    // What is no entry any more is named, and so is that nothing says where the tables stand.
    let by_hand = [
        (
            "DROP TRIGGER ledger_no_update; UPDATE ledger SET entry = 'no entry' WHERE idx = 2",
            "unreadable",
        ),
        ("DELETE FROM progress", "no_position"),
    ];
    for (sql, difference) in by_hand {
        put(&file, &original);
        let database = Connection::open(&file).expect("opens");
        database.execute_batch(sql).expect("a forger has his ways");
        drop(database);
        let (code, out) = site.cli(&["ledger", "verify", "--json"]);
        let report: serde_json::Value = serde_json::from_str(&out).expect("a report");
        assert_eq!(code, 3, "{sql}: {out}");
        // Of several chains only the tables show it.
        let is_told = report["difference"]["difference"] == difference
            || (difference == "no_position" && report["table"]["table"] == "progress");
        assert!(is_told, "{sql}: {out}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_the_ledger_from_being_changed_is_missed() {
    let site = closed().await;
    let file = site.data().join("projection.sqlite");
    let database = Connection::open(&file).expect("opens");
    database
        .execute_batch("DROP TRIGGER ledger_no_update")
        .expect("drops");
    drop(database);
    let (code, out) = site.cli(&["ledger", "verify", "--json"]);
    assert_eq!(code, 3, "{out}");
    assert!(out.contains("ledger_no_update"), "{out}");
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
