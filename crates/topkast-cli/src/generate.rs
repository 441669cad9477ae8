//! `topkast generate`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use topkast_train::Purpose;
use topkast_train::text::Sampling;

use crate::failure::{Failure, print_bytes, print_line};
use crate::trained;

/// Go on with a text, by a trained network with its active weights only
#[derive(Args)]
#[command(
    after_help = "Example: topkast generate runs/top-kast-1 --prompt \"In the beginning\" --temperature 0.8"
)]
pub(crate) struct Arguments {
    /// Run directory, checkpoint file or sparse export
    run: PathBuf,
    /// What the text begins with
    #[arg(long)]
    prompt: String,
    /// How many tokens (bytes or words) to add
    #[arg(long, default_value_t = 500)]
    length: u64,
    /// 0 takes the likeliest token always; the higher, the bolder
    #[arg(long, default_value_t = 1.0)]
    temperature: f64,
    /// Choose among this many likeliest tokens; 0: among all
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Choose among the fewest likeliest tokens that together have this probability; 1: among all
    #[arg(long, default_value_t = 1.0)]
    top_p: f64,
    /// Decides every choice
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let sampling = Sampling::new(arguments.temperature, arguments.top_k, arguments.top_p)
        .map_err(|error| Failure::BadInput(error.to_string()))?;
    let mut trained = trained::load(&arguments.run)?;
    let step = trained.state.step;
    let Purpose::LanguageModel(network) = trained.purpose() else {
        let run = arguments.run.display();
        return Err(Failure::BadInput(format!("{run} tells images apart: topkast predict {run} IMAGE")));
    };
    let vocabulary = network.vocabulary();
    let prompt =
        vocabulary.encode(&arguments.prompt).map_err(|error| Failure::BadInput(error.to_string()))?;
    if prompt.is_empty() {
        return Err(Failure::BadInput("--prompt is empty: give the text something to begin with".to_owned()));
    }
    let mut text = arguments.prompt.clone().into_bytes();
    let mut shown = 0;
    let tokens = network.generate(&prompt, sampling, arguments.seed);
    for (token, _) in tokens.zip(0..arguments.length) {
        vocabulary.append_to(&mut text, token);
        if !arguments.json {
            print_bytes(&text[shown..])?;
            shown = text.len();
        }
    }
    if arguments.json {
        let made = String::from_utf8_lossy(&text[arguments.prompt.len()..]);
        return print_line(json!({ "prompt": arguments.prompt, "text": made, "step": step }));
    }
    print_line("")
}
