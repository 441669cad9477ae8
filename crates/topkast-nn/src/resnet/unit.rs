//! A convolution with the norm after it.

use topkast::{DenseGradient, SparseWeight};
use topkast_kernels::{Convolution, Maps, Matrix};

use super::norm::Norm;
use super::shape::ConvolutionShape;
use crate::linear::ConvolutionScratch;
use crate::part_times::Work;
use crate::pass::Pass;
use crate::{Gradients, Linear, ParameterMut};

/// `output = norm(W ∗ x)`, plus a residual and through ReLU where asked for.
#[derive(Debug)]
pub(super) struct Unit {
    shape: ConvolutionShape,
    linear: Linear,
    weight_name: String,
    norm: Norm,
    /// On the maps of the last forward pass.
    convolution: Option<Convolution>,
    /// `W ∗ x` of the last forward pass.
    sum: Matrix,
    /// Of the last forward pass.
    pub(super) output: Matrix,
    /// With respect to `sum`, where the last backward pass was for gradients of activations.
    kept: Matrix,
}

impl Unit {
    /// Of a linear layer that is made already, with so much gain.
    ///
    /// # Panics
    /// If that is not of the convolution's shape.
    pub(super) fn new(shape: ConvolutionShape, linear: Linear, gain: f32) -> Self {
        assert_eq!(linear.shape(), shape.weight(), "the size of {}", shape.name);
        Self {
            norm: Norm::new(&shape.norm_name(), shape.channels[0], gain),
            weight_name: format!("{}.weight", shape.name),
            shape,
            linear,
            convolution: None,
            sum: Matrix::default(),
            output: Matrix::default(),
            kept: Matrix::default(),
        }
    }

    /// The layer's name if its output in the last forward pass is not finite throughout.
    pub(super) fn not_finite(&self) -> Option<&str> {
        (!self.output.is_finite()).then_some(&self.shape.name)
    }

    /// Computes the output for `x`, which holds such maps; tells what maps the output holds.
    ///
    /// # Panics
    /// If the window does not fit the maps, or `x` or the residual has another shape.
    pub(super) fn forward(
        &mut self,
        work: &mut Work,
        training: bool,
        (x, maps): (&Matrix, Maps),
        residual: Option<&Matrix>,
        relu: bool,
        scratch: &mut ConvolutionScratch,
    ) -> Maps {
        if self.convolution.as_ref().is_none_or(|convolution| convolution.input() != maps) {
            self.convolution = Some(self.shape.over(maps));
        }
        let Self { linear, norm, convolution, sum, output, .. } = self;
        let convolution = convolution.as_ref().expect("made above");
        work.linear(|isa| linear.convolve(isa, convolution, x, scratch, sum));
        norm.forward(work.isa, training, sum, residual, relu, output);
        convolution.output()
    }

    /// From `dy`, the gradient with respect to the output, those of the parameters that are wanted, and the one with respect to x, plus
    /// `others`, into `dx`, where that is given. Where there was a residual, `dy` becomes the gradient with respect to that. `d_sum` is scratch.
    pub(super) fn backward(
        &mut self,
        pass: &mut Pass,
        x: &Matrix,
        dy: &mut Matrix,
        dx: Option<(&mut Matrix, Option<&Matrix>)>,
        (scratch, d_sum): (&mut ConvolutionScratch, &mut Matrix),
    ) {
        let Self { linear, norm, convolution, sum, output, kept, .. } = self;
        let convolution = convolution.as_ref().expect("a forward pass comes first");
        pass.activations(|work| norm.backward(work.isa, sum, output, dy, d_sum));
        let explore = pass.wanted == Gradients::All;
        pass.parameters(|work| {
            work.linear(|isa| linear.convolution_gradient(isa, convolution, [x, d_sum], scratch, explore));
        });
        if let Some((dx, others)) = dx {
            pass.activations(|work| {
                work.linear(|isa| linear.convolve_back(isa, convolution, d_sum, others, scratch, dx));
            });
        }
        if pass.wanted == Gradients::Activations {
            std::mem::swap(kept, d_sum);
        }
    }

    /// Calls `visit` with the weight, if it is sparse, and its dense gradient, for the x of the last passes.
    pub(super) fn for_each_gradient(
        &mut self,
        x: &Matrix,
        scratch: &mut ConvolutionScratch,
        visit: &mut impl FnMut(&mut SparseWeight, &DenseGradient<'_>),
    ) {
        let Self { linear, convolution, kept, .. } = self;
        let convolution = convolution.as_ref().expect("a forward pass comes first");
        if let Some(weight) = linear.sparse_weight() {
            let gradient = if convolution.window().is_pixel() {
                DenseGradient::of(kept, x)
            } else {
                convolution.lay_out(x, &mut scratch.planes);
                DenseGradient::convolved(convolution, kept, x, &scratch.planes)
            };
            visit(weight, &gradient);
        }
    }

    /// Makes what the input gradient needs, where not yet made.
    pub(super) fn index_inputs(&mut self) {
        if let Linear::Sparse(layer) = &self.linear {
            match &self.convolution {
                Some(convolution) => layer.index_convolution(convolution),
                None => layer.index_convolution(&self.shape.over(self.shape.least_maps())),
            }
        }
    }

    pub(super) fn named(&mut self) -> (&str, &mut Linear) {
        (&self.shape.name, &mut self.linear)
    }

    pub(super) fn visit<'a>(&'a mut self, visit: &mut dyn FnMut(&'a str, ParameterMut<'a>)) {
        let [weight, _] = self.linear.parameters();
        visit(&self.weight_name, weight);
        self.norm.visit(visit);
    }
}
