//! What networks have in common.

use topkast_nn::Activation;

use super::graph::Attribute::{Float, Int};
use super::graph::{Graph, Value};
use crate::data::Normalizer;

/// As the kernel has it.
const NORM_EPSILON: f32 = 1e-5;

impl Graph<'_> {
    /// `pixels`, 0 to 255, as the network is given them. `laid_out` turns a number for each channel into numbers for each of an
    /// image's, with their axes.
    pub(super) fn normalized(
        &mut self,
        normalizer: &Normalizer,
        laid_out: impl Fn(&[f32]) -> (Vec<f32>, Vec<usize>),
    ) -> Value {
        let parts = |channel| (f64::from(normalizer.mean(channel)), f64::from(normalizer.deviation(channel)));
        let channels = || (0..normalizer.channels()).map(parts);
        let scales: Vec<f32> = channels().map(|(_, deviation)| (1.0 / (255.0 * deviation)) as f32).collect();
        let shifts: Vec<f32> = channels().map(|(mean, deviation)| (-mean / deviation) as f32).collect();
        let [scale, shift] = [&scales, &shifts].map(|numbers| self.numbers(laid_out(numbers)));
        let scaled = self.node("Mul", &["pixels", &scale], &[]);
        self.node("Add", &[&scaled, &shift], &[])
    }

    /// `x·Wᵀ + b` of the layer `name` for each row of x.
    pub(super) fn linear(&mut self, x: &str, name: &str) -> Value {
        self.node("Gemm", &[x, &format!("{name}.weight"), &format!("{name}.bias")], &[Int("transB", 1)])
    }

    /// The nonlinearity after it.
    pub(super) fn activation(&mut self, x: Value, activation: Activation) -> Value {
        match activation {
            Activation::Identity => x,
            Activation::Relu => self.node("Relu", &[&x], &[]),
            Activation::Gelu => {
                // x/2 · (1 + erf(x/√2)): as an operator of its own it came later.
                let (half, one, root) =
                    (self.number(0.5), self.number(1.0), self.number(std::f32::consts::FRAC_1_SQRT_2));
                let scaled = self.node("Mul", &[&x, &root], &[]);
                let erf = self.node("Erf", &[&scaled], &[]);
                let twice = self.node("Add", &[&erf, &one], &[]);
                let half = self.node("Mul", &[&x, &half], &[]);
                self.node("Mul", &[&half, &twice], &[])
            }
        }
    }

    /// Layer normalization of `x + branch`, row by row.
    pub(super) fn norm(&mut self, x: &str, branch: &str, name: &str) -> Value {
        let sum = self.node("Add", &[x, branch], &[]);
        let inputs = [&sum, &format!("{name}.weight"), &format!("{name}.bias")];
        let attributes = [Int("axis", -1), Float("epsilon", NORM_EPSILON)];
        self.node("LayerNormalization", &inputs.map(|input| &input[..]), &attributes)
    }
}
