//! How a command ends when it does not succeed.

use std::process::ExitCode;

use topkast_train::TrainError;
use topkast_train::data::DataError;

/// Why a command ended, which decides its exit status.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Wrong use or bad input: another command line, config or file mends it.
    BadInput(String),
    /// Anything else.
    Failed(String),
    /// Asked to stop; the message says how to go on.
    Interrupted(String),
}

impl Failure {
    /// Arguments that do not parse, in one line: clap's first paragraph, without the usage that it adds.
    pub(crate) fn wrong_use(error: &clap::Error) -> Self {
        let text = error.to_string();
        let paragraph: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
        let message = paragraph.join(" ");
        Self::BadInput(format!("{}; see --help", message.trim_start_matches("error: ")))
    }

    /// Prints one line on stderr and gives the exit status.
    pub(crate) fn report(self) -> ExitCode {
        let (message, status) = match self {
            Self::BadInput(message) => (format!("error: {message}"), 2),
            Self::Failed(message) => (format!("error: {message}"), 1),
            Self::Interrupted(message) => (message, 130),
        };
        say(message.replace('\n', " "));
        ExitCode::from(status)
    }
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        if error.is_bad_input() { Self::BadInput(error.to_string()) } else { Self::Failed(error.to_string()) }
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        TrainError::from(error).into()
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Prints a line on stderr. Whoever read it may have gone away (`2>&1 | head`): no reason to stop what goes on.
pub(crate) fn say(line: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints a line on stdout; a reader that has gone away (`| head`) ends the command quietly.
pub(crate) fn print_line(line: impl std::fmt::Display) -> Result<(), Failure> {
    print_bytes(format!("{line}\n").as_bytes())
}

/// Prints on stdout at once, as [`print_line`] does.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    use std::io::{ErrorKind, Write};
    let mut stdout = std::io::stdout();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}
