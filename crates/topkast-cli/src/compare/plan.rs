//! From a sweep to its runs: a config and a directory each, all checked before the first one starts.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use topkast_train::config::{ConfigError, DataKind, Method};
use topkast_train::{Config, Metric, RunDir, Summary, TrainError};

use super::claims::{Comparison, comparisons};
use super::sweep::{Cell, Sweep};
use crate::failure::Failure;

/// All runs of a sweep.
pub(super) struct Plan {
    pub(super) sweep: Sweep,
    pub(super) cells: Vec<Cell>,
    /// With all cells of a seed next to each other, so that there soon is a full table, of one seed.
    pub(super) runs: Vec<Run>,
    /// What runs are compared by.
    pub(super) metric: Metric,
    /// Whether accuracies are of held-out training data rather than of the test data.
    pub(super) validation: bool,
    /// What each claim compares.
    pub(super) comparisons: Vec<Vec<Comparison>>,
    /// The cell of a dense network, if there is one.
    pub(super) dense: Option<usize>,
    /// Holds the runs' directories, and the tables.
    pub(super) out: PathBuf,
}

/// A cell with a seed.
pub(super) struct Run {
    /// Its number.
    pub(super) cell: usize,
    pub(super) seed: u64,
    pub(super) path: PathBuf,
    /// What decides it, in one piece.
    config: Config,
    /// The same as `train` takes it: after the base config.
    pub(super) settings: Vec<String>,
    /// As the user is told of it.
    pub(super) name: String,
}

/// How far a run is.
pub(super) enum State {
    New,
    /// It has a config, and maybe a checkpoint to go on from.
    Begun,
    Done(Box<Summary>),
}

impl Plan {
    /// The runs of `sweep` in directories under `out`.
    pub(super) fn new(sweep: Sweep, out: PathBuf) -> Result<Self, Failure> {
        let cells = sweep.cells();
        let folders = folders(&sweep, &cells)?;
        let base = sweep.base_config();
        let mut runs = Vec::with_capacity(cells.len() * sweep.seeds.len());
        for &seed in &sweep.seeds {
            for (number, &cell) in cells.iter().enumerate() {
                let settings = sweep.settings(cell);
                let name = format!("{}, seed {seed}", sweep.cell_name(cell));
                let told = |error: ConfigError| {
                    Failure::BadInput(format!("{}: {name}: {error}", sweep.file.display()))
                };
                let mut overrides = settings.clone();
                overrides.push(format!("seed={seed}"));
                let config = Config::load(base.as_deref(), &overrides).map_err(told)?;
                let path = out.join(&folders[number]).join(format!("seed-{seed}"));
                runs.push(Run { cell: number, seed, path, config, settings, name });
            }
        }
        let metric = runs.first().map_or(Metric::Accuracy, |run| run.config.data.kind.metric());
        let validation = runs.first().is_some_and(|run| run.config.data.validation > 0.0);
        let comparisons = comparisons(&sweep, &cells)?;
        let dense = runs.iter().find(|run| run.config.sparsity.method == Method::Dense).map(|run| run.cell);
        let plan = Self { sweep, cells, runs, metric, validation, comparisons, dense, out };
        plan.check()?;
        Ok(plan)
    }

    fn check(&self) -> Result<(), Failure> {
        let mut sizes: HashMap<(DataKind, &str), ([usize; 3], usize)> = HashMap::new();
        for run in &self.runs {
            let data = &run.config.data;
            if (data.validation > 0.0) != self.validation {
                let allowed =
                    "must be 0 for all runs or for none: validation and test accuracies do not compare";
                return Err(self.sweep.refused("data.validation", data.validation, allowed));
            }
            if data.kind.metric() != self.metric {
                let allowed = "must be judged alike for all runs: images by accuracy, bytes by bits per character, words by perplexity";
                return Err(self.sweep.refused("data.kind", data.kind, allowed));
            }
            let key = (data.kind, data.path.as_str());
            let (input, classes) = match sizes.get(&key) {
                Some(&size) => size,
                None => *sizes.entry(key).or_insert(data.sizes()?),
            };
            run.config.plans(&run.config.shape(input, classes)).map_err(|error| {
                Failure::BadInput(format!("{}: {}: {error}", self.sweep.file.display(), run.name))
            })?;
            run.state()?;
        }
        Ok(())
    }
}

impl Run {
    /// How far it is, by what is in its directory.
    ///
    /// # Errors
    /// If that is of another run.
    pub(super) fn state(&self) -> Result<State, Failure> {
        let dir = match RunDir::create(&self.path) {
            Ok(_) => return Ok(State::New),
            Err(_) => RunDir::open(&self.path)?,
        };
        let path = dir.config();
        let origin = path.display().to_string();
        let text = fs::read_to_string(&path)
            .map_err(|source| TrainError::from(ConfigError::Read { path: origin.clone(), source }))?;
        let theirs = Config::from_text(&text, &origin).map_err(TrainError::from)?;
        if let Some(difference) = theirs.difference(&self.config) {
            let shown = self.path.display();
            return Err(Failure::BadInput(format!(
                "{shown} holds another run: {difference}; remove it, or choose another --out"
            )));
        }
        let summary =
            fs::read_to_string(dir.summary()).ok().and_then(|text| serde_json::from_str(&text).ok());
        Ok(summary.map_or(State::Begun, State::Done))
    }
}

/// A directory's name for each cell: METHOD@LEVEL.
fn folders(sweep: &Sweep, cells: &[Cell]) -> Result<Vec<String>, Failure> {
    let mut taken: HashMap<String, String> = HashMap::new();
    let mut folders = Vec::with_capacity(cells.len());
    for &cell in cells {
        let name = sweep.cell_name(cell);
        let folder = safe(&name.replace(" @ ", "@"));
        // Some file systems do not tell upper from lower case.
        if let Some(other) = taken.insert(folder.to_lowercase(), name.clone()) {
            let allowed = format!("would have the directory {folder} like {other}; rename one of them");
            return Err(sweep.refused("name", name, &allowed));
        }
        folders.push(folder);
    }
    Ok(folders)
}

/// `name` as a directory's name on any file system.
fn safe(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '=' | '@');
    let name: String = name.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
    // Neither hidden nor a way up.
    name.strip_prefix('.').map(|rest| format!("-{rest}")).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_for_file_systems() {
        for (name, folder) in [
            ("top-kast@90/80", "top-kast@90-80"),
            ("A = B", "A-=-B"),
            ("..", "-."),
            ("../../etc", "-.-..-etc"),
            ("λ\\:*?", "-----"),
        ] {
            assert_eq!(safe(name), folder);
        }
    }
}
