//! Axes: where values lie, and at which round ones there are ticks.

/// From values to the part of an axis, 0 to 1, that they lie at.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
    /// Ascending, the first and last at the ends.
    pub(super) ticks: Vec<f64>,
    /// Digits after the point that tell ticks apart.
    decimals: usize,
}

/// What an axis counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Unit {
    /// A plain number, with what follows it.
    Number(&'static str),
    /// A share, shown in per cent.
    Percent,
}

/// The tick counts that look right on a phone.
const TICKS: f64 = 5.0;
/// What is as good as 0.
const TINY: f64 = 1e-30;

impl Scale {
    /// Of the finite ones of `values`, with ticks at multiples of 1, 2 or 5 times a power of ten.
    pub(super) fn linear(values: impl Iterator<Item = f64>) -> Self {
        let (mut low, mut high) = ends(values).unwrap_or((0.0, 1.0));
        let size = high.abs().max(low.abs());
        if high - low <= size * 1e-6 || size < TINY {
            let more = if size < TINY { 0.5 } else { size * 0.1 };
            (low, high) = (low - more, high + more);
        }
        let rough = (high - low) / TICKS;
        let power = 10f64.powf(rough.log10().floor());
        let step = power
            * [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| step * power >= rough * 0.999).unwrap_or(10.0);
        let (first, last) = ((low / step + 1e-6).floor(), (high / step - 1e-6).ceil());
        let ticks: Vec<f64> =
            (0..=(last - first) as usize).map(|tick| (first + tick as f64) * step).collect();
        let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
        Self { low: first * step, high: last * step, logarithmic: false, ticks, decimals }
    }

    /// Of those of `values` above 0, with ticks at 1, 2 and 5 times powers of ten, or at powers alone where these are many.
    pub(super) fn logarithmic(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = ends(values.filter(|&value| value > 0.0)).unwrap_or((1.0, 10.0));
        let round =
            |number: i32| [1.0, 2.0, 5.0][number.rem_euclid(3) as usize] * 10f64.powi(number.div_euclid(3));
        let first = (-120..120).rev().find(|&number| round(number) <= low).unwrap_or(-120);
        let last = (first + 1..=120).find(|&number| round(number) >= high).unwrap_or(120);
        let (first, last, by) = match last - first {
            0..=6 => (first, last, 1),
            numbers => {
                let by = 3 * (numbers / 3 / 6 + 1);
                let first = first.div_euclid(3) * 3;
                (first, first + (last - first + by - 1) / by * by, by)
            }
        };
        let ticks: Vec<f64> = (first..=last).step_by(by as usize).map(round).collect();
        Self { low: ticks[0], high: ticks[ticks.len() - 1], logarithmic: true, ticks, decimals: 0 }
    }

    /// Where `value` lies; none if nowhere.
    pub(super) fn at(&self, value: f64) -> Option<f64> {
        let at = match self.logarithmic {
            true => (value / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        at.is_finite().then(|| at.clamp(0.0, 1.0))
    }

    /// A tick's label.
    pub(super) fn label(&self, tick: f64, unit: Unit) -> String {
        let decimals = self.decimals;
        match unit {
            Unit::Percent => format!("{:.*}%", decimals.saturating_sub(2), tick * 100.0),
            Unit::Number(_) if self.logarithmic || tick.abs() >= 1e5 => number(tick),
            Unit::Number(_) => format!("{tick:.decimals$}"),
        }
    }
}

impl Unit {
    /// A value as it is told.
    pub(super) fn tell(self, value: f64) -> String {
        match self {
            Self::Percent => percent(value),
            Self::Number(unit) => format!("{}{unit}", number(value)),
        }
    }
}

/// A share in per cent, with as many digits as it takes.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent.abs() < 0.1 && percent != 0.0 { format!("{percent:.1e}%") } else { format!("{percent:.2}%") }
}

/// A number with about three digits.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        size if size == 0.0 || (100.0..1e5).contains(&size) => format!("{value:.0}"),
        10.0..100.0 => trimmed(format!("{value:.1}")),
        1.0..10.0 => trimmed(format!("{value:.2}")),
        0.001..1.0 => trimmed(format!("{value:.4}")),
        _ => format!("{value:.1e}").replace(".0e", "e"),
    }
}

fn trimmed(decimal: String) -> String {
    decimal.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn ends(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.filter(|value| value.is_finite());
    finite.fold(None, |ends, value| {
        Some(ends.map_or((value, value), |(low, high): (f64, f64)| (low.min(value), high.max(value))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn labels(scale: &Scale, unit: Unit, want: &[&str]) {
        let labels: Vec<String> = scale.ticks.iter().map(|&tick| scale.label(tick, unit)).collect();
        assert_eq!(labels, want);
    }

    #[test]
    fn ticks_are_round_and_hold_all_values() {
        let plain = Unit::Number("");
        labels(&Scale::linear([0.0, 10.0].into_iter()), plain, &["0", "2", "4", "6", "8", "10"]);
        labels(&Scale::linear([0.0, 9.1, f64::NAN].into_iter()), plain, &["0", "2", "4", "6", "8", "10"]);
        let shares = Scale::linear([0.861, 0.902].into_iter());
        labels(&shares, Unit::Percent, &["86%", "87%", "88%", "89%", "90%", "91%"]);
        let near = Scale::linear([0.9004, 0.9011].into_iter());
        labels(&near, Unit::Percent, &["90.04%", "90.06%", "90.08%", "90.10%", "90.12%"]);
        labels(&Scale::linear(std::iter::empty()), plain, &["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        labels(
            &Scale::linear([0.0].into_iter()),
            Unit::Percent,
            &["-60%", "-40%", "-20%", "0%", "20%", "40%", "60%"],
        );
    }

    #[test]
    fn logarithmic_ticks_are_round_and_hold_all_values() {
        let plain = Unit::Number("");
        labels(&Scale::logarithmic([0.25, 2.3, 0.0].into_iter()), plain, &["0.2", "0.5", "1", "2", "5"]);
        let wide = Scale::logarithmic([0.003, 5000.0].into_iter());
        labels(&wide, plain, &["0.001", "0.1", "10", "1000", "1e5"]);
        labels(&Scale::logarithmic([1.0].into_iter()), plain, &["1", "2"]);
    }

    #[test]
    fn places_are_finite_and_within_the_axis() {
        let hard = [0.0, -3.0, 1e-300, 1e29, -1e29, 1e16, 1e16 + 2.0, f64::NAN, f64::INFINITY, 5e-324];
        for a in hard {
            for b in hard {
                for scale in [Scale::linear([a, b].into_iter()), Scale::logarithmic([a, b].into_iter())] {
                    assert!((2..=12).contains(&scale.ticks.len()), "{a} {b} {scale:?}");
                    assert!(scale.ticks.is_sorted());
                    for value in [a, b] {
                        if let Some(at) = scale.at(value) {
                            assert!((0.0..=1.0).contains(&at), "{a} {b} {scale:?}");
                        }
                    }
                }
            }
        }
        let scale = Scale::linear([0.0, 10.0].into_iter());
        assert_eq!((scale.at(5.0), scale.at(f64::NAN)), (Some(0.5), None));
        let scale = Scale::logarithmic([0.1, 10.0].into_iter());
        assert!((scale.at(1.0).unwrap() - 0.5).abs() < 1e-12 && scale.at(-1.0).is_none());
    }

    #[test]
    fn numbers_are_told_with_the_digits_they_need() {
        for (value, want) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (2.345, "2.35"),
            (12.0, "12"),
            (469.0, "469"),
            (1.5e6, "1.5e6"),
            (3e-5, "3e-5"),
        ] {
            assert_eq!(number(value), want);
        }
        assert_eq!(
            (percent(0.8934), percent(0.0), percent(2e-6)),
            ("89.34%".into(), "0.00%".into(), "2.0e-4%".into())
        );
    }
}
