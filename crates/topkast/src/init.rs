//! Initial weights.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::Seed;

/// What a sparse weight's initial variance is fitted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// The active part has Kaiming variance: its squares sum to 2 per output, so that a ReLU network keeps the size of
    /// its activations however sparse it is.
    Active,
    /// The dense matrix has it, as if all of θ⁰ were used; the active part alone then shrinks the activations.
    Full,
}

/// `count` draws from the normal distribution with mean 0 and variance 2 / `fan_in` (He et al. 2015, for ReLU).
pub fn kaiming_normal(seed: Seed, count: usize, fan_in: f64) -> impl Iterator<Item = f32> {
    let deviation = (2.0 / fan_in).sqrt();
    let mut generator = seed.generator();
    (0..count.div_ceil(2))
        .flat_map(move |_| normal_pair(&mut generator))
        .take(count)
        .map(move |x| (x * deviation) as f32)
}

/// Two independent standard normal draws (Box and Muller 1958).
fn normal_pair(generator: &mut ChaCha8Rng) -> [f64; 2] {
    // 1 − [0, 1) is never zero, so the logarithm is finite.
    let radius = (-2.0 * (1.0 - generator.random::<f64>()).ln()).sqrt();
    let (sine, cosine) = (std::f64::consts::TAU * generator.random::<f64>()).sin_cos();
    [radius * cosine, radius * sine]
}

/// The factor that gives active values whose squares sum to `squares` the sum 2 per output row.
pub(crate) fn active_scale(squares: f64, rows: usize) -> f32 {
    if squares > 0.0 { (2.0 * rows as f64 / squares).sqrt() as f32 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_normal_distribution() {
        let draws: Vec<f64> = kaiming_normal(Seed::new(3), 100_001, 2.0).map(f64::from).collect();
        let mean = |f: &dyn Fn(f64) -> f64| draws.iter().map(|&x| f(x)).sum::<f64>() / draws.len() as f64;
        assert_eq!(draws.len(), 100_001);
        assert!(mean(&|x| x).abs() < 0.02);
        assert!((mean(&|x| x * x) - 1.0).abs() < 0.02);
        assert!((mean(&|x| x.powi(4)) - 3.0).abs() < 0.15);
    }
}
