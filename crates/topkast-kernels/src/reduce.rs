//! Sums over rows and over slices.
//!
//! Sixteen `f64` sums run side by side over lines of sixteen floats and are added at the end in a fixed order, and so
//! are the sums of fixed chunks: the result is the same bits on every instruction set and any number of threads.

use crate::buffer::LINE;
use crate::chunks::{CHUNK, chunk_rows, combine_chunks, for_each_chunk};
use crate::simd::Simd;
use crate::{Isa, Kernel, Matrix};

/// `out[f] = Σₚ dy[f, p]`: the gradient of a bias.
///
/// # Panics
/// If `out` does not hold one number for each feature.
pub fn row_sums(isa: Isa, dy: &Matrix, out: &mut [f32]) {
    assert_eq!(out.len(), dy.features(), "one sum for each feature");
    for_each_chunk(out, chunk_rows(dy.stride()), &|first, out| isa.run(RowSums { dy, first, out }));
}

/// `Σ v²`, summed in `f64`, where it cannot overflow: it is finite exactly if every value is, so it also serves as
/// the check for NaN and infinities.
pub fn sum_of_squares(isa: Isa, values: &[f32]) -> f64 {
    combine_chunks(values, CHUNK, CHUNK, &|_, values| isa.run(SumOfSquares(values)), &|a, b| a + b)
}

struct RowSums<'a> {
    dy: &'a Matrix,
    first: usize,
    out: &'a mut [f32],
}

impl Kernel for RowSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let stride = self.dy.stride();
        for (row, out) in self.out.iter_mut().enumerate() {
            // With the padding, which is zero.
            let row = &self.dy.padded()[(self.first + row) * stride..][..stride];
            *out = sum(row, |x| x) as f32;
        }
    }
}

struct SumOfSquares<'a>(&'a [f32]);

impl Kernel for SumOfSquares<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> f64 {
        // The square of an f32 is exact in f64.
        sum(self.0, |x| x * x)
    }
}

/// The sum of the values' `term`s.
#[inline(always)]
pub(crate) fn sum(values: &[f32], term: impl Fn(f64) -> f64) -> f64 {
    let mut sums = [0.0; LINE];
    let (lines, rest) = values.as_chunks::<LINE>();
    for line in lines {
        for (sum, &x) in sums.iter_mut().zip(line) {
            *sum += term(f64::from(x));
        }
    }
    for (sum, &x) in sums.iter_mut().zip(rest) {
        *sum += term(f64::from(x));
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(len: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 7919) % 1009) as f32 * 0.01 - 5.0).collect()
    }

    #[test]
    fn row_sums_are_the_naive_ones() {
        for (features, positions) in
            [(0, 5), (3, 0), (1, 1), (15, 15), (16, 16), (17, 17), (33, 33), (40, 2000)]
        {
            let dy = Matrix::from_rows(features, positions, &sample(features * positions));
            for isa in Isa::available() {
                let mut out = vec![f32::NAN; features];
                row_sums(isa, &dy, &mut out);
                for (feature, sum) in out.into_iter().enumerate() {
                    let want: f64 = dy.row(feature).iter().map(|&x| f64::from(x)).sum();
                    assert!((f64::from(sum) - want).abs() <= 1e-7 * want.abs() + 1e-9);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_sum_of_squares_is_the_same_bits_everywhere(
            len in prop::sample::select(vec![0usize, 1, 15, 16, 17, 1000, 40000, 70001]),
            threads in 1usize..5,
        ) {
            let values = sample(len);
            let want: f64 = values.iter().map(|&x| f64::from(x).powi(2)).sum();
            let portable = sum_of_squares(Isa::portable(), &values);
            prop_assert!((portable - want).abs() <= 1e-12 * want);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for isa in Isa::available() {
                let sum = pool.install(|| sum_of_squares(isa, &values));
                prop_assert_eq!(sum.to_bits(), portable.to_bits());
            }
        }
    }

    #[test]
    fn the_sum_of_squares_is_finite_exactly_if_every_value_is() {
        for isa in Isa::available() {
            let mut values = vec![f32::MAX; 40_000];
            assert!(sum_of_squares(isa, &values).is_finite());
            for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                values[39_999] = odd;
                assert!(!sum_of_squares(isa, &values).is_finite());
            }
        }
    }
}
