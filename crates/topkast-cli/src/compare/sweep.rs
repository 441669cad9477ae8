//! A sweep file: which methods are compared at which levels of sparsity, with which seeds, and what is claimed of them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use topkast_train::TrainError;
use topkast_train::config::parse;

use crate::failure::Failure;

/// More runs than anyone waits for; a sweep of more is a slip.
const MOST_RUNS: usize = 10_000;

/// What the file says, checked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sweep {
    /// The file.
    #[serde(skip)]
    pub(super) file: PathBuf,
    /// Its name without the extension.
    #[serde(skip)]
    pub(super) name: String,
    /// Above the tables.
    pub(super) title: String,
    /// Under the title.
    pub(super) about: Option<String>,
    /// The config that every run starts from, relative to the sweep file; none is the built-in recipe.
    config: Option<PathBuf>,
    /// Applied to every run, as by `train --set`; then those of the level, then those of the method.
    #[serde(default)]
    pub(super) set: Vec<String>,
    /// Every cell is run once with each.
    pub(super) seeds: Vec<u64>,
    /// Columns.
    #[serde(default, rename = "level")]
    pub(super) levels: Vec<Level>,
    /// Rows.
    #[serde(rename = "method")]
    pub(super) methods: Vec<Method>,
    /// Orderings to examine.
    #[serde(default, rename = "claim")]
    pub(super) claims: Vec<Claim>,
}

/// A sparsity.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Level {
    pub(super) name: String,
    pub(super) set: Vec<String>,
}

/// What is compared.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Method {
    pub(super) name: String,
    pub(super) set: Vec<String>,
    /// Only these levels; an empty list runs once without any. All, where nothing is said.
    levels: Option<Vec<String>>,
    /// A note under the table.
    pub(super) about: Option<String>,
}

/// An ordering to examine.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Claim {
    pub(super) text: String,
    pub(super) source: Option<String>,
    /// A method, or `method @ level`.
    pub(super) better: String,
    /// Likewise.
    pub(super) worse: String,
    /// Where; all that both have, where nothing is said.
    pub(super) levels: Option<Vec<String>>,
    #[serde(default)]
    pub(super) kind: ClaimKind,
}

/// What is claimed of the two.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ClaimKind {
    #[default]
    Better,
    Equal,
}

/// A method at a level, or at none, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cell {
    pub(super) method: usize,
    pub(super) level: Option<usize>,
}

impl Sweep {
    /// Reads the sweep in `file`.
    pub(super) fn read(file: &Path) -> Result<Self, Failure> {
        let shown = file.display();
        let text = std::fs::read_to_string(file)
            .map_err(|error| Failure::BadInput(format!("cannot read the sweep {shown}: {error}")))?;
        let mut sweep: Self = parse(&text, &shown.to_string()).map_err(TrainError::from)?;
        sweep.file = file.to_owned();
        sweep.name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        sweep.check()?;
        Ok(sweep)
    }

    /// Every method at every level it has, in their order.
    pub(super) fn cells(&self) -> Vec<Cell> {
        (0..self.methods.len())
            .flat_map(|method| self.levels_of(method).into_iter().map(move |level| Cell { method, level }))
            .collect()
    }

    /// The levels of a method; `None` among them is a run without any.
    pub(super) fn levels_of(&self, method: usize) -> Vec<Option<usize>> {
        let named = |name: &String| self.level(name);
        match &self.methods[method].levels {
            Some(names) if names.is_empty() => vec![None],
            Some(names) => {
                let mut numbers: Vec<Option<usize>> = names.iter().map(named).collect();
                numbers.sort_unstable();
                numbers
            }
            None if self.levels.is_empty() => vec![None],
            None => (0..self.levels.len()).map(Some).collect(),
        }
    }

    pub(super) fn level(&self, name: &str) -> Option<usize> {
        self.levels.iter().position(|level| level.name == name)
    }

    /// As a claim names it, and as a reader is told.
    pub(super) fn cell_name(&self, cell: Cell) -> String {
        let method = &self.methods[cell.method].name;
        cell.level.map_or_else(|| method.clone(), |level| format!("{method} @ {}", self.levels[level].name))
    }

    /// The config every run starts from, where `train` finds it.
    pub(super) fn base_config(&self) -> Option<PathBuf> {
        self.config.as_ref().map(|config| self.file.parent().unwrap_or(Path::new("")).join(config))
    }

    /// The cell's settings, in the order in which they are applied: the last counts.
    pub(super) fn settings(&self, cell: Cell) -> Vec<String> {
        let level = cell.level.map_or(&[][..], |level| &self.levels[level].set);
        [&self.set, level, &self.methods[cell.method].set].concat()
    }

    /// What is wrong with a value, and what is allowed.
    pub(super) fn refused(&self, key: &str, value: impl std::fmt::Display, allowed: &str) -> Failure {
        Failure::BadInput(format!("{}: {key} = {value}: {allowed}", self.file.display()))
    }

    fn check(&self) -> Result<(), Failure> {
        if self.title.trim().is_empty() || self.title.contains('\n') {
            return Err(self.refused("title", format!("{:?}", self.title), "must be one line, not empty"));
        }
        if self.seeds.is_empty() {
            return Err(self.refused("seeds", "[]", "must name at least one, for example [1, 2, 3]"));
        }
        self.unique("seeds", self.seeds.iter().map(u64::to_string))?;
        self.names("level.name", self.levels.iter().map(|level| &level.name))?;
        self.names("method.name", self.methods.iter().map(|method| &method.name))?;
        for method in &self.methods {
            let key = format!("levels of method {:?}", method.name);
            let levels = method.levels.as_deref().unwrap_or_default();
            self.known_levels(&key, levels)?;
            self.unique(&key, levels.iter().cloned())?;
        }
        let sets =
            self.levels.iter().map(|level| &level.set).chain(self.methods.iter().map(|method| &method.set));
        for setting in sets.chain([&self.set]).flatten() {
            self.is_free(setting)?;
        }
        // Bounded before the cells are listed.
        let most =
            self.methods.len().saturating_mul(self.levels.len().max(1)).saturating_mul(self.seeds.len());
        if most > MOST_RUNS {
            let what = "methods × levels × seeds";
            return Err(self.refused(what, most, &format!("must be at most {MOST_RUNS} runs")));
        }
        Ok(())
    }

    /// Names of rows or columns: what claims and directories can do with.
    fn names<'a>(&self, key: &str, names: impl Iterator<Item = &'a String> + Clone) -> Result<(), Failure> {
        for name in names.clone() {
            if name.trim() != name || name.is_empty() || name.contains(['@', '|', '\n']) {
                let allowed = "must not be empty, begin or end with a space, nor contain @, | or a new line";
                return Err(self.refused(key, format!("{name:?}"), allowed));
            }
        }
        self.unique(key, names.cloned())
    }

    fn unique(&self, key: &str, values: impl Iterator<Item = String>) -> Result<(), Failure> {
        let mut seen = HashSet::new();
        for value in values {
            if let Some(twice) = seen.replace(value) {
                return Err(self.refused(key, twice, "is there twice; each may be there once"));
            }
        }
        Ok(())
    }

    pub(super) fn known_levels(&self, key: &str, names: &[String]) -> Result<(), Failure> {
        let known = self.levels.iter().map(|level| level.name.as_str()).collect::<Vec<_>>().join(", ");
        match names.iter().find(|name| self.level(name).is_none()) {
            Some(name) if known.is_empty() => {
                Err(self.refused(key, name, "is no level: the sweep has none; add [[level]]"))
            }
            Some(name) => Err(self.refused(key, name, &format!("is no level; there are {known}"))),
            None => Ok(()),
        }
    }

    /// Whether a setting is for the file to decide.
    fn is_free(&self, setting: &str) -> Result<(), Failure> {
        let instead = match setting.split('=').next().unwrap_or_default().trim() {
            "seed" => "each run has its own seed; list them in seeds",
            "train.threads" => "results do not depend on it; use compare --threads",
            _ => return Ok(()),
        };
        Err(self.refused("set", format!("{setting:?}"), instead))
    }
}
