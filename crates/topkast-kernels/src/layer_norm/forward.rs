//! Layer normalization's outputs.

use super::{AHEAD, EPSILON, STRIP, Strip, each_panel, fetch, means, part, vectors};
use crate::columns::ColumnsMut;
use crate::dropout::Mask;
use crate::lanes::{read, write};
use crate::simd::Simd;
use crate::{Kernel, Matrix};

/// At most [`STRIP`] positions from `start` on, all features.
pub(super) struct Forward<'a> {
    pub(super) x: &'a Matrix,
    pub(super) branch: &'a Matrix,
    pub(super) mask: Option<Mask>,
    pub(super) gain: &'a [f32],
    pub(super) bias: &'a [f32],
    pub(super) start: usize,
    pub(super) scale: &'a mut [f32],
    pub(super) normalized: ColumnsMut<'a>,
    pub(super) y: ColumnsMut<'a>,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let width = self.normalized.width();
        each_panel(s, width, &mut self);
        // The bias must not get into the padding.
        let kept = self.scale.len();
        (0..self.gain.len()).for_each(|feature| self.y.row(feature)[kept..].fill(0.0));
    }
}

impl Strip for Forward<'_> {
    #[inline(always)]
    fn panel<S: Simd, const N: usize>(&mut self, s: S, at: usize) {
        let (width, features) = (N * S::LANES, self.gain.len());
        let mean = means(s, self.add_branch::<S, N>(s, at), features);

        let [rest, scale] = self.spread::<S, N>(s, at, &mean);
        for feature in 0..features {
            let ahead = (feature + AHEAD).min(features - 1);
            fetch(s, &self.y.row(ahead)[at..][..width]);
            let (gain, bias) = (s.splat(self.gain[feature]), s.splat(self.bias[feature]));
            let normalized = &mut self.normalized.row(feature)[at..][..width];
            let y = &mut self.y.row(feature)[at..][..width];
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
        let positions = self.scale.len();
        let kept = &mut self.scale[at.min(positions)..positions.min(at + width)];
        kept.copy_from_slice(&scales[..kept.len()]);
    }
}

impl Forward<'_> {
    /// Of the sums less `mean`: their means, and 1/√(variance + ε).
    #[inline(always)]
    fn spread<S: Simd, const N: usize>(
        &mut self,
        s: S,
        at: usize,
        mean: &[S::Vector; N],
    ) -> [[S::Vector; N]; 2] {
        let (width, features) = (N * S::LANES, self.gain.len());
        let (mut sums, mut squares) = ([s.splat(0.0); N], [s.splat(0.0); N]);
        for feature in 0..features {
            let sum = vectors::<S, N>(s, &self.normalized.row(feature)[at..][..width]);
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
        [rest, scale]
    }

    /// Puts `x + dropout(branch)` into `normalized`; returns the sums over the features.
    #[inline(always)]
    fn add_branch<S: Simd, const N: usize>(&mut self, s: S, at: usize) -> [S::Vector; N] {
        let (width, first) = (N * S::LANES, self.start + at);
        let mut sums = [s.splat(0.0); N];
        let mut dropped = [0.0; STRIP];
        let features = self.gain.len();
        for feature in 0..features {
            let ahead = (feature + AHEAD).min(features - 1);
            fetch(s, part(self.x, ahead, first, width));
            fetch(s, part(self.branch, ahead, first, width));
            fetch(s, &self.normalized.row(ahead)[at..][..width]);
            let x = part(self.x, feature, first, width);
            let mut branch = part(self.branch, feature, first, width);
            if let Some(mask) = self.mask {
                dropped[..width].copy_from_slice(branch);
                mask.apply(feature, first, &mut dropped[..width]);
                branch = &dropped[..width];
            }
            let sum = &mut self.normalized.row(feature)[at..][..width];
            let (x, branch) = (vectors::<S, N>(s, x), vectors::<S, N>(s, branch));
            for i in 0..N {
                let v = s.add(x[i], branch[i]);
                write(s, &mut sum[i * S::LANES..], v);
                sums[i] = s.add(sums[i], v);
            }
        }
        sums
    }
}
