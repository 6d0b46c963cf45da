//! Reading: pages, filters and totals.

use super::*;

#[test]
fn a_frozen_projection_does_not_see_what_comes_later() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join(FILE_NAME);
    let mut chain = Chain::new(0);
    let mut projection = SqliteProjection::open(&path).expect("opens");
    projection
        .commit(&transaction(None, 1, vec![booked(&mut chain, "acme", 5)]))
        .expect("commits");
    let mut frozen = FrozenProjection::open(&path).expect("opens");
    projection
        .commit(&transaction(
            Some(1),
            2,
            vec![booked(&mut chain, "acme", 6)],
        ))
        .expect("commits");
    assert_eq!(frozen.position(P).expect("reads"), Some(position(1)));
    assert_eq!(frozen.ledger(0, 0, 10).expect("reads").len(), 1);
    assert!(
        frozen.clear().is_err() && frozen.commit(&transaction(Some(1), 2, Vec::new())).is_err()
    );
}

/// Of each kind something for three tenants.
fn some_of_everything() -> Vec<Effect> {
    let mut chain = Chain::new(0);
    let mut effects = Vec::new();
    for (index, tenant) in ["a", "b", "c"].into_iter().enumerate() {
        for start in 0..3 {
            effects.push(Effect::Usage(usage(tenant, "eu", start * 60, 1_500)));
            effects.push(Effect::Usage(usage(tenant, "us", start * 60, 500)));
        }
        let mut refused = usage(tenant, "eu", 0, 7);
        refused.refused = Some(RefusedReason::TenantNotAllowed);
        effects.push(Effect::Usage(refused));
        effects.push(booked(&mut chain, tenant, 1_500));
        let tenant = TenantId::new(tenant).expect("valid");
        let meter = MeterName::new("bytes").expect("valid");
        let [accepted, counted, lost] = [10, 5, 7].map(Quantity::new);
        let scale = Scale::ZERO;
        effects.push(Effect::Account(AccountState {
            tenant: tenant.clone(),
            meter,
            scale,
            accepted,
            counted,
            refused: Quantity::ZERO,
            lost,
            corrected: Quantity::ZERO,
        }));
        let (start, end) = (Timestamp::EPOCH, Timestamp::from_secs(60));
        effects.push(Effect::Period(PeriodState {
            tenant,
            start,
            end,
            status: PeriodStatus::Open,
            rounds: 0,
            closing: None,
        }));
        effects.push(Effect::Agent(AgentState {
            agent: AgentId::new(&format!("edge-{index}")).expect("valid"),
            incarnation: Incarnation::from_bytes([1; 16]),
            sequence: 3,
            watermark: end,
            last_seen: end,
            batches: 3,
            rollups: 9,
            duplicates: 0,
            forks: 0,
            gaps: 0,
            lost: 0,
            clock_steps: 0,
            last_clock_step: None,
        }));
    }
    effects
}

#[test]
fn pages_are_whole_in_any_size() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join(FILE_NAME);
    let mut projection = SqliteProjection::open(&path).expect("opens");
    let effects = some_of_everything();
    projection
        .commit(&transaction(None, 1, effects))
        .expect("commits");
    let reader = Reader::open(&path).expect("reads");

    let walk = |read: &dyn Fn(&Filter) -> (usize, Option<String>), limit| {
        let mut filter = Filter {
            limit: Some(limit),
            ..Filter::default()
        };
        let mut total = 0;
        loop {
            let (count, next) = read(&filter);
            assert!(count <= limit);
            total += count;
            match next {
                Some(cursor) => filter.cursor = Some(cursor),
                None => return total,
            }
        }
    };
    for limit in [1, 2, 5, 1000] {
        assert_eq!(
            walk(
                &|f| reader
                    .usage(f)
                    .map(|p| (p.items.len(), p.next_cursor))
                    .expect("page"),
                limit
            ),
            21
        );
        assert_eq!(
            walk(
                &|f| reader
                    .ledger(f)
                    .map(|p| (p.items.len(), p.next_cursor))
                    .expect("page"),
                limit
            ),
            3
        );
        assert_eq!(
            walk(
                &|f| reader
                    .agents(f)
                    .map(|p| (p.items.len(), p.next_cursor))
                    .expect("page"),
                limit
            ),
            3
        );
        assert_eq!(
            walk(
                &|f| reader
                    .periods(f)
                    .map(|p| (p.items.len(), p.next_cursor))
                    .expect("page"),
                limit
            ),
            3
        );
        assert_eq!(
            walk(
                &|f| reader
                    .accounts(f)
                    .map(|p| (p.items.len(), p.next_cursor))
                    .expect("page"),
                limit
            ),
            3
        );
    }
}

#[test]
fn filters_choose_and_bad_cursors_are_refused() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join(FILE_NAME);
    let mut projection = SqliteProjection::open(&path).expect("opens");
    let effects = some_of_everything();
    projection
        .commit(&transaction(None, 1, effects))
        .expect("commits");
    let reader = Reader::open(&path).expect("reads");
    let only = Filter {
        tenant: Some("b".to_owned()),
        from: Some(Timestamp::from_secs(60)),
        ..Filter::default()
    };
    assert_eq!(reader.usage(&only).expect("page").items.len(), 4);
    let totals = reader.usage_totals(&only).expect("page").items;
    assert_eq!((totals.len(), totals[0].quantity.as_str()), (1, "4"));
    assert_eq!(
        reader.accounts(&Filter::default()).expect("page").items[0]
            .pending
            .as_deref(),
        Some("-2")
    );
    for cursor in ["zz", "7b7d", "1-x"] {
        let filter = Filter {
            cursor: Some(cursor.to_owned()),
            ..Filter::default()
        };
        assert!(
            matches!(reader.usage(&filter), Err(QueryError::Cursor)),
            "{cursor}"
        );
        assert!(
            matches!(reader.ledger(&filter), Err(QueryError::Cursor)),
            "{cursor}"
        );
    }
}

#[test]
fn an_account_beyond_all_use_hides_no_other() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join(FILE_NAME);
    let mut projection = SqliteProjection::open(&path).expect("opens");
    let account = |tenant: &str, accepted, counted, refused, lost| {
        Effect::Account(AccountState {
            tenant: TenantId::new(tenant).expect("valid"),
            meter: MeterName::new("m").expect("valid"),
            scale: Scale::ZERO,
            accepted: Quantity::new(accepted),
            counted: Quantity::new(counted),
            refused: Quantity::new(refused),
            lost: Quantity::new(lost),
            corrected: Quantity::ZERO,
        })
    };
    let effects = vec![
        account("a", 5, 5, 0, i128::MAX),
        account("b", 0, 0, i128::MAX, i128::MAX),
        account("c", 7, 3, 1, 2),
    ];
    projection
        .commit(&transaction(None, 1, effects))
        .expect("commits");
    let reader = Reader::open(&path).expect("reads");
    let page = reader.accounts(&Filter::default()).expect("page");
    let most = i128::MAX.to_string();
    let shown: Vec<_> = page
        .items
        .iter()
        .map(|row| (row.lost.as_str(), row.pending.as_deref()))
        .collect();
    let below = format!("-{most}");
    assert_eq!(
        shown,
        [
            (most.as_str(), Some(below.as_str())),
            (most.as_str(), None),
            ("2", Some("1"))
        ]
    );
}

#[test]
fn totals_are_paged_without_a_gap() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join(FILE_NAME);
    let mut projection = SqliteProjection::open(&path).expect("opens");
    let tenants = ["a", "b", "c", "d", "e"];
    let effects = tenants.map(|tenant| Effect::Usage(usage(tenant, "eu", 5, 1)));
    projection
        .commit(&transaction(None, 1, effects.to_vec()))
        .expect("commits");
    let reader = Reader::open(&path).expect("reads");
    let mut filter = Filter {
        limit: Some(2),
        ..Filter::default()
    };
    let mut seen = Vec::new();
    loop {
        let page = reader.usage_totals(&filter).expect("page");
        seen.extend(page.items.into_iter().map(|row| row.tenant));
        filter.cursor = page.next_cursor;
        if filter.cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, tenants);
}
