//! What a network is trained on: serving it step by step, and telling how well a network does on it.

mod images;

use std::path::Path;

use serde::{Deserialize, Serialize};
use topkast_kernels::Isa;
use topkast_nn::{Input, Network};

pub(crate) use images::Images;

use crate::TrainError;
use crate::config::Config;
use crate::data::{self, Normalizer};
use crate::score::Score;

/// Training, validation and test data, with room for a batch.
pub(crate) enum Task {
    /// Images by class.
    Images(Images),
}

/// What a trained network has to know of the data it was trained on.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DataState {
    /// Images by class.
    Images {
        /// How inputs are normalised.
        normalizer: Normalizer,
        /// Height and width of the inputs.
        input: (usize, usize),
        /// Number of classes.
        classes: usize,
    },
}

impl DataState {
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
        }
    }
}

impl Task {
    /// Reads the data that `config` names.
    ///
    /// # Errors
    /// If they cannot be read or do not suffice.
    pub(crate) fn read(config: &Config) -> Result<Self, TrainError> {
        let split = data::load(config.data.kind, Path::new(&config.data.path))?;
        Ok(Self::Images(Images::new(split, config)?))
    }

    /// Input features of a position and outputs of the network.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        match self {
            Self::Images(task) => task.sizes(),
        }
    }

    /// What a checkpoint tells of the data.
    pub(crate) fn state(&self) -> DataState {
        match self {
            Self::Images(task) => task.state(),
        }
    }

    /// Batches in an epoch.
    pub(crate) fn batches(&self) -> u64 {
        match self {
            Self::Images(task) => task.batches(),
        }
    }

    /// Positions of a batch at most.
    pub(crate) fn positions(&self) -> usize {
        match self {
            Self::Images(task) => task.positions(),
        }
    }

    /// Gets batch `number` ready, counted from the start of training.
    pub(crate) fn load(&mut self, number: u64) {
        match self {
            Self::Images(task) => task.load(number),
        }
    }

    /// What the network is given for the batch loaded last.
    pub(crate) fn input(&self) -> Input<'_> {
        match self {
            Self::Images(task) => task.input(),
        }
    }

    /// What it should answer, one for each position.
    pub(crate) fn labels(&self) -> &[u32] {
        match self {
            Self::Images(task) => task.labels(),
        }
    }

    /// Scores `network`, with A only, on the held-out data, if any.
    pub(crate) fn validate(&mut self, network: &mut Network, isa: Isa) -> Option<Score> {
        match self {
            Self::Images(task) => task.validate(network, isa),
        }
    }

    /// Scores `network`, with A only, on the test data.
    pub(crate) fn test(&mut self, network: &mut Network, isa: Isa) -> Score {
        match self {
            Self::Images(task) => task.test(network, isa),
        }
    }
}
