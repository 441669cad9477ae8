//! How a trainer comes about: from the start, or from a checkpoint, for which no first A is chosen.

use std::path::Path;

use super::{Trainer, prepare};
use crate::TrainError;
use crate::checkpoint::Checkpoint;
use crate::config::{Config, Method};
use crate::data::Split;
use crate::dynamics::Masks;
use crate::pruning::Pruning;
use crate::snip;
use crate::task::{Images, Task, Text};
use crate::text;

impl Trainer {
    /// Reads the data and makes the network.
    ///
    /// # Errors
    /// If the data cannot be read or the config does not fit it.
    pub fn new(config: Config) -> Result<Self, TrainError> {
        let task = Task::read(&config)?;
        Self::with_task(config, task)
    }

    /// Reads the data and goes on from a checkpoint of the same config, the file at `path`.
    ///
    /// # Errors
    /// As [`new`](Self::new) and [`restore`](Self::restore).
    pub fn resumed(config: Config, checkpoint: &Checkpoint, path: &Path) -> Result<Self, TrainError> {
        let task = Task::read(&config)?;
        let mut trainer = Self::before_start(config, task)?;
        trainer.restore(checkpoint, path)?;
        Ok(trainer)
    }

    /// Makes the network for images in memory.
    ///
    /// # Errors
    /// If the config does not fit the data.
    pub fn with_data(config: Config, split: Split) -> Result<Self, TrainError> {
        let task = Task::Images(Images::new(split, &config, config.layout())?);
        Self::with_task(config, task)
    }

    /// Makes the network for a text in memory.
    ///
    /// # Errors
    /// If the config does not fit the text.
    pub fn with_text(config: Config, text: text::Text) -> Result<Self, TrainError> {
        let task = Task::Text(Text::new(text, &config)?);
        Self::with_task(config, task)
    }

    fn with_task(config: Config, task: Task) -> Result<Self, TrainError> {
        let mut trainer = Self::before_start(config, task)?;
        trainer.start()?;
        Ok(trainer)
    }

    /// Gives the layers that snip or pruning decide their first A.
    fn start(&mut self) -> Result<(), TrainError> {
        match self.config.sparsity.method {
            Method::Snip => {
                self.task.load(0, &mut self.network)?;
                let Self { network, config, isa, task, .. } = self;
                if !snip::start(network, config, *isa, task.input(), task.labels())?.is_finite() {
                    return Err(self.diverged_in_step("the loss of the dense network".to_owned()));
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
