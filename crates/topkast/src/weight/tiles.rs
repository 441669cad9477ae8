//! What is as large as the dense weight goes by in tiles, some rows of it at a time.

use std::ops::Range;

use topkast_kernels::{Buffer, Isa, Matrix, dense_weight_gradient};

/// Numbers in a tile at most, unless a row has more: 512 KiB.
const TILE: usize = 1 << 17;

/// The rows of each tile of a weight. Where tiles end follows from the width alone, so that rounding does not depend on threads.
pub(super) fn tiles(rows: usize, width: usize) -> impl ExactSizeIterator<Item = Range<usize>> + Clone {
    let of_one = (TILE / width).max(1);
    (0..rows.div_ceil(of_one)).map(move |tile| tile * of_one..rows.min((tile + 1) * of_one))
}

/// Some rows of the dense gradient dy·xᵀ.
#[derive(Default)]
pub(super) struct GradientTile {
    dy: Matrix,
    gradient: Buffer,
}

impl GradientTile {
    /// Those of these `rows`.
    pub(super) fn compute(&mut self, isa: Isa, dy: &Matrix, x: &Matrix, rows: Range<usize>) -> &[f32] {
        let len = rows.len() * x.features();
        if self.gradient.len() != len {
            self.gradient.reset(len);
        }
        self.dy.copy_rows(dy, rows);
        dense_weight_gradient(isa, &self.dy, x, &mut self.gradient);
        &self.gradient
    }
}
