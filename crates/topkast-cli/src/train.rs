//! `topkast train`

use std::path::PathBuf;

use clap::Args;
use topkast_train::{
    Config, Event, Outcome, Products, RunDir, Summary, TrainError, config::Method, run as train_run,
};

use crate::failure::{Failure, print_line};
use crate::progress::Progress;
use crate::report;
use crate::stop::stop_on_signal;

/// Train a network
///
/// With no config, trains the built-in recipe on the Fashion-MNIST in the repository. Ctrl-C writes a checkpoint and
/// exits with status 130; --resume goes on from the last one.
#[derive(Args)]
#[command(
    after_help = "Methods (sparsity.method): top-kast, static, set, rigl, snip, pruning (dense at first), dense\n\nExample: topkast train --set sparsity.forward=0.98 --set sparsity.backward=0.95 --out runs/98"
)]
pub(crate) struct Arguments {
    /// Config file (TOML); left-out keys keep their defaults
    config: Option<PathBuf>,
    /// Set a config value, for example sparsity.forward=0.95
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Directory of the run [default: the first free runs/METHOD-N]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with the run in this directory
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "set", "out", "seed"])]
    resume: Option<PathBuf>,
    /// Same as --set seed=N
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Same as --set train.threads=N; 0 takes all cores
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Print no progress
    #[arg(long)]
    quiet: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let stop = stop_on_signal()?;
    let (config, dir) = match &arguments.resume {
        Some(path) => resumed(path, arguments)?,
        None => fresh(arguments)?,
    };
    let mut progress = Progress::new(arguments.quiet, &dir);
    let mut watch = |event: Event| progress.show(&event);
    let outcome = train_run(config, &dir, &stop, &mut watch);
    progress.end();
    match outcome? {
        Outcome::Finished(summary) => {
            report::write(&[dir.path().to_owned()], &dir.report())?;
            print_summary(&summary, &dir)
        }
        Outcome::Interrupted(step) => {
            let path = dir.path().display();
            Err(Failure::Interrupted(format!(
                "interrupted after step {step}, checkpoint written; go on with: topkast train --resume {path}"
            )))
        }
    }
}

fn fresh(arguments: &Arguments) -> Result<(Config, RunDir), Failure> {
    let mut overrides = arguments.set.clone();
    overrides.extend(arguments.seed.map(|seed| format!("seed={seed}")));
    overrides.extend(arguments.threads.map(|threads| format!("train.threads={threads}")));
    let config = Config::load(arguments.config.as_deref(), &overrides).map_err(TrainError::from)?;
    let name = match config.sparsity.method {
        Method::Dense => "dense",
        Method::Static => "static",
        Method::Set => "set",
        Method::Rigl => "rigl",
        Method::Snip => "snip",
        Method::Pruning => "pruning",
        Method::TopKast => "top-kast",
    };
    let out = arguments.out.clone().unwrap_or_else(|| RunDir::free(name));
    Ok((config, RunDir::create(&out)?))
}

fn resumed(path: &std::path::Path, arguments: &Arguments) -> Result<(Config, RunDir), Failure> {
    let dir = RunDir::open(path)?;
    let overrides: Vec<_> =
        arguments.threads.map(|threads| format!("train.threads={threads}")).into_iter().collect();
    let config = Config::load(Some(&dir.config()), &overrides).map_err(TrainError::from)?;
    Ok((config, dir))
}

fn print_summary(summary: &Summary, dir: &RunDir) -> Result<(), Failure> {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let percent = |fraction: f64| format!("{:.2}%", fraction * 100.0);
    let [test, validation] = [summary.test_accuracy, summary.validation_accuracy].map(|it| it.map(percent));
    let predicted =
        |what| test.as_ref().map_or(String::new(), |test| format!("  ({test} of {what} predicted)"));
    if let Some(bpc) = summary.test_bpc {
        print_line(format!("test BPC         {bpc:.4}{}", predicted("bytes")))?;
    } else if let Some(perplexity) = summary.test_perplexity {
        print_line(format!("test perplexity  {perplexity:.2}{}", predicted("words")))?;
    } else if let Some(test) = &test {
        print_line(format!("test accuracy    {test}  (loss {:.4})", summary.test_loss))?;
    }
    let own = summary.validation_bpc.map(|bpc| format!("{bpc:.4}"));
    let own = own.or_else(|| summary.validation_perplexity.map(|perplexity| format!("{perplexity:.2}")));
    if let Some(value) = own.or(validation) {
        print_line(format!("validation       {value}"))?;
    }
    print_line(format!("training         {} steps in {:.1} s", summary.steps, summary.seconds))?;
    print_line(format!(
        "step             {:.2} ms median, {} on {} thread(s)",
        summary.step_ms_median, summary.isa, summary.threads
    ))?;
    let phases = &summary.phase_seconds;
    if phases.steps() > 0.0 {
        print_line(format!(
            "waiting for data {:.1}% of the steps' time",
            100.0 * phases.load / phases.steps()
        ))?;
    }
    if summary.parameters > 0 {
        print_line(format!(
            "sparse weights   {} of {} active, {} trained",
            summary.active, summary.parameters, summary.backward
        ))?;
    }
    print_line(format!(
        "training memory  {:.1} MiB against {:.1} MiB dense, reservoir {:.1} MiB",
        mib(summary.training_bytes),
        mib(summary.dense_training_bytes),
        mib(summary.reservoir_bytes)
    ))?;
    if let Some(bytes) = summary.peak_rss_bytes {
        print_line(format!("process          {:.1} MiB resident at most", mib(bytes)))?;
    }
    let slower: Vec<&str> = summary
        .layers
        .iter()
        .filter(|layer| layer.products == Products::Sparse && layer.sparse_ms > layer.dense_ms)
        .map(|layer| layer.name.as_str())
        .collect();
    if !slower.is_empty() {
        // Told before training too, but not to those who asked for quiet.
        print_line(format!(
            "slower than dense {}; topkast inspect shows by how much, sparsity.keep_dense or more sparsity mends it",
            slower.join(", ")
        ))?;
    }
    print_line(format!("run              {}", dir.path().display()))
}
