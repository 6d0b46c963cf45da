//! What was accepted of each account, against what became of it by the entries of the ledger.

use std::collections::BTreeMap;

use tollgate_common::Quantity;

use super::AccountCheck;
use super::books::{AccountKey, UsageBooked, UsageSums};
use crate::effect::AccountState;
use crate::fold::tenant::CrowdAccount;

/// What of an account is not booked: of what was counted, refused and lost.
type Missing = [Quantity; 3];

const NOTHING: Missing = [Quantity::ZERO; 3];

/// Every account, and whether all of them are conserved.
pub(super) fn check(
    mut accounts: BTreeMap<AccountKey, AccountState>,
    mut booked: UsageBooked,
) -> (Vec<AccountCheck>, bool) {
    // What is booked of an account that there is not was never accepted. That of a payer that has used
    // nothing itself comes to nothing: its lines, less the shares of others.
    let booked_of = booked.accounts.iter();
    let something = booked_of.filter(|(_, sums)| sums.missing(NOTHING) != Some(NOTHING));
    for (key, _) in something {
        let (tenant, meter, scale) = key.clone();
        accounts.entry(key.clone()).or_insert(AccountState {
            tenant,
            meter,
            scale,
            accepted: Quantity::ZERO,
            counted: Quantity::ZERO,
            refused: Quantity::ZERO,
            lost: Quantity::ZERO,
            corrected: Quantity::ZERO,
        });
    }
    let mut crowds: BTreeMap<CrowdAccount, Option<Missing>> = BTreeMap::new();
    for (key, sums) in booked.crowds {
        crowds.insert(key, sums.missing(NOTHING));
    }
    // Usage of too many meters is booked together: what is missing of each is in there.
    let mut checks: Vec<(AccountCheck, Option<Missing>)> = Vec::new();
    for (key, account) in accounts {
        let sums = booked.accounts.remove(&key).unwrap_or_default();
        let missing = sums.missing([account.counted, account.refused, account.lost]);
        let crowd = crowds.get_mut(&(key.0, key.2));
        let missing = match (missing, crowd) {
            (Some(missing), Some(crowd)) => {
                // What is lost is booked meter by meter.
                let [counted, refused, lost] = missing;
                let of_crowd = [counted, refused, Quantity::ZERO];
                *crowd = crowd.and_then(|sum| both(sum, of_crowd));
                Some([Quantity::ZERO, Quantity::ZERO, lost])
            }
            (missing, _) => missing,
        };
        checks.push((checked(account, sums), missing));
    }
    let crowds_agree = crowds.values().all(|left| *left == Some(NOTHING));
    let checks: Vec<AccountCheck> = checks
        .into_iter()
        .map(|(check, missing)| {
            let crowd = crowds.get(&(check.tenant.clone(), check.scale));
            let agrees =
                missing == Some(NOTHING) && crowd.is_none_or(|left| *left == Some(NOTHING));
            AccountCheck {
                conserved: check.conserved && agrees,
                ..check
            }
        })
        .collect();
    let conserved = crowds_agree && checks.iter().all(|check| check.conserved);
    (checks, conserved)
}

fn both(a: Missing, b: Missing) -> Option<Missing> {
    Some([
        a[0].checked_add(b[0])?,
        a[1].checked_add(b[1])?,
        a[2].checked_add(b[2])?,
    ])
}

/// An account by its own figures, with what is booked of it.
fn checked(account: AccountState, booked: UsageSums) -> AccountCheck {
    let AccountState {
        tenant,
        meter,
        scale,
        accepted,
        counted,
        refused,
        lost,
        corrected,
    } = account;
    let sum = Quantity::checked_sum([counted, refused, lost]);
    let whole = accepted.checked_add(corrected);
    AccountCheck {
        tenant,
        meter,
        scale,
        accepted,
        counted,
        refused,
        lost,
        corrected,
        conserved: sum.is_some() && sum == whole,
        booked,
    }
}
