//! The known data sets and where their files are.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cifar::Cifar;
use super::dataset::{Dataset, Images, Split};
use super::error::DataError;
use super::idx::{read_images, read_labels};
use super::names;
use super::shape::ImageShape;

/// A kind of data set, as configurations name it.
///
/// Those of grey images are four IDX files, `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same with `t10k` for the
/// test part, each plain or with `.gz`. CIFAR is its binary version, as an archive or unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Fashion-MNIST: 28×28 pictures of ten kinds of clothing.
    FashionMnist,
    /// MNIST: 28×28 handwritten digits.
    Mnist,
    /// Grey images of any one size; there are as many classes as the largest label of the training part plus 1.
    Idx,
    /// CIFAR-10: 32×32 pictures, in colour, of ten kinds of animals and vehicles.
    Cifar10,
    /// CIFAR-100: the same of a hundred kinds of things; what is learnt are the fine labels.
    Cifar100,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::FashionMnist, Self::Mnist, Self::Idx, Self::Cifar10, Self::Cifar100];

    /// The name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::FashionMnist => "fashion-mnist",
            Self::Mnist => "mnist",
            Self::Idx => "idx",
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
        }
    }
}

/// A data set of four IDX files.
#[derive(Clone, Copy)]
enum Idx {
    FashionMnist,
    Mnist,
    Any,
}

impl Idx {
    /// What the images must measure and how many classes there must be, where that is known.
    fn demands(self) -> Option<(ImageShape, usize)> {
        match self {
            Self::FashionMnist | Self::Mnist => Some((ImageShape::grey(28, 28), 10)),
            Self::Any => None,
        }
    }

    /// What to do about a file that is not there.
    fn mend(self) -> &'static str {
        match self {
            Self::FashionMnist => {
                "the repository carries Fashion-MNIST in data/fashion-mnist: run topkast from the root of the \
                 repository, or set data.path to that folder"
            }
            Self::Mnist => "set data.path to the folder that holds the four files of MNIST",
            Self::Any => {
                "set data.path to a folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, \
                 t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each plain or with .gz"
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The names of the classes, in the order of their labels, where a kind has names for them.
pub fn class_names(kind: Kind) -> Option<&'static [&'static str]> {
    match kind {
        Kind::FashionMnist => Some(&names::FASHION_MNIST),
        Kind::Mnist => Some(&names::MNIST),
        Kind::Idx => None,
        Kind::Cifar10 => Some(&names::CIFAR10),
        Kind::Cifar100 => Some(&names::CIFAR100),
    }
}

/// Reads a data set from the folder `path`; CIFAR also from its archive.
///
/// # Errors
/// If a file is missing or malformed, images and labels do not pair up, a label is out of range, or the images are
/// not of the size that the kind or the training part has.
pub fn load(kind: Kind, path: &Path) -> Result<Split, DataError> {
    match kind {
        Kind::FashionMnist => load_idx(Idx::FashionMnist, path),
        Kind::Mnist => load_idx(Idx::Mnist, path),
        Kind::Idx => load_idx(Idx::Any, path),
        Kind::Cifar10 => Cifar::Ten.load(path),
        Kind::Cifar100 => Cifar::Hundred.load(path),
    }
}

fn load_idx(kind: Idx, path: &Path) -> Result<Split, DataError> {
    let train = Part::read(kind, path, "train")?;
    let test = Part::read(kind, path, "t10k")?;
    let (shape, classes) = match kind.demands() {
        Some((shape, classes)) => {
            train.demand(shape, "check data.kind, or use \"idx\", which takes images of any size")?;
            (shape, classes)
        }
        None => {
            let largest = train.labels.iter().max().copied().unwrap_or(0);
            (train.images.shape, usize::from(largest) + 1)
        }
    };
    test.demand(shape, "training and test images must have the same size")?;
    Ok(Split { train: train.dataset(classes)?, test: test.dataset(classes)? })
}

/// The training or the test part, as its two files have it.
struct Part {
    images: Images,
    labels: Vec<u8>,
    images_path: PathBuf,
    labels_path: PathBuf,
}

impl Part {
    fn read(kind: Idx, folder: &Path, prefix: &str) -> Result<Self, DataError> {
        let images_path = find(kind, folder, &format!("{prefix}-images-idx3-ubyte"))?;
        let labels_path = find(kind, folder, &format!("{prefix}-labels-idx1-ubyte"))?;
        let (images, labels) = (read_images(&images_path)?, read_labels(&labels_path)?);
        Ok(Self { images, labels, images_path, labels_path })
    }

    fn demand(&self, expected: ImageShape, mend: &'static str) -> Result<(), DataError> {
        let found = self.images.shape;
        if found == expected {
            return Ok(());
        }
        Err(DataError::Shape { expected, found, mend }.inside(self.images_path.clone()))
    }

    fn dataset(self, classes: usize) -> Result<Dataset, DataError> {
        let labels = self.labels.into_iter().map(u32::from).collect();
        Dataset::new(self.images, labels, classes).map_err(|error| {
            let about_images = matches!(error, DataError::Empty | DataError::Pixels { .. });
            error.inside(if about_images { self.images_path } else { self.labels_path })
        })
    }
}

/// The plain file if it is there, since it reads faster, or else the compressed one.
fn find(kind: Idx, folder: &Path, name: &str) -> Result<PathBuf, DataError> {
    let plain = folder.join(name);
    let compressed = folder.join(format!("{name}.gz"));
    // Where it cannot be known whether a file is there, reading it says why.
    for path in [&plain, &compressed] {
        if path.try_exists().unwrap_or(true) {
            return Ok(path.clone());
        }
    }
    Err(DataError::Missing { path: plain, mend: kind.mend() })
}

#[cfg(test)]
mod tests;
