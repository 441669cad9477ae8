//! What a sparse layer's products cost on this machine, beside those of a dense layer of its shape.

use std::time::Instant;

use topkast_kernels::{
    Buffer, Epilogue, Isa, Matrix, dense_forward, dense_input_gradient, dense_weight_gradient, spmm,
    spmm_transposed,
};

use crate::SparseLinear;
use crate::dense_products::{DenseProducts, LARGEST};
use crate::linear::sampled_gradient;

/// Milliseconds a step, on the threads of the current rayon pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProductTimes {
    /// The sparse products.
    pub sparse: f64,
    /// The products of a dense layer of that shape.
    pub dense: f64,
}

/// Multiply-adds of the sparse products that are timed: some milliseconds. Fewer positions are taken where there would be
/// more, but no fewer than [`POSITIONS`], the panel that the sparse products work on.
const SPARSE_WORK: usize = 100_000_000;
const POSITIONS: (usize, usize) = (64, 256);

/// Columns of the dense weight that are timed, and rows for each thread: from there on the dense products take time in
/// proportion to the weight.
const SIDE: usize = 1024;

impl SparseLinear {
    /// Times the products of a step with `positions` positions, each a few times, on made-up numbers: the weight gradient of
    /// B (of A without `explore`) and, unless it is a network's first layer, the input gradient. Of large layers a part is timed
    /// and the rest taken to be in proportion. Nothing that is trained is touched.
    pub fn time_products(
        &self,
        isa: Isa,
        positions: usize,
        input_gradient: bool,
        explore: bool,
    ) -> ProductTimes {
        let pattern = self.weight.pattern();
        let work = 2 * pattern.active().entries() + pattern.backward_len();
        let sampled = positions.min((SPARSE_WORK / work.max(1)).clamp(POSITIONS.0, POSITIONS.1));
        let share = sampled.max(1) as f64 / positions.max(1) as f64;
        ProductTimes {
            sparse: self.time_sparse(isa, sampled, input_gradient, explore) / share,
            dense: self.time_dense(isa, sampled, input_gradient) / share,
        }
    }

    fn time_sparse(&self, isa: Isa, positions: usize, input_gradient: bool, explore: bool) -> f64 {
        let (pattern, values) = (self.weight.pattern(), self.weight.active_values());
        let (x, dy) = (made_up(pattern.width(), positions), made_up(pattern.rows(), positions));
        let (mut y, mut dx, mut gathered) = (Matrix::default(), Matrix::default(), Buffer::default());
        let mut gradient = Buffer::zeros(pattern.backward_len());
        let (active, rest) = gradient.split_at_mut(pattern.active().entries());
        fastest(|| {
            spmm(isa, pattern.active(), values, &x, Epilogue::None, &mut y);
            if input_gradient {
                spmm_transposed(
                    isa,
                    pattern.transposed(),
                    values,
                    &dy,
                    Epilogue::None,
                    &mut gathered,
                    &mut dx,
                );
            }
            sampled_gradient(isa, self.bf16, pattern, [&dy, &x], active, explore.then_some(&mut *rest));
        })
    }

    fn time_dense(&self, isa: Isa, positions: usize, input_gradient: bool) -> f64 {
        let pattern = self.weight.pattern();
        // With enough rows for every thread, and of no more than the largest weight that is written out.
        let most = (SIDE * rayon::current_num_threads()).min(LARGEST as usize / SIDE);
        let (rows, width) = (pattern.rows().min(most), pattern.width().min(SIDE));
        let (x, dy) = (made_up(width, positions), made_up(rows, positions));
        let (mut y, mut dx) = (Matrix::default(), Matrix::default());
        let (mut weight, mut gradient) = (Buffer::zeros(rows * width), Buffer::zeros(rows * width));
        weight.fill(0.5);
        let ms = fastest(|| {
            dense_forward(isa, rows, &weight, &x, &mut y);
            if input_gradient {
                dense_input_gradient(isa, width, &weight, &dy, &mut dx);
            }
            dense_weight_gradient(isa, &dy, &x, &mut gradient);
        });
        ms * pattern.total() as f64 / (rows * width) as f64
    }

    /// Milliseconds a step that dense products cost this layer besides: writing α out, and taking B's entries of the gradient.
    /// None where the dense weight is over 256 MiB and never written out.
    pub fn time_copies(&self, explore: bool) -> Option<f64> {
        let pattern = self.weight.pattern();
        if pattern.total() > LARGEST {
            return None;
        }
        let mut products = DenseProducts::default();
        products.make_room(pattern);
        let mut gradient = Buffer::zeros(pattern.backward_len());
        let (active, rest) = gradient.split_at_mut(pattern.active().entries());
        Some(fastest(|| {
            products.scatter(&self.weight);
            products.gather(pattern, active, explore.then_some(&mut *rest));
        }))
    }
}

/// Numbers of ordinary size, none of them zero.
fn made_up(features: usize, positions: usize) -> Matrix {
    let mut matrix = Matrix::zeros(features, positions);
    for feature in 0..features {
        let numbers = (feature..).map(|at| (at % 61) as f32 / 30.0 - 0.99);
        matrix.row_mut(feature).iter_mut().zip(numbers).for_each(|(slot, number)| *slot = number);
    }
    matrix
}

/// Milliseconds of the fastest of up to five calls, after one that warms the caches up; long calls are not repeated as often.
fn fastest(mut work: impl FnMut()) -> f64 {
    const ENOUGH: f64 = 12.0;
    work();
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    for _ in 0..5 {
        let call = Instant::now();
        work();
        best = best.min(call.elapsed().as_secs_f64() * 1e3);
        if start.elapsed().as_secs_f64() * 1e3 > ENOUGH {
            break;
        }
    }
    best
}
