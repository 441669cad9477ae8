//! The embedding of tokens, which is also the weight of the output layer (Press and Wolf 2017).

use topkast::{Seed, kaiming_normal};
use topkast_kernels::{Buffer, Isa, Matrix, embed, embed_gradient};

use crate::linear::{DenseLinear, Then};
use crate::loss::{column, softmax_loss};
use crate::pass::Pass;
use crate::{Activation, Loss, ParameterMut};

/// E: `x = √width · E[token]` and `logits = E·h + b`.
#[derive(Debug)]
pub(super) struct TiedEmbedding {
    /// E, `[vocabulary × width]`, and b.
    layer: DenseLinear,
    width: usize,
    /// Of the last forward pass.
    logits: Matrix,
    d_logits: Matrix,
}

impl TiedEmbedding {
    /// E is normal with variance 1/width, so that x has variance 1.
    pub(super) fn new(vocabulary: usize, width: usize, seed: Seed) -> Self {
        let count = vocabulary.checked_mul(width).expect("the embedding's size overflows");
        let mut table = Buffer::zeros(count);
        let draws = kaiming_normal(seed.named("embedding"), count, 2.0 * width as f64);
        table.iter_mut().zip(draws).for_each(|(slot, draw)| *slot = draw);
        let layer = DenseLinear::new(table, Buffer::zeros(vocabulary));
        Self { layer, width, logits: Matrix::default(), d_logits: Matrix::default() }
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

    /// Computes the logits.
    pub(super) fn forward(&mut self, isa: Isa, h: &Matrix) {
        self.layer.forward(isa, h, Activation::Identity, &mut Matrix::default(), &mut self.logits);
    }

    /// The loss of the logits; its gradient with respect to them is kept if it is wanted.
    pub(super) fn loss(&mut self, isa: Isa, targets: &[u32], smoothing: f32, with_gradient: bool) -> Loss {
        softmax_loss(isa, &self.logits, targets, smoothing, with_gradient, &mut self.d_logits)
    }

    /// The logits of one position.
    pub(super) fn logits_at(&self, position: usize, logits: &mut Vec<f32>) {
        column(&self.logits, position, logits);
    }

    /// The gradients of the logits: of the parameters, and with respect to h into `dh`.
    pub(super) fn logits_backward(&mut self, pass: &mut Pass, h: &Matrix, dh: &mut Matrix) {
        let Self { layer, d_logits, .. } = self;
        pass.parameters(|work| layer.weight_gradient(work.isa, h, d_logits));
        pass.activations(|work| layer.input_gradient(work.isa, d_logits, Then::Nothing, dh));
    }

    /// The gradient of `embed`, added to what [`logits_backward`](Self::logits_backward) left.
    pub(super) fn embed_backward(&mut self, pass: &mut Pass, tokens: &[u32], dx: &Matrix) {
        let (width, scale, gradient) = (self.width, self.scale(), &mut self.layer.weight.gradient);
        pass.parameters(|work| embed_gradient(work.isa, width, tokens, scale, dx, gradient));
    }

    pub(super) fn visit<'a>(&'a mut self, visit: &mut dyn FnMut(&'a str, ParameterMut<'a>)) {
        let shape = [self.vocabulary(), self.width];
        let DenseLinear { weight, bias, .. } = &mut self.layer;
        visit("embedding.weight", ParameterMut::Weight { parameter: weight, shape });
        visit("output.bias", ParameterMut::Bias(bias));
    }
}
