//! Cents that are not whole, and how they become whole.

/// A fraction of whole numbers; what is below is above zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exact {
    pub(super) above: i128,
    pub(super) below: i128,
}

impl Exact {
    pub(super) const fn new(above: i128, below: i128) -> Self {
        Self { above, below }
    }

    pub(super) const fn times(self, above: i128, below: i128) -> Self {
        Self::new(self.above * above, self.below * below)
    }

    pub(super) const fn least(self, other: Self) -> Self {
        if self.above * other.below <= other.above * self.below {
            self
        } else {
            other
        }
    }

    /// Half away from zero.
    pub(super) const fn rounded(self) -> i128 {
        let whole = (self.above.abs() * 2 + self.below) / (self.below * 2);
        if self.above < 0 { -whole } else { whole }
    }
}

/// Whole numbers of about these, that sum to `total`: each rounded down at first, and what is left
/// one by one to those that lost most, the earlier of two that lost the same.
pub(super) fn settled(parts: &[Exact], total: i128) -> Vec<i128> {
    let mut whole: Vec<i128> = parts
        .iter()
        .map(|part| part.above.div_euclid(part.below))
        .collect();
    let mut left = total - whole.iter().sum::<i128>();
    let mut given = vec![false; parts.len()];
    while left > 0 {
        let mut most: Option<(usize, Exact)> = None;
        for (place, part) in parts.iter().enumerate() {
            let lost = Exact::new(part.above.rem_euclid(part.below), part.below);
            let is_more =
                most.is_none_or(|(_, known)| lost.above * known.below > known.above * lost.below);
            if !given[place] && is_more {
                most = Some((place, lost));
            }
        }
        let Some((place, _)) = most else { break };
        given[place] = true;
        whole[place] += 1;
        left -= 1;
    }
    whole
}

/// What each has of a line by how much it used; nobody used anything, so it is the first one's.
pub(super) fn shared(cents: i128, used: &[i128]) -> Vec<i128> {
    let used: Vec<i128> = used.iter().map(|used| (*used).max(0)).collect();
    let all: i128 = used.iter().sum();
    if all == 0 {
        let mut shares = vec![0; used.len()];
        shares[0] = cents;
        return shares;
    }
    let sign = cents.signum();
    let parts: Vec<Exact> = used
        .iter()
        .map(|used| Exact::new(cents.abs() * used, all))
        .collect();
    let shares = settled(&parts, cents.abs()).into_iter();
    shares.map(|share| sign * share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_goes_to_those_that_lost_most() {
        assert_eq!(shared(100, &[1, 1, 1]), [34, 33, 33]);
        assert_eq!(shared(-10, &[1, 4, 2]), [-1, -6, -3]);
        assert_eq!(shared(7, &[0, 0]), [7, 0]);
        assert_eq!(shared(7, &[-3, 0, 5]), [0, 0, 7]);
        let half = Exact::new(1, 2);
        assert_eq!(settled(&[half, half, Exact::new(-1, 2)], 1), [1, 1, -1]);
    }
}
