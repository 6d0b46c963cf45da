//! Shares of lines are parts of them: what tenants have of a line of whoever pays for them has its
//! sign, and together it is no more than the line. So are shares of taxes, all codes of a period
//! together. Where a line of it is below zero, what of the tax is given back may be the payer's alone:
//! then they are no more than the taxes with as much as can be due on what is below zero.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use tollgate_common::{MeterName, TenantId, Timestamp};

use super::books::Fault;
use crate::catalog::TAXES_MAX;
use crate::ledger::{EntryKind, EntryRef, LedgerEntry, Posting, Role};

/// Which line: of whom, for which time, by which price, in which currency.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    payer: TenantId,
    start: Timestamp,
    end: Timestamp,
    line: String,
    meter: Option<MeterName>,
    role: Role,
    currency: String,
}

/// What a line came to in the end, and who has what of it.
#[derive(Debug, Default)]
struct Line {
    /// `None` if a sum does not fit.
    amount: Option<Decimal>,
    shares: BTreeMap<TenantId, Option<Decimal>>,
    /// The last of the shares.
    last: Option<EntryRef>,
}

/// Takes up the entries in the order of each chain.
#[derive(Debug, Default)]
pub(super) struct Shares {
    lines: BTreeMap<Key, Line>,
    /// The line of each entry, because what comes later refers to entries.
    known: BTreeMap<EntryRef, Key>,
}

fn before(at: EntryRef) -> EntryRef {
    EntryRef {
        index: at.index.saturating_sub(1),
        ..at
    }
}

fn add(sum: Option<Decimal>, amount: Decimal) -> Option<Decimal> {
    sum.and_then(|sum| sum.checked_add(amount))
}

impl Shares {
    /// Takes up an entry. `pays` says of a tenant whether it ever paid for others.
    pub(super) fn take(&mut self, entry: &LedgerEntry, pays: impl Fn(&TenantId) -> bool) {
        let posting = &entry.posting;
        let is_share = posting.kind == EntryKind::Share;
        let tenant = match &posting.tenant {
            Some(tenant) if is_share || (posting.kind.is_closing() && pays(tenant)) => tenant,
            _ => return,
        };
        let payer = posting.payer.as_ref().unwrap_or(tenant);
        let (Some(amount), Some(own)) = (posting.amount, key_of(payer, posting)) else {
            return;
        };
        // The difference of a line that is booked in a later period is that line's.
        let refers = matches!(posting.kind, EntryKind::Share | EntryKind::Adjustment);
        let of = posting.refers_to.filter(|_| refers);
        let of_line = of.and_then(|at| self.known.get(&at));
        let key = match of_line {
            // What goes with a disputed line, of a tax or of what pays for it, was taken off that by the
            // entry before.
            Some(key) if !is_share && key.role != own.role => self.known.get(&before(entry.at)),
            of_line => of_line,
        };
        let key = key.cloned();
        // What is late is the first of its line: it stands in another period than its shares.
        let own = match (posting.kind, posting.refers_to) {
            (EntryKind::Adjustment, None) => own.in_no_period(),
            _ => own,
        };
        let key = key.unwrap_or(own);
        self.known.insert(entry.at, key.clone());
        let line = self.lines.entry(key).or_insert_with(|| Line {
            amount: Some(Decimal::ZERO),
            ..Line::default()
        });
        if is_share {
            let share = line.shares.entry(tenant.clone());
            let share = share.or_insert(Some(Decimal::ZERO));
            *share = add(*share, amount);
            line.last = Some(entry.at);
        } else {
            line.amount = add(line.amount, amount);
        }
    }

    /// The lines whose shares are no parts of them. Where something stands in another period than
    /// its shares, all periods of the price are one line. `rate` is the largest part of an amount that
    /// all taxes of a line come to.
    pub(super) fn faults(&self, rate: Decimal) -> impl Iterator<Item = Fault> {
        let mut pools: BTreeMap<Key, Line> = BTreeMap::new();
        let unplaced = self.lines.keys().filter(|key| key.is_in_no_period());
        pools.extend(unplaced.map(|key| (key.clone(), Line::default())));
        for pool in pools.values_mut() {
            pool.amount = Some(Decimal::ZERO);
        }
        let mut alone: Vec<(&Key, &Line)> = Vec::new();
        let below = self.bills_with_less_than_nothing();
        let mut given_back: Vec<Fault> = Vec::new();
        for (key, line) in &self.lines {
            if key.role == Role::Tax && key.is_of_any(&below) {
                let room = below.get(&key.bill()).copied();
                let room = room.and_then(|below| below?.of_taxes(rate));
                given_back.extend(room.and_then(|room| line.fault_beyond(key, room)));
                continue;
            }
            match pools.get_mut(&key.clone().in_no_period()) {
                Some(pool) => pool.take(line),
                None => alone.push((key, line)),
            }
        }
        let alone = alone.into_iter().filter_map(|(key, line)| line.fault(key));
        let mut faults: Vec<Fault> = alone.collect();
        faults.append(&mut given_back);
        faults.extend(pools.iter().filter_map(|(key, line)| line.fault(key)));
        faults.into_iter()
    }
}

impl Shares {
    /// The bills of which a taxed line came to less than nothing in the end, each with how much less
    /// that is; `None` where that is not known.
    fn bills_with_less_than_nothing(&self) -> BTreeMap<Bill<'_>, Option<Below>> {
        let untaxed = [Role::Tax, Role::Grant, Role::CreditBalance, Role::Rounding];
        let lines = self.lines.iter();
        let taxed = lines.filter(|(key, _)| !untaxed.contains(&key.role));
        let mut bills: BTreeMap<Bill<'_>, Option<Below>> = BTreeMap::new();
        for (key, line) in taxed.filter(|(_, line)| line.amount.is_none_or(|a| a < Decimal::ZERO)) {
            let sum = bills.entry(key.bill()).or_insert(Some(Below::default()));
            *sum = sum.and_then(|sum| sum.and(line.amount?));
        }
        bills
    }
}

/// What lines below zero come to.
#[derive(Clone, Copy, Debug, Default)]
struct Below {
    /// Without its sign.
    amount: Decimal,
    /// What rounding the taxes of each of them can make of it.
    rounding: Decimal,
}

impl Below {
    fn and(self, amount: Decimal) -> Option<Self> {
        let taxes = Decimal::from(TAXES_MAX as u64);
        let unit = Decimal::new(1, amount.scale()).checked_mul(taxes)?;
        Some(Self {
            amount: self.amount.checked_add(amount.abs())?,
            rounding: self.rounding.checked_add(unit)?,
        })
    }

    /// The most that its taxes can be.
    fn of_taxes(self, rate: Decimal) -> Option<Decimal> {
        self.amount.checked_mul(rate)?.checked_add(self.rounding)
    }
}

/// Who pays, in which currency, for which time.
type Bill<'k> = (&'k TenantId, &'k str, Timestamp, Timestamp);

impl Key {
    fn bill(&self) -> Bill<'_> {
        (&self.payer, &self.currency, self.start, self.end)
    }

    /// Whether it stands on one of these, or on any of the payer's that is not known.
    fn is_of_any<V>(&self, bills: &BTreeMap<Bill<'_>, V>) -> bool {
        let nowhere = (&self.payer, &*self.currency, Timestamp::MAX, Timestamp::MAX);
        bills.contains_key(&self.bill()) || bills.contains_key(&nowhere)
    }

    /// The same of all periods.
    fn in_no_period(self) -> Self {
        Self {
            start: Timestamp::MAX,
            end: Timestamp::MAX,
            ..self
        }
    }

    fn is_in_no_period(&self) -> bool {
        self.start == Timestamp::MAX
    }
}

impl Line {
    /// Takes up the line of another period; nothing is known of lines of both signs together.
    fn take(&mut self, other: &Self) {
        let amount = other.amount.filter(|amount| *amount >= Decimal::ZERO);
        self.amount = amount.and_then(|amount| add(self.amount, amount));
        for (tenant, share) in &other.shares {
            let sum = self.shares.entry(tenant.clone());
            let sum = sum.or_insert(Some(Decimal::ZERO));
            *sum = share.and_then(|share| add(*sum, share));
        }
        self.last = self.last.max(other.last);
    }

    /// What is wrong with it.
    fn fault(&self, key: &Key) -> Option<Fault> {
        let at = self.last?;
        let whole = self.amount?;
        let sign = if whole.is_sign_negative() {
            Decimal::NEGATIVE_ONE
        } else {
            Decimal::ONE
        };
        let mut shares = self.shares.values().copied();
        let is_opposite =
            |share: &Option<Decimal>| share.is_some_and(|share| share * sign < Decimal::ZERO);
        let opposite = self.shares.values().any(is_opposite);
        let sum = shares.try_fold(Decimal::ZERO, |sum, share| add(Some(sum), share?))?;
        if !opposite && sum.abs() <= whole.abs() {
            return None;
        }
        Some(self.told(key, at, sum, whole))
    }

    /// The same where parts of it that are below zero, by so much at most, may be the payer's alone.
    fn fault_beyond(&self, key: &Key, room: Decimal) -> Option<Fault> {
        let at = self.last?;
        let whole = self.amount?;
        let most = whole.checked_add(room)?.max(Decimal::ZERO);
        let least = whole.min(Decimal::ZERO).checked_sub(room)?;
        let mut shares = self.shares.values().copied();
        let sum = shares.try_fold(Decimal::ZERO, |sum, share| add(Some(sum), share?))?;
        let is_part = least <= sum && sum <= most;
        (!is_part).then(|| self.told(key, at, sum, whole))
    }

    fn told(&self, key: &Key, at: EntryRef, sum: Decimal, whole: Decimal) -> Fault {
        let names: Vec<String> = self.shares.keys().map(ToString::to_string).collect();
        Fault {
            at,
            fault: format!(
                "the shares of {} in line `{}` of `{}` sum to {sum}, the line to {whole}",
                names.join(", "),
                key.line,
                key.payer
            ),
        }
    }
}

fn key_of(payer: &TenantId, posting: &Posting) -> Option<Key> {
    let role = posting.role?;
    Some(Key {
        payer: payer.clone(),
        start: posting.start,
        end: posting.end,
        // The shares of the taxes are one entry for all of them.
        line: match role {
            Role::Tax => "tax".to_owned(),
            _ => posting.line.clone(),
        },
        meter: posting.meter.clone(),
        role,
        currency: posting.currency.clone()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Chain;
    use crate::position::Position;

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).expect("valid")
    }

    /// Entries of the month that begins at this second, in cents; with what they refer to.
    fn faults(entries: &[(EntryKind, &str, i64, i64, Option<u64>)]) -> Vec<String> {
        let entries: Vec<_> = entries
            .iter()
            .map(|entry| (Role::Usage, "requests", *entry))
            .collect();
        faults_of(&entries)
    }

    type Entry<'a> = (EntryKind, &'a str, i64, i64, Option<u64>);

    /// The same of lines of any role and name.
    fn faults_of(entries: &[(Role, &str, Entry<'_>)]) -> Vec<String> {
        let (mut chain, mut shares) = (Chain::new(0), Shares::default());
        for (role, line, (kind, name, start, cents, refers_to)) in entries {
            let (start, end) = (
                Timestamp::from_secs(*start),
                Timestamp::from_secs(start + 1),
            );
            let position = Position::from_bytes([0; 16]);
            let mut posting = Posting::new(*kind, start, end, *line, position);
            posting.tenant = Some(tenant(name));
            posting.payer = (*kind == EntryKind::Share).then(|| tenant("acme"));
            posting.role = Some(*role);
            posting.amount = Some(Decimal::new(*cents, 2));
            posting.currency = Some("EUR".to_owned());
            posting.refers_to = refers_to.map(|index| EntryRef {
                partition: 0,
                index,
            });
            let entry = chain.append(Timestamp::EPOCH, posting);
            shares.take(&entry, |name| *name == tenant("acme"));
        }
        // All taxes together are a fifth.
        let faults = shares.faults(Decimal::new(2, 1));
        faults.map(|fault| fault.fault).collect()
    }

    #[test]
    fn shares_of_taxes_are_no_more_than_the_taxes_of_the_bill() {
        use EntryKind::{Charge, Reversal, Share};
        let of = |role, line, entry| (role, line, entry);
        let bill = vec![
            of(Role::Usage, "requests", (Charge, "acme", 1, 1000, None)),
            of(Role::Tax, "de", (Charge, "acme", 1, 190, None)),
            of(Role::Tax, "city", (Charge, "acme", 1, 10, None)),
            of(Role::Grant, "gift", (Charge, "acme", 1, -1200, None)),
            of(Role::Usage, "requests", (Share, "shop", 1, 600, Some(1))),
            of(Role::Tax, "tax", (Share, "shop", 1, 120, None)),
            of(Role::Tax, "tax", (Share, "depot", 1, 80, None)),
        ];
        assert_eq!(faults_of(&bill), [] as [&str; 0]);
        let more = of(Role::Tax, "tax", (Share, "depot", 1, 1, Some(7)));
        let told = faults_of(&[&bill[..], &[more]].concat());
        let sum = "the shares of depot, shop in line `tax` of `acme` sum to 2.01, the line to 2.00";
        assert_eq!(told, [sum]);
        // What goes with a disputed line changes nothing.
        let apart = [
            of(
                Role::Tax,
                "de",
                (EntryKind::Adjustment, "acme", 1, -190, Some(2)),
            ),
            of(
                Role::Tax,
                "de",
                (EntryKind::Adjustment, "acme", 1, 190, Some(1)),
            ),
        ];
        assert_eq!(faults_of(&[&bill[..], &apart].concat()), [] as [&str; 0]);
        let adjustment = EntryKind::Adjustment;
        let paid = [
            of(Role::Drawdown, "term", (Charge, "acme", 1, -500, None)),
            of(Role::Drawdown, "term", (Share, "shop", 1, -300, Some(8))),
            of(
                Role::Drawdown,
                "term",
                (adjustment, "acme", 1, 500, Some(8)),
            ),
            of(
                Role::Drawdown,
                "term",
                (adjustment, "acme", 1, -500, Some(1)),
            ),
        ];
        assert_eq!(faults_of(&[&bill[..], &paid].concat()), [] as [&str; 0]);
        // A fee that is given back, with its tax, may be the payer's alone.
        let back = [
            of(Role::Fee, "platform", (Charge, "acme", 1, -500, None)),
            of(Role::Tax, "de", (Reversal, "acme", 1, -190, Some(2))),
            of(Role::Tax, "de", (Charge, "acme", 1, 90, Some(8))),
        ];
        assert_eq!(faults_of(&[&bill[..], &back].concat()), [] as [&str; 0]);
        // But no more than what can have been due on it: 1.00 with the taxes, and 8 cents of rounding.
        let room = [
            back[0],
            of(Role::Tax, "de", (Reversal, "acme", 1, -190, Some(2))),
            of(Role::Tax, "de", (Charge, "acme", 1, 90, Some(9))),
            of(Role::Tax, "tax", (Share, "depot", 1, 8, Some(7))),
        ];
        assert_eq!(faults_of(&[&bill[..], &room].concat()), [] as [&str; 0]);
        let beyond = of(Role::Tax, "tax", (Share, "depot", 1, 1, Some(7)));
        let told = faults_of(&[&bill[..], &room, &[beyond]].concat());
        let sum = "the shares of depot, shop in line `tax` of `acme` sum to 2.09, the line to 1.00";
        assert_eq!(told, [sum]);
        // Nor is less than nothing anybody's.
        let less = of(Role::Tax, "tax", (Share, "depot", 1, -400, Some(7)));
        assert_eq!(faults_of(&[&bill[..], &back, &[less]].concat()).len(), 1);
    }

    #[test]
    fn shares_are_no_more_than_their_line() {
        use EntryKind::{Adjustment, Charge, Reversal, Share};
        let sound = [
            (Charge, "acme", 1, 1000, None),
            (Share, "shop", 1, 600, Some(1)),
            (Share, "depot", 1, 400, Some(1)),
            (Charge, "other", 1, 1, None),
        ];
        assert_eq!(faults(&sound), [] as [&str; 0]);
        // A cent more than there is.
        let mut more = sound;
        more[2].3 = 401;
        assert_eq!(
            faults(&more),
            [
                "the shares of depot, shop in line `requests` of `acme` sum to 10.01, the line to 10.00"
            ]
        );
        // One takes what another gives.
        let mut less = sound;
        (less[1].3, less[2].3) = (1200, -200);
        assert_eq!(faults(&less).len(), 1);
        // What stands anew counts, and what is booked in the next period.
        let anew = [
            (Reversal, "acme", 1, -1000, Some(1)),
            (Charge, "acme", 1, 800, Some(5)),
        ];
        assert_eq!(faults(&[&sound[..], &anew].concat()).len(), 1);
        let back = [(Share, "shop", 1, -200, Some(2))];
        assert!(faults(&[&sound[..], &anew, &back].concat()).is_empty());
        let next = [
            (Adjustment, "acme", 2, 100, Some(1)),
            (Share, "shop", 1, 100, Some(2)),
        ];
        assert!(faults(&[&sound[..], &next].concat()).is_empty());
        assert_eq!(faults(&[&sound[..], &next[1..]].concat()).len(), 1);
    }
}
