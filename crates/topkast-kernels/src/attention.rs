//! Attention: plain (Vaswani et al. 2017), or causal with relative positions, as in Transformer-XL (Dai et al. 2019).
//!
//! Of each stream the queries are its last `queries` positions, the keys these and `memory` positions before. Where attention is causal, position
//! `i` sees key `j` if it is not later and less than `span` away, else it sees all; with distance δ = i + memory − j,
//!
//! ```text
//! score(i, j) = ((q_i + u)·k_j + (q_i + w)·r_δ) / √d_head      o_i = Σ_j softmax_j(score(i, j)) × v_j
//! ```
//! where u, w and r are zero in plain attention.
//!
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

use crate::dropout::Mask;
use crate::{Buffer, Isa, Matrix, Rows, RowsMut};
use backward::{Backward, Gradients, Outputs};
use forward::Forward;
use head::{Head, RelativeHead};
use pack::Part;
use split::{Results, for_each_head};

/// Of what size the operands of [`attention`] are, what its queries see, and what of that drops out.
#[derive(Clone, Copy, Debug, PartialEq)]
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
    /// Whether a query sees no key later than itself. If not, it sees all of its stream, and `span` must be `usize::MAX`.
    pub causal: bool,
    /// Which of the weights drop out after the softmax: a key, which decides for each, and the rate, as in [`dropout`](crate::dropout).
    pub dropout: Option<(u64, f32)>,
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
    pub query: Rows<'a>,
    /// k, `[width × streams·(memory + queries)]`.
    pub key: Rows<'a>,
    /// v, of k's shape.
    pub value: Rows<'a>,
    /// What scores have of distances, for causal attention; none where it is plain.
    pub relative: Option<Relative<'a>>,
}

/// What scores have of distances.
#[derive(Clone, Copy)]
pub struct Relative<'a> {
    /// r, `[width × (memory + queries)]`: a column for each distance, shared by all streams.
    pub position: &'a Matrix,
    /// u, `[width]`: added to q where it meets k.
    pub content_bias: &'a [f32],
    /// w, `[width]`: added to q where it meets r.
    pub position_bias: &'a [f32],
}

/// Where [`attention_gradient`] puts the gradients of [`AttentionInputs`], of the same shapes.
pub struct AttentionGradients<'a> {
    /// Gradient of q.
    pub query: RowsMut<'a>,
    /// Gradient of k.
    pub key: RowsMut<'a>,
    /// Gradient of v.
    pub value: RowsMut<'a>,
    /// Of what there is of distances.
    pub relative: Option<RelativeGradients<'a>>,
}

/// Gradients of [`Relative`], summed over streams.
pub struct RelativeGradients<'a> {
    /// Gradient of r.
    pub position: RowsMut<'a>,
    /// Gradient of u.
    pub content_bias: &'a mut [f32],
    /// Gradient of w.
    pub position_bias: &'a mut [f32],
}

/// What the gradient needs of the forward pass: the logarithm of each query's sum of exponentials, `[heads × streams·queries]`.
#[derive(Default, Debug)]
pub struct AttentionState(Buffer);

/// What [`attention`] and its gradient work in, kept for the next call.
#[derive(Default, Debug)]
pub struct AttentionScratch {
    /// One for each head, of which a thread uses that of the first of its heads.
    forward: Vec<Forward>,
    backward: Vec<Backward>,
}

/// Attention of every query, in `output`, which takes the shape `[width × streams·queries]` and is overwritten.
///
/// # Panics
/// If the operands are not of the shape that `shape` gives them, the heads do not divide the width, the span is 0, attention that is not causal has
/// a span or distances, or the rate of dropout is outside `0 ≤ rate < 1`.
pub fn attention(
    isa: Isa,
    shape: AttentionShape,
    inputs: AttentionInputs<'_>,
    state: &mut AttentionState,
    scratch: &mut AttentionScratch,
    output: &mut Matrix,
) {
    let features = check(shape, inputs);
    let queries = shape.streams * shape.queries;
    output.ensure(inputs.query.features(), queries);
    state.0.reset(shape.heads * queries);
    if output.padded().is_empty() {
        return;
    }
    scratch.forward.resize_with(shape.heads, Default::default);
    let stride = output.stride();
    let results = Results { parts: [output.padded_mut(), &mut state.0], sizes: [features * stride, queries] };
    for_each_head(&mut scratch.forward, results, &|head, scratch, [output, log_sum_exp]| {
        scratch.run(isa, &self::head(shape, inputs, head), output, stride, log_sum_exp);
    });
}

/// One head of the inputs.
fn head(shape: AttentionShape, inputs: AttentionInputs<'_>, index: usize) -> Head<'_> {
    let features = inputs.query.features() / shape.heads;
    let own = index * features..(index + 1) * features;
    Head {
        shape,
        number: index,
        dropout: shape.dropout.and_then(|(key, rate)| Mask::new(key, rate)),
        features,
        query: part(inputs.query, features, index),
        key: part(inputs.key, features, index),
        value: part(inputs.value, features, index),
        relative: inputs.relative.map(|relative| RelativeHead {
            position: part(relative.position.into(), features, index),
            content_bias: &relative.content_bias[own.clone()],
            position_bias: &relative.position_bias[own],
        }),
    }
}

/// The rows of a head.
fn part(rows: Rows<'_>, features: usize, head: usize) -> Part<'_> {
    let data = &rows.padded()[head * features * rows.stride()..];
    Part { data, stride: rows.stride(), rows: features, columns: rows.positions() }
}

/// The gradients of [`attention`] with respect to its inputs, overwritten, from `d_output`, that with respect to its
/// `output`; `state` is what [`attention`] left.
///
/// # Panics
/// As [`attention`]; and if `output`, `d_output` or the gradients are not of the shapes of what they are gradients of.
#[allow(clippy::too_many_arguments, reason = "what attention takes, what came of it, and gradients")]
pub fn attention_gradient(
    isa: Isa,
    shape: AttentionShape,
    inputs: AttentionInputs<'_>,
    state: &AttentionState,
    scratch: &mut AttentionScratch,
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
    assert_eq!(state.0.len(), shape.heads * queries, "the state must be of the forward pass");
    check_gradients(inputs, &gradients);
    let AttentionGradients { query, key, value, relative } = gradients;
    let none = RelativeGradients { position: RowsMut::none(), content_bias: &mut [], position_bias: &mut [] };
    let RelativeGradients { position, content_bias, position_bias } = relative.unwrap_or(none);
    let strides = [query.stride(), key.stride(), value.stride(), position.stride()];
    let of_biases = if inputs.relative.is_some() { features } else { 0 };
    let [a, b, c, d] = strides.map(|stride| stride * features);
    let sizes = [a, b, c, d, of_biases, of_biases];
    let mut parts = [
        query.into_padded(),
        key.into_padded(),
        value.into_padded(),
        position.into_padded(),
        content_bias,
        position_bias,
    ];
    if output.padded().is_empty() {
        return parts.iter_mut().for_each(|part| part.fill(0.0));
    }
    scratch.backward.resize_with(shape.heads, Default::default);
    for_each_head(&mut scratch.backward, Results { parts, sizes }, &|index, scratch, parts| {
        let outputs = Outputs {
            output: part(output.into(), features, index),
            d_output: part(d_output.into(), features, index),
            log_sum_exp: &state.0[index * queries..][..queries],
        };
        let [query, key, value, position, content_bias, position_bias] = parts;
        let mut gradients = Gradients { query, key, value, position, content_bias, position_bias };
        scratch.run(isa, &head(shape, inputs, index), &outputs, &mut gradients);
    });
}

fn check_gradients(inputs: AttentionInputs<'_>, gradients: &AttentionGradients<'_>) {
    let same = |gradient: &RowsMut<'_>, of: Rows<'_>| {
        let shapes = [(gradient.features(), gradient.positions()), (of.features(), of.positions())];
        assert_eq!(shapes[0], shapes[1], "a gradient must be of the shape of what it is the gradient of");
    };
    same(&gradients.query, inputs.query);
    same(&gradients.key, inputs.key);
    same(&gradients.value, inputs.value);
    match (&gradients.relative, inputs.relative) {
        (Some(gradients), Some(relative)) => {
            same(&gradients.position, relative.position.into());
            let width = relative.content_bias.len();
            assert!(
                gradients.content_bias.len() == width && gradients.position_bias.len() == width,
                "the gradient of a bias must have one number for each feature"
            );
        }
        (None, None) => {}
        _ => panic!("there must be gradients of distances where there are distances"),
    }
}

/// The features of a head.
fn check(shape: AttentionShape, inputs: AttentionInputs<'_>) -> usize {
    let width = inputs.query.features();
    let context = shape.context();
    assert!(shape.heads > 0 && width.is_multiple_of(shape.heads), "heads must divide the width");
    assert!(shape.span > 0, "a query sees at least itself");
    assert!(
        shape.causal || shape.span == usize::MAX && inputs.relative.is_none(),
        "only causal attention knows distances"
    );
    let is = |rows: Rows<'_>, columns: usize| (rows.features(), rows.positions()) == (width, columns);
    assert!(is(inputs.query, shape.streams * shape.queries), "query must be width × streams·queries");
    assert!(is(inputs.key, shape.streams * context), "key must be width × streams·(memory + queries)");
    assert!(is(inputs.value, shape.streams * context), "value must be width × streams·(memory + queries)");
    if let Some(Relative { position, content_bias, position_bias }) = inputs.relative {
        assert!(is(position.into(), context), "position must be width × (memory + queries)");
        assert!(
            content_bias.len() == width && position_bias.len() == width,
            "a bias must have one number for each feature"
        );
    }
    width / shape.heads
}
