//! The three products of a layer, timed over rounds in which sparse and dense take turns.

use super::quartiles;

/// Their names in reports.
pub(super) const PRODUCTS: [&str; 4] = ["forward", "input_gradient", "weight_gradient", "total"];

/// Quartiles of the milliseconds of the three products and of all together.
pub(super) type Times = [[f64; 3]; 4];

/// The times of so many rounds.
pub(super) fn times(rounds: &[[f64; 3]]) -> Times {
    let product = |which: usize| quartiles(rounds.iter().map(|round| round[which]));
    [product(0), product(1), product(2), quartiles(rounds.iter().map(|round| round.iter().sum()))]
}
