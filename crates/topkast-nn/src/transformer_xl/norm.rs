//! Layer normalisation of a residual sum.

use topkast_kernels::{Isa, Matrix, layer_norm, layer_norm_gradient};

use super::dropout::Place;
use crate::ParameterMut;
use crate::named::NamedVector;

/// `output = gain · normalised(x + dropout(branch)) + bias`, position by position (Ba, Kiros, Hinton 2016).
#[derive(Debug)]
pub(super) struct Norm {
    gain: NamedVector,
    bias: NamedVector,
    normalized: Matrix,
    scale: Vec<f32>,
    /// Of the last forward pass.
    pub(super) output: Matrix,
}

impl Norm {
    pub(super) fn new(name: &str, width: usize) -> Self {
        Self {
            gain: NamedVector::filled(format!("{name}.gain"), width, 1.0),
            bias: NamedVector::filled(format!("{name}.bias"), width, 0.0),
            normalized: Matrix::default(),
            scale: Vec::new(),
            output: Matrix::default(),
        }
    }

    pub(super) fn forward(&mut self, isa: Isa, x: &Matrix, branch: &Matrix, dropout: Place) {
        let Self { gain, bias, normalized, scale, output } = self;
        let (gain, bias) = (&gain.parameter.values, &bias.parameter.values);
        layer_norm(isa, x, branch, dropout, gain, bias, normalized, scale, output);
    }

    /// From `dy` the gradients of gain and bias, the one with respect to x into `dx`, and to the branch into `d_branch`.
    pub(super) fn backward(
        &mut self,
        isa: Isa,
        dy: &Matrix,
        dropout: Place,
        dx: &mut Matrix,
        d_branch: &mut Matrix,
    ) {
        let Self { gain, bias, normalized, scale, .. } = self;
        let (gain, d_bias) = (&mut gain.parameter, &mut bias.parameter.gradient);
        let (gain, d_gain) = (&gain.values, &mut gain.gradient);
        layer_norm_gradient(isa, dy, normalized, scale, gain, dropout, dx, d_branch, d_gain, d_bias);
    }

    pub(super) fn visit<'a>(&'a mut self, visit: &mut dyn FnMut(&'a str, ParameterMut<'a>)) {
        self.gain.visit(visit);
        self.bias.visit(visit);
    }
}
