//! Where C lives: the entries outside the backward set, which keep their value and get no gradient.

mod dense;
mod dormant;
mod head;
mod implicit;
mod initial;
mod mapped;
mod search;
#[cfg(test)]
mod twin;

pub use dense::DenseReservoir;
pub use implicit::ImplicitReservoir;
pub use mapped::{MappedReservoir, SharedValues};

use crate::{Entry, WeightError};

/// How a fresh weight's θ⁰ is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservoirKind {
    /// Not at all: an [`ImplicitReservoir`].
    Implicit,
    /// Drawn and written out: a [`DenseReservoir`].
    Dense,
    /// In a file that is not at hand, and all zero here: a [`MappedReservoir`] for a weight that a checkpoint will replace.
    Absent,
}

/// Everything of θ that is not in B.
///
/// The entries of B belong to the [`SparseWeight`](crate::SparseWeight) that owns the reservoir. Values in C never
/// change, so all a refresh asks is which of them are the largest; a reservoir need not store C to answer.
pub trait Reservoir: Send + Sync {
    /// The `count` entries of C that are largest in magnitude, or all if C has fewer, in descending order of magnitude,
    /// ties in ascending order of index; perhaps more of them.
    fn head(&mut self, count: usize) -> &[Entry];

    /// The value of an entry of C.
    fn value(&self, index: u64) -> f32;

    /// Exchanges entries after a selection: `left` were in B and are now in C, `entered` the reverse; neither is in any
    /// particular order.
    fn exchange(&mut self, left: &[Entry], entered: &[u64]);

    /// n, the number of entries of θ.
    fn entries(&self) -> u64;

    /// How many entries of C have been in B at some time.
    fn dormant(&self) -> u64;

    /// Where θ⁰ is known by rank, up to which rank all of it has been in B.
    fn frontier(&self) -> Option<u64> {
        None
    }

    /// Bytes held.
    fn bytes(&self) -> usize;

    /// What a checkpoint has to keep.
    fn state(&self) -> ReservoirState<'_>;

    /// This reservoir as a checkpoint of a weight made with the same arguments has it, of which `backward`, in ascending
    /// order, are in B.
    ///
    /// # Errors
    /// If that is another reservoir's, or does not fit the weight.
    fn restored(&self, saved: SavedReservoir, backward: &[u64]) -> Result<Box<dyn Reservoir>, WeightError>;
}

/// A reservoir's contents, as checkpoints store them.
pub enum ReservoirState<'a> {
    /// θ in flat order (what is there for entries of B means nothing), and which entries of C have been in B.
    Dense {
        /// θ.
        theta: &'a [f32],
        /// One bit per entry, 64 a word, the lowest index in the lowest bit.
        dormant: &'a [u64],
    },
    /// The entries of C that have been in B: flat indices in ascending order, and values. The others are as they began.
    Dormant {
        /// Flat indices.
        indices: &'a [u64],
        /// Their values.
        values: &'a [f32],
    },
}

/// A [`ReservoirState`] read from a checkpoint.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum SavedReservoir {
    Dense { theta: Vec<f32>, dormant: Vec<u64> },
    Dormant { indices: Vec<u64>, values: Vec<f32> },
}
