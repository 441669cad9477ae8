//! What every network offers to the training loop.

use std::time::Duration;

use topkast::{Counts, Init, Parameter, ReservoirKind, Seed, SparseWeight, Topology};
use topkast_kernels::{Isa, Matrix};

use crate::loss::column;
use crate::{Linear, Loss, Mlp, MlpShape, PartTimes, Tokens, TransformerXl, TransformerXlShape};

/// The sizes of a network of any kind.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum NetworkShape {
    Mlp(MlpShape),
    TransformerXl(TransformerXlShape),
}

impl NetworkShape {
    /// `[outputs, inputs]` of each linear layer that may be sparse, with its name, in the order in which [`Network::linears`] has them.
    pub fn layers(&self) -> Vec<(String, [usize; 2])> {
        match self {
            Self::Mlp(shape) => shape.layers(),
            Self::TransformerXl(shape) => shape.layers(),
        }
    }
}

/// What a network is given to compute with.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Features by positions.
    Features(&'a Matrix),
    /// Text.
    Tokens(Tokens<'a>),
}

const MISFIT: &str = "an MLP takes features, a Transformer-XL tokens";

/// A network of any kind, for who trains, stores or inspects it.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Network {
    Mlp(Mlp),
    TransformerXl(Box<TransformerXl>),
}

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

impl Network {
    /// A network of linear layers that are made already, one for each of [`NetworkShape::layers`]; what else it has is drawn from `seed`.
    ///
    /// # Panics
    /// If the layers are not as many or not of those sizes.
    pub fn from_layers(shape: &NetworkShape, linears: Vec<Linear>, seed: Seed) -> Self {
        match shape {
            NetworkShape::Mlp(shape) => Self::Mlp(Mlp::from_layers(shape, linears)),
            NetworkShape::TransformerXl(shape) => {
                Self::TransformerXl(Box::new(TransformerXl::from_layers(shape, linears, seed)))
            }
        }
    }

    /// Computes what [`loss`](Self::loss) and [`logits_at`](Self::logits_at) tell of.
    ///
    /// # Panics
    /// If the input is not of the network's kind or size.
    pub fn forward(&mut self, isa: Isa, input: Input<'_>, mode: Mode) {
        match (self, input) {
            (Self::Mlp(network), Input::Features(x)) => {
                network.forward(isa, x, mode);
            }
            (Self::TransformerXl(network), Input::Tokens(tokens)) => network.forward(isa, tokens, mode),
            _ => panic!("{MISFIT}"),
        }
    }

    /// The loss of the last forward pass against the `targets`, one for each position; with the gradient that
    /// [`backward`](Self::backward) begins with, if that is to follow.
    ///
    /// # Panics
    /// If there is not one target for each position, one is no output, or label smoothing is asked of adaptive softmax.
    pub fn loss(&mut self, isa: Isa, targets: &[u32], label_smoothing: f32, with_gradient: bool) -> Loss {
        match self {
            Self::Mlp(network) => network.loss(isa, targets, label_smoothing, with_gradient),
            Self::TransformerXl(network) => network.loss(isa, targets, label_smoothing, with_gradient),
        }
    }

    /// Numbers of all outputs at one position of the last forward pass, whose softmax is their probabilities: logits, of adaptive softmax
    /// the logarithms of these probabilities.
    ///
    /// # Panics
    /// If there was no such position.
    pub fn logits_at(&mut self, isa: Isa, position: usize, logits: &mut Vec<f32>) {
        match self {
            Self::Mlp(network) => column(network.logits(), position, logits),
            Self::TransformerXl(network) => network.logits_at(isa, position, logits),
        }
    }

    /// The gradients that are `wanted` of the last [`loss`](Self::loss), for the input of the last forward pass, as [`Mlp::backward`] has
    /// them; once for each loss.
    ///
    /// # Panics
    /// If `input` is not that of the last forward pass.
    pub fn backward(&mut self, isa: Isa, input: Input<'_>, wanted: Gradients) -> BackwardTimes {
        match (self, input) {
            (Self::Mlp(network), Input::Features(x)) => network.backward(isa, x, wanted),
            (Self::TransformerXl(network), Input::Tokens(tokens)) => network.backward(isa, tokens, wanted),
            _ => panic!("{MISFIT}"),
        }
    }

    /// What of the last forward pass, and of the backward passes after it, went to which parts.
    pub fn part_times(&self) -> PartTimes {
        match self {
            Self::Mlp(network) => network.part_times(),
            Self::TransformerXl(network) => network.part_times(),
        }
    }

    /// Calls `visit` with each sparse weight, the gradient with respect to its `W·x + b`, and its x: of the last backward pass, which must
    /// have been one for [`Gradients::Activations`]. Their product is the dense gradient of the weight.
    ///
    /// # Panics
    /// If a Transformer-XL's last backward pass was another, or `input` is not of the network's kind.
    pub fn for_each_gradient(
        &mut self,
        input: Input<'_>,
        visit: impl FnMut(&mut SparseWeight, &Matrix, &Matrix),
    ) {
        match (self, input) {
            (Self::Mlp(network), Input::Features(x)) => network.for_each_gradient(x, visit),
            (Self::TransformerXl(network), Input::Tokens(_)) => network.for_each_gradient(visit),
            _ => panic!("{MISFIT}"),
        }
    }

    /// Calls `visit` with the name of every parameter and the parameter, always in the same order.
    pub fn visit<'a>(&'a mut self, visit: &mut dyn FnMut(&'a str, ParameterMut<'a>)) {
        match self {
            Self::Mlp(network) => network.visit(visit),
            Self::TransformerXl(network) => network.visit(visit),
        }
    }

    /// The linear layers that may be sparse, with their names, as [`NetworkShape::layers`] has them.
    pub fn linears(&mut self) -> impl Iterator<Item = (&str, &mut Linear)> {
        // One of the two is empty: a type for both without a box.
        let (mlp, transformer) = match self {
            Self::Mlp(network) => (Some(network.linears()), None),
            Self::TransformerXl(network) => (None, Some(network.linears())),
        };
        mlp.into_iter().flatten().chain(transformer.into_iter().flatten())
    }

    /// The sparse weights, in the order of [`linears`](Self::linears).
    pub fn sparse_weights(&mut self) -> Vec<&mut SparseWeight> {
        self.linears().filter_map(|(_, linear)| linear.sparse_weight()).collect()
    }

    /// Number of input features of a position; 1 where it is given tokens.
    pub fn inputs(&self) -> usize {
        match self {
            Self::Mlp(network) => network.inputs(),
            Self::TransformerXl(_) => 1,
        }
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Mlp(network) => network.outputs(),
            Self::TransformerXl(network) => network.vocabulary(),
        }
    }
}
