//! Loss and dense gradients of a multilayer perceptron, sample by sample.

use topkast_train::config::ActivationKind;

/// The weights `[outputs × inputs]` and biases that one layer computes with.
pub(crate) struct Affine {
    pub(crate) weight: Vec<f64>,
    pub(crate) bias: Vec<f64>,
}

/// Gradients of a layer's weight, for every entry, and of its bias.
pub(crate) struct Gradient {
    pub(crate) weight: Vec<f64>,
    pub(crate) bias: Vec<f64>,
}

/// The mean loss over the samples, and its gradients, layer by layer.
pub(crate) fn pass(
    layers: &[Affine],
    activation: ActivationKind,
    smoothing: f64,
    samples: &[Vec<f64>],
    labels: &[usize],
) -> (f64, Vec<Gradient>) {
    let zeros = |values: &Vec<f64>| vec![0.0; values.len()];
    let mut gradients: Vec<Gradient> = layers
        .iter()
        .map(|layer| Gradient { weight: zeros(&layer.weight), bias: zeros(&layer.bias) })
        .collect();
    let share = 1.0 / samples.len() as f64;
    let mut loss = 0.0;
    for (sample, &label) in samples.iter().zip(labels) {
        let (inputs, pres) = forward(layers, activation, sample);
        let (own, mut slope) = cross_entropy(pres.last().unwrap(), label, smoothing);
        loss += share * own;
        slope.iter_mut().for_each(|slope| *slope *= share);
        for number in (0..layers.len()).rev() {
            let input = &inputs[number];
            for (row, &slope) in slope.iter().enumerate() {
                gradients[number].bias[row] += slope;
                for (column, &x) in input.iter().enumerate() {
                    gradients[number].weight[row * input.len() + column] += slope * x;
                }
            }
            if number > 0 {
                let before = &pres[number - 1];
                slope = (0..input.len())
                    .map(|column| {
                        let weights = layers[number].weight.iter().skip(column).step_by(input.len());
                        let sum: f64 = weights.zip(&slope).map(|(weight, slope)| weight * slope).sum();
                        sum * derivative(activation, before[column])
                    })
                    .collect();
            }
        }
    }
    (loss, gradients)
}

/// Each layer's input, and what it makes of it before the activation.
fn forward(layers: &[Affine], activation: ActivationKind, sample: &[f64]) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let (mut inputs, mut pres): (Vec<Vec<f64>>, Vec<Vec<f64>>) = (Vec::new(), Vec::new());
    for layer in layers {
        let input = match pres.last() {
            Some(pre) => pre.iter().map(|&x| activate(activation, x)).collect(),
            None => sample.to_vec(),
        };
        let rows = layer.weight.chunks(input.len()).zip(&layer.bias);
        let dot = |row: &[f64]| row.iter().zip(&input).map(|(weight, x)| weight * x).sum::<f64>();
        pres.push(rows.map(|(row, bias)| dot(row) + bias).collect());
        inputs.push(input);
    }
    (inputs, pres)
}

fn activate(activation: ActivationKind, x: f64) -> f64 {
    match activation {
        ActivationKind::Relu => x.max(0.0),
        ActivationKind::Gelu => x * normal(x),
    }
}

fn derivative(activation: ActivationKind, x: f64) -> f64 {
    match activation {
        ActivationKind::Relu if x > 0.0 => 1.0,
        ActivationKind::Relu => 0.0,
        ActivationKind::Gelu => normal(x) + x * bell(x),
    }
}

/// The density of the normal distribution.
fn bell(x: f64) -> f64 {
    (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt()
}

/// The normal distribution function: 1/2 + φ(x)·(x + x³/3 + x⁵/(3·5) + …).
fn normal(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for odd in 1..100 {
        term *= x * x / f64::from(2 * odd + 1);
        sum += term;
    }
    0.5 + bell(x) * sum
}

/// −Σ q·log softmax(logits), where q mixes the label with the uniform distribution; and its gradient.
fn cross_entropy(logits: &[f64], label: usize, smoothing: f64) -> (f64, Vec<f64>) {
    let total: f64 = logits.iter().map(|x| x.exp()).sum();
    let (mut loss, mut slope) = (0.0, Vec::new());
    for (class, x) in logits.iter().enumerate() {
        let target = smoothing / logits.len() as f64 + if class == label { 1.0 - smoothing } else { 0.0 };
        loss -= target * (x - total.ln());
        slope.push(x.exp() / total - target);
    }
    (loss, slope)
}
