//! Stochastic gradient descent with momentum, one pass over the slices.
//!
//! Plain arithmetic with no fused multiply-add, so every instruction set gives the same bits.

use crate::chunks::{CHUNK, combine_chunks};
use crate::simd::Simd;
use crate::{Isa, Kernel, Penalty};

/// What one step of [`sgd`] is computed with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate η.
    pub lr: f32,
    /// Momentum μ; at 0 no momentum is kept.
    pub momentum: f32,
    /// Steps by `g + μ·v` instead of `v`.
    pub nesterov: bool,
    /// Multiplies the gradient: 1/accumulated batches, or what clipping asks for.
    pub gradient_scale: f32,
    /// Added to the gradient.
    pub penalty: Penalty,
}

/// One step, as PyTorch's `SGD` takes it without dampening: `g = gradient_scale·gradient + penalty gradient`,
/// `v = μ·v + g`, `θ = θ − η·v` (Nesterov: `θ − η·(g + μ·v)`). An entry starts with `v = 0`.
///
/// With `step.momentum == 0` nothing is read from or written to `momentum`, which may then be empty. Returns whether all values
/// are finite now: of a gradient that was not, some value is not either.
///
/// # Panics
/// If the slices differ in length.
pub fn sgd(isa: Isa, step: &Sgd, values: &mut [f32], gradient: &[f32], momentum: &mut [f32]) -> bool {
    assert_eq!(values.len(), gradient.len(), "one gradient for each value");
    if step.momentum == 0.0 {
        let plain = |_, (values, gradient): (&mut [f32], &[f32])| isa.run(Plain { step, values, gradient });
        return combine_chunks((values, gradient), CHUNK, CHUNK, &plain, &|a, b| a & b);
    }
    assert_eq!(values.len(), momentum.len(), "one momentum for each value");
    let with_momentum = |_, (values, (gradient, momentum)): (&mut [f32], (&[f32], &mut [f32]))| {
        isa.run(WithMomentum { step, values, gradient, momentum })
    };
    combine_chunks((values, (gradient, momentum)), CHUNK, CHUNK, &with_momentum, &|a, b| a & b)
}

struct Plain<'a> {
    step: &'a Sgd,
    values: &'a mut [f32],
    gradient: &'a [f32],
}

impl Kernel for Plain<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> bool {
        let Sgd { lr, gradient_scale, penalty, .. } = *self.step;
        let mut finite = true;
        for (value, &gradient) in self.values.iter_mut().zip(self.gradient) {
            *value -= lr * (gradient_scale * gradient + penalty.gradient(*value));
            finite &= value.is_finite();
        }
        finite
    }
}

struct WithMomentum<'a> {
    step: &'a Sgd,
    values: &'a mut [f32],
    gradient: &'a [f32],
    momentum: &'a mut [f32],
}

impl Kernel for WithMomentum<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> bool {
        let Sgd { lr, momentum: mu, nesterov, gradient_scale, penalty } = *self.step;
        let mut finite = true;
        for ((value, &gradient), v) in self.values.iter_mut().zip(self.gradient).zip(self.momentum) {
            let g = gradient_scale * gradient + penalty.gradient(*value);
            *v = mu * *v + g;
            *value -= lr * if nesterov { g + mu * *v } else { *v };
            finite &= value.is_finite();
        }
        finite
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| (((i + 1) * (7919 + seed)) % 1009) as f32 / 504.0 - 1.0).collect()
    }

    /// θ and v after a step, in `f64`.
    fn naive(step: &Sgd, value: f32, gradient: f32, v: f32) -> (f64, f64) {
        let [lr, mu, scale] = [step.lr, step.momentum, step.gradient_scale].map(f64::from);
        let (value, gradient, v) = (f64::from(value), f64::from(gradient), f64::from(v));
        let penalty = match step.penalty {
            Penalty::None => 0.0,
            Penalty::L2(c) => f64::from(c) * value,
            Penalty::L1(c) if value != 0.0 => f64::from(c) * value.signum(),
            Penalty::L1(_) => 0.0,
        };
        let g = scale * gradient + penalty;
        let v = mu * v + g;
        (value - lr * if step.nesterov { g + mu * v } else { v }, v)
    }

    proptest! {
        #[test]
        fn every_isa_takes_the_naive_step_with_the_same_bits(
            len in prop::sample::select(vec![0usize, 1, 15, 16, 17, 1000, 40000]),
            momentum in prop::sample::select(vec![0.0f32, 0.9]),
            nesterov: bool,
            gradient_scale in prop::sample::select(vec![1.0f32, 0.25]),
            penalty in prop::sample::select(vec![Penalty::None, Penalty::L2(0.1), Penalty::L1(0.1)]),
        ) {
            let step = Sgd { lr: 0.05, momentum, nesterov, gradient_scale, penalty };
            let (values, gradient, v) = (sample(len, 0), sample(len, 1), sample(len, 2));
            let run = |isa| {
                let (mut values, mut v) = (values.clone(), v.clone());
                assert!(sgd(isa, &step, &mut values, &gradient, &mut v));
                (values, v)
            };
            let (got, got_v) = run(Isa::portable());
            for i in 0..len {
                let (want, want_v) = naive(&step, values[i], gradient[i], v[i]);
                prop_assert!((f64::from(got[i]) - want).abs() < 3e-7);
                let want_v = if momentum == 0.0 { v[i].into() } else { want_v };
                prop_assert!((f64::from(got_v[i]) - want_v).abs() < 3e-7);
            }
            for isa in Isa::available() {
                prop_assert_eq!(run(isa), (got.clone(), got_v.clone()));
            }
        }
    }

    /// By hand: v = 0.5, then 0.9·0.5 + 1 = 1.45; θ = 1 − 0.1·0.5 = 0.95, then 0.95 − 0.1·1.45 = 0.805. Nesterov:
    /// 1 − 0.1·(0.5 + 0.45) = 0.905, then 0.905 − 0.1·(1 + 0.9·1.45) = 0.6745.
    #[test]
    fn two_steps_by_hand() {
        for (nesterov, want) in [(false, [0.95, 0.805]), (true, [0.905, 0.6745])] {
            let step = Sgd { lr: 0.1, momentum: 0.9, nesterov, gradient_scale: 0.5, penalty: Penalty::None };
            let (mut values, mut v) = ([1.0f32], [0.0]);
            for (gradient, want) in [1.0, 2.0].into_iter().zip(want) {
                sgd(Isa::portable(), &step, &mut values, &[gradient], &mut v);
                assert!((values[0] - want).abs() < 1e-6, "{values:?}");
            }
        }
    }

    /// By hand: L2 2 − 0.1·(1 + 0.5·2) = 1.8; L1 2 − 0.1·(1 + 0.5) = 1.85, −2 − 0.1·(1 − 0.5) = −2.05, and 0 is
    /// not pulled.
    #[test]
    fn penalties_by_hand_and_without_momentum() {
        let take = |penalty, mut values: [f32; 3]| {
            let step = Sgd { lr: 0.1, momentum: 0.0, nesterov: true, gradient_scale: 1.0, penalty };
            sgd(Isa::portable(), &step, &mut values, &[1.0; 3], &mut []);
            values
        };
        let close = |got: [f32; 3], want: [f32; 3]| got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(close(take(Penalty::L2(0.5), [2.0, -2.0, 0.0]), [1.8, -2.0, -0.1]));
        assert!(close(take(Penalty::L1(0.5), [2.0, -2.0, 0.0]), [1.85, -2.05, -0.1]));
    }

    #[test]
    fn what_is_not_finite_is_told_wherever_it_is() {
        for isa in Isa::available() {
            for momentum in [0.0, 0.9] {
                for len in [1usize, 17, 40000] {
                    for (at, bad) in [(0, f32::NAN), (len - 1, f32::INFINITY), (len / 2, f32::NEG_INFINITY)] {
                        let step = Sgd {
                            lr: 0.0,
                            momentum,
                            nesterov: false,
                            gradient_scale: 1.0,
                            penalty: Penalty::None,
                        };
                        let (mut values, mut v) = (vec![0.0; len], vec![0.0; len]);
                        let mut gradient = vec![1.0; len];
                        assert!(sgd(isa, &step, &mut values, &gradient, &mut v));
                        gradient[at] = bad;
                        assert!(
                            !sgd(isa, &step, &mut values, &gradient, &mut v),
                            "{isa:?}, {bad} at {at} of {len}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "one momentum for each value")]
    fn a_missing_momentum_is_refused() {
        let step =
            Sgd { lr: 0.1, momentum: 0.9, nesterov: false, gradient_scale: 1.0, penalty: Penalty::None };
        sgd(Isa::portable(), &step, &mut [1.0], &[1.0], &mut []);
    }
}
