//! A layer's second part: hidden units for each position by itself, the residual sum and its norm.

use topkast_kernels::{Matrix, dropout};

use super::dropout::LayerDropout;
use super::norm::Norm;
use super::scratch::Scratch;
use crate::named::NamedLinear;
use crate::part_times::Work;
use crate::pass::Pass;
use crate::{Activation, Applied, ParameterMut};

/// `output = norm(x + dropout(W2·dropout(activation(W1·x + b1)) + b2))`.
#[derive(Debug)]
pub(super) struct FeedForward {
    inner: NamedLinear,
    outer: NamedLinear,
    activation: Activation,
    pub(super) norm: Norm,
    /// The input of the activation, where its gradient needs that.
    pre: Matrix,
    hidden: Matrix,
}

impl FeedForward {
    /// Of linear layers in the order of the fields.
    pub(super) fn new(name: &str, width: usize, activation: Activation, linears: [NamedLinear; 2]) -> Self {
        let [inner, outer] = linears;
        let norm = Norm::new(&format!("{name}.norm"), width);
        Self { inner, outer, activation, norm, pre: Matrix::default(), hidden: Matrix::default() }
    }

    /// Leaves its output in `norm.output`; `branch` is scratch.
    pub(super) fn forward(&mut self, work: &mut Work, x: &Matrix, places: LayerDropout, branch: &mut Matrix) {
        work.linear(|isa| self.inner.forward(isa, x, self.activation, &mut self.pre, &mut self.hidden));
        if let Some((key, rate)) = places.hidden {
            dropout(work.isa, key, rate, &mut self.hidden);
        }
        work.linear(|isa| self.outer.affine(isa, &self.hidden, branch));
        self.norm.forward(work.isa, x, branch, places.feed_forward);
    }

    /// Makes `scratch.flow`, the gradient with respect to the output, the one with respect to `x`. Leaves those with respect to
    /// `W·x + b` of the linear layers in `linears`.
    pub(super) fn backward(
        &mut self,
        pass: &mut Pass,
        x: &Matrix,
        places: LayerDropout,
        linears: &mut [Matrix; 2],
        scratch: &mut Scratch,
    ) {
        let Scratch { flow, residual, .. } = scratch;
        let [d_inner, d_outer] = linears;
        pass.activations(|work| self.norm.backward(work.isa, flow, places.feed_forward, residual, d_outer));
        pass.linear(&mut self.outer, &self.hidden, d_outer);
        let made = Applied { activation: self.activation, pre: &self.pre, output: &self.hidden };
        pass.activations(|work| match places.hidden {
            // Dropout came after the activation, so its gradient comes before.
            Some((key, rate)) => {
                work.linear(|isa| self.outer.input_gradient(isa, d_outer, None, d_inner));
                dropout(work.isa, key, rate, d_inner);
                made.backward(work.isa, d_inner);
            }
            None => work.linear(|isa| self.outer.input_gradient(isa, d_outer, Some(made), d_inner)),
        });
        pass.linear(&mut self.inner, x, d_inner);
        pass.activations(|work| {
            work.linear(|isa| self.inner.add_input_gradient(isa, d_inner, residual, flow))
        });
    }

    /// The linear layers.
    pub(super) fn linears(&mut self) -> [&mut NamedLinear; 2] {
        [&mut self.inner, &mut self.outer]
    }

    /// The linear layers with their inputs, those of the last forward pass.
    pub(super) fn with_inputs<'a>(&'a mut self, x: &'a Matrix) -> [(&'a mut NamedLinear, &'a Matrix); 2] {
        [(&mut self.inner, x), (&mut self.outer, &self.hidden)]
    }

    pub(super) fn visit<'a>(&'a mut self, visit: &mut dyn FnMut(&'a str, ParameterMut<'a>)) {
        self.inner.visit(visit);
        self.outer.visit(visit);
        self.norm.visit(visit);
    }
}
