//! A backward pass under way.

use std::time::Instant;

use topkast_kernels::{Isa, Matrix};

use crate::part_times::Work;
use crate::{BackwardTimes, Gradients, Linear};

/// What is wanted of a backward pass, and how long its parts have taken so far.
pub(crate) struct Pass {
    pub(crate) work: Work,
    pub(crate) wanted: Gradients,
    pub(crate) times: BackwardTimes,
}

impl Pass {
    pub(crate) fn new(isa: Isa, wanted: Gradients) -> Self {
        Self { work: Work::new(isa), wanted, times: BackwardTimes::default() }
    }

    /// Does `work` towards gradients with respect to activations.
    pub(crate) fn activations(&mut self, work: impl FnOnce(&mut Work)) {
        let start = Instant::now();
        work(&mut self.work);
        self.times.input_gradient += start.elapsed();
    }

    /// Does `work` towards gradients of parameters, if they are wanted.
    pub(crate) fn parameters(&mut self, work: impl FnOnce(&mut Work)) {
        if self.wanted != Gradients::Activations {
            let start = Instant::now();
            work(&mut self.work);
            self.times.weight_gradient += start.elapsed();
        }
    }

    /// The gradients of a linear layer from its input and `dy`, if they are wanted.
    pub(crate) fn linear(&mut self, linear: &mut Linear, x: &Matrix, dy: &Matrix) {
        let explore = self.wanted == Gradients::All;
        self.parameters(|work| work.linear(|isa| linear.weight_gradient(isa, x, dy, explore)));
    }
}
