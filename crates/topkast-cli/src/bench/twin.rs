//! The naive twin of a training step: plain loops over entries, summed in `f64`, for a batch small enough to wait for.

use topkast_kernels::{Csr, Matrix, naive};
use topkast_nn::ParameterMut;
use topkast_train::data::{Dataset, Normalizer, Split};
use topkast_train::{Config, Trainer};

use super::agree;
use crate::failure::Failure;

/// How far results in `f32` may be from the twin's, relative to the largest: roundings of a few layers.
const ROUNDING: f32 = 1e-4;
/// A hidden unit this close to zero, relative to the largest, may be on either side of it after rounding, and its gradient
/// with it: such a batch decides nothing.
const AMBIGUOUS: f32 = 1e-6;
/// Batches to try.
const TRIES: u64 = 20;

/// Makes the first step on a small batch and compares its loss, every gradient and every updated value with the twin's.
/// `data` gives as many samples as asked for, others for other seeds.
pub(super) fn check(
    config: &Config,
    samples: usize,
    data: impl Fn(usize, u64) -> Result<Split, Failure>,
) -> Result<(), Failure> {
    let mut config = config.clone();
    config.train.batch = samples;
    for seed in 0..TRIES {
        let split = data(samples, seed)?;
        let (x, labels) = batch(&split.train);
        let mut trainer = Trainer::with_data(config.clone(), split)?;
        let layers = layers(&mut trainer);
        let activations = forward(&layers, x);
        if activations[1..layers.len()].iter().all(is_decided) {
            return compare(&config, &mut trainer, &layers, &activations, &labels);
        }
    }
    Err(Failure::Failed("no batch decides whether the step is right; nothing was timed".to_owned()))
}

/// A layer before the step, its dense weight, if it has one, as a structure with every entry.
struct Layer {
    active: Csr,
    explore: Csr,
    values: Vec<f32>,
    bias: Vec<f32>,
}

fn layers(trainer: &mut Trainer) -> Vec<Layer> {
    let mut layers: Vec<Layer> = Vec::new();
    let csr = |width, offsets, columns| Csr::new(width, offsets, columns).expect("a valid structure");
    trainer.network().visit(&mut |_, parameter| match parameter {
        ParameterMut::Sparse(weight) => layers.push(Layer {
            active: weight.pattern().active().clone(),
            explore: weight.pattern().explore().clone(),
            values: weight.parameter().values.to_vec(),
            bias: Vec::new(),
        }),
        ParameterMut::Weight { parameter, shape: [rows, width] } => {
            let offsets = (0..=rows).map(|row| (row * width) as u32).collect();
            let columns = (0..rows).flat_map(|_| 0..width as u32).collect();
            let active = csr(width, offsets, columns);
            let values = active.flat_indices().map(|index| parameter.values[index as usize]).collect();
            let explore = csr(width, vec![0; rows + 1], Vec::new());
            layers.push(Layer { active, explore, values, bias: Vec::new() });
        }
        ParameterMut::Bias(parameter) => {
            layers.last_mut().expect("a bias follows its weight").bias = parameter.values.to_vec();
        }
        ParameterMut::Statistic(_) => {}
    });
    layers
}

/// All samples as a batch; their order does not matter to sums over them.
fn batch(train: &Dataset) -> (Matrix, Vec<usize>) {
    let normalizer = Normalizer::fit(train);
    let mut x = Matrix::zeros(train.features(), train.len());
    for sample in 0..train.len() {
        for (feature, &pixel) in train.image(sample).iter().enumerate() {
            x.row_mut(feature)[sample] = normalizer.table(0)[usize::from(pixel)];
        }
    }
    (x, train.labels().iter().map(|&label| label as usize).collect())
}

/// The input of each layer, hidden units before their ReLU, and the logits.
fn forward(layers: &[Layer], x: Matrix) -> Vec<Matrix> {
    let mut activations = vec![x];
    for (number, Layer { active, values, bias, .. }) in layers.iter().enumerate() {
        let last = &activations[number];
        let mut y = if number == 0 {
            naive::spmm(active, values, last)
        } else {
            naive::spmm(active, values, &mapped(last, |value, _| value.max(0.0), last))
        };
        for (row, &bias) in bias.iter().enumerate() {
            y.row_mut(row).iter_mut().for_each(|value| *value += bias);
        }
        activations.push(y);
    }
    activations
}

/// Whether rounding leaves every hidden unit on its side of zero; one with no inputs is exactly zero.
fn is_decided(hidden: &Matrix) -> bool {
    let largest = hidden.padded().iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let rows = (0..hidden.features()).flat_map(|row| hidden.row(row));
    rows.into_iter().all(|&value| value == 0.0 || value.abs() > AMBIGUOUS * largest)
}

/// `f` of each two elements of matrices of one shape.
fn mapped(a: &Matrix, f: impl Fn(f32, f32) -> f32, b: &Matrix) -> Matrix {
    let mut out = Matrix::zeros(a.features(), a.positions());
    for row in 0..a.features() {
        let pairs = a.row(row).iter().zip(b.row(row));
        out.row_mut(row).iter_mut().zip(pairs).for_each(|(out, (&a, &b))| *out = f(a, b));
    }
    out
}

/// The mean cross-entropy and its gradient with respect to the logits.
fn loss_and_gradient(logits: &Matrix, labels: &[usize]) -> (f64, Matrix) {
    let (classes, samples) = (logits.features(), labels.len());
    let (mut loss, mut gradient) = (0.0, Matrix::zeros(classes, samples));
    for (sample, &label) in labels.iter().enumerate() {
        let logit = |class| f64::from(logits.get(class, sample));
        let total: f64 = (0..classes).map(|class| logit(class).exp()).sum();
        loss += (total.ln() - logit(label)) / samples as f64;
        for class in 0..classes {
            let target = f64::from(u8::from(class == label));
            gradient.row_mut(class)[sample] = ((logit(class).exp() / total - target) / samples as f64) as f32;
        }
    }
    (loss, gradient)
}

/// Makes the trainer's step and the twin's, and compares them from the last layer to the first.
fn compare(
    config: &Config,
    trainer: &mut Trainer,
    layers: &[Layer],
    activations: &[Matrix],
    labels: &[usize],
) -> Result<(), Failure> {
    let report = trainer.step()?;
    let (loss, mut dy) = loss_and_gradient(&activations[layers.len()], labels);
    agree("loss", &[report.loss as f32], &[loss as f32], ROUNDING)?;
    let mut made = made(trainer, layers);
    for (number, layer) in layers.iter().enumerate().rev() {
        let before = &activations[number];
        let x = mapped(before, |value, _| if number == 0 { value } else { value.max(0.0) }, before);
        let made = made.pop().expect("as many as layers");
        let mut gradient = naive::sddmm(&layer.active, &dy, &x);
        gradient.extend(naive::sddmm(&layer.explore, &dy, &x));
        let sums = |row| dy.row(row).iter().map(|&slope| f64::from(slope)).sum::<f64>() as f32;
        let bias_gradient: Vec<f32> = (0..dy.features()).map(sums).collect();
        agree(&format!("weight gradient of layer {number}"), &made.gradient, &gradient, ROUNDING)?;
        agree(&format!("bias gradient of layer {number}"), &made.bias_gradient, &bias_gradient, ROUNDING)?;
        let change = layer.change(config, &gradient, report.lr as f32);
        let changed: Vec<f32> = made.values.iter().zip(&layer.values).map(|(new, old)| new - old).collect();
        // The change is a difference of numbers that may be far larger.
        let slack = ROUNDING + 1e-6 * largest(&layer.values) / largest(&change).max(f32::MIN_POSITIVE);
        agree(&format!("update of layer {number}"), &changed, &change, slack)?;
        let transposed = layer.active.transposed();
        let turned: Vec<f32> = transposed.order().iter().map(|&entry| layer.values[entry as usize]).collect();
        let dx = naive::spmm(transposed.csr(), &turned, &dy);
        dy = mapped(&dx, |slope, value| if value > 0.0 { slope } else { 0.0 }, before);
    }
    Ok(())
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()))
}

impl Layer {
    /// What the first step adds to each value: there is no momentum yet.
    fn change(&self, config: &Config, gradient: &[f32], lr: f32) -> Vec<f32> {
        let (active, penalty) = (self.active.entries(), config.optimizer.penalty);
        let density = active as f64 / (self.active.rows() * self.active.width()) as f64;
        let pull = |entry| if entry < active { penalty } else { penalty / density } as f32;
        let pairs = self.values.iter().zip(gradient).enumerate();
        pairs.map(|(entry, (value, slope))| -lr * (slope + pull(entry) * value)).collect()
    }
}

/// What the trainer made of a layer, in the order of the twin's entries.
struct Made {
    values: Vec<f32>,
    gradient: Vec<f32>,
    bias_gradient: Vec<f32>,
}

fn made(trainer: &mut Trainer, layers: &[Layer]) -> Vec<Made> {
    let mut all: Vec<Made> = Vec::new();
    trainer.network().visit(&mut |_, parameter| match parameter {
        ParameterMut::Sparse(weight) => {
            let parameter = weight.parameter();
            let (values, gradient) = (parameter.values.to_vec(), parameter.gradient.to_vec());
            all.push(Made { values, gradient, bias_gradient: Vec::new() });
        }
        ParameterMut::Weight { parameter, .. } => {
            let order = || layers[all.len()].active.flat_indices().map(|index| index as usize);
            let values = order().map(|index| parameter.values[index]).collect();
            let gradient = order().map(|index| parameter.gradient[index]).collect();
            all.push(Made { values, gradient, bias_gradient: Vec::new() });
        }
        ParameterMut::Bias(parameter) => {
            all.last_mut().expect("a bias follows its weight").bias_gradient = parameter.gradient.to_vec();
        }
        ParameterMut::Statistic(_) => {}
    });
    all
}
