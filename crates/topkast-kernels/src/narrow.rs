//! The three products of a dense layer with few outputs, such as a classifier's last one.
//!
//! A general matrix product packs its operands, which costs more than such a layer's arithmetic. Here the layer's short
//! side stays in registers or L1, and the long one streams by:
//!
//! ```text
//! y[o]     = Σ w[o, i] × x[i]        a panel of y[o] in registers, rows of x streaming
//! dx[i]    = Σ w[o, i] × dy[o]       a panel of dx[i] in registers, all of dy in L1
//! dw[o, i] = dy[o] · x[i]            eight inputs at a time, as in the sparse weight gradient
//! ```
//! Each sum has one order whatever the number of threads, and nothing is allocated.

use crate::chunks::{chunk_rows, for_each_chunk};
use crate::lanes::{read, write};
use crate::simd::{GROUP, Simd};
use crate::{Isa, Kernel, Matrix};

/// A layer with fewer outputs than this is narrow: measured at 1024 inputs and 128 positions, `gemm` wins above.
pub(crate) const OUTPUTS: usize = 64;

/// `y = W·x` for a `y` of the right shape.
pub(crate) fn forward(isa: Isa, w: &[f32], x: &Matrix, y: &mut Matrix) {
    let (inputs, stride, kept) = (x.features(), y.stride(), y.positions());
    if y.padded().is_empty() {
        return;
    }
    // A row is work enough for a task.
    for_each_chunk(y.padded_mut(), stride, &|start, y| {
        let w = &w[start / stride * inputs..][..inputs];
        isa.run(Combine { w, w_row: inputs, w_term: 1, x, kept, y });
    });
}

/// `dx = Wᵀ·dy` for a `dx` of the right shape.
pub(crate) fn input_gradient(isa: Isa, w: &[f32], dy: &Matrix, dx: &mut Matrix) {
    let (inputs, stride, kept) = (dx.features(), dx.stride(), dx.positions());
    if dx.padded().is_empty() {
        return;
    }
    let rows = chunk_rows(stride * dy.features());
    for_each_chunk(dx.padded_mut(), rows * stride, &|start, dx| {
        let w = w.get(start / stride..).unwrap_or_default();
        isa.run(Combine { w, w_row: 1, w_term: inputs, x: dy, kept, y: dx });
    });
}

/// `dw = dy·xᵀ` for a `dw` of the right size.
pub(crate) fn weight_gradient(isa: Isa, dy: &Matrix, x: &Matrix, dw: &mut [f32]) {
    let inputs = x.features();
    if dw.is_empty() {
        return;
    }
    for_each_chunk(dw, inputs, &|start, dw| isa.run(Dots { dy, output: start / inputs, x, dw }));
}

/// Each row of `y` becomes the sum of all rows of `x`, row `t` times `w[row × w_row + t × w_term]`.
struct Combine<'a> {
    w: &'a [f32],
    w_row: usize,
    w_term: usize,
    x: &'a Matrix,
    kept: usize,
    y: &'a mut [f32],
}

impl Kernel for Combine<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { w, w_row, w_term, x, kept, y } = self;
        for (row, y) in y.chunks_exact_mut(x.stride()).enumerate() {
            let mut position = 0;
            while position < y.len() {
                let y = &mut y[position..];
                // Fixed widths, so that the sums are registers.
                position += S::LANES
                    * match y.len() / S::LANES {
                        8.. => panel::<S, 8>(simd, w, row * w_row, w_term, x, position, y),
                        4..8 => panel::<S, 4>(simd, w, row * w_row, w_term, x, position, y),
                        2..4 => panel::<S, 2>(simd, w, row * w_row, w_term, x, position, y),
                        _ => panel::<S, 1>(simd, w, row * w_row, w_term, x, position, y),
                    };
            }
            // Not zero already where a weight is infinite.
            y[kept..].fill(0.0);
        }
    }
}

/// The first `N` vectors of `y`, from the positions of `x` that begin at `position`.
#[inline(always)]
fn panel<S: Simd, const N: usize>(
    simd: S,
    w: &[f32],
    first: usize,
    step: usize,
    x: &Matrix,
    position: usize,
    y: &mut [f32],
) -> usize {
    let mut sums = [simd.splat(0.0); N];
    for (term, x) in x.padded().chunks_exact(x.stride()).enumerate() {
        let (w, x) = (simd.splat(w[first + term * step]), &x[position..][..N * S::LANES]);
        for (sum, x) in sums.iter_mut().zip(x.chunks_exact(S::LANES)) {
            *sum = simd.mul_add(w, read(simd, x), *sum);
        }
    }
    for (y, sum) in y.chunks_exact_mut(S::LANES).zip(sums) {
        write(simd, y, sum);
    }
    N
}

/// `dw[i] = dy[output] · x[i]`.
struct Dots<'a> {
    dy: &'a Matrix,
    output: usize,
    x: &'a Matrix,
    dw: &'a mut [f32],
}

impl Kernel for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let stride = self.x.stride();
        let dy = &self.dy.padded()[self.output * stride..][..stride];
        let last = self.dw.len() - 1;
        for (group, dw) in self.dw.chunks_mut(GROUP).enumerate() {
            // A group that is not full repeats the last row of x.
            let rows: [&[f32]; GROUP] =
                std::array::from_fn(|i| &self.x.padded()[(group * GROUP + i).min(last) * stride..][..stride]);
            let mut sums = [simd.splat(0.0); GROUP];
            for position in (0..stride).step_by(S::LANES) {
                let dy = read(simd, &dy[position..]);
                for (sum, x) in sums.iter_mut().zip(rows) {
                    *sum = simd.mul_add(dy, read(simd, &x[position..]), *sum);
                }
            }
            simd.add_sums(sums, dw, true);
        }
    }
}
