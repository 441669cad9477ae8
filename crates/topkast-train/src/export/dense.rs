//! Safetensors as PyTorch has them: every tensor whole, under the name that a module of PyTorch's would give it.

use std::collections::HashMap;
use std::path::Path;

use safetensors::Dtype;
use topkast_nn::{ConvolutionShape, Network, NetworkShape};

use super::container::{self, Content, Tensor};
use super::held::{Held, held};
use super::{About, METADATA_KEY, check_size};
use crate::{TrainError, Trained, files};

/// All parameters of the network, whole; a norm's gain is its `weight`, as in PyTorch, and a convolution's weight has four axes.
pub(super) fn tensors<'a>(network: &'a mut Network, shape: &NetworkShape) -> Vec<Tensor<'a>> {
    let convolutions = match shape {
        NetworkShape::ResNet(shape) => shape.convolutions(),
        NetworkShape::Mlp(_) | NetworkShape::TransformerXl(_) => Vec::new(),
    };
    let axes = |ConvolutionShape { name, channels, window }: ConvolutionShape| {
        (format!("{name}.weight"), [channels, window.size].concat())
    };
    let axes: HashMap<String, Vec<usize>> = convolutions.into_iter().map(axes).collect();
    let mut tensors: Vec<Tensor<'a>> =
        held(network).into_iter().map(|(name, parameter)| whole(name, parameter)).collect();
    for tensor in &mut tensors {
        if let Some(axes) = axes.get(&tensor.name) {
            tensor.shape.clone_from(axes);
        }
    }
    tensors
}

fn whole<'a>(name: &str, parameter: Held<'a>) -> Tensor<'a> {
    let name = name.strip_suffix(".gain").map_or(name.to_owned(), |norm| format!("{norm}.weight"));
    match parameter {
        Held::Sparse(csr, values) => Tensor {
            name,
            dtype: Dtype::F32,
            shape: vec![csr.rows(), csr.width()],
            content: Content::Scattered(csr, values),
        },
        Held::Weight(shape, values) => Tensor::floats(name, shape.to_vec(), values),
        Held::Vector(values) => Tensor::floats(name, vec![values.len()], values),
    }
}

pub(super) fn write(trained: &mut Trained, path: &Path, largest: u64) -> Result<(), TrainError> {
    let about = serde_json::to_string(&About::of(trained, "dense")).expect("it is plain data");
    let shape = trained.shape();
    let tensors = tensors(&mut trained.network, &shape);
    let bytes = tensors.iter().fold(0, |sum: u64, tensor| sum.saturating_add(tensor.bytes()));
    check_size(path, bytes, largest)?;
    // Libraries over PyTorch look for the first.
    let metadata =
        [("format", "pt".to_owned()), (METADATA_KEY, about)].map(|(key, value)| (key.to_owned(), value));
    files::replace(path, |temporary| container::write(tensors, HashMap::from(metadata), temporary))
        .map_err(TrainError::write(path))
}
