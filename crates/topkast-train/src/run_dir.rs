//! The directory of a run.

use std::path::{Path, PathBuf};

use crate::TrainError;
use crate::lock::Lock;

/// What names of older checkpoints begin and end with, around the step.
const OLDER: &str = "step-";
const SUFFIX: &str = ".safetensors";

/// The directory of a run and what is where in it.
#[derive(Clone, Debug)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// The directory of a new run at `path`; [`run`](crate::run) makes it once it knows that the run can start.
    ///
    /// # Errors
    /// If it holds a run already.
    pub fn create(path: &Path) -> Result<Self, TrainError> {
        let dir = Self(path.to_owned());
        if dir.config().exists() || dir.checkpoint().exists() {
            let problem = "already holds a run; go on with it by --resume, or choose another --out";
            return Err(TrainError::run_dir(path, problem));
        }
        Ok(dir)
    }

    /// The directory of a run that has been started.
    ///
    /// # Errors
    /// If there is no run.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        let dir = Self(path.to_owned());
        if !dir.config().exists() {
            return Err(TrainError::run_dir(path, "holds no run: there is no config.toml in it"));
        }
        Ok(dir)
    }

    /// The first of `runs/NAME-1`, `runs/NAME-2`, … that does not exist yet.
    pub fn free(name: &str) -> PathBuf {
        let numbered = (1u64..).map(|number| Path::new("runs").join(format!("{name}-{number}")));
        numbered.into_iter().find(|path| !path.exists()).expect("there are more numbers than directories")
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// `config.toml`, as resolved.
    pub fn config(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    /// The newest checkpoint.
    pub fn checkpoint(&self) -> PathBuf {
        self.0.join("checkpoint").join("state.safetensors")
    }

    /// The checkpoint with the best score.
    pub fn best_checkpoint(&self) -> PathBuf {
        self.0.join("checkpoint-best").join("state.safetensors")
    }

    /// The folder of those before the newest that are kept.
    pub(crate) fn older_checkpoints(&self) -> PathBuf {
        self.0.join("checkpoint-older")
    }

    /// Where the checkpoint of this step is once there is a newer one.
    pub(crate) fn older_checkpoint(&self, step: u64) -> PathBuf {
        self.older_checkpoints().join(format!("{OLDER}{step}{SUFFIX}"))
    }

    /// The step of the checkpoint that has this name in [`older_checkpoints`](Self::older_checkpoints).
    pub(crate) fn step_of_older(name: &str) -> Option<u64> {
        name.strip_prefix(OLDER)?.strip_suffix(SUFFIX)?.parse().ok()
    }

    /// `metrics.jsonl`.
    pub fn metrics(&self) -> PathBuf {
        self.0.join("metrics.jsonl")
    }

    /// Whether some process trains in the directory at `path` at this moment; it may not have written anything yet.
    pub fn in_use(path: &Path) -> bool {
        let lock = Self(path.to_owned()).lock();
        lock.exists() && matches!(Lock::take(&lock), Ok(None))
    }

    /// Keeps other processes out until what is returned is dropped.
    ///
    /// # Errors
    /// If one is in, or the file cannot be made.
    pub(crate) fn take_lock(&self) -> Result<Lock, TrainError> {
        Lock::take(&self.lock()).map_err(TrainError::write(&self.lock()))?.ok_or_else(|| {
            let problem = "another process trains in it now; wait for that to end, or stop it";
            TrainError::run_dir(self.path(), problem)
        })
    }

    /// What the process that trains here holds.
    fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// `summary.json`.
    pub fn summary(&self) -> PathBuf {
        self.0.join("summary.json")
    }

    /// `report.html`.
    pub fn report(&self) -> PathBuf {
        self.0.join("report.html")
    }
}
