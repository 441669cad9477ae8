//! Trained networks, for scoring and prediction.

use std::path::Path;

use topkast_kernels::{Isa, Matrix};
use topkast_nn::{Mlp, Mode};

use crate::TrainError;
use crate::checkpoint::{Checkpoint, State};
use crate::config::Config;
use crate::data::{self, Dataset};
use crate::score::{Score, evaluate};
use crate::trainer::prepare;

/// A trained network from a checkpoint.
pub struct Trained {
    /// The network.
    pub network: Mlp,
    /// What else the checkpoint held.
    pub state: State,
    /// The run's config.
    pub config: Config,
    isa: Isa,
}

/// Reads the network in the checkpoint at `path`.
///
/// # Errors
/// If the checkpoint cannot be read or is damaged.
pub fn load_trained(path: &Path) -> Result<Trained, TrainError> {
    let checkpoint = Checkpoint::read(path)?;
    let (height, width) = checkpoint.state.input;
    let inputs = height.checked_mul(width).filter(|&inputs| (1..=1 << 30).contains(&inputs));
    let inputs = inputs.ok_or_else(|| TrainError::checkpoint(path, "its input size is impossible"))?;
    if !(1..=1 << 30).contains(&checkpoint.state.classes) {
        return Err(TrainError::checkpoint(path, "its number of classes is impossible"));
    }
    checkpoint.check_length(inputs, checkpoint.state.classes)?;
    let mut network = checkpoint.config.network(inputs, checkpoint.state.classes)?;
    prepare(&checkpoint.config, &mut network);
    checkpoint.restore(&mut network)?;
    Ok(Trained { network, state: checkpoint.state, config: checkpoint.config, isa: Isa::current()? })
}

impl Trained {
    /// Scores the network, with A only.
    ///
    /// # Errors
    /// If the images are not of the network's size.
    pub fn score(&mut self, dataset: &Dataset) -> Result<Score, TrainError> {
        let (expected, found) = (self.state.input, dataset.shape());
        if expected != found {
            let mend = "give data like that the network was trained on";
            return Err(data::DataError::Shape { expected, found, mend }.into());
        }
        let batch = self.config.train.batch;
        let (mut x, mut labels) = (Matrix::default(), Vec::new());
        Ok(evaluate(&mut self.network, self.isa, dataset, &self.state.normalizer, batch, &mut x, &mut labels))
    }

    /// The probability of each class for one image of the network's size, given as its pixels row by row.
    ///
    /// # Panics
    /// If there are not as many pixels as the network has inputs.
    pub fn probabilities(&mut self, pixels: &[u8]) -> Vec<f64> {
        assert_eq!(pixels.len(), self.network.inputs(), "one pixel per input");
        let table = self.state.normalizer.table();
        let values: Vec<f32> = pixels.iter().map(|&pixel| table[pixel as usize]).collect();
        let x = Matrix::from_rows(values.len(), 1, &values);
        let logits = self.network.forward(self.isa, &x, Mode::Evaluate);
        let logits: Vec<f64> = (0..logits.features()).map(|class| f64::from(logits.get(class, 0))).collect();
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let exponentials: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
        let sum: f64 = exponentials.iter().sum();
        exponentials.iter().map(|exponential| exponential / sum).collect()
    }
}
