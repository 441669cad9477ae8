//! What a layer applies to its outputs.

use topkast_kernels::{Isa, Matrix, gelu_gradient, relu_gradient};

/// A layer's nonlinearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// None.
    Identity,
    /// max(x, 0).
    Relu,
    /// x·Φ(x), with the exact normal distribution function (Hendrycks and Gimpel 2016).
    Gelu,
}

impl Activation {
    /// Turns the gradient with respect to the output `y` into the one with respect to `pre`, the input, in place.
    /// ReLU looks at `y` only, GELU at `pre` only.
    pub(crate) fn backward(self, isa: Isa, pre: &Matrix, y: &Matrix, dy: &mut Matrix) {
        match self {
            Self::Identity => {}
            Self::Relu => relu_gradient(isa, y, dy),
            Self::Gelu => gelu_gradient(isa, pre, dy),
        }
    }
}
