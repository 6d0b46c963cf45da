//! What concerns several partitions, because the tenant who pays for usage is another than the one
//! who has it.
//!
//! Both partitions hear of such usage: that of its tenant, which accounts for it, and that of each
//! tenant that ever paid for it. Which of them counts it into a period, each finds out by itself
//! from the versions of the catalog, which all know alike.

use std::collections::BTreeSet;
use std::sync::Arc;

use tollgate_common::TenantId;

use super::outbox::Outbox;
use super::{Intake, IntakeOutput, NoticeKind};
use crate::catalog::{Catalog, Families};
use crate::entry::{CatalogChange, Operated, OperatedAction};
use crate::fold::tenant::is_possible;
use crate::fold::{Rows, TenantInput, partition_of};
use crate::position::Position;

/// The partitions of those who ever paid for a tenant.
fn partitions_of(families: &Families, tenant: &TenantId, partitions: u16) -> BTreeSet<u16> {
    let payers = families.payers_of(tenant).into_iter();
    payers
        .map(|payer| partition_of(payer, partitions))
        .collect()
}

impl Intake {
    /// A version is applied, with those who pay for others.
    pub(super) fn learn_families(&mut self, change: &CatalogChange) {
        // What cannot be read is passed over by the tenant folds too.
        if let Ok(catalog) = Catalog::parse(&change.files) {
            self.families.learn(&catalog);
        }
    }

    /// Lets those hear of usage who may pay for it.
    pub(super) fn tell_payers(&self, output: &mut IntakeOutput) {
        if self.families.is_empty() {
            return;
        }
        let partitions = self.partitions();
        let of = |tenant: &TenantId| partitions_of(&self.families, tenant, partitions);
        let mut told = Vec::new();
        for (_, input) in &output.inputs {
            match input {
                TenantInput::Rows(rows) => {
                    let spread = rows.rows.spread(of).into_iter();
                    told.extend(spread.map(|(partition, part)| {
                        let rows = Rows {
                            rows: part,
                            ..rows.clone()
                        };
                        (partition, TenantInput::ChildRows(rows))
                    }));
                }
                TenantInput::Loss(declared) => {
                    let concerned = declared.loss.tenant.as_ref().map(of).unwrap_or_default();
                    told.extend(
                        concerned
                            .into_iter()
                            .map(|partition| (partition, TenantInput::ChildLoss(declared.clone()))),
                    );
                }
                _ => {}
            }
        }
        output.inputs.extend(told);
    }

    /// Hands on what an operator decided. A correction that those who pay have to hear of too is
    /// passed over here if it was made before, because they could not tell alone.
    ///
    /// Of one that is refused whatever the books say only its tenant hears, and its key stays free.
    /// One that releases something is a matter of its tenant alone, as nobody pays for that: there
    /// it may be refused because of the books, and asked for again.
    pub(super) fn operate(
        &mut self,
        operated: &Arc<Operated>,
        position: Position,
        out: &mut Outbox,
    ) {
        let input = TenantInput::Operated(Arc::clone(operated));
        let partitions = self.partitions();
        let Some(tenant) = operated.tenant() else {
            out.broadcast(&input);
            return;
        };
        if let OperatedAction::Correct(correction) = &operated.action {
            if !is_possible(operated, self.stamp) {
                out.send(partition_of(tenant, partitions), input);
                return;
            }
            let releases = correction.rows.iter().any(|row| row.release.is_some());
            let concerned = if releases {
                BTreeSet::new()
            } else {
                partitions_of(&self.families, tenant, partitions)
            };
            let key = (tenant.clone(), correction.key.clone());
            if !self.corrections.insert(key) && !concerned.is_empty() {
                let detail = format!(
                    "correction `{}` of `{tenant}` at {position} was made before and is passed over",
                    correction.key
                );
                out.notice(NoticeKind::Unsupported, None, None, detail);
                return;
            }
            for partition in concerned {
                out.send(partition, TenantInput::ChildOperated(Arc::clone(operated)));
            }
        }
        out.send(partition_of(tenant, partitions), input);
    }
}
