//! A batch of images as a network reads it.

use topkast_kernels::{Isa, Matrix};
use topkast_nn::{Input, Mode, Network};

use crate::TrainError;
use crate::data::{Dataset, ImageShape, Layout, Normalizer, Order, Views, fill_batch, fill_images};
use crate::score::{Metric, Score};

/// A batch of images of one shape, and how they become what a network reads. Its storage is kept from batch to batch.
pub(crate) struct ImageBatch {
    normalizer: Normalizer,
    shape: ImageShape,
    layout: Layout,
    x: Matrix,
    labels: Vec<u32>,
}

impl ImageBatch {
    /// Room for a batch.
    pub(crate) fn new(normalizer: Normalizer, shape: ImageShape, layout: Layout) -> Self {
        Self { normalizer, shape, layout, x: Matrix::default(), labels: Vec::new() }
    }

    /// Becomes these samples as `views` shows them.
    pub(crate) fn fill(&mut self, dataset: &Dataset, views: Views, samples: &[u32]) {
        let Self { normalizer, layout, x, labels, .. } = self;
        fill_batch(dataset, normalizer, *layout, views, samples, x, labels);
    }

    /// Becomes these images, plane by plane, with these labels.
    pub(crate) fn fill_images(
        &mut self,
        images: &[impl AsRef<[u8]> + Sync],
        labels: impl Iterator<Item = u32>,
    ) {
        self.labels.clear();
        self.labels.extend(labels);
        fill_images(images, self.shape, &self.normalizer, self.layout, &mut self.x);
    }

    /// What the network is given.
    pub(crate) fn input(&self) -> Input<'_> {
        Input::Features(&self.x)
    }

    /// What it should answer, one for each image.
    pub(crate) fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// How images are normalised.
    pub(crate) fn normalizer(&self) -> &Normalizer {
        &self.normalizer
    }

    /// What each image measures.
    pub(crate) fn shape(&self) -> ImageShape {
        self.shape
    }

    /// Scores `network`, with A only and without dropout, on all batches that `next` gets ready, until it says that there is none.
    pub(crate) fn score(
        &mut self,
        network: &mut Network,
        isa: Isa,
        mut next: impl FnMut(&mut Self) -> Result<bool, TrainError>,
    ) -> Result<Score, TrainError> {
        let (mut loss, mut samples) = (topkast_nn::Loss::ZERO, 0);
        while next(self)? {
            network.forward(isa, self.input(), Mode::Evaluate);
            loss += network.loss(isa, &self.labels, 0.0, false);
            samples += self.labels.len();
        }
        Ok(Score::new(loss, samples, Metric::Accuracy))
    }

    /// Scores `network` on all of `dataset`, in batches of `size`.
    pub(crate) fn score_dataset(
        &mut self,
        network: &mut Network,
        isa: Isa,
        dataset: &Dataset,
        size: usize,
    ) -> Score {
        let order = Order::in_sequence(dataset.len());
        let mut number = 0;
        let scored = self.score(network, isa, |batch| {
            let more = number < order.batches(size);
            if more {
                batch.fill(dataset, Views::PLAIN, order.batch(number, size));
                number += 1;
            }
            Ok(more)
        });
        scored.unwrap_or_else(|_| unreachable!("getting a batch out of memory cannot fail"))
    }
}
