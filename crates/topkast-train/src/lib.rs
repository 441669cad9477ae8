//! Training: data sets, the loop, metrics, checkpoints. This crate knows nothing of argument parsing.

pub mod checkpoint;
pub mod config;
pub mod data;
mod error;
mod files;
mod machine;
mod metrics;
mod run;
mod summary;
pub mod tensorboard;
mod trainer;

pub use config::Config;
pub use error::TrainError;
pub use metrics::read_metrics;
pub use run::{Event, Outcome, RunDir, run};
pub use summary::{LayerSummary, Summary, layer_summaries};
pub use trainer::{RefreshReport, Score, StepReport, Trained, Trainer, load_trained};
