//! A Transformer-XL's sizes.

use crate::{Activation, AdaptiveError, AdaptiveShape};

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
    /// How the table of tokens is cut into clusters; none has one embedding for all, which is the output's weight, too.
    pub adaptive: Option<Clusters>,
}

/// How an adaptive table is cut: see [`AdaptiveShape`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clusters {
    /// The first token of each cluster but the first.
    pub cutoffs: Vec<usize>,
    /// By what each cluster's embeddings are narrower than those of the one before.
    pub div_value: usize,
}

impl TransformerXlShape {
    /// The sizes of the adaptive table, if it has one.
    pub fn adaptive_table(&self) -> Option<AdaptiveShape> {
        let Self { vocabulary, width, ref adaptive, .. } = *self;
        let Clusters { cutoffs, div_value } = adaptive.clone()?;
        Some(AdaptiveShape { vocabulary, width, cutoffs, div_value })
    }

    /// Numbers of the table of tokens, whatever its form: embeddings, projections, biases. At most what a `u64` can hold.
    ///
    /// # Errors
    /// If there is no adaptive table of such a shape.
    pub fn embedding(&self) -> Result<u64, AdaptiveError> {
        match self.adaptive_table() {
            Some(shape) => shape.numbers(),
            None => Ok((self.vocabulary as u64).saturating_mul(self.width as u64 + 1)),
        }
    }

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
