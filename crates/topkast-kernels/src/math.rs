//! Vector `exp` and the normal distribution, in `f32`.
//!
//! `exp`: x = n·ln 2 + r with |r| ≤ ln 2 / 2, then 2ⁿ·(1 + r + r²·P(r)), P the polynomial of least relative error.
//!
//! `normal`: with z = |x| and t = 1/(1 + z·0.35), the tail probability Φ(−z) is exp(−z²/2)·t·Q(t), Q of least
//! relative error for z ≤ 14. Going through the tail keeps its relative accuracy, which 1 + erf would cancel away,
//! and gives the density with the same exponential: GELU's gradient needs both. Near 0, where that would cost two
//! bits, Φ(x) = ½ + x·R(x²).

use crate::simd::Simd;

/// Q, highest power first.
const TAIL: [f32; 9] = [
    -0.029_145_878,
    0.143_971_47,
    -0.255_713_83,
    0.159_173_74,
    -0.023_109_587,
    0.105_507_92,
    0.119_832_89,
    0.139_861_87,
    0.139_621_4,
];

/// R, highest power first.
const CENTRE: [f32; 6] =
    [-6.648_711_5e-6, 1.103_449_7e-4, -0.001_182_739_1, 0.009_971_523, -0.066_489_99, 0.398_942_26];

/// Where R gives way to Q.
const CENTRE_END: f32 = 1.25;

/// The polynomial with coefficients `c`, highest power first, at `x`.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, x: S::Vector, c: [f32; N]) -> S::Vector {
    let mut sum = s.splat(c[0]);
    for &c in &c[1..] {
        sum = s.mul_add(sum, x, s.splat(c));
    }
    sum
}

/// eˣ within 2 ulp. 0 where eˣ is below the smallest normal number (x < −87.3365), for subnormal ones are slow on
/// some machines; infinity above the largest (x > 88.7228); NaN stays NaN.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::Vector) -> S::Vector {
    // The outermost arguments whose exponential is a normal number.
    let lowest = s.splat(f32::from_bits(0xC2AE_AC4F));
    let highest = s.splat(f32::from_bits(0x42B1_7217));
    // Both keep a NaN, which min and max return if it is the second argument.
    let clamped = s.max(lowest, s.min(highest, x));
    let n = s.round(s.mul(clamped, s.splat(std::f32::consts::LOG2_E)));
    // ln 2 in two parts: n times the first is exact.
    let r = s.mul_add(n, s.splat(-0.693_359_4), clamped);
    let r = s.mul_add(n, s.splat(2.121_944_4e-4), r);
    let p = polynomial(s, r, [0.001_381_447_1, 0.008_368_781, 0.041_668_394, 0.166_665_2, 0.499_999_93]);
    let p = s.add(s.mul_add(p, s.mul(r, r), r), s.splat(1.0));
    // n reaches 128, one more than a scale may have.
    let limit = s.splat(127.0);
    let scaled = s.scale(p, s.min(limit, n));
    let scaled = s.select_greater(n, limit, s.add(scaled, scaled), scaled);
    let scaled = s.select_greater(lowest, x, s.splat(0.0), scaled);
    s.select_greater(x, highest, s.splat(f32::INFINITY), scaled)
}

/// Of the standard normal distribution at `x`: the probability Φ(x) of less, within 1e-7 (in the lower tail within
/// 1.5e-6 of itself for x ≥ −6), and the density φ(x).
#[inline(always)]
pub(crate) fn normal<S: Simd>(s: S, x: S::Vector) -> (S::Vector, S::Vector) {
    let (one, half) = (s.splat(1.0), s.splat(0.5));
    let z = s.max(s.sub(s.splat(0.0), x), x);
    let square = s.mul(x, x);
    let e = exp(s, s.mul(square, s.splat(-0.5)));
    let t = s.div(one, s.mul_add(z, s.splat(0.35), one));
    let tail = s.mul(e, s.mul(t, polynomial(s, t, TAIL)));
    let below = s.select_greater(x, s.splat(0.0), s.sub(one, tail), tail);
    let below =
        s.select_greater(s.splat(CENTRE_END), z, s.mul_add(x, polynomial(s, square, CENTRE), half), below);
    (below, s.mul(e, s.splat(0.398_942_3)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::lanes::{read, write};
    use crate::{Isa, Kernel};

    /// Φ(x) in `f64`: the series of erf near 0, the continued fraction of erfc beyond.
    pub(crate) fn normal_f64(x: f64) -> f64 {
        let z = x.abs() / std::f64::consts::SQRT_2;
        let tail = if z < 2.5 {
            let (mut term, mut sum) = (z, z);
            for n in 1..100 {
                term *= -z * z / n as f64;
                sum += term / (2 * n + 1) as f64;
            }
            0.5 - sum / std::f64::consts::PI.sqrt()
        } else {
            let fraction = (1..200).rev().fold(z, |below, k| z + k as f64 / 2.0 / below);
            0.5 * (-z * z).exp() / std::f64::consts::PI.sqrt() / fraction
        };
        if x > 0.0 { 1.0 - tail } else { tail }
    }

    struct Apply<'a>(&'a mut [f32], u8);

    impl Kernel for Apply<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            for x in self.0.chunks_exact_mut(S::LANES) {
                let v = read(s, x);
                let v = match self.1 {
                    0 => exp(s, v),
                    1 => normal(s, v).0,
                    _ => normal(s, v).1,
                };
                write(s, x, v);
            }
        }
    }

    fn apply(isa: Isa, function: u8, x: &[f32]) -> Vec<f32> {
        let mut padded = x.to_vec();
        padded.resize(x.len().next_multiple_of(16), 0.0);
        isa.run(Apply(&mut padded, function));
        padded.truncate(x.len());
        padded
    }

    fn grid(low: f32, high: f32, points: usize) -> Vec<f32> {
        (0..=points).map(|i| low + (high - low) * (i as f32 / points as f32)).collect()
    }

    fn ulp(x: f64) -> f64 {
        f64::from(f32::EPSILON) * 2f64.powi(x.abs().log2().floor() as i32)
    }

    #[test]
    fn exp_is_within_two_ulp() {
        let mut x = grid(-87.3365, 88.7228, 400_000);
        x.extend(grid(-1.0, 1.0, 100_000));
        for isa in Isa::available() {
            let mut worst = 0.0f64;
            for (&x, got) in x.iter().zip(apply(isa, 0, &x)) {
                let want = f64::from(x).exp();
                worst = worst.max((f64::from(got) - want).abs() / ulp(want));
            }
            assert!(worst <= 2.0, "{isa:?}: {worst} ulp");
        }
    }

    #[test]
    fn exp_of_special_values() {
        let lowest = f32::from_bits(0xC2AE_AC4F);
        let highest = f32::from_bits(0x42B1_7217);
        assert!(f64::from(lowest).exp() >= f64::from(f32::MIN_POSITIVE));
        assert!(f64::from(lowest.next_down()).exp() < f64::from(f32::MIN_POSITIVE));
        let cases = [
            (0.0, 1.0),
            (-0.0, 1.0),
            (1e-30, 1.0),
            (lowest.next_down(), 0.0),
            (-1e30, 0.0),
            (f32::NEG_INFINITY, 0.0),
            (highest.next_up(), f32::INFINITY),
            (1e30, f32::INFINITY),
            (f32::INFINITY, f32::INFINITY),
        ];
        for isa in Isa::available() {
            for (x, want) in cases {
                assert_eq!(apply(isa, 0, &[x])[0], want, "{isa:?}: exp({x})");
            }
            assert!(apply(isa, 0, &[f32::NAN])[0].is_nan());
            let [low, high] = apply(isa, 0, &[lowest, highest])[..] else { unreachable!() };
            assert!(low.is_normal() && high.is_finite(), "{isa:?}: {low} {high}");
        }
    }

    #[test]
    fn the_normal_distribution_is_accurate() {
        let x = grid(-15.0, 15.0, 300_000);
        for isa in Isa::available() {
            let (mut probability, mut tail, mut density) = (0.0f64, 0.0f64, 0.0f64);
            for ((&x, p), d) in x.iter().zip(apply(isa, 1, &x)).zip(apply(isa, 2, &x)) {
                let want = normal_f64(x.into());
                let error = (f64::from(p) - want).abs();
                probability = probability.max(error);
                if (-6.0..0.0).contains(&x) {
                    tail = tail.max(error / want);
                }
                let want = (-0.5 * f64::from(x).powi(2)).exp() / std::f64::consts::TAU.sqrt();
                density = density.max((f64::from(d) - want).abs());
            }
            assert!(probability <= 1e-7 && density <= 1e-7, "{isa:?}: {probability:e} {density:e}");
            assert!(tail <= 1.5e-6, "{isa:?}: {tail:e}");
        }
    }

    #[test]
    fn the_normal_distribution_of_special_values() {
        for isa in Isa::available() {
            let x = [0.0, f32::NEG_INFINITY, f32::INFINITY, 1e30, f32::NAN];
            let got = apply(isa, 1, &x);
            assert!((got[0] - 0.5).abs() < 1e-7);
            assert_eq!(got[1..4], [0.0, 1.0, 1.0]);
            assert!(got[4].is_nan());
        }
    }

    #[test]
    fn the_oracle_agrees_with_tables() {
        for (x, want) in [(0.0, 0.5), (1.0, 0.841344746068543), (-2.0, 0.0227501319481792)] {
            assert!((normal_f64(x) - want).abs() < 1e-14);
        }
        assert!((normal_f64(-5.0) / 2.866515718791939e-7 - 1.0).abs() < 1e-12);
    }
}
