//! The passes of linear layers whose weight `[outputs × (inputs·taps)]` slides over maps: `W ∗ x`. Their bias takes no part, as a norm with one
//! of its own follows.
//!
//! A window of one pixel makes them what they are otherwise: [`Convolution`] then reads x in place, and the input gradient has the
//! index that refreshes change in place.

use topkast_kernels::{
    Buffer, Convolution, Epilogue, GradientScratch, Isa, Matrix, Planes, dense_forward, dense_input_gradient,
    dense_weight_gradient, spmm_transposed,
};

use super::{Linear, SparseLinear, Then};
use crate::tiled_convolutions;

/// What the convolutions of a network work with in turn.
#[derive(Debug, Default)]
pub(crate) struct ConvolutionScratch {
    pub(crate) planes: Planes,
    packed: Buffer,
    gradient: GradientScratch,
}

impl Linear {
    /// `y = W ∗ x`.
    ///
    /// # Panics
    /// If the weight or `x` does not fit the convolution.
    pub(crate) fn convolve(
        &mut self,
        isa: Isa,
        convolution: &Convolution,
        x: &Matrix,
        scratch: &mut ConvolutionScratch,
        y: &mut Matrix,
    ) {
        match self {
            Self::Sparse(layer) => layer.convolve(isa, convolution, x, scratch, y),
            Self::Dense(layer) => forward(isa, convolution, &layer.weight.values, x, scratch, y),
        }
    }

    /// `dx = Wᵀ ∗ dy` for the W of the last forward pass, plus `others`, where x is the input of others, too.
    ///
    /// # Panics
    /// If the weight, `dy` or `others` does not fit the convolution.
    pub(crate) fn convolve_back(
        &mut self,
        isa: Isa,
        convolution: &Convolution,
        dy: &Matrix,
        others: Option<&Matrix>,
        scratch: &mut ConvolutionScratch,
        dx: &mut Matrix,
    ) {
        let then = others.map_or(Then::Nothing, Then::Add);
        match self {
            Self::Sparse(layer) => layer.convolve_back(isa, convolution, dy, then, scratch, dx),
            Self::Dense(layer) => {
                input_gradient(isa, convolution, &layer.weight.values, dy, scratch, dx);
                then.pass(isa, dx);
            }
        }
    }

    /// The gradient of the weight from `[x, dy]`; entries of B∖A get theirs only with `explore`.
    ///
    /// # Panics
    /// If the weight, `x` or `dy` does not fit the convolution.
    pub(crate) fn convolution_gradient(
        &mut self,
        isa: Isa,
        convolution: &Convolution,
        [x, dy]: [&Matrix; 2],
        scratch: &mut ConvolutionScratch,
        explore: bool,
    ) {
        convolution.lay_out(x, &mut scratch.planes);
        match self {
            Self::Sparse(layer) => layer.convolution_gradient(isa, convolution, [x, dy], scratch, explore),
            Self::Dense(layer) => {
                weight_gradient(isa, convolution, [x, dy], scratch, &mut layer.weight.gradient);
            }
        }
    }
}

impl SparseLinear {
    fn convolve(
        &mut self,
        isa: Isa,
        convolution: &Convolution,
        x: &Matrix,
        scratch: &mut ConvolutionScratch,
        y: &mut Matrix,
    ) {
        let Self { weight, dense, .. } = self;
        if !weight.is_started() {
            return tiled_convolutions::forward(isa, weight, convolution, x, scratch, y);
        }
        if let Some(dense) = dense {
            dense.scatter(weight);
            return forward(isa, convolution, &dense.alpha, x, scratch, y);
        }
        let (structure, values) = (weight.pattern().active(), weight.active_values());
        convolution.forward(isa, structure, values, x, &mut scratch.planes, Epilogue::None, y);
    }

    fn convolve_back(
        &mut self,
        isa: Isa,
        convolution: &Convolution,
        dy: &Matrix,
        then: Then<'_>,
        scratch: &mut ConvolutionScratch,
        dx: &mut Matrix,
    ) {
        let Self { weight, dense, gathered, .. } = self;
        if !weight.is_started() {
            tiled_convolutions::input_gradient(isa, weight, convolution, dy, scratch, dx);
            return then.pass(isa, dx);
        }
        if let Some(dense) = dense {
            input_gradient(isa, convolution, &dense.alpha, dy, scratch, dx);
            return then.pass(isa, dx);
        }
        let (pattern, values) = (weight.pattern(), weight.active_values());
        if convolution.window().is_pixel() {
            return spmm_transposed(isa, pattern.transposed(), values, dy, then.epilogue(), gathered, dx);
        }
        let turned = pattern.turned(convolution);
        convolution.input_gradient(isa, turned, values, dy, then.epilogue(), &mut scratch.gradient, dx);
    }

    fn convolution_gradient(
        &mut self,
        isa: Isa,
        convolution: &Convolution,
        [x, dy]: [&Matrix; 2],
        scratch: &mut ConvolutionScratch,
        explore: bool,
    ) {
        let pattern = self.weight.pattern().clone();
        let (active, rest) = self.weight.parameter_mut().gradient.split_at_mut(pattern.active().entries());
        if !explore {
            rest.fill(0.0);
        }
        if let Some(dense) = &mut self.dense {
            dense.make_room(&pattern);
            weight_gradient(isa, convolution, [x, dy], scratch, &mut dense.gradient);
            return dense.gather(&pattern, active, explore.then_some(rest));
        }
        let planes = &scratch.planes;
        if explore {
            let structures = [pattern.active(), pattern.explore()];
            convolution.weight_gradient_pair(isa, structures, dy, x, planes, [active, rest]);
        } else {
            convolution.weight_gradient(isa, pattern.active(), dy, x, planes, active);
        }
    }

    /// Makes what the input gradient needs, unless the products are dense, so that it is counted.
    pub(crate) fn index_convolution(&self, convolution: &Convolution) {
        if convolution.window().is_pixel() {
            self.index_inputs();
        } else if self.computes_sparsely() {
            self.weight.pattern().turned(convolution);
        }
    }
}

/// `y = w ∗ x` with all weights.
pub(crate) fn forward(
    isa: Isa,
    convolution: &Convolution,
    w: &[f32],
    x: &Matrix,
    scratch: &mut ConvolutionScratch,
    y: &mut Matrix,
) {
    if convolution.window().is_pixel() {
        return dense_forward(isa, convolution.channels()[0], w, x, y);
    }
    convolution.dense_forward(isa, w, x, &mut scratch.planes, &mut scratch.packed, y);
}

/// `dx = wᵀ ∗ dy` with all weights.
pub(crate) fn input_gradient(
    isa: Isa,
    convolution: &Convolution,
    w: &[f32],
    dy: &Matrix,
    scratch: &mut ConvolutionScratch,
    dx: &mut Matrix,
) {
    if convolution.window().is_pixel() {
        return dense_input_gradient(isa, convolution.channels()[1], w, dy, dx);
    }
    convolution.dense_input_gradient(isa, w, dy, &mut scratch.gradient, dx);
}

fn weight_gradient(
    isa: Isa,
    convolution: &Convolution,
    [x, dy]: [&Matrix; 2],
    scratch: &ConvolutionScratch,
    dw: &mut [f32],
) {
    if convolution.window().is_pixel() {
        return dense_weight_gradient(isa, dy, x, dw);
    }
    convolution.dense_weight_gradient(isa, dy, x, &scratch.planes, dw);
}
