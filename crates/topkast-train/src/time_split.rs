//! Where the time of a whole run went.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::report::Phases;

/// Seconds by what they were spent on, since the run started or was last resumed: the parts of [`Phases`] over all steps, and
/// evaluation.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct PhaseSeconds {
    pub load: f64,
    pub refresh: f64,
    pub forward: f64,
    pub loss: f64,
    pub input_gradient: f64,
    pub weight_gradient: f64,
    pub update: f64,
    pub evaluation: f64,
}

impl PhaseSeconds {
    /// Adds those of a step.
    pub(crate) fn add(&mut self, step: &Phases) {
        for (sum, time) in [
            (&mut self.load, step.load),
            (&mut self.refresh, step.refresh),
            (&mut self.forward, step.forward),
            (&mut self.loss, step.loss),
            (&mut self.input_gradient, step.input_gradient),
            (&mut self.weight_gradient, step.weight_gradient),
            (&mut self.update, step.update),
        ] {
            *sum += time.as_secs_f64();
        }
    }

    /// All steps together.
    pub fn steps(&self) -> f64 {
        let Self { load, refresh, forward, loss, input_gradient, weight_gradient, update, evaluation: _ } =
            self;
        load + refresh + forward + loss + input_gradient + weight_gradient + update
    }

    /// Adds that of an evaluation.
    pub(crate) fn add_evaluation(&mut self, time: Duration) {
        self.evaluation += time.as_secs_f64();
    }
}
