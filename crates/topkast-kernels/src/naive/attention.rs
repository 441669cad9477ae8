//! The twin of [`attention`](fn@crate::attention): every score by itself, in `f64` from end to end, so that its gradient can
//! be checked by differences.

use crate::dropout::Mask;
use crate::{AttentionInputs, AttentionShape, Relative, Rows};

/// What attention works on, or the gradients of it; matrices row by row, without padding.
#[derive(Clone, Debug, Default)]
pub struct AttentionOperands {
    /// `[width × streams·queries]`.
    pub query: Vec<f64>,
    /// `[width × streams·(memory + queries)]`.
    pub key: Vec<f64>,
    /// `[width × streams·(memory + queries)]`.
    pub value: Vec<f64>,
    /// `[width × (memory + queries)]`.
    pub position: Vec<f64>,
    /// `[width]`.
    pub content_bias: Vec<f64>,
    /// `[width]`.
    pub position_bias: Vec<f64>,
}

impl From<AttentionInputs<'_>> for AttentionOperands {
    fn from(inputs: AttentionInputs<'_>) -> Self {
        let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect();
        let width = inputs.query.features();
        let zeros = |count: usize| vec![0.0; count];
        let (position, content_bias, position_bias) = match inputs.relative {
            Some(Relative { position, content_bias, position_bias }) => {
                (numbers(position), wide(content_bias), wide(position_bias))
            }
            // Enough for every distance.
            None => (zeros(width * inputs.key.positions()), zeros(width), zeros(width)),
        };
        Self {
            query: numbers(inputs.query),
            key: numbers(inputs.key),
            value: numbers(inputs.value),
            position,
            content_bias,
            position_bias,
        }
    }
}

/// The elements of a matrix, or of some of its rows, row by row, without padding.
pub fn numbers<'a>(rows: impl Into<Rows<'a>>) -> Vec<f64> {
    let rows = rows.into();
    (0..rows.features()).flat_map(|f| rows.row(f)).map(|&x| f64::from(x)).collect()
}

/// The output of attention, `[width × streams·queries]`, row by row.
pub fn attention(shape: AttentionShape, inputs: &AttentionOperands) -> Vec<f64> {
    let sizes = Sizes::new(shape, inputs);
    let mut output = vec![0.0; inputs.query.len()];
    sizes.for_each_query(shape, |query| {
        for (key, weight) in query.weights(&sizes, inputs) {
            for f in query.features(&sizes) {
                output[f * sizes.queries + query.column] +=
                    weight * key.factor * inputs.value[f * sizes.keys + key.column];
            }
        }
    });
    output
}

/// The gradients of `Σ d_output × output`.
pub fn attention_gradient(
    shape: AttentionShape,
    inputs: &AttentionOperands,
    d_output: &[f64],
) -> AttentionOperands {
    let sizes = Sizes::new(shape, inputs);
    let mut gradient = AttentionOperands {
        query: vec![0.0; inputs.query.len()],
        key: vec![0.0; inputs.key.len()],
        value: vec![0.0; inputs.value.len()],
        position: vec![0.0; inputs.position.len()],
        content_bias: vec![0.0; sizes.width],
        position_bias: vec![0.0; sizes.width],
    };
    sizes.for_each_query(shape, |query| {
        let weights = query.weights(&sizes, inputs);
        let d_weight = |key: &Key| -> f64 {
            let products = query.features(&sizes).map(|f| {
                d_output[f * sizes.queries + query.column] * inputs.value[f * sizes.keys + key.column]
            });
            key.factor * products.sum::<f64>()
        };
        let mean: f64 = weights.iter().map(|(key, weight)| weight * d_weight(key)).sum();
        for (key, weight) in &weights {
            let d_score = weight * (d_weight(key) - mean) * sizes.scale;
            for f in query.features(&sizes) {
                let (q, k) = (f * sizes.queries + query.column, f * sizes.keys + key.column);
                let r = f * sizes.context + key.distance;
                gradient.value[k] += weight * key.factor * d_output[q];
                gradient.query[q] += d_score * (inputs.key[k] + inputs.position[r]);
                gradient.key[k] += d_score * (inputs.query[q] + inputs.content_bias[f]);
                gradient.position[r] += d_score * (inputs.query[q] + inputs.position_bias[f]);
                gradient.content_bias[f] += d_score * inputs.key[k];
                gradient.position_bias[f] += d_score * inputs.position[r];
            }
        }
    });
    gradient
}

/// Columns of the matrices and what else follows from the shape.
struct Sizes {
    width: usize,
    head: usize,
    context: usize,
    queries: usize,
    keys: usize,
    scale: f64,
}

impl Sizes {
    fn new(shape: AttentionShape, inputs: &AttentionOperands) -> Self {
        let (width, context) = (inputs.content_bias.len(), shape.memory + shape.queries);
        let head = width / shape.heads;
        Self {
            width,
            head,
            context,
            queries: shape.streams * shape.queries,
            keys: shape.streams * context,
            scale: 1.0 / (head as f64).sqrt(),
        }
    }

    fn for_each_query(&self, shape: AttentionShape, mut visit: impl FnMut(Query)) {
        for head in 0..shape.heads {
            for stream in 0..shape.streams {
                for time in 0..shape.queries {
                    let last = time + shape.memory;
                    let first = if shape.causal { (last + 1).saturating_sub(shape.span) } else { 0 };
                    let end = if shape.causal { last + 1 } else { self.context };
                    // Plain attention knows no distances.
                    let column = stream * shape.queries + time;
                    let key = |key: usize| Key {
                        column: stream * self.context + key,
                        distance: last.saturating_sub(key),
                        factor: factor(shape.dropout, head * self.queries + column, key),
                    };
                    visit(Query { head, column, keys: (first..end).map(key).collect() });
                }
            }
        }
    }
}

/// What dropout makes of a one.
fn factor(dropout: Option<(u64, f32)>, query: usize, key: usize) -> f64 {
    let mut one = [1.0];
    if let Some(mask) = dropout.and_then(|(key, rate)| Mask::new(key, rate)) {
        mask.apply(query, key, &mut one);
    }
    one[0].into()
}

/// One query of one head, and the keys it sees.
struct Query {
    head: usize,
    column: usize,
    keys: Vec<Key>,
}

#[derive(Clone, Copy)]
struct Key {
    column: usize,
    distance: usize,
    /// What its weight is multiplied by after the softmax.
    factor: f64,
}

impl Query {
    fn features(&self, sizes: &Sizes) -> std::ops::Range<usize> {
        self.head * sizes.head..(self.head + 1) * sizes.head
    }

    /// The softmax of the scores.
    fn weights(&self, sizes: &Sizes, inputs: &AttentionOperands) -> Vec<(Key, f64)> {
        let score = |key: &Key| -> f64 {
            let terms = self.features(sizes).map(|f| {
                let q = inputs.query[f * sizes.queries + self.column];
                (q + inputs.content_bias[f]) * inputs.key[f * sizes.keys + key.column]
                    + (q + inputs.position_bias[f]) * inputs.position[f * sizes.context + key.distance]
            });
            terms.sum::<f64>() * sizes.scale
        };
        let scores: Vec<f64> = self.keys.iter().map(score).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
        let weight = |score: f64| (score - largest).exp() / total;
        self.keys.iter().copied().zip(scores.into_iter().map(weight)).collect()
    }
}
