//! Finding the trained network a user names.

use std::path::{Path, PathBuf};

use topkast_train::{RunDir, Trained, load_trained};

use crate::failure::Failure;

/// The file of `run`: a run directory's checkpoint, or a checkpoint or export itself.
pub(crate) fn checkpoint_of(run: &Path) -> Result<PathBuf, Failure> {
    if run.is_file() {
        return Ok(run.to_owned());
    }
    let checkpoint = RunDir::open(run)?.checkpoint();
    if !checkpoint.exists() {
        let message = format!("{}: the run has no checkpoint yet", run.display());
        return Err(Failure::BadInput(message));
    }
    Ok(checkpoint)
}

/// The network of `run`.
pub(crate) fn load(run: &Path) -> Result<Trained, Failure> {
    Ok(load_trained(&checkpoint_of(run)?)?)
}
