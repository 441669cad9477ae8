//! What a network is trained on: serving it step by step, and telling how well a network does on it.

mod clusters;
mod folder;
mod image_batch;
mod images;
mod text;

use std::path::Path;

use serde::{Deserialize, Serialize};
use topkast_kernels::Isa;
use topkast_nn::{Input, Network};

pub(crate) use clusters::ClusterShares;
pub(crate) use folder::{Folder, StreamSettings};
pub(crate) use image_batch::ImageBatch;
pub(crate) use images::Images;
pub(crate) use text::{Evaluation, Text};

use crate::TrainError;
use crate::config::{Config, DataKind};
use crate::data::{self, ImageShape, Normalizer};
use crate::score::Score;
use crate::text::{self as texts, Vocabulary};

/// Training, validation and test data, with room for a batch.
pub(crate) enum Task {
    /// Images by class, in memory.
    Images(Images),
    /// Images by class, in a folder.
    Folder(Box<Folder>),
    /// A text.
    Text(Text),
}

/// What a trained network has to know of the data it was trained on.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DataState {
    /// Images by class.
    Images {
        /// How inputs are normalised.
        normalizer: Normalizer,
        /// Channels of the inputs: 1 of grey ones, 3 of those in colour.
        #[serde(default = "grey", skip_serializing_if = "is_grey")]
        channels: usize,
        /// Height and width of the inputs.
        input: (usize, usize),
        /// Number of classes.
        classes: usize,
        /// What they are called, where that does not follow from the kind of data.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        class_names: Vec<String>,
        /// A checksum of the names of the files to train on, where they are files.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        files: Option<u32>,
    },
    /// A text.
    Text {
        /// What the tokens mean.
        vocabulary: Vocabulary,
        /// How many there are to train on.
        tokens: usize,
        /// Of all tokens.
        checksum: u32,
    },
}

/// Channels where none are told: so it was before there were images in colour.
fn grey() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_grey(channels: &usize) -> bool {
    *channels == grey()
}

impl DataState {
    /// Whether it is of such data.
    pub(crate) fn fits(&self, kind: DataKind) -> bool {
        match (self, kind) {
            (Self::Images { files, .. }, DataKind::Images(_)) => files.is_none(),
            (Self::Images { files, channels, .. }, DataKind::ImageFolder) => {
                files.is_some() && *channels == 3
            }
            (Self::Text { vocabulary, .. }, DataKind::Text(kind)) => match vocabulary {
                Vocabulary::Bytes => kind == texts::Kind::Bytes,
                Vocabulary::Words(_) => kind == texts::Kind::Words,
            },
            _ => false,
        }
    }

    /// Channels, height and width of an input, three times 1 of a text, and outputs of a network for such data.
    ///
    /// # Errors
    /// If no data can be of such a size, or what is said of them does not agree.
    pub(crate) fn sizes(&self) -> Result<([usize; 3], usize), &'static str> {
        let possible = |size: &usize| (1..=1 << 30).contains(size);
        match self {
            Self::Images { normalizer, classes, class_names, .. } => {
                let shape = self.image_shape().expect("they are images");
                shape.checked_features().filter(possible).ok_or("its input size is impossible")?;
                if normalizer.channels() != shape.channels {
                    return Err("it normalises other channels than its inputs have");
                }
                let square = shape.height == shape.width && shape.height <= data::SIZE_LIMIT;
                if !(shape.channels == 1 || shape.channels == 3 && square) {
                    return Err("its inputs are neither grey nor squares in colour");
                }
                if !class_names.is_empty() && class_names.len() != *classes {
                    return Err("it does not name each class");
                }
                let classes = Some(*classes).filter(possible).ok_or("its number of classes is impossible")?;
                Ok((shape.into(), classes))
            }
            Self::Text { vocabulary, .. } => match vocabulary.len() {
                0 => Err("its vocabulary is empty"),
                tokens => Ok(([1; 3], tokens)),
            },
        }
    }

    /// What images measure; nothing of a text.
    pub fn image_shape(&self) -> Option<ImageShape> {
        match *self {
            Self::Images { channels, input: (height, width), .. } => {
                Some(ImageShape { channels, height, width })
            }
            Self::Text { .. } => None,
        }
    }
}

impl Task {
    /// Reads the data that `config` names.
    ///
    /// # Errors
    /// If they cannot be read or do not suffice.
    pub(crate) fn read(config: &Config) -> Result<Self, TrainError> {
        let path = Path::new(&config.data.path);
        Ok(match config.data.kind {
            DataKind::Images(kind) => {
                Self::Images(Images::new(data::load(kind, path)?, config, config.layout())?)
            }
            DataKind::ImageFolder => Self::Folder(Box::new(Folder::new(config, config.layout())?)),
            DataKind::Text(kind) => Self::Text(Text::new(texts::read(kind, path)?, config)?),
        })
    }

    /// Channels, height and width of an input, three times 1 of a text, and outputs of the network.
    pub(crate) fn sizes(&self) -> ([usize; 3], usize) {
        match self {
            Self::Images(task) => task.sizes(),
            Self::Folder(task) => task.sizes(),
            Self::Text(task) => task.sizes(),
        }
    }

    /// What a checkpoint tells of the data.
    pub(crate) fn state(&self) -> DataState {
        match self {
            Self::Images(task) => task.state(),
            Self::Folder(task) => task.state(),
            Self::Text(task) => task.state(),
        }
    }

    /// Batches in an epoch.
    pub(crate) fn batches(&self) -> u64 {
        match self {
            Self::Images(task) => task.batches(),
            Self::Folder(task) => task.batches(),
            Self::Text(task) => task.batches(),
        }
    }

    /// Images or tokens of a batch at most.
    pub(crate) fn positions(&self) -> usize {
        match self {
            Self::Images(task) => task.positions(),
            Self::Folder(task) => task.positions(),
            Self::Text(task) => task.positions(),
        }
    }

    /// Gets batch `number` ready, counted from the start of training, and `network` for it.
    ///
    /// # Errors
    /// If too many images of a folder are broken.
    pub(crate) fn load(&mut self, number: u64, network: &mut Network) -> Result<(), TrainError> {
        match self {
            Self::Images(task) => task.load(number),
            Self::Folder(task) => task.load(number)?,
            Self::Text(task) => task.load(number, network),
        }
        Ok(())
    }

    /// Makes `network` remember nothing of batches before, as at the start of a text.
    pub(crate) fn forget(&self, network: &mut Network) {
        match self {
            Self::Images(_) | Self::Folder(_) => {}
            Self::Text(task) => task.forget(network),
        }
    }

    /// What the network is given for the batch loaded last.
    pub(crate) fn input(&self) -> Input<'_> {
        match self {
            Self::Images(task) => task.input(),
            Self::Folder(task) => task.input(),
            Self::Text(task) => task.input(),
        }
    }

    /// What it should answer, one for each image or token.
    pub(crate) fn labels(&self) -> &[u32] {
        match self {
            Self::Images(task) => task.labels(),
            Self::Folder(task) => task.labels(),
            Self::Text(task) => task.labels(),
        }
    }

    /// For how many positions the layer of this name computes, as a fraction of all.
    pub(crate) fn share_of_positions(&self, layer: &str) -> f64 {
        match self {
            Self::Images(_) | Self::Folder(_) => 1.0,
            Self::Text(task) => task.share_of_positions(layer),
        }
    }

    /// Scores `network`, with A only, on the held-out data, if any.
    pub(crate) fn validate(&mut self, network: &mut Network, isa: Isa) -> Option<Score> {
        match self {
            Self::Images(task) => task.validate(network, isa),
            Self::Folder(_) => None,
            Self::Text(task) => Some(task.validate(network, isa)),
        }
    }

    /// Scores `network`, with A only, on the test data.
    ///
    /// # Errors
    /// If too many images of a folder are broken.
    pub(crate) fn test(&mut self, network: &mut Network, isa: Isa) -> Result<Score, TrainError> {
        Ok(match self {
            Self::Images(task) => task.test(network, isa),
            Self::Folder(task) => task.test(network, isa)?,
            Self::Text(task) => task.test(network, isa),
        })
    }

    /// What is wrong with the images of a folder that were found broken since this was last asked.
    pub(crate) fn broken_images(&self) -> Vec<String> {
        match self {
            Self::Folder(task) => task.broken_images(),
            Self::Images(_) | Self::Text(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(json: &str) -> DataState {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn checkpoints_of_before_there_were_channels_are_of_grey_images() {
        let json =
            r#"{"kind":"images","normalizer":{"mean":0.5,"deviation":0.25},"input":[28,20],"classes":10}"#;
        let state = parsed(json);
        assert_eq!(state.image_shape(), Some(ImageShape::grey(28, 20)));
        assert_eq!(state.sizes(), Ok(([1, 28, 20], 10)));
        assert_eq!(serde_json::to_string(&state).unwrap(), json);
        assert!(state.fits(DataKind::Images(data::Kind::Idx)) && !state.fits(DataKind::ImageFolder));
    }

    #[test]
    fn images_in_colour_have_channels() {
        let state = parsed(
            r#"{"kind":"images","normalizer":{"mean":[0,0,0],"deviation":[1,1,1]},"channels":3,"input":[8,8],"classes":2,"class_names":["a","b"],"files":7}"#,
        );
        assert_eq!(state.sizes(), Ok(([3, 8, 8], 2)));
        assert!(state.fits(DataKind::ImageFolder) && !state.fits(DataKind::Images(data::Kind::Cifar10)));
    }

    #[test]
    fn what_does_not_agree_is_refused() {
        for (normalizer, channels, input, names) in [
            (r#"{"mean":0,"deviation":1}"#, 3, "[8,8]", "[]"),
            (r#"{"mean":[0,0,0],"deviation":[1,1,1]}"#, 1, "[8,8]", "[]"),
            (r#"{"mean":[0,0],"deviation":[1,1]}"#, 2, "[8,8]", "[]"),
            (r#"{"mean":[0,0,0],"deviation":[1,1,1]}"#, 3, "[8,9]", "[]"),
            (r#"{"mean":[0,0,0],"deviation":[1,1,1]}"#, 3, "[9000,9000]", "[]"),
            (r#"{"mean":0,"deviation":1}"#, 1, "[0,8]", "[]"),
            (r#"{"mean":0,"deviation":1}"#, 1, "[4294967296,4294967296]", "[]"),
            (r#"{"mean":0,"deviation":1}"#, 1, "[8,8]", r#"["a"]"#),
        ] {
            let json = format!(
                r#"{{"kind":"images","normalizer":{normalizer},"channels":{channels},"input":{input},"classes":2,"class_names":{names}}}"#
            );
            assert!(parsed(&json).sizes().is_err(), "{json}");
        }
    }
}
