//! How many entries of each layer are active and how many receive gradients.

use thiserror::Error;

/// Forward and backward sparsity of a layer: `1 − D` and `1 − D − M` in the paper's terms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sparsity {
    /// Fraction of the weights that the forward pass leaves out.
    pub forward: f64,
    /// Fraction of the weights that receive no gradient; at most `forward`.
    pub backward: f64,
}

/// |A| and |B| of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// |A|, the entries the network computes with.
    pub active: usize,
    /// |B|, the entries that receive gradients; at least `active`.
    pub backward: usize,
}

/// Why a layer cannot have the sparsity asked for.
#[derive(Clone, Debug, Error, PartialEq)]
#[allow(missing_docs)]
pub enum DensityError {
    #[error("forward sparsity {0} must be at least 0 and below 1")]
    Forward(f64),
    #[error("backward sparsity {0} must be at least 0 and below 1")]
    Backward(f64),
    #[error("backward sparsity {backward} must not exceed forward sparsity {forward}: B contains A")]
    BackwardExceedsForward { forward: f64, backward: f64 },
    #[error("forward sparsity {forward} leaves no active entry of {total}; lower it or keep the layer dense")]
    NoActive { forward: f64, total: u64 },
    #[error(
        "backward sparsity {backward} keeps {entries} entries of {total}; a layer can hold at most 2^32 - 1"
    )]
    TooMany { backward: f64, entries: u64, total: u64 },
}

impl Sparsity {
    /// Checks both fractions.
    ///
    /// # Errors
    /// If either is outside [0, 1) or not a number, or `backward` exceeds `forward`.
    pub fn new(forward: f64, backward: f64) -> Result<Self, DensityError> {
        if !(0.0..1.0).contains(&forward) {
            return Err(DensityError::Forward(forward));
        }
        if !(0.0..1.0).contains(&backward) {
            return Err(DensityError::Backward(backward));
        }
        if backward > forward {
            return Err(DensityError::BackwardExceedsForward { forward, backward });
        }
        Ok(Self { forward, backward })
    }

    /// |A| = ⌊(1 − forward)·total⌋ and |B| = ⌊(1 − backward)·total⌋ (paper §2.1).
    ///
    /// # Errors
    /// If no entry would be active, or more entries than a pattern can index.
    pub fn counts(self, total: u64) -> Result<Counts, DensityError> {
        self.checked(floor_of_share(self.forward, total), floor_of_share(self.backward, total), total)
    }

    /// A layer's counts, if it can have them.
    pub(crate) fn checked(self, active: u64, backward: u64, total: u64) -> Result<Counts, DensityError> {
        if active == 0 {
            return Err(DensityError::NoActive { forward: self.forward, total });
        }
        if backward > u64::from(u32::MAX) {
            return Err(DensityError::TooMany { backward: self.backward, entries: backward, total });
        }
        Ok(Counts { active: active as usize, backward: backward as usize })
    }
}

/// ⌊(1 − sparsity)·total⌋ as decimal arithmetic has it: `1.0 - 0.9` is a little under 0.1 in binary, so a product
/// within rounding error of a whole number is that number.
pub(crate) fn floor_of_share(sparsity: f64, total: u64) -> u64 {
    let share = (1.0 - sparsity) * total as f64;
    let nearest = share.round();
    if (share - nearest).abs() <= total as f64 * 4.0 * f64::EPSILON { nearest as u64 } else { share as u64 }
}

/// Whether `name` matches `pattern`, in which `*` stands for any run of characters, also none.
pub fn name_matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(tail) = name.strip_prefix(head) else { return false };
    tail.char_indices().map(|(at, _)| at).chain([tail.len()]).any(|at| name_matches(rest, &tail[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_the_decimal_floor() {
        let counts =
            |forward, backward, total| Sparsity::new(forward, backward).unwrap().counts(total).unwrap();
        assert_eq!(counts(0.9, 0.8, 1000), Counts { active: 100, backward: 200 });
        assert_eq!(counts(0.98, 0.95, 1_048_576), Counts { active: 20_971, backward: 52_428 });
        assert_eq!(counts(0.0, 0.0, 7), Counts { active: 7, backward: 7 });
        assert_eq!(counts(0.5, 0.5, 7), Counts { active: 3, backward: 3 });
        assert_eq!(
            counts(0.999999, 0.99999, 1_000_000_000_000),
            Counts { active: 1_000_000, backward: 10_000_000 }
        );
    }

    #[test]
    fn impossible_sparsities_are_errors() {
        assert_eq!(Sparsity::new(1.0, 0.5), Err(DensityError::Forward(1.0)));
        assert!(matches!(Sparsity::new(f64::NAN, 0.5), Err(DensityError::Forward(_))));
        assert_eq!(Sparsity::new(0.5, -0.1), Err(DensityError::Backward(-0.1)));
        assert!(matches!(Sparsity::new(0.5, 0.6), Err(DensityError::BackwardExceedsForward { .. })));
        let tiny = Sparsity::new(0.9, 0.9).unwrap();
        assert!(matches!(tiny.counts(9), Err(DensityError::NoActive { .. })));
        assert!(matches!(
            Sparsity::new(0.9, 0.0).unwrap().counts(1 << 33),
            Err(DensityError::TooMany { .. })
        ));
    }

    #[test]
    fn stars_match_any_run() {
        for (pattern, name, expected) in [
            ("hidden.0", "hidden.0", true),
            ("hidden.0", "hidden.01", false),
            ("hidden.*", "hidden.12", true),
            ("*", "", true),
            ("*.out*", "block.3.output", true),
            ("*.in", "block.inner", false),
            ("a*b*c", "a-b-b-c", true),
        ] {
            assert_eq!(name_matches(pattern, name), expected, "{pattern} on {name}");
        }
    }
}
