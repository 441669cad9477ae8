//! What a network is trained on: serving it step by step, and telling how well a network does on it.

mod clusters;
mod images;
mod text;

use std::path::Path;

use serde::{Deserialize, Serialize};
use topkast_kernels::Isa;
use topkast_nn::{Input, Network};

pub(crate) use clusters::ClusterShares;
pub(crate) use images::Images;
pub(crate) use text::{Evaluation, Text};

use crate::TrainError;
use crate::config::{Config, DataKind};
use crate::data::{self, Normalizer};
use crate::score::Score;
use crate::text::{self as texts, Vocabulary};

/// Training, validation and test data, with room for a batch.
pub(crate) enum Task {
    /// Images by class.
    Images(Images),
    /// A text.
    Text(Text),
}

/// What a trained network has to know of the data it was trained on.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DataState {
    /// Images by class.
    Images {
        /// How inputs are normalised.
        normalizer: Box<Normalizer>,
        /// Height and width of the inputs.
        input: (usize, usize),
        /// Number of classes.
        classes: usize,
    },
    /// A text.
    Text {
        /// What the tokens mean.
        vocabulary: Vocabulary,
        /// How many there are to train on.
        tokens: usize,
        /// Of all tokens.
        checksum: u32,
    },
}

impl DataState {
    /// Whether it is of such data.
    pub(crate) fn fits(&self, kind: DataKind) -> bool {
        match (self, kind) {
            (Self::Images { .. }, DataKind::Images(_)) => true,
            (Self::Text { vocabulary, .. }, DataKind::Text(kind)) => match vocabulary {
                Vocabulary::Bytes => kind == texts::Kind::Bytes,
                Vocabulary::Words(_) => kind == texts::Kind::Words,
            },
            _ => false,
        }
    }

    /// Input features of a position and outputs of a network for such data.
    ///
    /// # Errors
    /// If no data can be of such a size.
    pub(crate) fn sizes(&self) -> Result<(usize, usize), &'static str> {
        let possible = |size: &usize| (1..=1 << 30).contains(size);
        match *self {
            Self::Images { input: (height, width), classes, .. } => {
                let inputs =
                    height.checked_mul(width).filter(possible).ok_or("its input size is impossible")?;
                Ok((inputs, Some(classes).filter(possible).ok_or("its number of classes is impossible")?))
            }
            Self::Text { ref vocabulary, .. } => match vocabulary.len() {
                0 => Err("its vocabulary is empty"),
                tokens => Ok((1, tokens)),
            },
        }
    }
}

impl Task {
    /// Reads the data that `config` names.
    ///
    /// # Errors
    /// If they cannot be read or do not suffice.
    pub(crate) fn read(config: &Config) -> Result<Self, TrainError> {
        let path = Path::new(&config.data.path);
        Ok(match config.data.kind {
            DataKind::Images(kind) => Self::Images(Images::new(data::load(kind, path)?, config)?),
            DataKind::Text(kind) => Self::Text(Text::new(texts::read(kind, path)?, config)?),
        })
    }

    /// Input features of a position and outputs of the network.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        match self {
            Self::Images(task) => task.sizes(),
            Self::Text(task) => task.sizes(),
        }
    }

    /// What a checkpoint tells of the data.
    pub(crate) fn state(&self) -> DataState {
        match self {
            Self::Images(task) => task.state(),
            Self::Text(task) => task.state(),
        }
    }

    /// Batches in an epoch.
    pub(crate) fn batches(&self) -> u64 {
        match self {
            Self::Images(task) => task.batches(),
            Self::Text(task) => task.batches(),
        }
    }

    /// Positions of a batch at most.
    pub(crate) fn positions(&self) -> usize {
        match self {
            Self::Images(task) => task.positions(),
            Self::Text(task) => task.positions(),
        }
    }

    /// Gets batch `number` ready, counted from the start of training, and `network` for it.
    pub(crate) fn load(&mut self, number: u64, network: &mut Network) {
        match self {
            Self::Images(task) => task.load(number),
            Self::Text(task) => task.load(number, network),
        }
    }

    /// What the network is given for the batch loaded last.
    pub(crate) fn input(&self) -> Input<'_> {
        match self {
            Self::Images(task) => task.input(),
            Self::Text(task) => task.input(),
        }
    }

    /// What it should answer, one for each position.
    pub(crate) fn labels(&self) -> &[u32] {
        match self {
            Self::Images(task) => task.labels(),
            Self::Text(task) => task.labels(),
        }
    }

    /// For how many positions the layer of this name computes, as a fraction of all.
    pub(crate) fn share_of_positions(&self, layer: &str) -> f64 {
        match self {
            Self::Images(_) => 1.0,
            Self::Text(task) => task.share_of_positions(layer),
        }
    }

    /// Scores `network`, with A only, on the held-out data, if any.
    pub(crate) fn validate(&mut self, network: &mut Network, isa: Isa) -> Option<Score> {
        match self {
            Self::Images(task) => task.validate(network, isa),
            Self::Text(task) => Some(task.validate(network, isa)),
        }
    }

    /// Scores `network`, with A only, on the test data.
    pub(crate) fn test(&mut self, network: &mut Network, isa: Isa) -> Score {
        match self {
            Self::Images(task) => task.test(network, isa),
            Self::Text(task) => task.test(network, isa),
        }
    }
}
