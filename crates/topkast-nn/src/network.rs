//! What every network offers to the training loop.

use std::time::Duration;

use topkast::{Counts, Init, Parameter, ReservoirKind, Seed, SparseWeight, Topology};

/// How a forward pass is run.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// With dropout, drawn from this seed (which must differ from step to step).
    Train(Seed),
    /// Without.
    Evaluate,
}

/// Which gradients a backward pass computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gradients {
    /// With respect to activations only.
    Activations,
    /// Of biases, dense weights and A as well.
    Active,
    /// Of B∖A as well.
    All,
}

/// How long the parts of a backward pass took, over all layers.
#[derive(Clone, Copy, Debug, Default)]
pub struct BackwardTimes {
    /// The gradients with respect to activations, through dropout and nonlinearities.
    pub input_gradient: Duration,
    /// The gradients of weights and biases.
    pub weight_gradient: Duration,
}

/// How one linear layer is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LayerPlan {
    /// All weights, as a dense layer.
    Dense {
        /// How they are distributed at first.
        init: Init,
    },
    /// Always sparse.
    Sparse {
        /// |A| and |B|.
        counts: Counts,
        /// What decides them.
        topology: Topology,
        /// How θ⁰ is distributed.
        init: Init,
        /// How it is kept.
        reservoir: ReservoirKind,
    },
}

/// One trained tensor of a network.
pub enum ParameterMut<'a> {
    /// A sparse weight.
    Sparse(&'a mut SparseWeight),
    /// A dense weight `[rows × width]`, row-major; the penalty applies to it with coefficient λ.
    Weight {
        /// Values, gradient, optimizer state.
        parameter: &'a mut Parameter,
        /// Outputs and inputs.
        shape: [usize; 2],
    },
    /// A bias: always dense, never penalised (our choice: the paper leaves it open).
    Bias(&'a mut Parameter),
}
