//! Layer normalization (Ba, Kiros and Hinton 2016) of a residual sum, over the features of every position.
//!
//! Positions are the lanes, so that nothing is summed across a vector, in strips of 64: as much of a row as is read at once, and few
//! enough that a strip of all features stays in L2 between its walks. Forward: the sum s = x + dropout(branch) with its mean m over
//! the features; then the mean c and the variance of s − m, where c is what rounding left of the mean, so that large means cost no
//! digits; then the outputs. Backward: the two means that the gradient needs, then the gradient.
//!
//! The gradients of gain and bias are sums over positions, which strips would have to be combined for: they are taken in a walk of
//! their own, row by row.

use crate::buffer::LINE;
use crate::chunks::{chunk_rows, for_each_chunk};
use crate::columns::ColumnsMut;
use crate::dropout::Mask;
use crate::lanes::{read, write};
use crate::simd::{GROUP, Simd};
use crate::{Isa, Kernel, Matrix};

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

/// Calls `$panel::<S, N>(at)` for the vectors of a strip, [`PANEL`] at a time as long as there are as many.
macro_rules! for_each_panel {
    ($S:ident, $width:expr, $at:ident, $panel:ident($($argument:expr),*)) => {
        let mut $at = 0;
        while $at < $width {
            if $width - $at >= PANEL * $S::LANES {
                $panel::<$S, PANEL>($($argument),*);
                $at += PANEL * $S::LANES;
            } else {
                $panel::<$S, 1>($($argument),*);
                $at += $S::LANES;
            }
        }
    };
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

/// At most [`STRIP`] positions from `start` on, all features.
struct Forward<'a> {
    x: &'a Matrix,
    branch: &'a Matrix,
    mask: Option<Mask>,
    gain: &'a [f32],
    bias: &'a [f32],
    start: usize,
    scale: &'a mut [f32],
    normalized: ColumnsMut<'a>,
    y: ColumnsMut<'a>,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let width = self.normalized.width();
        for_each_panel!(S, width, at, forward(s, &mut self, at));
        // The bias must not get into the padding.
        let kept = self.scale.len();
        (0..self.gain.len()).for_each(|feature| self.y.row(feature)[kept..].fill(0.0));
    }
}

#[inline(always)]
fn forward<S: Simd, const N: usize>(s: S, strip: &mut Forward<'_>, at: usize) {
    let (width, features) = (N * S::LANES, strip.gain.len());
    let mean = means(s, add_branch::<S, N>(s, strip, at), features);

    let (mut sums, mut squares) = ([s.splat(0.0); N], [s.splat(0.0); N]);
    for feature in 0..features {
        let sum = vectors::<S, N>(s, &strip.normalized.row(feature)[at..][..width]);
        for i in 0..N {
            let centred = s.sub(sum[i], mean[i]);
            sums[i] = s.add(sums[i], centred);
            squares[i] = s.mul_add(centred, centred, squares[i]);
        }
    }
    let (rest, squares) = (means(s, sums, features), means(s, squares, features));
    let mut scale = [s.splat(0.0); N];
    for i in 0..N {
        // In this order, for `max` gives its second argument if one is NaN.
        let variance = s.max(s.splat(0.0), s.sub(squares[i], s.mul(rest[i], rest[i])));
        scale[i] = s.div(s.splat(1.0), s.sqrt(s.add(variance, s.splat(EPSILON))));
    }

    for feature in 0..features {
        let ahead = (feature + AHEAD).min(features - 1);
        fetch(s, &strip.y.row(ahead)[at..][..width]);
        let (gain, bias) = (s.splat(strip.gain[feature]), s.splat(strip.bias[feature]));
        let normalized = &mut strip.normalized.row(feature)[at..][..width];
        let y = &mut strip.y.row(feature)[at..][..width];
        for i in 0..N {
            let (normalized, y) = (&mut normalized[i * S::LANES..], &mut y[i * S::LANES..]);
            let v = s.mul(s.sub(s.sub(read(s, normalized), mean[i]), rest[i]), scale[i]);
            write(s, normalized, v);
            write(s, y, s.mul_add(v, gain, bias));
        }
    }
    let mut scales = [0.0; STRIP];
    for i in 0..N {
        write(s, &mut scales[i * S::LANES..], scale[i]);
    }
    let positions = strip.scale.len();
    let kept = &mut strip.scale[at.min(positions)..positions.min(at + width)];
    kept.copy_from_slice(&scales[..kept.len()]);
}

/// Puts `x + dropout(branch)` into `normalized`; returns the sums over the features.
#[inline(always)]
fn add_branch<S: Simd, const N: usize>(s: S, strip: &mut Forward<'_>, at: usize) -> [S::Vector; N] {
    let (width, first) = (N * S::LANES, strip.start + at);
    let mut sums = [s.splat(0.0); N];
    let mut dropped = [0.0; STRIP];
    let features = strip.gain.len();
    for feature in 0..features {
        let ahead = (feature + AHEAD).min(features - 1);
        fetch(s, part(strip.x, ahead, first, width));
        fetch(s, part(strip.branch, ahead, first, width));
        fetch(s, &strip.normalized.row(ahead)[at..][..width]);
        let x = part(strip.x, feature, first, width);
        let mut branch = part(strip.branch, feature, first, width);
        if let Some(mask) = strip.mask {
            dropped[..width].copy_from_slice(branch);
            mask.apply(feature, first, &mut dropped[..width]);
            branch = &dropped[..width];
        }
        let sum = &mut strip.normalized.row(feature)[at..][..width];
        for (i, (x, branch)) in vectors::<S, N>(s, x).into_iter().zip(vectors::<S, N>(s, branch)).enumerate()
        {
            let v = s.add(x, branch);
            write(s, &mut sum[i * S::LANES..], v);
            sums[i] = s.add(sums[i], v);
        }
    }
    sums
}

/// At most [`STRIP`] positions from `start` on, all features.
struct Backward<'a> {
    dy: &'a Matrix,
    normalized: &'a Matrix,
    scale: &'a [f32],
    gain: &'a [f32],
    mask: Option<Mask>,
    start: usize,
    dx: ColumnsMut<'a>,
    d_branch: ColumnsMut<'a>,
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (width, kept) = (self.dx.width(), self.scale.len());
        let mut scale = [0.0; STRIP];
        scale[..kept].copy_from_slice(self.scale);
        for_each_panel!(S, width, at, backward(s, &mut self, &scale, at));
        // Not zero already where a gain is infinite.
        for feature in 0..self.gain.len() {
            self.dx.row(feature)[kept..].fill(0.0);
            self.d_branch.row(feature)[kept..].fill(0.0);
        }
    }
}

/// `dx = scale·(g − mean(g) − normalized·mean(g·normalized))` with `g = gain·dy`.
#[inline(always)]
fn backward<S: Simd, const N: usize>(s: S, strip: &mut Backward<'_>, scale: &[f32; STRIP], at: usize) {
    let (width, features) = (N * S::LANES, strip.gain.len());
    let first = strip.start + at;
    let (mut sums, mut products) = ([s.splat(0.0); N], [s.splat(0.0); N]);
    for feature in 0..features {
        let ahead = (feature + AHEAD).min(features - 1);
        fetch(s, part(strip.dy, ahead, first, width));
        fetch(s, part(strip.normalized, ahead, first, width));
        let gain = s.splat(strip.gain[feature]);
        let dy = vectors::<S, N>(s, part(strip.dy, feature, first, width));
        let normalized = vectors::<S, N>(s, part(strip.normalized, feature, first, width));
        for i in 0..N {
            let g = s.mul(gain, dy[i]);
            sums[i] = s.add(sums[i], g);
            products[i] = s.mul_add(g, normalized[i], products[i]);
        }
    }
    let scale = vectors::<S, N>(s, &scale[at..]);
    let (mean, along) = (means(s, sums, features), means(s, products, features));
    for feature in 0..features {
        let gain = s.splat(strip.gain[feature]);
        let dy = vectors::<S, N>(s, part(strip.dy, feature, first, width));
        let normalized = vectors::<S, N>(s, part(strip.normalized, feature, first, width));
        let ahead = (feature + AHEAD).min(features - 1);
        fetch(s, &strip.dx.row(ahead)[at..][..width]);
        fetch(s, &strip.d_branch.row(ahead)[at..][..width]);
        let dx = &mut strip.dx.row(feature)[at..][..width];
        let d_branch = &mut strip.d_branch.row(feature)[at..][..width];
        for i in 0..N {
            let v = s.sub(s.sub(s.mul(gain, dy[i]), mean[i]), s.mul(normalized[i], along[i]));
            let v = s.mul(scale[i], v);
            write(s, &mut dx[i * S::LANES..], v);
            write(s, &mut d_branch[i * S::LANES..], v);
        }
        if let Some(mask) = strip.mask {
            mask.apply(feature, first, d_branch);
        }
    }
}

/// `d_gain[f] = dy[f] · normalized[f]` and `d_bias[f] = Σ dy[f]` for features from `first` on.
struct Parameters<'a> {
    dy: &'a Matrix,
    normalized: &'a Matrix,
    first: usize,
    d_gain: &'a mut [f32],
    d_bias: &'a mut [f32],
}

impl Kernel for Parameters<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let stride = self.dy.stride();
        let groups = self.d_gain.chunks_mut(ROWS).zip(self.d_bias.chunks_mut(ROWS));
        for (group, (d_gain, d_bias)) in groups.enumerate() {
            let last = d_gain.len() - 1;
            let first = self.first + group * ROWS;
            let dy = rows(self.dy, first, first + last);
            let normalized = rows(self.normalized, first, first + last);
            let mut sums = [s.splat(0.0); GROUP];
            for at in (0..stride).step_by(S::LANES) {
                for i in 0..ROWS {
                    let dy = read(s, &dy[i][at..]);
                    sums[i] = s.mul_add(dy, read(s, &normalized[i][at..]), sums[i]);
                    sums[ROWS + i] = s.add(sums[ROWS + i], dy);
                }
            }
            let mut totals = [0.0; GROUP];
            s.add_sums(sums, &mut totals, true);
            d_gain.copy_from_slice(&totals[..=last]);
            d_bias.copy_from_slice(&totals[ROWS..=ROWS + last]);
        }
    }
}

/// Rows from `first` on with their padding; there are no more than `last`, which is repeated.
#[inline(always)]
fn rows(matrix: &Matrix, first: usize, last: usize) -> [&[f32]; ROWS] {
    std::array::from_fn(|i| &matrix.padded()[(first + i).min(last) * matrix.stride()..][..matrix.stride()])
}

#[cfg(test)]
mod tests;
