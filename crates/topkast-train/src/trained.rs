//! Trained networks, for scoring, prediction and generation.

mod classifier;
mod language_model;

use std::path::Path;

use topkast_kernels::Isa;
use topkast_nn::Network;

use crate::checkpoint::{Checkpoint, State};
use crate::config::{Config, DataKind};
use crate::score::Score;
use crate::task::{DataState, Evaluation, ImageBatch, StreamSettings};
use crate::trainer::prepare;
use crate::{TrainError, data, export, text};

pub use classifier::Classifier;
pub use language_model::{Generation, LanguageModel};

/// A trained network from a checkpoint.
pub struct Trained {
    /// The network.
    pub network: Network,
    /// What else the checkpoint held.
    pub state: State,
    /// The run's config; of an export, of which only the model and the kind of data are the run's.
    pub config: Config,
    /// Whether it was read from an export, which holds nothing of training.
    pub exported: bool,
    pub(crate) isa: Isa,
}

/// Reads the network in the checkpoint or sparse export at `path`.
///
/// # Errors
/// If the file cannot be read or is damaged.
pub fn load_trained(path: &Path) -> Result<Trained, TrainError> {
    if let Some(trained) = export::read(path)? {
        return Ok(trained);
    }
    let checkpoint = Checkpoint::read(path)?;
    let (input, classes) =
        checkpoint.state.data.sizes().map_err(|problem| TrainError::checkpoint(path, problem))?;
    checkpoint.check_length(input, classes)?;
    let mut network = checkpoint.config.network(input, classes)?;
    prepare(&checkpoint.config, &mut network);
    checkpoint.restore(&mut network)?;
    Ok(Trained {
        network,
        state: checkpoint.state,
        config: checkpoint.config,
        exported: false,
        isa: Isa::current()?,
    })
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
        let Self { network, state, config, isa, .. } = self;
        match (&state.data, network) {
            (DataState::Images { normalizer, class_names, .. }, network) => {
                let shape = state.data.image_shape().expect("they are images");
                let images = ImageBatch::new(normalizer.clone(), shape, config.layout());
                let batch_size = config.train.batch;
                let known = config.data.kind.images().and_then(data::class_names).unwrap_or_default();
                let class_names =
                    known.iter().copied().chain(class_names.iter().map(String::as_str)).collect();
                let of_folder = config.data.kind == DataKind::ImageFolder;
                Purpose::Classifier(Classifier {
                    network,
                    images,
                    batch_size,
                    class_names,
                    of_folder,
                    isa: *isa,
                })
            }
            (DataState::Text { vocabulary, .. }, Network::TransformerXl(network)) => {
                let model = config.model.transformer_xl().expect("the network is of this config");
                let evaluation = Evaluation::new(model, vocabulary);
                Purpose::LanguageModel(LanguageModel { network, vocabulary, evaluation, isa: *isa })
            }
            (DataState::Text { .. }, Network::Mlp(_) | Network::ResNet(_)) => {
                unreachable!("a checkpoint's data fits its config")
            }
        }
    }

    /// Scores the network, with A only, on the test part of the data of its kind in the folder `path`; with what is wrong with
    /// images left out, as they are broken.
    ///
    /// # Errors
    /// If the data cannot be read, or are not like those that it was trained on.
    pub fn score(&mut self, path: &Path) -> Result<(Score, Vec<String>), TrainError> {
        let kind = self.config.data.kind;
        let streams = StreamSettings::of(&self.config);
        match (self.purpose(), kind) {
            (Purpose::Classifier(mut network), DataKind::Images(kind)) => {
                Ok((network.score(&data::load(kind, path)?.test)?, Vec::new()))
            }
            (Purpose::Classifier(mut network), DataKind::ImageFolder) => {
                Ok((network.score_folder(path, &streams)?, streams.broken_images()))
            }
            (Purpose::LanguageModel(mut network), DataKind::Text(kind)) => {
                Ok((network.score(&text::read(kind, path)?)?, Vec::new()))
            }
            _ => unreachable!("a checkpoint's data fits its config"),
        }
    }
}
