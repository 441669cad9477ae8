//! A Transformer-XL's sizes.

use crate::Activation;

/// A Transformer-XL's sizes and what happens between its layers.
#[derive(Clone, Debug, PartialEq)]
pub struct TransformerXlShape {
    /// How many tokens there are.
    pub vocabulary: usize,
    /// Features of a position between layers; even, and a multiple of `heads`.
    pub width: usize,
    /// Number of layers, each of attention and feed-forward.
    pub layers: usize,
    /// Attention heads of each layer.
    pub heads: usize,
    /// Hidden units of each feed-forward part.
    pub feed_forward: usize,
    /// Earlier positions of each stream that are kept in training.
    pub memory: usize,
    /// Of the hidden units.
    pub activation: Activation,
    /// Dropout rate after the embedding, the hidden units, and each part's output; in [0, 1).
    pub dropout: f32,
}

impl TransformerXlShape {
    /// `[outputs, inputs]` of each linear layer with its name, in the order in which a network takes them: for each layer
    /// `layers.0.attention.query`, `.key`, `.value`, `.position`, `.output`, `layers.0.feed_forward.inner`, `.outer`.
    pub fn layers(&self) -> Vec<(String, [usize; 2])> {
        let (width, hidden) = (self.width, self.feed_forward);
        let of_layer = |layer: usize| {
            [
                ("attention.query", [width; 2]),
                ("attention.key", [width; 2]),
                ("attention.value", [width; 2]),
                ("attention.position", [width; 2]),
                ("attention.output", [width; 2]),
                ("feed_forward.inner", [hidden, width]),
                ("feed_forward.outer", [width, hidden]),
            ]
            .map(|(part, size)| (format!("layers.{layer}.{part}"), size))
        };
        (0..self.layers).flat_map(of_layer).collect()
    }
}
