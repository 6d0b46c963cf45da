//! Decisions by hand about a tenant's books: one-off lines, credits, disputes.

use rust_decimal::Decimal;
use tollgate_common::Timestamp;

use super::{TenantFold, bare_tenant};
use crate::effect::Effect;
use crate::entry::{Manual, ManualAction, ManualLine};
use crate::ledger::{Account, EntryKind, Leg, Posting, negated};
use crate::position::Position;

impl TenantFold {
    /// Books a decision about a tenant's books; false if it has no effect: it is not sound, was
    /// made before, or names a line that does not wait.
    pub(super) fn handle_manual(
        &mut self,
        position: Position,
        stamp: Timestamp,
        manual: &Manual,
        effects: &mut Vec<Effect>,
    ) -> bool {
        if manual.check().is_err() {
            return false;
        }
        let zone = self.zone_at(&manual.tenant, stamp);
        let known = self.tenants.get_mut(&manual.tenant);
        if known
            .as_ref()
            .is_some_and(|tenant| tenant.dues.keys.contains(&manual.key))
        {
            return false;
        }
        let mut posting = match &manual.action {
            ManualAction::Line(line) => {
                line_posting(EntryKind::Manual, line, Decimal::ONE, position)
            }
            ManualAction::Credit(line) => {
                line_posting(EntryKind::Credit, line, Decimal::NEGATIVE_ONE, position)
            }
            ManualAction::Hold { entry } | ManualAction::Release { entry } => {
                let holds = matches!(manual.action, ManualAction::Hold { .. });
                let known = known.filter(|_| entry.partition == self.partition);
                let Some(due) = known.and_then(|known| known.dues.hold(entry.index, holds)) else {
                    return false;
                };
                let kind = if holds {
                    EntryKind::Hold
                } else {
                    EntryKind::Release
                };
                let mut posting = Posting::new(kind, due.end, due.end, entry.to_string(), position);
                posting.refers_to = Some(*entry);
                posting
            }
        };
        // A one-off line may come before all usage, but a misspelt name must not owe fees.
        let tenant = bare_tenant(&mut self.tenants, &self.catalogs, &manual.tenant);
        tenant.dues.keys.insert(manual.key.clone());
        posting.tenant = Some(manual.tenant.clone());
        posting.note = Some(Box::new(manual.note.clone()));
        if !posting.legs.is_empty() && posting.date.is_none() {
            posting.date = Some(zone.date_at(stamp));
        }
        self.post(stamp, posting, effects);
        true
    }
}

/// The posting of a one-off line, whose amount and tax have this sign.
fn line_posting(kind: EntryKind, line: &ManualLine, sign: Decimal, position: Position) -> Posting {
    let code = line.currency.code();
    let places = line.currency.exponent();
    // Checked: amounts are at most 10^15 and taxes at most as much.
    let with_places = |amount: Decimal| {
        let mut amount = if sign.is_sign_negative() {
            negated(amount)
        } else {
            amount
        };
        amount.rescale(places);
        amount
    };
    let net = with_places(line.amount);
    let tax = line
        .tax
        .as_ref()
        .map_or(Decimal::ZERO, |tax| with_places(tax.amount));
    let total = net + tax;
    let mut posting = Posting::new(kind, line.start, line.end, line.line.clone(), position);
    posting.amount = Some(total);
    posting.currency = Some(code.to_owned());
    posting.date = line.date;
    posting.arithmetic = match &line.tax {
        Some(given) => format!("{}: {net} + {tax} tax `{}`", line.text, given.code),
        None => format!("{}: {net}", line.text),
    };
    let leg = |account, amount| Leg {
        account,
        amount,
        currency: code.to_owned(),
    };
    posting.legs.push(leg(Account::Unbilled, total));
    posting
        .legs
        .push(leg(Account::Revenue(line.gl.clone()), negated(net)));
    if let Some(given) = line.tax.as_ref().filter(|_| !tax.is_zero()) {
        posting
            .legs
            .push(leg(Account::Tax(given.code.clone()), negated(tax)));
    }
    posting
}
