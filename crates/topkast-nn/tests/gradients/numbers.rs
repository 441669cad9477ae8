//! Random numbers, comparisons and derivatives.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use topkast_kernels::{Buffer, Matrix};

/// Half the distance over which the f64 forward is differenced.
const STEP: f64 = 1e-6;

/// How far f32 may be from f64, relative to 1 + |value|: sums of up to 33 terms of size about 1.
const TOLERANCE: f64 = 1e-5;

/// The derivative of `objective` with respect to the number that `at` picks.
pub(crate) fn slope<T: Clone>(
    point: &T,
    at: impl Fn(&mut T) -> &mut f64,
    objective: impl Fn(&T) -> f64,
) -> f64 {
    let shifted = |shift| {
        let mut point = point.clone();
        *at(&mut point) += shift;
        objective(&point)
    };
    (shifted(STEP) - shifted(-STEP)) / (2.0 * STEP)
}

pub(crate) fn assert_close(got: f32, want: f64, place: &str) {
    let error = (f64::from(got) - want).abs();
    assert!(error <= TOLERANCE * (1.0 + want.abs()), "{place}: {got} against {want}");
}

pub(crate) fn assert_all_close(got: &[f32], want: &[f64], place: &str) {
    assert_eq!(got.len(), want.len(), "{place}");
    got.iter().zip(want).enumerate().for_each(|(at, (&got, &want))| {
        assert_close(got, want, &format!("{place}, entry {at}"));
    });
}

pub(crate) fn random_matrix(features: usize, positions: usize, random: &mut ChaCha8Rng) -> Matrix {
    let values: Vec<f32> = (0..features * positions).map(|_| random.random::<f32>() * 2.0 - 1.0).collect();
    Matrix::from_rows(features, positions, &values)
}

/// The columns of `x`: position by position.
pub(crate) fn columns(x: &Matrix) -> Vec<Vec<f64>> {
    let column = |position| (0..x.features()).map(|feature| f64::from(x.get(feature, position))).collect();
    (0..x.positions()).map(column).collect()
}

pub(crate) fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

pub(crate) fn fill_random(values: &mut Buffer, random: &mut ChaCha8Rng) {
    values.iter_mut().for_each(|value| *value = random.random::<f32>() - 0.5);
}
