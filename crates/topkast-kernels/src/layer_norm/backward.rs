//! Layer normalization's gradients.

use super::{AHEAD, ROWS, STRIP, Strip, each_panel, fetch, means, part, vectors};
use crate::columns::ColumnsMut;
use crate::dropout::Mask;
use crate::lanes::{read, write};
use crate::simd::{GROUP, Simd};
use crate::{Kernel, Matrix};

/// At most [`STRIP`] positions from `start` on, all features.
pub(super) struct Backward<'a> {
    pub(super) dy: &'a Matrix,
    pub(super) normalized: &'a Matrix,
    pub(super) scale: &'a [f32],
    pub(super) gain: &'a [f32],
    pub(super) mask: Option<Mask>,
    pub(super) start: usize,
    pub(super) dx: ColumnsMut<'a>,
    pub(super) d_branch: ColumnsMut<'a>,
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (width, kept) = (self.dx.width(), self.scale.len());
        each_panel(s, width, &mut self);
        // Not zero already where a gain is infinite.
        for feature in 0..self.gain.len() {
            self.dx.row(feature)[kept..].fill(0.0);
            self.d_branch.row(feature)[kept..].fill(0.0);
        }
    }
}

impl Strip for Backward<'_> {
    /// `dx = scale·(g − mean(g) − normalized·mean(g·normalized))` with `g = gain·dy`.
    #[inline(always)]
    fn panel<S: Simd, const N: usize>(&mut self, s: S, at: usize) {
        let (width, features) = (N * S::LANES, self.gain.len());
        let first = self.start + at;
        let (mut sums, mut products) = ([s.splat(0.0); N], [s.splat(0.0); N]);
        for feature in 0..features {
            let ahead = (feature + AHEAD).min(features - 1);
            fetch(s, part(self.dy, ahead, first, width));
            fetch(s, part(self.normalized, ahead, first, width));
            let gain = s.splat(self.gain[feature]);
            let dy = vectors::<S, N>(s, part(self.dy, feature, first, width));
            let normalized = vectors::<S, N>(s, part(self.normalized, feature, first, width));
            for i in 0..N {
                let g = s.mul(gain, dy[i]);
                sums[i] = s.add(sums[i], g);
                products[i] = s.mul_add(g, normalized[i], products[i]);
            }
        }
        let mut scale = [0.0; STRIP];
        let kept = &self.scale[at.min(self.scale.len())..];
        scale[..kept.len()].copy_from_slice(kept);
        let scale = vectors::<S, N>(s, &scale);
        let (mean, along) = (means(s, sums, features), means(s, products, features));
        for feature in 0..features {
            let gain = s.splat(self.gain[feature]);
            let dy = vectors::<S, N>(s, part(self.dy, feature, first, width));
            let normalized = vectors::<S, N>(s, part(self.normalized, feature, first, width));
            let ahead = (feature + AHEAD).min(features - 1);
            fetch(s, &self.dx.row(ahead)[at..][..width]);
            fetch(s, &self.d_branch.row(ahead)[at..][..width]);
            let dx = &mut self.dx.row(feature)[at..][..width];
            let d_branch = &mut self.d_branch.row(feature)[at..][..width];
            for i in 0..N {
                let v = s.sub(s.sub(s.mul(gain, dy[i]), mean[i]), s.mul(normalized[i], along[i]));
                let v = s.mul(scale[i], v);
                write(s, &mut dx[i * S::LANES..], v);
                write(s, &mut d_branch[i * S::LANES..], v);
            }
            if let Some(mask) = self.mask {
                mask.apply(feature, first, d_branch);
            }
        }
    }
}

/// `d_gain[f] = dy[f] · normalized[f]` and `d_bias[f] = Σ dy[f]` for features from `first` on.
pub(super) struct Parameters<'a> {
    pub(super) dy: &'a Matrix,
    pub(super) normalized: &'a Matrix,
    pub(super) first: usize,
    pub(super) d_gain: &'a mut [f32],
    pub(super) d_bias: &'a mut [f32],
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
