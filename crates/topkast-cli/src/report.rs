//! `topkast report`: one HTML file, with nothing to load from elsewhere, of what runs came to.
//!
//! ```text
//! RunData   what a run directory holds                                     run_data
//! Group     runs that differ by seed only; its colour, dash and mark       group, style
//! Point     mean, least and largest of a group's runs                      series
//! chart, bars → SVG; tables → HTML                                         chart, bars, scale, tables, html
//! page      which of these, in which order                                 page
//! ```

mod bars;
mod chart;
mod group;
mod html;
mod metric;
mod page;
mod run_data;
mod scale;
mod series;
mod style;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::{Failure, print_line};
use run_data::RunData;

/// Write an HTML report of one or several runs
///
/// Runs in directories NAME/seed-1, NAME/seed-2, … are shown together as NAME: their mean, and from the least to the largest of them.
#[derive(Args)]
#[command(after_help = "Example: topkast report runs/top-kast-1 runs/dense-1 --out both.html")]
pub(crate) struct Arguments {
    /// Run directories
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// File to write [default: RUN/report.html for one run, else report.html]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let out = match (&arguments.out, &arguments.runs[..]) {
        (Some(out), _) => out.clone(),
        (None, [run]) => run.join("report.html"),
        (None, _) => PathBuf::from("report.html"),
    };
    write(&arguments.runs, &out)?;
    print_line(format!("report           {}", out.display()))
}

/// Writes the report of `runs` to the file `out`.
///
/// # Errors
/// If one of them is no run or holds a broken file, or `out` cannot be written.
pub(crate) fn write(runs: &[PathBuf], out: &Path) -> Result<(), Failure> {
    let runs = runs.iter().map(|run| RunData::read(run)).collect::<Result<Vec<_>, _>>()?;
    let page = page::page(&group::groups(&runs));
    fs::write(out, page).map_err(|error| Failure::Failed(format!("cannot write {}: {error}", out.display())))
}
