//! The configuration of a run: TOML with defaults, overrides, and checks that name what is wrong and what is allowed.

mod data;
mod difference;
mod erk;
mod global;
mod kinds;
mod model;
mod plan;
mod resnet;
mod sections;
mod updates;

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use toml::{Table, Value};

use crate::message::one_line;

pub use data::*;
pub use difference::Difference;
pub use kinds::*;
pub use model::*;
pub use resnet::*;
pub use sections::*;

/// Everything that decides a run. The default is the built-in recipe on the data in the repository.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Decides every random draw.
    pub seed: u64,
    /// What is learnt from.
    pub data: DataConfig,
    /// The network.
    pub model: ModelConfig,
    /// What is sparse, and how.
    pub sparsity: SparsityConfig,
    /// How weights are updated.
    pub optimizer: OptimizerConfig,
    /// How long, and with which batches.
    pub train: TrainConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 1,
            data: DataConfig::default(),
            model: ModelConfig::default(),
            sparsity: SparsityConfig::default(),
            optimizer: OptimizerConfig::default(),
            train: TrainConfig::default(),
        }
    }
}

/// What is wrong with a configuration.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum ConfigError {
    #[error("cannot read the config {path}: {source}")]
    Read { path: String, source: std::io::Error },
    #[error("{origin}: {message}")]
    Syntax { origin: String, message: String },
    #[error("--set {argument}: write it as key.path=value, for example --set sparsity.forward=0.95")]
    Override { argument: String },
    #[error("{key} = {value}: {allowed}")]
    Value { key: String, value: String, allowed: String },
}

impl ConfigError {
    pub(crate) fn value(key: &str, value: impl std::fmt::Display, allowed: impl std::fmt::Display) -> Self {
        Self::Value { key: key.to_owned(), value: value.to_string(), allowed: allowed.to_string() }
    }
}

impl Config {
    /// The config in the file at `path`, or the built-in one, with `overrides` of the form `a.b=value` applied, checked.
    ///
    /// # Errors
    /// If the file cannot be read or parsed, an override is malformed, a key is unknown or a value not allowed.
    pub fn load(path: Option<&Path>, overrides: &[String]) -> Result<Self, ConfigError> {
        let mut table = Table::new();
        if let Some(path) = path {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Read { path: name.clone(), source })?;
            // Parsed as a whole first: only that way errors name a line.
            parse::<Self>(&text, &name)?;
            table = text.parse().map_err(|error| syntax(&text, &name, &error))?;
        }
        for argument in overrides {
            apply_override(&mut table, argument)?;
            table
                .clone()
                .try_into::<Self>()
                .map_err(|error| syntax("", &format!("--set {argument}"), &error))?;
        }
        let config: Self = table.try_into().map_err(|error: toml::de::Error| syntax("", "config", &error))?;
        config.check()?;
        Ok(config)
    }

    /// The config of a run directory or checkpoint, written in `text`, checked.
    ///
    /// # Errors
    /// If it does not parse or a value is not allowed.
    pub fn from_text(text: &str, origin: &str) -> Result<Self, ConfigError> {
        let config: Self = parse(text, origin)?;
        config.check()?;
        Ok(config)
    }

    /// The config as TOML, with every default written out.
    pub fn to_text(&self) -> String {
        toml::to_string(self).expect("a config is valid TOML")
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.data.check(&self.model)?;
        self.model.check()?;
        self.sparsity.check()?;
        self.optimizer.check()?;
        self.train.check()?;
        if self.train.label_smoothing > 0.0 && !self.model.knows_all_probabilities() {
            let allowed = "must be 0 with model.adaptive_cutoffs, whose loss does not know the probabilities of all tokens";
            return Err(ConfigError::value("train.label_smoothing", self.train.label_smoothing, allowed));
        }
        self.check_weights()
    }

    /// Whether the reservoir can hold the weights that the network starts from.
    fn check_weights(&self) -> Result<(), ConfigError> {
        let (given, topkast) = (!self.model.weights().is_empty(), self.sparsity.method == Method::TopKast);
        let refused = |value, allowed| Err(ConfigError::value("sparsity.reservoir", value, allowed));
        match self.sparsity.reservoir {
            ReservoirKind::Implicit if given && topkast => refused(
                "implicit",
                "cannot hold the weights of model.weights; use dense (in memory) or mmap (in their file)",
            ),
            ReservoirKind::Mmap if !given => refused(
                "mmap",
                "leaves weights in the file of model.weights: name one, or use implicit or dense",
            ),
            _ => Ok(()),
        }
    }
}

/// What is written in the TOML `text`; `origin` names it in errors. Values are checked for their type only.
///
/// # Errors
/// If it does not parse as a `T`: one line that says where and why.
pub fn parse<T: DeserializeOwned>(text: &str, origin: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| syntax(text, origin, &error))
}

/// One line that says where and what.
fn syntax(text: &str, origin: &str, error: &toml::de::Error) -> ConfigError {
    let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let message = one_line(&error.message());
    let message = match line {
        Some(line) if !text.is_empty() => format!("line {line}: {message}"),
        _ => message,
    };
    ConfigError::Syntax { origin: origin.to_owned(), message }
}

fn apply_override(table: &mut Table, argument: &str) -> Result<(), ConfigError> {
    let malformed = || ConfigError::Override { argument: argument.to_owned() };
    let (path, value) = argument.split_once('=').ok_or_else(malformed)?;
    let mut keys: Vec<&str> = path.trim().split('.').collect();
    let last = keys.pop().filter(|key| !key.is_empty()).ok_or_else(malformed)?;
    let mut inner = table;
    for key in keys {
        let slot = inner.entry(key).or_insert_with(|| Value::Table(Table::new()));
        inner = slot.as_table_mut().ok_or_else(malformed)?;
    }
    inner.insert(last.to_owned(), parse_value(value.trim()));
    Ok(())
}

/// A TOML value, or, so that names need no quotes in a shell, a string.
fn parse_value(text: &str) -> Value {
    let parsed = format!("value = {text}").parse::<Table>().ok();
    parsed.and_then(|mut table| table.remove("value")).unwrap_or_else(|| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests;
