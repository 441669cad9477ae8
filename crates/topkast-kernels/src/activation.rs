//! Activation functions and their gradients, the bias of a layer, and the sum of two activations.
//!
//! All but the bias run over the padding too: ReLU and GELU are 0 at 0 and their gradients are products with `dy`, so
//! that the padding stays zero. Work is split into fixed chunks; every element is computed on its own.

use crate::chunks::{CHUNK, chunk_rows, for_each_chunk};
use crate::lanes::{read, update, write};
use crate::math::normal;
use crate::simd::Simd;
use crate::{Isa, Kernel, Matrix};

/// `x = max(x, 0)`; NaN stays NaN.
pub fn relu(isa: Isa, x: &mut Matrix) {
    for_each_chunk(x.padded_mut(), CHUNK, &|_, x| isa.run(Relu(x)));
}

/// The gradient of [`relu`]: `dy` is multiplied by 0 where `y`, the output of [`relu`], is not above 0 (or is NaN),
/// else by 1.
///
/// # Panics
/// If the shapes differ.
pub fn relu_gradient(isa: Isa, y: &Matrix, dy: &mut Matrix) {
    same_shape(y, dy);
    for_each_chunk((dy.padded_mut(), y.padded()), CHUNK, &|_, (dy, y)| isa.run(ReluGradient(y, dy)));
}

/// `y = pre·Φ(pre)`, the exact GELU (Hendrycks and Gimpel 2016) with Φ the normal distribution function, not its
/// tanh approximation; within 1e-7 of it relative to `|pre|`.
///
/// # Panics
/// If the shapes differ.
pub fn gelu(isa: Isa, pre: &Matrix, y: &mut Matrix) {
    same_shape(pre, y);
    for_each_chunk((y.padded_mut(), pre.padded()), CHUNK, &|_, (y, pre)| isa.run(Gelu(pre, y)));
}

/// The gradient of [`gelu`] at its input `pre`: `dy` is multiplied by `Φ(pre) + pre·φ(pre)`.
///
/// # Panics
/// If the shapes differ.
pub fn gelu_gradient(isa: Isa, pre: &Matrix, dy: &mut Matrix) {
    same_shape(pre, dy);
    for_each_chunk((dy.padded_mut(), pre.padded()), CHUNK, &|_, (dy, pre)| isa.run(GeluGradient(pre, dy)));
}

/// Adds `bias[f]` to every position of feature `f`.
///
/// # Panics
/// If there is not one bias for each feature.
pub fn add_bias(isa: Isa, bias: &[f32], y: &mut Matrix) {
    assert_eq!(bias.len(), y.features(), "one bias for each feature");
    let (positions, stride) = (y.positions(), y.stride());
    if positions == 0 {
        return;
    }
    for_each_chunk(y.padded_mut(), chunk_rows(stride) * stride, &|start, rows| {
        isa.run(AddBias { bias: &bias[start / stride..], rows, positions, stride });
    });
}

/// `y += term`.
///
/// # Panics
/// If the shapes differ.
pub fn add(isa: Isa, term: &Matrix, y: &mut Matrix) {
    same_shape(term, y);
    for_each_chunk((y.padded_mut(), term.padded()), CHUNK, &|_, (y, term)| isa.run(Add(term, y)));
}

/// GELU of a vector.
#[inline(always)]
pub(crate) fn gelu_vector<S: Simd>(s: S, v: S::Vector) -> S::Vector {
    s.mul(v, normal(s, v).0)
}

/// The derivative of GELU at each lane of `pre`.
#[inline(always)]
pub(crate) fn gelu_slope<S: Simd>(s: S, pre: S::Vector) -> S::Vector {
    let (below, density) = normal(s, pre);
    s.mul_add(pre, density, below)
}

fn same_shape(a: &Matrix, b: &Matrix) {
    assert_eq!((a.features(), a.positions()), (b.features(), b.positions()), "the shapes must be the same");
}

struct Relu<'a>(&'a mut [f32]);

impl Kernel for Relu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for x in self.0.chunks_exact_mut(S::LANES) {
            // In this order, for `max` gives its second argument if one is NaN.
            let v = s.max(s.splat(0.0), read(s, x));
            write(s, x, v);
        }
    }
}

struct ReluGradient<'a>(&'a [f32], &'a mut [f32]);

impl Kernel for ReluGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (zero, one) = (s.splat(0.0), s.splat(1.0));
        // Not a choice between `dy` and 0: compilers make that a masked store, which is slow on AVX2.
        update(s, self.0, self.1, |y, dy| s.mul(dy, s.select_greater(y, zero, one, zero)));
    }
}

struct Gelu<'a>(&'a [f32], &'a mut [f32]);

impl Kernel for Gelu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        update(s, self.0, self.1, |pre, _| gelu_vector(s, pre));
    }
}

struct GeluGradient<'a>(&'a [f32], &'a mut [f32]);

impl Kernel for GeluGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        update(s, self.0, self.1, |pre, dy| s.mul(dy, gelu_slope(s, pre)));
    }
}

struct Add<'a>(&'a [f32], &'a mut [f32]);

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        update(s, self.0, self.1, |term, y| s.add(term, y));
    }
}

struct AddBias<'a> {
    bias: &'a [f32],
    rows: &'a mut [f32],
    positions: usize,
    stride: usize,
}

impl Kernel for AddBias<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (row, &bias) in self.rows.chunks_exact_mut(self.stride).zip(self.bias) {
            row[..self.positions].iter_mut().for_each(|y| *y += bias);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::tests::normal_f64;

    const SIZES: [usize; 6] = [0, 1, 15, 16, 17, 33];

    fn gelu_f64(x: f64) -> f64 {
        x * normal_f64(x)
    }

    /// Some of every sign, with exact zeros.
    fn sample(features: usize, positions: usize, seed: usize) -> Matrix {
        let value = |i: usize| ((i * 37 + seed * 11) % 101) as f32 * 0.1 - 5.0;
        Matrix::from_rows(features, positions, &(0..features * positions).map(value).collect::<Vec<_>>())
    }

    fn padding_is_zero(x: &Matrix) -> bool {
        let rows = x.padded().chunks(x.stride().max(1));
        rows.into_iter().all(|row| row[x.positions()..].iter().all(|&x| x == 0.0))
    }

    /// On every instruction set and shape, `kernel(isa, x, y)` must leave `twin(feature, x, y)` in `y`.
    fn check(
        tolerance: f64,
        kernel: impl Fn(Isa, &Matrix, &mut Matrix),
        twin: impl Fn(usize, f64, f64) -> f64,
    ) {
        let shapes = SIZES.iter().flat_map(|&f| SIZES.map(|p| (f, p))).chain([(70, 1000)]);
        for (features, positions) in shapes {
            for isa in Isa::available() {
                let (x, before) = (sample(features, positions, 1), sample(features, positions, 2));
                let mut y = before.clone();
                kernel(isa, &x, &mut y);
                assert!(padding_is_zero(&y));
                for f in 0..features {
                    for p in 0..positions {
                        let want = twin(f, x.get(f, p).into(), before.get(f, p).into());
                        let error = (f64::from(y.get(f, p)) - want).abs();
                        assert!(error <= tolerance, "{isa:?} {features}×{positions} at {f}, {p}: {error:e}");
                    }
                }
            }
        }
    }

    #[test]
    fn relu_is_its_twin() {
        check(0.0, |isa, _, y| relu(isa, y), |_, _, y| y.max(0.0));
        check(0.0, relu_gradient, |_, y, dy| if y <= 0.0 { 0.0 } else { dy });
    }

    #[test]
    fn gelu_is_its_twin() {
        check(5e-7, gelu, |_, x, _| gelu_f64(x));
        let difference = |x: f64| (gelu_f64(x + 1e-5) - gelu_f64(x - 1e-5)) / 2e-5;
        check(2e-6, gelu_gradient, |_, x, dy| dy * difference(x));
    }

    #[test]
    fn a_bias_is_added_to_its_feature() {
        let bias: Vec<f32> = (0..70).map(|f| f as f32 * 0.5 - 9.0).collect();
        check(
            1e-6,
            |isa, _, y| add_bias(isa, &bias[..y.features()], y),
            |feature, _, y| y + f64::from(bias[feature]),
        );
    }

    #[test]
    fn matrices_are_added() {
        check(0.0, add, |_, term, y| f64::from(term as f32 + y as f32));
    }

    #[test]
    fn nan_stays() {
        let nan = Matrix::from_rows(1, 1, &[f32::NAN]);
        for isa in Isa::available() {
            let mut y = nan.clone();
            relu(isa, &mut y);
            assert!(y.get(0, 0).is_nan());
            let mut dy = Matrix::from_rows(1, 1, &[2.0]);
            relu_gradient(isa, &nan, &mut dy);
            assert_eq!(dy.get(0, 0), 0.0);
            gelu(isa, &nan, &mut y);
            assert!(y.get(0, 0).is_nan());
            let mut dy = Matrix::from_rows(1, 1, &[2.0]);
            gelu_gradient(isa, &nan, &mut dy);
            assert!(dy.get(0, 0).is_nan());
        }
    }

    #[test]
    #[should_panic(expected = "the shapes must be the same")]
    fn shapes_must_agree() {
        gelu(Isa::portable(), &Matrix::zeros(2, 3), &mut Matrix::zeros(3, 2));
    }
}
