//! Batch normalization (Ioffe and Szegedy 2015): every feature to mean 0 and variance 1 over the batch's positions, then gain and
//! bias; with what follows it in a residual network: a sum and ReLU.
//!
//! A row is read for its moments and once more for the outputs: a row of maps fits the L2 cache, so that memory is read once. Sums
//! are in `f64`, in an order of their own, and so the same on every instruction set and any number of threads.

use crate::buffer::LINE;
use crate::chunks::{chunk_rows, for_each_chunk};
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

/// What ReLU took, where there was one: its gradient is zero where that was not positive.
#[derive(Clone, Copy, Debug)]
pub enum Rectified<'a> {
    /// The norm's output alone, which is computed again rather than read: with its bias.
    Norm(&'a [f32]),
    /// The sum with a residual: this is ReLU's output. `dy` becomes the gradient with respect to the sum, and so to the residual.
    Sum(&'a Matrix),
}

/// The gradient of [`batch_norm`] with the batch's own statistics, from `dy`, that with respect to `y`: `dx` with respect to `x`,
/// `d_gain` and `d_bias`.
///
/// # Panics
/// If `dy` or what was rectified has not the shape of `x`, or there is not one number of each kind for each feature.
#[allow(clippy::too_many_arguments)]
pub fn batch_norm_gradient(
    isa: Isa,
    x: &Matrix,
    [mean, variance]: [&[f32]; 2],
    epsilon: f32,
    gain: &[f32],
    rectified: Option<Rectified<'_>>,
    dy: &mut Matrix,
    d_gain: &mut [f32],
    d_bias: &mut [f32],
    dx: &mut Matrix,
) {
    let features = x.features();
    let (sum, bias) = match rectified {
        None => (None, None),
        Some(Rectified::Norm(bias)) => (None, Some(bias)),
        Some(Rectified::Sum(y)) => (Some(y), None),
    };
    for matrix in [Some(&*dy), sum].into_iter().flatten() {
        let shape = (matrix.features(), matrix.positions());
        assert_eq!(shape, (features, x.positions()), "the shapes must be the same");
    }
    let biases = bias.map_or(features, <[f32]>::len);
    let lengths = [mean.len(), variance.len(), gain.len(), biases, d_gain.len(), d_bias.len()];
    assert_eq!(lengths, [features; 6], "one number of each kind for each feature");
    dx.ensure(features, x.positions());
    let outputs = ((d_gain, d_bias), (dy.rows_mut(), dx.rows_mut()));
    for_each_chunk(outputs, chunk_rows(2 * x.stride()), &|first, ((d_gain, d_bias), (mut dy, mut dx))| {
        for (row, (d_gain, d_bias)) in d_gain.iter_mut().zip(d_bias).enumerate() {
            let feature = first + row;
            let deviation = (variance[feature] + epsilon).sqrt();
            let normal = Normal { mean: mean[feature], scale: gain[feature] / deviation };
            (*d_gain, *d_bias) = isa.run(Backward {
                x: x.row(feature),
                normal,
                deviation,
                bias: bias.map(|bias| bias[feature]),
                sum: sum.map(|y| y.row(feature)),
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
        // About one of them, so that large means cost no digits: its distance from the mean is among what the variance is made of.
        let about = f64::from(self.0.first().copied().unwrap_or(0.0));
        let mut sums = [[0.0; LINE]; 2];
        let (lines, rest) = self.0.as_chunks::<LINE>();
        for line in lines.iter().map(|line| &line[..]).chain([rest]) {
            let [distances, squares] = &mut sums;
            for ((distance, square), &x) in distances.iter_mut().zip(squares).zip(line) {
                let x = f64::from(x) - about;
                *distance += x;
                *square += x * x;
            }
        }
        let [distance, square] = sums.map(|sums| sums.iter().sum::<f64>() / count);
        let variance = square - distance * distance;
        // Rounding may leave a little less than nothing; NaN stays.
        ((about + distance) as f32, if variance < 0.0 { 0.0 } else { variance as f32 })
    }
}

/// What a row is normalised with.
#[derive(Clone, Copy)]
struct Normal {
    mean: f32,
    /// With the gain.
    scale: f32,
}

impl Normal {
    #[inline(always)]
    fn of(self, x: f32, bias: f32) -> f32 {
        (x - self.mean) * self.scale + bias
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
    normal: Normal,
    bias: f32,
    residual: Option<&'a [f32]>,
    relu: bool,
    y: &'a mut [f32],
}

impl<'a> Forward<'a> {
    fn row(&self, feature: usize, [mean, variance]: [f32; 2], y: &'a mut [f32]) -> ForwardRow<'a> {
        ForwardRow {
            x: self.x.row(feature),
            normal: Normal { mean, scale: self.gain[feature] / (variance + self.epsilon).sqrt() },
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
        let Self { x, normal, bias, residual, relu, y } = self;
        // NaN stays.
        let rectify = |sum: f32| if relu && sum < 0.0 { 0.0 } else { sum };
        match residual {
            Some(residual) => {
                for ((y, &x), &residual) in y.iter_mut().zip(x).zip(residual) {
                    *y = rectify(normal.of(x, bias) + residual);
                }
            }
            None => y.iter_mut().zip(x).for_each(|(y, &x)| *y = rectify(normal.of(x, bias))),
        }
    }
}

/// A row of the gradients.
struct Backward<'a> {
    x: &'a [f32],
    normal: Normal,
    /// √(variance + ε).
    deviation: f32,
    /// Of a norm whose output went through ReLU.
    bias: Option<f32>,
    /// What came out of ReLU after a sum.
    sum: Option<&'a [f32]>,
    dy: &'a mut [f32],
    dx: &'a mut [f32],
}

/// Elements of a row that stay in L1 while two walks need them.
const PART: usize = 2048;

impl Kernel for Backward<'_> {
    /// The gradients of gain and bias.
    type Output = (f32, f32);

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> (f32, f32) {
        let normal = self.normal;
        match self.bias {
            Some(bias) => self.gated(|dy, x| if normal.of(x, bias) > 0.0 { dy } else { 0.0 }),
            None => self.gated(|dy, _| dy),
        }
    }
}

impl Backward<'_> {
    /// `gate(dy, x)` is the gradient with respect to what ReLU took, where that is not a sum.
    #[inline(always)]
    fn gated(self, gate: impl Fn(f32, f32) -> f32) -> (f32, f32) {
        let Self { x, normal: Normal { mean, scale }, deviation, sum, dy, dx, .. } = self;
        let mut sums = [[0.0; LINE]; 2];
        for (number, (dy, x)) in dy.chunks_mut(PART).zip(x.chunks(PART)).enumerate() {
            if let Some(y) = sum {
                let y = &y[number * PART..];
                dy.iter_mut().zip(y).for_each(|(dy, &y)| *dy = if y > 0.0 { *dy } else { 0.0 });
            }
            let ((dys, last_dy), (xs, last_x)) = (dy.as_chunks::<LINE>(), x.as_chunks::<LINE>());
            let lines = dys.iter().map(|dy| &dy[..]).zip(xs.iter().map(|x| &x[..]));
            for (dy, x) in lines.chain([(last_dy, last_x)]) {
                let [along, total] = &mut sums;
                for (((along, total), &dy), &x) in along.iter_mut().zip(total).zip(dy).zip(x) {
                    let dy = f64::from(gate(dy, x));
                    *along += dy * f64::from(x - mean);
                    *total += dy;
                }
            }
        }
        let [along, total] = sums.map(|sums| sums.iter().sum::<f64>());
        let count = dy.len().max(1) as f64;
        let constant = (total / count) as f32;
        let slope = (along / count) as f32 / (deviation * deviation);
        for ((dx, &dy), &x) in dx.iter_mut().zip(&*dy).zip(x) {
            *dx = scale * (gate(dy, x) - constant - (x - mean) * slope);
        }
        ((along / f64::from(deviation)) as f32, total as f32)
    }
}

#[cfg(test)]
mod tests;
