//! SNIP's choice of A, when a run starts: one pass of the dense network over one batch (see [`topkast::SparseWeight::offer_saliencies`]).
//!
//! The batch is that of the first step: the paper (algorithm 1) takes one mini-batch of training data, of the size trained with.
//! Dropout is off, as the paper knows none: a dropped unit would take the saliency of all its weights with it.

use topkast::{Largest, Scale};
use topkast_kernels::Isa;
use topkast_nn::{Gradients, Input, LayerPlan, Mode, Network};

use crate::TrainError;
use crate::config::Config;

/// Starts every sparse layer of `network` with its entries of largest saliency on this batch; or with those of the largest of all
/// layers, where one selection is over all of them (as in the paper). Returns the mean loss of the dense network; where it is not
/// finite nothing is started.
///
/// # Errors
/// If the config does not fit the network.
pub(crate) fn start(
    network: &mut Network,
    config: &Config,
    isa: Isa,
    input: Input<'_>,
    labels: &[u32],
) -> Result<f64, TrainError> {
    network.forward(isa, input, Mode::Evaluate);
    let loss = network.loss(isa, labels, config.train.label_smoothing as f32, true);
    let loss = loss.sum / labels.len() as f64;
    if !loss.is_finite() {
        return Ok(loss);
    }
    network.backward(isa, input, Gradients::Activations);
    let shape = config.shape(network.input(), network.outputs());
    let sparse = config.plans(&shape)?.into_iter().filter_map(|plan| match plan {
        LayerPlan::Sparse { counts, init, .. } => Some((counts.active, init)),
        LayerPlan::Dense { .. } => None,
    });
    let (wanted, inits): (Vec<usize>, Vec<_>) = sparse.unzip();
    let indices = match config.global_counts(&shape)? {
        Some(all) => together(network, isa, input, all.active),
        None => each(network, isa, input, &wanted),
    };
    for ((weight, indices), init) in network.sparse_weights().into_iter().zip(indices).zip(inits) {
        let [rows, width] = [weight.pattern().rows(), weight.pattern().width()];
        // Given weights stay as they are.
        let fresh = config.model.weights().is_empty() && init.scale == Scale::Active;
        weight.start(&indices, fresh.then(|| init.deviation(rows, width)));
    }
    Ok(loss)
}

/// As many of each layer as are `wanted` there.
fn each(network: &mut Network, isa: Isa, input: Input<'_>, wanted: &[usize]) -> Vec<Vec<u64>> {
    let mut indices = Vec::with_capacity(wanted.len());
    network.for_each_gradient(input, |weight, gradient| {
        let mut largest = Largest::new(wanted[indices.len()]);
        weight.offer_saliencies(isa, gradient, 0, &mut largest);
        indices.push(largest.into_indices());
    });
    indices
}

/// The `wanted` of all layers together; every entry has a number, layer after layer, as in a global selection by magnitude.
fn together(network: &mut Network, isa: Isa, input: Input<'_>, wanted: usize) -> Vec<Vec<u64>> {
    let (mut largest, mut starts) = (Largest::new(wanted), vec![0]);
    network.for_each_gradient(input, |weight, gradient| {
        let start = starts[starts.len() - 1];
        weight.offer_saliencies(isa, gradient, start, &mut largest);
        starts.push(start + weight.pattern().total());
    });
    let numbers = largest.into_indices();
    let of_layer = |ends: &[u64]| {
        let [from, to] = [ends[0], ends[1]].map(|end| numbers.partition_point(|&number| number < end));
        numbers[from..to].iter().map(|number| number - ends[0]).collect()
    };
    starts.windows(2).map(of_layer).collect()
}
