//! A Transformer-XL as a graph: one segment of one stream of text.
//!
//! In: `tokens` `[tokens]` and, for each layer, `memory.L` `[remembered × width]`, which may be empty. Out: `logits` `[tokens × vocabulary]`
//! and, for each layer, `memory.L.next`, to be given with the next segment. Attention sees as far as in evaluation.

use safetensors::Dtype;
use topkast_nn::TransformerXlShape;

use super::graph::Attribute::{Int, Ints};
use super::graph::{Axis, Graph, Value};

/// What the attention of all layers has in common.
struct Positions {
    /// Sinusoids of the distances from 0 on, `[keys × width]`.
    distances: Value,
    /// The distance of each key from each query, 0 for later ones, `[heads × tokens × keys]`.
    of_keys: Value,
    /// Whether a query sees a key, `[tokens × keys]`.
    seen: Value,
}

/// `memory` is how many positions before a token its attention sees.
pub(super) fn add(graph: &mut Graph<'_>, shape: &TransformerXlShape, memory: usize) {
    let width = shape.width;
    graph.input("tokens", Dtype::I64, &[Axis::Free("tokens")]);
    for layer in 0..shape.layers {
        let axes = [Axis::Free("remembered"), Axis::Fixed(width)];
        graph.input(&format!("memory.{layer}"), Dtype::F32, &axes);
    }
    let positions = positions(graph, shape, memory);
    let mut x = graph.embedded(shape);
    for layer in 0..shape.layers {
        let context = graph.node("Concat", &[&format!("memory.{layer}"), &x], &[Int("axis", 0)]);
        let kept = last_rows(graph, &context, memory);
        graph.output(&format!("memory.{layer}.next"), &kept, &[Axis::Free("kept"), Axis::Fixed(width)]);
        let name = format!("layers.{layer}.attention");
        let branch = attention(graph, shape, &name, [&x, &context], &positions);
        let y = graph.norm(&x, &branch, &format!("{name}.norm"));
        let name = format!("layers.{layer}.feed_forward");
        let inner = graph.linear(&y, &format!("{name}.inner"));
        let hidden = graph.activation(inner, shape.activation);
        let branch = graph.linear(&hidden, &format!("{name}.outer"));
        x = graph.norm(&y, &branch, &format!("{name}.norm"));
    }
    let logits = graph.predicted(shape, &x);
    graph.output("logits", &logits, &[Axis::Free("tokens"), Axis::Fixed(shape.vocabulary)]);
}

fn positions(graph: &mut Graph<'_>, shape: &TransformerXlShape, memory: usize) -> Positions {
    let remembered = length(graph, "memory.0");
    let tokens = length(graph, "tokens");
    let count = graph.node("Add", &[&remembered, &tokens], &[]);
    let (zero, one) = (graph.integer(0), graph.integer(1));
    let keys = graph.node("Range", &[&zero, &count, &one], &[]);
    let queries = graph.node("Range", &[&remembered, &count, &one], &[]);
    let (first, second) = (graph.integers(&[0]), graph.integers(&[1]));
    let column = graph.node("Unsqueeze", &[&queries, &second], &[]);
    let distance = graph.node("Sub", &[&column, &keys], &[]);
    let span = graph.integer(memory as i64 + 1);
    let earlier = graph.node("GreaterOrEqual", &[&distance, &zero], &[]);
    let near = graph.node("Less", &[&distance, &span], &[]);
    let seen = graph.node("And", &[&earlier, &near], &[]);
    let clipped = graph.node("Max", &[&distance, &zero], &[]);
    let layer = graph.node("Unsqueeze", &[&clipped, &first], &[]);
    let heads = graph.integers(&[shape.heads as i64, 1, 1]);
    let of_keys = graph.node("Expand", &[&layer, &heads], &[]);
    Positions { distances: sinusoids(graph, shape.width, &keys), of_keys, seen }
}

/// How long the first axis of a value is, as a number without axes.
fn length(graph: &mut Graph<'_>, value: &str) -> Value {
    let shape = graph.node("Shape", &[value], &[Int("start", 0), Int("end", 1)]);
    graph.node("Squeeze", &[&shape], &[])
}

/// In double precision, as sines of large numbers need it.
fn sinusoids(graph: &mut Graph<'_>, width: usize, numbers: &str) -> Value {
    let (float, double) = (1, 11);
    let frequencies: Vec<f64> =
        (0..width / 2).map(|pair| 10000_f64.powf(-2.0 * pair as f64 / width as f64)).collect();
    let (frequencies, second) = (graph.doubles(&frequencies), graph.integers(&[1]));
    let numbers = graph.node("Cast", &[numbers], &[Int("to", double)]);
    let column = graph.node("Unsqueeze", &[&numbers, &second], &[]);
    let angles = graph.node("Mul", &[&column, &frequencies], &[]);
    let waves = ["Sin", "Cos"].map(|wave| graph.node(wave, &[&angles], &[]));
    let joined = graph.node("Concat", &[&waves[0], &waves[1]], &[Int("axis", 1)]);
    graph.node("Cast", &[&joined], &[Int("to", float)])
}

/// The last `count` rows, or all if there are fewer.
fn last_rows(graph: &mut Graph<'_>, x: &str, count: usize) -> Value {
    let start = if count == 0 { i64::MAX } else { -(count as i64) };
    let (start, end, axis) = (graph.integers(&[start]), graph.integers(&[i64::MAX]), graph.integers(&[0]));
    graph.node("Slice", &[x, &start, &end, &axis], &[])
}

/// The output layer's result for queries of `x` and keys and values of `context`.
fn attention(
    graph: &mut Graph<'_>,
    shape: &TransformerXlShape,
    name: &str,
    [x, context]: [&str; 2],
    Positions { distances, of_keys, seen }: &Positions,
) -> Value {
    let features = shape.width / shape.heads;
    let parts = graph.integers(&[0, shape.heads as i64, features as i64]);
    let heads = |graph: &mut Graph<'_>, x: &str, order: [i64; 3]| {
        let split = graph.node("Reshape", &[x, &parts], &[]);
        graph.node("Transpose", &[&split], &[Ints("perm", order.to_vec())])
    };
    let rows_of_head = [1, 0, 2];
    let columns_of_head = [1, 2, 0];
    let q = graph.linear(x, &format!("{name}.query"));
    let [k, v] = ["key", "value"].map(|part| graph.linear(context, &format!("{name}.{part}")));
    let r = graph.linear(distances, &format!("{name}.position"));
    let [to_keys, to_distances] =
        ["u", "w"].map(|bias| graph.node("Add", &[&q, &format!("{name}.{bias}")], &[]));
    let [to_keys, to_distances, v] = [to_keys, to_distances, v].map(|it| heads(graph, &it, rows_of_head));
    let [k, r] = [k, r].map(|it| heads(graph, &it, columns_of_head));
    let content = graph.node("MatMul", &[&to_keys, &k], &[]);
    let by_distance = graph.node("MatMul", &[&to_distances, &r], &[]);
    let position = graph.node("GatherElements", &[&by_distance, of_keys], &[Int("axis", 2)]);
    let sum = graph.node("Add", &[&content, &position], &[]);
    let scale = graph.number(1.0 / (features as f32).sqrt());
    let scores = graph.node("Mul", &[&sum, &scale], &[]);
    let never = graph.number(f32::NEG_INFINITY);
    let scores = graph.node("Where", &[seen, &scores, &never], &[]);
    let shares = graph.node("Softmax", &[&scores], &[Int("axis", -1)]);
    let attended = graph.node("MatMul", &[&shares, &v], &[]);
    let by_position = graph.node("Transpose", &[&attended], &[Ints("perm", rows_of_head.to_vec())]);
    let whole = graph.integers(&[0, shape.width as i64]);
    let joined = graph.node("Reshape", &[&by_position, &whole], &[]);
    graph.linear(&joined, &format!("{name}.output"))
}
