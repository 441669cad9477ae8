//! Initial weights: how they are distributed and how large they are.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{Distribution, Seed};

/// How a weight's θ⁰ is distributed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Init {
    /// Its shape.
    pub distribution: Distribution,
    /// Its variance.
    pub variance: Variance,
    /// What that variance is fitted to.
    pub scale: Scale,
}

/// The variance of initial weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Variance {
    /// 2 / inputs (He et al. 2015, for ReLU).
    Kaiming,
    /// 2 / (inputs + outputs) (Glorot and Bengio 2010).
    Xavier,
    /// This number, whatever the shape.
    Of(f64),
}

/// What a sparse weight's initial variance is fitted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// The active part has it: its squares sum to what those of a dense matrix would, so that a network keeps the size of
    /// its activations however sparse it is.
    Active,
    /// The dense matrix has it, as if all of θ⁰ were used; the active part alone then shrinks the activations.
    Full,
}

impl Init {
    /// He et al.'s normal distribution.
    pub const fn kaiming_normal(scale: Scale) -> Self {
        Self { distribution: Distribution::Normal, variance: Variance::Kaiming, scale }
    }

    /// The standard deviation of a dense weight `[rows × width]`.
    pub fn deviation(&self, rows: usize, width: usize) -> f64 {
        let variance = match self.variance {
            Variance::Kaiming => 2.0 / width as f64,
            Variance::Xavier => 2.0 / (rows as f64 + width as f64),
            Variance::Of(variance) => variance,
        };
        variance.sqrt()
    }

    /// `count` independent draws with this standard deviation.
    pub fn draws(&self, seed: Seed, count: usize, deviation: f64) -> impl Iterator<Item = f32> + use<> {
        let mut generator = seed.generator();
        let distribution = self.distribution;
        (0..count.div_ceil(2))
            .flat_map(move |_| match distribution {
                Distribution::Normal => normal_pair(&mut generator),
                _ => [(); 2].map(|()| signed(distribution, &mut generator)),
            })
            .take(count)
            .map(move |x| (x * deviation) as f32)
    }
}

/// `count` draws from the normal distribution with mean 0 and variance 2 / `fan_in`.
pub fn kaiming_normal(seed: Seed, count: usize, fan_in: f64) -> impl Iterator<Item = f32> {
    Init::kaiming_normal(Scale::Full).draws(seed, count, (2.0 / fan_in).sqrt())
}

/// Two independent standard normal draws (Box and Muller 1958).
fn normal_pair(generator: &mut ChaCha8Rng) -> [f64; 2] {
    // 1 − [0, 1) is never zero, so the logarithm is finite.
    let radius = (-2.0 * (1.0 - generator.random::<f64>()).ln()).sqrt();
    let (sine, cosine) = (std::f64::consts::TAU * generator.random::<f64>()).sin_cos();
    [radius * cosine, radius * sine]
}

fn signed(distribution: Distribution, generator: &mut ChaCha8Rng) -> f64 {
    let magnitude = distribution.magnitude(1.0 - generator.random::<f64>());
    if generator.random() { magnitude } else { -magnitude }
}

/// The factor that gives the active values of a weight, whose squares sum to `squares`, the sum that all `total` entries of
/// standard deviation `deviation` would have.
pub(crate) fn active_scale(squares: f64, total: u64, deviation: f64) -> f64 {
    if squares > 0.0 { (total as f64 / squares).sqrt() * deviation } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_distribution() {
        for (distribution, fourth) in [
            (Distribution::Normal, 3.0),
            (Distribution::TruncatedNormal, 2.3647),
            (Distribution::Uniform, 1.8),
        ] {
            let init = Init { distribution, ..Init::kaiming_normal(Scale::Full) };
            let draws: Vec<f64> = init.draws(Seed::new(3), 100_001, 1.0).map(f64::from).collect();
            let mean = |f: &dyn Fn(f64) -> f64| draws.iter().map(|&x| f(x)).sum::<f64>() / draws.len() as f64;
            assert_eq!(draws.len(), 100_001);
            assert!(mean(&|x| x).abs() < 0.02);
            assert!((mean(&|x| x * x) - 1.0).abs() < 0.02);
            assert!((mean(&|x| x.powi(4)) - fourth).abs() < 0.05 * fourth);
        }
    }

    #[test]
    fn the_variance_follows_from_the_shape() {
        let init = Init::kaiming_normal(Scale::Full);
        assert_eq!(init.deviation(8, 50), 0.2);
        assert_eq!(Init { variance: Variance::Xavier, ..init }.deviation(150, 50), 0.1);
        assert_eq!(Init { variance: Variance::Of(0.25), ..init }.deviation(150, 50), 0.5);
    }
}
