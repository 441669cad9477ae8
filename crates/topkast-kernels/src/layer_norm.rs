//! Layer normalization (Ba, Kiros and Hinton 2016) of a residual sum, over the features of every position.
//!
//! Positions are the lanes, so that nothing is summed across a vector, in strips of 64: as much of a row as is read at once, and few
//! enough that a strip of all features stays in L2 between its walks. Forward: the sum s = x + dropout(branch) with its mean m over
//! the features; then the mean c and the variance of s − m, where c is what rounding left of the mean, so that large means cost no
//! digits; then the outputs. Backward: the two means that the gradient needs, then the gradient.
//!
//! The gradients of gain and bias are sums over positions, which strips would have to be combined for: they are taken in a walk of
//! their own, row by row.

mod backward;
mod forward;

use crate::buffer::LINE;
use crate::chunks::{chunk_rows, for_each_chunk};
use crate::columns::ColumnsMut;
use crate::dropout::Mask;
use crate::lanes::read;
use crate::simd::{GROUP, Simd};
use crate::{Isa, Matrix};
use backward::{Backward, Parameters};
use forward::Forward;

/// Positions worked on at once.
const STRIP: usize = 64;
/// Vectors of positions whose sums are in registers.
const PANEL: usize = 4;
/// Rows ahead of which a strip's are fetched: they are too far apart for the processor to see them coming.
const AHEAD: usize = 8;
/// Features whose gain's and bias's gradients are summed at once.
const ROWS: usize = GROUP / 2;
/// Added to the variance.
const EPSILON: f32 = 1e-5;

/// `y = gain · (s − mean)/√(var + 10⁻⁵) + bias` for every position, with `s = x + dropout(branch)` and its mean and variance over the
/// features. `dropout` is key and rate, and drops what [`dropout`](crate::dropout) does.
///
/// For the gradient, `normalized` receives `(s − mean)/√(var + 10⁻⁵)` and `scale`, one number for each position,
/// `1/√(var + 10⁻⁵)`. Both, and `y`, take their shapes and are overwritten.
///
/// # Panics
/// If `branch` has not the shape of `x`, there is not one gain and bias for each feature, or the rate is outside `0 ≤ rate < 1`.
#[allow(clippy::too_many_arguments)]
pub fn layer_norm(
    isa: Isa,
    x: &Matrix,
    branch: &Matrix,
    dropout: Option<(u64, f32)>,
    gain: &[f32],
    bias: &[f32],
    normalized: &mut Matrix,
    scale: &mut Vec<f32>,
    y: &mut Matrix,
) {
    let (features, positions) = (x.features(), x.positions());
    assert_eq!((branch.features(), branch.positions()), (features, positions), "the shapes must be the same");
    assert_eq!((gain.len(), bias.len()), (features, features), "one gain and bias for each feature");
    normalized.ensure(features, positions);
    y.ensure(features, positions);
    scale.resize(positions, 0.0);
    let mask = dropout.and_then(|(key, rate)| Mask::new(key, rate));
    let outputs = (&mut scale[..], (ColumnsMut::of(normalized), ColumnsMut::of(y)));
    for_each_chunk(outputs, STRIP, &|start, (scale, (normalized, y))| {
        isa.run(Forward { x, branch, mask, gain, bias, start, scale, normalized, y });
    });
}

/// The gradient of [`layer_norm`] from `dy`, that with respect to `y`, and what it left in `normalized` and `scale`: `dx` with respect to
/// `s`, and so to `x`; `d_branch` with respect to `branch`; `d_gain` and `d_bias`. All are overwritten.
///
/// # Panics
/// If `dy` has not the shape of `normalized`, there is not one scale for each position, or one gain and number of `d_gain` and
/// `d_bias` for each feature, or the rate is outside `0 ≤ rate < 1`.
#[allow(clippy::too_many_arguments)]
pub fn layer_norm_gradient(
    isa: Isa,
    dy: &Matrix,
    normalized: &Matrix,
    scale: &[f32],
    gain: &[f32],
    dropout: Option<(u64, f32)>,
    dx: &mut Matrix,
    d_branch: &mut Matrix,
    d_gain: &mut [f32],
    d_bias: &mut [f32],
) {
    let (features, positions) = (dy.features(), dy.positions());
    let shape = (normalized.features(), normalized.positions());
    assert_eq!(shape, (features, positions), "the shapes must be the same");
    assert_eq!(scale.len(), positions, "one scale for each position");
    assert_eq!([gain.len(), d_gain.len(), d_bias.len()], [features; 3], "one gain and bias for each feature");
    dx.ensure(features, positions);
    d_branch.ensure(features, positions);
    let mask = dropout.and_then(|(key, rate)| Mask::new(key, rate));
    let outputs = (scale, (ColumnsMut::of(dx), ColumnsMut::of(d_branch)));
    for_each_chunk(outputs, STRIP, &|start, (scale, (dx, d_branch))| {
        isa.run(Backward { dy, normalized, scale, gain, mask, start, dx, d_branch });
    });
    let rows = chunk_rows(2 * dy.stride()).next_multiple_of(ROWS);
    for_each_chunk((d_gain, d_bias), rows, &|first, (d_gain, d_bias)| {
        isa.run(Parameters { dy, normalized, first, d_gain, d_bias });
    });
}

/// What is computed of a strip, for `N` vectors of its positions, the first of them at `at`.
trait Strip {
    fn panel<S: Simd, const N: usize>(&mut self, s: S, at: usize);
}

/// All panels of a strip: [`PANEL`] vectors as long as there are as many.
#[inline(always)]
fn each_panel<S: Simd>(s: S, width: usize, strip: &mut impl Strip) {
    let mut at = 0;
    while at < width {
        if width - at >= PANEL * S::LANES {
            strip.panel::<S, PANEL>(s, at);
            at += PANEL * S::LANES;
        } else {
            strip.panel::<S, 1>(s, at);
            at += S::LANES;
        }
    }
}

/// `N` vectors of a row. In loops, here as below: what is done in a closure that the library calls is not inlined, as the library
/// has not the instruction set's features.
#[inline(always)]
fn vectors<S: Simd, const N: usize>(s: S, row: &[f32]) -> [S::Vector; N] {
    let mut vectors = [s.splat(0.0); N];
    for (vector, row) in vectors.iter_mut().zip(row.chunks_exact(S::LANES)) {
        *vector = read(s, row);
    }
    vectors
}

/// The sums over `count` features as means.
#[inline(always)]
fn means<S: Simd, const N: usize>(s: S, mut sums: [S::Vector; N], count: usize) -> [S::Vector; N] {
    for sum in &mut sums {
        *sum = s.mul(*sum, s.splat(1.0 / count as f32));
    }
    sums
}

/// `width` positions of a feature from `first` on, padding included.
#[inline(always)]
fn part(matrix: &Matrix, feature: usize, first: usize, width: usize) -> &[f32] {
    &matrix.padded()[feature * matrix.stride() + first..][..width]
}

/// Fetches a piece of a row ahead of its use.
#[inline(always)]
fn fetch<S: Simd>(s: S, row: &[f32]) {
    for line in row.chunks(LINE) {
        s.prefetch(line.as_ptr());
    }
}

#[cfg(test)]
mod tests;
