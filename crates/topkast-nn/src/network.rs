//! What every network offers to the training loop.

use std::time::Duration;

use topkast::{Counts, DenseGradient, Init, Parameter, ReservoirKind, Seed, SparseWeight, Topology};
use topkast_kernels::{Buffer, Isa, Matrix};

use crate::loss::column;
use crate::{
    Linear, Loss, Mlp, MlpShape, PartTimes, ResNet, ResNetShape, Tokens, TransformerXl, TransformerXlShape,
};

/// The sizes of a network of any kind.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum NetworkShape {
    Mlp(MlpShape),
    ResNet(ResNetShape),
    TransformerXl(TransformerXlShape),
}

impl NetworkShape {
    /// `[outputs, inputs]` of each linear layer that may be sparse, with its name, in the order in which [`Network::linears`] has them.
    pub fn layers(&self) -> Vec<(String, [usize; 2])> {
        match self {
            Self::Mlp(shape) => shape.layers(),
            Self::ResNet(shape) => shape.layers(),
            Self::TransformerXl(shape) => shape.layers(),
        }
    }

    /// For how many positions each of [`layers`](Self::layers) computes for one of the network's: the pixels of its maps.
    pub fn pixels(&self) -> Vec<usize> {
        match self {
            Self::ResNet(shape) => shape.pixels(),
            Self::Mlp(_) | Self::TransformerXl(_) => vec![1; self.layers().len()],
        }
    }
}

/// What a network is given to compute with.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Features by positions; of a residual network channels by pixels of images.
    Features(&'a Matrix),
    /// Text.
    Tokens(Tokens<'a>),
}

const MISFIT: &str = "a Transformer-XL takes tokens, other networks features";

/// A network of any kind, for who trains, stores or inspects it.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Network {
    Mlp(Mlp),
    ResNet(Box<ResNet>),
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
    /// A bias, or what scales features: always dense, never penalised (our choice: the paper leaves it open).
    Bias(&'a mut Parameter),
    /// Numbers that follow the batches without a gradient, as the running statistics of a norm.
    Statistic(&'a mut Buffer),
}

impl<'a> ParameterMut<'a> {
    /// The values.
    pub fn values(&self) -> &[f32] {
        match self {
            Self::Sparse(weight) => &weight.parameter().values,
            Self::Weight { parameter, .. } | Self::Bias(parameter) => &parameter.values,
            Self::Statistic(values) => values,
        }
    }

    /// With gradient and optimizer state, if it has these.
    pub fn trained(self) -> Option<&'a mut Parameter> {
        match self {
            Self::Sparse(weight) => Some(weight.parameter_mut()),
            Self::Weight { parameter, .. } | Self::Bias(parameter) => Some(parameter),
            Self::Statistic(_) => None,
        }
    }
}

impl Network {
    /// A network of linear layers that are made already, one for each of [`NetworkShape::layers`]; what else it has is drawn from `seed`.
    ///
    /// # Panics
    /// If the layers are not as many or not of those sizes.
    pub fn from_layers(shape: &NetworkShape, linears: Vec<Linear>, seed: Seed) -> Self {
        match shape {
            NetworkShape::Mlp(shape) => Self::Mlp(Mlp::from_layers(shape, linears)),
            NetworkShape::ResNet(shape) => Self::ResNet(Box::new(ResNet::from_layers(shape, linears))),
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
            (Self::ResNet(network), Input::Features(x)) => {
                network.forward(isa, x, matches!(mode, Mode::Train(_)));
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
            Self::ResNet(network) => network.loss(isa, targets, label_smoothing, with_gradient),
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
            Self::ResNet(network) => column(network.logits(), position, logits),
            Self::TransformerXl(network) => network.logits_at(isa, position, logits),
        }
    }

    /// The first layer whose output in the last forward pass is not finite throughout, by its name.
    pub fn first_not_finite(&self) -> Option<String> {
        match self {
            Self::Mlp(network) => network.first_not_finite(),
            Self::ResNet(network) => network.first_not_finite(),
            Self::TransformerXl(network) => network.first_not_finite(),
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
            (Self::ResNet(network), Input::Features(x)) => network.backward(isa, x, wanted),
            (Self::TransformerXl(network), Input::Tokens(tokens)) => network.backward(isa, tokens, wanted),
            _ => panic!("{MISFIT}"),
        }
    }

    /// What of the last forward pass, and of the backward passes after it, went to which parts.
    pub fn part_times(&self) -> PartTimes {
        match self {
            Self::Mlp(network) => network.part_times(),
            Self::ResNet(network) => network.part_times(),
            Self::TransformerXl(network) => network.part_times(),
        }
    }

    /// Calls `visit` with each sparse weight and its dense gradient: that of the last backward pass, which must have been one for
    /// [`Gradients::Activations`].
    ///
    /// # Panics
    /// If the last backward pass was another, of a network that tells, or `input` is not of the network's kind.
    pub fn for_each_gradient(
        &mut self,
        input: Input<'_>,
        visit: impl FnMut(&mut SparseWeight, &DenseGradient<'_>),
    ) {
        match (self, input) {
            (Self::Mlp(network), Input::Features(x)) => network.for_each_gradient(x, visit),
            (Self::ResNet(network), Input::Features(x)) => network.for_each_gradient(x, visit),
            (Self::TransformerXl(network), Input::Tokens(_)) => network.for_each_gradient(visit),
            _ => panic!("{MISFIT}"),
        }
    }

    /// Calls `visit` with the name of every parameter and the parameter, always in the same order.
    pub fn visit<'a>(&'a mut self, visit: &mut dyn FnMut(&'a str, ParameterMut<'a>)) {
        match self {
            Self::Mlp(network) => network.visit(visit),
            Self::ResNet(network) => network.visit(visit),
            Self::TransformerXl(network) => network.visit(visit),
        }
    }

    /// The linear layers that may be sparse, with their names, as [`NetworkShape::layers`] has them.
    pub fn linears(&mut self) -> impl Iterator<Item = (&str, &mut Linear)> {
        // All but one are empty: a type for all of them without a box.
        let (mlp, resnet, transformer) = match self {
            Self::Mlp(network) => (Some(network.linears()), None, None),
            Self::ResNet(network) => (None, Some(network.linears()), None),
            Self::TransformerXl(network) => (None, None, Some(network.linears())),
        };
        mlp.into_iter().flatten().chain(resnet.into_iter().flatten()).chain(transformer.into_iter().flatten())
    }

    /// The sparse weights, in the order of [`linears`](Self::linears).
    pub fn sparse_weights(&mut self) -> Vec<&mut SparseWeight> {
        self.linears().filter_map(|(_, linear)| linear.sparse_weight()).collect()
    }

    /// Makes what the input gradients of sparse products need, where not yet made, so that it is counted: a network that has not been
    /// trained since A last changed may be without.
    pub fn index_inputs(&mut self) {
        match self {
            Self::ResNet(network) => network.index_inputs(),
            // The first layer of an MLP needs none; that of a Transformer-XL is its embedding.
            Self::Mlp(_) | Self::TransformerXl(_) => {
                let first = usize::from(matches!(self, Self::Mlp(_)));
                for (_, linear) in self.linears().skip(first) {
                    if let Linear::Sparse(layer) = linear {
                        layer.index_inputs();
                    }
                }
            }
        }
    }

    /// What it takes: channels, height and width of an image; features and twice 1 of an MLP; three times 1 where it is given tokens.
    pub fn input(&self) -> [usize; 3] {
        match self {
            Self::Mlp(network) => [network.inputs(), 1, 1],
            Self::ResNet(network) => network.input(),
            Self::TransformerXl(_) => [1; 3],
        }
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Mlp(network) => network.outputs(),
            Self::ResNet(network) => network.classes(),
            Self::TransformerXl(network) => network.vocabulary(),
        }
    }
}
