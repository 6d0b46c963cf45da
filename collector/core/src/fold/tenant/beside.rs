//! What a bill says beside the lines of its prices: taxes, credit, grants, and what is left of
//! commitments that end; and what stands beside the amount of a line.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use tollgate_common::{Aggregation, Scale};

use super::aside::{self, Aside, Moved};
use super::billing::{contra, currency_of};
use super::book::{Line, LineAccount, LineKey};
use super::tied::{self, LineTies};
use crate::bill::{Bill, BillLine, Breakage, GrantUse, TaxLine};
use crate::catalog::{TaxBehavior, TaxKind};
use crate::ledger::{Account, GL_DEFAULT, Original, Role, TaxOf, negated};
use crate::rate::Currency;

/// A line that is of no price.
struct Beside {
    role: Role,
    id: String,
    /// Tells it from others of the same id.
    name: String,
    account: Account,
    amount: Decimal,
    text: String,
    aside: Option<Aside>,
    ties: LineTies,
}

/// Adds the lines of a bill in a currency that are of no price.
pub(super) fn book(bill: &Bill<'_>, currency: Currency, lines: &mut BTreeMap<LineKey, Line>) {
    let taxes = bill.taxes.iter().map(|line| tax(bill, line, currency));
    let grants = bill.grants.iter().map(|paid| grant(bill, paid, currency));
    let ended = bill.breakage.iter().map(|left| breakage(left, currency));
    let all = taxes.chain([credit(bill, currency)]).chain(grants);
    for beside in all.chain(ended) {
        beside.book(currency, lines);
    }
}

impl Beside {
    fn book(self, currency: Currency, lines: &mut BTreeMap<LineKey, Line>) {
        if self.amount.is_zero() && !aside::is_anything(self.aside.as_ref()) {
            return;
        }
        let key = LineKey {
            account: LineAccount::Rated {
                role: self.role,
                card: self.name,
                id: self.id,
                currency: currency.code().to_owned(),
            },
            meter: None,
            scale: Scale::ZERO,
            aggregation: Aggregation::Sum,
        };
        let line = Line {
            amount: Some(self.amount),
            text: self.text,
            contra: Some(self.account),
            aside: self.aside.map(Box::new),
            ties: self.ties,
            ..Line::default()
        };
        // What is left of a commitment in two currencies is one line.
        lines.entry(key).or_default().together(line);
    }
}

fn tax(bill: &Bill<'_>, line: &TaxLine<'_>, currency: Currency) -> Beside {
    let percent = line.percent.normalize();
    let mut text = format!("{percent} % of {} = {} {currency}", line.base, line.amount);
    if let Some(note) = &line.tax.note {
        text = format!("{text}: {note}");
    }
    Beside {
        role: Role::Tax,
        id: line.tax.code.clone(),
        // Two rates of one tax are two lines.
        name: percent.to_string(),
        account: Account::Tax(line.tax.code.clone()),
        amount: line.amount,
        text,
        aside: Some(taxed(line)),
        ties: tied::with_lines(bill, line.of.iter().copied()),
    }
}

fn credit(bill: &Bill<'_>, currency: Currency) -> Beside {
    let credit = negated(bill.credit);
    Beside {
        role: Role::CreditBalance,
        id: "credit_balance".to_owned(),
        name: String::new(),
        account: Account::CreditBalance,
        amount: credit,
        text: format!("from the credit balance: {credit} {currency}"),
        aside: None,
        ties: Vec::new(),
    }
}

fn grant(bill: &Bill<'_>, grant: &GrantUse<'_>, currency: Currency) -> Beside {
    let paid = negated(grant.paid);
    let unit = grant.grant.unit.map(|unit| format!(" {unit}"));
    let unit = unit.unwrap_or_default();
    let of = grant.of.iter();
    let of = of.map(|(place, paid)| (*place, negated(*paid), Decimal::ZERO));
    Beside {
        role: Role::Grant,
        id: grant.grant.id.clone(),
        name: String::new(),
        account: Account::Grants,
        amount: paid,
        text: format!(
            "grant of which {}{unit} was left: {paid} {currency}, {}{unit} is left",
            grant.before, grant.left
        ),
        aside: None,
        ties: tied::with_lines(bill, of),
    }
}

fn breakage(left: &Breakage<'_>, currency: Currency) -> Beside {
    Beside {
        role: Role::Breakage,
        id: left.commitment.id.clone(),
        name: left.card.unwrap_or_default().to_owned(),
        account: Account::Revenue(GL_DEFAULT.to_owned()),
        amount: Decimal::new(0, currency.exponent()),
        text: format!(
            "paid and not used by the end: {} {}; left by exchange rates: {}",
            left.unused, left.currency, left.exchange
        ),
        aside: Some(broken(left)),
        ties: Vec::new(),
    }
}

/// What a line was in the card's currency and with its tax, where the bill has it otherwise.
pub(super) fn original(bill: &Bill<'_>, line: &BillLine<'_>) -> Option<Original> {
    let with_tax = line.style.behavior == TaxBehavior::Inclusive;
    let is_same = line.amount == line.net && line.currency.code() == currency_of(bill, line);
    let is_reduced = with_tax && line.list != line.amount;
    if is_same && !is_reduced {
        return None;
    }
    Some(Original {
        amount: line.amount,
        currency: line.currency.code().to_owned(),
        rate: line.exchanged.map(|exchanged| exchanged.rate),
        rate_date: line.exchanged.map(|exchanged| exchanged.date),
        with_tax,
    })
}

/// What was charged in advance and is earned with a line.
pub(super) fn earned(bill: &Bill<'_>, line: &BillLine<'_>) -> Option<Aside> {
    let fee = line.charged?;
    let amount = fee.net?;
    let billed = fee.billed.as_ref().map(|(_, currency)| currency.clone());
    let moved = Moved {
        from: Account::Deferred,
        to: contra(line),
        amount,
        currency: billed.unwrap_or_else(|| currency_of(bill, line).to_owned()),
    };
    Some(Aside {
        tax: None,
        moved: vec![moved],
    })
}

/// What a tax was computed of.
fn taxed(tax: &TaxLine<'_>) -> Aside {
    let kind = Some(tax.tax.kind).filter(|kind| *kind != TaxKind::Charged);
    Aside {
        tax: Some(TaxOf {
            base: tax.base,
            percent: tax.percent.normalize(),
            kind: kind.map(|kind| kind.as_str().to_owned()),
            note: tax.tax.note.clone(),
        }),
        moved: Vec::new(),
    }
}

/// What is taken off the account of a commitment at its end.
fn broken(breakage: &Breakage<'_>) -> Aside {
    let moved = |to, amount| Moved {
        from: Account::Commitment,
        to,
        amount,
        currency: breakage.currency.clone(),
    };
    let revenue = Account::Revenue(GL_DEFAULT.to_owned());
    let all = [
        moved(revenue, breakage.unused),
        moved(Account::Exchange, breakage.exchange),
    ];
    Aside {
        tax: None,
        moved: all
            .into_iter()
            .filter(|moved| !moved.amount.is_zero())
            .collect(),
    }
}
