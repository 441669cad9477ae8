//! What a user sees while training goes on: a bar on a terminal, plain lines on a pipe.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use topkast_train::{Event, LayerProducts, RunDir};

use crate::failure::say;

/// Shows [`Event`]s on stderr.
pub(crate) struct Progress {
    how: How,
    dir: String,
    total: u64,
    loss: f64,
    samples_per_second: f64,
    last_line: Instant,
}

enum How {
    Quiet,
    Lines,
    Bar(ProgressBar),
}

/// A pipe gets at most one line per this time, besides those at the ends of epochs.
const LINE_EVERY: Duration = Duration::from_secs(5);

impl Progress {
    pub(crate) fn new(quiet: bool, dir: &RunDir) -> Self {
        let how = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => How::Quiet,
            (false, true) => How::Bar(ProgressBar::new(0).with_style(style())),
            (false, false) => How::Lines,
        };
        let dir = dir.path().display().to_string();
        Self { how, dir, total: 0, loss: f64::NAN, samples_per_second: 0.0, last_line: Instant::now() }
    }

    pub(crate) fn show(&mut self, event: &Event) {
        match event {
            Event::Started { done, total, threads, isa } => {
                self.total = *total;
                if let How::Bar(bar) = &self.how {
                    bar.set_length(*total);
                    bar.set_position(*done);
                    bar.reset_eta();
                }
                let from = if *done > 0 { format!(" from step {done}") } else { String::new() };
                self.line(&format!(
                    "training in {}{from}: {total} steps, {isa}, {threads} thread(s)",
                    self.dir
                ));
            }
            Event::DenseIsFaster(layer) => self.line(&advice(layer)),
            Event::StartsDense { active, end } => self.line(&format!(
                "pruning begins with all weights, in the time and memory of a dense network; {active} of the sparse layers' remain \
                 from step {end} on"
            )),
            Event::StrongPenalty(pull) => self.line(&format!(
                "{}: the penalty, {:.2e} on B\\A, shrinks what is explored to {:.1e} of itself between refreshes; \
                 an optimizer.penalty of at most {:.1e} leaves it time",
                pull.layer, pull.coefficient, (-pull.exponent).exp(), pull.moderate_penalty
            )),
            // Also for those who asked for quiet: something is wrong with their data.
            Event::BrokenImage(problem) => self.warn(problem),
            Event::LeftOut { step, what } => {
                self.line(&format!("step {step} was left out: {what} is not a finite number"));
            }
            Event::Step { report, ms } => {
                let smooth =
                    |old: f64, new: f64| if old.is_finite() { old + 0.02 * (new - old) } else { new };
                self.loss = smooth(self.loss, report.loss);
                self.samples_per_second = smooth(
                    if self.samples_per_second > 0.0 { self.samples_per_second } else { f64::NAN },
                    report.samples as f64 / ms * 1e3,
                );
                if let How::Bar(bar) = &self.how {
                    bar.set_position(report.step);
                    bar.set_message(format!(
                        "loss {:.4}, {:.0} samples/s",
                        self.loss, self.samples_per_second
                    ));
                } else if self.last_line.elapsed() >= LINE_EVERY {
                    self.line(&format!(
                        "step {} of {}: loss {:.4}, {:.0} samples/s",
                        report.step, self.total, self.loss, self.samples_per_second
                    ));
                }
            }
            Event::Scored { epoch, on, score } => {
                let epoch = (epoch * 100.0).round() / 100.0;
                self.line(&format!("epoch {epoch}: {on} {score}"));
            }
        }
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        if let How::Bar(bar) = &self.how {
            bar.finish_and_clear();
        }
    }

    fn warn(&mut self, problem: &str) {
        match &self.how {
            How::Quiet | How::Lines => eprintln!("{problem}"),
            How::Bar(bar) => bar.println(problem),
        }
    }

    fn line(&mut self, line: &str) {
        self.last_line = Instant::now();
        match &self.how {
            How::Quiet => {}
            How::Lines => say(line),
            How::Bar(bar) => bar.println(line),
        }
    }
}

/// What a user may want to do about a sparse layer for which dense products are faster.
fn advice(layer: &LayerProducts) -> String {
    let LayerProducts { name, sparse_ms, dense_ms, .. } = layer;
    if layer.is_slower_than_dense() {
        return format!(
            "{name} is slower than dense here: its sparse products take {sparse_ms:.3} ms a step, dense ones {dense_ms:.3} ms; \
             choose higher sparsity.forward and sparsity.backward, or add \"{name}\" to sparsity.keep_dense"
        );
    }
    format!(
        "{name} computes with dense products: {dense_ms:.3} ms a step, sparse ones {sparse_ms:.3} ms; this takes two \
         arrays of the dense weight's size"
    )
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:30} step {pos}/{len}  {msg}  {eta} left").expect("a constant template")
}
