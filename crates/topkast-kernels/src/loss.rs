//! Softmax cross-entropy over the classes of every position, with its gradient.
//!
//! Positions are the lanes, so that nothing is summed across a vector: strips of 64 positions (four cache lines of
//! each class's row) are walked three times. First the largest logit m and its class; then the sum Z of exp(x − m),
//! with each exponential left in the gradient; last the gradient is scaled to (exp(x − m)/Z − target)/positions.
//! Strips depend on the shape alone and are combined in a fixed tree.

use crate::chunks::{CHUNK, combine_chunks};
use crate::columns::ColumnsMut;
use crate::lanes::{read, write};
use crate::math::exp;
use crate::simd::Simd;
use crate::{Isa, Kernel, Matrix};

/// Positions worked on at once.
const STRIP: usize = 64;

/// Classes whose exponentials are summed in `f32` before the sum moves on to `f64`.
const BLOCK: usize = 128;

/// Sums over the positions of a batch: divide by their number for means.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSums {
    /// The sum of the positions' losses, in nats.
    pub loss: f64,
    /// How many positions have their largest logit (of equal ones that of the lowest class) at their label.
    pub correct: usize,
}

/// The cross-entropy of `softmax(logits)`, per position over the classes, against `(1 − label_smoothing)` on the
/// label plus `label_smoothing / classes` on every class.
///
/// `logits` is `[classes × positions]`; `gradient`, if given, is overwritten with the gradient of the **mean** loss
/// over positions, `(softmax − target) / positions`. A NaN or +∞ among its logits makes a position's loss NaN, and
/// the position counts as not correct. A logit of −∞ means probability 0.
///
/// # Panics
/// If there is not one label for each position, a label is not below the number of classes, that number exceeds
/// 2²⁴, `label_smoothing` is outside 0…1, or the shape of `gradient` is not that of `logits`.
pub fn softmax_cross_entropy(
    isa: Isa,
    logits: &Matrix,
    labels: &[u32],
    label_smoothing: f32,
    gradient: Option<&mut Matrix>,
) -> LossSums {
    softmax_cross_entropy_among(isa, logits.positions(), logits, labels, label_smoothing, gradient)
}

/// [`softmax_cross_entropy`] of some of a batch's `total` positions: `gradient` is that of the mean loss over all of them,
/// `(softmax − target) / total`.
///
/// # Panics
/// As that.
pub fn softmax_cross_entropy_among(
    isa: Isa,
    total: usize,
    logits: &Matrix,
    labels: &[u32],
    label_smoothing: f32,
    gradient: Option<&mut Matrix>,
) -> LossSums {
    let (classes, positions) = (logits.features(), logits.positions());
    assert_eq!(labels.len(), positions, "one label for each position");
    assert!(labels.iter().all(|&label| (label as usize) < classes), "labels must be below {classes}");
    assert!(classes <= 1 << 24, "class numbers must be exact in f32");
    assert!((0.0..=1.0).contains(&label_smoothing), "label smoothing must be within 0…1");
    if let Some(gradient) = &gradient {
        let shape = (gradient.features(), gradient.positions());
        assert_eq!(shape, (classes, positions), "the gradient must have the shape of the logits");
    }
    let add = |a: LossSums, b: LossSums| LossSums { loss: a.loss + b.loss, correct: a.correct + b.correct };
    let strip = |start, (labels, gradient)| {
        isa.run(Strip { logits, labels, label_smoothing, total, gradient, start })
    };
    let data = (labels, gradient.map(ColumnsMut::of));
    combine_chunks(data, STRIP, CHUNK / classes.max(1), &strip, &add)
}

/// At most [`STRIP`] positions from `start` on.
struct Strip<'a> {
    logits: &'a Matrix,
    labels: &'a [u32],
    label_smoothing: f32,
    /// Positions that the mean is over.
    total: usize,
    gradient: Option<ColumnsMut<'a>>,
    start: usize,
}

/// What the walks over the classes leave for each position.
struct Totals {
    largest: [f32; STRIP],
    best: [f32; STRIP],
    /// Σ exp(x − m)
    exponentials: [f64; STRIP],
    /// Σ (x − m)
    shifted: [f64; STRIP],
}

impl Kernel for Strip<'_> {
    type Output = LossSums;

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) -> LossSums {
        let width = STRIP.min(self.logits.stride() - self.start);
        let mut totals = Totals {
            largest: [f32::NEG_INFINITY; STRIP],
            best: [0.0; STRIP],
            exponentials: [0.0; STRIP],
            shifted: [0.0; STRIP],
        };
        self.find_largest(s, width, &mut totals);
        self.sum_exponentials(s, width, &mut totals);
        let sums = self.sum_losses(&totals);
        self.scale_gradient(s, width, &totals);
        sums
    }
}

impl Strip<'_> {
    #[inline(always)]
    fn row(&self, class: usize, width: usize) -> &[f32] {
        &self.logits.padded()[class * self.logits.stride() + self.start..][..width]
    }

    #[inline(always)]
    fn find_largest<S: Simd>(&self, s: S, width: usize, totals: &mut Totals) {
        for class in 0..self.logits.features() {
            let number = s.splat(class as f32);
            let row = self.row(class, width).chunks_exact(S::LANES);
            let largest = totals.largest.chunks_exact_mut(S::LANES);
            for ((x, largest), best) in row.zip(largest).zip(totals.best.chunks_exact_mut(S::LANES)) {
                let (x, old) = (read(s, x), read(s, largest));
                // Class numbers ascend, so the last to take the lead is the largest; a NaN never does.
                let taken = s.select_greater(x, old, number, s.splat(0.0));
                let winner = s.max(taken, read(s, best));
                write(s, best, winner);
                write(s, largest, s.max(x, old));
            }
        }
    }

    #[inline(always)]
    fn sum_exponentials<S: Simd>(&mut self, s: S, width: usize, totals: &mut Totals) {
        let classes = self.logits.features();
        for block in (0..classes).step_by(BLOCK) {
            let (mut exponentials, mut shifted) = ([0.0; STRIP], [0.0; STRIP]);
            for class in block..classes.min(block + BLOCK) {
                let row = &self.logits.padded()[class * self.logits.stride() + self.start..][..width];
                let mut kept = self.gradient.as_mut().map(|columns| columns.row(class));
                for at in (0..width).step_by(S::LANES) {
                    let x = s.sub(read(s, &row[at..]), read(s, &totals.largest[at..]));
                    let e = exp(s, x);
                    let (sum, shift) = (&mut exponentials[at..], &mut shifted[at..]);
                    write(s, sum, s.add(read(s, sum), e));
                    write(s, shift, s.add(read(s, shift), x));
                    if let Some(kept) = &mut kept {
                        write(s, &mut kept[at..], e);
                    }
                }
            }
            for lane in 0..STRIP {
                totals.exponentials[lane] += f64::from(exponentials[lane]);
                totals.shifted[lane] += f64::from(shifted[lane]);
            }
        }
    }

    #[inline(always)]
    fn sum_losses(&self, totals: &Totals) -> LossSums {
        let smoothing = f64::from(self.label_smoothing);
        let mut sums = LossSums::default();
        for (lane, &label) in self.labels.iter().enumerate() {
            let logit = self.logits.get(label as usize, self.start + lane);
            let shifted = f64::from(logit) - f64::from(totals.largest[lane]);
            let mut loss = totals.exponentials[lane].ln() - shifted;
            if smoothing > 0.0 {
                // Not without smoothing: 0 × −∞ is NaN.
                let mean = totals.shifted[lane] / self.logits.features() as f64;
                loss += smoothing * (shifted - mean);
            }
            sums.loss += loss;
            sums.correct += usize::from(totals.best[lane] == label as f32 && !loss.is_nan());
        }
        sums
    }

    #[inline(always)]
    fn scale_gradient<S: Simd>(&mut self, s: S, width: usize, totals: &Totals) {
        let Some(gradient) = &mut self.gradient else { return };
        let positions = self.total as f64;
        let smoothing = f64::from(self.label_smoothing);
        // Zero beyond the last position: so the padding stays zero.
        let (mut scale, mut uniform) = ([0.0; STRIP], [0.0; STRIP]);
        for lane in 0..self.labels.len() {
            scale[lane] = (1.0 / (totals.exponentials[lane] * positions)) as f32;
            uniform[lane] = (smoothing / (self.logits.features() as f64 * positions)) as f32;
        }
        for class in 0..self.logits.features() {
            let row = gradient.row(class);
            for at in (0..width).step_by(S::LANES) {
                let (scale, uniform) = (read(s, &scale[at..]), read(s, &uniform[at..]));
                let scaled = s.sub(s.mul(read(s, &row[at..]), scale), uniform);
                write(s, &mut row[at..], scaled);
            }
        }
        let on_label = ((1.0 - smoothing) / positions) as f32;
        for (lane, &label) in self.labels.iter().enumerate() {
            gradient.row(label as usize)[lane] -= on_label;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The loss of each position, in `f64`.
    fn naive(logits: &[Vec<f64>], labels: &[u32], smoothing: f64) -> Vec<f64> {
        let classes = logits.len() as f64;
        let loss = |(position, &label): (usize, &u32)| {
            let largest = logits.iter().map(|row| row[position]).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = logits.iter().map(|row| (row[position] - largest).exp()).sum();
            let target =
                |class| smoothing / classes + if class == label as usize { 1.0 - smoothing } else { 0.0 };
            let log = |class: usize| logits[class][position] - largest - sum.ln();
            (0..logits.len()).map(|class| -target(class) * log(class)).sum()
        };
        labels.iter().enumerate().map(loss).collect()
    }

    fn wide(logits: &Matrix) -> Vec<Vec<f64>> {
        (0..logits.features()).map(|f| logits.row(f).iter().map(|&x| f64::from(x)).collect()).collect()
    }

    fn sample(classes: usize, positions: usize, size: f32) -> (Matrix, Vec<u32>) {
        let value = |i: usize| (((i * 7919 + 13) % 1009) as f32 / 504.5 - 1.0) * size;
        let values: Vec<f32> = (0..classes * positions).map(value).collect();
        let labels = (0..positions).map(|p| (p * 5 % classes) as u32).collect();
        (Matrix::from_rows(classes, positions, &values), labels)
    }

    fn padding_is_zero(x: &Matrix) -> bool {
        let rows = x.padded().chunks(x.stride().max(1));
        rows.into_iter().all(|row| row[x.positions()..].iter().all(|&x| x == 0.0))
    }

    #[test]
    fn loss_and_gradient_are_the_naive_ones() {
        for (classes, positions) in
            [(1, 1), (2, 15), (10, 16), (15, 17), (16, 33), (17, 64), (33, 65), (300, 130)]
        {
            for smoothing in [0.0, 0.1, 1.0] {
                let (logits, labels) = sample(classes, positions, 4.0);
                let losses = naive(&wide(&logits), &labels, f64::from(smoothing));
                let loss: f64 = losses.iter().sum();
                for isa in Isa::available() {
                    let mut gradient = Matrix::zeros(classes, positions);
                    gradient.row_mut(0).fill(9.0);
                    let sums = softmax_cross_entropy(isa, &logits, &labels, smoothing, Some(&mut gradient));
                    assert!((sums.loss - loss).abs() <= 2e-6 * loss.abs() + 1e-6, "{} {loss}", sums.loss);
                    assert_eq!(sums, softmax_cross_entropy(isa, &logits, &labels, smoothing, None));
                    assert!(padding_is_zero(&gradient));
                    check_gradient(&logits, &labels, smoothing.into(), &gradient);
                }
            }
        }
    }

    /// Against central differences of the naive loss.
    fn check_gradient(logits: &Matrix, labels: &[u32], smoothing: f64, gradient: &Matrix) {
        let positions = logits.positions();
        for class in 0..logits.features() {
            let mut moved = wide(logits);
            moved[class].iter_mut().for_each(|x| *x += 1e-4);
            let up = naive(&moved, labels, smoothing);
            moved[class].iter_mut().for_each(|x| *x -= 2e-4);
            let down = naive(&moved, labels, smoothing);
            for position in 0..positions {
                let want = (up[position] - down[position]) / 2e-4 / positions as f64;
                let got = f64::from(gradient.get(class, position));
                assert!((got - want).abs() <= 1e-6 / positions as f64, "{class}, {position}: {got} {want}");
            }
        }
    }

    #[test]
    fn some_of_many_positions_have_their_share_of_the_gradient() {
        let (logits, labels) = sample(17, 33, 2.0);
        for isa in Isa::available() {
            let [mut all, mut some] = [Matrix::zeros(17, 33), Matrix::zeros(17, 33)];
            let sums = softmax_cross_entropy(isa, &logits, &labels, 0.1, Some(&mut all));
            assert_eq!(sums, softmax_cross_entropy_among(isa, 66, &logits, &labels, 0.1, Some(&mut some)));
            // Halves of floats are exact, but what is subtracted from them is rounded.
            let close = |(all, some): (&f32, &f32)| (0.5 * all - some).abs() <= 1e-8;
            assert!(all.padded().iter().zip(some.padded()).all(close));
        }
    }

    #[test]
    fn large_logits_neither_overflow_nor_lose_the_loss() {
        for isa in Isa::available() {
            let logits = Matrix::from_rows(3, 2, &[1e4, -1e4, -1e4, 1e4, 0.0, 0.0]);
            let mut gradient = Matrix::zeros(3, 2);
            let sums = softmax_cross_entropy(isa, &logits, &[0, 0], 0.0, Some(&mut gradient));
            assert_eq!(sums, LossSums { loss: 2e4, correct: 1 });
            assert_eq!(gradient, Matrix::from_rows(3, 2, &[0.0, -0.5, 0.0, 0.5, 0.0, 0.0]));
        }
    }

    #[test]
    fn odd_logits_stay_within_their_position() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let logits = Matrix::from_rows(2, 5, &[nan, 1.0, inf, -inf, nan, 0.0, nan, 0.0, 0.0, nan]);
        for isa in Isa::available() {
            for label in [0, 1] {
                let mut gradient = Matrix::zeros(2, 5);
                let sums = softmax_cross_entropy(isa, &logits, &[label; 5], 0.0, Some(&mut gradient));
                assert!(sums.loss.is_nan());
                assert_eq!(sums.correct, label as usize);
                for row in [gradient.row(0), gradient.row(1)] {
                    assert!(row[0].is_nan() && row[1].is_nan() && row[2].is_nan() && row[4].is_nan());
                }
                assert!((gradient.get(0, 3) - if label == 0 { -0.2 } else { 0.0 }).abs() < 1e-7);
                assert!(padding_is_zero(&gradient));
            }
            // A class of probability 0 that is not the label costs nothing.
            let masked = Matrix::from_rows(2, 1, &[-inf, 3.0]);
            let sums = softmax_cross_entropy(isa, &masked, &[1], 0.0, None);
            assert_eq!(sums, LossSums { loss: 0.0, correct: 1 });
        }
    }

    #[test]
    fn ties_go_to_the_lowest_class() {
        for isa in Isa::available() {
            let logits = Matrix::from_rows(3, 3, &[1.0, 0.0, 2.0, 1.0, 5.0, 2.0, 0.0, 5.0, 2.0]);
            let correct = |label| softmax_cross_entropy(isa, &logits, &[label; 3], 0.1, None).correct;
            assert_eq!([correct(0), correct(1), correct(2)], [2, 1, 0]);
        }
    }

    #[test]
    fn no_positions_no_loss() {
        let mut gradient = Matrix::zeros(4, 0);
        for isa in Isa::available() {
            let sums = softmax_cross_entropy(isa, &Matrix::zeros(4, 0), &[], 0.1, Some(&mut gradient));
            assert_eq!(sums, LossSums::default());
        }
    }

    #[test]
    #[should_panic(expected = "labels must be below 2")]
    fn labels_are_checked() {
        softmax_cross_entropy(Isa::portable(), &Matrix::zeros(2, 1), &[2], 0.0, None);
    }

    proptest! {
        #[test]
        fn any_number_of_threads_gives_the_same_bits(threads in 1usize..5, positions in 1usize..700) {
            let (logits, labels) = sample(10, positions, 3.0);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let run = || {
                let mut gradient = Matrix::zeros(10, positions);
                let isa = Isa::available()[0];
                (softmax_cross_entropy(isa, &logits, &labels, 0.1, Some(&mut gradient)), gradient)
            };
            prop_assert_eq!(pool.install(run), run());
        }
    }
}
