//! What can stop a run.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::config::ConfigError;
use crate::data::DataError;
use crate::message::one_line;
use crate::weights::WeightsError;

/// Why a run cannot start or go on.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum TrainError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error("{}: {problem}", path.display())]
    Checkpoint { path: PathBuf, problem: String },
    #[error("{}: {problem}", path.display())]
    Export { path: PathBuf, problem: String },
    #[error("{}: {problem}", path.display())]
    RunDir { path: PathBuf, problem: String },
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("cannot write {}: {source}; {kept}. Mend that, then go on by --resume", path.display())]
    Stopped { path: PathBuf, source: std::io::Error, kept: String },
    #[error("cannot start {threads} threads: {message}")]
    Threads { threads: usize, message: String },
    #[error("{0}")]
    Isa(#[from] topkast_kernels::IsaError),
    #[error(
        "{what} is not a finite number at step {step}; {kept}. Lower optimizer.lr, or set optimizer.clip_norm \
         or optimizer.warmup_steps"
    )]
    Diverged { what: String, step: u64, kept: String },
}

impl TrainError {
    pub(crate) fn checkpoint(path: &Path, problem: impl Display) -> Self {
        Self::Checkpoint { path: path.to_owned(), problem: one_line(&problem) }
    }

    pub(crate) fn export(path: &Path, problem: impl Display) -> Self {
        Self::Export { path: path.to_owned(), problem: one_line(&problem) }
    }

    pub(crate) fn run_dir(path: &Path, problem: impl ToString) -> Self {
        Self::RunDir { path: path.to_owned(), problem: problem.to_string() }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Write { path, source }
    }

    /// Whether the mend is another command line, config or input, rather than another machine or recipe.
    pub fn is_bad_input(&self) -> bool {
        !matches!(
            self,
            Self::Write { .. } | Self::Stopped { .. } | Self::Threads { .. } | Self::Diverged { .. }
        )
    }
}
