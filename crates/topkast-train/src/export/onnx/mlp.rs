//! An MLP as a graph: `pixels` `[batch × inputs]`, 0 to 255, to `logits` `[batch × classes]`.

use safetensors::Dtype;
use topkast_nn::MlpShape;

use super::graph::{Axis, Graph};
use crate::data::Normalizer;

pub(super) fn add(graph: &mut Graph<'_>, shape: &MlpShape, normalizer: &Normalizer) {
    graph.input("pixels", Dtype::F32, &[Axis::Free("batch"), Axis::Fixed(shape.inputs)]);
    let plane = shape.inputs / normalizer.channels();
    let mut x = graph.normalized(normalizer, |channels| {
        let all: Vec<f32> = channels.iter().flat_map(|&number| std::iter::repeat_n(number, plane)).collect();
        let axes = vec![all.len()];
        (all, axes)
    });
    let layers = shape.layers();
    for (number, (name, _)) in layers.iter().enumerate() {
        x = graph.linear(&x, name);
        if number + 1 < layers.len() {
            x = graph.activation(x, shape.activation);
        }
    }
    graph.output("logits", &x, &[Axis::Free("batch"), Axis::Fixed(shape.outputs)]);
}
