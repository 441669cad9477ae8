//! Images to be told apart by class.

use topkast_kernels::{Isa, Matrix};
use topkast_nn::{Input, Network};

use super::DataState;
use crate::TrainError;
use crate::config::Config;
use crate::data::{Dataset, Normalizer, Order, Split, fill_batch};
use crate::score::{Score, evaluate};

/// Images in training, held-out and test parts, with room for a batch.
pub(crate) struct Images {
    train: Dataset,
    held_out: Option<Dataset>,
    test: Dataset,
    normalizer: Normalizer,
    order: Order,
    /// The epoch that `order` is of.
    shuffled: Option<u64>,
    seed: u64,
    batch: usize,
    x: Matrix,
    labels: Vec<u32>,
}

impl Images {
    /// # Errors
    /// If so many cannot be held out.
    pub(crate) fn new(split: Split, config: &Config) -> Result<Self, TrainError> {
        let (train, held_out) = match config.data.validation {
            0.0 => (split.train, None),
            fraction => {
                let count = (split.train.len() as f64 * fraction).round() as usize;
                let (train, held_out) = split.train.hold_out(count)?;
                (train, Some(held_out))
            }
        };
        Ok(Self {
            normalizer: Normalizer::fit(&train),
            order: Order::in_sequence(train.len()),
            train,
            held_out,
            test: split.test,
            shuffled: None,
            seed: config.seed,
            batch: config.train.batch,
            x: Matrix::default(),
            labels: Vec::new(),
        })
    }

    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.train.features(), self.train.classes())
    }

    pub(super) fn state(&self) -> DataState {
        DataState::Images {
            normalizer: self.normalizer.clone(),
            input: self.train.shape(),
            classes: self.train.classes(),
        }
    }

    pub(super) fn batches(&self) -> u64 {
        self.order.batches(self.batch) as u64
    }

    pub(super) fn positions(&self) -> usize {
        self.batch.min(self.train.len())
    }

    pub(super) fn load(&mut self, number: u64) {
        let batches = self.batches();
        let epoch = number / batches;
        if self.shuffled != Some(epoch) {
            self.order.shuffle(self.seed, epoch);
            self.shuffled = Some(epoch);
        }
        let samples = self.order.batch((number % batches) as usize, self.batch);
        fill_batch(&self.train, &self.normalizer, samples, &mut self.x, &mut self.labels);
    }

    pub(super) fn input(&self) -> Input<'_> {
        Input::Features(&self.x)
    }

    pub(super) fn labels(&self) -> &[u32] {
        &self.labels
    }

    pub(super) fn validate(&mut self, network: &mut Network, isa: Isa) -> Option<Score> {
        let Self { held_out, normalizer, batch, x, labels, .. } = self;
        Some(evaluate(network, isa, held_out.as_ref()?, normalizer, *batch, x, labels))
    }

    pub(super) fn test(&mut self, network: &mut Network, isa: Isa) -> Score {
        let Self { test, normalizer, batch, x, labels, .. } = self;
        evaluate(network, isa, test, normalizer, *batch, x, labels)
    }
}
