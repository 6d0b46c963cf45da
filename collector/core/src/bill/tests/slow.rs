//! The bill of the random plans once more, in integers and written down step by step.

use num_bigint::BigInt;
use rust_decimal::Decimal;

use super::cumulative::Plan;

/// A fraction of cents.
#[derive(Clone)]
struct Exact {
    above: BigInt,
    below: BigInt,
}

impl Exact {
    fn new(above: impl Into<BigInt>, below: impl Into<BigInt>) -> Self {
        Self {
            above: above.into(),
            below: below.into(),
        }
    }

    fn plus(&self, other: &Self) -> Self {
        Self::new(
            &self.above * &other.below + &other.above * &self.below,
            &self.below * &other.below,
        )
    }

    fn times(&self, above: impl Into<BigInt>, below: impl Into<BigInt>) -> Self {
        Self::new(&self.above * above.into(), &self.below * below.into())
    }

    /// Half away from zero.
    fn rounded(&self) -> i64 {
        let negative = self.above < BigInt::from(0);
        let above = if negative {
            -&self.above
        } else {
            self.above.clone()
        };
        let whole: BigInt = (above * 2 + &self.below) / (&self.below * 2);
        let whole = i64::try_from(whole).expect("small");
        if negative { -whole } else { whole }
    }

    /// What a whole number of cents leaves.
    fn floor(&self) -> (i64, Self) {
        let mut whole = i64::try_from(&self.above / &self.below).expect("small");
        if BigInt::from(whole) * &self.below > self.above {
            whole -= 1;
        }
        let rest = Self::new(
            &self.above - BigInt::from(whole) * &self.below,
            self.below.clone(),
        );
        (whole, rest)
    }

    fn is_above(&self, other: &Self) -> bool {
        &self.above * &other.below > &other.above * &self.below
    }
}

/// Gives out cents one by one to whoever is owed the largest part of one.
fn give_out(exact: &[Exact], total: i64) -> Vec<i64> {
    let mut parts: Vec<(i64, Exact)> = exact.iter().map(Exact::floor).collect();
    let mut left = total - parts.iter().map(|part| part.0).sum::<i64>();
    let mut served = vec![false; parts.len()];
    while left > 0 {
        let mut best: Option<usize> = None;
        for at in 0..parts.len() {
            let better = best.is_none_or(|best| parts[at].1.is_above(&parts[best].1));
            if !served[at] && better {
                best = Some(at);
            }
        }
        let best = best.expect("less is left than there are parts");
        served[best] = true;
        parts[best].0 += 1;
        left -= 1;
    }
    parts.into_iter().map(|part| part.0).collect()
}

fn split(total: i64, weights: &[i64]) -> Vec<i64> {
    let all: i64 = weights.iter().sum();
    if all == 0 {
        return weights
            .iter()
            .enumerate()
            .map(|(at, _)| if at == 0 { total } else { 0 })
            .collect();
    }
    let exact: Vec<Exact> = weights
        .iter()
        .map(|weight| Exact::new(total * weight, all))
        .collect();
    give_out(&exact, total)
}

fn priced(unit: u32, used: i128) -> i64 {
    let used = i64::try_from(used).expect("small");
    // Tenths of a cent.
    let tenths = used.min(50) * i64::from(unit) + (used - 50).max(0) * 7;
    (tenths + 5) / 10
}

/// A percentage off all lines but the fee, then an amount off all of them.
fn discount(plan: &Plan, lines: &mut [i64]) {
    if let Some(percent) = plan.joint_percent {
        let group: Vec<usize> = (0..lines.len()).filter(|at| *at != 2).collect();
        let weights: Vec<i64> = group.iter().map(|at| lines[*at]).collect();
        let off = (weights.iter().sum::<i64>() * i64::from(percent) * 2 + 100) / 200;
        for (at, share) in group.into_iter().zip(split(off, &weights)) {
            lines[at] -= share;
        }
    }
    if let Some(amount) = plan.joint_amount {
        let off = i64::from(amount).min(lines.iter().sum());
        let shares = split(off, lines);
        for (line, share) in lines.iter_mut().zip(shares) {
            *line -= share;
        }
    }
}

/// Net amount and tax.
pub(super) fn bill(plan: &Plan, used: [i128; 2]) -> (Decimal, Decimal) {
    let mut lines = vec![
        priced(plan.units[0], used[0]),
        priced(plan.units[1], used[1]),
        i64::from(plan.fee),
    ];
    if !plan.coupons_last {
        discount(plan, &mut lines);
    }
    if let Some(maximum) = plan.maximum {
        let mut room = i64::from(maximum);
        for line in &mut lines[..2] {
            *line = (*line).min(room);
            room -= *line;
        }
    }
    let mut counted = lines[0] + lines[1];
    if let Some(minimum) = plan.minimum {
        let missing = i64::from(minimum) - counted;
        if missing > 0 {
            lines.push(missing);
            counted += missing;
        }
    }
    if let Some((amount, pay, overage)) = plan.commitment {
        let amount = i64::from(amount);
        let inside = counted.min(amount);
        let charged = if pay == "usage" {
            amount - inside
        } else {
            amount
        };
        let drawn = if pay == "usage" { 0 } else { -inside };
        let more = if overage {
            ((counted - inside) * 25 * 2 + 100) / 200
        } else {
            0
        };
        lines.extend([charged, drawn, more].into_iter().filter(|line| *line != 0));
    }
    if plan.coupons_last {
        discount(plan, &mut lines);
    }
    let (net, tax) = taxed(plan, &lines);
    (Decimal::new(net, 2), Decimal::new(tax, 2))
}

/// 19 percent, and 7.3 percent of amount and first tax: 86.87 thousandths of the net amount.
fn taxed(plan: &Plan, lines: &[i64]) -> (i64, i64) {
    let rates = [(19, 100), (8687, 100_000)];
    let all: i64 = lines.iter().sum();
    let groups: Vec<i64> = if plan.per_line {
        lines.to_vec()
    } else {
        vec![all]
    };
    let mut tax = 0;
    for group in groups {
        let net = if plan.inclusive {
            // 1 + 0.19 + 0.08687
            Exact::new(group, 1).times(100_000, 127_687)
        } else {
            Exact::new(group, 1)
        };
        for (above, below) in rates {
            tax += net.times(above, below).plus(&Exact::new(0, 1)).rounded();
        }
    }
    if plan.inclusive {
        (all - tax, tax)
    } else {
        (all, tax)
    }
}
