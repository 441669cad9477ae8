//! Dropout whose mask is computed, not stored: whether an element stays is a hash of the key and where it stands.
//!
//! Each feature gets 64 bits from a finalizer of good avalanche (SplitMix64's) over the key and its number; its
//! positions are then mixed with them by two multiply–xorshift rounds in 32 bits, with half of the key before each, so
//! that two features never walk the same sequence at an offset.

use crate::chunks::{chunk_rows, for_each_chunk};
use crate::simd::Simd;
use crate::{Isa, Kernel, Matrix};

/// Sets each element to zero with probability `rate` and multiplies the others by `1 / (1 − rate)`.
///
/// The mask is a function of `key`, feature and position alone, so applying it to the gradient with the same key is
/// the backward pass. A dropped NaN becomes zero. Use another key for every layer and step.
///
/// # Panics
/// If `rate` is outside `0 ≤ rate < 1`.
pub fn dropout(isa: Isa, key: u64, rate: f32, x: &mut Matrix) {
    let stride = x.stride();
    let Some(mask) = Mask::new(key, rate).filter(|_| stride > 0) else { return };
    for_each_chunk(x.padded_mut(), chunk_rows(stride) * stride, &|start, rows| {
        // The padding too: zero stays zero.
        isa.run(Dropout { mask, first: [start / stride, 0], rows, stride });
    });
}

/// Drops out rows that are `stride` long, of which the first begins at this feature and position.
pub(crate) struct Dropout<'a> {
    pub(crate) mask: Mask,
    pub(crate) first: [usize; 2],
    pub(crate) rows: &'a mut [f32],
    pub(crate) stride: usize,
}

impl Kernel for Dropout<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (row, x) in self.rows.chunks_exact_mut(self.stride).enumerate() {
            self.mask.apply(self.first[0] + row, self.first[1], x);
        }
    }
}

/// What stays of a matrix, for kernels that drop out as they go.
#[derive(Clone, Copy)]
pub(crate) struct Mask {
    key: u64,
    threshold: u32,
    scale: f32,
}

impl Mask {
    /// The mask of [`dropout`]; none where everything stays.
    ///
    /// # Panics
    /// If `rate` is outside `0 ≤ rate < 1`.
    pub(crate) fn new(key: u64, rate: f32) -> Option<Self> {
        assert!((0.0..1.0).contains(&rate), "a dropout rate must be at least 0 and below 1");
        // Below 2³², for the largest rate is 1 − 2⁻²⁴.
        let threshold = (f64::from(rate) * 2f64.powi(32)) as u32;
        (rate > 0.0).then_some(Self { key, threshold, scale: 1.0 / (1.0 - rate) })
    }

    /// Drops out some neighbouring positions of a feature, of which `first` is the first.
    #[inline(always)]
    pub(crate) fn apply(self, feature: usize, first: usize, x: &mut [f32]) {
        let bits = feature_bits(self.key, feature as u64);
        let (low, high) = (bits as u32, (bits >> 32) as u32);
        for (position, x) in x.iter_mut().enumerate() {
            let kept = position_bits(low, high, (first + position) as u32) >= self.threshold;
            *x = if kept { *x * self.scale } else { 0.0 };
        }
    }
}

#[inline(always)]
fn feature_bits(key: u64, feature: u64) -> u64 {
    let mut x = key;
    for add in [feature, 0] {
        x = x.wrapping_add(add).wrapping_add(0x9E37_79B9_7F4A_7C15);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^= x >> 31;
    }
    x
}

#[inline(always)]
fn position_bits(low: u32, high: u32, position: u32) -> u32 {
    let x = position ^ low;
    let x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D) ^ high;
    let x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ones(features: usize, positions: usize) -> Matrix {
        Matrix::from_rows(features, positions, &vec![1.0; features * positions])
    }

    fn kept(key: u64, rate: f32, features: usize, positions: usize) -> Vec<bool> {
        let mut x = ones(features, positions);
        dropout(Isa::available()[0], key, rate, &mut x);
        (0..features).flat_map(|f| x.row(f).iter().map(|&x| x != 0.0).collect::<Vec<_>>()).collect()
    }

    /// How many of `n` are true, in standard deviations from `n × p`.
    fn deviation(hits: usize, n: usize, p: f64) -> f64 {
        (hits as f64 - n as f64 * p) / (n as f64 * p * (1.0 - p)).sqrt()
    }

    #[test]
    fn every_isa_and_shape_computes_the_scalar_mask() {
        for positions in [0, 1, 15, 16, 17, 33, 5000] {
            for isa in Isa::available() {
                let mut x = ones(33, positions);
                dropout(isa, 7, 0.3, &mut x);
                for feature in 0..33 {
                    let bits = feature_bits(7, feature as u64);
                    for position in 0..positions {
                        let hash = position_bits(bits as u32, (bits >> 32) as u32, position as u32);
                        let kept = f64::from(hash) >= (f64::from(0.3f32) * 2f64.powi(32)).floor();
                        let want = if kept { 1.0 / (1.0 - 0.3) } else { 0.0 };
                        assert_eq!(x.get(feature, position), want);
                    }
                }
                let sum: f32 = (0..33).flat_map(|f| x.row(f)).sum();
                let padded: f32 = x.padded().iter().sum();
                assert!((sum - padded).abs() <= 1e-5 * sum);
            }
        }
    }

    #[test]
    fn the_mask_does_not_depend_on_threads_or_other_features() {
        let many = ones(300, 1000);
        let run = |threads: usize| {
            let mut x = many.clone();
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| dropout(Isa::available()[0], 3, 0.5, &mut x));
            x
        };
        assert_eq!(run(1), run(4));
        let mut few = ones(2, 20);
        dropout(Isa::available()[0], 3, 0.5, &mut few);
        assert_eq!(few.row(1), &run(1).row(1)[..20]);
    }

    #[test]
    fn the_rate_holds_overall_by_feature_and_by_position() {
        for rate in [0.01f32, 0.1, 0.5, 0.9] {
            let p = 1.0 - f64::from(rate);
            let (features, positions) = (500, 800);
            let mask = kept(11, rate, features, positions);
            let all = mask.iter().filter(|&&kept| kept).count();
            assert!(deviation(all, mask.len(), p).abs() < 4.0);
            // Over many features the squared deviations average to 1: neither clumped nor regular.
            let squares = |counts: Vec<usize>, n: usize| {
                let count = counts.len() as f64;
                counts.into_iter().map(|hits| deviation(hits, n, p).powi(2)).sum::<f64>() / count
            };
            let rows = mask.chunks(positions).map(|row| row.iter().filter(|&&kept| kept).count()).collect();
            let columns = (0..positions).map(|c| (0..features).filter(|f| mask[f * positions + c]).count());
            assert!((squares(rows, positions) - 1.0).abs() < 0.3);
            assert!((squares(columns.collect(), features) - 1.0).abs() < 0.3);
        }
    }

    #[test]
    fn keys_neighbours_and_features_are_independent() {
        let n = 400 * 1000;
        let mask = kept(1, 0.5, 400, 1000);
        let agree = |other: &[bool]| mask.iter().zip(other).filter(|(a, b)| a == b).count();
        for other in [0, 2, 3, 1 << 32, 1 | 1 << 63] {
            assert!(deviation(agree(&kept(other, 0.5, 400, 1000)), n, 0.5).abs() < 4.5, "key {other}");
        }
        for shift in [1, 2, 3, 16, 64, 999, 1000, 1001, 2000] {
            let hits = agree(&mask[shift..]);
            assert!(deviation(hits, n - shift, 0.5).abs() < 4.5, "shift {shift}");
        }
    }

    #[test]
    fn rate_zero_changes_nothing_and_the_mean_is_kept() {
        let mut x = ones(10, 17);
        dropout(Isa::available()[0], 5, 0.0, &mut x);
        assert_eq!(x, ones(10, 17));
        let mut x = ones(300, 1000);
        dropout(Isa::available()[0], 5, 0.25, &mut x);
        assert!((x.padded().iter().map(|&x| f64::from(x)).sum::<f64>() / 3e5 - 1.0).abs() < 0.005);
    }

    #[test]
    #[should_panic(expected = "dropout rate")]
    fn rate_one_is_refused() {
        dropout(Isa::portable(), 0, 1.0, &mut ones(1, 1));
    }
}
