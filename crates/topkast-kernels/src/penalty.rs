//! The penalty on weight size whose gradient the optimizers add.

use crate::simd::Simd;

/// A penalty on each value, with its coefficient c, which is already that of the slice: λ for the active entries, λ/D
/// for those that are only in the backward set (paper section 3, the exploration penalty; D the forward density).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Penalty {
    /// None.
    #[default]
    None,
    /// `c·θ²/2`, whose gradient is `c·θ`.
    L2(f32),
    /// `c·|θ|`, whose gradient is `c·sign(θ)`, 0 at 0.
    L1(f32),
}

impl Penalty {
    /// The gradient at `value`.
    #[inline(always)]
    pub(crate) fn gradient(self, value: f32) -> f32 {
        match self {
            Self::None => 0.0,
            Self::L2(c) => c * value,
            Self::L1(c) if value > 0.0 => c,
            Self::L1(c) if value < 0.0 => -c,
            Self::L1(_) => 0.0,
        }
    }

    /// The gradients at the lanes of `values`.
    #[inline(always)]
    pub(crate) fn gradient_vector<S: Simd>(self, s: S, values: S::Vector) -> S::Vector {
        let zero = s.splat(0.0);
        match self {
            Self::None => zero,
            Self::L2(c) => s.mul(s.splat(c), values),
            Self::L1(c) => {
                let pull = s.select_greater(values, zero, s.splat(c), zero);
                s.select_greater(zero, values, s.splat(-c), pull)
            }
        }
    }
}
