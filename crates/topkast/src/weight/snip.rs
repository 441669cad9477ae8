//! SNIP (Lee, Ajanthan and Torr, *SNIP: Single-shot network pruning based on connection sensitivity*, ICLR 2019,
//! <https://arxiv.org/abs/1810.02340>): A is the entries of largest saliency |g·θ|, g being the gradient of the dense network with
//! its initial weights on one mini-batch (§4.1, algorithm 1); then it stays. The paper divides saliencies by their sum, which changes
//! nothing about their order.
//!
//! θ⁰, g and saliencies go by in tiles: the memory of some tiles and of twice |A| entries, never of the dense weight.

use topkast_kernels::{Buffer, Isa};

use super::tiles::{DenseGradient, GradientTile};
use super::*;

impl SparseWeight {
    /// Offers the saliency of every entry to `largest`, where it has its flat index plus `start`: that of θ⁰ and the dense
    /// `gradient`. [`start`](Self::start) then takes those that are among the largest.
    ///
    /// # Panics
    /// If the weight has been started, or the gradient is not of its shape.
    pub fn offer_saliencies(
        &self,
        isa: Isa,
        gradient: &DenseGradient<'_>,
        start: u64,
        largest: &mut Largest,
    ) {
        let (rows, width) = (self.pattern.rows(), self.pattern.width());
        assert_eq!(gradient.shape(), [rows, width], "the gradient must be the weight's");
        let (mut saliency, mut tile) = (Buffer::default(), GradientTile::default());
        for rows in self.tiles() {
            let first = start + rows.start as u64 * width as u64;
            self.initial_rows(rows.clone(), &mut saliency);
            let gradient = tile.compute(isa, gradient, rows);
            saliency.iter_mut().zip(gradient).for_each(|(theta, gradient)| *theta *= gradient);
            largest.offer(first, &saliency);
        }
    }
}
