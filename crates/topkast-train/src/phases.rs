//! Where a step's time goes.

use std::time::{Duration, Instant};

/// How long the parts of one step took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Phases {
    /// Gathering and normalising the batch.
    pub load: Duration,
    /// Choosing A and B again, where it was due.
    pub refresh: Duration,
    /// The forward pass.
    pub forward: Duration,
    /// The loss and its gradient.
    pub loss: Duration,
    /// The gradients with respect to activations, through dropout and nonlinearities.
    pub input_gradient: Duration,
    /// The gradients of weights and biases.
    pub weight_gradient: Duration,
    /// Clipping, optimizer and penalty.
    pub update: Duration,
}

/// Tells how long it was since it was last asked. Asking takes some hundredths of a microsecond.
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn lap(&mut self) -> Duration {
        let last = std::mem::replace(&mut self.0, Instant::now());
        self.0 - last
    }
}
