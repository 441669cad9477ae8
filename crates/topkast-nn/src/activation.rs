//! What a layer applies to its outputs.

use topkast_kernels::{Epilogue, Isa, Matrix, gelu_gradient, relu_gradient};

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

/// An activation as a layer applied it in its last forward pass: what a gradient needs to pass back through it.
#[derive(Clone, Copy, Debug)]
pub struct Applied<'a> {
    /// Which.
    pub activation: Activation,
    /// Its input; of any shape where it is not GELU.
    pub pre: &'a Matrix,
    /// Its output.
    pub output: &'a Matrix,
}

impl<'a> Applied<'a> {
    /// Turns the gradient with respect to the output into the one with respect to the input, in place. ReLU looks at the
    /// output only, GELU at the input only.
    pub(crate) fn backward(self, isa: Isa, dy: &mut Matrix) {
        match self.activation {
            Activation::Identity => {}
            Activation::Relu => relu_gradient(isa, self.output, dy),
            Activation::Gelu => gelu_gradient(isa, self.pre, dy),
        }
    }

    /// The same in the last store of a product.
    pub(crate) fn epilogue(self) -> Epilogue<'a> {
        match self.activation {
            Activation::Identity => Epilogue::None,
            Activation::Relu => Epilogue::ReluGradient(self.output),
            Activation::Gelu => Epilogue::GeluGradient(self.pre),
        }
    }
}
