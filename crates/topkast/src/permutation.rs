//! A keyed bijection on 0 … n − 1, for n up to 2⁴⁸, and its inverse: which of n entries comes at which rank.
//!
//! ```text
//! number  → (left, right)  with  left < a ≈ √n,  right < b,  a·b ≥ n:  number = left·b + right
//! round   : left += f(key, right) mod a;  right += f(key', left) mod b
//! number ≥ n: once more, until it is below (cycle walking; a·b − n < a, so nearly never)
//! ```
//! A Feistel network over Z_a × Z_b in place of bits (Black and Rogaway 2002, "Ciphers with arbitrary finite domains"): it
//! fits n much closer than a power of two would. It shuffles; it keeps no secrets.

use crate::Seed;
use crate::seed::mix;

/// A bijection on `0..n`, which the seed chooses.
#[derive(Clone, Debug)]
pub(crate) struct Permutation {
    n: u64,
    /// a and b.
    sides: [u64; 2],
    keys: Vec<[u64; 2]>,
}

/// Rounds that change both halves. Tests find no structure in large layers from two on.
const ROUNDS: usize = 4;
/// Of a handful of numbers all orders come up evenly from seven rounds on.
const ROUNDS_OF_SMALL: usize = 8;
const SMALL: u64 = 1 << 12;

impl Permutation {
    /// The largest n.
    pub(crate) const LARGEST: u64 = 1 << 48;

    /// One of `n` numbers.
    ///
    /// # Panics
    /// If `n` is 0 or over [`Self::LARGEST`].
    pub(crate) fn new(n: u64, seed: Seed) -> Self {
        assert!((1..=Self::LARGEST).contains(&n), "a permutation of {n} numbers");
        let root = n.isqrt();
        let a = if root * root < n { root + 1 } else { root };
        let key = |number: usize| seed.numbered(number as u64).key();
        let rounds = if n < SMALL { ROUNDS_OF_SMALL } else { ROUNDS };
        let keys = (0..rounds).map(|round| [key(2 * round), key(2 * round + 1)]).collect();
        Self { n, sides: [a, n.div_ceil(a)], keys }
    }

    /// n.
    pub(crate) fn n(&self) -> u64 {
        self.n
    }

    /// Where `number` goes.
    ///
    /// # Panics
    /// If it is not below n.
    #[inline]
    pub(crate) fn apply(&self, mut number: u64) -> u64 {
        assert!(number < self.n, "{number} of {}", self.n);
        let [a, b] = self.sides;
        loop {
            let (mut left, mut right) = (number / b, number % b);
            for &[to_left, to_right] in &self.keys {
                left = add(left, below(a, to_left, right), a);
                right = add(right, below(b, to_right, left), b);
            }
            number = left * b + right;
            if number < self.n {
                return number;
            }
        }
    }

    /// What goes to `number`: the inverse of [`apply`](Self::apply).
    ///
    /// # Panics
    /// If it is not below n.
    #[inline]
    pub(crate) fn invert(&self, mut number: u64) -> u64 {
        assert!(number < self.n, "{number} of {}", self.n);
        let [a, b] = self.sides;
        loop {
            let (mut left, mut right) = (number / b, number % b);
            for &[to_left, to_right] in self.keys.iter().rev() {
                right = subtract(right, below(b, to_right, left), b);
                left = subtract(left, below(a, to_left, right), a);
            }
            number = left * b + right;
            if number < self.n {
                return number;
            }
        }
    }
}

/// A number below `side` that depends on all bits of `key` and `half`.
#[inline]
fn below(side: u64, key: u64, half: u64) -> u64 {
    let hash = mix(key ^ half);
    ((u128::from(hash) * u128::from(side)) >> 64) as u64
}

#[inline]
fn add(x: u64, y: u64, side: u64) -> u64 {
    let sum = x + y;
    if sum >= side { sum - side } else { sum }
}

#[inline]
fn subtract(x: u64, y: u64, side: u64) -> u64 {
    if x >= y { x - y } else { x + side - y }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_number_comes_once() {
        for n in (1..200).chain([1000, 4095, 4096, 4097, 99_991]) {
            let permutation = Permutation::new(n, Seed::new(n));
            let mut seen = vec![false; n as usize];
            for number in 0..n {
                let image = permutation.apply(number);
                assert!(!std::mem::replace(&mut seen[image as usize], true), "{n}: {image} twice");
                assert_eq!(permutation.invert(image), number);
            }
        }
    }

    proptest! {
        #[test]
        fn the_inverse_leads_back(n in 1..=Permutation::LARGEST, share in 0.0..1.0f64, seed: u64) {
            let permutation = Permutation::new(n, Seed::new(seed));
            let number = ((n as f64 * share) as u64).min(n - 1);
            prop_assert_eq!(permutation.invert(permutation.apply(number)), number);
            prop_assert_eq!(permutation.apply(permutation.invert(number)), number);
        }
    }

    /// How often 6 numbers are put into each of their 720 orders.
    #[test]
    fn all_orders_of_few_numbers_come_up_evenly() {
        let draws = 72_000;
        let mut counts = std::collections::BTreeMap::new();
        for seed in 0..draws {
            let permutation = Permutation::new(6, Seed::new(seed));
            let order: Vec<u64> = (0..6).map(|number| permutation.apply(number)).collect();
            *counts.entry(order).or_insert(0u32) += 1;
        }
        let expected = draws as f64 / 720.0;
        let square = |&count: &u32| (f64::from(count) - expected).powi(2) / expected;
        let chi = counts.values().map(square).sum::<f64>() + (720 - counts.len()) as f64 * expected;
        // 719 degrees of freedom: mean 719, deviation 38.
        assert!((719.0 - 190.0..719.0 + 190.0).contains(&chi), "{chi}");
    }
}
