//! Writing checkpoints while training goes on.

use std::io;
use std::thread::{self, JoinHandle};

use super::kept;
use crate::{RunDir, TrainError, Trainer, files};

/// Writes a run's checkpoints, one at a time. What is written is a copy in memory, as large as the file: the compact state. Where θ is
/// written out densely there is no copy, and training waits instead.
pub(crate) struct Saver {
    dir: RunDir,
    /// How many checkpoints are kept, the newest included.
    keep: usize,
    /// The step of the newest checkpoint that is whole and on disk.
    newest: Option<u64>,
    writing: Option<Writing>,
    /// Room for the next copy.
    image: Vec<u8>,
}

struct Writing {
    step: u64,
    thread: JoinHandle<(Vec<u8>, io::Result<()>)>,
}

/// What is to become of a file.
struct Task {
    dir: RunDir,
    keep: usize,
    /// The step of the checkpoint that it replaces.
    before: Option<u64>,
    step: u64,
    is_best: bool,
}

impl Saver {
    /// Of a run that goes on from the checkpoint of step `newest`, if there is one.
    pub(crate) fn new(dir: &RunDir, keep: usize, newest: Option<u64>) -> Self {
        Self { dir: dir.clone(), keep, newest, writing: None, image: Vec::new() }
    }

    /// The step of the newest checkpoint on disk.
    pub(crate) fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// Begins to write a checkpoint, once the one before is written; one of the same step there is already.
    ///
    /// # Errors
    /// If the one before could not be written, or the network is not fit to be saved.
    pub(crate) fn save(&mut self, trainer: &mut Trainer, seconds: f64) -> Result<(), TrainError> {
        self.wait()?;
        let step = trainer.steps_done();
        if self.newest == Some(step) {
            return Ok(());
        }
        let is_best = trainer.best().is_some_and(|best| best.step == step);
        let task = Task { dir: self.dir.clone(), keep: self.keep, before: self.newest, step, is_best };
        if trainer.is_dense() {
            task.before_replacing().map_err(TrainError::write(&self.dir.checkpoint()))?;
            trainer.save(&self.dir.checkpoint(), seconds)?;
            task.after_replacing().map_err(TrainError::write(&self.dir.checkpoint()))?;
            self.newest = Some(step);
            return Ok(());
        }
        let mut image = std::mem::take(&mut self.image);
        trainer.save_into(&mut image, seconds)?;
        let write = move || {
            let written = task.write(&image);
            (image, written)
        };
        let thread = thread::Builder::new().name("checkpoint".to_owned()).spawn(write);
        self.writing =
            Some(Writing { step, thread: thread.map_err(TrainError::write(&self.dir.checkpoint()))? });
        Ok(())
    }

    /// Waits until what was begun is on disk.
    ///
    /// # Errors
    /// If it could not be written.
    pub(crate) fn wait(&mut self) -> Result<(), TrainError> {
        let Some(Writing { step, thread }) = self.writing.take() else { return Ok(()) };
        let (image, written) = thread.join().expect("writing a checkpoint does not panic");
        self.image = image;
        written.map_err(TrainError::write(&self.dir.checkpoint()))?;
        self.newest = Some(step);
        Ok(())
    }

    /// Makes the newest checkpoint, which is the best, be found as that: a run may have been killed before it was.
    ///
    /// # Errors
    /// If that fails.
    pub(crate) fn call_best(&self) -> Result<(), TrainError> {
        kept::call_best(&self.dir).map_err(TrainError::write(&self.dir.best_checkpoint()))
    }
}

impl Drop for Saver {
    /// However a run ends, what it has begun to write is on disk by then.
    fn drop(&mut self) {
        if let Some(Writing { thread, .. }) = self.writing.take() {
            // Whoever wants to know whether it worked has waited.
            let _ = thread.join();
        }
    }
}

impl Task {
    fn write(&self, image: &[u8]) -> io::Result<()> {
        self.before_replacing()?;
        files::replace(&self.dir.checkpoint(), |temporary| std::fs::write(temporary, image))?;
        self.after_replacing()
    }

    fn before_replacing(&self) -> io::Result<()> {
        match self.before {
            Some(step) if self.keep > 1 => kept::set_aside(&self.dir, step),
            _ => Ok(()),
        }
    }

    fn after_replacing(&self) -> io::Result<()> {
        if self.is_best {
            kept::call_best(&self.dir)?;
        }
        kept::remove_older(&self.dir, self.step, self.keep - 1)
    }
}
