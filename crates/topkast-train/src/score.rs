//! How well a network does.

use topkast_kernels::{Isa, Matrix, softmax_cross_entropy};
use topkast_nn::{Input, Mode, Network};

use crate::data::{Dataset, Normalizer, Order, fill_batch};

/// How well a network does on a data set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Mean cross-entropy, without label smoothing.
    pub loss: f64,
    /// Fraction classified right.
    pub accuracy: f64,
    /// Number of samples.
    pub samples: usize,
}

/// Scores `network`, with A only and without dropout, on all of `dataset`; `x` and `labels` are room for a batch.
pub(crate) fn evaluate(
    network: &mut Network,
    isa: Isa,
    dataset: &Dataset,
    normalizer: &Normalizer,
    batch: usize,
    x: &mut Matrix,
    labels: &mut Vec<u32>,
) -> Score {
    let order = Order::in_sequence(dataset.len());
    let (mut loss, mut correct) = (0.0, 0);
    for number in 0..order.batches(batch) {
        fill_batch(dataset, normalizer, order.batch(number, batch), x, labels);
        let logits = network.forward(isa, Input::Features(x), Mode::Evaluate);
        let sums = softmax_cross_entropy(isa, logits, labels, 0.0, None);
        loss += sums.loss;
        correct += sums.correct;
    }
    let samples = dataset.len();
    Score { loss: loss / samples as f64, accuracy: correct as f64 / samples as f64, samples }
}
