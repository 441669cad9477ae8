//! Trained networks that tell images apart.

use topkast_kernels::{Isa, Matrix};
use topkast_nn::{Input, Mode, Network};

use crate::TrainError;
use crate::data::{DataError, Dataset, Normalizer};
use crate::score::{Score, evaluate};

/// A trained network that tells images apart.
pub struct Classifier<'a> {
    pub(super) network: &'a mut Network,
    pub(super) normalizer: &'a Normalizer,
    pub(super) image_size: (usize, usize),
    pub(super) batch: usize,
    pub(super) isa: Isa,
}

impl Classifier<'_> {
    /// Scores the network, with A only.
    ///
    /// # Errors
    /// If the images are not of the network's size.
    pub fn score(&mut self, dataset: &Dataset) -> Result<Score, TrainError> {
        let (expected, found) = (self.image_size, dataset.shape());
        if expected != found {
            let mend = "give data like that the network was trained on";
            return Err(DataError::Shape { expected, found, mend }.into());
        }
        let (mut x, mut labels) = (Matrix::default(), Vec::new());
        Ok(evaluate(self.network, self.isa, dataset, self.normalizer, self.batch, &mut x, &mut labels))
    }

    /// Height and width of the images that it was trained on.
    pub fn image_size(&self) -> (usize, usize) {
        self.image_size
    }

    /// The probability of each class for one image of the network's size, given as its pixels row by row.
    ///
    /// # Panics
    /// If there are not as many pixels as the network has inputs.
    pub fn probabilities(&mut self, pixels: &[u8]) -> Vec<f64> {
        assert_eq!(pixels.len(), self.network.inputs(), "one pixel per input");
        let table = self.normalizer.table();
        let values: Vec<f32> = pixels.iter().map(|&pixel| table[pixel as usize]).collect();
        let x = Matrix::from_rows(values.len(), 1, &values);
        self.network.forward(self.isa, Input::Features(&x), Mode::Evaluate);
        let mut logits = Vec::new();
        self.network.logits_at(self.isa, 0, &mut logits);
        let logits: Vec<f64> = logits.into_iter().map(f64::from).collect();
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let exponentials: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
        let sum: f64 = exponentials.iter().sum();
        exponentials.iter().map(|exponential| exponential / sum).collect()
    }
}
