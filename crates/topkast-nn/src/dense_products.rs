//! Dense products for a sparse layer: where it holds so many entries that multiplying zeros is faster than skipping them.
//!
//! Training is the same as with sparse products but for rounding: forward and input gradient use α written out densely, and
//! of the dense weight gradient the entries of B are taken. This takes two arrays of the dense weight's size, which an
//! always-sparse layer otherwise never has.

use rayon::prelude::*;
use topkast::{Pattern, SparseWeight};
use topkast_kernels::{Buffer, Isa, Matrix, dense_forward, dense_input_gradient, dense_weight_gradient};

/// Entries of the largest weight that is ever written out densely: 256 MiB.
pub(crate) const LARGEST: u64 = 1 << 26;

/// The two dense arrays, which get their size when first used.
#[derive(Debug, Default)]
pub(crate) struct DenseProducts {
    /// α with its zeros, row by row, of the last forward pass.
    pub(crate) alpha: Buffer,
    pub(crate) gradient: Buffer,
}

impl DenseProducts {
    /// Bytes of the arrays for a weight of so many entries.
    pub(crate) fn bytes(total: u64) -> u64 {
        2 * size_of::<f32>() as u64 * total
    }

    /// `y = α·x`.
    pub(crate) fn forward(&mut self, isa: Isa, weight: &SparseWeight, x: &Matrix, y: &mut Matrix) {
        self.scatter(weight);
        dense_forward(isa, weight.pattern().rows(), &self.alpha, x, y);
    }

    /// `dx = αᵀ·dy`, α being that of the last forward pass.
    pub(crate) fn input_gradient(&self, isa: Isa, weight: &SparseWeight, dy: &Matrix, dx: &mut Matrix) {
        dense_input_gradient(isa, weight.pattern().width(), &self.alpha, dy, dx);
    }

    /// The entries that `pattern` names of `dy·xᵀ`: A's into `active`, those of B∖A into `explore`, where wanted.
    pub(crate) fn weight_gradient(
        &mut self,
        isa: Isa,
        pattern: &Pattern,
        x: &Matrix,
        dy: &Matrix,
        active: &mut [f32],
        explore: Option<&mut [f32]>,
    ) {
        resize(&mut self.gradient, pattern);
        dense_weight_gradient(isa, dy, x, &mut self.gradient);
        self.gather(pattern, active, explore);
    }

    /// Writes α out. Row by row, zeros and all, so that it does not matter which pattern was there before.
    pub(crate) fn scatter(&mut self, weight: &SparseWeight) {
        let (active, values) = (weight.pattern().active(), weight.active_values());
        resize(&mut self.alpha, weight.pattern());
        self.alpha.par_chunks_exact_mut(active.width()).with_min_len(16).enumerate().for_each(
            |(row, alpha)| {
                alpha.fill(0.0);
                active.row_entries(row).for_each(|entry| alpha[active.column(entry)] = values[entry]);
            },
        );
    }

    /// Takes the entries of B from the dense gradient.
    pub(crate) fn gather(&self, pattern: &Pattern, active: &mut [f32], explore: Option<&mut [f32]>) {
        let sets = [Some((pattern.active(), active)), explore.map(|explore| (pattern.explore(), explore))];
        for (csr, gradient) in sets.into_iter().flatten() {
            let indices = csr.flat_indices().map(|index| index as usize);
            gradient.iter_mut().zip(indices).for_each(|(slot, index)| *slot = self.gradient[index]);
        }
    }

    /// Makes room for the gradient, for who fills it otherwise.
    pub(crate) fn make_room(&mut self, pattern: &Pattern) {
        resize(&mut self.gradient, pattern);
    }
}

fn resize(buffer: &mut Buffer, pattern: &Pattern) {
    let total = pattern.total() as usize;
    if buffer.len() != total {
        buffer.reset(total);
    }
}
