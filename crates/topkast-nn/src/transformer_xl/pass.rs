//! A backward pass under way.

use std::time::Instant;

use topkast_kernels::{Isa, Matrix};

use crate::part_times::Work;
use crate::{BackwardTimes, Gradients, Linear};

/// What is wanted of a backward pass, and how long its parts have taken so far.
pub(super) struct Pass {
    pub(super) work: Work,
    pub(super) wanted: Gradients,
    pub(super) times: BackwardTimes,
}

impl Pass {
    pub(super) fn new(isa: Isa, wanted: Gradients) -> Self {
        Self { work: Work::new(isa), wanted, times: BackwardTimes::default() }
    }

    /// Does `work` towards gradients with respect to activations.
    pub(super) fn activations(&mut self, work: impl FnOnce(&mut Work)) {
        let start = Instant::now();
        work(&mut self.work);
        self.times.input_gradient += start.elapsed();
    }

    /// Does `work` towards gradients of parameters, if they are wanted.
    pub(super) fn parameters(&mut self, work: impl FnOnce(&mut Work)) {
        if self.wanted != Gradients::Activations {
            let start = Instant::now();
            work(&mut self.work);
            self.times.weight_gradient += start.elapsed();
        }
    }

    /// The gradients of a linear layer from its input and `dy`, if they are wanted.
    pub(super) fn linear(&mut self, linear: &mut Linear, x: &Matrix, dy: &Matrix) {
        let explore = self.wanted == Gradients::All;
        self.parameters(|work| work.linear(|isa| linear.weight_gradient(isa, x, dy, explore)));
    }
}

/// Matrices that every layer's backward pass uses in turn.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The gradient with respect to the layer's output; in the end to its input.
    pub(super) flow: Matrix,
    /// The same with respect to a residual sum.
    pub(super) residual: Matrix,
    /// With respect to what attention puts out.
    pub(super) attended: Matrix,
    /// With respect to the keys or values of the segment, without those of the memory.
    pub(super) own: Matrix,
}
