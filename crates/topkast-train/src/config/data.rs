//! `[data]`

use std::fmt;
use std::path::Path;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::sections::{below_one, within};
use super::{Config, ConfigError, ModelConfig};
use crate::data::{Augment, ImageShape, Layout};
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
    /// How training images in memory are changed at random. Those of folders are always cropped, scaled and mirrored.
    pub augment: Augment,
    /// Height and width to which images of a folder are scaled.
    pub size: usize,
    /// Threads that decode images of a folder ahead of the steps; 0 takes as many as there are cores. Results do not depend on it.
    pub workers: usize,
    /// Broken images of a folder that are put up with: replaced by the next in training, left out in evaluation.
    pub broken_limit: usize,
}

/// A kind of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataKind {
    /// Images by class.
    Images(data::Kind),
    /// Images by class, in a folder in ImageNet's layout.
    ImageFolder,
    /// A text, of which each token is to be predicted from those before it.
    Text(text::Kind),
}

impl Default for DataConfig {
    fn default() -> Self {
        let kind = DataKind::Images(data::Kind::FashionMnist);
        Self {
            kind,
            path: "data/fashion-mnist".to_owned(),
            validation: 0.0,
            augment: Augment::None,
            size: 224,
            workers: 0,
            broken_limit: 100,
        }
    }
}

impl DataConfig {
    pub(super) fn check(&self, model: &ModelConfig) -> Result<(), ConfigError> {
        below_one("data.validation", self.validation)?;
        match (self.kind, model) {
            (DataKind::Images(_) | DataKind::ImageFolder, ModelConfig::Mlp(_) | ModelConfig::Resnet(_))
            | (DataKind::Text(_), ModelConfig::TransformerXl(_)) => {}
            (DataKind::Images(_) | DataKind::ImageFolder, _) => {
                let allowed =
                    "is of images, which take model.kind = \"mlp\" or \"resnet\"; a text is bytes or words";
                return Err(ConfigError::value("data.kind", self.kind, allowed));
            }
            (DataKind::Text(_), _) => {
                let allowed = "is a text, which takes model.kind = \"transformer-xl\"";
                return Err(ConfigError::value("data.kind", self.kind, allowed));
            }
        }
        if self.validation > 0.0 && !matches!(self.kind, DataKind::Images(_)) {
            let allowed =
                "must be 0 for a text, which has a part to choose settings by, and for image-folder";
            return Err(ConfigError::value("data.validation", self.validation, allowed));
        }
        if self.augment != Augment::None && !matches!(self.kind, DataKind::Images(_)) {
            let allowed = "must be none for a text, and for image-folder, whose images are always cropped, scaled and mirrored at random";
            return Err(ConfigError::value("data.augment", "crop-flip", allowed));
        }
        within("data.size", self.size, 1, data::SIZE_LIMIT)?;
        within("data.workers", self.workers, 0, 4096)
    }
}

impl Config {
    /// How the network reads images.
    pub fn layout(&self) -> Layout {
        match self.model {
            ModelConfig::Resnet(_) => Layout::Maps,
            ModelConfig::Mlp(_) | ModelConfig::TransformerXl(_) => Layout::Features,
        }
    }
}

impl DataConfig {
    /// Channels, height and width of images, three times 1 of a text; and classes or different tokens. The data are read for that.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn sizes(&self) -> Result<([usize; 3], usize), TrainError> {
        let path = Path::new(&self.path);
        Ok(match self.kind {
            DataKind::Images(kind) => {
                let train = data::load(kind, path)?.train;
                (train.shape().into(), train.classes())
            }
            DataKind::ImageFolder => {
                let classes = data::ImageFolder::read(path)?.train.classes().len();
                (ImageShape::rgb(self.size, self.size).into(), classes)
            }
            DataKind::Text(kind) => ([1; 3], text::read(kind, path)?.vocabulary.len()),
        })
    }
}

impl DataKind {
    /// Which images, if images in memory.
    pub fn images(self) -> Option<data::Kind> {
        match self {
            Self::Images(kind) => Some(kind),
            Self::ImageFolder | Self::Text(_) => None,
        }
    }

    /// What networks are judged by.
    pub fn metric(self) -> Metric {
        match self {
            Self::Images(_) | Self::ImageFolder => Metric::Accuracy,
            Self::Text(text::Kind::Bytes) => Metric::BitsPerCharacter,
            Self::Text(text::Kind::Words) => Metric::Perplexity,
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        let images = data::Kind::ALL.map(Self::Images).into_iter().chain([Self::ImageFolder]);
        images.chain(text::Kind::ALL.map(Self::Text))
    }
}

impl fmt::Display for DataKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Images(kind) => kind.fmt(f),
            Self::ImageFolder => f.write_str("image-folder"),
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
