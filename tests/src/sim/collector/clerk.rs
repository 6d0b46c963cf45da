//! People work on the books of the simulated collector: one-off lines, credits and disputes,
//! invoices and what voids them, closings by hand, and all of that with the process dying between
//! any two of them.

use std::collections::BTreeMap;

use tollgate_collector_core::entry::{
    CloseCause, Entry, Issue, Issued, Manual, ManualAction, ManualLine, ManualTax,
};
use tollgate_collector_core::fold::tenant::{
    Due, Dues, IssueWish, Issuer, NegativePolicy, TenantFold, WishedDocument, ZeroPolicy,
};
use tollgate_collector_core::ledger::{EntryRef, LinePart, Note};
use tollgate_common::{TenantId, Timestamp};

use super::super::agent::Crash;
use super::super::bookkeeper::{Open, cents_of};
use super::super::context::{Broken, Context};
use super::super::coverage::Probe;
use super::super::random::Random;
use super::super::workload;
use super::CollectorNode;

/// How often something is done to the books while periods are waited for.
pub(super) const ACTS_AT_LAST: u32 = 12;

fn note(random: &mut Random) -> Note {
    let two = random.chance(500);
    Note {
        author: "kim".to_owned(),
        approved_by: two.then(|| "robin".to_owned()),
        reason: "as the simulation wants it".to_owned(),
    }
}

impl CollectorNode {
    /// Somebody decides something about the books of a tenant.
    pub fn keep_books(&mut self, context: &mut Context) -> Result<(), Broken> {
        let Some(process) = &self.process else {
            return Ok(());
        };
        self.acts += 1;
        let random = &mut self.random;
        let name = workload::TENANTS[random.index(context.options.tenants)];
        let tenant = workload::tenant(name);
        let stamp = process.fold.stamp();
        let folds = process.fold.tenants();
        let fold = folds.iter().find(|fold| fold.dues(&tenant).is_some());
        let entry = match (random.below(14), fold) {
            (0..=2, _) => Some(one_off(random, self.acts, tenant, stamp, context)),
            (12..=13, Some(fold)) => {
                let entries = split(random, &tenant, fold, stamp, context)?;
                return self.write(&entries, context);
            }
            (3..=4, Some(fold)) => dispute(random, self.acts, tenant, fold, context),
            (5..=8, Some(fold)) => invoice(random, tenant, fold, stamp, context),
            (9, Some(fold)) => void(random, tenant, fold, stamp, context),
            (10, Some(fold)) => {
                let interim = fold.interim_by_hand(stamp, &tenant, note(random));
                let interim = interim.ok().flatten();
                if interim.is_some() {
                    context.hit(Probe::BilledSoFar);
                }
                interim.map(|interim| Entry::Interim(Box::new(interim)))
            }
            (_, Some(fold)) => {
                let length = u64::from(context.options.period_secs) * 1000;
                let instant = stamp.plus_millis(-random.millis(0, 3 * length));
                let note = note(random);
                let cause = CloseCause::Operator {
                    author: note.author,
                    reason: note.reason,
                    approved_by: note.approved_by,
                };
                let closing = fold.close_by_hand(stamp, &tenant, instant, cause);
                closing.ok().map(Entry::Close)
            }
            (_, None) => None,
        };
        let Some(entry) = entry else {
            return Ok(());
        };
        // Two people may have the same idea at the same time.
        let twice = self.random.chance(100);
        let mut entries = vec![entry];
        if twice {
            entries.push(entries[0].clone());
        }
        self.write(&entries, context)
    }

    /// The same while periods are waited for, with snapshots and deaths between.
    pub(super) fn keep_books_at_last(&mut self, context: &mut Context) -> Result<(), Broken> {
        let acts = self.acts_at_last;
        if acts == 0 || context.options.faults.books.is_none() || !self.random.chance(300) {
            return Ok(());
        }
        self.acts_at_last = acts - 1;
        match self.random.below(10) {
            0 => self.snapshot(context),
            1 => self.go_down(Crash::Kill, context),
            2 => self.go_down(Crash::Reset, context),
            3 => {
                self.changes += 1;
                let since = self.local(context.now).millis_since(context.options.start);
                self.operate(since.unsigned_abs(), context)
            }
            4 => {
                self.changes += 1;
                self.change_catalog(context)
            }
            _ => self.keep_books(context),
        }
    }

    /// What waits and what is disputed is what the books say that were kept by hand.
    pub(super) fn check_dues(&self) -> Result<(), Broken> {
        let Some(process) = &self.process else {
            return Ok(());
        };
        let books = &self.projection.tables().books;
        books.check_all()?;
        for tenant in books.tenants() {
            let folds = process.fold.tenants().iter();
            let dues = folds.filter_map(|fold| fold.dues(&tenant));
            let dues: BTreeMap<u64, Open> = dues
                .flat_map(|dues| dues.open().iter().map(move |due| (dues, due)))
                .map(|(dues, (index, due))| {
                    let left = cents_of(&whole(due));
                    let disputed = dues.is_held(due);
                    (*index, Open { disputed, left })
                })
                .collect();
            let open = books.open(&tenant);
            if dues != open {
                return Err(format!("of {tenant} {dues:?} waits, by hand {open:?}"));
            }
        }
        Ok(())
    }
}

fn one_off(
    random: &mut Random,
    act: u64,
    tenant: TenantId,
    stamp: Timestamp,
    context: &mut Context,
) -> Entry {
    context.hit(Probe::ManualLine);
    let cents = random.between(1, 1_000_000);
    let money = |cents: u64| format!("{}.{:02}", cents / 100, cents % 100);
    let tax = random.chance(400).then(|| ManualTax {
        code: "vat".to_owned(),
        amount: money(cents / 5).parse().expect("a decimal"),
    });
    let line = ManualLine {
        line: "setup".to_owned(),
        text: "agreed by telephone".to_owned(),
        start: stamp.plus_millis(-3_600_000),
        end: stamp,
        amount: money(cents).parse().expect("a decimal"),
        currency: random
            .pick(&["EUR", "EUR", "EUR", "USD"])
            .parse()
            .expect("a currency"),
        gl: "8400".to_owned(),
        tax,
        of: None,
        date: None,
    };
    let action = if random.chance(600) {
        ManualAction::Line(line)
    } else {
        ManualAction::Credit(line)
    };
    // Some are decided again under the same key.
    let act = act - act % (1 + random.below(2));
    Entry::Manual(Box::new(Manual {
        tenant,
        key: format!("one-off-{act}"),
        action,
        note: note(random),
    }))
}

/// A line is disputed, or a dispute is over.
fn dispute(
    random: &mut Random,
    act: u64,
    tenant: TenantId,
    fold: &TenantFold,
    context: &mut Context,
) -> Option<Entry> {
    let dues = fold.dues(&tenant)?;
    let open: Vec<_> = dues.open().iter().collect();
    if open.is_empty() {
        return None;
    }
    let (index, due) = open[random.index(open.len())];
    let entry = EntryRef {
        partition: fold.partition(),
        index: *index,
    };
    context.hit(Probe::Disputed);
    let action = if dues.is_held(due) {
        ManualAction::Release { entry }
    } else {
        ManualAction::Hold { entry }
    };
    Some(Entry::Manual(Box::new(Manual {
        tenant,
        key: format!("dispute-{act}"),
        action,
        note: note(random),
    })))
}

fn issuer(random: &mut Random) -> Issuer {
    let id = *random.pick(&["berlin", "berlin", "dublin"]);
    Issuer {
        id: id.to_owned(),
        prefix: id[..1].to_uppercase(),
        digits: 5,
        first: 1,
        terms_days: 14,
        zero: *random.pick(&[ZeroPolicy::Suppress, ZeroPolicy::Issue]),
        negative: *random.pick(&[NegativePolicy::Carry, NegativePolicy::CreditNote]),
    }
}

fn invoice(
    random: &mut Random,
    tenant: TenantId,
    fold: &TenantFold,
    stamp: Timestamp,
    context: &mut Context,
) -> Option<Entry> {
    let currency = random.pick(&["EUR", "EUR", "USD"]);
    let until = random.chance(300).then(|| stamp.plus_millis(-60_000));
    let wish = IssueWish {
        tenant,
        issuer: issuer(random),
        what: WishedDocument::Invoice {
            currency: Some((*currency).to_owned()),
            until,
        },
        note: note(random),
    };
    let issue = fold.propose_issue(stamp, &wish).ok()?.pop()?;
    context.hit(Probe::Invoiced);
    Some(Entry::Issue(Box::new(issue)))
}

/// What waits is split over several invoices, of which now and then not all are written.
fn split(
    random: &mut Random,
    tenant: &TenantId,
    fold: &TenantFold,
    stamp: Timestamp,
    context: &mut Context,
) -> Result<Vec<Entry>, Broken> {
    let currency = random.pick(&["EUR", "EUR", "EUR", "USD"]);
    let weights = (0..random.between(2, 4)).map(|_| random.between(1, 100));
    let weights: Vec<u32> = weights
        .filter_map(|weight| weight.try_into().ok())
        .collect();
    let wish = IssueWish {
        tenant: tenant.clone(),
        issuer: issuer(random),
        what: WishedDocument::Split {
            currency: Some((*currency).to_owned()),
            until: None,
            weights: weights.clone(),
        },
        note: note(random),
    };
    let Ok(mut issues) = fold.propose_issue(stamp, &wish) else {
        return Ok(Vec::new());
    };
    if let Some(dues) = fold.dues(tenant) {
        check_split(dues, &issues, &weights)?;
    }
    context.hit(Probe::Split);
    if random.chance(300) {
        issues.truncate(random.index(issues.len()));
        context.hit(Probe::SplitTorn);
    }
    let issues = issues.into_iter();
    Ok(issues.map(|issue| Entry::Issue(Box::new(issue))).collect())
}

/// The parts of a line are together the line, its tax too, and each is within a cent of its share of
/// the net and of the tax.
fn check_split(dues: &Dues, issues: &[Issue], weights: &[u32]) -> Result<(), Broken> {
    let all: i128 = weights.iter().copied().map(i128::from).sum();
    // What is left of each line when the parts are taken from it.
    let mut left: BTreeMap<u64, [i128; 2]> = BTreeMap::new();
    for (issue, weight) in issues.iter().zip(weights) {
        let Issued::Invoice {
            lines,
            split: Some(split),
            ..
        } = &issue.what
        else {
            return Err(format!("no part of a split: {issue:?}"));
        };
        for (index, part) in lines.iter().zip(&split.parts) {
            let due = dues.open().get(index).filter(|due| !dues.is_held(due));
            let due = due.ok_or_else(|| format!("{index} does not wait: {issue:?}"))?;
            let of = both(&whole(due));
            let rest = left.entry(*index).or_insert(of);
            for ((rest, part), of) in rest.iter_mut().zip(both(part)).zip(of) {
                *rest -= part;
                if (part * all - of * i128::from(*weight)).abs() >= 2 * all {
                    return Err(format!("{part} is no part of {weight} in {all} of {of}"));
                }
            }
        }
    }
    match left.into_iter().find(|(_, left)| *left != [0, 0]) {
        Some((index, left)) => Err(format!("of {index} a split leaves {left:?}")),
        None => Ok(()),
    }
}

/// Gross and tax in cents.
fn both(part: &LinePart) -> [i128; 2] {
    let tax = LinePart {
        amount: part.tax,
        ..*part
    };
    [cents_of(part), cents_of(&tax)]
}

/// All that waits of a line.
const fn whole(due: &Due) -> LinePart {
    LinePart {
        amount: due.amount,
        tax: due.tax,
        base: due.base,
    }
}

fn void(
    random: &mut Random,
    tenant: TenantId,
    fold: &TenantFold,
    stamp: Timestamp,
    context: &mut Context,
) -> Option<Entry> {
    let documents = fold.dues(&tenant)?.documents();
    if documents.is_empty() {
        return None;
    }
    let document = &documents[random.index(documents.len())];
    let mut issuer = issuer(random);
    issuer.id.clone_from(&document.issuer);
    let wish = IssueWish {
        tenant,
        issuer,
        what: WishedDocument::Void {
            number: document.number.clone(),
        },
        note: note(random),
    };
    let issue = fold.propose_issue(stamp, &wish).ok()?.pop()?;
    context.hit(Probe::Voided);
    Some(Entry::Issue(Box::new(issue)))
}
