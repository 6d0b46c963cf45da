//! Decisions by hand about a tenant's books: one-off lines, credits, disputes.

use rust_decimal::Decimal;
use tollgate_common::Timestamp;

use super::{TenantFold, bare_tenant};
use crate::effect::Effect;
use crate::entry::{Manual, ManualAction, ManualError, ManualLine};
use crate::ledger::{Account, EntryKind, EntryRef, Leg, Posting, negated};
use crate::position::Position;
use crate::rate::{Mode, Ratio};

/// Why a decision has no effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManualRefused {
    /// It is not what it should be.
    #[error(transparent)]
    Unsound(#[from] ManualError),
    /// It was made before.
    #[error("key `{0}` was booked before")]
    Done(String),
    /// It disputes what is on an invoice, or stands so already.
    #[error("line {0} does not wait for an invoice, or stands so already")]
    NotWaiting(EntryRef),
    /// It gives back what is no line.
    #[error("entry {0} is no line of the tenant in this currency that can be credited")]
    NoLine(EntryRef),
    /// It gives back more of a line than was charged.
    #[error("{asked} is more than the {charged} that stand charged for line {entry}, without tax")]
    MoreThanCharged {
        /// Which line.
        entry: EntryRef,
        /// What stands charged.
        charged: Decimal,
        /// What is to be given back.
        asked: Decimal,
    },
    /// It gives back a tax that there is not.
    #[error("no catalog declares a tax `{0}`")]
    UnknownTax(String),
    /// It gives back more of a tax than was charged.
    #[error("{asked} of tax `{code}` is more than the {charged} that stand charged to the tenant")]
    MoreTaxThanCharged {
        /// Which tax.
        code: String,
        /// What stands charged.
        charged: Decimal,
        /// What is to be given back.
        asked: Decimal,
    },
}

/// The taxes of a line by hand, by code; and of which line it is, by that line's first entry.
#[derive(Default)]
struct Taxes {
    taxes: Vec<(String, Decimal)>,
    root: Option<u64>,
}

impl TenantFold {
    /// Books a decision about a tenant's books; false if it has no effect.
    pub(super) fn handle_manual(
        &mut self,
        position: Position,
        stamp: Timestamp,
        manual: &Manual,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Ok(Taxes { taxes, root }) = self.checked(manual) else {
            return false;
        };
        let zone = self.zone_at(&manual.tenant, stamp);
        let mut posting = match &manual.action {
            ManualAction::Line(line) => line_posting(EntryKind::Manual, line, &taxes, position),
            ManualAction::Credit(line) => line_posting(EntryKind::Credit, line, &taxes, position),
            ManualAction::Hold { entry } | ManualAction::Release { entry } => {
                let holds = matches!(manual.action, ManualAction::Hold { .. });
                let known = self.tenants.get_mut(&manual.tenant);
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
                // Also of a tax that is disputed no longer, on a line that is.
                self.book_apart(&manual.tenant, .., (position, stamp), effects);
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
        let at = self.post(stamp, posting, effects);
        if let (Some(root), Some(tenant)) = (root, self.tenants.get_mut(&manual.tenant)) {
            tenant.dues.are_of(at.index..=at.index, root);
        }
        true
    }

    /// Whether a decision would have an effect now.
    ///
    /// # Errors
    /// Says why not.
    pub fn may_decide(&self, manual: &Manual) -> Result<(), ManualRefused> {
        self.checked(manual).map(|_| ())
    }

    fn checked(&self, manual: &Manual) -> Result<Taxes, ManualRefused> {
        manual.check()?;
        let known = self.tenants.get(&manual.tenant);
        if known.is_some_and(|tenant| tenant.dues.keys.contains(&manual.key)) {
            return Err(ManualRefused::Done(manual.key.clone()));
        }
        match &manual.action {
            ManualAction::Line(line) => Ok(Taxes::of(line)),
            ManualAction::Credit(line) => match line.of {
                Some(entry) => self.part_of(manual, line, entry),
                None => self.goodwill(manual, line),
            },
            ManualAction::Hold { entry } | ManualAction::Release { entry } => {
                let holds = matches!(manual.action, ManualAction::Hold { .. });
                let known = known.filter(|_| entry.partition == self.partition);
                let dues = known.map(|known| &known.dues);
                let waits = dues.is_some_and(|dues| {
                    let due = dues.open().get(&entry.index);
                    due.is_some_and(|due| dues.is_held(due) != holds)
                });
                waits
                    .then(Taxes::default)
                    .ok_or(ManualRefused::NotWaiting(*entry))
            }
        }
    }

    /// A credit of no line has no tax that is not charged.
    fn goodwill(&self, manual: &Manual, line: &ManualLine) -> Result<Taxes, ManualRefused> {
        if let Some(tax) = line.tax.as_ref().filter(|tax| !tax.amount.is_zero()) {
            let mut versions = self.catalogs.timeline().versions().iter();
            if !versions.any(|version| version.catalog.tax(&tax.code).is_some()) {
                return Err(ManualRefused::UnknownTax(tax.code.clone()));
            }
            let known = self.tenants.get(&manual.tenant);
            let currency = line.currency.code();
            let charged = known.and_then(|known| known.dues.tax_charged(&tax.code, currency));
            let charged = charged.unwrap_or_default();
            if tax.amount > charged {
                return Err(ManualRefused::MoreTaxThanCharged {
                    code: tax.code.clone(),
                    charged,
                    asked: tax.amount,
                });
            }
        }
        Ok(Taxes::of(line))
    }

    /// A credit of a line has its part of what taxes stand charged for that.
    fn part_of(
        &self,
        manual: &Manual,
        line: &ManualLine,
        entry: EntryRef,
    ) -> Result<Taxes, ManualRefused> {
        let known = self.tenants.get(&manual.tenant);
        let known = known.filter(|_| entry.partition == self.partition);
        let charged = known.and_then(|known| known.dues.charged(entry.index));
        let charged = charged.filter(|charged| charged.currency == line.currency.code());
        let charged = charged.ok_or(ManualRefused::NoLine(entry))?;
        if line.amount > charged.net {
            return Err(ManualRefused::MoreThanCharged {
                entry,
                charged: charged.net,
                asked: line.amount,
            });
        }
        let places = line.currency.exponent();
        let part = |tax: Decimal| {
            let share = Ratio::from_decimal(line.amount);
            let share = share.checked_div(Ratio::from_decimal(charged.net))?;
            let tax = share.checked_mul(Ratio::from_decimal(tax))?;
            tax.round(places, Mode::HalfUp)
        };
        let mut taxes = Vec::with_capacity(charged.taxes.len());
        for (code, tax) in charged.taxes {
            // Rounded, a part of it is no more than it.
            if tax > Decimal::ZERO {
                let part = part(tax).ok_or(ManualRefused::NoLine(entry))?;
                taxes.push((code, part));
            }
        }
        taxes.retain(|(_, tax)| !tax.is_zero());
        Ok(Taxes {
            taxes,
            root: Some(charged.root),
        })
    }
}

impl Taxes {
    /// As they were given.
    fn of(line: &ManualLine) -> Self {
        let given = line.tax.iter().filter(|tax| !tax.amount.is_zero());
        Self {
            taxes: given.map(|tax| (tax.code.clone(), tax.amount)).collect(),
            root: None,
        }
    }
}

/// The posting of a one-off line or a credit with these taxes.
fn line_posting(
    kind: EntryKind,
    line: &ManualLine,
    taxes: &[(String, Decimal)],
    position: Position,
) -> Posting {
    let code = line.currency.code();
    let places = line.currency.exponent();
    let with_sign = |amount: Decimal| {
        let mut amount = match kind {
            EntryKind::Credit => negated(amount),
            _ => amount,
        };
        amount.rescale(places);
        amount
    };
    let net = with_sign(line.amount);
    // Checked: amounts are at most 10^15, and taxes at most a few times as much.
    let total = taxes
        .iter()
        .fold(net, |sum, (_, tax)| sum + with_sign(*tax));
    let mut posting = Posting::new(kind, line.start, line.end, line.line.clone(), position);
    posting.amount = Some(total);
    posting.currency = Some(code.to_owned());
    posting.date = line.date;
    posting.refers_to = line.of;
    posting.arithmetic = format!("{}: {net}", line.text);
    let leg = |account, amount| Leg {
        account,
        amount,
        currency: code.to_owned(),
    };
    posting.legs.push(leg(Account::Unbilled, total));
    posting
        .legs
        .push(leg(Account::Revenue(line.gl.clone()), negated(net)));
    for (tax, amount) in taxes {
        let amount = with_sign(*amount);
        posting.arithmetic += &format!(" + {amount} tax `{tax}`");
        posting
            .legs
            .push(leg(Account::Tax(tax.clone()), negated(amount)));
    }
    posting
}
