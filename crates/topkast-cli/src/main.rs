//! The `topkast` command: trains always-sparse networks and looks at them.
//!
//! Exit status: 0 done, 1 failure, 2 wrong use or bad input, 130 interrupted with a checkpoint written.

mod bench;
mod compare;
mod data;
mod eval;
mod export;
mod failure;
mod generate;
mod inspect;
mod network;
mod predict;
mod progress;
mod report;
mod stop;
mod table;
mod train;
mod trained;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::failure::Failure;

/// Train neural networks that are sparse from the first step to the last (Top-KAST).
#[derive(Parser)]
#[command(name = "topkast", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Train(train::Arguments),
    Compare(compare::Arguments),
    Eval(eval::Arguments),
    Predict(predict::Arguments),
    Generate(generate::Arguments),
    Inspect(inspect::Arguments),
    Export(export::Arguments),
    Report(report::Arguments),
    #[command(subcommand)]
    Data(data::Command),
    #[command(subcommand)]
    Bench(bench::Command),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // Help and version are no errors; without a command, help says more than a line could.
        Err(error)
            if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand =>
        {
            error.exit()
        }
        Err(error) => return Failure::wrong_use(&error).report(),
    };
    let result = match arguments.command {
        Command::Train(arguments) => train::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Eval(arguments) => eval::run(&arguments),
        Command::Predict(arguments) => predict::run(&arguments),
        Command::Generate(arguments) => generate::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Export(arguments) => export::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Data(command) => data::run(&command),
        Command::Bench(command) => bench::run(&command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
