//! What the finished runs of a sweep came to, by cell.

use std::path::PathBuf;

use topkast_train::Summary;

use super::plan::{Plan, State};
use super::statistics::Sample;
use super::sweep::Cell;
use crate::failure::Failure;

/// A finished run.
pub(super) struct Finished {
    pub(super) seed: u64,
    /// Its directory.
    pub(super) path: PathBuf,
    pub(super) summary: Summary,
    /// In per cent.
    pub(super) accuracy: f64,
}

/// All that is known of a cell.
pub(super) struct CellResults {
    pub(super) cell: Cell,
    /// Those of its runs that are done, in the order of the sweep's seeds.
    pub(super) runs: Vec<Finished>,
    /// Their accuracies in per cent.
    pub(super) accuracy: Sample,
}

/// Reads what is there. This is where all finished runs and their directories are known.
pub(super) fn collect(plan: &Plan) -> Result<Vec<CellResults>, Failure> {
    let mut runs: Vec<Vec<Finished>> = plan.cells.iter().map(|_| Vec::new()).collect();
    for run in &plan.runs {
        if let State::Done(summary) = run.state()?
            && let Some(accuracy) = accuracy(&summary, plan.validation)
        {
            let (accuracy, path) = (accuracy * 100.0, run.path.clone());
            runs[run.cell].push(Finished { seed: run.seed, path, summary: *summary, accuracy });
        }
    }
    let results = plan.cells.iter().zip(runs).map(|(&cell, runs)| {
        let accuracy = Sample(runs.iter().map(|run| run.accuracy).collect());
        CellResults { cell, accuracy, runs }
    });
    Ok(results.collect())
}

/// The accuracy that methods are compared by, as a fraction.
pub(super) fn accuracy(summary: &Summary, validation: bool) -> Option<f64> {
    if validation { summary.validation_accuracy } else { Some(summary.test_accuracy) }
}

impl CellResults {
    /// The accuracy with this seed.
    pub(super) fn of_seed(&self, seed: u64) -> Option<f64> {
        self.runs.iter().find(|run| run.seed == seed).map(|run| run.accuracy)
    }

    /// The middle of the runs' `value`, of those that have one.
    pub(super) fn median(&self, value: impl Fn(&Summary) -> Option<f64>) -> Option<f64> {
        let mut values: Vec<f64> = self.runs.iter().filter_map(|run| value(&run.summary)).collect();
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        Some((values[last / 2] + values[last.div_ceil(2)]) / 2.0)
    }

    /// Of a step; none was timed where a run was resumed after its last.
    pub(super) fn step_ms(&self) -> Option<f64> {
        self.median(|summary| Some(summary.step_ms_median).filter(|&ms| ms > 0.0))
    }

    pub(super) fn training_bytes(&self) -> Option<f64> {
        self.median(|summary| Some(summary.training_bytes as f64))
    }

    pub(super) fn peak_rss_bytes(&self) -> Option<f64> {
        self.median(|summary| summary.peak_rss_bytes.map(|bytes| bytes as f64))
    }

    pub(super) fn flops_ratio(&self) -> Option<f64> {
        self.median(|summary| Some(summary.train_flops_ratio))
    }

    /// Of all its runs together.
    pub(super) fn seconds(&self) -> f64 {
        self.runs.iter().map(|run| run.summary.seconds).sum()
    }
}
