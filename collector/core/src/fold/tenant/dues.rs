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

use super::rare::Nothing;
use super::tied::Beside;
use super::{TenantFold, split, tenant_of};
use crate::effect::Effect;
use crate::entry::{DOCUMENT_LINES_MAX, Issue, Issued, printed_number};
use crate::fold::planted::PlantedBug;
use crate::ledger::{
    Account, Document, EntryKind, EntryRef, LedgerEntry, Note, Posting, negated, transfer,
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
    /// What of it is a tax in its own entry.
    pub tax: Decimal,
    /// Of a line of tax: what it was computed of.
    #[serde(default)]
    pub base: Decimal,
    /// True if other documents bill the rest of it.
    pub is_part: bool,
    /// The first entry of its line: what adjusts, reverses or takes the place of an entry is of the
    /// same line.
    pub(super) root: u64,
    /// What it has to do with taxes and grants.
    pub(super) beside: Option<Box<Beside>>,
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
    pub(super) open: BTreeMap<u64, Due>,
    /// The lines that are disputed, by their first entries.
    pub(super) disputed: BTreeSet<u64>,
    /// In the order of their serial numbers.
    documents: Vec<IssuedDocument>,
    /// Keys of manual entries.
    pub(super) keys: BTreeSet<String>,
    /// The open periods that reached their threshold and whose invoices are to be issued, by their
    /// ends, with the currency in which they were booked.
    pub(super) reached: BTreeMap<Timestamp, String>,
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
    /// Several invoices over all lines that wait, each over its part of every line.
    Split {
        /// Only of this currency; needed where lines wait in several.
        currency: Option<String>,
        /// Only of what ends no later than this.
        until: Option<Timestamp>,
        /// The parts, in proportion to each other; 2 to [`SPLIT_MAX`](crate::entry::SPLIT_MAX) numbers
        /// above zero.
        weights: Vec<u32>,
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
    /// A sum cannot be split like that.
    #[error("cannot be split: {0}")]
    Split(String),
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

impl Nothing for Dues {
    const NOTHING: &'static Self = &Self {
        open: BTreeMap::new(),
        disputed: BTreeSet::new(),
        documents: Vec::new(),
        keys: BTreeSet::new(),
        reached: BTreeMap::new(),
    };
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
            let changed = of.and_then(|index| self.open.get(&index));
            let due = Due {
                amount,
                currency: currency.to_owned(),
                end: posting.end,
                tax: posting.own_tax(),
                base: posting.tax_base(),
                is_part: false,
                root: changed.map_or(of.unwrap_or(entry.at.index), |due| due.root),
                beside: Beside::of(posting).map(Box::new),
            };
            self.open.insert(entry.at.index, due);
        }
    }

    /// Whether a line is disputed. It is as a whole: of a part of it, the tax would be of the other.
    pub fn is_held(&self, due: &Due) -> bool {
        self.disputed.contains(&due.root)
    }

    /// A line is disputed, or no longer: all of it that waits, and all that comes to wait. Takes any of
    /// its entries; `None` if that does not wait, or stands so already.
    pub(super) fn hold(&mut self, index: u64, holds: bool) -> Option<&Due> {
        let due = self.open.get(&index)?;
        let is_new = if holds {
            self.disputed.insert(due.root)
        } else {
            self.disputed.remove(&due.root)
        };
        is_new.then_some(due)
    }

    pub(super) fn sum<'d>(dues: impl IntoIterator<Item = &'d Due>) -> Option<Decimal> {
        let mut amounts = dues.into_iter().map(|due| due.amount);
        amounts.try_fold(Decimal::ZERO, Decimal::checked_add)
    }

    /// The lines of an invoice, and what it would come to.
    pub(super) fn select(
        &self,
        tenant: &TenantId,
        currency: Option<&str>,
        ends: &RangeInclusive<Timestamp>,
    ) -> Result<(String, Vec<u64>, Decimal), IssueRefused> {
        let waits = |due: &&Due| {
            !self.is_held(due)
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

    fn propose(&self, wish: &IssueWish, today: NaiveDate) -> Result<Vec<Issued>, IssueRefused> {
        let all = Timestamp::EPOCH..=Timestamp::MAX;
        let upto =
            |until: &Option<Timestamp>| until.map_or(all.clone(), |end| Timestamp::EPOCH..=end);
        let only = |issued: Issued| vec![issued];
        match &wish.what {
            WishedDocument::Invoice { currency, until } => self
                .invoice(wish, today, currency.as_deref(), &upto(until))
                .map(only),
            WishedDocument::Split {
                currency,
                until,
                weights,
            } => self.split(wish, today, (currency.as_deref(), &upto(until)), weights),
            WishedDocument::SoFar { currency } => self
                .invoice(wish, today, currency.as_deref(), &all)
                .map(only),
            WishedDocument::Threshold => {
                let nothing = || IssueRefused::NothingToBill(wish.tenant.clone());
                let mut refused = None;
                for (end, currency) in &self.reached {
                    match self.invoice(wish, today, Some(currency), &(*end..=*end)) {
                        Ok(issued) => return Ok(only(issued)),
                        Err(error) => refused = refused.or(Some(error)),
                    }
                }
                Err(refused.unwrap_or_else(nothing))
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
                Ok(only(Issued::CreditNote { voids }))
            }
        }
    }

    /// When an invoice of today is to be paid.
    pub(super) fn due_of(wish: &IssueWish, today: NaiveDate) -> Option<NaiveDate> {
        today.checked_add_days(Days::new(u64::from(wish.issuer.terms_days)))
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
        let due = Self::due_of(wish, today).filter(|_| !is_credit);
        Ok(Issued::Invoice {
            currency,
            lines,
            due,
            split: None,
        })
    }

    /// Takes the lines of an invoice out of what waits; those that no longer do are left out.
    fn bill(&mut self, currency: &str, lines: &[u64]) -> BTreeMap<u64, Due> {
        let mut billed = BTreeMap::new();
        for index in lines {
            let fits = |due: &Due| !self.is_held(due) && due.currency == currency;
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
        self.tenants.get(tenant).map(|tenant| &*tenant.dues)
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

    /// The entries that issue a document as wished, or several over one sum.
    ///
    /// A pure question: the caller writes the entries to the journal, all at once, from where they
    /// come back as inputs, with their numbers.
    ///
    /// # Errors
    /// See [`IssueRefused`].
    pub fn propose_issue(
        &self,
        stamp: Timestamp,
        wish: &IssueWish,
    ) -> Result<Vec<Issue>, IssueRefused> {
        let dues = self
            .dues(&wish.tenant)
            .ok_or_else(|| IssueRefused::UnknownTenant(wish.tenant.clone()))?;
        let today = self.zone_at(&wish.tenant, stamp).date_at(stamp);
        let issued = dues.propose(wish, today)?.into_iter();
        let issues = issued.zip(dues.documents.len()..).map(|(what, serial)| {
            Ok(Issue {
                tenant: wish.tenant.clone(),
                serial: u32::try_from(serial).map_err(|_| IssueRefused::TooLarge)?,
                issuer: wish.issuer.id.clone(),
                prefix: wish.issuer.prefix.clone(),
                digits: wish.issuer.digits,
                first: wish.issuer.first,
                what,
                seller: None,
                buyer: None,
                note: wish.note.clone(),
            })
        });
        issues.collect()
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
        let dues = &mut *tenant.dues;
        let mut waits_again = false;
        let number = printed_number(&issue.prefix, issue.digits, sequence);
        let mut part_of = None;
        let (lines, total, currency, voids, due) = match &issue.what {
            Issued::Invoice {
                currency,
                lines,
                due,
                split,
            } => {
                part_of = split.as_ref().map(|split| split.part_of);
                let lines = match split {
                    None => dues.bill(currency, lines),
                    Some(split) => dues.bill_parts(currency, lines, &split.parts),
                };
                dues.reached.retain(|end, reached| {
                    let is_billed =
                        reached == currency && lines.values().any(|due| due.end == *end);
                    !is_billed
                });
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
                        let at = document.index;
                        let total = Some(negated(document.total));
                        let currency = document.currency.clone();
                        dues.give_back(lines);
                        waits_again = true;
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
            parts: split::parts_of(&lines),
            part_of,
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
        if waits_again {
            self.book_apart(&issue.tenant, .., (position, stamp), effects);
        }
    }
}
