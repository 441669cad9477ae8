//! Adam and AdamW, one pass over the slices, with a step count of its own for every entry.
//!
//! An entry that enters the backward set late starts with zero moments, so its bias correction must count its own
//! updates. A block of entries at a time, the corrections are looked up in a table, which no vector unit does well,
//! and then the arithmetic is vectorised. No fused multiply-add, so every instruction set gives the same bits.

use crate::chunks::{CHUNK, combine_chunks};
use crate::lanes::{read, write};
use crate::simd::Simd;
use crate::{Isa, Kernel, Penalty};

/// Entries whose corrections are looked up together.
const BLOCK: usize = 16;

/// The decay rates of Adam's moments, with their bias corrections tabulated by an entry's number of updates.
///
/// The rates are kept in `f64`, for 1 − β₂ in `f32` would be off by 5e-5 at β₂ = 0.999 and the corrections with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Corrections {
    beta1: f64,
    beta2: f64,
    /// `1 / (1 − β₁ᵗ)` and `1 / √(1 − β₂ᵗ)` at `t − 1`, together for one cache line to hold both; never empty.
    factors: Vec<[f32; 2]>,
}

impl Corrections {
    /// The longest table, 8 MiB: enough for every β up to 0.99998. Beyond, the last correction is kept, off by
    /// less than 2e-5 at β = 0.99999.
    const LONGEST: i32 = 1 << 20;

    /// Computes the table, up to where both corrections are 1.
    ///
    /// # Panics
    /// If a rate is outside `0 ≤ β < 1`.
    pub fn new(beta1: f64, beta2: f64) -> Self {
        for beta in [beta1, beta2] {
            assert!((0.0..1.0).contains(&beta), "a decay rate must be at least 0 and below 1, not {beta}");
        }
        let mut factors = Vec::new();
        for t in 1..=Self::LONGEST {
            let first = 1.0 / (1.0 - beta1.powi(t));
            let second = 1.0 / (1.0 - beta2.powi(t)).sqrt();
            factors.push([first as f32, second as f32]);
            if factors.last() == Some(&[1.0, 1.0]) {
                break;
            }
        }
        Self { beta1, beta2, factors }
    }

    /// Decay rate β₁ of the first moment.
    pub fn beta1(&self) -> f64 {
        self.beta1
    }

    /// Decay rate β₂ of the second moment.
    pub fn beta2(&self) -> f64 {
        self.beta2
    }

    /// Counts one more update of each entry and looks up its corrections.
    #[inline(always)]
    fn of_block(&self, age: &mut [u32; BLOCK]) -> ([f32; BLOCK], [f32; BLOCK]) {
        let last = self.factors.len() as u32;
        let mut places = [0; BLOCK];
        for (age, place) in age.iter_mut().zip(&mut places) {
            *age = age.saturating_add(1);
            *place = (*age).min(last) - 1;
        }
        if places == [places[0]; BLOCK] {
            // Most entries are as old as the training, or past the table's end.
            let [first, second] = self.factors[places[0] as usize];
            return ([first; BLOCK], [second; BLOCK]);
        }
        let (mut firsts, mut seconds) = ([0.0; BLOCK], [0.0; BLOCK]);
        for ((&place, first), second) in places.iter().zip(&mut firsts).zip(&mut seconds) {
            [*first, *second] = self.factors[place as usize];
        }
        (firsts, seconds)
    }
}

/// What one step of [`adam`] is computed with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam<'a> {
    /// Learning rate η.
    pub lr: f32,
    /// ε, added to the root of the second moment.
    pub epsilon: f32,
    /// AdamW: the penalty shrinks the value directly and stays out of the moments.
    pub decoupled: bool,
    /// Multiplies the gradient: 1/accumulated batches, or what clipping asks for.
    pub gradient_scale: f32,
    /// Added to the gradient, or applied to the value if `decoupled`.
    pub penalty: Penalty,
    /// Decay rates and bias corrections.
    pub corrections: &'a Corrections,
}

/// One step, as PyTorch's `Adam` and `AdamW` take it, with t the entry's own number of updates, `age`, which is
/// incremented first (and stops at `u32::MAX`):
///
/// `g = gradient_scale·gradient (+ penalty gradient, unless decoupled)`; `m = β₁·m + (1 − β₁)·g`;
/// `v = β₂·v + (1 − β₂)·g²`; `θ = θ − η·m̂ / (√v̂ + ε)` with `m̂ = m / (1 − β₁ᵗ)` and `v̂ = v / (1 − β₂ᵗ)`. If
/// decoupled, `θ = θ − η·(penalty gradient)` comes before. `first` holds m, `second` v; an entry starts with `m = v = 0`
/// and age 0. Returns whether all values and second moments are finite now: of a gradient that was not, or whose square is not,
/// some is not either.
///
/// # Panics
/// If the slices differ in length.
pub fn adam(
    isa: Isa,
    step: &Adam<'_>,
    values: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    age: &mut [u32],
) -> bool {
    let lengths = [gradient.len(), first.len(), second.len(), age.len()];
    assert_eq!(lengths, [values.len(); 4], "one gradient, first and second moment and age for each value");
    let slices = (values, (gradient, (first, (second, age))));
    let run = |_, (values, (gradient, (first, (second, age)))): Slices<'_>| {
        isa.run(Step { step, values, gradient, first, second, age })
    };
    combine_chunks(slices, CHUNK, CHUNK, &run, &|a, b| a & b)
}

/// Values, gradient, moments and ages, to be split together.
type Slices<'a> = (&'a mut [f32], (&'a [f32], (&'a mut [f32], (&'a mut [f32], &'a mut [u32]))));

struct Step<'a> {
    step: &'a Adam<'a>,
    values: &'a mut [f32],
    gradient: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    age: &'a mut [u32],
}

impl Kernel for Step<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> bool {
        let mut finite = true;
        let (values, values_rest) = self.values.as_chunks_mut();
        let (gradient, gradient_rest) = self.gradient.as_chunks();
        let (first, first_rest) = self.first.as_chunks_mut();
        let (second, second_rest) = self.second.as_chunks_mut();
        let (age, age_rest) = self.age.as_chunks_mut();
        let moments = first.iter_mut().zip(second);
        for (((values, gradient), (first, second)), age) in
            values.iter_mut().zip(gradient).zip(moments).zip(age)
        {
            finite &= self.step.update(s, values, gradient, first, second, age);
        }
        let rest = values_rest.len();
        if rest > 0 {
            let mut values = padded(values_rest);
            let (mut first, mut second) = (padded(first_rest), padded(second_rest));
            let mut age = padded(age_rest);
            finite &=
                self.step.update(s, &mut values, &padded(gradient_rest), &mut first, &mut second, &mut age);
            values_rest.copy_from_slice(&values[..rest]);
            first_rest.copy_from_slice(&first[..rest]);
            second_rest.copy_from_slice(&second[..rest]);
            age_rest.copy_from_slice(&age[..rest]);
        }
        finite
    }
}

#[inline(always)]
fn padded<T: Copy + Default>(values: &[T]) -> [T; BLOCK] {
    let mut block = [T::default(); BLOCK];
    block[..values.len()].copy_from_slice(values);
    block
}

impl Adam<'_> {
    #[inline(always)]
    fn update<S: Simd>(
        &self,
        s: S,
        values: &mut [f32; BLOCK],
        gradient: &[f32; BLOCK],
        first: &mut [f32; BLOCK],
        second: &mut [f32; BLOCK],
        age: &mut [u32; BLOCK],
    ) -> bool {
        let (correct_first, correct_second) = self.corrections.of_block(age);
        let (beta1, beta2) = (self.corrections.beta1, self.corrections.beta2);
        let [beta1, rest1] = [beta1, 1.0 - beta1].map(|beta| s.splat(beta as f32));
        let [beta2, rest2] = [beta2, 1.0 - beta2].map(|beta| s.splat(beta as f32));
        let (lr, epsilon) = (s.splat(self.lr), s.splat(self.epsilon));
        for at in (0..BLOCK).step_by(S::LANES) {
            let mut value = read(s, &values[at..]);
            let mut g = s.mul(s.splat(self.gradient_scale), read(s, &gradient[at..]));
            let pull = self.penalty.gradient_vector(s, value);
            if self.decoupled {
                value = s.sub(value, s.mul(lr, pull));
            } else {
                g = s.add(g, pull);
            }
            let m = s.add(s.mul(beta1, read(s, &first[at..])), s.mul(rest1, g));
            let v = s.add(s.mul(beta2, read(s, &second[at..])), s.mul(rest2, s.mul(g, g)));
            let root = s.mul(s.sqrt(v), read(s, &correct_second[at..]));
            let corrected = s.mul(m, read(s, &correct_first[at..]));
            let step = s.div(s.mul(lr, corrected), s.add(root, epsilon));
            write(s, &mut first[at..], m);
            write(s, &mut second[at..], v);
            write(s, &mut values[at..], s.sub(value, step));
        }
        values.iter().zip(second).fold(true, |finite, (value, v)| finite & value.is_finite() & v.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The last gradient is finite, and its square is not.
    #[test]
    fn what_is_not_finite_is_told_wherever_it_is() {
        let corrections = &Corrections::new(0.9, 0.999);
        for isa in Isa::available() {
            for len in [1usize, 17, 40000] {
                for (at, bad) in [(0, f32::NAN), (len - 1, f32::INFINITY), (len / 2, 1e30)] {
                    let step = Adam {
                        lr: 0.1,
                        epsilon: 1e-8,
                        decoupled: false,
                        gradient_scale: 1.0,
                        penalty: Penalty::None,
                        corrections,
                    };
                    let [mut values, mut gradient, mut first, mut second] =
                        [0.0f32, 1.0, 0.0, 0.0].map(|x| vec![x; len]);
                    let mut age = vec![0; len];
                    assert!(adam(isa, &step, &mut values, &gradient, &mut first, &mut second, &mut age));
                    gradient[at] = bad;
                    let finite = adam(isa, &step, &mut values, &gradient, &mut first, &mut second, &mut age);
                    assert!(!finite, "{isa:?}, {bad} at {at} of {len}");
                }
            }
        }
    }

    fn sample(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| (((i + 1) * (7919 + seed)) % 1009) as f32 / 504.0 - 1.0).collect()
    }

    /// θ, m and v after a step that is the entry's `t`-th, in `f64`.
    fn naive(step: &Adam<'_>, [value, gradient, m, v]: [f32; 4], t: u32) -> [f64; 3] {
        let [value, gradient, m, v] = [value, gradient, m, v].map(f64::from);
        let [lr, epsilon, scale] = [step.lr, step.epsilon, step.gradient_scale].map(f64::from);
        let (beta1, beta2) = (step.corrections.beta1(), step.corrections.beta2());
        let pull = match step.penalty {
            Penalty::None => 0.0,
            Penalty::L2(c) => f64::from(c) * value,
            Penalty::L1(c) if value != 0.0 => f64::from(c) * value.signum(),
            Penalty::L1(_) => 0.0,
        };
        let g = scale * gradient + if step.decoupled { 0.0 } else { pull };
        let value = if step.decoupled { value - lr * pull } else { value };
        let m = beta1 * m + (1.0 - beta1) * g;
        let v = beta2 * v + (1.0 - beta2) * g * g;
        let corrected = (m / (1.0 - beta1.powf(t.into())), v / (1.0 - beta2.powf(t.into())));
        [value - lr * corrected.0 / (corrected.1.sqrt() + epsilon), m, v]
    }

    proptest! {
        #[test]
        fn every_isa_takes_the_naive_step_with_the_same_bits(
            len in prop::sample::select(vec![0usize, 1, 15, 16, 17, 255, 256, 257, 1000, 40000]),
            decoupled: bool,
            gradient_scale in prop::sample::select(vec![1.0f32, 0.25]),
            penalty in prop::sample::select(vec![Penalty::None, Penalty::L2(0.1), Penalty::L1(0.1)]),
            corrections in prop::sample::select(vec![
                Corrections::new(0.9, 0.999),
                Corrections::new(0.0, 0.95),
                Corrections::new(0.5, 0.5),
            ]),
        ) {
            let corrections = &corrections;
            let step = Adam { lr: 0.05, epsilon: 1e-8, decoupled, gradient_scale, penalty, corrections };
            let ages = [0, 1, 2, 10, 1000, 20_000, u32::MAX - 1, u32::MAX];
            let age: Vec<u32> = (0..len).map(|i| ages[i * 5 % ages.len()]).collect();
            let (values, gradient, first) = (sample(len, 0), sample(len, 1), sample(len, 2));
            // Away from 0, where the step is ill-conditioned.
            let second: Vec<f32> = sample(len, 3).iter().map(|x| x * x + 0.01).collect();
            let run = |isa| {
                let (mut values, mut first, mut second) = (values.clone(), first.clone(), second.clone());
                let mut age = age.clone();
                adam(isa, &step, &mut values, &gradient, &mut first, &mut second, &mut age);
                (values, first, second, age)
            };
            let got = run(Isa::portable());
            for i in 0..len {
                let t = age[i].saturating_add(1);
                let want = naive(&step, [values[i], gradient[i], first[i], second[i]], t);
                for (got, want) in [got.0[i], got.1[i], got.2[i]].into_iter().zip(want) {
                    let error = (f64::from(got) - want).abs();
                    prop_assert!(error < 1e-6 * want.abs().max(1.0), "{} at {}: {} {}", t, i, got, want);
                }
                prop_assert_eq!(got.3[i], t);
            }
            for isa in Isa::available() {
                prop_assert_eq!(run(isa), got.clone());
            }
        }
    }

    fn two_steps(decoupled: bool, penalty: Penalty) -> [f32; 2] {
        let corrections = &Corrections::new(0.9, 0.999);
        let step = Adam { lr: 0.1, epsilon: 1e-8, decoupled, gradient_scale: 0.5, penalty, corrections };
        let (mut values, mut first, mut second, mut age) = ([1.0], [0.0], [0.0], [0]);
        [1.0, -4.0].map(|gradient| {
            adam(Isa::portable(), &step, &mut values, &[gradient], &mut first, &mut second, &mut age);
            values[0]
        })
    }

    /// By hand, g = 0.5 then −2. First m̂/√v̂ = 1: θ = 1 − 0.1 = 0.9. Then m = 0.9·0.05 − 0.2 = −0.155, m̂ = −0.155/0.19;
    /// v = 0.999·0.00025 + 0.004 = 0.00424975, v̂ = v/0.001999; θ = 0.9 + 0.1·0.8157895/1.4580652 = 0.9559500.
    /// Decoupled L2 of 0.5 first takes 0.1·0.5·θ off: 0.95 − 0.1 = 0.85, then 0.8075 + 0.05595 = 0.86345. Coupled, g
    /// becomes 0.5 + 0.5·1 = 1, whose size does not show in the first step.
    #[test]
    fn steps_by_hand() {
        let close = |got: f32, want: f32| assert!((got - want).abs() < 1e-6, "{got} {want}");
        let plain = two_steps(false, Penalty::None);
        close(plain[0], 0.9);
        close(plain[1], 0.95595);
        let decoupled = two_steps(true, Penalty::L2(0.5));
        close(decoupled[0], 0.85);
        close(decoupled[1], 0.86345);
        close(two_steps(false, Penalty::L2(0.5))[0], 0.9);
    }

    /// An entry that enters at a later step is treated exactly as one that starts then.
    #[test]
    fn a_late_entry_is_corrected_by_its_own_age() {
        let corrections = &Corrections::new(0.9, 0.999);
        let step = Adam {
            lr: 0.1,
            epsilon: 1e-8,
            decoupled: false,
            gradient_scale: 1.0,
            penalty: Penalty::None,
            corrections,
        };
        let (mut values, mut first, mut second) = ([1.0; 2], [0.3, 0.0], [0.2, 0.0]);
        let mut age = [500, 0];
        adam(Isa::portable(), &step, &mut values, &[0.01; 2], &mut first, &mut second, &mut age);
        assert_eq!(age, [501, 1]);
        assert!((values[1] - 0.9).abs() < 1e-6 && values[0] > 0.9);
    }

    #[test]
    fn tables_end_where_the_corrections_do() {
        assert_eq!(Corrections::new(0.0, 0.0).factors, [[1.0, 1.0]]);
        let usual = Corrections::new(0.9, 0.999);
        assert!(usual.factors.len() < 20_000 && *usual.factors.last().unwrap() == [1.0, 1.0]);
        assert_eq!(usual.factors[0], [10.0, (1.0 / 0.001f64.sqrt()) as f32]);
        let slow = Corrections::new(0.9, 0.99999);
        assert_eq!(slow.factors.len(), 1 << 20);
        assert!(slow.factors.last().unwrap()[1] - 1.0 < 2e-5);
        assert_eq!(Corrections::new(0.9, 0.99998).factors.last(), Some(&[1.0, 1.0]));
    }

    #[test]
    #[should_panic(expected = "a decay rate")]
    fn a_decay_rate_of_one_is_refused() {
        Corrections::new(0.9, 1.0);
    }
}
