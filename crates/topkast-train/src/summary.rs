//! What a run came to: `summary.json`.

use serde::{Deserialize, Serialize};
use topkast::Reservoir;
use topkast_nn::{Linear, Network, ParameterMut};

use crate::config::{Config, OptimizerKind};
use crate::flops::Flops;
use crate::products::{LayerProducts, Products};
use crate::time_split::PhaseSeconds;

/// The contents of `summary.json`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Summary {
    /// Which of the scores the task is judged by.
    pub task_metric: String,
    /// Fraction of the test data classified right; of a text, of the tokens predicted, unless adaptive softmax does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_accuracy: Option<f64>,
    /// Bits per character on the test data, of a text in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_bpc: Option<f64>,
    /// Perplexity on the test data, of a text in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_perplexity: Option<f64>,
    /// Mean cross-entropy on the test data.
    pub test_loss: f64,
    /// The same on the held-out training data, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_accuracy: Option<f64>,
    /// The same on the held-out training data, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
    /// Bits per character on the validation part of a text in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_bpc: Option<f64>,
    /// Perplexity on the validation part of a text in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_perplexity: Option<f64>,
    /// Steps done.
    pub steps: u64,
    /// Seconds of training, evaluation between epochs included.
    pub seconds: f64,
    /// Median time of a step, of those since the run started or was last resumed.
    pub step_ms_median: f64,
    /// Median time of a refresh, likewise; 0 without any.
    pub refresh_ms_median: f64,
    /// Time of all refreshes over that of all steps, refreshes included, likewise.
    pub refresh_share: f64,
    /// The most memory the process had resident.
    pub peak_rss_bytes: Option<u64>,
    /// n, over the sparse layers.
    pub parameters: u64,
    /// |A|, over the sparse layers.
    pub active: u64,
    /// |B|, over the sparse layers.
    pub backward: u64,
    /// Weights, gradients, optimizer state and indices of all layers; under pruning when it begins, with all weights.
    pub training_bytes: u64,
    /// The same for the network with every layer dense.
    pub dense_training_bytes: u64,
    /// What reservoirs hold besides.
    pub reservoir_bytes: u64,
    /// Floating-point operations of training, as a fraction of the dense network's.
    pub train_flops_ratio: f64,
    /// The same by what they are for.
    #[serde(default)]
    pub flops: Flops,
    /// Where the time went, of the steps since the run started or was last resumed.
    #[serde(default)]
    pub phase_seconds: PhaseSeconds,
    /// Instruction set.
    pub isa: String,
    /// Threads.
    pub threads: usize,
    /// Each layer.
    pub layers: Vec<LayerSummary>,
}

/// One linear layer.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct LayerSummary {
    /// Name.
    pub name: String,
    /// Outputs and inputs.
    pub shape: [usize; 2],
    /// Whether it is sparse.
    pub sparse: bool,
    /// Entries of the dense weight.
    pub n: u64,
    /// |A|.
    pub active: u64,
    /// |B|.
    pub backward: u64,
    /// Entries that have been in B at some time; where there is no reservoir to know of others, those in B now.
    pub touched: u64,
    /// Of those, the ones now in C.
    pub dormant: u64,
    /// Where θ⁰ is known by rank, up to which rank all of it has been in B; none of other reservoirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frontier: Option<u64>,
    /// Milliseconds a step of the sparse products, as measured when training started; none of a dense layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sparse_ms: Option<f64>,
    /// The same of a dense layer of this shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dense_ms: Option<f64>,
    /// What it computes with.
    #[serde(default)]
    pub products: Products,
    /// Weights, gradients, optimizer state and indices, with the bias, and what dense products of a sparse layer take.
    pub training_bytes: u64,
    /// The same, were it dense.
    pub dense_training_bytes: u64,
    /// What its reservoir holds besides.
    pub reservoir_bytes: u64,
}

/// What each linear layer of `network` holds, and what was measured of it.
pub fn layer_summaries(
    network: &mut Network,
    config: &Config,
    products: &[LayerProducts],
) -> Vec<LayerSummary> {
    let mut layers: Vec<LayerSummary> = Vec::new();
    let dense_entry = 4 * (2 + moments(config));
    network.index_inputs();
    network.visit(&mut |name, parameter| match parameter {
        ParameterMut::Sparse(weight) => {
            let (pattern, counts) = (weight.pattern(), weight.counts());
            let name = layer_name(name);
            let measured = products.iter().find(|layer| layer.name == name);
            let products = measured.map_or(Products::Sparse, |layer| layer.products);
            let backward = counts.backward as u64;
            let dormant = weight.reservoir().map_or(0, |reservoir| reservoir.dormant());
            layers.push(LayerSummary {
                name,
                shape: [pattern.rows(), pattern.width()],
                sparse: true,
                sparse_ms: measured.map(|layer| layer.sparse_ms),
                dense_ms: measured.map(|layer| layer.dense_ms),
                products,
                n: pattern.total(),
                active: counts.active as u64,
                backward,
                touched: backward + dormant,
                dormant,
                frontier: weight.reservoir().and_then(Reservoir::frontier),
                training_bytes: weight.most_training_bytes() as u64,
                dense_training_bytes: pattern.total() * dense_entry,
                reservoir_bytes: weight.reservoir().map_or(0, |reservoir| reservoir.bytes() as u64),
            });
        }
        ParameterMut::Weight { parameter, shape } => {
            let n = parameter.values.len() as u64;
            layers.push(LayerSummary {
                name: layer_name(name),
                shape,
                sparse: false,
                sparse_ms: None,
                dense_ms: None,
                products: Products::Dense,
                n,
                active: n,
                backward: n,
                touched: n,
                dormant: 0,
                frontier: None,
                training_bytes: parameter.bytes() as u64,
                dense_training_bytes: n * dense_entry,
                reservoir_bytes: 0,
            });
        }
        ParameterMut::Bias(parameter) => {
            let layer = layers.last_mut().expect("a bias follows its weight");
            layer.training_bytes += parameter.bytes() as u64;
            layer.dense_training_bytes += parameter.values.len() as u64 * dense_entry;
        }
        ParameterMut::Statistic(values) => {
            let (layer, bytes) =
                (layers.last_mut().expect("a norm follows a weight"), size_of_val(&values[..]));
            layer.training_bytes += bytes as u64;
            layer.dense_training_bytes += bytes as u64;
        }
    });
    for (name, linear) in network.linears() {
        let layer = layers.iter_mut().find(|layer| layer.name == name).expect("every layer has a weight");
        if let Linear::Sparse(linear) = linear {
            if linear.dense_bytes() > 0 {
                layer.products = Products::Dense;
            }
            layer.training_bytes += linear.most_dense_bytes();
        }
    }
    layers
}

fn layer_name(parameter: &str) -> String {
    parameter.strip_suffix(".weight").unwrap_or(parameter).to_owned()
}

/// How many numbers per weight an optimizer keeps in a dense network, where a step count per entry is not needed.
fn moments(config: &Config) -> u64 {
    match config.optimizer.kind {
        OptimizerKind::Sgd if config.optimizer.momentum == 0.0 => 0,
        OptimizerKind::Sgd => 1,
        OptimizerKind::Adam | OptimizerKind::AdamW => 2,
    }
}

/// The middle of `values`; 0 if there are none.
pub(crate) fn median(values: &mut [f32]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    f64::from(*values.select_nth_unstable_by(middle, f32::total_cmp).1)
}

/// The sum of `part` over that of `all`; 0 if there are none.
pub(crate) fn share(part: &[f32], all: &[f32]) -> f64 {
    let sum = |values: &[f32]| values.iter().map(|&value| f64::from(value)).sum::<f64>();
    if all.is_empty() { 0.0 } else { sum(part) / sum(all) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&mut []), 0.0);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
    }

    #[test]
    fn shares() {
        assert_eq!(share(&[], &[]), 0.0);
        assert_eq!(share(&[1.0], &[1.0, 3.0]), 0.25);
    }
}
