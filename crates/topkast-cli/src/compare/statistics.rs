//! What a few numbers allow to be said: means with their standard errors, and Welch's test of two means.

use libm::lgamma;

/// Independent measurements of one quantity.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample(pub(super) Vec<f64>);

impl Sample {
    pub(super) fn n(&self) -> usize {
        self.0.len()
    }

    /// `None` of nothing.
    pub(super) fn mean(&self) -> Option<f64> {
        (self.n() > 0).then(|| self.0.iter().sum::<f64>() / self.n() as f64)
    }

    /// Of the mean: s/√n. `None` of fewer than two.
    pub(super) fn standard_error(&self) -> Option<f64> {
        let mean = self.mean().filter(|_| self.n() > 1)?;
        let squares: f64 = self.0.iter().map(|value| (value - mean).powi(2)).sum();
        Some((squares / (self.n() - 1) as f64 / self.n() as f64).sqrt())
    }
}

/// Welch's t-test, two-sided: whether the means of two samples differ, whose variances may.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Welch {
    /// Mean of the first less mean of the second.
    pub(super) difference: f64,
    /// Of the difference.
    pub(super) standard_error: f64,
    /// Welch and Satterthwaite's degrees of freedom.
    pub(super) freedom: f64,
    /// How probable a difference at least as large is where there is none.
    pub(super) p: f64,
}

impl Welch {
    /// `None` where a sample has fewer than two values, or neither varies.
    pub(super) fn test(first: &Sample, second: &Sample) -> Option<Self> {
        let (a, b) = (first.standard_error()?.powi(2), second.standard_error()?.powi(2));
        let difference = first.mean()? - second.mean()?;
        let standard_error = (a + b).sqrt();
        if standard_error == 0.0 {
            return None;
        }
        let weight = |square: f64, sample: &Sample| square * square / (sample.n() - 1) as f64;
        let freedom = (a + b).powi(2) / (weight(a, first) + weight(b, second));
        let p = two_sided(difference / standard_error, freedom);
        Some(Self { difference, standard_error, freedom, p })
    }

    /// The differences that the test does not reject at p = 0.05.
    pub(super) fn interval(&self) -> (f64, f64) {
        let half = quantile(0.05, self.freedom) * self.standard_error;
        (self.difference - half, self.difference + half)
    }
}

/// The probability that |T| is at least |t|, of Student's t with `freedom` degrees of freedom.
fn two_sided(t: f64, freedom: f64) -> f64 {
    incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + t * t))
}

/// The t that |T| reaches with the probability `p`.
fn quantile(p: f64, freedom: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while two_sided(high, freedom) > p && high < 1e300 {
        high *= 2.0;
    }
    // Each halving settles a bit; there are 53 to settle, and a few more where `low` is 0.
    for _ in 0..100 {
        let middle = low + (high - low) / 2.0;
        if two_sided(middle, freedom) > p { low = middle } else { high = middle }
    }
    high
}

/// The regularised incomplete beta function I_x(a, b).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // The continued fraction is quick below the distribution's mean; above it, its mirror image is.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta_below(b, a, 1.0 - x);
    }
    incomplete_beta_below(a, b, x)
}

fn incomplete_beta_below(a: f64, b: f64, x: f64) -> f64 {
    let log_front = a * x.ln() + b * (1.0 - x).ln() + lgamma(a + b) - lgamma(a) - lgamma(b);
    log_front.exp() / (a * continued_fraction(a, b, x))
}

/// The continued fraction 1 + d₁/(1 + d₂/(1 + …)) of the incomplete beta function (Abramowitz and Stegun, 26.5.8), by
/// the modified method of Lentz: as a product of ratios of successive numerators and denominators.
fn continued_fraction(a: f64, b: f64, x: f64) -> f64 {
    let away_from_zero = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let (mut product, mut numerators, mut denominators) = (1.0, 1.0, 0.0);
    for term in 1..1000 {
        let m = f64::from(term / 2);
        let d = if term % 2 == 0 {
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        } else {
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        };
        denominators = 1.0 / away_from_zero(1.0 + d * denominators);
        numerators = away_from_zero(1.0 + d / numerators);
        let ratio: f64 = numerators * denominators;
        product *= ratio;
        if (ratio - 1.0).abs() < 1e-15 {
            break;
        }
    }
    product
}

/// Holm's correction: each p value as it counts when all are looked at together, in their order.
pub(super) fn holm(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut corrected = vec![0.0; values.len()];
    let mut largest: f64 = 0.0;
    for (rank, &i) in order.iter().enumerate() {
        largest = largest.max((values.len() - rank) as f64 * values[i]).min(1.0);
        corrected[i] = largest;
    }
    corrected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn close(got: f64, want: f64) {
        assert!((got - want).abs() <= 1e-11 * want.abs().max(1e-3), "{got} is not {want}");
    }

    /// Against scipy 1.17.1: `2 * stats.t.sf(t, freedom)`.
    #[test]
    fn probabilities_of_students_t() {
        for (freedom, t, p) in [
            (1.0, 1.0, 0.5),
            (1.0, 12.7062047362, 0.049999999999900874),
            (2.0, 0.0, 1.0),
            (2.0, 0.5, 0.6666666666666667),
            (3.7, 2.1, 0.10926470508222474),
            (4.0, 2.776445105, 0.05000000001011946),
            (5.25, 40.0, 9.946801026999021e-8),
            (8.0, 2.306004135, 0.05000000001593551),
            (8.0, 10.0, 8.488181527628489e-6),
            (30.0, 1.697261, 0.09999997833533457),
            (1000.0, 1.96, 0.050273184955748736),
        ] {
            close(two_sided(t, freedom), p);
            close(two_sided(-t, freedom), p);
        }
        assert_eq!(two_sided(f64::INFINITY, 3.0), 0.0);
    }

    /// Against scipy: `stats.t.ppf(0.975, freedom)`.
    #[test]
    fn quantiles_of_students_t() {
        for (freedom, t) in [
            (1.0, 12.706204736174694),
            (2.0, 4.302652729749462),
            (3.7, 2.8675207071911895),
            (8.0, 2.306004135204166),
            (30.0, 2.0422724563012378),
            (1000.0, 1.9623390808264083),
        ] {
            close(quantile(0.05, freedom), t);
        }
    }

    /// Against scipy: `stats.ttest_ind(first, second, equal_var=False)` and its `confidence_interval()`.
    #[test]
    fn welchs_test() {
        let (low, high): (Vec<f64>, Vec<f64>) = (vec![88.46, 88.42, 88.30], vec![89.52, 89.33, 89.20]);
        let cases: [(Vec<f64>, Vec<f64>, [f64; 4]); 3] = [
            (
                vec![90.25, 90.37, 90.02],
                vec![89.26, 89.28, 89.15, 89.4],
                [2.9951930220440186, 0.003819198310014823, 0.5753186299492636, 1.3063480367173685],
            ),
            (low, high, [2.9991823713703463, 0.002767360654576414, -1.2896518636356178, -0.6236814696977376]),
            (
                vec![1.0, 2.0, 3.0, 4.0, 5.0],
                vec![1.1, 2.3, 2.9, 4.2, 4.6],
                [7.913607547798576, 0.9837508826377782, -2.2183973468560603, 2.1783973468560602],
            ),
        ];
        for (first, second, [freedom, p, low, high]) in cases {
            let test = Welch::test(&Sample(first), &Sample(second)).unwrap();
            close(test.freedom, freedom);
            close(test.p, p);
            close(test.interval().0, low);
            close(test.interval().1, high);
        }
    }

    #[test]
    fn nothing_is_tested_that_does_not_vary() {
        let sample = |values: &[f64]| Sample(values.to_vec());
        assert_eq!(Welch::test(&sample(&[1.0]), &sample(&[1.0, 2.0])), None);
        assert_eq!(Welch::test(&sample(&[1.0, 1.0]), &sample(&[2.0, 2.0])), None);
        assert!(Welch::test(&sample(&[1.0, 1.0]), &sample(&[2.0, 2.5])).is_some());
    }

    #[test]
    fn means_and_standard_errors() {
        let sample = Sample(vec![2.0, 4.0, 9.0]);
        assert_eq!(sample.mean(), Some(5.0));
        // s² = (9 + 1 + 16)/2 = 13
        close(sample.standard_error().unwrap(), (13.0f64 / 3.0).sqrt());
        assert_eq!((Sample(vec![]).mean(), Sample(vec![1.0]).standard_error()), (None, None));
    }

    /// By hand: sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 is 0.04, 0.06, 0.06, 0.04; none may be below one before.
    #[test]
    fn holms_correction() {
        assert_eq!(holm(&[0.04, 0.01, 0.03, 0.02]), [0.06, 0.04, 0.06, 0.06]);
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
        assert_eq!(holm(&[]), [0.0; 0]);
    }
}
