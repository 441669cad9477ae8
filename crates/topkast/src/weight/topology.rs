//! What decides A and B.

#[cfg(doc)]
use super::SparseWeight;

/// How B∖A is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Explore {
    /// The entries that follow A in magnitude (paper §2.1).
    Magnitude,
    /// Uniformly at random outside A, drawn again at every refresh (the paper's ablation).
    Random,
    /// Half of it the entries that follow A in magnitude, the other half at random outside these: what is near stays long
    /// enough to grow, what is far is looked at. Not in the paper; see docs/experiments.
    Mixed,
    /// Not at all: B = A.
    None,
}

impl Explore {
    /// How many of the `count` entries of B∖A are those that follow A in magnitude.
    pub(crate) fn nearest(self, count: usize) -> usize {
        match self {
            Self::Magnitude => count,
            Self::Random | Self::None => 0,
            Self::Mixed => count.div_ceil(2),
        }
    }
}

/// What decides A and B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// A is the largest entries by magnitude, chosen again at every refresh.
    TopKast(Explore),
    /// A is drawn at random once and B = A.
    Static,
    /// The same at first; then [`SparseWeight::set`] drops and grows.
    Set,
    /// The same at first; then [`SparseWeight::rigl`] drops and grows.
    Rigl,
    /// A is what [`SparseWeight::start`] is given, as saliencies say ([`SparseWeight::offer_saliencies`]), and B = A.
    Snip,
    /// A is everything once [`SparseWeight::start_full`] is called; then [`SparseWeight::prune`] drops. B = A.
    Pruning,
}

impl Topology {
    /// Whether C keeps its values, in a reservoir, as entries of C may return.
    pub fn has_reservoir(self) -> bool {
        matches!(self, Self::TopKast(_))
    }

    /// Whether weights are made without entries, and A is given to them when they start.
    pub fn starts_later(self) -> bool {
        matches!(self, Self::Snip | Self::Pruning)
    }
}
