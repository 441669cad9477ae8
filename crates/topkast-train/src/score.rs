//! How well a network does.

use std::fmt;

use topkast_nn::Loss;

/// How well a network does on a data set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Mean cross-entropy, without label smoothing.
    pub loss: f64,
    /// Fraction classified right; none where that is not known, as with adaptive softmax.
    pub accuracy: Option<f64>,
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
    /// What the loss of all samples comes to.
    pub(crate) fn new(loss: Loss, samples: usize, metric: Metric) -> Self {
        let (loss, accuracy) = means(loss, samples);
        Self { loss, accuracy, samples, metric }
    }

    /// By the task's metric.
    pub fn value(&self) -> f64 {
        match self.metric {
            Metric::Accuracy => self.accuracy.expect("it is known of images"),
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
        let value = self.value();
        match self.metric {
            Metric::Accuracy => return write!(f, "accuracy {:.2}%, loss {:.4}", value * 100.0, self.loss),
            Metric::BitsPerCharacter => write!(f, "{value:.4} bits per character")?,
            Metric::Perplexity => write!(f, "perplexity {value:.2}")?,
        }
        self.accuracy.map_or(Ok(()), |accuracy| write!(f, ", {:.2}% right", accuracy * 100.0))
    }
}

/// The mean loss of some samples, and the fraction of right answers.
pub(crate) fn means(Loss { sum, correct }: Loss, samples: usize) -> (f64, Option<f64>) {
    let mean = |sum| sum / samples as f64;
    (mean(sum), correct.map(|correct| mean(correct as f64)))
}
