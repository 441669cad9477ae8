//! How a trainer comes about: from the start, or from a checkpoint, for which no first A is chosen.

use std::path::Path;

use super::{Trainer, prepare};
use crate::TrainError;
use crate::checkpoint::Checkpoint;
use crate::config::{Config, Method};
use crate::data::{self, Split};
use crate::dynamics::Masks;
use crate::pruning::Pruning;
use crate::snip;

impl Trainer {
    /// Reads the data and makes the network.
    ///
    /// # Errors
    /// If the data cannot be read or the config does not fit it.
    pub fn new(config: Config) -> Result<Self, TrainError> {
        let split = data::load(config.data.kind, Path::new(&config.data.path))?;
        Self::with_data(config, split)
    }

    /// Reads the data and goes on from a checkpoint of the same config, the file at `path`.
    ///
    /// # Errors
    /// As [`new`](Self::new) and [`restore`](Self::restore).
    pub fn resumed(config: Config, checkpoint: &Checkpoint, path: &Path) -> Result<Self, TrainError> {
        let split = data::load(config.data.kind, Path::new(&config.data.path))?;
        let mut trainer = Self::before_start(config, split)?;
        trainer.restore(checkpoint, path)?;
        Ok(trainer)
    }

    /// Makes the network for data in memory.
    ///
    /// # Errors
    /// If the config does not fit the data.
    pub fn with_data(config: Config, split: Split) -> Result<Self, TrainError> {
        let mut trainer = Self::before_start(config, split)?;
        trainer.start()?;
        Ok(trainer)
    }

    /// Gives the layers that snip or pruning decide their first A.
    fn start(&mut self) -> Result<(), TrainError> {
        match self.config.sparsity.method {
            Method::Snip => {
                self.load_batch();
                let Self { network, config, isa, x, labels, .. } = self;
                if !snip::start(network, config, *isa, x, labels)?.is_finite() {
                    return Err(self.diverged("the loss".to_owned()));
                }
            }
            Method::Pruning => Pruning::start(&mut self.network),
            _ => return Ok(()),
        }
        prepare(&self.config, &mut self.network);
        self.masks = Masks::of(&mut self.network);
        Ok(())
    }
}
