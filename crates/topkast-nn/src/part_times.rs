//! Which parts of a network its time goes to.

use std::ops::AddAssign;
use std::time::{Duration, Instant};

use topkast_kernels::Isa;

/// How long passes took in the parts of a network that are products; the rest of the time went to all else.
#[derive(Clone, Copy, Debug, Default)]
pub struct PartTimes {
    /// The products of linear layers, together with what happens in their last store: bias, activation, a sum with another gradient.
    pub linear: Duration,
    /// Attention: scores, softmax, and the sums of values that they weight.
    pub attention: Duration,
}

impl AddAssign for PartTimes {
    fn add_assign(&mut self, other: Self) {
        self.linear += other.linear;
        self.attention += other.attention;
    }
}

/// A pass under way: what it runs on, and how long its parts have taken so far.
pub(crate) struct Work {
    pub(crate) isa: Isa,
    pub(crate) parts: PartTimes,
}

impl Work {
    pub(crate) fn new(isa: Isa) -> Self {
        Self { isa, parts: PartTimes::default() }
    }

    /// Does the work of linear layers.
    pub(crate) fn linear(&mut self, work: impl FnOnce(Isa)) {
        let start = Instant::now();
        work(self.isa);
        self.parts.linear += start.elapsed();
    }

    /// Does the work of attention.
    pub(crate) fn attention(&mut self, work: impl FnOnce(Isa)) {
        let start = Instant::now();
        work(self.isa);
        self.parts.attention += start.elapsed();
    }
}
