//! `catalog plan`: what a draft changes, for whom, and in money.

mod sides;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::Arc;

use rust_decimal::Decimal;
use serde::Serialize;
use tollgate_collector_core::catalog::{Catalog, diff};
use tollgate_collector_core::entry::Digest;
use tollgate_collector_core::period::Period;
use tollgate_collector_core::plan::{Cost, concerns, drafted};
use tollgate_common::{TenantId, Timestamp};

use super::super::args::OutputArgs;
use super::super::output::{Output, counted, table};
use super::super::{Exit, Failure, load};
use super::read_tested;
use super::versions::Store;
use crate::sqlite::query::{Filter, LIMIT_MAX};
use sides::Sides;

/// A draft compared with what is in force.
#[derive(Debug, Serialize)]
struct Plan {
    draft: Digest,
    /// What is in force for everybody; `None` if nothing is.
    in_force: Option<Digest>,
    /// Why `apply` would refuse it, for everybody or for the tenants that are named.
    refused: Option<String>,
    /// Tests of the draft that pass.
    tests: usize,
    changes: Vec<diff::Change>,
    tenants: Vec<TenantPlan>,
    totals: Vec<Total>,
    /// What is in no total, because one of its sides cannot be said.
    left_out: Vec<LeftOut>,
    /// Tenants with usage for whom the draft has no profile: it is held unrated.
    without_profile: Vec<TenantId>,
}

#[derive(Debug, Serialize)]
struct TenantPlan {
    tenant: TenantId,
    /// In a few words; empty if nothing of its terms changes.
    changes: Vec<&'static str>,
    periods: Vec<PeriodPlan>,
}

#[derive(Debug, Serialize)]
struct PeriodPlan {
    /// `current` or `closed`.
    which: &'static str,
    start: String,
    end: String,
    before: Costs,
    after: Costs,
    /// By how much the net amount changes; `None` between two currencies, or without both.
    difference: Option<Decimal>,
}

impl PeriodPlan {
    /// What it costs now and by the draft; `None` if one of them cannot be said.
    fn costs(&self) -> Option<(&Cost, &Cost)> {
        self.before.cost().zip(self.after.cost())
    }
}

/// What a period costs, or why that cannot be said.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Costs {
    Cost(Cost),
    Error(String),
}

impl Costs {
    fn cost(&self) -> Option<&Cost> {
        match self {
            Self::Cost(cost) => Some(cost),
            Self::Error(_) => None,
        }
    }
}

/// The sum over all tenants, of one kind of period in one currency.
#[derive(Debug, Serialize)]
struct Total {
    which: &'static str,
    currency: String,
    before: Decimal,
    after: Decimal,
    difference: Decimal,
}

/// A period that is in no total.
#[derive(Debug, Serialize)]
struct LeftOut {
    tenant: TenantId,
    which: &'static str,
}

pub(super) fn plan(args: &OutputArgs, only: &[TenantId]) -> Result<Exit, Failure> {
    let config = load::config(&args.config)?;
    let (catalog, tests) = read_tested(&config.catalog)?;
    let draft = Arc::new(catalog);
    let store = Store::open(&config)?;
    let timeline = store.reader.timeline().map_err(Failure::failed)?;
    let tenants: BTreeSet<TenantId> = only.iter().cloned().collect();
    let limited = Some(&tenants).filter(|tenants| !tenants.is_empty());
    let refused = timeline.check_next(&draft, limited).err();
    let in_force = timeline
        .newest()
        .map(|version| Arc::clone(&version.catalog));
    let now = crate::time::now();
    let known = periods(&store, now)?;
    let named = |catalog: &Catalog| -> BTreeSet<TenantId> {
        catalog
            .profiles()
            .filter_map(|profile| profile.tenant.clone())
            .collect()
    };
    let mut names: BTreeSet<TenantId> = known.keys().cloned().collect();
    names.extend(named(&draft));
    names.extend(in_force.as_deref().map(named).unwrap_or_default());
    names.retain(|name| only.is_empty() || only.contains(name));
    let sides = Sides {
        store: &store,
        in_force: &timeline,
        draft: &drafted(&draft),
        known: &known,
    };
    let mut tenants = Vec::with_capacity(names.len());
    for name in names.iter().filter(|name| !name.is_unattributed()) {
        let mut periods = Vec::new();
        for (which, period) in sides.periods(name) {
            periods.push(sides.compare(name, which, *period)?);
        }
        tenants.push(TenantPlan {
            tenant: name.clone(),
            changes: concerns(&timeline, &draft, name),
            periods,
        });
    }
    let empty = BTreeMap::new();
    let plan = Plan {
        draft: draft.digest(),
        refused,
        in_force: in_force.as_ref().map(|catalog| catalog.digest()),
        tests,
        changes: diff::diff(
            in_force.as_ref().map_or(&empty, |c| c.files()),
            draft.files(),
        ),
        totals: totals(&tenants)?,
        left_out: left_out(&tenants),
        without_profile: names
            .iter()
            .filter(|name| known.contains_key(name) && draft.profile(name).is_none())
            .filter(|name| !name.is_unattributed())
            .cloned()
            .collect(),
        tenants,
    };
    Output::new(args.json).print(&plan, |out| show(&plan, out))?;
    Ok(if plan.refused.is_none() {
        Exit::Done
    } else {
        Exit::Config
    })
}

type Periods = BTreeMap<TenantId, Vec<(&'static str, Period)>>;

/// The current and the last closed period of each tenant.
fn periods(store: &Store, now: Timestamp) -> Result<Periods, Failure> {
    let mut filter = Filter {
        limit: Some(LIMIT_MAX),
        ..Filter::default()
    };
    let mut found: BTreeMap<TenantId, [Option<Period>; 2]> = BTreeMap::new();
    loop {
        let page = store.reader.periods(&filter).map_err(Failure::failed)?;
        for row in page.items {
            let Ok(tenant) = TenantId::new(&row.tenant) else {
                continue;
            };
            let instant = |text: &str| crate::time::parse_instant(text).map_err(Failure::failed);
            let period = Period {
                start: instant(&row.start)?,
                end: instant(&row.end)?,
            };
            let slots = found.entry(tenant).or_default();
            // Rows come in the order of their start, so the last one stands.
            if row.status == "closed" {
                slots[0] = Some(period);
            } else if period.start <= now {
                slots[1] = Some(period);
            }
        }
        filter.cursor = page.next_cursor;
        if filter.cursor.is_none() {
            break;
        }
    }
    let named = |[closed, current]: [Option<Period>; 2]| {
        let closed = closed.map(|period| ("closed", period));
        let current = current.map(|period| ("current", period));
        closed.into_iter().chain(current).collect()
    };
    Ok(found
        .into_iter()
        .map(|(tenant, slots)| (tenant, named(slots)))
        .collect())
}

/// The periods of which one side cannot be said.
fn left_out(tenants: &[TenantPlan]) -> Vec<LeftOut> {
    let mut found = Vec::new();
    for tenant in tenants {
        let unknown = tenant.periods.iter().filter(|p| p.costs().is_none());
        found.extend(unknown.map(|period| LeftOut {
            tenant: tenant.tenant.clone(),
            which: period.which,
        }));
    }
    found
}

fn totals(tenants: &[TenantPlan]) -> Result<Vec<Total>, Failure> {
    let mut sums: BTreeMap<(&'static str, String), [Decimal; 2]> = BTreeMap::new();
    for period in tenants.iter().flat_map(|tenant| &tenant.periods) {
        // A total of one side alone would be compared with one of other tenants.
        let Some((before, after)) = period.costs() else {
            continue;
        };
        for (side, cost) in [before, after].into_iter().enumerate() {
            let Some(currency) = cost.currency else {
                continue;
            };
            let sum = sums
                .entry((period.which, currency.code().to_owned()))
                .or_default();
            sum[side] = sum[side]
                .checked_add(cost.net)
                .ok_or_else(|| Failure::failed("the total does not fit the numbers"))?;
        }
    }
    sums.into_iter()
        .map(|((which, currency), [before, after])| {
            let difference = after
                .checked_sub(before)
                .ok_or_else(|| Failure::failed("the total does not fit the numbers"))?;
            Ok(Total {
                which,
                currency,
                before,
                after,
                difference,
            })
        })
        .collect()
}

fn show(plan: &Plan, out: &mut dyn Write) -> io::Result<()> {
    let in_force = plan
        .in_force
        .map_or_else(|| "nothing".to_owned(), |digest| digest.to_string());
    writeln!(out, "in force  {in_force}")?;
    writeln!(
        out,
        "draft     {} ({} passed)",
        plan.draft,
        counted(plan.tests, "test")
    )?;
    if let Some(why) = &plan.refused {
        writeln!(out, "REFUSED   `catalog apply` would refuse it: {why}")?;
    }
    writeln!(out)?;
    for change in &plan.changes {
        writeln!(out, "{change}")?;
    }
    if plan.changes.is_empty() {
        writeln!(out, "no difference")?;
    }
    writeln!(out)?;
    let mut rows = Vec::new();
    let mut unchanged = 0;
    for tenant in &plan.tenants {
        let moves = |period: &&PeriodPlan| period.difference.is_none_or(|d| !d.is_zero());
        if tenant.changes.is_empty() && !tenant.periods.iter().any(|period| moves(&period)) {
            unchanged += 1;
            continue;
        }
        let mut what = tenant.changes.join(", ");
        if what.is_empty() {
            what.push('-');
        }
        if tenant.periods.is_empty() {
            let none = || "-".to_owned();
            rows.push(vec![
                tenant.tenant.to_string(),
                "no period yet".to_owned(),
                none(),
                none(),
                none(),
                what,
            ]);
            continue;
        }
        for period in &tenant.periods {
            rows.push(vec![
                tenant.tenant.to_string(),
                format!("{} {}", period.which, period.start),
                amount(&period.before),
                amount(&period.after),
                signed(period.difference),
                what.clone(),
            ]);
        }
    }
    for total in &plan.totals {
        rows.push(vec![
            "total".to_owned(),
            total.which.to_owned(),
            format!("{} {}", total.before, total.currency),
            format!("{} {}", total.after, total.currency),
            signed(Some(total.difference)),
            String::new(),
        ]);
    }
    let heading = [
        "TENANT",
        "PERIOD",
        "IN FORCE",
        "DRAFT",
        "DIFFERENCE",
        "WHAT CHANGES",
    ];
    table(out, &heading, &rows)?;
    if unchanged > 0 {
        writeln!(out, "{unchanged} tenants are not concerned")?;
    }
    for LeftOut { tenant, which } in &plan.left_out {
        writeln!(out, "the {which} period of {tenant} is in no total")?;
    }
    for tenant in &plan.without_profile {
        writeln!(
            out,
            "{tenant} has no profile in the draft: its usage is held unrated"
        )?;
    }
    Ok(())
}

fn amount(costs: &Costs) -> String {
    match costs {
        Costs::Cost(cost) => {
            let currency = cost.currency.map_or("", |currency| currency.code());
            let mut text = format!("{} {currency}", cost.net).trim_end().to_owned();
            if !cost.unrated.is_empty() {
                let names: Vec<&str> = cost
                    .unrated
                    .iter()
                    .map(|(meter, _)| meter.as_str())
                    .collect();
                text.push_str(&format!(" (unrated: {})", names.join(", ")));
            }
            text
        }
        Costs::Error(error) => error.clone(),
    }
}

fn signed(difference: Option<Decimal>) -> String {
    match difference {
        None => "-".to_owned(),
        Some(amount) if amount > Decimal::ZERO => format!("+{amount}"),
        Some(amount) => amount.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_collector_core::rate::Currency;

    #[test]
    fn what_only_one_side_knows_is_in_no_total_and_is_named() {
        let cost = |net: i64| {
            Costs::Cost(Cost {
                currency: "EUR".parse::<Currency>().ok(),
                net: Decimal::new(net, 2),
                total: Decimal::new(net, 2),
                lines: BTreeMap::new(),
                unrated: Vec::new(),
            })
        };
        let tenant = |name: &str, before, after| TenantPlan {
            tenant: TenantId::new(name).expect("valid"),
            changes: Vec::new(),
            periods: vec![PeriodPlan {
                which: "current",
                start: String::new(),
                end: String::new(),
                before,
                after,
                difference: None,
            }],
        };
        let tenants = [
            tenant("a", cost(1000), cost(1500)),
            tenant("b", cost(9000), Costs::Error("no rate".to_owned())),
        ];
        let totals = totals(&tenants).expect("fits");
        assert_eq!(totals.len(), 1);
        let sides = (totals[0].before, totals[0].after);
        assert_eq!(sides, (Decimal::new(1000, 2), Decimal::new(1500, 2)));
        let left_out = left_out(&tenants);
        assert_eq!(left_out.len(), 1);
        assert_eq!(left_out[0].tenant.as_str(), "b");
    }
}
