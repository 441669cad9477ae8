//! Batch normalization (Ioffe and Szegedy 2015): every feature to mean 0 and variance 1 over the batch's positions, then gain and
//! bias; with what follows it in a residual network: a sum and ReLU.
//!
//! A row is read for its mean, for its variance about that, and once more for the outputs: a row of maps fits the L2 cache, so that
//! memory is read once. Sums are in `f64`, in an order of their own, and so the same on every instruction set and any
//! number of threads.

use crate::buffer::LINE;
use crate::chunks::{chunk_rows, for_each_chunk};
use crate::reduce::sum;
use crate::simd::Simd;
use crate::{Isa, Kernel, Matrix};

/// What features are normalised with: the mean of each and 1/√(variance + ε).
#[derive(Debug)]
pub enum Statistics<'a> {
    /// The batch's own, which are put here; `variance` is that of the batch, divided by the number of positions.
    Batch {
        /// One number for each feature.
        mean: &'a mut [f32],
        /// Likewise.
        variance: &'a mut [f32],
    },
    /// These, in evaluation.
    Given {
        /// One number for each feature.
        mean: &'a [f32],
        /// Likewise.
        variance: &'a [f32],
    },
}

/// `y = gain · (x − mean)/√(variance + ε) + bias`, plus `residual` where given, and negative sums zero with `relu`. `y` takes the
/// shape of `x` and is overwritten. Without positions, means and variances are 0.
///
/// # Panics
/// If there is not one gain, bias, mean and variance for each feature, or `residual` has not the shape of `x`.
#[allow(clippy::too_many_arguments)]
pub fn batch_norm(
    isa: Isa,
    x: &Matrix,
    statistics: Statistics<'_>,
    epsilon: f32,
    gain: &[f32],
    bias: &[f32],
    residual: Option<&Matrix>,
    relu: bool,
    y: &mut Matrix,
) {
    let (features, positions) = (x.features(), x.positions());
    assert_eq!([gain.len(), bias.len()], [features; 2], "one gain and bias for each feature");
    if let Some(residual) = residual {
        assert_eq!(
            (residual.features(), residual.positions()),
            (features, positions),
            "the shapes must be the same"
        );
    }
    y.ensure(features, positions);
    let rows = chunk_rows(x.stride());
    let forward = Forward { x, epsilon, gain, bias, residual, relu };
    match statistics {
        Statistics::Batch { mean, variance } => {
            assert_eq!([mean.len(), variance.len()], [features; 2], "one mean and variance for each feature");
            for_each_chunk(((&mut *mean, &mut *variance), y.rows_mut()), rows, &|first,
                                                                                 (
                (mean, variance),
                mut y,
            )| {
                for (row, (mean, variance)) in mean.iter_mut().zip(variance).enumerate() {
                    (*mean, *variance) = isa.run(Moments(x.row(first + row)));
                    isa.run(forward.row(first + row, [*mean, *variance], y.row_mut(row)));
                }
            });
        }
        Statistics::Given { mean, variance } => {
            assert_eq!([mean.len(), variance.len()], [features; 2], "one mean and variance for each feature");
            for_each_chunk(((mean, variance), y.rows_mut()), rows, &|first, ((mean, variance), mut y)| {
                for (row, (&mean, &variance)) in mean.iter().zip(variance).enumerate() {
                    isa.run(forward.row(first + row, [mean, variance], y.row_mut(row)));
                }
            });
        }
    }
}

/// The gradient of [`batch_norm`] with the batch's own statistics, from `dy`, that with respect to `y`: `dx` with respect to `x`,
/// `d_gain` and `d_bias`. Where there was a ReLU, `rectified` is its output, and `dy` becomes the gradient with respect to its input, which is
/// that with respect to the residual.
///
/// # Panics
/// If `dy` or `rectified` has not the shape of `x`, or there is not one number of each kind for each feature.
#[allow(clippy::too_many_arguments)]
pub fn batch_norm_gradient(
    isa: Isa,
    x: &Matrix,
    [mean, variance]: [&[f32]; 2],
    epsilon: f32,
    gain: &[f32],
    rectified: Option<&Matrix>,
    dy: &mut Matrix,
    d_gain: &mut [f32],
    d_bias: &mut [f32],
    dx: &mut Matrix,
) {
    let features = x.features();
    for matrix in [Some(&*dy), rectified].into_iter().flatten() {
        let shape = (matrix.features(), matrix.positions());
        assert_eq!(shape, (features, x.positions()), "the shapes must be the same");
    }
    let lengths = [mean.len(), variance.len(), gain.len(), d_gain.len(), d_bias.len()];
    assert_eq!(lengths, [features; 5], "one number of each kind for each feature");
    dx.ensure(features, x.positions());
    let outputs = ((d_gain, d_bias), (dy.rows_mut(), dx.rows_mut()));
    for_each_chunk(outputs, chunk_rows(2 * x.stride()), &|first, ((d_gain, d_bias), (mut dy, mut dx))| {
        for (row, (d_gain, d_bias)) in d_gain.iter_mut().zip(d_bias).enumerate() {
            let feature = first + row;
            (*d_gain, *d_bias) = isa.run(Backward {
                x: x.row(feature),
                mean: mean[feature],
                scale: 1.0 / (variance[feature] + epsilon).sqrt(),
                gain: gain[feature],
                rectified: rectified.map(|y| y.row(feature)),
                dy: dy.row_mut(row),
                dx: dx.row_mut(row),
            });
        }
    });
}

/// The mean and the variance of a row.
struct Moments<'a>(&'a [f32]);

impl Kernel for Moments<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> (f32, f32) {
        let count = self.0.len().max(1) as f64;
        let mean = sum(self.0, |x| x) / count;
        // About the exact mean: large means cost no digits.
        let squares = sum(self.0, |x| (x - mean) * (x - mean));
        (mean as f32, (squares / count) as f32)
    }
}

/// What all rows of the outputs have in common.
#[derive(Clone, Copy)]
struct Forward<'a> {
    x: &'a Matrix,
    epsilon: f32,
    gain: &'a [f32],
    bias: &'a [f32],
    residual: Option<&'a Matrix>,
    relu: bool,
}

/// A row of the outputs.
struct ForwardRow<'a> {
    x: &'a [f32],
    mean: f32,
    scale: f32,
    bias: f32,
    residual: Option<&'a [f32]>,
    relu: bool,
    y: &'a mut [f32],
}

impl<'a> Forward<'a> {
    fn row(&self, feature: usize, [mean, variance]: [f32; 2], y: &'a mut [f32]) -> ForwardRow<'a> {
        ForwardRow {
            x: self.x.row(feature),
            mean,
            scale: self.gain[feature] / (variance + self.epsilon).sqrt(),
            bias: self.bias[feature],
            residual: self.residual.map(|residual| residual.row(feature)),
            relu: self.relu,
            y,
        }
    }
}

impl Kernel for ForwardRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { x, mean, scale, bias, residual, relu, y } = self;
        let normal = |x: f32| (x - mean) * scale + bias;
        // NaN stays.
        let rectify = |sum: f32| if relu && sum < 0.0 { 0.0 } else { sum };
        match residual {
            Some(residual) => {
                for ((y, &x), &residual) in y.iter_mut().zip(x).zip(residual) {
                    *y = rectify(normal(x) + residual);
                }
            }
            None => y.iter_mut().zip(x).for_each(|(y, &x)| *y = rectify(normal(x))),
        }
    }
}

/// A row of the gradients.
struct Backward<'a> {
    x: &'a [f32],
    mean: f32,
    /// 1/√(variance + ε).
    scale: f32,
    gain: f32,
    rectified: Option<&'a [f32]>,
    dy: &'a mut [f32],
    dx: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    /// The gradients of gain and bias.
    type Output = (f32, f32);

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> (f32, f32) {
        let Self { x, mean, scale, gain, rectified, dy, dx } = self;
        if let Some(y) = rectified {
            dy.iter_mut().zip(y).for_each(|(dy, &y)| *dy = if y > 0.0 { *dy } else { 0.0 });
        }
        let mut along = [0.0; LINE];
        for (dy, x) in dy.chunks(LINE).zip(x.chunks(LINE)) {
            for ((along, &dy), &x) in along.iter_mut().zip(dy).zip(x) {
                *along += f64::from(dy) * f64::from(x - mean);
            }
        }
        let (along, total) = (along.iter().sum::<f64>(), sum(dy, |dy| dy));
        let count = dy.len().max(1) as f64;
        let factor = gain * scale;
        let constant = (total / count) as f32;
        let slope = (along / count) as f32 * scale * scale;
        for ((dx, &dy), &x) in dx.iter_mut().zip(&*dy).zip(x) {
            *dx = factor * (dy - constant - (x - mean) * slope);
        }
        ((along * f64::from(scale)) as f32, total as f32)
    }
}

#[cfg(test)]
mod tests;
