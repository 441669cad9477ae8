//! Training: data sets, the loop, metrics, checkpoints. This crate knows nothing of argument parsing.

pub mod checkpoint;
pub mod config;
pub mod data;
mod error;
mod files;
mod lock;
mod machine;
mod metrics;
mod products;
mod pruning;
mod pull;
mod refresh;
mod report;
mod run;
mod score;
mod snip;
mod summary;
pub mod tensorboard;
mod trained;
mod trainer;
mod weights;

pub use config::Config;
pub use error::TrainError;
pub use machine::cpu_model;
pub use metrics::read_metrics;
pub use products::{LayerProducts, Products};
pub use pull::Pull;
pub use report::{Phases, RefreshReport, StepReport};
pub use run::{Event, Outcome, RunDir, run};
pub use score::Score;
pub use summary::{LayerSummary, Summary, layer_summaries};
pub use trained::{Trained, load_trained};
pub use trainer::Trainer;
pub use weights::{Fingerprint, WeightsError};
