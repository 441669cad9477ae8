use super::*;
use crate::dropout;
use crate::testing::*;

/// A point at which layer normalization is computed in `f64`: `x`, the branch, gain and bias.
#[derive(Clone)]
struct Point {
    x: Vec<Vec<f64>>,
    branch: Vec<Vec<f64>>,
    gain: Vec<f64>,
    bias: Vec<f64>,
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

fn rows(matrix: &Matrix) -> Vec<Vec<f64>> {
    (0..matrix.features()).map(|feature| wide(matrix.row(feature))).collect()
}

/// What dropout multiplies each element by.
fn factors(features: usize, positions: usize, chance: Option<(u64, f32)>) -> Matrix {
    let mut factors = Matrix::from_rows(features, positions, &vec![1.0; features * positions]);
    if let Some((key, rate)) = chance {
        dropout(Isa::portable(), key, rate, &mut factors);
    }
    factors
}

/// Normalized sums and 1/√(var + ε), from the formula's words.
fn twin(point: &Point, factors: &Matrix) -> (Vec<Vec<f64>>, Vec<f64>) {
    let features = point.gain.len();
    let mut normalized = vec![vec![0.0; factors.positions()]; features];
    let scale = (0..factors.positions()).map(|p| {
        let sum = |f: usize| point.x[f][p] + point.branch[f][p] * f64::from(factors.get(f, p));
        let mean = (0..features).map(sum).sum::<f64>() / features as f64;
        let variance = (0..features).map(|f| (sum(f) - mean).powi(2)).sum::<f64>() / features as f64;
        let scale = 1.0 / (variance + 1e-5).sqrt();
        (0..features).for_each(|f| normalized[f][p] = (sum(f) - mean) * scale);
        scale
    });
    let scale = scale.collect();
    (normalized, scale)
}

/// Σ weights·y.
fn objective(point: &Point, factors: &Matrix, weights: &[Vec<f64>]) -> f64 {
    let (normalized, _) = twin(point, factors);
    let row = |f: usize| {
        let y = normalized[f].iter().map(move |n| n * point.gain[f] + point.bias[f]);
        y.zip(&weights[f]).map(|(y, weight)| y * weight).sum::<f64>()
    };
    (0..point.gain.len()).map(row).sum()
}

fn slope(point: &Point, at: impl Fn(&mut Point) -> &mut f64, objective: impl Fn(&Point) -> f64) -> f64 {
    let moved = |step: f64| {
        let mut point = point.clone();
        *at(&mut point) += step;
        objective(&point)
    };
    (moved(1e-6) - moved(-1e-6)) / 2e-6
}

fn padding_is_zero(matrix: &Matrix) -> bool {
    let rows = matrix.padded().chunks(matrix.stride().max(1));
    rows.into_iter().all(|row| row[matrix.positions()..].iter().all(|x| x.to_bits() == 0))
}

fn close(got: f32, want: f64, tolerance: f64, place: &str) {
    let error = (f64::from(got) - want).abs();
    assert!(error <= tolerance * (1.0 + want.abs()), "{place}: {got} against {want}");
}

struct Case {
    x: Matrix,
    branch: Matrix,
    gain: Vec<f32>,
    bias: Vec<f32>,
    dropout: Option<(u64, f32)>,
}

impl Case {
    fn new(features: usize, positions: usize, rate: f32, offset: f32, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut x = random.matrix(features, positions);
        (0..features).for_each(|f| x.row_mut(f).iter_mut().for_each(|x| *x += offset));
        Self {
            x,
            branch: random.matrix(features, positions),
            gain: random.values(features),
            bias: random.values(features),
            dropout: Some((seed, rate)).filter(|_| rate > 0.0),
        }
    }

    fn point(&self) -> Point {
        let (x, branch) = (rows(&self.x), rows(&self.branch));
        Point { x, branch, gain: wide(&self.gain), bias: wide(&self.bias) }
    }

    fn factors(&self) -> Matrix {
        factors(self.x.features(), self.x.positions(), self.dropout)
    }

    /// `normalized`, `scale` and y.
    fn forward(&self, isa: Isa) -> (Matrix, Vec<f32>, Matrix) {
        // What was there before must not show.
        let (mut normalized, mut scale, mut y) = (self.branch.clone(), vec![7.0; 3], self.branch.clone());
        let Self { x, branch, gain, bias, dropout } = self;
        layer_norm(isa, x, branch, *dropout, gain, bias, &mut normalized, &mut scale, &mut y);
        assert!(padding_is_zero(&normalized) && padding_is_zero(&y));
        (normalized, scale, y)
    }

    /// dx, that of the branch, of gain and bias.
    fn backward(&self, isa: Isa, dy: &Matrix) -> (Matrix, Matrix, Vec<f32>, Vec<f32>) {
        let (normalized, scale, _) = self.forward(isa);
        let (mut dx, mut d_branch) = (self.x.clone(), self.x.clone());
        let (mut d_gain, mut d_bias) = (self.gain.clone(), self.bias.clone());
        layer_norm_gradient(
            isa,
            dy,
            &normalized,
            &scale,
            &self.gain,
            self.dropout,
            &mut dx,
            &mut d_branch,
            &mut d_gain,
            &mut d_bias,
        );
        assert!(padding_is_zero(&dx) && padding_is_zero(&d_branch));
        (dx, d_branch, d_gain, d_bias)
    }
}

#[test]
fn outputs_are_the_twins() {
    for positions in [0, 1, 15, 16, 17, 33, 64, 65, 130, 256] {
        for features in [1, 2, 15, 16, 17, 33, 300] {
            for rate in [0.0, 0.3] {
                let case = Case::new(features, positions, rate, 0.5, 3);
                let (normalized, scale) = twin(&case.point(), &case.factors());
                for isa in Isa::available() {
                    let got = case.forward(isa);
                    let place = format!("{isa:?}, {features} × {positions}, {rate}");
                    assert_eq!(got.1.len(), positions);
                    for p in 0..positions {
                        close(got.1[p] / scale[p] as f32, 1.0, 1e-6 + 1e-9 * scale[p].powi(2), &place);
                        // What rounding of a sum does to one whose features are nearly the same.
                        let tolerance = 2e-6 + 2e-7 * scale[p];
                        for (f, want) in normalized.iter().enumerate() {
                            let want = want[p];
                            close(got.0.get(f, p), want, tolerance, &place);
                            let want = want * f64::from(case.gain[f]) + f64::from(case.bias[f]);
                            close(got.2.get(f, p), want, tolerance, &place);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn gradients_are_the_differences() {
    for (features, positions, rate) in
        [(1, 1, 0.0), (2, 17, 0.0), (5, 3, 0.3), (17, 16, 0.0), (16, 33, 0.5), (33, 65, 0.1)]
    {
        let case = Case::new(features, positions, rate, -0.2, 8);
        let (point, factors) = (case.point(), case.factors());
        let dy = Random::new(9).matrix(features, positions);
        let weights = rows(&dy);
        let slope = |at: &dyn Fn(&mut Point) -> &mut f64| {
            slope(&point, at, |point| objective(point, &factors, &weights))
        };
        for isa in Isa::available() {
            let (dx, d_branch, d_gain, d_bias) = case.backward(isa, &dy);
            let place = format!("{isa:?}, {features} × {positions}, {rate}");
            for f in 0..features {
                close(d_gain[f], slope(&|point| &mut point.gain[f]), 1e-5, &place);
                close(d_bias[f], slope(&|point| &mut point.bias[f]), 1e-5, &place);
                for p in 0..positions {
                    close(dx.get(f, p), slope(&|point| &mut point.x[f][p]), 3e-5, &place);
                    close(d_branch.get(f, p), slope(&|point| &mut point.branch[f][p]), 3e-5, &place);
                }
            }
        }
    }
}

#[test]
fn a_large_mean_costs_no_digits() {
    // Multiples of 1/8 plus 10⁵ are exact, so that the only rounding is the kernel's.
    let (features, positions) = (500, 20);
    let value = |i: usize| ((i * 7919) % 101) as f32 / 8.0 - 6.0;
    let small: Vec<f32> = (0..features * positions).map(value).collect();
    let mut case = Case::new(features, positions, 0.0, 0.0, 1);
    case.branch = Matrix::zeros(features, positions);
    for offset in [0.0, 1e5, -1e5] {
        case.x =
            Matrix::from_rows(features, positions, &small.iter().map(|x| x + offset).collect::<Vec<_>>());
        let (normalized, _) = twin(&case.point(), &case.factors());
        for isa in Isa::available() {
            let got = case.forward(isa).0;
            for (f, want) in normalized.iter().enumerate() {
                for (p, &want) in want.iter().enumerate() {
                    close(got.get(f, p), want, 3e-6, &format!("{isa:?} at an offset of {offset}"));
                }
            }
        }
    }
}

#[test]
fn features_that_are_all_the_same_become_the_bias() {
    for size in [0.0, 1.0, 1e8, 3.3e12] {
        let mut case = Case::new(70, 20, 0.0, 0.0, 1);
        (case.x, case.branch) = (Matrix::from_rows(70, 20, &[size; 1400]), Matrix::zeros(70, 20));
        for isa in Isa::available() {
            let (_, scale, y) = case.forward(isa);
            assert!(scale.iter().all(|scale| scale.is_finite()), "{isa:?}: {size}");
            for f in 0..70 {
                assert!(y.row(f).iter().all(|y| (y - case.bias[f]).abs() < 1e-5), "{isa:?}: {size}");
            }
        }
    }
}

#[test]
fn the_mask_is_that_of_dropout() {
    // With the branch alone, whose elements are far from zero: what is dropped is seen in the gradient of the branch.
    let case = Case::new(40, 150, 0.4, 0.0, 12);
    let dy = Random::new(1).matrix(40, 150);
    for isa in Isa::available() {
        let (mut dx, d_branch, ..) = case.backward(isa, &dy);
        dropout(isa, 12, 0.4, &mut dx);
        assert_eq!(dx, d_branch);
    }
    let plain = Case { dropout: Some((12, 0.0)), ..case };
    let (dx, d_branch, ..) = plain.backward(Isa::portable(), &dy);
    assert_eq!(dx, d_branch);
}

#[test]
fn odd_numbers_stay_within_their_position() {
    let mut case = Case::new(20, 5, 0.0, 0.0, 2);
    let want = case.forward(Isa::portable()).2;
    case.x.row_mut(3)[1] = f32::NAN;
    case.branch.row_mut(19)[4] = f32::INFINITY;
    for isa in Isa::available() {
        let (_, _, y) = case.forward(isa);
        for f in 0..20 {
            assert!(y.get(f, 1).is_nan() && y.get(f, 4).is_nan());
            assert!([0, 2, 3].into_iter().all(|p| (y.get(f, p) - want.get(f, p)).abs() < 1e-5));
        }
    }
    // Nor do they get into the padding.
    case.gain[0] = f32::INFINITY;
    case.backward(Isa::available()[0], &want);
}

#[test]
fn threads_do_not_show() {
    for (features, positions) in [(40, 300), (600, 100), (3, 1000)] {
        let case = Case::new(features, positions, 0.2, 0.1, 4);
        let dy = Random::new(5).matrix(features, positions);
        assert_same_on_any_threads(|isa| {
            let (normalized, scale, y) = case.forward(isa);
            let (dx, d_branch, d_gain, d_bias) = case.backward(isa, &dy);
            let matrices = [normalized, y, dx, d_branch];
            let mut all = matrices.map(|matrix| matrix.padded().to_vec()).concat();
            all.extend([scale, d_gain, d_bias].concat());
            all
        });
    }
}

#[test]
#[should_panic(expected = "one gain and bias")]
fn gains_are_counted() {
    let mut case = Case::new(4, 4, 0.0, 0.0, 1);
    case.gain.pop();
    case.forward(Isa::portable());
}
