//! Training: data sets, the loop, metrics, checkpoints. This crate knows nothing of argument parsing.

pub mod checkpoint;
pub mod config;
pub mod data;
mod dynamics;
mod error;
mod files;
mod flops;
mod machine;
mod metrics;
mod products;
mod pull;
mod refresh;
mod report;
mod run;
mod score;
mod summary;
pub mod tensorboard;
mod time_split;
mod trained;
mod trainer;
mod weights;

pub use config::Config;
pub use dynamics::MaskDynamics;
pub use error::TrainError;
pub use flops::Flops;
pub use metrics::read_metrics;
pub use products::{LayerProducts, Products};
pub use pull::Pull;
pub use report::{Phases, RefreshReport, StepReport};
pub use run::{Event, Outcome, RunDir, run};
pub use score::Score;
pub use summary::{LayerSummary, Summary, layer_summaries};
pub use time_split::PhaseSeconds;
pub use trained::{Trained, load_trained};
pub use trainer::Trainer;
pub use weights::{Fingerprint, WeightsError};
