//! Trained networks, for scoring and prediction.

use std::path::Path;

use topkast_kernels::{Isa, Matrix};
use topkast_nn::{Input, Mode, Network};

use crate::TrainError;
use crate::checkpoint::{Checkpoint, State};
use crate::config::Config;
use crate::data::{self, Dataset};
use crate::score::{Score, evaluate};
use crate::task::DataState;
use crate::trainer::prepare;

/// A trained network from a checkpoint.
pub struct Trained {
    /// The network.
    pub network: Network,
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
    let (inputs, classes) =
        checkpoint.state.data.sizes().map_err(|problem| TrainError::checkpoint(path, problem))?;
    checkpoint.check_length(inputs, classes)?;
    let mut network = checkpoint.config.network(inputs, classes)?;
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
        let DataState::Images { input: expected, normalizer, .. } = &self.state.data;
        let (expected, found) = (*expected, dataset.shape());
        if expected != found {
            let mend = "give data like that the network was trained on";
            return Err(data::DataError::Shape { expected, found, mend }.into());
        }
        let batch = self.config.train.batch;
        let (mut x, mut labels) = (Matrix::default(), Vec::new());
        Ok(evaluate(&mut self.network, self.isa, dataset, normalizer, batch, &mut x, &mut labels))
    }

    /// Height and width of the images that it was trained on.
    pub fn image_size(&self) -> (usize, usize) {
        let DataState::Images { input, .. } = self.state.data;
        input
    }

    /// The probability of each class for one image of the network's size, given as its pixels row by row.
    ///
    /// # Panics
    /// If there are not as many pixels as the network has inputs.
    pub fn probabilities(&mut self, pixels: &[u8]) -> Vec<f64> {
        assert_eq!(pixels.len(), self.network.inputs(), "one pixel per input");
        let DataState::Images { normalizer, .. } = &self.state.data;
        let table = normalizer.table();
        let values: Vec<f32> = pixels.iter().map(|&pixel| table[pixel as usize]).collect();
        let x = Matrix::from_rows(values.len(), 1, &values);
        let logits = self.network.forward(self.isa, Input::Features(&x), Mode::Evaluate);
        let logits: Vec<f64> = (0..logits.features()).map(|class| f64::from(logits.get(class, 0))).collect();
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let exponentials: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
        let sum: f64 = exponentials.iter().sum();
        exponentials.iter().map(|exponential| exponential / sum).collect()
    }
}
