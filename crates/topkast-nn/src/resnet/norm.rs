//! Batch normalization with what follows it.

use topkast::Parameter;
use topkast_kernels::{Buffer, Isa, Matrix, Rectified, Statistics, batch_norm, batch_norm_gradient};

use crate::ParameterMut;
use crate::named::NamedVector;

/// Added to variances (PyTorch's default).
const EPSILON: f32 = 1e-5;
/// What a batch's statistics count in the running ones (PyTorch's default).
const MOMENTUM: f32 = 0.1;

/// Normalizes each channel by the batch's statistics in training, and by running ones in evaluation.
#[derive(Debug)]
pub(super) struct Norm {
    gain: NamedVector,
    bias: NamedVector,
    running_mean: (String, Buffer),
    running_variance: (String, Buffer),
    /// Of the last forward pass in training.
    mean: Vec<f32>,
    variance: Vec<f32>,
    /// How that ended: with a residual, with ReLU.
    ended: [bool; 2],
}

impl Norm {
    /// Of so many channels, as `name`.
    pub(super) fn new(name: &str, channels: usize, gain: f32) -> Self {
        let vector = |part: &str, value| NamedVector::filled(format!("{name}.{part}"), channels, value);
        let running = |part: &str, value| {
            let mut values = Buffer::zeros(channels);
            values.fill(value);
            (format!("{name}.{part}"), values)
        };
        Self {
            gain: vector("weight", gain),
            bias: vector("bias", 0.0),
            running_mean: running("running_mean", 0.0),
            running_variance: running("running_var", 1.0),
            mean: vec![0.0; channels],
            variance: vec![0.0; channels],
            ended: [false; 2],
        }
    }

    /// `y = normalized x · gain + bias + residual`, and ReLU where asked for. In training the running statistics move on.
    pub(super) fn forward(
        &mut self,
        isa: Isa,
        training: bool,
        x: &Matrix,
        residual: Option<&Matrix>,
        relu: bool,
        y: &mut Matrix,
    ) {
        self.ended = [residual.is_some(), relu];
        let Self { gain, bias, running_mean, running_variance, mean, variance, .. } = self;
        let (gain, bias) = (&gain.parameter.values, &bias.parameter.values);
        let statistics = match training {
            true => Statistics::Batch { mean, variance },
            false => Statistics::Given { mean: &running_mean.1, variance: &running_variance.1 },
        };
        batch_norm(isa, x, statistics, EPSILON, gain, bias, residual, relu, y);
        if training {
            let count = x.positions() as f32;
            // As PyTorch does, the running variance is that of what the batch is a sample of.
            let unbiased = if count > 1.0 { count / (count - 1.0) } else { 1.0 };
            follow(&mut running_mean.1, mean, 1.0);
            follow(&mut running_variance.1, variance, unbiased);
        }
    }

    /// From `dy` the gradients of gain and bias, and of x into `dx`, for the x and the `output` of the last forward pass in training. Where that
    /// ended with a residual, `dy` becomes the gradient with respect to it.
    pub(super) fn backward(
        &mut self,
        isa: Isa,
        x: &Matrix,
        output: &Matrix,
        dy: &mut Matrix,
        dx: &mut Matrix,
    ) {
        let Parameter { values: gain, gradient: d_gain, .. } = &mut self.gain.parameter;
        let Parameter { values: bias, gradient: d_bias, .. } = &mut self.bias.parameter;
        let rectified = match self.ended {
            [_, false] => None,
            [false, true] => Some(Rectified::Norm(bias)),
            [true, true] => Some(Rectified::Sum(output)),
        };
        let statistics = [&self.mean[..], &self.variance[..]];
        batch_norm_gradient(isa, x, statistics, EPSILON, gain, rectified, dy, d_gain, d_bias, dx);
    }

    pub(super) fn visit<'a>(&'a mut self, visit: &mut dyn FnMut(&'a str, ParameterMut<'a>)) {
        self.gain.visit(visit);
        self.bias.visit(visit);
        for (name, values) in [&mut self.running_mean, &mut self.running_variance] {
            visit(name, ParameterMut::Statistic(values));
        }
    }
}

/// Moves running statistics towards `factor` times those of a batch.
fn follow(running: &mut [f32], batch: &[f32], factor: f32) {
    for (running, batch) in running.iter_mut().zip(batch) {
        *running += MOMENTUM * (factor * batch - *running);
    }
}
