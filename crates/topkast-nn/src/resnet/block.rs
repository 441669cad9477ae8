//! A residual block (He et al. 2016, <https://arxiv.org/abs/1512.03385>).

use topkast::{DenseGradient, SparseWeight};
use topkast_kernels::{Maps, Matrix};

use super::shape::BlockShape;
use super::unit::Unit;
use crate::linear::ConvolutionScratch;
use crate::part_times::Work;
use crate::pass::Pass;
use crate::{Linear, ParameterMut};

/// `output = relu(units(x) + shortcut(x))`, where between the units there is a ReLU, too, and the shortcut may be x itself.
#[derive(Debug)]
pub(super) struct Block {
    units: Vec<Unit>,
    shortcut: Option<Unit>,
}

/// What the backward passes of blocks work with in turn.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) convolution: ConvolutionScratch,
    /// The gradient with respect to a block's output, in the end to its input.
    pub(super) flow: Matrix,
    /// With respect to a unit's output.
    pub(super) inner: Matrix,
    /// With respect to its input.
    next: Matrix,
    /// With respect to the input by way of the shortcut.
    side: Matrix,
    /// With respect to what a norm takes.
    pub(super) sum: Matrix,
}

impl Block {
    /// Of linear layers that are made already: `take` gives the next.
    pub(super) fn new(shape: BlockShape, last_gain: f32, mut take: impl FnMut() -> Linear) -> Self {
        let last = shape.convolutions.len() - 1;
        let gain = |number| if number == last { last_gain } else { 1.0 };
        let units = shape.convolutions.into_iter().enumerate();
        Self {
            units: units.map(|(number, shape)| Unit::new(shape, take(), gain(number))).collect(),
            shortcut: shape.shortcut.map(|shape| Unit::new(shape, take(), 1.0)),
        }
    }

    /// Of the last forward pass.
    pub(super) fn output(&self) -> &Matrix {
        &self.units.last().expect("a block has units").output
    }

    /// The first unit whose output in the last forward pass is not finite throughout, by its name.
    pub(super) fn not_finite(&self) -> Option<&str> {
        self.shortcut.iter().chain(&self.units).find_map(Unit::not_finite)
    }

    /// Computes the output for `x`, which holds such maps; tells what maps the output holds.
    pub(super) fn forward(
        &mut self,
        work: &mut Work,
        training: bool,
        (x, maps): (&Matrix, Maps),
        scratch: &mut ConvolutionScratch,
    ) -> Maps {
        let Self { units, shortcut } = self;
        if let Some(shortcut) = shortcut {
            shortcut.forward(work, training, (x, maps), None, false, scratch);
        }
        let residual = shortcut.as_ref().map_or(x, |shortcut| &shortcut.output);
        let (last, mut now) = (units.len() - 1, maps);
        for number in 0..units.len() {
            let (before, rest) = units.split_at_mut(number);
            let input = before.last().map_or(x, |unit| &unit.output);
            let residual = (number == last).then_some(residual);
            now = rest[0].forward(work, training, (input, now), residual, true, scratch);
        }
        now
    }

    /// Makes `scratch.flow`, the gradient with respect to the output, the one with respect to x.
    pub(super) fn backward(&mut self, pass: &mut Pass, x: &Matrix, scratch: &mut Scratch) {
        let Self { units, shortcut } = self;
        let Scratch { convolution, flow, inner, next, side, sum } = scratch;
        for number in (0..units.len()).rev() {
            let first = number == 0;
            let (before, rest) = units.split_at_mut(number);
            let input = before.last().map_or(x, |unit| &unit.output);
            if rest.len() == 1 {
                // The last one has the block's output, and leaves the residual's gradient in `flow`.
                rest[0].backward(pass, input, flow, Some((inner, None)), (convolution, sum));
                continue;
            }
            if first && let Some(shortcut) = shortcut {
                shortcut.backward(pass, x, flow, Some((side, None)), (convolution, sum));
            }
            let residual = if shortcut.is_some() { &*side } else { &*flow };
            let others = first.then_some(residual);
            rest[0].backward(pass, input, inner, Some((next, others)), (convolution, sum));
            std::mem::swap(inner, next);
        }
        std::mem::swap(flow, inner);
    }

    /// Calls `visit` with each sparse weight and its dense gradient, for the x of the last passes.
    pub(super) fn for_each_gradient(
        &mut self,
        x: &Matrix,
        scratch: &mut ConvolutionScratch,
        visit: &mut impl FnMut(&mut SparseWeight, &DenseGradient<'_>),
    ) {
        for number in 0..self.units.len() {
            let (before, rest) = self.units.split_at_mut(number);
            let input = before.last().map_or(x, |unit| &unit.output);
            rest[0].for_each_gradient(input, scratch, visit);
        }
        if let Some(shortcut) = &mut self.shortcut {
            shortcut.for_each_gradient(x, scratch, visit);
        }
    }

    /// In the order of the shape's layers.
    pub(super) fn units(&mut self) -> impl Iterator<Item = &mut Unit> {
        self.units.iter_mut().chain(&mut self.shortcut)
    }

    pub(super) fn visit<'a>(&'a mut self, visit: &mut dyn FnMut(&'a str, ParameterMut<'a>)) {
        self.units.iter_mut().chain(&mut self.shortcut).for_each(|unit| unit.visit(visit));
    }
}
