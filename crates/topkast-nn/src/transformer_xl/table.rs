//! The table of tokens at both ends of a Transformer-XL.

use topkast::Seed;
use topkast_kernels::{Isa, Matrix};

use super::tied::TiedEmbedding;
use crate::pass::Pass;
use crate::{AdaptiveTable, Loss, ParameterMut, TransformerXlShape};

/// What turns tokens into inputs, and outputs h into probabilities of tokens.
#[derive(Debug)]
pub(super) enum Table {
    /// Every token alike.
    Tied(Box<TiedEmbedding>),
    /// Rare tokens narrower.
    Adaptive {
        table: AdaptiveTable,
        /// Room for one position of h.
        column: Matrix,
    },
}

impl Table {
    /// # Panics
    /// If the shape's sizes are impossible.
    pub(super) fn new(shape: &TransformerXlShape, seed: Seed) -> Self {
        match shape.adaptive_table() {
            None => Self::Tied(Box::new(TiedEmbedding::new(shape.vocabulary, shape.width, seed))),
            Some(shape) => {
                let table = AdaptiveTable::new(&shape, seed.named("embedding"));
                let table = table.unwrap_or_else(|error| panic!("{error}"));
                Self::Adaptive { table, column: Matrix::default() }
            }
        }
    }

    pub(super) fn vocabulary(&self) -> usize {
        match self {
            Self::Tied(table) => table.vocabulary(),
            Self::Adaptive { table, .. } => table.vocabulary(),
        }
    }

    pub(super) fn embed(&mut self, isa: Isa, tokens: &[u32], x: &mut Matrix) {
        match self {
            Self::Tied(table) => table.embed(isa, tokens, x),
            Self::Adaptive { table, .. } => table.embed(isa, tokens, x),
        }
    }

    /// What is computed of h before the targets are known: all logits, or nothing.
    pub(super) fn forward(&mut self, isa: Isa, h: &Matrix) {
        match self {
            Self::Tied(table) => table.forward(isa, h),
            Self::Adaptive { .. } => {}
        }
    }

    /// The loss at the outputs `h`, of which there was a [`forward`](Self::forward). With `dh`, what [`backward`](Self::backward) needs is
    /// kept.
    ///
    /// # Panics
    /// If label smoothing is asked of an adaptive table.
    pub(super) fn loss(
        &mut self,
        isa: Isa,
        h: &Matrix,
        targets: &[u32],
        label_smoothing: f32,
        dh: Option<&mut Matrix>,
    ) -> Loss {
        match self {
            Self::Tied(table) => table.loss(isa, targets, label_smoothing, dh.is_some()),
            Self::Adaptive { table, .. } => {
                assert!(label_smoothing == 0.0, "adaptive softmax knows no label smoothing");
                Loss { sum: table.loss(isa, h, targets, dh), correct: None }
            }
        }
    }

    /// The gradients of the loss: of the parameters, and with respect to h into `dh`, which is that given to the last
    /// [`loss`](Self::loss): an adaptive table has left all of this there.
    pub(super) fn backward(&mut self, pass: &mut Pass, h: &Matrix, dh: &mut Matrix) {
        match self {
            Self::Tied(table) => table.logits_backward(pass, h, dh),
            Self::Adaptive { .. } => {}
        }
    }

    /// The gradient of `embed`, added to what [`backward`](Self::backward) left.
    pub(super) fn embed_backward(&mut self, pass: &mut Pass, tokens: &[u32], dx: &Matrix) {
        match self {
            Self::Tied(table) => table.embed_backward(pass, tokens, dx),
            Self::Adaptive { table, .. } => {
                pass.parameters(|work| table.embed_gradient(work.isa, tokens, dx))
            }
        }
    }

    /// Logits, or logarithms of probabilities, of all tokens at one position of `h`, of which there was a [`forward`](Self::forward).
    pub(super) fn logits_at(&mut self, isa: Isa, h: &Matrix, position: usize, logits: &mut Vec<f32>) {
        match self {
            Self::Tied(table) => table.logits_at(position, logits),
            Self::Adaptive { table, column } => {
                column.ensure(h.features(), 1);
                (0..h.features()).for_each(|row| column.row_mut(row)[0] = h.get(row, position));
                table.log_probabilities(isa, column, logits);
            }
        }
    }

    pub(super) fn visit<'a>(&'a mut self, visit: &mut dyn FnMut(&'a str, ParameterMut<'a>)) {
        match self {
            Self::Tied(table) => table.visit(visit),
            Self::Adaptive { table, .. } => table.visit(visit),
        }
    }
}
