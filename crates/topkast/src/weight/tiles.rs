//! What is as large as the dense weight goes by in tiles, some rows of it at a time.

use std::ops::Range;

use topkast_kernels::{Buffer, Convolution, Isa, Matrix, Planes, dense_weight_gradient};

/// Numbers in a tile at most, unless a row has more: 512 KiB.
const TILE: usize = 1 << 17;

/// The rows of each tile of a weight. Where tiles end follows from the width alone, so that rounding does not depend on threads.
pub(super) fn tiles(rows: usize, width: usize) -> impl ExactSizeIterator<Item = Range<usize>> + Clone {
    let of_one = (TILE / width).max(1);
    (0..rows.div_ceil(of_one)).map(move |tile| tile * of_one..rows.min((tile + 1) * of_one))
}

/// What the dense gradient of a weight is the product of.
#[derive(Clone, Copy, Debug)]
pub struct DenseGradient<'a> {
    dy: &'a Matrix,
    x: &'a Matrix,
    /// Where the weight slides over x: how, and x laid out for it.
    slides: Option<(&'a Convolution, &'a Planes)>,
}

impl<'a> DenseGradient<'a> {
    /// `dy·xᵀ`, of a layer `W·x`.
    pub fn of(dy: &'a Matrix, x: &'a Matrix) -> Self {
        Self { dy, x, slides: None }
    }

    /// That of a layer `W ∗ x`, for an x that lies in `planes` as [`Convolution::lay_out`] puts it.
    pub fn convolved(
        convolution: &'a Convolution,
        dy: &'a Matrix,
        x: &'a Matrix,
        planes: &'a Planes,
    ) -> Self {
        Self { dy, x, slides: Some((convolution, planes)) }
    }

    /// Rows and columns of the weight.
    pub fn shape(&self) -> [usize; 2] {
        let taps = self.slides.map_or(1, |(convolution, _)| convolution.window().taps());
        [self.dy.features(), self.x.features() * taps]
    }
}

/// Some rows of a dense gradient.
#[derive(Debug, Default)]
pub struct GradientTile {
    dy: Matrix,
    gradient: Buffer,
}

impl GradientTile {
    /// Computes those of these `rows`, row by row.
    ///
    /// # Panics
    /// If the weight has fewer rows, or what the gradient is the product of does not fit together.
    pub fn compute(&mut self, isa: Isa, of: &DenseGradient<'_>, rows: Range<usize>) -> &[f32] {
        let len = rows.len() * of.shape()[1];
        if self.gradient.len() != len {
            self.gradient.reset(len);
        }
        self.dy.copy_rows(of.dy, rows);
        match of.slides {
            None => dense_weight_gradient(isa, &self.dy, of.x, &mut self.gradient),
            Some((convolution, planes)) => {
                convolution.dense_weight_gradient(isa, &self.dy, of.x, planes, &mut self.gradient);
            }
        }
        &self.gradient
    }
}
