//! `[data]`

use std::fmt;
use std::path::Path;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::sections::below_one;
use super::{ConfigError, ModelConfig};
use crate::{Metric, TrainError, data, text};

/// `[data]`
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Which data.
    pub kind: DataKind,
    /// The folder that holds it; of a text in bytes also the file.
    pub path: String,
    /// Fraction of the training images, taken from their end, that is held out to choose settings by; scored as
    /// `validation_accuracy`. 0 trains on everything. Texts have a part of their own for that.
    pub validation: f64,
}

/// A kind of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataKind {
    /// Images by class.
    Images(data::Kind),
    /// A text, of which each token is to be predicted from those before it.
    Text(text::Kind),
}

impl Default for DataConfig {
    fn default() -> Self {
        let kind = DataKind::Images(data::Kind::FashionMnist);
        Self { kind, path: "data/fashion-mnist".to_owned(), validation: 0.0 }
    }
}

impl DataConfig {
    pub(super) fn check(&self, model: &ModelConfig) -> Result<(), ConfigError> {
        below_one("data.validation", self.validation)?;
        match (self.kind, model) {
            (DataKind::Images(_), ModelConfig::Mlp(_))
            | (DataKind::Text(_), ModelConfig::TransformerXl(_)) => {}
            (DataKind::Images(_), _) => {
                let allowed = "is of images, which take model.kind = \"mlp\"; a text is bytes or words";
                return Err(ConfigError::value("data.kind", self.kind, allowed));
            }
            (DataKind::Text(_), _) => {
                let allowed = "is a text, which takes model.kind = \"transformer-xl\"";
                return Err(ConfigError::value("data.kind", self.kind, allowed));
            }
        }
        if matches!(self.kind, DataKind::Text(_)) && self.validation > 0.0 {
            let allowed = "must be 0 for a text, which has a part to choose settings by";
            return Err(ConfigError::value("data.validation", self.validation, allowed));
        }
        Ok(())
    }
}

impl DataConfig {
    /// Input features of a position, and classes or different tokens, of the data, which are read for that.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn sizes(&self) -> Result<(usize, usize), TrainError> {
        let path = Path::new(&self.path);
        Ok(match self.kind {
            DataKind::Images(kind) => {
                let train = data::load(kind, path)?.train;
                (train.features(), train.classes())
            }
            DataKind::Text(kind) => (1, text::read(kind, path)?.vocabulary.len()),
        })
    }
}

impl DataKind {
    /// Which images, if images.
    pub fn images(self) -> Option<data::Kind> {
        match self {
            Self::Images(kind) => Some(kind),
            Self::Text(_) => None,
        }
    }

    /// What networks are judged by.
    pub fn metric(self) -> Metric {
        match self {
            Self::Images(_) => Metric::Accuracy,
            Self::Text(text::Kind::Bytes) => Metric::BitsPerCharacter,
            Self::Text(text::Kind::Words) => Metric::Perplexity,
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        data::Kind::ALL.map(Self::Images).into_iter().chain(text::Kind::ALL.map(Self::Text))
    }
}

impl fmt::Display for DataKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Images(kind) => kind.fmt(f),
            Self::Text(kind) => kind.fmt(f),
        }
    }
}

impl Serialize for DataKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DataKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::all().find(|kind| kind.to_string() == name).ok_or_else(|| {
            let names: Vec<String> = Self::all().map(|kind| format!("`{kind}`")).collect();
            D::Error::custom(format!("unknown variant `{name}`, expected one of {}", names.join(", ")))
        })
    }
}
