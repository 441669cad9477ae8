//! A layer's twin in f64, and what the product made of the layer.

use topkast::SparseWeight;
use topkast_nn::{Activation, Mlp, ParameterMut};

use crate::numbers::widened;

/// A layer in f64: α written out densely, bias, and where each entry of B is in the dense weight.
#[derive(Clone)]
pub(crate) struct Affine {
    pub(crate) inputs: usize,
    pub(crate) weight: Vec<f64>,
    pub(crate) bias: Vec<f64>,
    /// Flat index of each entry, in the order of the product's gradient.
    pub(crate) entries: Vec<usize>,
}

impl Affine {
    /// W·x + b for one position.
    pub(crate) fn apply(&self, x: &[f64]) -> Vec<f64> {
        let dot = |row: &[f64]| row.iter().zip(x).map(|(weight, x)| weight * x).sum::<f64>();
        self.weight.chunks(self.inputs).zip(&self.bias).map(|(row, bias)| dot(row) + bias).collect()
    }
}

pub(crate) fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Identity => x,
        Activation::Relu => x.max(0.0),
        Activation::Gelu => x * normal(x),
    }
}

/// The normal distribution function: 1/2 + φ(x)·(x + x³/3 + x⁵/(3·5) + …).
fn normal(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for odd in 1..150 {
        term *= x * x / f64::from(2 * odd + 1);
        sum += term;
    }
    0.5 + (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt() * sum
}

/// The f64 twin of a layer with these parameters.
pub(crate) fn twin(weight: &ParameterMut<'_>, bias: &ParameterMut<'_>) -> Affine {
    let ParameterMut::Bias(bias) = bias else { panic!("the bias comes second") };
    let bias = widened(&bias.values);
    match weight {
        ParameterMut::Sparse(weight) => sparse_twin(weight, bias),
        ParameterMut::Weight { parameter, shape: [_, inputs] } => {
            let weight = widened(&parameter.values);
            Affine { inputs: *inputs, entries: (0..weight.len()).collect(), weight, bias }
        }
        ParameterMut::Bias(_) | ParameterMut::Statistic(_) => panic!("the weight comes first"),
    }
}

fn sparse_twin(weight: &SparseWeight, bias: Vec<f64>) -> Affine {
    let pattern = weight.pattern();
    let entries = pattern.active().flat_indices().chain(pattern.explore().flat_indices());
    let entries: Vec<usize> = entries.map(|index| index as usize).collect();
    let mut dense = vec![0.0; pattern.total() as usize];
    for (&index, &value) in entries.iter().zip(weight.active_values()) {
        dense[index] = f64::from(value);
    }
    Affine { inputs: pattern.width(), weight: dense, bias, entries }
}

pub(crate) fn gradient_of<'a>(parameter: &'a ParameterMut<'_>) -> &'a [f32] {
    match parameter {
        ParameterMut::Sparse(weight) => &weight.parameter().gradient,
        ParameterMut::Weight { parameter, .. } | ParameterMut::Bias(parameter) => &parameter.gradient,
        ParameterMut::Statistic(_) => &[],
    }
}

/// The twins of all layers, input first.
pub(crate) fn twins(network: &mut Mlp) -> Vec<Affine> {
    let (mut layers, mut weight) = (Vec::new(), None);
    network.visit(&mut |_, parameter| match weight.take() {
        None => weight = Some(parameter),
        Some(weight) => layers.push(twin(&weight, &parameter)),
    });
    layers
}
