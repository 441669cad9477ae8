//! Images to be told apart by class, in memory.

use topkast_kernels::Isa;
use topkast_nn::{Input, Network};

use super::DataState;
use super::image_batch::ImageBatch;
use crate::TrainError;
use crate::config::Config;
use crate::data::{Augment, Dataset, ImageShape, Layout, Normalizer, Order, Split, Views};
use crate::score::Score;

/// Images in training, held-out and test parts, with room for a batch.
pub(crate) struct Images {
    train: Dataset,
    held_out: Option<Dataset>,
    test: Dataset,
    order: Order,
    /// The epoch that `order` is of.
    shuffled: Option<u64>,
    augment: Augment,
    seed: u64,
    batch_size: usize,
    batch: ImageBatch,
}

impl Images {
    /// Images that a network reads as `layout` has them.
    ///
    /// # Errors
    /// If so many cannot be held out.
    pub(crate) fn new(split: Split, config: &Config, layout: Layout) -> Result<Self, TrainError> {
        let (train, held_out) = match config.data.validation {
            0.0 => (split.train, None),
            fraction => {
                let count = (split.train.len() as f64 * fraction).round() as usize;
                let (train, held_out) = split.train.hold_out(count)?;
                (train, Some(held_out))
            }
        };
        Ok(Self {
            batch: ImageBatch::new(Normalizer::fit(&train), train.shape(), layout),
            order: Order::in_sequence(train.len()),
            train,
            held_out,
            test: split.test,
            shuffled: None,
            augment: config.data.augment,
            seed: config.seed,
            batch_size: config.train.batch,
        })
    }

    pub(super) fn sizes(&self) -> ([usize; 3], usize) {
        (self.shape().into(), self.train.classes())
    }

    pub(super) fn shape(&self) -> ImageShape {
        self.train.shape()
    }

    pub(super) fn state(&self) -> DataState {
        let ImageShape { channels, height, width } = self.shape();
        DataState::Images {
            normalizer: self.batch.normalizer().clone(),
            channels,
            input: (height, width),
            classes: self.train.classes(),
            class_names: Vec::new(),
            files: None,
        }
    }

    pub(super) fn batches(&self) -> u64 {
        self.order.batches(self.batch_size) as u64
    }

    pub(super) fn positions(&self) -> usize {
        self.batch_size.min(self.train.len())
    }

    pub(super) fn load(&mut self, number: u64) {
        let batches = self.batches();
        let epoch = number / batches;
        if self.shuffled != Some(epoch) {
            self.order.shuffle(self.seed, epoch);
            self.shuffled = Some(epoch);
        }
        let views = Views::of_epoch(self.augment, self.seed, epoch);
        let samples = self.order.batch((number % batches) as usize, self.batch_size);
        self.batch.fill(&self.train, views, samples);
    }

    pub(super) fn input(&self) -> Input<'_> {
        self.batch.input()
    }

    pub(super) fn labels(&self) -> &[u32] {
        self.batch.labels()
    }

    pub(super) fn validate(&mut self, network: &mut Network, isa: Isa) -> Option<Score> {
        let Self { held_out, batch, batch_size, .. } = self;
        Some(batch.score_dataset(network, isa, held_out.as_ref()?, *batch_size))
    }

    pub(super) fn test(&mut self, network: &mut Network, isa: Isa) -> Score {
        let Self { test, batch, batch_size, .. } = self;
        batch.score_dataset(network, isa, test, *batch_size)
    }
}
