//! One payer for several tenants, as a single partition sees it. The way from the journal to the
//! ledger is in `verify/payer_tests.rs`.

use super::*;

/// A partition that is the only one, in which `acme` pays for `shop`.
fn world() -> World {
    let mut world = World::new("PT1H");
    world.fold = TenantFold::new(0);
    world.apply(&TenantInput::Opened(Opened {
        lineage: tollgate_common::Lineage::from_bytes([1; 16]),
        partitions: 1,
        usage_window_secs: 60,
        settlement_millis: 86_400_000,
        future_tolerance_millis: 0,
    }));
    let mut files = files("PT1H");
    let theirs = "tenant = \"shop\"\ncard = \"edge\"\nzone = \"UTC\"\npayer = \"acme\"\n";
    files.insert("profiles/shop.toml".to_owned(), theirs.to_owned());
    world.catalog(files);
    world
}

impl World {
    /// Rows as the intake hands them on, to their tenants and to who may pay.
    fn family_rows(&mut self, name: &str, rows: &dyn Fn() -> Vec<Row>) {
        self.rows(name, rows());
        let rows = RowSet::new(rows().into_iter().map(|row| (row.rollup(), None)));
        self.apply(&TenantInput::ChildRows(Rows {
            agent: agent(name),
            incarnation: Incarnation::from_bytes([1; 16]),
            sequence: BatchSeq::FIRST,
            rows,
        }));
    }
}

#[test]
fn a_payers_period_waits_for_the_agents_of_its_children() {
    let mut world = world();
    let policy = Policy::new(vec![rule("a", "acme"), rule("b", "shop")]);
    let change = policy.expect("valid").change();
    world.apply(&TenantInput::Policy(Arc::new(change)));
    world.family_rows("a", &|| vec![row("acme", "requests", 0, 30)]);
    world.family_rows("b", &|| vec![row("shop", "requests", 0, 90)]);
    world.watermark("a", 3600);
    world.watermark("b", 1800);
    world.now = at(3600);
    assert_eq!(short(&world.close_due()), Vec::<String>::new());
    let standings: Vec<_> = world.fold.standings(world.now, None).collect();
    let [standing] = &standings[..] else {
        panic!("the payer's alone: {standings:?}");
    };
    assert_eq!(
        (standing.agents, &standing.children),
        (2, &vec![tenant("shop")])
    );
    assert_eq!(
        standing.missing,
        [MissingAgent {
            agent: agent("b"),
            since: Some(at(1800)),
            children: vec![tenant("shop")],
        }]
    );
    world.watermark("b", 3600);
    assert_eq!(
        short(&world.close_due()),
        ["charge req 120 11.00", "share req 90 8.25"]
    );
}

/// The largest of each tenant's series are summed, and sets and levels keep their series apart.
#[test]
fn levels_of_several_tenants_are_summed() {
    let mut world = world();
    let rows = || {
        vec![
            row("acme", "seats", 0, 3),
            row("shop", "seats", 0, 4),
            row("shop", "seats", 10, 2),
        ]
    };
    world.family_rows("a", &rows);
    world.watermark("a", 3600);
    world.now = at(3600);
    let booked = world.close_due();
    assert_eq!(
        short(&booked),
        ["charge seat 5 49.50", "share seat 2 19.80"]
    );
    let copy = TenantFold::from_bytes(&world.fold.to_bytes()).expect("own bytes");
    assert_eq!(copy.to_bytes(), world.fold.to_bytes());
    // What comes late is found in what was packed meanwhile.
    world.family_rows("a", &|| vec![row("shop", "seats", 20, 6)]);
    assert_eq!(
        short(&world.close_due()),
        [
            "reversal seat -5 -49.50",
            "charge seat 9 89.10",
            "share seat 4 39.60"
        ]
    );
}

#[test]
fn what_a_child_uses_changes_the_accruals_of_its_payer() {
    let mut world = world();
    world.fold.watch_changes(at(0));
    while let Some((_, name)) = world.fold.first_changed() {
        world.fold.take_changed(&name);
    }
    world.now = at(5);
    world.family_rows("b", &|| vec![row("shop", "requests", 0, 90)]);
    let mut kept = Vec::new();
    while let Some((_, name)) = world.fold.first_changed() {
        kept.push(world.fold.take_changed(&name).expect("it has changed"));
    }
    let kept: Vec<Accrual> = kept.into_iter().flatten().collect();
    let whose = kept.iter().map(|accrual| accrual.tenant.as_str());
    assert_eq!(whose.collect::<Vec<_>>(), ["acme", "shop"]);
    assert_eq!(kept, world.fold.accruals(None));
    assert_eq!(kept[1..], world.fold.accruals(Some(&tenant("shop"))));
}

/// A payer that is billed before its period ends: what the others have of it is theirs at once.
#[test]
fn what_is_billed_before_the_end_is_shared_at_once() {
    let mut world = world();
    world.family_rows("a", &|| vec![row("acme", "requests", 0, 30)]);
    world.family_rows("a", &|| vec![row("shop", "requests", 0, 90)]);
    world.now = at(100);
    let note = crate::ledger::Note {
        author: "kim".to_owned(),
        approved_by: None,
        reason: "half".to_owned(),
    };
    let interim = world
        .fold
        .interim_by_hand(world.now, &tenant("acme"), note)
        .expect("nothing earlier waits")
        .expect("open");
    let booked = ledger(&world.apply(&TenantInput::Interim(Box::new(interim))));
    assert_eq!(
        short(&booked),
        ["charge req 120 11.00", "share req 90 8.25"]
    );
    world.watermark("a", 3600);
    world.now = at(3600);
    assert_eq!(short(&world.close_due()), Vec::<String>::new());
}
