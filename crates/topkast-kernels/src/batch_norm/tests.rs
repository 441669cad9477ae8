//! Tests of batch normalization against its formula in `f64`, and of its gradient against differences of that.

use super::*;
use crate::testing::*;

const EPSILON: f32 = 1e-5;

/// A point at which it is computed in `f64`.
#[derive(Clone)]
struct Point {
    x: Vec<Vec<f64>>,
    residual: Vec<Vec<f64>>,
    gain: Vec<f64>,
    bias: Vec<f64>,
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

fn rows(matrix: &Matrix) -> Vec<Vec<f64>> {
    (0..matrix.features()).map(|feature| wide(matrix.row(feature))).collect()
}

impl Point {
    fn moments(&self, feature: usize) -> (f64, f64) {
        let row = &self.x[feature];
        let count = row.len().max(1) as f64;
        let mean = row.iter().sum::<f64>() / count;
        (mean, row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count)
    }

    fn outputs(&self, feature: usize, relu: bool) -> Vec<f64> {
        let (mean, variance) = self.moments(feature);
        let scale = self.gain[feature] / (variance + f64::from(EPSILON)).sqrt();
        let sums = self.x[feature].iter().zip(&self.residual[feature]);
        let sums = sums.map(|(x, residual)| (x - mean) * scale + self.bias[feature] + residual);
        sums.map(|sum| if relu { sum.max(0.0) } else { sum }).collect()
    }

    /// Σ weights·y.
    fn objective(&self, weights: &[Vec<f64>], relu: bool) -> f64 {
        let row = |feature: usize| {
            self.outputs(feature, relu)
                .iter()
                .zip(&weights[feature])
                .map(|(y, weight)| y * weight)
                .sum::<f64>()
        };
        (0..self.x.len()).map(row).sum()
    }

    fn slope(&self, at: impl Fn(&mut Self) -> &mut f64, weights: &[Vec<f64>], relu: bool) -> f64 {
        let moved = |step: f64| {
            let mut point = self.clone();
            *at(&mut point) += step;
            point.objective(weights, relu)
        };
        (moved(1e-6) - moved(-1e-6)) / 2e-6
    }
}

fn close(got: f32, want: f64, tolerance: f64, place: &str) {
    let error = (f64::from(got) - want).abs();
    assert!(error <= tolerance * (1.0 + want.abs()), "{place}: {got} against {want}");
}

#[test]
fn outputs_and_gradients_are_the_formulas() {
    for (features, positions) in [(0, 3), (3, 0), (1, 1), (2, 15), (3, 16), (5, 17), (2, 33)] {
        let mut random = Random::new(1);
        let (x, residual) = (random.matrix(features, positions), random.matrix(features, positions));
        let (gain, bias) = (random.values(features), random.values(features));
        let weights = random.matrix(features, positions);
        let point = Point { x: rows(&x), residual: rows(&residual), gain: wide(&gain), bias: wide(&bias) };
        for isa in Isa::available() {
            for relu in [false, true] {
                let (mut mean, mut variance) = (vec![f32::NAN; features], vec![f32::NAN; features]);
                let mut y = random.matrix(features, positions);
                let own = Statistics::Batch { mean: &mut mean, variance: &mut variance };
                batch_norm(isa, &x, own, EPSILON, &gain, &bias, Some(&residual), relu, &mut y);
                let mut again = Matrix::default();
                let given = Statistics::Given { mean: &mean, variance: &variance };
                batch_norm(isa, &x, given, EPSILON, &gain, &bias, Some(&residual), relu, &mut again);
                assert_eq!(y, again);
                let mut dy = weights.clone();
                let (mut d_gain, mut d_bias) = (vec![f32::NAN; features], vec![f32::NAN; features]);
                let mut dx = random.matrix(features, positions);
                let rectified = relu.then_some(Rectified::Sum(&y));
                let statistics = [&mean[..], &variance[..]];
                let parameters = (&mut d_gain[..], &mut d_bias[..]);
                batch_norm_gradient(
                    isa,
                    &x,
                    statistics,
                    EPSILON,
                    &gain,
                    rectified,
                    &mut dy,
                    parameters.0,
                    parameters.1,
                    &mut dx,
                );
                let weights = rows(&weights);
                for feature in 0..features {
                    let (want_mean, want_variance) = point.moments(feature);
                    close(mean[feature], want_mean, 1e-6, "mean");
                    close(variance[feature], want_variance, 1e-6, "variance");
                    close(
                        d_gain[feature],
                        point.slope(|p| &mut p.gain[feature], &weights, relu),
                        1e-4,
                        "gain",
                    );
                    close(
                        d_bias[feature],
                        point.slope(|p| &mut p.bias[feature], &weights, relu),
                        1e-4,
                        "bias",
                    );
                    for (position, want) in point.outputs(feature, relu).into_iter().enumerate() {
                        close(y.get(feature, position), want, 1e-5, "y");
                        // With one position the outputs do not depend on x, and what is left is rounding times 1/√ε.
                        let of_x = point.slope(|p| &mut p.x[feature][position], &weights, relu);
                        close(dx.get(feature, position), of_x, 1e-3, "x");
                        let of_residual = point.slope(|p| &mut p.residual[feature][position], &weights, relu);
                        close(dy.get(feature, position), of_residual, 1e-4, "residual");
                    }
                }
            }
        }
    }
}

#[test]
fn a_large_mean_costs_no_digits() {
    let values: Vec<f32> = (0..1000).map(|at| 4096.0 + (at % 2) as f32).collect();
    let x = Matrix::from_rows(1, 1000, &values);
    let (mut mean, mut variance, mut y) = ([0.0], [0.0], Matrix::default());
    for isa in Isa::available() {
        let own = Statistics::Batch { mean: &mut mean, variance: &mut variance };
        batch_norm(isa, &x, own, 0.0, &[1.0], &[0.0], None, false, &mut y);
        assert_eq!((mean, variance), ([4096.5], [0.25]));
        assert_eq!(y.row(0)[..2], [-1.0, 1.0]);
    }
}

#[test]
fn threads_and_instruction_sets_do_not_show() {
    let mut random = Random::new(2);
    let (features, positions) = (37, 5000);
    let (x, dy) = (random.matrix(features, positions), random.matrix(features, positions));
    let (gain, bias) = (random.values(features), random.values(features));
    let compute = |isa| {
        let (mut mean, mut variance) = (vec![0.0; features], vec![0.0; features]);
        let (mut y, mut dx, mut dy) = (Matrix::default(), Matrix::default(), dy.clone());
        let (mut d_gain, mut d_bias) = (vec![0.0; features], vec![0.0; features]);
        let own = Statistics::Batch { mean: &mut mean, variance: &mut variance };
        batch_norm(isa, &x, own, EPSILON, &gain, &bias, None, true, &mut y);
        let statistics = [&mean[..], &variance[..]];
        batch_norm_gradient(
            isa,
            &x,
            statistics,
            EPSILON,
            &gain,
            Some(Rectified::Sum(&y)),
            &mut dy,
            &mut d_gain,
            &mut d_bias,
            &mut dx,
        );
        [y.padded(), dx.padded(), dy.padded(), &mean, &variance, &d_gain, &d_bias].concat()
    };
    assert_same_on_any_threads(compute);
    for isa in Isa::available() {
        assert_eq!(compute(isa), compute(Isa::portable()));
    }
}

#[test]
fn moments_of_what_is_not_a_number_are_none() {
    let x = Matrix::from_rows(1, 3, &[1.0, f32::NAN, 2.0]);
    let (mut mean, mut variance, mut y) = ([0.0], [0.0], Matrix::default());
    for isa in Isa::available() {
        let own = Statistics::Batch { mean: &mut mean, variance: &mut variance };
        batch_norm(isa, &x, own, EPSILON, &[1.0], &[0.0], None, false, &mut y);
        assert!(mean[0].is_nan() && variance[0].is_nan());
    }
}

#[test]
fn nan_passes_relu() {
    let x = Matrix::from_rows(1, 2, &[f32::NAN, 1.0]);
    let mut y = Matrix::default();
    for isa in Isa::available() {
        let given = Statistics::Given { mean: &[0.0], variance: &[1.0] };
        batch_norm(isa, &x, given, 0.0, &[1.0], &[0.0], None, true, &mut y);
        assert!(y.get(0, 0).is_nan() && y.get(0, 1) == 1.0);
    }
}

/// Where nothing is added, the norm's own sign tells what ReLU's output does.
#[test]
fn a_norm_alone_is_rectified_as_its_output_is() {
    for (features, positions) in [(0, 3), (3, 0), (1, 1), (2, 15), (3, 16), (5, 17), (2, 5000)] {
        let mut random = Random::new(3);
        let (x, dy) = (random.matrix(features, positions), random.matrix(features, positions));
        let (gain, bias) = (random.values(features), random.values(features));
        for isa in Isa::available() {
            let (mut mean, mut variance) = (vec![0.0; features], vec![0.0; features]);
            let mut y = Matrix::default();
            let own = Statistics::Batch { mean: &mut mean, variance: &mut variance };
            batch_norm(isa, &x, own, EPSILON, &gain, &bias, None, true, &mut y);
            let gradients = |rectified| {
                let (mut dx, mut dy) = (Matrix::default(), dy.clone());
                let (mut d_gain, mut d_bias) = (vec![f32::NAN; features], vec![f32::NAN; features]);
                let (of, of_bias) = (&mut d_gain[..], &mut d_bias[..]);
                let statistics = [&mean[..], &variance[..]];
                batch_norm_gradient(
                    isa, &x, statistics, EPSILON, &gain, rectified, &mut dy, of, of_bias, &mut dx,
                );
                (dx, d_gain, d_bias)
            };
            let [by_sign, by_output] =
                [Rectified::Norm(&bias), Rectified::Sum(&y)].map(|at| gradients(Some(at)));
            assert_eq!(by_sign, by_output);
            assert!(positions < 16 || by_sign != gradients(None));
        }
    }
}
