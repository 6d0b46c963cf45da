//! When periods close, and what comes after that.

use super::*;

#[test]
fn a_complete_period_is_closed_and_charged_once() {
    let mut world = World::new("PT1M");
    world.now = at(30);
    world.rows(
        "a",
        vec![
            row("acme", "requests", 0, 90),
            row("acme", "requests", 60, 7),
        ],
    );
    world.rows("b", vec![row("acme", "requests", 50, 60)]);
    world.watermark("a", 60);
    world.watermark("b", 50);
    assert_eq!(world.fold.poll_closable(at(59)), []);
    world.now = at(61);
    assert_eq!(
        world.fold.poll_closable(world.now),
        [],
        "b has not reported past the end"
    );
    world.watermark("b", 60);
    let due = world.fold.poll_closable(world.now);
    assert_eq!(due.len(), 1);
    assert_eq!((due[0].start, due[0].end, due[0].round), (at(0), at(60), 0));
    assert_eq!(
        (&due[0].cause, due[0].missing.len(), due[0].agents.len()),
        (&CloseCause::Complete, 0, 2)
    );
    let booked = world.close(due[0].clone());
    assert_eq!(short(&booked), ["charge req 150 12.50"]);
    let posting = &booked[0].posting;
    assert_eq!(
        posting.arithmetic,
        "100 x 1.00 + 50 x 0.50 per 10 {request} = 10 + 2.5 = 12.50 EUR"
    );
    assert_eq!(posting.currency.as_deref(), Some("EUR"));
    assert!(posting.journal_from < posting.journal_to);
    assert_eq!(booked[0].posted, at(61));
    // The same decision twice books nothing twice.
    assert_eq!(world.close(due[0].clone()), []);
    assert_eq!(world.fold.oddities().closings_ignored, 1);
    assert_eq!(world.close_due(), []);
    // The other period goes on.
    assert_eq!(world.fold.accruals(None).len(), 1);
}

#[test]
fn settlement_closes_without_the_missing() {
    let mut world = World::new("PT1M");
    let opened = Opened {
        lineage: tollgate_common::Lineage::from_bytes([0; 16]),
        partitions: 1,
        usage_window_secs: 60,
        settlement_millis: 5_000,
        future_tolerance_millis: 0,
    };
    world.apply(&TenantInput::Opened(opened));
    world.rows("a", vec![row("acme", "requests", 0, 10)]);
    world.watermark("a", 10);
    assert_eq!(world.fold.poll_closable(at(64)), []);
    let due = world.fold.poll_closable(at(65));
    assert_eq!(
        (&due[0].cause, &due[0].missing),
        (&CloseCause::Settled, &vec![agent("a")])
    );
}

#[test]
fn late_usage_takes_the_line_back_and_books_it_anew() {
    let mut world = World::new("PT1M");
    world.now = at(100);
    world.rows("a", vec![row("acme", "requests", 0, 90)]);
    world.watermark("a", 60);
    let charge = world.close_due();
    assert_eq!(short(&charge), ["charge req 90 9.00"]);
    // In time it would have been 90 + 60 = 150, 12.50 in all.
    world.rows(
        "a",
        vec![row("acme", "requests", 10, 60), row("acme", "seats", 10, 2)],
    );
    let late = world.close_due();
    assert_eq!(
        short(&late),
        [
            "reversal req -90 -9.00",
            "charge req 150 12.50",
            "charge seat 2 19.80"
        ]
    );
    assert_eq!(late[0].posting.refers_to, Some(charge[0].at));
    assert_eq!(late[1].posting.refers_to, Some(late[0].at));
    assert_eq!(late[2].posting.refers_to, None, "there was no such line");
    let named = format!("= 12.50 EUR; in place of {}", charge[0].at);
    assert!(late[1].posting.arithmetic.ends_with(&named));
    assert!(late[0].posting.journal_from > charge[0].posting.journal_to);
    // And a second time.
    world.rows("b", vec![row("acme", "requests", 20, 1)]);
    let later = world.close_due();
    assert_eq!(
        short(&later),
        ["reversal req -150 -12.50", "charge req 151 12.55"]
    );
    assert_eq!(later[0].posting.refers_to, Some(late[1].at));
}

#[test]
fn late_usage_costs_what_it_would_have_cost_in_time() {
    let mut world = World::new("PT1M");
    world.now = at(100);
    world.rows("a", vec![row("acme", "requests", 0, 90)]);
    world.watermark("a", 60);
    let charge = world.close_due();
    let mut dearer = files("PT1M");
    dearer.insert("cards/edge.toml".to_owned(), CARD.replace("0.50", "5.00"));
    world.catalog(dearer);
    world.rows("a", vec![row("acme", "requests", 10, 60)]);
    let late = world.close_due();
    assert_eq!(
        short(&late),
        ["reversal req -90 -9.00", "charge req 150 12.50"]
    );
    assert_eq!(late[1].posting.catalogs, charge[0].posting.catalogs);
}

#[test]
fn an_operator_closes_what_is_over_and_nothing_else() {
    let mut world = World::new("PT1M");
    let acme = tenant("acme");
    let cause = || CloseCause::Operator {
        author: "eve".to_owned(),
        reason: "audit".to_owned(),
        approved_by: None,
    };
    let close = |world: &World, secs| world.fold.close_by_hand(at(secs), &acme, at(5), cause());
    assert_eq!(
        close(&world, 60),
        Err(CloseRefused::UnknownTenant(acme.clone()))
    );
    world.rows("a", vec![row("acme", "requests", 0, 10)]);
    assert!(matches!(
        close(&world, 59),
        Err(CloseRefused::NotOver { .. })
    ));
    let closing = close(&world, 60).expect("it is over");
    world.now = at(59);
    assert_eq!(
        world.close(closing.clone()),
        [],
        "the stamp says it is not over"
    );
    world.now = at(60);
    assert_eq!(short(&world.close(closing)), ["charge req 10 1.00"]);
    assert!(matches!(
        close(&world, 60),
        Err(CloseRefused::Closed { .. })
    ));
    // An empty period can be closed; what comes then is a charge of a later round.
    let empty = world
        .fold
        .close_by_hand(at(180), &acme, at(70), cause())
        .expect("over");
    world.now = at(180);
    assert_eq!(world.close(empty), []);
    world.rows("a", vec![row("acme", "requests", 70, 10)]);
    world.watermark("a", 180);
    assert_eq!(short(&world.close_due()), ["charge req 10 1.00"]);
}

#[test]
fn an_agent_that_the_policy_names_is_waited_for() {
    let mut world = World::new("PT1M");
    let rules = vec![
        rule("a", "acme"),
        rule("silent", "acme"),
        rule("other", "umbrella"),
    ];
    let change = Policy::new(rules).expect("valid").change();
    world.apply(&TenantInput::Policy(Arc::new(change)));
    world.rows("a", vec![row("acme", "requests", 0, 10)]);
    world.watermark("a", 60);
    world.now = at(60);
    assert_eq!(world.fold.poll_closable(world.now), []);
    world.watermark("silent", 60);
    let due = world.fold.poll_closable(world.now);
    assert_eq!(
        due[0]
            .agents
            .keys()
            .map(AgentId::as_str)
            .collect::<Vec<_>>(),
        ["a", "silent"]
    );
}

/// Who is waited for is found out for all tenants together, and as if each were asked for.
#[test]
fn a_period_waits_for_exactly_those_that_may_report_for_it() {
    let mut world = World::new("PT1M");
    let rules = vec![
        rule("a", "acme"),
        rule("never", "beta"),
        rule("p*", "*"),
        rule("c", "acme"),
    ];
    let policy = Policy::new(rules).expect("valid").change();
    world.now = at(30);
    let of = ["acme", "beta", "gamma", "_unattributed"].map(|name| row(name, "requests", 0, 1));
    world.rows("a", of.into());
    let with_policy = TenantInput::Policy(Arc::new(policy));
    // Most of them have months.
    let over = 32 * 86_400;
    world.now = at(over);
    world.fold.settlement_millis = i64::MAX;
    let mut closed = BTreeSet::new();
    for turn in 0..64 {
        let mut world = World {
            fold: world.fold.clone(),
            effects: Vec::new(),
            ..world
        };
        let names = ["a", "p1", "c", "stranger"].into_iter().enumerate();
        for (bit, name) in names {
            world.watermark(name, if turn & (1 << bit) == 0 { over } else { 59 });
        }
        if turn & 16 != 0 {
            world.apply(&with_policy);
        }
        if turn & 32 != 0 {
            let gone = ["never", "p1"].map(agent);
            world.fold.retired.extend(gone);
        }
        let due: Vec<TenantId> = world.fold.closable(world.now).map(|c| c.tenant).collect();
        let waiting = world.fold.waiting.iter();
        let complete = waiting.filter(|(_, name, start)| {
            let book = world.fold.tenants[name].books.get(start).expect("open");
            let agents = world.fold.awaited(name, book.period);
            !agents.is_empty() && closable::missing(&agents, book.period).is_empty()
        });
        let complete: Vec<TenantId> = complete.map(|(_, name, _)| name.clone()).collect();
        assert_eq!(due, complete, "{turn:b}");
        closed.insert(due.len());
    }
    assert!(closed.len() > 2, "{closed:?}");
}
