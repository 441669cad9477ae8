//! Causal attention with relative positions and memory (Dai et al. 2019), its residual sum and norm.

use topkast_kernels::{
    AttentionGradients, AttentionInputs, AttentionScratch, AttentionShape, AttentionState, Isa, Matrix,
    Relative, RelativeGradients, attention, attention_gradient,
};

use super::dropout::Place;
use super::norm::Norm;
use super::scratch::Scratch;
use super::streams::{join, last_columns};
use crate::ParameterMut;
use crate::named::{NamedLinear, NamedVector};
use crate::part_times::Work;
use crate::pass::Pass;

/// `output = norm(x + dropout(Wo·o + bo))`, where o attends, from queries of x, to keys and values of memory and x.
#[derive(Debug)]
pub(super) struct Attention {
    query: NamedLinear,
    key: NamedLinear,
    value: NamedLinear,
    position: NamedLinear,
    output: NamedLinear,
    /// Added to queries where they meet keys, and where they meet distances.
    u: NamedVector,
    w: NamedVector,
    pub(super) norm: Norm,
    /// Of the last forward pass, as all that follows.
    shape: AttentionShape,
    /// Memory and x, unless there is no memory.
    context: Matrix,
    q: Matrix,
    k: Matrix,
    v: Matrix,
    /// Of each distance.
    r: Matrix,
    attended: Matrix,
    state: AttentionState,
    scratch: AttentionScratch,
}

impl Attention {
    /// Of linear layers in the order of the fields.
    pub(super) fn new(name: &str, width: usize, linears: [NamedLinear; 5]) -> Self {
        let [query, key, value, position, output] = linears;
        Self {
            query,
            key,
            value,
            position,
            output,
            u: NamedVector::filled(format!("{name}.u"), width, 0.0),
            w: NamedVector::filled(format!("{name}.w"), width, 0.0),
            norm: Norm::new(&format!("{name}.norm"), width),
            shape: AttentionShape {
                heads: 1,
                streams: 0,
                queries: 0,
                memory: 0,
                span: 1,
                causal: true,
                dropout: None,
            },
            context: Matrix::default(),
            q: Matrix::default(),
            k: Matrix::default(),
            v: Matrix::default(),
            r: Matrix::default(),
            attended: Matrix::default(),
            state: AttentionState::default(),
            scratch: AttentionScratch::default(),
        }
    }

    /// Leaves its output in `norm.output`; `memory` is this layer's, `distances` are those that `shape` has, `branch` is scratch.
    pub(super) fn forward(
        &mut self,
        work: &mut Work,
        shape: AttentionShape,
        [x, memory, distances]: [&Matrix; 3],
        dropout: Place,
        branch: &mut Matrix,
    ) {
        self.shape = shape;
        if shape.memory > 0 {
            join(shape.streams, memory, x, &mut self.context);
        }
        let context = seen(shape, &self.context, x);
        work.linear(|isa| {
            self.query.affine(isa, x, &mut self.q);
            self.key.affine(isa, context, &mut self.k);
            self.value.affine(isa, context, &mut self.v);
            self.position.affine(isa, distances, &mut self.r);
        });
        let Self { u, w, q, k, v, r, attended, state, scratch, .. } = self;
        let inputs = inputs([q, k, v, r], [&u.parameter.values, &w.parameter.values]);
        work.attention(|isa| attention(isa, shape, inputs, state, scratch, attended));
        work.linear(|isa| self.output.affine(isa, &self.attended, branch));
        self.norm.forward(work.isa, x, branch, dropout);
    }

    /// What it attended to in the last forward pass, whose input was `x`.
    pub(super) fn context<'a>(&'a self, x: &'a Matrix) -> &'a Matrix {
        seen(self.shape, &self.context, x)
    }

    /// Makes `scratch.flow`, the gradient with respect to the output, the one with respect to `x`; no gradient goes into the memory.
    /// Leaves those with respect to `W·x + b` of the linear layers, in their order, in `linears`.
    pub(super) fn backward(
        &mut self,
        pass: &mut Pass,
        [x, distances]: [&Matrix; 2],
        dropout: Place,
        linears: &mut [Matrix; 5],
        scratch: &mut Scratch,
    ) {
        let Scratch { flow, residual, attended, own } = scratch;
        let [dq, dk, dv, dr, da] = linears;
        let shape = self.shape;
        pass.activations(|work| self.norm.backward(work.isa, flow, dropout, residual, da));
        pass.linear(&mut self.output, &self.attended, da);
        pass.activations(|work| {
            work.linear(|isa| self.output.input_gradient(isa, da, None, attended));
            work.attention(|isa| self.attention_gradient(isa, attended, [dq, dk, dv, dr]));
        });
        let context = seen(shape, &self.context, x);
        pass.linear(&mut self.query, x, dq);
        pass.linear(&mut self.key, context, dk);
        pass.linear(&mut self.value, context, dv);
        pass.linear(&mut self.position, distances, dr);
        pass.activations(|work| {
            work.linear(|isa| self.query.add_input_gradient(isa, dq, residual, flow));
            let dk = of_segment(shape, dk, own);
            work.linear(|isa| self.key.add_input_gradient(isa, dk, flow, residual));
            let dv = of_segment(shape, dv, own);
            work.linear(|isa| self.value.add_input_gradient(isa, dv, residual, flow));
        });
    }

    fn attention_gradient(&mut self, isa: Isa, d_attended: &Matrix, [dq, dk, dv, dr]: [&mut Matrix; 4]) {
        let Self { u, w, q, k, v, r, attended, state, scratch, shape, .. } = self;
        let (u, w) = (&mut u.parameter, &mut w.parameter);
        let matrices = [&*q, k, v, r];
        for (gradient, of) in [&mut *dq, &mut *dk, &mut *dv, &mut *dr].into_iter().zip(matrices) {
            gradient.ensure(of.features(), of.positions());
        }
        let inputs = inputs(matrices, [&u.values, &w.values]);
        let relative = RelativeGradients {
            position: dr.rows_mut(),
            content_bias: &mut u.gradient,
            position_bias: &mut w.gradient,
        };
        let gradients = AttentionGradients {
            query: dq.rows_mut(),
            key: dk.rows_mut(),
            value: dv.rows_mut(),
            relative: Some(relative),
        };
        attention_gradient(isa, *shape, inputs, state, scratch, attended, d_attended, gradients);
    }

    /// The linear layers.
    pub(super) fn linears(&mut self) -> [&mut NamedLinear; 5] {
        [&mut self.query, &mut self.key, &mut self.value, &mut self.position, &mut self.output]
    }

    /// The linear layers with their inputs, those of the last forward pass.
    pub(super) fn with_inputs<'a>(
        &'a mut self,
        x: &'a Matrix,
        distances: &'a Matrix,
    ) -> [(&'a mut NamedLinear, &'a Matrix); 5] {
        let context = seen(self.shape, &self.context, x);
        [
            (&mut self.query, x),
            (&mut self.key, context),
            (&mut self.value, context),
            (&mut self.position, distances),
            (&mut self.output, &self.attended),
        ]
    }

    pub(super) fn visit<'a>(&'a mut self, visit: &mut dyn FnMut(&'a str, ParameterMut<'a>)) {
        let Self { query, key, value, position, output, u, w, norm, .. } = self;
        [query, key, value, position, output].into_iter().for_each(|linear| linear.visit(visit));
        [u, w].into_iter().for_each(|vector| vector.visit(visit));
        norm.visit(visit);
    }
}

/// Queries, keys, values and distances with their biases, as kernels take them.
fn inputs<'a>([q, k, v, r]: [&'a Matrix; 4], [u, w]: [&'a [f32]; 2]) -> AttentionInputs<'a> {
    let relative = Relative { position: r, content_bias: u, position_bias: w };
    AttentionInputs { query: q.into(), key: k.into(), value: v.into(), relative: Some(relative) }
}

/// What attention of this shape sees: `context`, or x itself where there is no memory.
fn seen<'a>(shape: AttentionShape, context: &'a Matrix, x: &'a Matrix) -> &'a Matrix {
    if shape.memory > 0 { context } else { x }
}

/// The columns of the segment's own positions in a gradient `dy` with respect to keys or values.
fn of_segment<'a>(shape: AttentionShape, dy: &'a Matrix, own: &'a mut Matrix) -> &'a Matrix {
    if shape.memory > 0 {
        last_columns(shape.streams, dy, shape.queries, own);
        own
    } else {
        dy
    }
}
