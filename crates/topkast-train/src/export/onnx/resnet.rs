//! A residual network as a graph: `pixels` `[batch × channels × height × width]`, 0 to 255, to `logits` `[batch × classes]`.

use safetensors::Dtype;
use topkast_nn::{ConvolutionShape, ResNetShape};

use super::graph::Attribute::{Float, Int, Ints};
use super::graph::{Attribute, Axis, Graph, Value};
use crate::data::Normalizer;

/// As the network has it.
const NORM_EPSILON: f32 = 1e-5;

pub(super) fn add(graph: &mut Graph<'_>, shape: &ResNetShape, normalizer: &Normalizer) {
    let [height, width] = shape.size;
    let axes = [shape.channels, height, width].map(Axis::Fixed);
    let axes: Vec<Axis> = std::iter::once(Axis::Free("batch")).chain(axes).collect();
    graph.input("pixels", Dtype::F32, &axes);
    let x = graph.normalized(normalizer, |channels| (channels.to_vec(), vec![channels.len(), 1, 1]));
    let stem = unit(graph, &shape.stem(), &x);
    let mut x = graph.node("Relu", &[&stem], &[]);
    if let Some(window) = shape.pool() {
        x = graph.node("MaxPool", &[&x], &sliding(window.size, window.stride, window.padding));
    }
    for block in shape.blocks() {
        let residual = block.shortcut.as_ref().map(|shape| unit(graph, shape, &x));
        let residual = residual.unwrap_or_else(|| x.clone());
        let (last, others) = block.convolutions.split_last().expect("a block has convolutions");
        for shape in others {
            let sum = unit(graph, shape, &x);
            x = graph.node("Relu", &[&sum], &[]);
        }
        let branch = unit(graph, last, &x);
        let sum = graph.node("Add", &[&branch, &residual], &[]);
        x = graph.node("Relu", &[&sum], &[]);
    }
    let means = graph.node("GlobalAveragePool", &[&x], &[]);
    let features = graph.node("Flatten", &[&means], &[Int("axis", 1)]);
    let logits = graph.linear(&features, "fc");
    graph.output("logits", &logits, &[Axis::Free("batch"), Axis::Fixed(shape.classes)]);
}

/// A convolution and the norm after it.
fn unit(graph: &mut Graph<'_>, shape: &ConvolutionShape, x: &str) -> Value {
    let ConvolutionShape { name, window, .. } = shape;
    let sum = graph.node(
        "Conv",
        &[x, &format!("{name}.weight")],
        &sliding(window.size, window.stride, window.padding),
    );
    let norm = shape.norm_name();
    let parts = ["weight", "bias", "running_mean", "running_var"].map(|part| format!("{norm}.{part}"));
    let inputs: Vec<&str> = std::iter::once(&sum).chain(&parts).map(String::as_str).collect();
    graph.node("BatchNormalization", &inputs, &[Float("epsilon", NORM_EPSILON)])
}

/// How a window slides, with as many zeros on either side.
fn sliding(size: [usize; 2], stride: [usize; 2], padding: [usize; 2]) -> [Attribute; 3] {
    let both = |numbers: [usize; 2]| numbers.map(|number| number as i64).to_vec();
    [Ints("kernel_shape", both(size)), Ints("strides", both(stride)), Ints("pads", both(padding).repeat(2))]
}
