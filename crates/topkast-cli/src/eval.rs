//! `topkast eval`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use topkast_train::data;

use crate::failure::{Failure, print_line};
use crate::trained;

/// Score a trained network on test data, with its active weights only
#[derive(Args)]
#[command(after_help = "Example: topkast eval runs/top-kast-1 --json")]
pub(crate) struct Arguments {
    /// Run directory or checkpoint file
    run: PathBuf,
    /// Folder of the data, of the kind the network was trained on [default: the one it was trained on]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut trained = trained::load(&arguments.run)?;
    let path = arguments.data.as_deref().unwrap_or(Path::new(&trained.config.data.path)).to_owned();
    let score = trained.score(&data::load(trained.config.data.kind, &path)?.test)?;
    if arguments.json {
        let json = json!({
            "test_accuracy": score.accuracy,
            "test_loss": score.loss,
            "samples": score.samples,
            "step": trained.state.step,
        });
        return print_line(json);
    }
    let percent = score.accuracy * 100.0;
    print_line(format!(
        "test accuracy {percent:.2}%, loss {:.4}, {} samples, after step {}",
        score.loss, score.samples, trained.state.step
    ))
}
