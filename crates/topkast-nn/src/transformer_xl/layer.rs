//! One layer of a Transformer-XL: attention, then the feed-forward part.

use topkast::{DenseGradient, SparseWeight};
use topkast_kernels::{AttentionShape, Matrix};

use super::attention::Attention;
use super::dropout::LayerDropout;
use super::feed_forward::FeedForward;
use super::scratch::Scratch;
use crate::named::NamedLinear;
use crate::part_times::Work;
use crate::pass::Pass;
use crate::{ParameterMut, TransformerXlShape};

/// Its parts, each with its residual sum and norm.
#[derive(Debug)]
pub(super) struct Layer {
    attention: Attention,
    feed_forward: FeedForward,
}

/// The gradients with respect to `W·x + b` of a layer's linear layers.
#[derive(Debug, Default)]
pub(super) struct LinearGradients {
    attention: [Matrix; 5],
    feed_forward: [Matrix; 2],
}

impl Layer {
    /// Takes as many of `linears` as it has.
    pub(super) fn new(
        number: usize,
        shape: &TransformerXlShape,
        linears: &mut impl Iterator<Item = NamedLinear>,
    ) -> Self {
        let mut next = || linears.next().expect("as many as the shape has");
        let [attention, feed_forward] =
            ["attention", "feed_forward"].map(|part| format!("layers.{number}.{part}"));
        Self {
            attention: Attention::new(&attention, shape.width, std::array::from_fn(|_| next())),
            feed_forward: FeedForward::new(
                &feed_forward,
                shape.width,
                shape.activation,
                std::array::from_fn(|_| next()),
            ),
        }
    }

    /// `[x, memory, distances]`: see [`Attention::forward`].
    pub(super) fn forward(
        &mut self,
        work: &mut Work,
        shape: AttentionShape,
        inputs: [&Matrix; 3],
        dropout: LayerDropout,
        branch: &mut Matrix,
    ) {
        self.attention.forward(work, shape, inputs, dropout.attention, branch);
        self.feed_forward.forward(work, &self.attention.norm.output, dropout, branch);
    }

    /// Of the last forward pass.
    pub(super) fn output(&self) -> &Matrix {
        &self.feed_forward.norm.output
    }

    /// What attention saw in the last forward pass, whose input was `x`.
    pub(super) fn context<'a>(&'a self, x: &'a Matrix) -> &'a Matrix {
        self.attention.context(x)
    }

    /// Makes `scratch.flow`, the gradient with respect to the output, the one with respect to x.
    pub(super) fn backward(
        &mut self,
        pass: &mut Pass,
        [x, distances]: [&Matrix; 2],
        dropout: LayerDropout,
        gradients: &mut LinearGradients,
        scratch: &mut Scratch,
    ) {
        let LinearGradients { attention, feed_forward } = gradients;
        self.feed_forward.backward(pass, &self.attention.norm.output, dropout, feed_forward, scratch);
        self.attention.backward(pass, [x, distances], dropout.attention, attention, scratch);
    }

    /// Calls `visit` with each sparse weight and the dense gradient that follows from `gradients`.
    pub(super) fn for_each_gradient(
        &mut self,
        [x, distances]: [&Matrix; 2],
        gradients: &LinearGradients,
        visit: &mut impl FnMut(&mut SparseWeight, &DenseGradient<'_>),
    ) {
        let LinearGradients { attention, feed_forward } = gradients;
        let mut visit_all = |linears: &mut [(&mut NamedLinear, &Matrix)], gradients: &[Matrix]| {
            for ((linear, x), dy) in linears.iter_mut().zip(gradients) {
                if let Some(weight) = linear.sparse_weight() {
                    visit(weight, &DenseGradient::of(dy, x));
                }
            }
        };
        visit_all(&mut self.attention.with_inputs(x, distances), attention);
        visit_all(&mut self.feed_forward.with_inputs(&self.attention.norm.output), feed_forward);
    }

    /// The linear layers, in the order of [`TransformerXlShape::layers`].
    pub(super) fn linears(&mut self) -> impl Iterator<Item = &mut NamedLinear> {
        self.attention.linears().into_iter().chain(self.feed_forward.linears())
    }

    pub(super) fn visit<'a>(&'a mut self, visit: &mut dyn FnMut(&'a str, ParameterMut<'a>)) {
        self.attention.visit(visit);
        self.feed_forward.visit(visit);
    }
}
