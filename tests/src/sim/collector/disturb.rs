//! What is done to the simulated collector: faults of its disks, changes by its operator, and
//! how all of that ends.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::Arc;

use tollgate_collector_core::entry::{
    CatalogChange, CorrectedRow, Correction, Entry, Operated, OperatedAction, Rerate,
};
use tollgate_collector_core::fold::tenant::TenantFold;
use tollgate_collector_core::journal::group::{Pending, Token};
use tollgate_collector_core::ledger::Note;
use tollgate_collector_core::policy::{Pattern, Policy, Rule};
use tollgate_collector_core::receive::share::Offer;
use tollgate_common::{Aggregation, Quantity, Scale, Timestamp};

use super::super::agent::Crash;
use super::super::context::{Broken, Context};
use super::super::coverage::Probe;
use super::super::random::Random;
use super::super::tariff;
use super::super::workload;
use super::{CollectorNode, WINDOW_BYTES};

impl CollectorNode {
    /// The process dies with batches that are not committed. A second receiver got them as
    /// well and appends them later, when the agent may have lost them and said so.
    pub fn die_with_batches(&mut self, context: &mut Context) -> Result<(), Broken> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let batches = process
            .pending
            .iter()
            .filter(|pending| pending.token.session != 0);
        let batches: Vec<_> = batches.map(|pending| pending.entry.clone()).collect();
        if batches.is_empty() {
            return Ok(());
        }
        for entry in batches {
            let at = context.now.plus_millis(self.random.millis(5_000, 40_000));
            self.late.push((at, entry));
        }
        self.go_down(Crash::Kill, context)
    }

    /// The second receiver appends what it got.
    pub(super) fn append_late(&mut self, context: &mut Context) {
        let now = context.now;
        let Some(process) = &mut self.process else {
            return;
        };
        let before = process.pending.len();
        for (_, entry) in self.late.extract_if(.., |(at, _)| *at <= now) {
            let token = Token::NOBODY;
            process.pending.push(Pending { token, entry });
            context.coverage.hit(Probe::ReplayedAppend);
        }
        if process.pending.len() != before {
            self.schedule(context);
        }
    }

    /// Disk errors to come, or a disk without room.
    pub fn disturb_storage(&mut self, context: &mut Context) {
        context.hit(Probe::StorageError);
        let at = 1 + self.random.below(20);
        match self.random.below(5) {
            0 => self.journal_disk.fail_at(at, ErrorKind::Other, false),
            1 => self.journal_disk.fail_at(at, ErrorKind::StorageFull, false),
            2 => self.journal_disk.fail_at(at, ErrorKind::Other, true),
            3 => self.snapshot_disk.fail_at(at, ErrorKind::Other, false),
            _ => {
                let room = self.journal_disk.used() + self.random.below(4096);
                self.journal_disk.set_capacity(Some(room));
                self.room_at = Some(context.now.plus_millis(self.random.millis(1000, 30_000)));
            }
        }
    }

    /// The projection is gone at the next start, which comes soon.
    pub fn delete_projection(&mut self, context: &mut Context) -> Result<(), Broken> {
        self.delete_projection = true;
        self.go_down(Crash::Kill, context)
    }

    /// Snapshots are deleted, or one is damaged.
    pub fn delete_snapshots(&mut self, context: &mut Context) -> Result<(), Broken> {
        let names = self.snapshot_disk.names();
        if self.random.chance(500) {
            for name in &names {
                self.snapshot_disk.lose_file(name);
            }
            context.hit(Probe::SnapshotsDeleted);
        } else if let Some(name) = names.last() {
            let length = self
                .snapshot_disk
                .contents(name)
                .map_or(0, |bytes| bytes.len() as u64);
            self.snapshot_disk.flip(name, self.random.below(length), 1);
        }
        self.go_down(Crash::Kill, context)
    }

    /// The operator changes prices or what agents may report.
    pub fn change(&mut self, context: &mut Context) -> Result<(), Broken> {
        self.changes += 1;
        if self.random.chance(400) {
            return self.operate(1_000_000, context);
        }
        if self.random.chance(500) {
            return self.change_catalog(context);
        }
        context.hit(Probe::PolicyChange);
        self.policy = match self.random.below(4) {
            0 => policy_of_one(),
            n => policy(n == 1),
        };
        let entry = Entry::Policy(self.policy.change());
        self.write(&[entry], context)
    }

    /// The operator changes prices, for everybody or for one tenant, or goes back to former ones.
    pub(super) fn change_catalog(&mut self, context: &mut Context) -> Result<(), Broken> {
        context.hit(Probe::CatalogChange);
        // Now and then a former version is taken back to.
        let back = self.changes > 1 && self.random.chance(300);
        if back {
            context.hit(Probe::CatalogTakenBack);
        }
        self.number = if back {
            self.random.below(self.changes)
        } else {
            self.changes
        };
        self.catalog = tariff::catalog(&context.options, self.number);
        let mut change = self.checked_catalog()?;
        match self.random.below(4) {
            0 => {
                context.hit(Probe::CatalogLimited);
                let name = workload::TENANTS[self.random.index(context.options.tenants)];
                change.tenants = Some(BTreeSet::from([workload::tenant(name)]));
            }
            1 => {
                context.hit(Probe::CatalogProposed);
                // It waits, for ever unless somebody approves.
                change.proposed = self.random.chance(500);
                if !change.proposed {
                    let proposal = CatalogChange {
                        proposed: true,
                        ..change.clone()
                    };
                    self.write(&[Entry::Catalog(proposal)], context)?;
                    change.approves = self.survey.upto;
                }
            }
            _ => {}
        }
        self.write(&[Entry::Catalog(change)], context)
    }

    /// The operator corrects usage, has periods rated anew, or retires an agent.
    /// Usage is corrected that is up to `back` milliseconds old.
    pub(super) fn operate(&mut self, back: u64, context: &mut Context) -> Result<(), Broken> {
        let Some(process) = &self.process else {
            return Ok(());
        };
        let stamp = process.fold.stamp();
        let random = &mut self.random;
        let tenant = workload::tenant(workload::TENANTS[random.index(context.options.tenants)]);
        let action = match random.below(10) {
            0..=5 => {
                context.hit(Probe::Corrected);
                let rows = (0..=random.below(3)).map(|_| correction(random, stamp, back));
                OperatedAction::Correct(Correction {
                    tenant,
                    key: format!("correction-{}", self.changes),
                    rows: rows.collect(),
                })
            }
            6..=8 => {
                let folds = process.fold.tenants();
                let known: Vec<_> = folds.iter().flat_map(TenantFold::catalog_digests).collect();
                if known.is_empty() {
                    return Ok(());
                }
                context.hit(Probe::Rerated);
                OperatedAction::Rerate(Rerate {
                    tenant,
                    from: stamp.plus_millis(-random.millis(1, 2 * back)),
                    to: stamp,
                    catalog: known[random.index(known.len())],
                })
            }
            _ => {
                context.hit(Probe::Retired);
                OperatedAction::Retire {
                    agent: workload::agent_name(random.index(context.options.agents)),
                }
            }
        };
        let note = Note {
            author: "kim".to_owned(),
            approved_by: None,
            reason: "as the simulation wants it".to_owned(),
        };
        let operated = Operated { action, note };
        operated.check().map_err(|error| error.to_string())?;
        self.write(&[Entry::Operated(Arc::new(operated))], context)
    }

    /// A second receiver appends what the first had already, or holds back what it gets.
    pub fn replay(&mut self, context: &mut Context) -> Result<(), Broken> {
        self.reorder_until = context.now.plus_millis(self.random.millis(100, 3000));
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        for _ in 0..=self.random.below(2) {
            if self.remembered.is_empty() {
                break;
            }
            let entry = self.remembered[self.random.index(self.remembered.len())].clone();
            process.pending.push(Pending {
                token: Token::NOBODY,
                entry,
            });
            context.hit(Probe::ReplayedAppend);
        }
        self.schedule(context);
        Ok(())
    }

    /// The clock jumps.
    pub fn jump_clock(&mut self, millis: i64) {
        self.offset += millis;
    }

    /// Everything around the collector works again.
    pub fn heal(&mut self, context: &mut Context) -> Result<(), Broken> {
        self.journal_disk.heal();
        self.snapshot_disk.heal();
        self.journal_disk.set_capacity(None);
        self.room_at = None;
        self.offset = 0;
        self.reorder_until = context.now;
        // What another receiver holds back comes now.
        for (at, _) in &mut self.late {
            *at = context.now;
        }
        self.offer(true, context)?;
        if self.old_until.is_some() {
            self.upgrade(context)?;
        }
        if let Some((crash, _)) = self.armed {
            self.go_down(crash, context)?;
        }
        if self.process.is_none() {
            self.start_at = context.now;
        }
        // The operator notices, at the latest now, whom the policy forgot.
        self.policy = policy(context.options.forbidden_tenant);
        self.write(&[Entry::Policy(self.policy.change())], context)
    }

    /// The collector is replaced by a release that speaks every version.
    pub(super) fn upgrade(&mut self, context: &mut Context) -> Result<(), Broken> {
        self.old_until = None;
        context.hit(Probe::CollectorUpgraded);
        context.trace(format_args!("collector is upgraded"));
        self.go_down(Crash::Kill, context)
    }

    /// Tells agents what they may have on the way: all there is, or less, and maybe to pause.
    pub(super) fn offer(&mut self, all: bool, context: &mut Context) -> Result<(), Broken> {
        let local = self.local(context.now);
        let window = context.options.window_batches;
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let ids: Vec<_> = process.sessions.keys().copied().collect();
        for (id, link) in &mut process.sessions {
            let less = !all && self.random.chance(700);
            let offer = Offer {
                batches: if less { 1 + window / 4 } else { window },
                bytes: if less { 2048 } else { WINDOW_BYTES },
                pause_millis: if less && id.0 % 2 == 0 { 300 } else { 0 },
            };
            link.session.handle_offer(local, offer);
        }
        ids.into_iter()
            .try_for_each(|id| self.drain_session(id, context))
    }
}

/// A row of a correction: more or less of a meter that adds up, some time ago.
fn correction(random: &mut Random, stamp: Timestamp, back: u64) -> CorrectedRow {
    let (meter, scale) = *random.pick(&[("net.bytes", 0), ("cpu.seconds", 3)]);
    let quantity = i128::from(random.between(1, 5000));
    let less = random.chance(500);
    CorrectedRow {
        meter: workload::meter(meter),
        dimensions: BTreeMap::new(),
        aggregation: Aggregation::Sum,
        scale: Scale::new(scale).expect("in range"),
        at: stamp.plus_millis(-random.millis(0, back)),
        quantity: Quantity::new(if less { -quantity } else { quantity }),
        release: None,
    }
}

/// A mistake of the operator: all agents but the first are unknown.
fn policy_of_one() -> Policy {
    let any = || vec![Pattern::new("*").expect("a plain pattern")];
    let name = Pattern::new("edge-1").expect("a plain pattern");
    let rule = Rule {
        name,
        tenants: any(),
        meters: any(),
    };
    Policy::new(vec![rule]).expect("one rule")
}

/// What agents may report; with `forbid` the first agent may not report the first tenant.
pub(super) fn policy(forbid: bool) -> Policy {
    let pattern = |text: &str| Pattern::new(text).expect("a plain pattern");
    let mut rules = Vec::new();
    if forbid {
        let others = workload::TENANTS[1..].iter().chain(&["_unattributed"]);
        rules.push(Rule {
            name: pattern("edge-1"),
            tenants: others.map(|name| pattern(name)).collect(),
            meters: vec![pattern("*")],
        });
    }
    rules.push(Rule {
        name: pattern("edge-*"),
        tenants: vec![pattern("*")],
        meters: vec![
            pattern("http.*"),
            pattern("net.*"),
            pattern("cpu.*"),
            pattern("seats"),
        ],
    });
    Policy::new(rules).expect("few rules")
}
