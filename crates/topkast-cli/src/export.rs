//! `topkast export`

use std::fs;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;
use topkast_train::Format;

use crate::failure::{Failure, print_line};
use crate::trained;

/// Write what a trained network computes with to a file, for use elsewhere
///
/// sparse: the non-zeros, which eval, predict, generate and inspect take in place of a run. dense: PyTorch's names and
/// shapes. onnx: a graph. docs/export.md describes all three.
#[derive(Args)]
#[command(after_help = "Example: topkast export runs/top-kast-1 --format onnx network.onnx")]
pub(crate) struct Arguments {
    /// Run directory, checkpoint file or sparse export
    run: PathBuf,
    /// File to write; one that is there is replaced
    file: PathBuf,
    /// What to write
    #[arg(long)]
    format: Kind,
    /// Refuse files of more than so many GiB, which zeros written out may come to
    #[arg(long, value_name = "GIB", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    largest: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Sparse,
    Dense,
    Onnx,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { run, file, .. } = arguments;
    let from = trained::checkpoint_of(run)?;
    if let (Ok(from), Ok(to)) = (fs::canonicalize(&from), fs::canonicalize(file))
        && from == to
    {
        let message = format!("{} is what the network is read from; name another file", file.display());
        return Err(Failure::BadInput(message));
    }
    let mut trained = trained::load(run)?;
    let format = match arguments.format {
        Kind::Sparse => Format::Sparse,
        Kind::Dense => Format::Dense,
        Kind::Onnx => Format::Onnx,
    };
    let bytes = trained.export(format, file, arguments.largest << 30)?;
    if arguments.json {
        return print_line(json!({ "file": file, "bytes": bytes, "step": trained.state.step }));
    }
    print_line(format!("{}: {bytes} bytes, the network after step {}", file.display(), trained.state.step))
}
