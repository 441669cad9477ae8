//! The three products of a dense layer with few outputs, such as a classifier's last one.
//!
//! A general matrix product packs its operands, which costs more than such a layer's arithmetic. Here the layer's short
//! side stays in registers or L1, and the long one streams by:
//!
//! ```text
//! y[o]     = Σ w[o, i] × x[i]        panels of four y[o] in registers, rows of x streaming
//! dx[i]    = Σ w[o, i] × dy[o]       panels of four dx[i] in registers, all of dy in L1
//! dw[o, i] = dy[o] · x[i]            eight inputs and two outputs at a time, reduced as in the sparse weight gradient
//! ```
//! Each sum has one order whatever the number of threads, and nothing is allocated.

use crate::chunks::{chunk_rows, for_each_chunk};
use crate::lanes::{read, write};
use crate::simd::{GROUP, Simd};
use crate::{Isa, Kernel, Matrix};

/// A layer with fewer outputs than this is narrow: measured at 1024 inputs and 128 positions, `gemm` wins above.
pub(crate) const OUTPUTS: usize = 64;

/// Rows of an output that share what is loaded of an input.
const TILE: usize = 4;
/// Rows of dy that do so.
const PAIR: usize = 2;

/// `y = W·x` for a `y` of the right shape.
pub(crate) fn forward(isa: Isa, w: &[f32], x: &Matrix, y: &mut Matrix) {
    let (inputs, stride, kept) = (x.features(), y.stride(), y.positions());
    if y.padded().is_empty() {
        return;
    }
    // A tile is work enough for a task.
    for_each_chunk(y.padded_mut(), TILE * stride, &|start, y| {
        let w = &w[start / stride * inputs..];
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
    for_each_chunk(dw, PAIR * inputs, &|start, dw| isa.run(Dots { dy, first: start / inputs, x, dw }));
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
    fn run<S: Simd>(mut self, simd: S) {
        let stride = self.x.stride();
        let y = std::mem::take(&mut self.y);
        for (tile, y) in y.chunks_mut(TILE * stride).enumerate() {
            let first = tile * TILE * self.w_row;
            // Fixed numbers, so that the sums are registers.
            match y.len() / stride {
                1 => self.tile::<S, 1>(simd, first, y),
                2 => self.tile::<S, 2>(simd, first, y),
                3 => self.tile::<S, 3>(simd, first, y),
                rows => {
                    assert_eq!(rows, TILE);
                    self.tile::<S, TILE>(simd, first, y);
                }
            }
            // Not zero already where a weight is infinite.
            y.chunks_exact_mut(stride).for_each(|y| y[self.kept..].fill(0.0));
        }
    }
}

impl Combine<'_> {
    /// `R` rows, whose weights begin at `first`.
    #[inline(always)]
    fn tile<S: Simd, const R: usize>(&self, simd: S, first: usize, y: &mut [f32]) {
        let stride = self.x.stride();
        let mut position = 0;
        while position < stride {
            position += S::LANES
                * match (stride - position) / S::LANES {
                    4.. if S::LANES == 16 => self.panel::<S, R, 4>(simd, first, position, y),
                    2.. => self.panel::<S, R, 2>(simd, first, position, y),
                    _ => self.panel::<S, R, 1>(simd, first, position, y),
                };
        }
    }

    /// `N` vectors of each, from `position` on.
    #[inline(always)]
    fn panel<S: Simd, const R: usize, const N: usize>(
        &self,
        simd: S,
        first: usize,
        position: usize,
        y: &mut [f32],
    ) -> usize {
        let stride = self.x.stride();
        let mut sums = [[simd.splat(0.0); N]; R];
        for (term, x) in self.x.padded().chunks_exact(stride).enumerate() {
            let x: &[f32] = &x[position..][..N * S::LANES];
            for (row, sums) in sums.iter_mut().enumerate() {
                let w = simd.splat(self.w[first + row * self.w_row + term * self.w_term]);
                for (sum, x) in sums.iter_mut().zip(x.chunks_exact(S::LANES)) {
                    *sum = simd.mul_add(w, read(simd, x), *sum);
                }
            }
        }
        for (y, sums) in y.chunks_exact_mut(stride).zip(sums) {
            for (y, sum) in y[position..].chunks_exact_mut(S::LANES).zip(sums) {
                write(simd, y, sum);
            }
        }
        N
    }
}

/// `dw[o, i] = dy[first + o] · x[i]`.
struct Dots<'a> {
    dy: &'a Matrix,
    first: usize,
    x: &'a Matrix,
    dw: &'a mut [f32],
}

impl Kernel for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { dy, first, x, dw } = self;
        let dy = &dy.padded()[first * x.stride()..];
        if dw.len() > x.features() && S::LANES == 16 {
            dots::<S, PAIR>(simd, dy, x, dw);
        } else {
            // One by one, where there are registers for no more.
            for (output, dw) in dw.chunks_exact_mut(x.features()).enumerate() {
                dots::<S, 1>(simd, &dy[output * x.stride()..], x, dw);
            }
        }
    }
}

/// `dw[o, i] = dy[o] · x[i]` for `R` outputs.
#[inline(always)]
fn dots<S: Simd, const R: usize>(simd: S, dy: &[f32], x: &Matrix, dw: &mut [f32]) {
    let (stride, inputs) = (x.stride(), x.features());
    for first in (0..inputs).step_by(GROUP) {
        // A group that is not full repeats the last row of x.
        let rows: [&[f32]; GROUP] =
            std::array::from_fn(|i| &x.padded()[(first + i).min(inputs - 1) * stride..][..stride]);
        let mut sums = [[simd.splat(0.0); GROUP]; R];
        for position in (0..stride).step_by(S::LANES) {
            let mut of_dy = [simd.splat(0.0); R];
            for (output, vector) in of_dy.iter_mut().enumerate() {
                *vector = read(simd, &dy[output * stride + position..]);
            }
            for (entry, x) in rows.iter().enumerate() {
                let x = read(simd, &x[position..]);
                for (sums, &dy) in sums.iter_mut().zip(&of_dy) {
                    sums[entry] = simd.mul_add(dy, x, sums[entry]);
                }
            }
        }
        let group = first..inputs.min(first + GROUP);
        for (dw, sums) in dw.chunks_exact_mut(inputs).zip(sums) {
            simd.add_sums(sums, &mut dw[group.clone()], true);
        }
    }
}
