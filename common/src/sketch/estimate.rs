//! The number of distinct values behind HyperLogLog registers, in integers.
//!
//! Otmar Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017,
//! arXiv:1702.01284), algorithm 6: needs no tables and no switch between ranges. Everything
//! here is fixed point with 60 fractional bits, so that any machine comes to the same number.

use super::unique::{RANK_MAX, REGISTERS};

const BITS: u32 = 60;
const ONE: u128 = 1 << BITS;
/// 1 / (2 ln 2) with 60 fractional bits.
const ALPHA: u128 = 831_657_068_615_270_156;

/// The estimate for these registers, whose values are at most [`RANK_MAX`].
pub(super) fn estimate(registers: &[u8; REGISTERS]) -> u64 {
    let mut counts = [0_u64; RANK_MAX as usize + 1];
    for &rank in registers {
        counts[usize::from(rank.min(RANK_MAX))] += 1;
    }
    let m = REGISTERS as u128;
    let [zeros, .., full] = counts;
    if u128::from(zeros) == m {
        return 0;
    }
    // m * tau(1 - full / m)
    let mut z = m * tau(ONE - u128::from(full) * ONE / m);
    for &count in counts[1..usize::from(RANK_MAX)].iter().rev() {
        z = z.midpoint(u128::from(count) * ONE);
    }
    z += m * sigma(u128::from(zeros) * ONE / m);
    // alpha * m^2 / z, rounded; both factors have 60 fractional bits, which cancel.
    let estimate = (ALPHA * m * m + z / 2).checked_div(z).unwrap_or(u128::MAX);
    u64::try_from(estimate).unwrap_or(u64::MAX)
}

/// x + sum of x^(2^k) 2^(k-1) for k from 1, for x in [0, 1) with 60 fractional bits.
///
/// x is at most 1 - 1/4096, so that its powers vanish after some 18 squarings.
fn sigma(mut x: u128) -> u128 {
    let mut z = x;
    let mut shift = 0;
    loop {
        x = (x * x) >> BITS;
        let term = x << shift;
        if term == 0 {
            return z;
        }
        z += term;
        shift += 1;
    }
}

/// (1 - x - sum of (1 - x^(2^-k))^2 2^-k for k from 1) / 3, for x in [0, 1].
fn tau(mut x: u128) -> u128 {
    if x == 0 || x == ONE {
        return 0;
    }
    let mut z = ONE - x;
    for shift in 1..BITS {
        x = (x << BITS).isqrt();
        let rest = ONE - x;
        let term = ((rest * rest) >> BITS) >> shift;
        if term == 0 {
            break;
        }
        z = z.saturating_sub(term);
    }
    z / 3
}
