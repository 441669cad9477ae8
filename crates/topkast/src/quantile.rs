//! Which magnitude is exceeded with a given probability: the inverse of |distribution|'s upper tail, to full precision where
//! the tail is thin.
//!
//! Checkpoints name initial values by their rank only, so these must have the same bits on every machine: nothing here
//! calls the platform's mathematics, whose last digit differs.

/// How initial values are distributed, with mean 0 and variance 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// Normal.
    Normal,
    /// Normal, without what is beyond two standard deviations, and scaled to variance 1 again.
    TruncatedNormal,
    /// Uniform.
    Uniform,
}

/// Where the truncated normal distribution ends, before it is scaled.
const END: f64 = 2.0;
/// P(|Z| > [`END`]) for a standard normal Z.
const BEYOND: f64 = 0.045_500_263_896_358_41;
/// The standard deviation of Z given |Z| < [`END`].
const TRUNCATED_DEVIATION: f64 = 0.879_625_661_034_239_8;

impl Distribution {
    /// The magnitude that is exceeded with probability `upper`, in (0, 1). It descends as `upper` rises, and where that is
    /// near 0 it is as exact as elsewhere.
    pub fn magnitude(self, upper: f64) -> f64 {
        match self {
            Self::Normal => normal(upper / 2.0),
            Self::TruncatedNormal => {
                let beyond = BEYOND + upper * (1.0 - BEYOND);
                normal(beyond / 2.0).min(END) / TRUNCATED_DEVIATION
            }
            Self::Uniform => 3f64.sqrt() * (1.0 - upper),
        }
    }
}

/// The value that a standard normal variable exceeds with probability `upper`, in (0, ½]: Wichura's algorithm AS 241
/// (Applied Statistics 37, 1988), exact to about 1 part in 10¹⁶.
fn normal(upper: f64) -> f64 {
    let centre = 0.5 - upper;
    if centre <= 0.425 {
        return centre * ratio(0.180_625 - centre * centre, &CENTRE);
    }
    let distance = (-libm::log(upper)).sqrt();
    if distance <= 5.0 { ratio(distance - 1.6, &TAIL) } else { ratio(distance - 5.0, &FAR_TAIL) }
}

/// Coefficients of a numerator and a denominator, the highest power first.
type Ratio = [[f64; 8]; 2];

fn ratio(x: f64, [numerator, denominator]: &Ratio) -> f64 {
    let polynomial = |coefficients: &[f64; 8]| coefficients.iter().fold(0.0, |sum, &next| sum * x + next);
    polynomial(numerator) / polynomial(denominator)
}

const CENTRE: Ratio = [
    [
        2.509_080_928_730_122_7e3,
        3.343_057_558_358_813e4,
        6.726_577_092_700_87e4,
        4.592_195_393_154_987e4,
        1.373_169_376_550_946e4,
        1.971_590_950_306_551_3e3,
        1.331_416_678_917_843_8e2,
        3.387_132_872_796_366_5,
    ],
    [
        5.226_495_278_852_854e3,
        2.872_908_573_572_194_3e4,
        3.930_789_580_009_271e4,
        2.121_379_430_158_659_7e4,
        5.394_196_021_424_751e3,
        6.871_870_074_920_579e2,
        4.231_333_070_160_091e1,
        1.0,
    ],
];

const TAIL: Ratio = [
    [
        7.745_450_142_783_414e-4,
        2.272_384_498_926_918_4e-2,
        2.417_807_251_774_506e-1,
        1.270_458_252_452_368_4,
        3.647_848_324_763_204_5,
        5.769_497_221_460_691,
        4.630_337_846_156_546,
        1.423_437_110_749_683_5,
    ],
    [
        1.050_750_071_644_416_9e-9,
        5.475_938_084_995_345e-4,
        1.519_866_656_361_645_7e-2,
        1.481_039_764_274_800_8e-1,
        6.897_673_349_851e-1,
        1.676_384_830_183_803_8,
        2.053_191_626_637_759,
        1.0,
    ],
];

const FAR_TAIL: Ratio = [
    [
        2.010_334_399_292_288_1e-7,
        2.711_555_568_743_487_6e-5,
        1.242_660_947_388_078_4e-3,
        2.653_218_952_657_612_4e-2,
        2.965_605_718_285_048_7e-1,
        1.784_826_539_917_291_3,
        5.463_784_911_164_114,
        6.657_904_643_501_103,
    ],
    [
        2.044_263_103_389_939_8e-15,
        1.421_511_758_316_446e-7,
        1.846_318_317_510_054_8e-5,
        7.868_691_311_456_133e-4,
        1.487_536_129_085_061_5e-2,
        1.369_298_809_227_358e-1,
        5.998_322_065_558_88e-1,
        1.0,
    ],
];

#[cfg(test)]
mod tests {
    use super::*;
    use Distribution::*;

    /// P(|Z| > x) for a standard normal Z, by another road.
    fn upper_normal(x: f64) -> f64 {
        libm::erfc(x / 2f64.sqrt())
    }

    /// P(|X| > x).
    fn upper(distribution: Distribution, x: f64) -> f64 {
        match distribution {
            Normal => upper_normal(x),
            TruncatedNormal => {
                (upper_normal(x * TRUNCATED_DEVIATION) - upper_normal(END)) / (1.0 - upper_normal(END))
            }
            Uniform => 1.0 - x / 3f64.sqrt(),
        }
    }

    /// Probabilities from 2⁻⁵⁰ to nearly 1, dense around where the algorithm changes its formula.
    fn probabilities() -> impl Iterator<Item = f64> {
        let powers = (1..2000).map(|step| 2f64.powf(-f64::from(step) / 40.0));
        let breaks = [0.15, 2.0 * (-25f64).exp()];
        let near =
            breaks.into_iter().flat_map(|p| (-40..=40).map(move |step| p * (1.0 + f64::from(step) * 1e-9)));
        powers.chain(near).chain((1..1000).map(|step| f64::from(step) / 1000.0)).chain([1.0 - 1e-9])
    }

    #[test]
    fn the_tail_beyond_the_magnitude_has_the_probability_asked_for() {
        for p in probabilities() {
            // Relative in the tail. The truncated distribution's, a difference, is only known to the last digit of what it is
            // taken from.
            for (distribution, absolute) in [(Normal, 0.0), (TruncatedNormal, 1e-15), (Uniform, 1e-15)] {
                let x = distribution.magnitude(p);
                let error = (upper(distribution, x) - p).abs();
                assert!(error <= 3e-14 * p + absolute, "{distribution:?}: {p} {x} {error}");
            }
        }
    }

    #[test]
    fn known_values() {
        for (p, x) in [
            (0.5, 0.674_489_750_196_081_7),
            (0.1, 1.644_853_626_951_472_2),
            (0.002_699_796_063_260_188_6, 3.0),
            (1.973_175_290_075_396e-9, 6.0),
        ] {
            assert!((Normal.magnitude(p) - x).abs() < 4e-15 * x, "{p}");
        }
        assert!((TruncatedNormal.magnitude(1e-300) - END / TRUNCATED_DEVIATION).abs() < 1e-15);
        assert!((Uniform.magnitude(0.25) - 0.75 * 3f64.sqrt()).abs() < 1e-15);
    }

    #[test]
    fn the_variance_is_one() {
        for distribution in [Normal, TruncatedNormal, Uniform] {
            let steps = 1 << 20;
            let square =
                |step: i32| distribution.magnitude((f64::from(step) + 0.5) / f64::from(steps)).powi(2);
            let variance = (0..steps).map(square).sum::<f64>() / f64::from(steps);
            assert!((variance - 1.0).abs() < 2e-5, "{distribution:?}: {variance}");
        }
    }

    /// What an order by rank rests on: neighbouring ranks never ascend, wherever a layer's selection can come to.
    #[test]
    fn neighbouring_ranks_descend() {
        for distribution in [Normal, TruncatedNormal, Uniform] {
            for bits in [10, 20, 32, 40, 48] {
                let n = (1u64 << bits) as f64;
                let at = |rank: u64| distribution.magnitude((rank as f64 + 0.5) / n) as f32;
                // No layer holds more than 2³² entries, and no run's side table many times that.
                let last = 36.min(bits);
                let starts = (0..last).flat_map(|power| [1u64 << power, 3 << power >> 1]);
                for start in starts.chain([0]) {
                    let end = (start + 3000).min((1 << last) - 1);
                    assert!(
                        (start..end).all(|rank| at(rank) >= at(rank + 1)),
                        "{distribution:?} {bits} {start}"
                    );
                }
            }
        }
    }
}
