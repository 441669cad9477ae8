//! Trained networks, for scoring, prediction and generation.

mod classifier;
mod language_model;

use std::path::Path;

use topkast_kernels::Isa;
use topkast_nn::Network;

use crate::checkpoint::{Checkpoint, State};
use crate::config::{Config, DataKind};
use crate::score::Score;
use crate::task::{DataState, Evaluation};
use crate::trainer::prepare;
use crate::{TrainError, data, text};

pub use classifier::Classifier;
pub use language_model::{Generation, LanguageModel};

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

/// A trained network by what it is for.
pub enum Purpose<'a> {
    /// Telling images apart.
    Classifier(Classifier<'a>),
    /// Going on with texts.
    LanguageModel(LanguageModel<'a>),
}

impl Trained {
    /// What it is for.
    pub fn purpose(&mut self) -> Purpose<'_> {
        let Self { network, state, config, isa } = self;
        match (&state.data, network) {
            (DataState::Images { normalizer, input, .. }, network) => {
                let batch = config.train.batch;
                Purpose::Classifier(Classifier { network, normalizer, image_size: *input, batch, isa: *isa })
            }
            (DataState::Text { vocabulary, .. }, Network::TransformerXl(network)) => {
                let model = config.model.transformer_xl().expect("the network is of this config");
                let evaluation = Evaluation::new(model, vocabulary);
                Purpose::LanguageModel(LanguageModel { network, vocabulary, evaluation, isa: *isa })
            }
            (DataState::Text { .. }, Network::Mlp(_)) => unreachable!("a checkpoint's data fits its config"),
        }
    }

    /// Scores the network, with A only, on the test part of the data of its kind in the folder `path`.
    ///
    /// # Errors
    /// If the data cannot be read, or are not like those that it was trained on.
    pub fn score(&mut self, path: &Path) -> Result<Score, TrainError> {
        let kind = self.config.data.kind;
        match (self.purpose(), kind) {
            (Purpose::Classifier(mut network), DataKind::Images(kind)) => {
                network.score(&data::load(kind, path)?.test)
            }
            (Purpose::LanguageModel(mut network), DataKind::Text(kind)) => {
                network.score(&text::read(kind, path)?)
            }
            _ => unreachable!("a checkpoint's data fits its config"),
        }
    }
}
