//! Trained networks that tell images apart.

use std::path::Path;
use std::sync::Arc;

use topkast_kernels::Isa;
use topkast_nn::{Mode, Network};

use crate::TrainError;
use crate::data::{self, DataError, Dataset, ImageFolder, ImageShape};
use crate::score::Score;
use crate::task::{ImageBatch, StreamSettings};

/// A trained network that tells images apart.
pub struct Classifier<'a> {
    pub(super) network: &'a mut Network,
    pub(super) images: ImageBatch,
    pub(super) batch_size: usize,
    /// None where classes have no names.
    pub(super) class_names: Vec<&'a str>,
    /// Whether it was trained on a folder, whose images are of all sizes.
    pub(super) of_folder: bool,
    pub(super) isa: Isa,
}

impl<'a> Classifier<'a> {
    /// Scores the network, with A only.
    ///
    /// # Errors
    /// If the images are not of the network's size.
    pub fn score(&mut self, dataset: &Dataset) -> Result<Score, TrainError> {
        let (expected, found) = (self.image_shape(), dataset.shape());
        if expected != found {
            let mend = "give data like that the network was trained on";
            return Err(DataError::Shape { expected, found, mend }.into());
        }
        Ok(self.images.score_dataset(self.network, self.isa, dataset, self.batch_size))
    }

    /// Scores the network, with A only, on the images to measure on of a folder in ImageNet's layout.
    pub(super) fn score_folder(
        &mut self,
        path: &Path,
        streams: &StreamSettings,
    ) -> Result<Score, TrainError> {
        let val = Arc::new(ImageFolder::read_val(path, &self.class_names)?);
        streams.score(&val, &mut self.images, self.network, self.isa)
    }

    /// What a class is called, if it has a name.
    pub fn class_name(&self, class: usize) -> Option<&'a str> {
        self.class_names.get(class).copied()
    }

    /// Reads an image file for [`probabilities`](Self::probabilities). In colour it may be of any size: what counts is its centre, scaled as the images
    /// were that the network was scored on. A grey image must be of the network's size.
    ///
    /// # Errors
    /// If the file is not a PNG or JPEG image, cannot be read, is cut off or damaged, or has another size.
    pub fn read_image(&self, path: &Path) -> Result<Vec<u8>, DataError> {
        let ImageShape { channels, height, width } = self.image_shape();
        if channels == 1 {
            return data::read_grey_image(path, height, width);
        }
        let side = if self.of_folder { data::evaluation_side(height) } else { height };
        data::read_centre(path, height, side)
    }

    /// What the images measure that it was trained on.
    pub fn image_shape(&self) -> ImageShape {
        self.images.shape()
    }

    /// The probability of each class for one image of the network's size, given as its pixels channel by channel and row by row.
    ///
    /// # Panics
    /// If there are not as many pixels as an image has.
    pub fn probabilities(&mut self, pixels: &[u8]) -> Vec<f64> {
        assert_eq!(pixels.len(), self.image_shape().features(), "pixels of an image");
        self.images.fill_images(&[pixels], std::iter::once(0));
        self.network.forward(self.isa, self.images.input(), Mode::Evaluate);
        let mut logits = Vec::new();
        self.network.logits_at(self.isa, 0, &mut logits);
        let logits: Vec<f64> = logits.into_iter().map(f64::from).collect();
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let exponentials: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
        let sum: f64 = exponentials.iter().sum();
        exponentials.iter().map(|exponential| exponential / sum).collect()
    }
}
