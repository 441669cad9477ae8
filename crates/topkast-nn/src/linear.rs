//! Linear layers, sparse and dense: `y = activation(W·x + b)`.

pub(crate) mod convolution;

use topkast::{Parameter, Pattern, Seed, SparseWeight, Topology, WeightError};
use topkast_kernels::{
    Bf16, Buffer, Epilogue, Isa, Matrix, add, add_bias, dense_forward, dense_input_gradient,
    dense_weight_gradient, gelu, relu, row_sums, sddmm, sddmm_bf16, sddmm_bf16_pair, sddmm_pair, spmm,
    spmm_transposed,
};

pub(crate) use convolution::ConvolutionScratch;

use crate::dense_products::{DenseProducts, LARGEST};
use crate::single_position::SinglePosition;
use crate::tiled_products;
use crate::{Activation, Applied, LayerPlan, ParameterMut};

/// A linear layer of either kind.
#[derive(Debug)]
pub enum Linear {
    /// Computes with A only.
    Sparse(SparseLinear),
    /// Computes with all weights.
    Dense(DenseLinear),
}

/// A linear layer with a [`SparseWeight`].
#[derive(Debug)]
pub struct SparseLinear {
    /// W.
    pub weight: SparseWeight,
    /// b.
    pub bias: Parameter,
    /// The active values in the order of the transposed pattern.
    gathered: Buffer,
    /// In place of the sparse products, see [`SparseLinear::use_dense_products`].
    dense: Option<DenseProducts>,
    /// For one position at a time, where the weight is fixed; on the heap, as few have it.
    single: Box<SinglePosition>,
    /// Where the weight gradient's inputs are rounded, see [`SparseLinear::use_bf16_weight_gradient`].
    pub(crate) bf16: Option<Bf16>,
}

/// A linear layer with all its weights.
#[derive(Debug)]
pub struct DenseLinear {
    /// W, row-major `[outputs × inputs]`.
    pub weight: Parameter,
    /// b.
    pub bias: Parameter,
    inputs: usize,
}

impl Linear {
    /// A fresh layer; biases start at zero.
    ///
    /// # Errors
    /// If the plan's counts do not fit the shape, or the shape overflows.
    pub fn new(outputs: usize, inputs: usize, plan: &LayerPlan, seed: Seed) -> Result<Self, WeightError> {
        let bias = Buffer::zeros(outputs);
        Ok(match *plan {
            LayerPlan::Sparse { counts, topology, init, reservoir } => {
                let weight = SparseWeight::new(outputs, inputs, counts, topology, &init, reservoir, seed)?;
                Self::Sparse(SparseLinear::new(weight, bias))
            }
            LayerPlan::Dense { init } => {
                let count = outputs
                    .checked_mul(inputs)
                    .filter(|&count| count > 0)
                    .ok_or(WeightError::Shape { rows: outputs, width: inputs })?;
                let mut values = Buffer::zeros(count);
                let draws = init.draws(seed.named("theta"), count, init.deviation(outputs, inputs));
                values.iter_mut().zip(draws).for_each(|(slot, draw)| *slot = draw);
                Self::Dense(DenseLinear::new(values, bias))
            }
        })
    }

    /// Number of outputs and inputs.
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Sparse(layer) => [layer.weight.pattern().rows(), layer.weight.pattern().width()],
            Self::Dense(layer) => [layer.bias.values.len(), layer.inputs],
        }
    }

    /// `y = activation(W·x + b)`. For GELU `pre` receives `W·x + b`; otherwise it is not touched.
    ///
    /// # Panics
    /// If `x` does not have as many features as the layer has inputs.
    pub fn forward(
        &mut self,
        isa: Isa,
        x: &Matrix,
        activation: Activation,
        pre: &mut Matrix,
        y: &mut Matrix,
    ) {
        match self {
            Self::Sparse(layer) => layer.forward(isa, x, activation, pre, y),
            Self::Dense(layer) => layer.forward(isa, x, activation, pre, y),
        }
    }

    /// `y = W·x + b`.
    pub(crate) fn affine(&mut self, isa: Isa, x: &Matrix, y: &mut Matrix) {
        self.forward(isa, x, Activation::Identity, &mut Matrix::default(), y);
    }

    /// `dx = Wᵀ·dy`, where `dy` is the gradient with respect to `W·x + b`, for the W of the last forward pass; and back
    /// through the activation that made x, where given.
    ///
    /// # Panics
    /// If `dy` does not have as many features as the layer has outputs, or `made_x` not the shape of x.
    pub fn input_gradient(&mut self, isa: Isa, dy: &Matrix, made_x: Option<Applied<'_>>, dx: &mut Matrix) {
        let then = made_x.map_or(Then::Nothing, Then::Through);
        match self {
            Self::Sparse(layer) => layer.input_gradient(isa, dy, then, dx),
            Self::Dense(layer) => layer.input_gradient(isa, dy, then, dx),
        }
    }

    /// `dx = Wᵀ·dy + others`, as [`input_gradient`](Self::input_gradient): for an x that others take, too.
    ///
    /// # Panics
    /// If `dy` does not have as many features as the layer has outputs, or `others` not the shape of x.
    pub fn add_input_gradient(&mut self, isa: Isa, dy: &Matrix, others: &Matrix, dx: &mut Matrix) {
        match self {
            Self::Sparse(layer) => layer.input_gradient(isa, dy, Then::Add(others), dx),
            Self::Dense(layer) => layer.input_gradient(isa, dy, Then::Add(others), dx),
        }
    }

    /// The gradients of weight and bias from `dy`, the gradient with respect to `W·x + b`. Entries of B∖A get theirs
    /// only with `explore`.
    ///
    /// # Panics
    /// If the shapes do not fit the layer.
    pub fn weight_gradient(&mut self, isa: Isa, x: &Matrix, dy: &Matrix, explore: bool) {
        match self {
            Self::Sparse(layer) => layer.weight_gradient(isa, x, dy, explore),
            Self::Dense(layer) => layer.weight_gradient(isa, x, dy),
        }
    }

    /// The weight, if it is a sparse one.
    pub(crate) fn sparse_weight(&mut self) -> Option<&mut SparseWeight> {
        match self {
            Self::Sparse(layer) => Some(&mut layer.weight),
            Self::Dense(_) => None,
        }
    }

    /// The weight, then the bias.
    pub fn parameters(&mut self) -> [ParameterMut<'_>; 2] {
        let shape = self.shape();
        match self {
            Self::Sparse(layer) => {
                [ParameterMut::Sparse(&mut layer.weight), ParameterMut::Bias(&mut layer.bias)]
            }
            Self::Dense(layer) => [
                ParameterMut::Weight { parameter: &mut layer.weight, shape },
                ParameterMut::Bias(&mut layer.bias),
            ],
        }
    }
}

/// The density from which on a layer that is being pruned uses dense products: sparse ones were as fast at 40 to 60% (docs/benchmarks).
pub const DENSE_ABOVE: f64 = 0.5;

/// Whether a layer that is being pruned computes with dense products while `active` of its `total` weights are active.
pub fn prunes_densely(active: u64, total: u64) -> bool {
    total <= LARGEST && active as f64 >= DENSE_ABOVE * total as f64
}

impl SparseLinear {
    /// A layer of these values.
    ///
    /// # Panics
    /// If there is not one bias for each row of the weight.
    pub fn new(weight: SparseWeight, bias: Buffer) -> Self {
        assert_eq!(bias.len(), weight.pattern().rows(), "one bias per output");
        let (gathered, single) = (Buffer::default(), Box::default());
        Self { weight, bias: Parameter::new(bias), gathered, dense: None, single, bf16: None }
    }

    /// From now on computes with dense products on α written out, which takes two arrays of the dense weight's size. What is
    /// trained stays the same but for rounding. Returns false, and changes nothing, where the dense weight is over 256 MiB.
    pub fn use_dense_products(&mut self) -> bool {
        let fits = self.weight.pattern().total() <= LARGEST;
        if fits {
            self.dense.get_or_insert_default();
        }
        fits
    }

    /// Lets a layer whose weight is being pruned compute with dense products as long as at least [`DENSE_ABOVE`] of it is active,
    /// unless that would take more than 256 MiB an array. This follows from |A| alone; to be called whenever |A| has changed.
    pub fn settle_products(&mut self) {
        if self.weight.topology() != Topology::Pruning {
            return;
        }
        let wanted = prunes_densely(self.weight.counts().active as u64, self.weight.pattern().total());
        if !(wanted && self.use_dense_products()) {
            self.dense = None;
        }
    }

    /// Whether its passes skip what is not in A.
    fn computes_sparsely(&self) -> bool {
        self.dense.is_none() && self.weight.topology() != Topology::Pruning
    }

    /// Makes what the input gradient needs, unless the products are dense, so that it is counted.
    pub(crate) fn index_inputs(&self) {
        if self.computes_sparsely() {
            self.weight.pattern().transposed();
        }
    }

    /// Bytes that dense products take, 0 where the products are sparse.
    pub fn dense_bytes(&self) -> u64 {
        self.dense.as_ref().map_or(0, |_| DenseProducts::bytes(self.weight.pattern().total()))
    }

    /// The same at its most: a layer that is being pruned begins with dense products.
    pub fn most_dense_bytes(&self) -> u64 {
        let total = self.weight.pattern().total();
        let pruned = self.weight.topology() == Topology::Pruning && prunes_densely(total, total);
        if pruned { DenseProducts::bytes(total) } else { self.dense_bytes() }
    }

    /// From now on rounds x and dy to bf16 for the weight gradient, whose sums stay f32. Dense products do not: where this layer
    /// has them, nothing changes.
    pub fn use_bf16_weight_gradient(&mut self, bf16: Bf16) {
        self.bf16 = Some(bf16);
    }

    #[cfg(test)]
    pub(crate) fn single(&self) -> &SinglePosition {
        &self.single
    }

    fn forward(&mut self, isa: Isa, x: &Matrix, activation: Activation, pre: &mut Matrix, y: &mut Matrix) {
        let Self { weight, bias, dense, single, .. } = self;
        if !weight.is_started() {
            let product = |y: &mut Matrix| tiled_products::forward(isa, weight, x, y);
            return activate_dense(isa, product, &bias.values, activation, pre, y);
        }
        if let Some(dense) = dense {
            let product = |y: &mut Matrix| dense.forward(isa, weight, x, y);
            return activate_dense(isa, product, &bias.values, activation, pre, y);
        }
        if x.positions() == 1 && single.forward(isa, weight, x, &bias.values, activation, pre, y) {
            return;
        }
        let (structure, values, bias) = (weight.pattern().active(), weight.active_values(), &bias.values);
        match activation {
            Activation::Identity => spmm(isa, structure, values, x, Epilogue::Bias(bias), y),
            Activation::Relu => spmm(isa, structure, values, x, Epilogue::BiasRelu(bias), y),
            Activation::Gelu => spmm(isa, structure, values, x, Epilogue::BiasGelu { bias, pre }, y),
        }
    }

    fn input_gradient(&mut self, isa: Isa, dy: &Matrix, then: Then<'_>, dx: &mut Matrix) {
        let dense = self.dense.as_ref();
        if dense.is_some() || !self.weight.is_started() {
            match dense {
                Some(dense) => dense.input_gradient(isa, &self.weight, dy, dx),
                None => tiled_products::input_gradient(isa, &self.weight, dy, dx),
            }
            return then.pass(isa, dx);
        }
        let (transposed, values) = (self.weight.pattern().transposed(), self.weight.active_values());
        spmm_transposed(isa, transposed, values, dy, then.epilogue(), &mut self.gathered, dx);
    }

    fn weight_gradient(&mut self, isa: Isa, x: &Matrix, dy: &Matrix, explore: bool) {
        let pattern = self.weight.pattern().clone();
        row_sums(isa, dy, &mut self.bias.gradient);
        let (active, rest) = self.weight.parameter_mut().gradient.split_at_mut(pattern.active().entries());
        if !explore {
            rest.fill(0.0);
        }
        if let Some(dense) = &mut self.dense {
            return dense.weight_gradient(isa, &pattern, x, dy, active, explore.then_some(rest));
        }
        sampled_gradient(isa, self.bf16, &pattern, [dy, x], active, explore.then_some(rest));
    }
}

impl DenseLinear {
    /// A layer of these values: the weight row-major `[outputs × inputs]`.
    ///
    /// # Panics
    /// If there is no bias, or the weight's length is not a multiple of their number.
    pub fn new(weight: Buffer, bias: Buffer) -> Self {
        assert!(weight.len().is_multiple_of(bias.len()), "one bias per output");
        let inputs = weight.len() / bias.len();
        Self { weight: Parameter::new(weight), bias: Parameter::new(bias), inputs }
    }

    pub(crate) fn forward(
        &self,
        isa: Isa,
        x: &Matrix,
        activation: Activation,
        pre: &mut Matrix,
        y: &mut Matrix,
    ) {
        let bias = &self.bias.values;
        let product = |y: &mut Matrix| dense_forward(isa, bias.len(), &self.weight.values, x, y);
        activate_dense(isa, product, bias, activation, pre, y);
    }

    pub(crate) fn input_gradient(&self, isa: Isa, dy: &Matrix, then: Then<'_>, dx: &mut Matrix) {
        dense_input_gradient(isa, self.inputs, &self.weight.values, dy, dx);
        then.pass(isa, dx);
    }

    pub(crate) fn weight_gradient(&mut self, isa: Isa, x: &Matrix, dy: &Matrix) {
        row_sums(isa, dy, &mut self.bias.gradient);
        dense_weight_gradient(isa, dy, x, &mut self.weight.gradient);
    }
}

/// What becomes of an input gradient once it is complete.
#[derive(Clone, Copy)]
pub(crate) enum Then<'a> {
    Nothing,
    /// It goes back through the activation that made x.
    Through(Applied<'a>),
    /// Another gradient with respect to x is added.
    Add(&'a Matrix),
}

impl<'a> Then<'a> {
    /// In the last store of the product.
    fn epilogue(self) -> Epilogue<'a> {
        match self {
            Self::Nothing => Epilogue::None,
            Self::Through(made_x) => made_x.epilogue(),
            Self::Add(others) => Epilogue::Add(others),
        }
    }

    /// In a pass over it.
    fn pass(self, isa: Isa, dx: &mut Matrix) {
        match self {
            Self::Nothing => {}
            Self::Through(made_x) => made_x.backward(isa, dx),
            Self::Add(others) => add(isa, others, dx),
        }
    }
}

/// The weight gradient from `[dy, x]`, of A and where asked for of B∖A; with inputs rounded where there is proof that the machine
/// can.
pub(crate) fn sampled_gradient(
    isa: Isa,
    bf16: Option<Bf16>,
    pattern: &Pattern,
    [dy, x]: [&Matrix; 2],
    active: &mut [f32],
    explore: Option<&mut [f32]>,
) {
    let structures = [pattern.active(), pattern.explore()];
    match (explore, bf16) {
        (Some(rest), Some(bf16)) => sddmm_bf16_pair(bf16, structures, dy, x, [active, rest]),
        (Some(rest), None) => sddmm_pair(isa, structures, dy, x, [active, rest]),
        (None, Some(bf16)) => sddmm_bf16(bf16, structures[0], dy, x, active),
        (None, None) => sddmm(isa, structures[0], dy, x, active),
    }
}

/// `y = activation(product + bias)`, where `product` overwrites a matrix; for GELU `pre` receives the sum.
fn activate_dense(
    isa: Isa,
    product: impl FnOnce(&mut Matrix),
    bias: &[f32],
    activation: Activation,
    pre: &mut Matrix,
    y: &mut Matrix,
) {
    let sum = if activation == Activation::Gelu { &mut *pre } else { &mut *y };
    product(sum);
    add_bias(isa, bias, sum);
    match activation {
        Activation::Identity => {}
        Activation::Relu => relu(isa, y),
        Activation::Gelu => {
            y.ensure(pre.features(), pre.positions());
            gelu(isa, pre, y);
        }
    }
}
