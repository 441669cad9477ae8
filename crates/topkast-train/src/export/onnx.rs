//! ONNX: the network as a graph of operators, its weights written out. The few messages of the format are encoded by hand.

mod graph;
mod layers;
mod mlp;
mod resnet;
mod table;
mod transformer_xl;
mod wire;

use std::path::Path;

use topkast_nn::NetworkShape;

use super::{check_size, dense};
use crate::task::DataState;
use crate::{TrainError, Trained, files};
use graph::Graph;

/// The longest message that protobuf can express.
const LONGEST: u64 = (1 << 31) - (1 << 16);

pub(super) fn write(trained: &mut Trained, path: &Path, largest: u64) -> Result<(), TrainError> {
    let shape = trained.shape();
    let Trained { network, config, state, .. } = trained;
    let mut graph = Graph::default();
    for tensor in dense::tensors(network, &shape) {
        graph.tensor(tensor);
    }
    match (&shape, &state.data) {
        (NetworkShape::Mlp(shape), DataState::Images { normalizer, .. }) => {
            mlp::add(&mut graph, shape, normalizer);
        }
        (NetworkShape::ResNet(shape), DataState::Images { normalizer, .. }) => {
            resnet::add(&mut graph, shape, normalizer);
        }
        (NetworkShape::TransformerXl(shape), DataState::Text { .. }) => {
            let memory = config.model.transformer_xl()?.evaluation_memory;
            transformer_xl::add(&mut graph, shape, memory);
        }
        _ => unreachable!("a trained network fits its data"),
    }
    if graph.bytes() > LONGEST {
        let problem = "an ONNX file holds at most 2 GiB, and with its zeros written out the network takes more; use --format sparse \
                       or dense";
        return Err(TrainError::export(path, problem));
    }
    check_size(path, graph.bytes(), largest)?;
    files::replace(path, |temporary| graph.write(temporary)).map_err(TrainError::write(path))
}
