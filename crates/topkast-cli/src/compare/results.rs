//! What the finished runs of a sweep came to, by cell.

use std::path::PathBuf;

use topkast_train::{Metric, Summary};

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
    /// See [`score`].
    pub(super) score: f64,
}

/// All that is known of a cell.
pub(super) struct CellResults {
    pub(super) cell: Cell,
    /// Those of its runs that are done, in the order of the sweep's seeds.
    pub(super) runs: Vec<Finished>,
    /// Their scores.
    pub(super) scores: Sample,
}

/// Reads what is there. This is where all finished runs and their directories are known.
pub(super) fn collect(plan: &Plan) -> Result<Vec<CellResults>, Failure> {
    let mut runs: Vec<Vec<Finished>> = plan.cells.iter().map(|_| Vec::new()).collect();
    for run in &plan.runs {
        if let State::Done(summary) = run.state()?
            && let Some(score) = score(&summary, plan.metric, plan.validation)
        {
            let path = run.path.clone();
            runs[run.cell].push(Finished { seed: run.seed, path, summary: *summary, score });
        }
    }
    let results = plan.cells.iter().zip(runs).map(|(&cell, runs)| {
        let scores = Sample(runs.iter().map(|run| run.score).collect());
        CellResults { cell, scores, runs }
    });
    Ok(results.collect())
}

/// What methods are compared by: accuracies are in per cent.
pub(super) fn score(summary: &Summary, metric: Metric, validation: bool) -> Option<f64> {
    let percent = |accuracy| accuracy * 100.0;
    match metric {
        Metric::Accuracy if validation => summary.validation_accuracy.map(percent),
        Metric::Accuracy => summary.test_accuracy.map(percent),
        Metric::BitsPerCharacter => summary.test_bpc,
        Metric::Perplexity => summary.test_perplexity,
    }
}

impl CellResults {
    /// The score with this seed.
    pub(super) fn of_seed(&self, seed: u64) -> Option<f64> {
        self.runs.iter().find(|run| run.seed == seed).map(|run| run.score)
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
