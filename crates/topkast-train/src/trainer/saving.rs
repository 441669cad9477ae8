//! What a trainer leaves in checkpoints.

use std::path::Path;

use topkast::{Moments, Parameter};
use topkast_kernels::sum_of_squares;

use super::Trainer;
use crate::TrainError;
use crate::checkpoint::{self, Best, State};
use crate::score::Score;

impl Trainer {
    /// Writes a checkpoint, unless a value has stopped being finite: the former checkpoint is then the last good one.
    ///
    /// # Errors
    /// If a parameter is not finite or the file cannot be written.
    pub fn save(&mut self, path: &Path, seconds: f64) -> Result<(), TrainError> {
        let state = self.state(seconds)?;
        checkpoint::save(path, &mut self.network, self.masks.layers(), &state)
    }

    /// As [`save`](Self::save), into memory, in place of what is there.
    pub(crate) fn save_into(&mut self, image: &mut Vec<u8>, seconds: f64) -> Result<(), TrainError> {
        let state = self.state(seconds)?;
        checkpoint::save_into(image, &mut self.network, self.masks.layers(), &state);
        Ok(())
    }

    /// Whether a checkpoint is as large as a dense weight, so that there should be no copy of it in memory.
    pub(crate) fn is_dense(&mut self) -> bool {
        checkpoint::is_dense(&mut self.network)
    }

    /// What a checkpoint says besides tensors, all of which are finite.
    fn state(&mut self, seconds: f64) -> Result<State, TrainError> {
        let isa = self.isa;
        let mut broken = None;
        self.network.visit(&mut |name, parameter| {
            // A sum of squares of f32 in f64 cannot overflow: it is finite exactly if every value is.
            let finite = |numbers: &[f32]| sum_of_squares(isa, numbers).is_finite();
            let mut all = finite(parameter.values());
            if let Some(Parameter { moments: Moments { first, second, .. }, .. }) = parameter.trained() {
                all &= finite(first) && finite(second);
            }
            if !all {
                broken.get_or_insert_with(|| name.to_owned());
            }
        });
        if let Some(name) = broken {
            return Err(self.diverged(name, self.step));
        }
        let mut state = State::new(&self.config, self.step, seconds, self.task.state(), &self.products);
        state.weights.clone_from(&self.weights);
        state.best = self.best;
        state.left_out = self.left_out;
        Ok(state)
    }

    /// Takes in that the network was scored as it is now.
    pub(crate) fn scored(&mut self, score: &Score) {
        let value = score.value();
        let better = |best: Best| if score.metric.rises() { value > best.value } else { value < best.value };
        if self.best.is_none_or(better) && value.is_finite() {
            self.best = Some(Best { step: self.step, value });
        }
    }

    /// The best score so far.
    pub(crate) fn best(&self) -> Option<Best> {
        self.best
    }
}
