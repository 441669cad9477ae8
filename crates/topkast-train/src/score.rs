//! How well a network does.

use std::fmt;

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
    /// Number of samples; of a text, of tokens.
    pub samples: usize,
    /// By what the task is judged.
    pub metric: Metric,
}

/// What networks are judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// The fraction classified right.
    Accuracy,
    /// Cross-entropy in bits, of a text in bytes.
    BitsPerCharacter,
    /// The exponential of the cross-entropy, of a text in words.
    Perplexity,
}

impl Metric {
    /// Its name in summaries and metrics, after the part of the data that it is of and a `_`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::BitsPerCharacter => "bpc",
            Self::Perplexity => "perplexity",
        }
    }
}

impl Metric {
    /// Whether more of it is better.
    pub fn rises(self) -> bool {
        self == Self::Accuracy
    }
}

impl Score {
    /// By the task's metric.
    pub fn value(&self) -> f64 {
        match self.metric {
            Metric::Accuracy => self.accuracy,
            Metric::BitsPerCharacter => self.loss / std::f64::consts::LN_2,
            Metric::Perplexity => self.loss.exp(),
        }
    }
}

impl Score {
    /// By this metric, if it is the task's.
    pub(crate) fn of(&self, metric: Metric) -> Option<f64> {
        (self.metric == metric).then(|| self.value())
    }
}

/// The metric, and what else there is to say.
impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, percent) = (self.value(), self.accuracy * 100.0);
        match self.metric {
            Metric::Accuracy => write!(f, "accuracy {percent:.2}%, loss {:.4}", self.loss),
            Metric::BitsPerCharacter => write!(f, "{value:.4} bits per character, {percent:.2}% right"),
            Metric::Perplexity => write!(f, "perplexity {value:.2}, {percent:.2}% right"),
        }
    }
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
    Score {
        loss: loss / samples as f64,
        accuracy: correct as f64 / samples as f64,
        samples,
        metric: Metric::Accuracy,
    }
}
