//! `topkast bench`: times sparse against dense on this machine.

mod layer;

use clap::Subcommand;

use crate::failure::Failure;

/// Time sparse against dense on this machine
#[derive(Subcommand)]
pub(crate) enum Command {
    Layer(layer::Arguments),
}

pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Layer(arguments) => layer::run(arguments),
    }
}
