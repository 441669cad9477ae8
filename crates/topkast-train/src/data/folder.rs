//! Folders of images in ImageNet's layout: `train/CLASS/*.jpg` and `val/CLASS/*.jpg`.
//!
//! Only the list of files is in memory; images are decoded when their turn comes ([`Stream`]).

mod broken;
mod crop;
mod list;
mod resample;
mod stream;

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use super::error::DataError;
use super::image_file;
use super::normalize::Normalizer;

pub(crate) use broken::Broken;
use crop::Window;
pub(crate) use list::FileList;
use resample::Resampler;
pub(crate) use stream::{Plan, Source, Stream};

/// A folder with images to train on and to measure on, by class.
pub(crate) struct ImageFolder {
    pub(crate) train: Arc<FileList>,
    pub(crate) val: Arc<FileList>,
}

impl ImageFolder {
    /// Lists what is in the folder `path`. No image is read.
    ///
    /// # Errors
    /// If there is not a folder `train` and a folder `val` with a folder for each class and images in them.
    pub(crate) fn read(path: &Path) -> Result<Self, DataError> {
        let train = FileList::read(&path.join("train"), None)?;
        let val = Self::read_val(path, train.classes())?;
        Ok(Self { train: Arc::new(train), val: Arc::new(val) })
    }

    /// Lists the images to measure on, of these classes.
    ///
    /// # Errors
    /// If there is no folder `val` with images in folders named as classes.
    pub(crate) fn read_val(path: &Path, classes: &[impl AsRef<str>]) -> Result<FileList, DataError> {
        let classes = classes.iter().map(|name| name.as_ref().to_owned()).collect();
        FileList::read(&path.join("val"), Some(classes))
    }
}

/// What a folder of images holds.
pub struct FolderCheck {
    /// Images to train on and to measure on.
    pub images: [usize; 2],
    /// How many classes there are.
    pub classes: usize,
    /// What is wrong with those that cannot be decoded, in the order of the lists.
    pub broken: Vec<String>,
}

/// Decodes every image of the folder `path`, on the current rayon pool.
///
/// # Errors
/// If there is not a folder `train` and a folder `val` with a folder for each class and images in them.
pub fn check_folder(path: &Path) -> Result<FolderCheck, DataError> {
    let ImageFolder { train, val } = ImageFolder::read(path)?;
    let decode = |list: &FileList, image| image_file::read_rgb_image(&list.path(image)).err();
    let lists = [&train, &val].into_iter();
    let broken = lists.flat_map(|list| -> Vec<String> {
        let errors = (0..list.len()).into_par_iter().filter_map(|image| decode(list, image));
        errors.map(|error| error.to_string()).collect()
    });
    Ok(FolderCheck {
        images: [train.len(), val.len()],
        classes: train.classes().len(),
        broken: broken.collect(),
    })
}

/// The largest size to which images of folders are scaled.
pub(crate) const SIZE_LIMIT: usize = 4096;

/// What images of folders are normalised with: the means and deviations of ImageNet as published with the usual
/// networks, since those of a folder are only known once all of it has been decoded.
pub(crate) fn imagenet_normalizer() -> Normalizer {
    Normalizer::from_parts(&[(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]).expect("they are sound")
}

/// The shorter side to which images are scaled before their centre of `size` is cut out: 256 for 224.
pub(crate) fn evaluation_side(size: usize) -> usize {
    (size * 8).div_ceil(7)
}

/// Reads the centre of a PNG or JPEG image in colour, of any size, scaled so that its shorter side is `side`, of which `size × size` are
/// kept: red, green and blue planes.
///
/// # Errors
/// If the file cannot be read, is cut off or damaged, or the image has more than 2²⁶ pixels, or none.
///
/// # Panics
/// If `size` is more than `side`.
pub(crate) fn read_centre(path: &Path, size: usize, side: usize) -> Result<Vec<u8>, DataError> {
    let (width, pixels) = image_file::read_rgb_image(path)?;
    let window = Window::centre(width, pixels.len() / (3 * width), size, side);
    let mut planes = Vec::new();
    Resampler::new(size).scale(&pixels, width, window, &mut planes);
    Ok(planes)
}
