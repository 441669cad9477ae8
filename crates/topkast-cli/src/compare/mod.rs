//! `topkast compare`

mod claims;
mod document;
mod figure;
mod plan;
mod progress;
mod results;
mod statistics;
mod sweep;
mod tables;
mod work;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use clap::Args;

use self::document::{Besides, Chapter, document, section};
use self::figure::figure;
use self::plan::{Plan, State};
use self::progress::Progress;
use self::results::{CellResults, collect};
use self::sweep::Sweep;
use self::work::{Outcome, Resources, work};
use crate::failure::{Failure, print_line};
use crate::stop::stop_on_signal;
use crate::{report, table};

/// Compare methods at several sparsities with several seeds
///
/// Makes every run that the sweep file asks for, prints one table and writes one report, mean ± standard error. Runs that are done are kept,
/// those that were interrupted go on, so the same command may be given again at any time.
#[derive(Args)]
#[command(after_help = "Example: topkast compare sweeps/quick.toml --jobs 2")]
pub(crate) struct Arguments {
    /// Sweep file (TOML); several for one document
    #[arg(required = true, value_name = "SWEEP")]
    sweeps: Vec<PathBuf>,
    /// Directory of the runs and tables [default: runs/NAME-OF-SWEEP-FILE]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Runs at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    /// Threads of each run [default: cores / jobs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: Option<u16>,
    /// Write one Markdown document of all sweeps, and a drawing (SVG) of each beside it
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// List the runs and how far each is, and make none
    #[arg(long)]
    dry_run: bool,
    /// Print JSON, a line for each sweep
    #[arg(long)]
    json: bool,
    /// Print no progress
    #[arg(long)]
    quiet: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let plans = plans(arguments)?;
    if arguments.dry_run {
        return plans.iter().try_for_each(list);
    }
    let stop = stop_on_signal()?;
    let (mut chapters, mut failed, mut total) = (Vec::new(), 0, 0);
    for plan in plans {
        total += plan.runs.len();
        failed += make(&plan, arguments, &stop)?;
        let results = collect(&plan)?;
        save(&plan, &results)?;
        print(&plan, &results, arguments.json)?;
        let figure =
            arguments.markdown.as_ref().map(|path| draw(path, &plan, &results)).transpose()?.flatten();
        chapters.push(Chapter { plan, results, figure });
    }
    if let Some(path) = &arguments.markdown {
        write(path, &document(&command(arguments), &chapters))?;
    }
    match failed {
        0 => Ok(()),
        _ => Err(Failure::Failed(format!(
            "{failed} of {total} runs failed, as told above and in the train.log of each; started again, compare makes only those"
        ))),
    }
}

/// Every sweep's runs, checked before the first one starts.
fn plans(arguments: &Arguments) -> Result<Vec<Plan>, Failure> {
    let mut plans: Vec<Plan> = Vec::new();
    for file in &arguments.sweeps {
        let sweep = Sweep::read(file)?;
        let out = match &arguments.out {
            Some(_) if arguments.sweeps.len() > 1 => {
                let message =
                    "--out is for one sweep; several have the directory runs/NAME-OF-SWEEP-FILE each";
                return Err(Failure::BadInput(message.to_owned()));
            }
            Some(out) => out.clone(),
            None => Path::new("runs").join(&sweep.name),
        };
        if plans.iter().any(|plan| plan.out == out) {
            let (file, out) = (file.display(), out.display());
            return Err(Failure::BadInput(format!(
                "{file}: another sweep has {out} already; rename the file"
            )));
        }
        plans.push(Plan::new(sweep, out)?);
    }
    Ok(plans)
}

fn list(plan: &Plan) -> Result<(), Failure> {
    for run in &plan.runs {
        let state = match run.state()? {
            State::New => "to do",
            State::Begun => "begun",
            State::Done(_) => "done",
        };
        print_line(format!("{state:<5}  {}", run.path.display()))?;
    }
    Ok(())
}

/// Makes the runs that are missing, and says how many failed.
fn make(plan: &Plan, arguments: &Arguments, stop: &AtomicBool) -> Result<usize, Failure> {
    let jobs = usize::from(arguments.jobs);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments.threads.map_or((cores / jobs).max(1), usize::from);
    let mut progress = Progress::new(plan, jobs, arguments.quiet);
    match work(plan, Resources { jobs, threads }, stop, &mut progress)? {
        Outcome::Done => Ok(0),
        Outcome::Failed(count) => Ok(count),
        Outcome::Stopped => {
            save(plan, &collect(plan)?)?;
            let message = "interrupted, checkpoints written; the same command goes on from them";
            Err(Failure::Interrupted(message.to_owned()))
        }
    }
}

/// Writes the tables and the report to the sweep's directory.
fn save(plan: &Plan, results: &[CellResults]) -> Result<(), Failure> {
    write(&plan.out.join("table.md"), &section(plan, results, Besides::Nothing))?;
    write(&plan.out.join("table.csv"), &table::csv(&tables::full(plan, results)))?;
    let runs = results.iter().flat_map(|cell| cell.runs.iter().map(|run| run.path.clone()));
    let runs: Vec<PathBuf> = runs.collect();
    if runs.is_empty() { Ok(()) } else { report::write(&runs, &plan.out.join("report.html")) }
}

/// Draws a sweep beside the document at `path` and gives the file's name, `DOCUMENT-SWEEP.svg`.
fn draw(path: &Path, plan: &Plan, results: &[CellResults]) -> Result<Option<String>, Failure> {
    let Some(svg) = figure(plan, results) else { return Ok(None) };
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let name = format!("{stem}-{}.svg", plan.sweep.name);
    write(&path.with_file_name(&name), &svg)?;
    Ok(Some(name))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let made = parent.map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| fs::write(path, text))
        .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))
}

fn print(plan: &Plan, results: &[CellResults], json: bool) -> Result<(), Failure> {
    if json {
        return print_line(tables::json(plan, results));
    }
    print_line(&plan.sweep.title)?;
    print_line(format!("{}\n", tables::legend(plan)))?;
    table::aligned(&tables::scores(plan, results)).iter().try_for_each(print_line)?;
    if !plan.sweep.claims.is_empty() {
        print_line("")?;
        for (number, (claim, tested)) in
            plan.sweep.claims.iter().zip(tables::tests(plan, results)).enumerate()
        {
            print_line(format!("{}. {}: {}", number + 1, claim.text, claims::tally(claim.kind, &tested)))?;
        }
        print_line("")?;
        table::aligned(&tables::comparisons(plan, results)).iter().try_for_each(print_line)?;
    }
    print_line(format!("\ntables           {}", plan.out.join("table.md").display()))?;
    print_line(format!("report           {}", plan.out.join("report.html").display()))
}

/// What the user typed, as far as it matters, for whoever wants to make a document again.
fn command(arguments: &Arguments) -> String {
    let mut words = vec!["cargo run --release -- compare".to_owned()];
    words.extend(arguments.sweeps.iter().map(|sweep| sweep.display().to_string()));
    words.push(format!("--jobs {}", arguments.jobs));
    words.extend(arguments.threads.map(|threads| format!("--threads {threads}")));
    words.extend(arguments.out.iter().map(|out| format!("--out {}", out.display())));
    words.extend(arguments.markdown.iter().map(|file| format!("--markdown {}", file.display())));
    words.join(" ")
}
