use super::*;

fn acme() -> Party {
    Party::parse("name = \"Erika Mustermann\"\naddress = [\"Heidestraße 17\"]").expect("sound")
}

fn parties() -> (tempfile::TempDir, Parties) {
    let dir = tempfile::tempdir().expect("temporary folder");
    let parties = Parties::open(&dir.path().join(FILE_NAME)).expect("opens");
    (dir, parties)
}

#[test]
fn what_a_document_says_stays_until_it_is_erased() {
    let (dir, mut parties) = parties();
    let role = PartyRole::Tenant;
    parties.set(role, "acme", &acme()).expect("sets");
    let digest = parties.keep(role, "acme", &acme()).expect("keeps");
    let other = parties.keep(role, "acme", &acme()).expect("keeps");
    assert_ne!(digest, other, "each has its own salt");
    let moved = Party::parse("name = \"Erika Beispiel\"").expect("sound");
    parties.set(role, "acme", &moved).expect("sets");
    assert_eq!(parties.current(role, "acme").expect("reads"), Some(moved));
    assert_eq!(
        parties.snapshot(digest).expect("reads"),
        Some(Snapshot::Kept(acme()))
    );
    parties.check().expect("whole");

    assert_eq!(parties.erase(role, "acme", "asked for").expect("erases"), 2);
    assert_eq!(parties.current(role, "acme").expect("reads"), None);
    assert_eq!(
        parties.snapshot(digest).expect("reads"),
        Some(Snapshot::Erased("asked for".to_owned()))
    );
    parties.check().expect("still whole");
    drop(parties);
    for file in std::fs::read_dir(dir.path()).expect("reads") {
        let bytes = std::fs::read(file.expect("reads").path()).expect("reads");
        let found = bytes.windows(5).any(|window| window == b"Erika");
        assert!(!found, "the name is gone from the file");
    }
}

#[test]
fn every_changed_row_is_found() {
    let (_dir, parties) = parties();
    parties
        .set(PartyRole::Issuer, "main", &acme())
        .expect("sets");
    let digest = parties
        .keep(PartyRole::Issuer, "main", &acme())
        .expect("keeps");
    for forgery in [
        "UPDATE current SET json = replace(json, 'Erika', 'Erich')",
        "UPDATE current SET id = 'other'",
        "UPDATE snapshot SET json = replace(json, 'Erika', 'Erich')",
        "UPDATE snapshot SET id = 'other'",
        "UPDATE snapshot SET salt = zeroblob(32)",
        "UPDATE snapshot SET salt = NULL, json = NULL, erased = 'me'",
        "UPDATE snapshot SET checksum = ''",
    ] {
        parties
            .connection
            .execute_batch(&format!("SAVEPOINT s; {forgery}"))
            .expect("a forger has his ways");
        let error = parties.check().expect_err(forgery);
        assert!(matches!(error, PartiesError::Changed { .. }), "{error}");
        parties
            .connection
            .execute_batch("ROLLBACK TO s; RELEASE s")
            .expect("rolls back");
    }
    parties.check().expect("whole again");
    assert_eq!(parties.snapshot(Digest([9; 32])).expect("reads"), None);
    assert!(parties.snapshot(digest).expect("reads").is_some());
}
