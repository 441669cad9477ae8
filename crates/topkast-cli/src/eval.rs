//! `topkast eval`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::failure::{Failure, print_line};
use crate::trained;

/// Score a trained network on test data, with its active weights only
#[derive(Args)]
#[command(after_help = "Example: topkast eval runs/top-kast-1 --json")]
pub(crate) struct Arguments {
    /// Run directory or checkpoint file
    run: PathBuf,
    /// Data of the kind the network was trained on: their folder, of a text also the file [default: those it was trained on]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut trained = trained::load(&arguments.run)?;
    let path = arguments.data.as_deref().unwrap_or(Path::new(&trained.config.data.path)).to_owned();
    let score = trained.score(&path)?;
    if arguments.json {
        let mut json = json!({
            "test_loss": score.loss,
            "samples": score.samples,
            "step": trained.state.step,
        });
        if let Some(accuracy) = score.accuracy {
            json["test_accuracy"] = accuracy.into();
        }
        json[format!("test_{}", score.metric.name())] = score.value().into();
        return print_line(json);
    }
    print_line(format!("test {score}, {} samples, after step {}", score.samples, trained.state.step))
}
