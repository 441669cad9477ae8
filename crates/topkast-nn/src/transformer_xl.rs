//! The Transformer-XL (Dai et al. 2019), for training on text segment by segment.

mod attention;
mod distances;
mod dropout;
mod feed_forward;
mod layer;
mod memory;
mod norm;
mod scratch;
mod shape;
mod streams;
mod table;
mod tied;

use topkast::{DenseGradient, Seed, SparseWeight};
use topkast_kernels::{AttentionShape, Isa, Matrix, dropout as drop_out};

use crate::named::NamedLinear;
use crate::part_times::Work;
use crate::pass::Pass;
use crate::{BackwardTimes, Gradients, Linear, Loss, Mode, ParameterMut, PartTimes};
use distances::sinusoids;
use dropout::Dropout;
use layer::{Layer, LinearGradients};
pub use memory::{Memory, MemoryError};
use scratch::Scratch;
pub use shape::{Clusters, TransformerXlShape};
use table::Table;

/// A segment of text: the same number of consecutive tokens of each of some streams.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a> {
    /// Stream after stream; each below the vocabulary's size.
    pub ids: &'a [u32],
    /// How many streams.
    pub streams: usize,
}

/// A Transformer-XL with norms after the residual sums and the output layer tied to the embedding:
///
/// ```text
/// x₀ = dropout(√width · E[token])
/// yₗ = norm(xₗ + dropout(attention(xₗ, [memory | xₗ])))
/// xₗ₊₁ = norm(yₗ + dropout(W₂·dropout(activation(W₁·yₗ + b₁)) + b₂))
/// logits = E·x_L + b
/// ```
/// or, with clusters, embeddings and probabilities of an [`AdaptiveTable`](crate::AdaptiveTable).
/// Position `stream · T + time` of an activation is a stream's token at that time. Distances are known to attention alone.
#[derive(Debug)]
pub struct TransformerXl {
    table: Table,
    layers: Vec<Layer>,
    heads: usize,
    width: usize,
    rate: f32,
    memory: Memory,
    /// Of the last forward pass, as all that follows.
    dropout: Dropout,
    /// R, of the distances that occurred.
    distances: Matrix,
    embedded: Matrix,
    /// Of every layer after a pass for [`Gradients::Activations`]; else one that the layers use in turn.
    gradients: Vec<LinearGradients>,
    keeps_gradients: bool,
    scratch: Scratch,
    parts: PartTimes,
}

impl TransformerXl {
    /// A network of linear layers that are made already, one for each of [`TransformerXlShape::layers`]. The embedding is drawn from
    /// `seed`, normal with variance 1/width, or as [`AdaptiveTable::new`](crate::AdaptiveTable::new) does; gains begin at 1, biases, u and
    /// w at 0, the memory is empty.
    ///
    /// # Panics
    /// If the layers are not as many or not of those sizes, the width is odd or no multiple of the heads, the rate of dropout is
    /// outside [0, 1), the embedding's size overflows, or there is no adaptive table of such a shape.
    pub fn from_layers(shape: &TransformerXlShape, linears: Vec<Linear>, seed: Seed) -> Self {
        let (width, heads) = (shape.width, shape.heads);
        assert!(heads > 0 && width.is_multiple_of(heads), "{width} features for {heads} heads");
        assert!(width.is_multiple_of(2), "sinusoids need an even width, not {width}");
        assert!((0.0..1.0).contains(&shape.dropout), "a dropout rate must be at least 0 and below 1");
        let sizes = shape.layers();
        assert_eq!(sizes.len(), linears.len(), "one layer for each of the shape");
        let named = sizes.iter().zip(linears);
        let mut named = named.map(|((name, size), linear)| NamedLinear::new(name, *size, linear));
        Self {
            table: Table::new(shape, seed),
            layers: (0..shape.layers).map(|number| Layer::new(number, shape, &mut named)).collect(),
            heads,
            width,
            rate: shape.dropout,
            memory: Memory::empty(shape.memory, usize::MAX),
            dropout: Dropout::new(0.0, Mode::Evaluate),
            distances: Matrix::default(),
            embedded: Matrix::default(),
            gradients: Vec::new(),
            keeps_gradients: false,
            scratch: Scratch::default(),
            parts: PartTimes::default(),
        }
    }

    /// Computes what follows each token, for [`loss`](Self::loss) and [`logits_at`](Self::logits_at) to tell of: position
    /// `stream · T + time`. Attention sees the memory, which then moves on to hold these tokens, in either mode.
    ///
    /// # Panics
    /// If the tokens do not divide into the streams, are of other streams than the memory, or one is not below the vocabulary's size.
    pub fn forward(&mut self, isa: Isa, tokens: Tokens<'_>, mode: Mode) {
        let shape = self.begin(tokens);
        self.dropout = Dropout::new(self.rate, mode);
        sinusoids(self.width, shape.memory + shape.queries, &mut self.distances);
        self.table.embed(isa, tokens.ids, &mut self.embedded);
        if let Some((key, rate)) = self.dropout.embedding() {
            drop_out(isa, key, rate, &mut self.embedded);
        }
        let mut work = Work::new(isa);
        for number in 0..self.layers.len() {
            let (before, rest) = self.layers.split_at_mut(number);
            let (x, layer) = (output(before, &self.embedded), &mut rest[0]);
            let inputs = [x, &self.memory.layers()[number], &self.distances];
            layer.forward(&mut work, shape, inputs, self.dropout.layer(number), &mut self.scratch.flow);
            self.memory.keep(number, layer.context(x));
        }
        self.parts = work.parts;
        self.memory.move_on(shape.queries);
        self.table.forward(isa, output(&self.layers, &self.embedded));
    }

    /// What attention is to work on.
    fn begin(&mut self, Tokens { ids, streams }: Tokens<'_>) -> AttentionShape {
        assert!(
            streams > 0 && ids.len().is_multiple_of(streams),
            "{} tokens for {streams} streams",
            ids.len()
        );
        let vocabulary = self.table.vocabulary();
        assert!(ids.iter().all(|&id| (id as usize) < vocabulary), "tokens must be below {vocabulary}");
        self.memory.begin(self.layers.len(), self.width, streams);
        AttentionShape {
            heads: self.heads,
            streams,
            queries: ids.len() / streams,
            memory: self.memory.held(),
            span: self.memory.span(),
            causal: true,
            dropout: None,
        }
    }

    /// The first of the embedding and the layers whose output in the last forward pass is not finite throughout, by its name.
    pub fn first_not_finite(&self) -> Option<String> {
        let broken = |&layers: &usize| !output(&self.layers[..layers], &self.embedded).is_finite();
        match (0..=self.layers.len()).find(broken)? {
            0 => Some("the embedding".to_owned()),
            layers => Some(format!("layers.{}", layers - 1)),
        }
    }

    /// The loss of the last forward pass against what should follow each token; with the gradient that [`backward`](Self::backward) begins
    /// with, if that is to follow before anything else. Adaptive softmax tells of no right answers, and leaves its part of the table's
    /// gradients already.
    ///
    /// # Panics
    /// If there is not one target for each position, one is not below the vocabulary's size, or label smoothing is asked of adaptive
    /// softmax.
    pub fn loss(&mut self, isa: Isa, targets: &[u32], label_smoothing: f32, with_gradient: bool) -> Loss {
        let dh = with_gradient.then_some(&mut self.scratch.flow);
        self.table.loss(isa, output(&self.layers, &self.embedded), targets, label_smoothing, dh)
    }

    /// Numbers of all tokens at one position of the last forward pass, whose softmax is their probabilities of following: logits, of
    /// adaptive softmax the logarithms of these probabilities.
    ///
    /// # Panics
    /// If there was no such position.
    pub fn logits_at(&mut self, isa: Isa, position: usize, logits: &mut Vec<f32>) {
        self.table.logits_at(isa, output(&self.layers, &self.embedded), position, logits);
    }

    /// The gradients that are `wanted` of the last loss, for the tokens of the last forward pass and the memory as it was then; once for
    /// each [`loss`](Self::loss). Without `All` those of entries of B∖A are zero; with `Activations` those of linear layers and the
    /// table stay what they were (the few others come along). Returns how long it took.
    ///
    /// # Panics
    /// If `tokens` are not as many as in the last forward pass.
    pub fn backward(&mut self, isa: Isa, tokens: Tokens<'_>, wanted: Gradients) -> BackwardTimes {
        assert_eq!(tokens.ids.len(), self.embedded.positions(), "the tokens of the last forward pass");
        self.keeps_gradients = wanted == Gradients::Activations;
        let kept = if self.keeps_gradients { self.layers.len() } else { 1 };
        if self.gradients.len() < kept {
            self.gradients.resize_with(kept, LinearGradients::default);
        }
        let mut pass = Pass::new(isa, wanted);
        let h = output(&self.layers, &self.embedded);
        self.table.backward(&mut pass, h, &mut self.scratch.flow);
        for number in (0..self.layers.len()).rev() {
            let (before, rest) = self.layers.split_at_mut(number);
            let x = output(before, &self.embedded);
            let gradients = &mut self.gradients[if self.keeps_gradients { number } else { 0 }];
            let (inputs, dropout) = ([x, &self.distances], self.dropout.layer(number));
            rest[0].backward(&mut pass, inputs, dropout, gradients, &mut self.scratch);
        }
        if let Some((key, rate)) = self.dropout.embedding() {
            pass.activations(|work| drop_out(work.isa, key, rate, &mut self.scratch.flow));
        }
        self.table.embed_backward(&mut pass, tokens.ids, &self.scratch.flow);
        self.parts += pass.work.parts;
        pass.times
    }

    /// What of the last forward pass, and of the backward passes after it, went to which parts; the output layer is in none of them.
    pub fn part_times(&self) -> PartTimes {
        self.parts
    }

    /// Calls `visit` with each sparse weight and its dense gradient: that of the last [`backward`](Self::backward), which must have been one
    /// for [`Gradients::Activations`], as otherwise layers share what holds it.
    ///
    /// # Panics
    /// If the last backward pass was another.
    pub fn for_each_gradient(&mut self, mut visit: impl FnMut(&mut SparseWeight, &DenseGradient<'_>)) {
        assert!(self.keeps_gradients, "only a backward pass for activations keeps their gradients");
        for number in 0..self.layers.len() {
            let (before, rest) = self.layers.split_at_mut(number);
            let x = output(before, &self.embedded);
            rest[0].for_each_gradient([x, &self.distances], &self.gradients[number], &mut visit);
        }
    }

    /// Calls `visit` with the name of every parameter and the parameter, always in the same order.
    pub fn visit<'a>(&'a mut self, visit: &mut dyn FnMut(&'a str, ParameterMut<'a>)) {
        self.table.visit(visit);
        self.layers.iter_mut().for_each(|layer| layer.visit(visit));
    }

    /// The linear layers with their names, as [`TransformerXlShape::layers`] has them, in that order.
    pub fn linears(&mut self) -> impl Iterator<Item = (&str, &mut Linear)> {
        self.layers.iter_mut().flat_map(Layer::linears).map(NamedLinear::named)
    }

    /// The sparse weights, in the order of [`linears`](Self::linears).
    pub fn sparse_weights(&mut self) -> Vec<&mut SparseWeight> {
        self.linears().filter_map(|(_, linear)| linear.sparse_weight()).collect()
    }

    /// How many different tokens it knows.
    pub fn vocabulary(&self) -> usize {
        self.table.vocabulary()
    }

    /// How many layers it has.
    pub fn depth(&self) -> usize {
        self.layers.len()
    }

    /// What earlier segments left.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Goes on from another memory, and returns the one it had: to score or generate other text in between, or to resume.
    ///
    /// # Panics
    /// If the memory is of a network of another shape.
    pub fn replace_memory(&mut self, memory: Memory) -> Memory {
        assert!(memory.fits(self.layers.len(), self.width), "the memory is of a network of another shape");
        std::mem::replace(&mut self.memory, memory)
    }
}

/// x_L.
fn output<'a>(layers: &'a [Layer], embedded: &'a Matrix) -> &'a Matrix {
    layers.last().map_or(embedded, Layer::output)
}
