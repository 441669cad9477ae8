//! What a step did, and where its time went.

use std::time::{Duration, Instant};

use topkast_nn::PartTimes;

/// What one step did.
#[derive(Clone, Copy, Debug)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: u64,
    /// Mean loss over the batch, before the update.
    pub loss: f64,
    /// Fraction of the batch classified right, before the update; none where that is not known, as with adaptive softmax.
    pub accuracy: Option<f64>,
    /// Samples in the batch.
    pub samples: usize,
    /// Learning rate.
    pub lr: f64,
    /// What a refresh changed, before this step or (rigl) in place of its update, if there was one.
    pub refresh: Option<RefreshReport>,
    /// How long its parts took.
    pub phases: Phases,
    /// What of its forward and backward passes went to which parts of the network.
    pub parts: PartTimes,
    /// Whether something was not finite, so that nothing was updated; the loss is of no use then.
    pub left_out: bool,
}

/// What a refresh changed over all layers.
#[derive(Clone, Copy, Debug, Default)]
pub struct RefreshReport {
    /// How many entries of A were not in A before.
    pub newly_active: u64,
    /// |A| over all layers.
    pub active: u64,
    /// How many entries came into B.
    pub entered: u64,
    /// How many entries of C have been in B at some time: what a reservoir that stores no others has grown to.
    pub dormant: u64,
    /// How long it took.
    pub time: Duration,
}

impl RefreshReport {
    /// What two layers' refreshes changed together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            newly_active: self.newly_active + other.newly_active,
            active: self.active + other.active,
            entered: self.entered + other.entered,
            dormant: self.dormant + other.dormant,
            time: self.time + other.time,
        }
    }
}

/// How long the parts of one step took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Phases {
    /// Gathering and normalising the batch.
    pub load: Duration,
    /// Choosing A and B again, where it was due, RigL's dense gradient included.
    pub refresh: Duration,
    /// The forward pass.
    pub forward: Duration,
    /// The loss and its gradient; of adaptive softmax with its products.
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
