//! The multilayer perceptron.

use std::time::Instant;

use topkast::{DenseGradient, Seed, SparseWeight, WeightError};
use topkast_kernels::{Isa, Matrix, dropout};

use crate::loss::softmax_loss;
use crate::named::NamedLinear;
use crate::part_times::Work;
use crate::{
    Activation, Applied, BackwardTimes, Gradients, LayerPlan, Linear, Loss, Mode, ParameterMut, PartTimes,
};

/// An MLP's sizes and what happens between its layers.
#[derive(Clone, Debug, PartialEq)]
pub struct MlpShape {
    /// Number of input features.
    pub inputs: usize,
    /// Units of each hidden layer, also none.
    pub hidden: Vec<usize>,
    /// Number of outputs.
    pub outputs: usize,
    /// After each hidden layer.
    pub activation: Activation,
    /// Dropout rate after each hidden layer, in [0, 1).
    pub dropout: f32,
}

impl MlpShape {
    /// `[outputs, inputs]` of each layer with its name: `hidden.0`, `hidden.1`, …, `output`.
    pub fn layers(&self) -> Vec<(String, [usize; 2])> {
        let mut inputs = self.inputs;
        let mut layers = Vec::with_capacity(self.hidden.len() + 1);
        for (number, &units) in self.hidden.iter().enumerate() {
            layers.push((format!("hidden.{number}"), [units, inputs]));
            inputs = units;
        }
        layers.push(("output".to_owned(), [self.outputs, inputs]));
        layers
    }
}

/// Linear layers with an activation and dropout between them. Logits come out of the last one as they are.
#[derive(Debug)]
pub struct Mlp {
    layers: Vec<Layer>,
    dropout: f32,
    key: Option<Seed>,
    parts: PartTimes,
}

#[derive(Debug)]
struct Layer {
    linear: NamedLinear,
    activation: Activation,
    pre: Matrix,
    output: Matrix,
    gradient: Matrix,
}

impl Mlp {
    /// A fresh network; `plans` has one plan for each of [`MlpShape::layers`].
    ///
    /// # Errors
    /// If a plan does not fit its layer.
    ///
    /// # Panics
    /// If the number of plans is not that of the layers.
    pub fn new(shape: &MlpShape, plans: &[LayerPlan], seed: Seed) -> Result<Self, WeightError> {
        let sizes = shape.layers();
        assert_eq!(sizes.len(), plans.len(), "one plan per layer");
        let layers = sizes
            .into_iter()
            .zip(plans)
            .map(|((name, [outputs, inputs]), plan)| Linear::new(outputs, inputs, plan, seed.named(&name)));
        Ok(Self::from_layers(shape, layers.collect::<Result<_, _>>()?))
    }

    /// A network of layers that are made already: one for each of [`MlpShape::layers`].
    ///
    /// # Panics
    /// If the layers are not as many or not of those sizes.
    pub fn from_layers(shape: &MlpShape, linears: Vec<Linear>) -> Self {
        let sizes = shape.layers();
        assert_eq!(sizes.len(), linears.len(), "one layer for each of the shape");
        let last = sizes.len() - 1;
        let layers =
            sizes.into_iter().zip(linears).enumerate().map(|(number, ((name, size), linear))| Layer {
                linear: NamedLinear::new(&name, size, linear),
                activation: if number == last { Activation::Identity } else { shape.activation },
                pre: Matrix::default(),
                output: Matrix::default(),
                gradient: Matrix::default(),
            });
        Self { layers: layers.collect(), dropout: shape.dropout, key: None, parts: PartTimes::default() }
    }

    /// The logits `[outputs × positions]` for inputs `x`.
    ///
    /// # Panics
    /// If `x` does not have as many features as the network has inputs.
    pub fn forward(&mut self, isa: Isa, x: &Matrix, mode: Mode) -> &Matrix {
        self.key = match mode {
            Mode::Train(seed) if self.dropout > 0.0 => Some(seed),
            _ => None,
        };
        let mut work = Work::new(isa);
        for number in 0..self.layers.len() {
            let (before, rest) = self.layers.split_at_mut(number);
            let layer = &mut rest[0];
            let input = before.last().map_or(x, |layer| &layer.output);
            work.linear(|isa| {
                layer.linear.forward(isa, input, layer.activation, &mut layer.pre, &mut layer.output);
            });
            if let Some(key) = self.key.filter(|_| !rest[1..].is_empty()) {
                dropout(isa, key.numbered(number as u64).key(), self.dropout, &mut rest[0].output);
            }
        }
        self.parts = work.parts;
        self.logits()
    }

    /// The first layer whose output in the last forward pass is not finite throughout, by its name.
    pub fn first_not_finite(&self) -> Option<String> {
        self.layers.iter().find(|layer| !layer.output.is_finite()).map(|layer| layer.linear.name().to_owned())
    }

    /// The result of the last [`forward`](Self::forward).
    pub fn logits(&self) -> &Matrix {
        &self.last().output
    }

    /// The logits, and where to write the loss's gradient with respect to them before [`backward`](Self::backward).
    pub fn logits_and_gradient(&mut self) -> (&Matrix, &mut Matrix) {
        let layer = self.layers.last_mut().expect("an MLP has an output layer");
        layer.gradient.ensure(layer.output.features(), layer.output.positions());
        (&layer.output, &mut layer.gradient)
    }

    /// The loss of the last forward pass against the `targets`; with the gradient that [`backward`](Self::backward) begins with, if that is
    /// to follow.
    ///
    /// # Panics
    /// If there is not one target for each position, or one is no output.
    pub fn loss(&mut self, isa: Isa, targets: &[u32], label_smoothing: f32, with_gradient: bool) -> Loss {
        let Layer { output, gradient, .. } = self.layers.last_mut().expect("an MLP has an output layer");
        softmax_loss(isa, output, targets, label_smoothing, with_gradient, gradient)
    }

    /// The gradients that are `wanted`, for the inputs `x` of the last forward pass. Without `All` those of entries of B∖A are zero;
    /// with `Activations` those of parameters stay what they were. Returns how long it took.
    ///
    /// # Panics
    /// If `x` is not of the last forward pass's shape.
    pub fn backward(&mut self, isa: Isa, x: &Matrix, wanted: Gradients) -> BackwardTimes {
        let (mut times, mut work) = (BackwardTimes::default(), Work::new(isa));
        for number in (0..self.layers.len()).rev() {
            let (before, rest) = self.layers.split_at_mut(number);
            let Layer { linear, gradient, .. } = &mut rest[0];
            let start = Instant::now();
            let input = before.last().map_or(x, |layer| &layer.output);
            if wanted != Gradients::Activations {
                let explore = wanted == Gradients::All;
                work.linear(|isa| linear.weight_gradient(isa, input, gradient, explore));
            }
            let between = Instant::now();
            times.weight_gradient += between - start;
            // Nobody needs the gradient of the network's input.
            if let Some(Layer { activation, pre, output, gradient: dx, .. }) = before.last_mut() {
                let made_x = Applied { activation: *activation, pre, output };
                match self.key {
                    // Dropout came after the activation, so its gradient comes before.
                    Some(key) => {
                        work.linear(|isa| linear.input_gradient(isa, gradient, None, dx));
                        dropout(isa, key.numbered(number as u64 - 1).key(), self.dropout, dx);
                        made_x.backward(isa, dx);
                    }
                    None => work.linear(|isa| linear.input_gradient(isa, gradient, Some(made_x), dx)),
                }
                times.input_gradient += between.elapsed();
            }
        }
        self.parts += work.parts;
        times
    }

    /// What of the last forward pass, and of the backward passes after it, went to the linear layers.
    pub fn part_times(&self) -> PartTimes {
        self.parts
    }

    /// Calls `visit` with each sparse weight and its dense gradient: that of the last [`backward`](Self::backward), for the network's inputs
    /// `x`.
    pub fn for_each_gradient(
        &mut self,
        x: &Matrix,
        mut visit: impl FnMut(&mut SparseWeight, &DenseGradient<'_>),
    ) {
        for number in 0..self.layers.len() {
            let (before, rest) = self.layers.split_at_mut(number);
            let Layer { linear, gradient, .. } = &mut rest[0];
            if let Some(weight) = linear.sparse_weight() {
                visit(weight, &DenseGradient::of(gradient, before.last().map_or(x, |layer| &layer.output)));
            }
        }
    }

    /// Calls `visit` with the name of every parameter and the parameter, always in the same order.
    pub fn visit<'a>(&'a mut self, visit: &mut dyn FnMut(&'a str, ParameterMut<'a>)) {
        for layer in &mut self.layers {
            layer.linear.visit(visit);
        }
    }

    /// The layers with their names, as [`MlpShape::layers`] has them, input first.
    pub fn linears(&mut self) -> impl Iterator<Item = (&str, &mut Linear)> {
        self.layers.iter_mut().map(|layer| layer.linear.named())
    }

    /// The sparse weights, input first.
    pub fn sparse_weights(&mut self) -> Vec<&mut SparseWeight> {
        self.linears().filter_map(|(_, linear)| linear.sparse_weight()).collect()
    }

    /// Number of input features.
    pub fn inputs(&self) -> usize {
        self.layers[0].linear.shape()[1]
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.last().linear.shape()[0]
    }

    fn last(&self) -> &Layer {
        self.layers.last().expect("an MLP has an output layer")
    }
}
