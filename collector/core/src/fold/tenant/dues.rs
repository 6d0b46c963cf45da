//! Dues: which lines of a tenant wait for an invoice, and which documents were issued.
//!
//! Documents are made of lines that the ledger has already; this is only what deciding needs.
//! See `docs/invoices.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use chrono::{Days, NaiveDate};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tollgate_common::{TenantId, Timestamp};

use super::{TenantFold, bare_tenant, tenant_of};
use crate::effect::Effect;
use crate::entry::{
    DOCUMENT_LINES_MAX, Issue, Issued, Manual, ManualAction, ManualLine, printed_number,
};
use crate::fold::planted::PlantedBug;
use crate::ledger::{
    Account, Document, EntryKind, EntryRef, LedgerEntry, Leg, Note, Posting, negated, transfer,
};
use crate::period::Zone;
use crate::position::Position;

/// A line that waits for an invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// What is owed for it; below zero for a credit.
    pub amount: Decimal,
    /// ISO 4217 code.
    pub currency: String,
    /// First instant after the time that it is for.
    pub end: Timestamp,
    /// True if it is disputed.
    pub held: bool,
    /// The line that it adjusts, reverses or stands for, by its number in the chain.
    pub of: Option<u64>,
}

/// An issued document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedDocument {
    /// Its entry's number in the chain.
    pub index: u64,
    /// Who issued it.
    pub issuer: String,
    /// The number as printed.
    pub number: String,
    /// ISO 4217 code.
    pub currency: String,
    /// Its total.
    pub total: Decimal,
    /// The lines that it bills, by their numbers in the chain; empty for the credit note that
    /// voids an invoice.
    pub lines: BTreeMap<u64, Due>,
    /// True once a credit note has voided it.
    pub void: bool,
}

/// What a tenant's documents are decided from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dues {
    /// Lines that stand on no invoice, by their numbers in the chain.
    open: BTreeMap<u64, Due>,
    /// In the order of their serial numbers.
    documents: Vec<IssuedDocument>,
    /// Keys of manual entries.
    keys: BTreeSet<String>,
    /// The end of the open period that reached its threshold, and whose invoice is to be issued.
    pub(super) reached: Option<Timestamp>,
}

/// What to do with an invoice that asks for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZeroPolicy {
    /// There is none; its lines come with the next one.
    #[default]
    Suppress,
    /// It is issued.
    Issue,
}

/// What to do with a total below zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NegativePolicy {
    /// Its lines wait and lessen the next invoice.
    #[default]
    Carry,
    /// It is issued as a credit note.
    CreditNote,
}

/// Who issues documents, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuer {
    /// Its name in the configuration.
    pub id: String,
    /// What stands before the number.
    pub prefix: String,
    /// The number is filled up to so many digits.
    pub digits: u8,
    /// The first number.
    pub first: u64,
    /// Days until an invoice is to be paid.
    pub terms_days: u32,
    /// What to do with a total of zero.
    pub zero: ZeroPolicy,
    /// What to do with a total below zero.
    pub negative: NegativePolicy,
}

/// A wish for a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueWish {
    /// To whom.
    pub tenant: TenantId,
    /// By whom.
    pub issuer: Issuer,
    /// What is wished for.
    pub what: WishedDocument,
    /// Who wishes, and why.
    pub note: Note,
}

/// Which document is wished for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "document", deny_unknown_fields)]
pub enum WishedDocument {
    /// An invoice over all lines that wait.
    Invoice {
        /// Only of this currency; needed where lines wait in several.
        currency: Option<String>,
        /// Only of what ends no later than this.
        until: Option<Timestamp>,
    },
    /// The same with what the open period costs so far: it is booked first.
    SoFar {
        /// Only of this currency; needed where lines wait in several.
        currency: Option<String>,
    },
    /// An invoice over what a threshold booked.
    Threshold,
    /// A credit note that voids this invoice.
    Void {
        /// Its number.
        number: String,
    },
}

/// Why a document is not issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueRefused {
    /// Nothing is known of the tenant.
    #[error("tenant `{0}` has no lines")]
    UnknownTenant(TenantId),
    /// No line waits.
    #[error("tenant `{0}` has no lines that wait for an invoice")]
    NothingToBill(TenantId),
    /// An invoice has one currency.
    #[error("lines wait in several currencies ({0}): say which one to bill")]
    SeveralCurrencies(String),
    /// The total is zero and zero is suppressed.
    #[error(
        "the total is zero and the issuer suppresses such invoices (`zero`); its lines come with the next one"
    )]
    Zero,
    /// The total is below zero and is carried forward.
    #[error("the total {0} is below zero; it is carried forward to the next invoice (`negative`)")]
    Negative(Decimal),
    /// The total does not fit a decimal.
    #[error("the total is too large")]
    TooLarge,
    /// There are more lines than an invoice may have.
    #[error("more than {DOCUMENT_LINES_MAX} lines wait: bill up to an earlier instant first")]
    TooManyLines,
    /// There is no such invoice.
    #[error("tenant `{tenant}` has no invoice `{number}` of issuer `{issuer}`")]
    UnknownInvoice {
        /// Whose.
        tenant: TenantId,
        /// Which number.
        number: String,
        /// Which issuer.
        issuer: String,
    },
    /// It is void already.
    #[error("invoice `{0}` is void already")]
    Void(String),
    /// What is named is a credit note.
    #[error("`{0}` is a credit note, which cannot be voided")]
    NotAnInvoice(String),
}

impl Dues {
    /// Lines that stand on no invoice, by their numbers in the chain.
    pub fn open(&self) -> &BTreeMap<u64, Due> {
        &self.open
    }

    /// The documents in the order in which they were issued.
    pub fn documents(&self) -> &[IssuedDocument] {
        &self.documents
    }

    /// A booked entry: what it adds to what waits.
    pub(super) fn take(&mut self, entry: &LedgerEntry) {
        let posting = &entry.posting;
        if !posting.kind.is_line() {
            return;
        }
        if let Some((amount, currency)) = posting.unbilled() {
            let of = posting.refers_to.map(|at| at.index);
            // What changes a disputed line is disputed like it: else the half of it would be billed.
            let changed = of.and_then(|index| self.open.get(&index));
            let due = Due {
                amount,
                currency: currency.to_owned(),
                end: posting.end,
                held: changed.is_some_and(|due| due.held),
                of,
            };
            self.open.insert(entry.at.index, due);
        }
    }

    /// A line is disputed, or no longer, together with what changes it. `None` if it does not wait,
    /// or stands so already.
    fn hold(&mut self, index: u64, holds: bool) -> Option<Due> {
        let named = self.open.get(&index).filter(|due| due.held != holds);
        let named = named.cloned()?;
        // What changes a line stands behind it in the chain.
        let mut together = BTreeSet::new();
        for (other, due) in self.open.range_mut(index..) {
            if *other == index || due.of.is_some_and(|of| together.contains(&of)) {
                due.held = holds;
                together.insert(*other);
            }
        }
        Some(named)
    }

    fn sum<'d>(dues: impl IntoIterator<Item = &'d Due>) -> Option<Decimal> {
        let mut amounts = dues.into_iter().map(|due| due.amount);
        amounts.try_fold(Decimal::ZERO, Decimal::checked_add)
    }

    /// The lines of an invoice, and what it would come to.
    fn select(
        &self,
        tenant: &TenantId,
        currency: Option<&str>,
        ends: &RangeInclusive<Timestamp>,
    ) -> Result<(String, Vec<u64>, Decimal), IssueRefused> {
        let waits = |due: &&Due| {
            !due.held
                && ends.contains(&due.end)
                && currency.is_none_or(|currency| due.currency == currency)
        };
        let waiting: Vec<(&u64, &Due)> = self.open.iter().filter(|(_, due)| waits(due)).collect();
        let currencies: BTreeSet<&str> = waiting.iter().map(|(_, due)| &*due.currency).collect();
        let currency = match (currencies.len(), currencies.first()) {
            (1, Some(currency)) => (*currency).to_owned(),
            (0, _) | (_, None) => return Err(IssueRefused::NothingToBill(tenant.clone())),
            _ => {
                let all: Vec<&str> = currencies.into_iter().collect();
                return Err(IssueRefused::SeveralCurrencies(all.join(", ")));
            }
        };
        if waiting.len() > DOCUMENT_LINES_MAX {
            return Err(IssueRefused::TooManyLines);
        }
        let total = Self::sum(waiting.iter().map(|(_, due)| *due));
        let total = total.ok_or(IssueRefused::TooLarge)?;
        let lines = waiting.into_iter().map(|(index, _)| *index).collect();
        Ok((currency, lines, total))
    }

    fn propose(&self, wish: &IssueWish, today: NaiveDate) -> Result<Issued, IssueRefused> {
        match &wish.what {
            WishedDocument::Invoice { currency, until } => {
                let until = until.map_or(Timestamp::EPOCH..=Timestamp::MAX, |until| {
                    Timestamp::EPOCH..=until
                });
                self.invoice(wish, today, currency.as_deref(), &until)
            }
            WishedDocument::SoFar { currency } => {
                let all = Timestamp::EPOCH..=Timestamp::MAX;
                self.invoice(wish, today, currency.as_deref(), &all)
            }
            WishedDocument::Threshold => {
                let nothing = || IssueRefused::NothingToBill(wish.tenant.clone());
                let end = self.reached.ok_or_else(nothing)?;
                self.invoice(wish, today, None, &(end..=end))
            }
            WishedDocument::Void { number } => {
                let found = self.documents.iter().enumerate().find(|(_, document)| {
                    document.number == *number && document.issuer == wish.issuer.id
                });
                let Some((serial, document)) = found else {
                    return Err(IssueRefused::UnknownInvoice {
                        tenant: wish.tenant.clone(),
                        number: number.clone(),
                        issuer: wish.issuer.id.clone(),
                    });
                };
                if document.void {
                    return Err(IssueRefused::Void(number.clone()));
                }
                if document.lines.is_empty() {
                    return Err(IssueRefused::NotAnInvoice(number.clone()));
                }
                let voids = u32::try_from(serial).map_err(|_| IssueRefused::TooManyLines)?;
                Ok(Issued::CreditNote { voids })
            }
        }
    }

    /// An invoice over lines that end within these instants.
    fn invoice(
        &self,
        wish: &IssueWish,
        today: NaiveDate,
        currency: Option<&str>,
        ends: &RangeInclusive<Timestamp>,
    ) -> Result<Issued, IssueRefused> {
        let (currency, lines, total) = self.select(&wish.tenant, currency, ends)?;
        if total.is_zero() && wish.issuer.zero == ZeroPolicy::Suppress {
            return Err(IssueRefused::Zero);
        }
        let is_credit = total.is_sign_negative() && !total.is_zero();
        if is_credit && wish.issuer.negative == NegativePolicy::Carry {
            return Err(IssueRefused::Negative(total));
        }
        let terms = Days::new(u64::from(wish.issuer.terms_days));
        let due = today.checked_add_days(terms).filter(|_| !is_credit);
        Ok(Issued::Invoice {
            currency,
            lines,
            due,
        })
    }

    /// Takes the lines of an invoice out of what waits; those that no longer do are left out.
    fn bill(&mut self, currency: &str, lines: &[u64]) -> BTreeMap<u64, Due> {
        let mut billed = BTreeMap::new();
        for index in lines {
            let fits = |due: &Due| !due.held && due.currency == currency;
            if self.open.get(index).is_some_and(fits)
                && let Some(due) = self.open.remove(index)
            {
                billed.insert(*index, due);
            }
        }
        billed
    }
}

impl TenantFold {
    /// What a tenant's documents are decided from; `None` if nothing is known of it.
    pub fn dues(&self, tenant: &TenantId) -> Option<&Dues> {
        self.tenants.get(tenant).map(|tenant| &tenant.dues)
    }

    /// The tenants for which lines wait.
    pub fn tenants_with_dues(&self) -> impl Iterator<Item = &TenantId> {
        let waiting = self.tenants.iter();
        waiting.filter_map(|(name, tenant)| (!tenant.dues.open.is_empty()).then_some(name))
    }

    /// The zone of a tenant's calendar at an instant; UTC while nothing is known of it.
    pub(super) fn zone_at(&self, tenant: &TenantId, instant: Timestamp) -> Zone {
        let known = self.tenants.get(tenant);
        known.map_or(Zone::UTC, |tenant| {
            let period = tenant.calendars.period_containing(instant);
            tenant.calendars.zone_of(period)
        })
    }

    /// The entry that issues a document as wished.
    ///
    /// A pure question: the caller writes the entry to the journal, from where it comes back as an
    /// input, with its number.
    ///
    /// # Errors
    /// See [`IssueRefused`].
    pub fn propose_issue(&self, stamp: Timestamp, wish: &IssueWish) -> Result<Issue, IssueRefused> {
        let dues = self
            .dues(&wish.tenant)
            .ok_or_else(|| IssueRefused::UnknownTenant(wish.tenant.clone()))?;
        let today = self.zone_at(&wish.tenant, stamp).date_at(stamp);
        let what = dues.propose(wish, today)?;
        let serial = u32::try_from(dues.documents.len()).map_err(|_| IssueRefused::TooLarge)?;
        Ok(Issue {
            tenant: wish.tenant.clone(),
            serial,
            issuer: wish.issuer.id.clone(),
            prefix: wish.issuer.prefix.clone(),
            digits: wish.issuer.digits,
            first: wish.issuer.first,
            what,
            seller: None,
            buyer: None,
            note: wish.note.clone(),
        })
    }

    /// Books a document under its number. Always makes one: numbers have no gaps.
    pub(super) fn handle_issue(
        &mut self,
        position: Position,
        stamp: Timestamp,
        issue: &Issue,
        sequence: u64,
        effects: &mut Vec<Effect>,
    ) {
        let date = self.zone_at(&issue.tenant, stamp).date_at(stamp);
        let tenant = tenant_of(&mut self.tenants, &self.catalogs, &issue.tenant, stamp);
        let dues = &mut tenant.dues;
        let number = printed_number(&issue.prefix, issue.digits, sequence);
        let (lines, total, currency, voids, due) = match &issue.what {
            Issued::Invoice {
                currency,
                lines,
                due,
            } => {
                dues.reached = None;
                let lines = dues.bill(currency, lines);
                if self.planted.has(PlantedBug::BilledAgain) {
                    dues.open.extend(lines.clone());
                }
                let total = Dues::sum(lines.values());
                (lines, total, currency.clone(), None, *due)
            }
            Issued::CreditNote { voids } => {
                let voided = dues.documents.get_mut(*voids as usize);
                match voided.filter(|document| !document.void && !document.lines.is_empty()) {
                    Some(document) => {
                        document.void = true;
                        // Its lines are to be billed again.
                        let lines = document.lines.clone();
                        dues.open.extend(lines);
                        let at = document.index;
                        let total = Some(negated(document.total));
                        let currency = document.currency.clone();
                        (BTreeMap::new(), total, currency, Some(at), None)
                    }
                    None => (
                        BTreeMap::new(),
                        Some(Decimal::ZERO),
                        String::new(),
                        None,
                        None,
                    ),
                }
            }
        };
        // Each line is below 10^20 and there are at most 200,000, so that the sum always fits.
        let total = total.unwrap_or_default();
        let kind = if voids.is_some() || total < Decimal::ZERO {
            EntryKind::CreditNote
        } else {
            EntryKind::Invoice
        };
        let end = lines.values().map(|due| due.end).max().unwrap_or(stamp);
        let mut posting = Posting::new(kind, end, end, number.clone(), position);
        posting.tenant = Some(issue.tenant.clone());
        posting.date = Some(date);
        posting.amount = Some(total);
        posting.legs = transfer(Account::Receivable, Account::Unbilled, total, &currency);
        posting.currency = Some(currency.clone()).filter(|currency| !currency.is_empty());
        posting.refers_to = voids.map(|index| EntryRef {
            partition: self.partition,
            index,
        });
        posting.document = Some(Box::new(Document {
            issuer: issue.issuer.clone(),
            sequence,
            number: number.clone(),
            serial: issue.serial,
            lines: lines.keys().copied().collect(),
            due,
            seller: issue.seller,
            buyer: issue.buyer,
        }));
        posting.note = Some(Box::new(issue.note.clone()));
        let at = self.post(stamp, posting, effects);
        let tenant = tenant_of(&mut self.tenants, &self.catalogs, &issue.tenant, stamp);
        tenant.dues.documents.push(IssuedDocument {
            index: at.index,
            issuer: issue.issuer.clone(),
            number,
            currency,
            total,
            lines,
            void: false,
        });
    }

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
