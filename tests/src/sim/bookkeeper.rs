//! Keeps the books once more, by hand: what waits for an invoice, what is disputed, which document
//! has which number, and what every account has come to.
//!
//! It sees nothing but ledger entries, one after the other as they reach a projection, and holds
//! them against what double entry promises at every step: legs sum to zero, a line stands on one
//! invoice at a time, or in parts on several that are the line together, and on none while it is
//! disputed, a document asks for what its lines sum to, numbers have no gaps, and what waits and what
//! is owed are what the accounts say.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_collector_core::ledger::{
    Account, Document, EntryKind, EntryRef, LedgerEntry, Leg, LinePart, Posting,
};
use tollgate_common::TenantId;

/// Amounts in units of the currency's last place.
type Cents = i128;
/// Whose account, in which currency.
type Key = (TenantId, Account, String);

/// A line that an invoice may bill.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    tenant: TenantId,
    currency: String,
    /// What of it stands on no invoice.
    left: Cents,
    /// Of a tax: what of its base stands on no invoice. A tax of nothing is told of by its base.
    left_base: Cents,
    /// What of it stands on invoices.
    billed: Cents,
    /// Something of it stands on no invoice, if only that it comes to nothing.
    waits: bool,
}

/// A document in force.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Issued {
    /// With what it bills of each, and of its base.
    lines: Vec<(u64, Cents, Cents)>,
    cents: Cents,
}

/// A line of which something stands on no invoice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// It is disputed.
    pub disputed: bool,
    /// What of it waits, in units of the currency's last place.
    pub left: i128,
}

/// What the books say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bookkeeper {
    lines: BTreeMap<EntryRef, Line>,
    /// What entries change, also where they come to nothing.
    changes: BTreeMap<EntryRef, EntryRef>,
    /// The lines that are disputed, by their first entries.
    disputed: BTreeSet<EntryRef>,
    issued: BTreeMap<EntryRef, Issued>,
    /// The last number of each issuer.
    numbers: BTreeMap<String, u64>,
    accounts: BTreeMap<Key, Cents>,
    /// Documents that came to be.
    pub documents: u64,
    /// Documents that were voided.
    pub voided: u64,
    /// Invoices over a part of their lines.
    pub parts: u64,
    /// Disputes over what is left of a line of which invoices have billed a part.
    pub disputed_parts: u64,
}

impl Bookkeeper {
    /// The next entry of a partition.
    pub fn take(&mut self, entry: &LedgerEntry) -> Result<(), String> {
        let told = self.book(entry);
        told.map_err(|wrong| format!("books: entry {}: {wrong}: {:?}", entry.at, entry.posting))
    }

    fn book(&mut self, entry: &LedgerEntry) -> Result<(), String> {
        let posting = &entry.posting;
        self.move_money(posting)?;
        match posting.kind {
            EntryKind::Hold | EntryKind::Release => self.dispute(posting),
            EntryKind::Invoice | EntryKind::CreditNote => self.document(entry),
            kind if kind.is_line() => {
                self.line(entry);
                Ok(())
            }
            _ if posting.legs.is_empty() => Ok(()),
            _ => Err("what nobody pays moves money".to_owned()),
        }
    }

    /// Legs sum to zero.
    fn move_money(&mut self, posting: &Posting) -> Result<(), String> {
        let mut sums: BTreeMap<&str, Cents> = BTreeMap::new();
        for leg in &posting.legs {
            let tenant = posting.tenant.clone().ok_or("money of nobody")?;
            *sums.entry(&leg.currency).or_default() += cents(leg);
            let key = (tenant, leg.account.clone(), leg.currency.clone());
            *self.accounts.entry(key).or_default() += cents(leg);
        }
        match sums.into_iter().find(|(_, sum)| *sum != 0) {
            Some((currency, sum)) => Err(format!("its legs in {currency} sum to {sum}")),
            None => Ok(()),
        }
    }

    fn line(&mut self, entry: &LedgerEntry) {
        let posting = &entry.posting;
        if let Some(of) = posting.refers_to {
            self.changes.insert(entry.at, of);
        }
        let unbilled = posting.legs.iter();
        let Some(leg) = unbilled
            .into_iter()
            .find(|leg| leg.account == Account::Unbilled)
        else {
            return;
        };
        if let Some(tenant) = posting.tenant.clone() {
            let line = Line {
                tenant,
                currency: leg.currency.clone(),
                left: cents(leg),
                left_base: {
                    let mut base = posting.tax_base();
                    base.rescale(2);
                    base.mantissa()
                },
                billed: 0,
                waits: true,
            };
            self.lines.insert(entry.at, line);
        }
    }

    /// The first entry of the line that an entry is of.
    fn first(&self, of: EntryRef) -> EntryRef {
        let mut first = of;
        while let Some(earlier) = self.changes.get(&first) {
            first = *earlier;
        }
        first
    }

    /// A line is disputed as a whole, whichever of its entries is named, or not any more.
    fn dispute(&mut self, posting: &Posting) -> Result<(), String> {
        let named = posting.refers_to.ok_or("it names no line")?;
        let line = self.lines.get(&named).ok_or("there is no such line")?;
        let first = self.first(named);
        let is_new = if posting.kind == EntryKind::Hold {
            self.disputed_parts += u64::from(line.billed != 0);
            self.disputed.insert(first)
        } else {
            self.disputed.remove(&first)
        };
        if is_new && line.waits && Some(&line.tenant) == posting.tenant.as_ref() {
            Ok(())
        } else {
            Err(format!("the line does not stand so: {line:?}"))
        }
    }

    fn document(&mut self, entry: &LedgerEntry) -> Result<(), String> {
        let posting = &entry.posting;
        let document = posting.document.as_deref().ok_or("it has no number")?;
        let last = self
            .numbers
            .insert(document.issuer.clone(), document.sequence);
        if last.is_some_and(|last| last + 1 != document.sequence) {
            return Err(format!("its number follows {last:?}"));
        }
        self.documents += 1;
        let owed = posting.legs.iter();
        let owed = owed.filter(|leg| leg.account == Account::Receivable);
        let owed: Cents = owed.map(cents).sum();
        match posting.refers_to {
            Some(voided) => self.void(voided, owed)?,
            None => self.invoice(entry, document, owed)?,
        }
        let tenant = posting.tenant.as_ref().ok_or("a document to nobody")?;
        self.check(tenant)
    }

    fn void(&mut self, voided: EntryRef, owed: Cents) -> Result<(), String> {
        let issued = self.issued.remove(&voided);
        let issued = issued.ok_or_else(|| format!("{voided} is no invoice in force"))?;
        self.voided += 1;
        for (index, cents, base) in issued.lines {
            if let Some(line) = self.lines.get_mut(&EntryRef { index, ..voided }) {
                line.billed -= cents;
                line.left += cents;
                line.left_base += base;
                line.waits = true;
            }
        }
        if owed == -issued.cents {
            Ok(())
        } else {
            Err(format!("it takes back {owed} of {}", issued.cents))
        }
    }

    fn invoice(
        &mut self,
        entry: &LedgerEntry,
        document: &Document,
        owed: Cents,
    ) -> Result<(), String> {
        let mut sum = 0;
        let mut lines = Vec::new();
        let whole = document.parts.is_empty();
        if !whole && document.parts.len() != document.lines.len() {
            return Err("it does not say of each line which part it bills".to_owned());
        }
        self.parts += u64::from(document.part_of.is_some());
        for (place, index) in document.lines.iter().enumerate() {
            let at = EntryRef {
                index: *index,
                ..entry.at
            };
            let is_disputed = self.disputed.contains(&self.first(at));
            let line = self.lines.get_mut(&at).ok_or("it bills what is no line")?;
            let mine = Some(&line.tenant) == entry.posting.tenant.as_ref()
                && Some(&line.currency) == entry.posting.currency.as_ref();
            if !mine || !line.waits || is_disputed {
                return Err(format!("it bills {at}: {line:?}"));
            }
            let (part, base) = if whole {
                (line.left, line.left_base)
            } else {
                let part = &document.parts[place];
                (cents_of(part), base_of(part))
            };
            if whole && line.billed != 0 {
                return Err(format!("it bills the rest of {at} as the whole: {line:?}"));
            }
            if part * line.left < 0 || part.abs() > line.left.abs() {
                return Err(format!("it bills {part} of {at}: {line:?}"));
            }
            line.left -= part;
            line.left_base -= base;
            line.billed += part;
            line.waits = line.left != 0 || line.left_base != 0;
            sum += part;
            lines.push((*index, part, base));
        }
        if sum != owed {
            return Err(format!("its lines sum to {sum} and it asks for {owed}"));
        }
        // One without lines has nothing that could be voided.
        if !lines.is_empty() {
            let issued = Issued { lines, cents: owed };
            self.issued.insert(entry.at, issued);
        }
        Ok(())
    }

    /// What waits and what is owed is what the accounts say.
    fn check(&self, tenant: &TenantId) -> Result<(), String> {
        let mut waiting: BTreeMap<&str, Cents> = BTreeMap::new();
        let mut billed: BTreeMap<&str, Cents> = BTreeMap::new();
        for line in self.lines.values().filter(|line| line.tenant == *tenant) {
            *waiting.entry(&line.currency).or_default() += line.left;
            *billed.entry(&line.currency).or_default() += line.billed;
        }
        let own = self.accounts.iter().filter(|((of, ..), _)| of == tenant);
        for ((_, account, currency), balance) in own {
            let sums = match account {
                Account::Unbilled => &waiting,
                Account::Receivable => &billed,
                _ => continue,
            };
            let sum = sums.get(currency.as_str()).copied().unwrap_or_default();
            if sum != *balance {
                return Err(format!(
                    "{account} of {tenant} is {balance} {currency}, its lines sum to {sum}"
                ));
            }
        }
        Ok(())
    }

    /// The lines of a tenant of which something stands on no invoice, by their numbers.
    pub fn open(&self, tenant: &TenantId) -> BTreeMap<u64, Open> {
        let own = self.lines.iter().filter(|(_, line)| line.tenant == *tenant);
        let open = own.filter(|(_, line)| line.waits);
        let open = open.map(|(at, line)| {
            let disputed = self.disputed.contains(&self.first(*at));
            let left = line.left;
            (at.index, Open { disputed, left })
        });
        open.collect()
    }

    /// Everybody with lines.
    pub fn tenants(&self) -> BTreeSet<TenantId> {
        let lines = self.lines.values();
        lines.map(|line| line.tenant.clone()).collect()
    }

    /// The accounts of everybody together are even in every currency, and those of each tenant are
    /// what its lines say.
    pub fn check_all(&self) -> Result<(), String> {
        let mut sums: BTreeMap<&str, Cents> = BTreeMap::new();
        for ((_, _, currency), balance) in &self.accounts {
            *sums.entry(currency).or_default() += balance;
        }
        if let Some((currency, sum)) = sums.into_iter().find(|(_, sum)| *sum != 0) {
            return Err(format!("all accounts in {currency} sum to {sum}"));
        }
        self.tenants()
            .iter()
            .try_for_each(|tenant| self.check(tenant))
    }
}

fn cents(leg: &Leg) -> Cents {
    let mut amount = leg.amount;
    amount.rescale(2);
    amount.mantissa()
}

/// What of a line is billed, in units of its currency's last place: all of this world have two.
pub fn cents_of(part: &LinePart) -> i128 {
    let mut amount = part.amount;
    amount.rescale(2);
    amount.mantissa()
}

fn base_of(part: &LinePart) -> Cents {
    let mut base = part.base;
    base.rescale(2);
    base.mantissa()
}
