//! What a user is told while a sweep is worked on: a line on stderr for each run.

use std::time::Duration;

use topkast_train::{Metric, Summary};

use super::plan::{Plan, Run};
use super::results::score;
use super::tables::shown;
use crate::failure::say;

pub(super) struct Progress {
    quiet: bool,
    metric: Metric,
    validation: bool,
    total: usize,
    ended: usize,
    jobs: usize,
    /// Those that are yet to be made, by cell.
    left: Vec<usize>,
    /// Seconds and number of the runs of each cell that are done.
    spent: Vec<(f64, usize)>,
}

impl Progress {
    pub(super) fn new(plan: &Plan, jobs: usize, quiet: bool) -> Self {
        let mut left = vec![0; plan.cells.len()];
        plan.runs.iter().for_each(|run| left[run.cell] += 1);
        let (total, spent) = (plan.runs.len(), vec![(0.0, 0); left.len()]);
        Self { quiet, metric: plan.metric, validation: plan.validation, total, ended: 0, jobs, left, spent }
    }

    /// A run that an earlier call has made.
    pub(super) fn was_done(&mut self, run: &Run, summary: &Summary) {
        self.ends(run);
        self.add(run, summary.seconds);
    }

    pub(super) fn begin(&self, waiting: usize) {
        let left = self.time_left().map(|time| format!(", {time}")).unwrap_or_default();
        self.line(&format!("{waiting} of {} runs to make{left}", self.total));
    }

    pub(super) fn done(&mut self, run: &Run, summary: &Summary, took: Duration) {
        self.ends(run);
        self.add(run, took.as_secs_f64());
        let unit = if self.metric == Metric::Accuracy { "%" } else { "" };
        let score = score(summary, self.metric, self.validation);
        let score = score.map_or("no score".to_owned(), |score| shown(self.metric, score) + unit);
        let left = self.time_left().map(|time| format!("; {time}")).unwrap_or_default();
        self.tell(run, &format!("{score} in {:.1} s{left}", took.as_secs_f64()));
    }

    pub(super) fn finished_elsewhere(&mut self, run: &Run) {
        self.ends(run);
        self.tell(run, "done by another process");
    }

    /// Told even those who asked for quiet: the table will not show why it is not whole.
    pub(super) fn failed(&mut self, run: &Run, reason: &str) {
        self.ends(run);
        say(format_args!("[{}/{}] {}: failed: {reason}", self.ended, self.total, run.name));
    }

    /// Nothing else is left to do but `run`, which is not ours now.
    pub(super) fn waits(&self, run: &Run) {
        self.line(&format!("waiting for another process that trains in {}", run.path.display()));
    }

    fn ends(&mut self, run: &Run) {
        self.ended += 1;
        self.left[run.cell] -= 1;
    }

    fn add(&mut self, run: &Run, seconds: f64) {
        let (sum, count) = &mut self.spent[run.cell];
        *sum += seconds;
        *count += 1;
    }

    /// By what runs of the same cell took, or of all cells.
    fn time_left(&self) -> Option<String> {
        let (sum, count) = self.spent.iter().fold((0.0, 0), |all, cell| (all.0 + cell.0, all.1 + cell.1));
        if count == 0 || self.ended == self.total {
            return None;
        }
        let mean = |&(own, n): &(f64, usize)| if n > 0 { own / n as f64 } else { sum / count as f64 };
        let seconds: f64 =
            self.left.iter().zip(&self.spent).map(|(&left, cell)| left as f64 * mean(cell)).sum();
        Some(format!("about {} left", duration(seconds / self.jobs as f64)))
    }

    fn tell(&self, run: &Run, what: &str) {
        self.line(&format!("[{}/{}] {}: {what}", self.ended, self.total, run.name));
    }

    fn line(&self, line: &str) {
        if !self.quiet {
            say(line);
        }
    }
}

/// A time as one reads it.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        ..100.0 => format!("{seconds:.0} s"),
        ..6000.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (seconds, shown) in [(0.4, "0 s"), (99.0, "99 s"), (120.0, "2 min"), (9000.0, "2.5 h")] {
            assert_eq!(duration(seconds), shown);
        }
    }
}
