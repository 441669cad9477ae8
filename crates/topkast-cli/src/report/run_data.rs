//! What a run directory tells.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use topkast_train::{Config, Metric, RunDir, Summary, TrainError, read_metrics};

use crate::failure::Failure;

/// A run's files. One that has not finished has no summary.
pub(super) struct RunData {
    /// As it was named.
    pub(super) path: PathBuf,
    pub(super) config: Config,
    pub(super) summary: Option<Summary>,
    records: Vec<Map<String, Value>>,
}

/// Numbers beyond are as little use in a chart as infinity.
const LARGEST: f64 = 1e30;

impl RunData {
    /// Reads the run in the directory `path`.
    ///
    /// # Errors
    /// If there is none, or one of its files is broken.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let dir = RunDir::open(path)?;
        let config = Config::load(Some(&dir.config()), &[]).map_err(TrainError::from)?;
        let broken = |file: &Path, error: &dyn std::fmt::Display| {
            let (file, run) = (file.display(), path.display());
            Failure::BadInput(format!("{file}: {error}; topkast train --resume {run} may mend it"))
        };
        let metrics = dir.metrics();
        let records = read_metrics(&metrics).map_err(|error| broken(&metrics, &error))?;
        let file = dir.summary();
        let summary = match file.exists() {
            true => {
                let text = fs::read_to_string(&file).map_err(|error| broken(&file, &error))?;
                Some(serde_json::from_str(&text).map_err(|error| broken(&file, &error))?)
            }
            false => None,
        };
        Ok(Self { path: path.to_owned(), config, summary, records })
    }

    /// The logged values of `y` against those of `x`, where both are numbers.
    pub(super) fn series(&self, x: &str, y: &str) -> Vec<(f64, f64)> {
        let number = |record: &Map<String, Value>, name: &str| {
            record.get(name)?.as_f64().filter(|value| value.abs() < LARGEST)
        };
        self.records.iter().filter_map(|record| Some((number(record, x)?, number(record, y)?))).collect()
    }

    /// The last value logged as `name`.
    pub(super) fn last(&self, name: &str) -> Option<f64> {
        self.series("step", name).last().map(|&(_, value)| value)
    }

    /// What its epochs are scored on.
    pub(super) fn scored_on(&self) -> &'static str {
        // Texts have a part of their own to choose settings by.
        let validates = self.config.data.validation > 0.0 || self.config.data.kind.images().is_none();
        if validates { "validation" } else { "test" }
    }

    /// What it is judged by.
    pub(super) fn metric(&self) -> Metric {
        self.config.data.kind.metric()
    }

    /// As what its scores in the course of training are logged.
    pub(super) fn score_name(&self) -> String {
        format!("{}_{}", self.scored_on(), self.metric().name())
    }

    /// The score it came to, on what it is scored on in the course of training.
    pub(super) fn score(&self) -> Option<f64> {
        let told = self.summary.as_ref().and_then(|summary| match self.metric() {
            Metric::Accuracy => summary.validation_accuracy.or(summary.test_accuracy),
            Metric::BitsPerCharacter => summary.validation_bpc.or(summary.test_bpc),
            Metric::Perplexity => summary.validation_perplexity.or(summary.test_perplexity),
        });
        told.or_else(|| self.last(&self.score_name()))
    }

    /// Steps made, as far as they were logged.
    pub(super) fn steps(&self) -> u64 {
        let logged = self.records.iter().filter_map(|record| record.get("step")?.as_u64()).max();
        self.summary.as_ref().map(|summary| summary.steps).or(logged).unwrap_or(0)
    }
}
