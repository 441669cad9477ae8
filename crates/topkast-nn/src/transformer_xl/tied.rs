//! The embedding of tokens, which is also the weight of the output layer (Press and Wolf 2017).

use topkast::{Seed, kaiming_normal};
use topkast_kernels::{Buffer, Isa, Matrix, embed, embed_gradient};

use super::pass::Pass;
use crate::linear::{DenseLinear, Then};
use crate::{Activation, ParameterMut};

/// E: `x = √width · E[token]` and `logits = E·h + b`.
#[derive(Debug)]
pub(super) struct TiedEmbedding {
    /// E, `[vocabulary × width]`, and b.
    layer: DenseLinear,
    width: usize,
}

impl TiedEmbedding {
    /// E is normal with variance 1/width, so that x has variance 1.
    pub(super) fn new(vocabulary: usize, width: usize, seed: Seed) -> Self {
        let count = vocabulary.checked_mul(width).expect("the embedding's size overflows");
        let mut table = Buffer::zeros(count);
        let draws = kaiming_normal(seed.named("embedding"), count, 2.0 * width as f64);
        table.iter_mut().zip(draws).for_each(|(slot, draw)| *slot = draw);
        Self { layer: DenseLinear::new(table, Buffer::zeros(vocabulary)), width }
    }

    pub(super) fn vocabulary(&self) -> usize {
        self.layer.bias.values.len()
    }

    fn scale(&self) -> f32 {
        (self.width as f32).sqrt()
    }

    pub(super) fn embed(&self, isa: Isa, tokens: &[u32], x: &mut Matrix) {
        embed(isa, &self.layer.weight.values, self.width, tokens, self.scale(), x);
    }

    pub(super) fn logits(&self, isa: Isa, h: &Matrix, logits: &mut Matrix) {
        self.layer.forward(isa, h, Activation::Identity, &mut Matrix::default(), logits);
    }

    /// The gradients of `logits`: of the parameters, and with respect to h into `dh`.
    pub(super) fn logits_backward(&mut self, pass: &mut Pass, h: &Matrix, dy: &Matrix, dh: &mut Matrix) {
        pass.parameters(|work| self.layer.weight_gradient(work.isa, h, dy));
        pass.activations(|work| self.layer.input_gradient(work.isa, dy, Then::Nothing, dh));
    }

    /// The gradient of `embed`, added to what [`logits_backward`](Self::logits_backward) left.
    pub(super) fn embed_backward(&mut self, pass: &mut Pass, tokens: &[u32], dx: &Matrix) {
        let (width, scale, gradient) = (self.width, self.scale(), &mut self.layer.weight.gradient);
        pass.parameters(|work| embed_gradient(work.isa, width, tokens, scale, dx, gradient));
    }

    /// E, and b.
    pub(super) fn parameters(&mut self) -> [ParameterMut<'_>; 2] {
        let shape = [self.vocabulary(), self.width];
        let DenseLinear { weight, bias, .. } = &mut self.layer;
        [ParameterMut::Weight { parameter: weight, shape }, ParameterMut::Bias(bias)]
    }
}
