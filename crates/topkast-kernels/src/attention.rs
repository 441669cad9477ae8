//! Causal attention with relative positions, as in Transformer-XL (Dai et al. 2019).
//!
//! Of each stream the queries are its last `queries` positions, the keys these and `memory` positions before. Position
//! `i` sees key `j` if it is not later and less than `span` away; with distance δ = i + memory − j,
//!
//! ```text
//! score(i, j) = ((q_i + u)·k_j + (q_i + w)·r_δ) / √d_head      o_i = Σ_j softmax_j(score(i, j)) × v_j
//! ```
//! Head h owns the features h·d_head … (h+1)·d_head of everything. Column stream·queries + i of a matrix of queries is query
//! i of a stream, column stream·(memory + queries) + j of a matrix of keys its key j, and column δ of `position` is distance δ.
//!
//! Work is split over heads, so that a sum over streams is one task's, in the order of the streams.

mod backward;
mod band;
mod forward;
mod head;
mod pack;
mod product;
mod scores;
mod split;
#[cfg(test)]
mod tests;

use crate::{Buffer, Isa, Matrix};
use backward::{Backward, Gradients, Outputs};
use forward::Forward;
use head::Head;
use pack::Part;
use split::{Results, for_each_head};

/// Of what size the operands of [`attention`] are, and what its queries see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Heads, which divide the features.
    pub heads: usize,
    /// Independent sequences.
    pub streams: usize,
    /// Queries of each stream.
    pub queries: usize,
    /// Keys of each stream that come before its first query.
    pub memory: usize,
    /// How many keys a query sees at most, the one at its own place included: at least 1; `usize::MAX` for all.
    pub span: usize,
}

impl AttentionShape {
    /// Keys of each stream.
    fn context(&self) -> usize {
        self.memory.checked_add(self.queries).expect("the size of the context overflows")
    }
}

/// What [`attention`] reads.
#[derive(Clone, Copy)]
pub struct AttentionInputs<'a> {
    /// q, `[width × streams·queries]`.
    pub query: &'a Matrix,
    /// k, `[width × streams·(memory + queries)]`.
    pub key: &'a Matrix,
    /// v, of k's shape.
    pub value: &'a Matrix,
    /// r, `[width × (memory + queries)]`: a column for each distance, shared by all streams.
    pub position: &'a Matrix,
    /// u, `[width]`: added to q where it meets k.
    pub content_bias: &'a [f32],
    /// w, `[width]`: added to q where it meets r.
    pub position_bias: &'a [f32],
}

/// Where [`attention_gradient`] puts the gradients of [`AttentionInputs`]; matrices take their shapes.
pub struct AttentionGradients<'a> {
    /// Gradient of q.
    pub query: &'a mut Matrix,
    /// Gradient of k.
    pub key: &'a mut Matrix,
    /// Gradient of v.
    pub value: &'a mut Matrix,
    /// Gradient of r, summed over streams.
    pub position: &'a mut Matrix,
    /// Gradient of u, summed over streams.
    pub content_bias: &'a mut [f32],
    /// Gradient of w, summed over streams.
    pub position_bias: &'a mut [f32],
}

/// What the gradient needs of the forward pass, the logarithm of each query's sum of exponentials, and scratch that is
/// kept for the next call.
#[derive(Default, Debug)]
pub struct AttentionState {
    /// `[heads × streams·queries]`.
    log_sum_exp: Buffer,
    /// One for each head, of which a thread uses that of the first of its heads.
    forward: Vec<Forward>,
    backward: Vec<Backward>,
}

/// Attention of every query, in `output`, which takes the shape `[width × streams·queries]` and is overwritten.
///
/// # Panics
/// If the operands are not of the shape that `shape` gives them, the heads do not divide the width, or the span is 0.
pub fn attention(
    isa: Isa,
    shape: AttentionShape,
    inputs: AttentionInputs<'_>,
    state: &mut AttentionState,
    output: &mut Matrix,
) {
    let features = check(shape, inputs);
    let queries = shape.streams * shape.queries;
    output.ensure(inputs.query.features(), queries);
    state.log_sum_exp.reset(shape.heads * queries);
    if output.padded().is_empty() {
        return;
    }
    state.forward.resize_with(shape.heads, Default::default);
    let stride = output.stride();
    let results =
        Results { parts: [output.padded_mut(), &mut state.log_sum_exp], sizes: [features * stride, queries] };
    for_each_head(&mut state.forward, results, &|head, scratch, [output, log_sum_exp]| {
        scratch.run(isa, &self::head(shape, inputs, head), output, stride, log_sum_exp);
    });
}

/// One head of the inputs.
fn head<'a>(shape: AttentionShape, inputs: AttentionInputs<'a>, index: usize) -> Head<'a> {
    let features = inputs.query.features() / shape.heads;
    Head {
        shape,
        features,
        query: part(inputs.query, features, index),
        key: part(inputs.key, features, index),
        value: part(inputs.value, features, index),
        position: part(inputs.position, features, index),
        content_bias: &inputs.content_bias[index * features..][..features],
        position_bias: &inputs.position_bias[index * features..][..features],
    }
}

/// The rows of a head.
fn part(matrix: &Matrix, features: usize, head: usize) -> Part<'_> {
    let data = &matrix.padded()[head * features * matrix.stride()..];
    Part { data, stride: matrix.stride(), rows: features, columns: matrix.positions() }
}

/// The gradients of [`attention`] with respect to its inputs, overwritten, from `d_output`, that with respect to its
/// `output`; `state` is what [`attention`] left.
///
/// # Panics
/// As [`attention`]; and if `output`, `d_output` or the gradients of the biases are not of their inputs' shapes.
pub fn attention_gradient(
    isa: Isa,
    shape: AttentionShape,
    inputs: AttentionInputs<'_>,
    state: &mut AttentionState,
    output: &Matrix,
    d_output: &Matrix,
    gradients: AttentionGradients<'_>,
) {
    let features = check(shape, inputs);
    let (width, queries) = (inputs.query.features(), shape.streams * shape.queries);
    for matrix in [output, d_output] {
        assert_eq!(
            (matrix.features(), matrix.positions()),
            (width, queries),
            "outputs must be as queries are"
        );
    }
    assert_eq!(state.log_sum_exp.len(), shape.heads * queries, "the state must be of the forward pass");
    let AttentionGradients { query, key, value, position, content_bias, position_bias } = gradients;
    assert!(
        content_bias.len() == width && position_bias.len() == width,
        "the gradient of a bias must have one number for each feature"
    );
    query.ensure(width, queries);
    key.ensure(width, inputs.key.positions());
    value.ensure(width, inputs.value.positions());
    position.ensure(width, inputs.position.positions());
    if output.padded().is_empty() {
        for gradient in [query, key, value, position] {
            gradient.padded_mut().fill(0.0);
        }
        content_bias.fill(0.0);
        position_bias.fill(0.0);
        return;
    }
    state.backward.resize_with(shape.heads, Default::default);
    let sizes = [query.stride(), key.stride(), value.stride(), position.stride(), 1, 1].map(|n| n * features);
    let parts = [
        query.padded_mut(),
        key.padded_mut(),
        value.padded_mut(),
        position.padded_mut(),
        content_bias,
        position_bias,
    ];
    let log_sum_exp = &state.log_sum_exp;
    for_each_head(&mut state.backward, Results { parts, sizes }, &|index, scratch, parts| {
        let outputs = Outputs {
            output: part(output, features, index),
            d_output: part(d_output, features, index),
            log_sum_exp: &log_sum_exp[index * queries..][..queries],
        };
        let [query, key, value, position, content_bias, position_bias] = parts;
        let mut gradients = Gradients { query, key, value, position, content_bias, position_bias };
        scratch.run(isa, &head(shape, inputs, index), &outputs, &mut gradients);
    });
}

/// The features of a head.
fn check(shape: AttentionShape, inputs: AttentionInputs<'_>) -> usize {
    let width = inputs.query.features();
    let context = shape.context();
    assert!(shape.heads > 0 && width.is_multiple_of(shape.heads), "heads must divide the width");
    assert!(shape.span > 0, "a query sees at least itself");
    let is = |matrix: &Matrix, columns: usize| (matrix.features(), matrix.positions()) == (width, columns);
    assert!(is(inputs.query, shape.streams * shape.queries), "query must be width × streams·queries");
    assert!(is(inputs.key, shape.streams * context), "key must be width × streams·(memory + queries)");
    assert!(is(inputs.value, shape.streams * context), "value must be width × streams·(memory + queries)");
    assert!(is(inputs.position, context), "position must be width × (memory + queries)");
    assert!(
        inputs.content_bias.len() == width && inputs.position_bias.len() == width,
        "a bias must have one number for each feature"
    );
    width / shape.heads
}
