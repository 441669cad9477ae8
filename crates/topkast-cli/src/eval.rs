//! `topkast eval`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::failure::{Failure, print_line};
use crate::trained;

/// Score a trained network on test data, with its active weights only
#[derive(Args)]
#[command(after_help = "Example: topkast eval runs/top-kast-1 --json")]
pub(crate) struct Arguments {
    /// Run directory, checkpoint file or sparse export
    run: PathBuf,
    /// Data of the kind the network was trained on: their folder, of a text also the file [default: those the run was trained on;
    /// an export does not know where they are]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut trained = trained::load(&arguments.run)?;
    let path = match &arguments.data {
        Some(path) => path.clone(),
        None if trained.exported => {
            let run = arguments.run.display();
            let message =
                format!("{run} is an export, which does not know where its data are: add --data DIR");
            return Err(Failure::BadInput(message));
        }
        None => trained.config.data.path.clone().into(),
    };
    let (score, left_out) = trained.score(&path)?;
    left_out.iter().for_each(|problem| eprintln!("{problem}"));
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
