//! Numbers that have stopped being finite: where, and what then.
//!
//! That there are some is known from what is computed anyway: the loss, what an update writes, and the norm of the gradients if they are
//! clipped. Where they come from is looked for only then.

use topkast::{Moments, Parameter, clip_scale};
use topkast_kernels::sum_of_squares;
use topkast_nn::{Gradients, ParameterMut};

use super::Trainer;
use crate::TrainError;

impl Trainer {
    /// What to multiply the `wanted` gradients by, or which of them are not finite: where that has to be known before they are used.
    pub(super) fn gradient_scale(&mut self, wanted: Gradients) -> Result<f32, String> {
        let clip_norm = self.config.optimizer.clip_norm as f32;
        let nobody_asks = clip_norm == 0.0 && self.config.train.skip_nonfinite == 0;
        if nobody_asks || wanted == Gradients::Activations {
            return Ok(1.0);
        }
        let (isa, mut squares) = (self.isa, 0.0);
        self.network.visit(&mut |_, parameter| {
            squares += parameter.trained().map_or(0.0, |trained| sum_of_squares(isa, &trained.gradient));
        });
        if squares.is_finite() { Ok(clip_scale(squares, clip_norm)) } else { Err(self.what_of_update()) }
    }

    /// Makes `what` of this step be nothing but told, unless too many steps in a row were left out.
    pub(super) fn leave_out(&mut self, what: String) -> Result<(), TrainError> {
        if self.left_out >= self.config.train.skip_nonfinite {
            return Err(self.diverged_in_step(what));
        }
        self.left_out += 1;
        self.why_left_out = what;
        self.task.forget(&mut self.network);
        self.restore_statistics();
        Ok(())
    }

    /// A forward pass changes what follows the batches without a gradient.
    pub(super) fn keep_statistics(&mut self) {
        if self.config.train.skip_nonfinite == 0 {
            return;
        }
        let Self { network, statistics, .. } = self;
        statistics.clear();
        network.visit(&mut |_, parameter| {
            if let ParameterMut::Statistic(values) = parameter {
                statistics.extend_from_slice(values);
            }
        });
    }

    fn restore_statistics(&mut self) {
        let mut kept = &self.statistics[..];
        self.network.visit(&mut |_, parameter| {
            if let ParameterMut::Statistic(values) = parameter {
                let (before, rest) = kept.split_at(values.len());
                values.copy_from_slice(before);
                kept = rest;
            }
        });
    }

    /// What was not finite in the last step that was left out.
    pub fn why_left_out(&self) -> &str {
        &self.why_left_out
    }

    /// What is not finite if the loss is not.
    pub(super) fn what_of_loss(&self) -> String {
        match self.network.first_not_finite() {
            Some(layer) => format!("the loss, from the output of {layer} on,"),
            None => "the loss".to_owned(),
        }
    }

    /// What is not finite if a gradient, or what was made of it, is not: the parameter nearest to the loss.
    pub(super) fn what_of_update(&mut self) -> String {
        let isa = self.isa;
        let finite = |numbers: &[f32]| sum_of_squares(isa, numbers).is_finite();
        let mut what = None;
        self.network.visit(&mut |name, parameter| {
            let Some(Parameter { values, gradient, moments: Moments { first, second, .. } }) =
                parameter.trained()
            else {
                return;
            };
            if !finite(gradient) {
                what = Some(format!("the gradient of {name}"));
            } else if what.is_none()
                && ![&*values, &*first, &*second].into_iter().all(|numbers| finite(numbers))
            {
                what = Some(name.to_owned());
            }
        });
        what.unwrap_or_else(|| "what an update wrote".to_owned())
    }

    /// After so many steps.
    pub(super) fn diverged(&self, what: String, step: u64) -> TrainError {
        TrainError::Diverged { what, step, kept: "nothing was saved since".to_owned() }
    }

    /// In the step that is being made.
    pub(super) fn diverged_in_step(&self, what: String) -> TrainError {
        self.diverged(what, self.step + 1)
    }
}
