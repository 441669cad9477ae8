//! Images to be told apart by class, in a folder.

use std::path::Path;
use std::sync::Arc;

use topkast_kernels::Isa;
use topkast_nn::{Input, Network};

use super::DataState;
use super::image_batch::ImageBatch;
use crate::TrainError;
use crate::config::Config;
use crate::data::{self, Broken, FileList, ImageShape, Layout, Plan, Source, Stream};
use crate::score::Score;

/// Batches of images that are decoded ahead of a step, besides the one that is taken.
const BATCHES_AHEAD: usize = 2;

/// Images of a folder, with room for a batch.
pub(crate) struct Folder {
    images: data::ImageFolder,
    /// The images of training, decoded ahead, once it has begun.
    stream: Option<Stream>,
    settings: StreamSettings,
    seed: u64,
    batch: ImageBatch,
}

/// What streams have in common.
pub(crate) struct StreamSettings {
    broken: Arc<Broken>,
    workers: usize,
    batch_size: usize,
}

impl StreamSettings {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            broken: Arc::new(Broken::new(config.data.broken_limit)),
            workers: config.data.workers,
            batch_size: config.train.batch,
        }
    }

    fn start(
        &self,
        list: &Arc<FileList>,
        size: usize,
        plan: Plan,
        position: u64,
    ) -> Result<Stream, TrainError> {
        let source = Source { list: list.clone(), broken: self.broken.clone(), size, plan };
        // No more than there are: a batch may be said to be larger than the data.
        let ahead = BATCHES_AHEAD * self.batch_size.min(list.len());
        Ok(Stream::start(source, position, ahead, self.workers)?)
    }

    /// Scores `network`, with A only, on the images of `list`, decoded as they are needed.
    pub(crate) fn score(
        &self,
        list: &Arc<FileList>,
        batch: &mut ImageBatch,
        network: &mut Network,
        isa: Isa,
    ) -> Result<Score, TrainError> {
        let mut stream = self.start(list, batch.shape().width, Plan::Evaluate, 0)?;
        batch.score(network, isa, |batch| {
            while stream.position() < list.len() as u64 {
                let images = stream.take(self.batch_size)?;
                if !images.is_empty() {
                    batch.fill_images(images, images.iter().map(|image| image.label));
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// What is wrong with the broken images found since this was last asked.
    pub(crate) fn broken_images(&self) -> Vec<String> {
        self.broken.take_messages()
    }
}

impl Folder {
    /// Images that a network reads as `layout` has them.
    ///
    /// # Errors
    /// If the folder is not one of images by class.
    pub(crate) fn new(config: &Config, layout: Layout) -> Result<Self, TrainError> {
        let shape = ImageShape::rgb(config.data.size, config.data.size);
        Ok(Self {
            images: data::ImageFolder::read(Path::new(&config.data.path))?,
            stream: None,
            settings: StreamSettings::of(config),
            seed: config.seed,
            batch: ImageBatch::new(data::imagenet_normalizer(), shape, layout),
        })
    }

    pub(super) fn sizes(&self) -> ([usize; 3], usize) {
        (self.batch.shape().into(), self.images.train.classes().len())
    }

    pub(super) fn state(&self) -> DataState {
        let ImageShape { channels, height, width } = self.batch.shape();
        let class_names = self.images.train.classes().to_vec();
        DataState::Images {
            normalizer: self.batch.normalizer().clone(),
            channels,
            input: (height, width),
            classes: class_names.len(),
            class_names,
            files: Some(self.images.train.checksum()),
        }
    }

    fn batch_size(&self) -> usize {
        self.settings.batch_size.min(self.images.train.len())
    }

    pub(super) fn batches(&self) -> u64 {
        self.images.train.len().div_ceil(self.batch_size()) as u64
    }

    pub(super) fn positions(&self) -> usize {
        self.batch_size()
    }

    /// Takes the images of batch `number`, which have been decoded meanwhile if the batches are asked for in turn.
    pub(super) fn load(&mut self, number: u64) -> Result<(), TrainError> {
        let samples = self.images.train.len() as u64;
        let (epoch, batch) = (number / self.batches(), number % self.batches());
        let first = batch * self.batch_size() as u64;
        let position = epoch * samples + first;
        let count = (self.batch_size() as u64).min(samples - first) as usize;
        let mut stream = match self.stream.take().filter(|stream| stream.position() == position) {
            Some(stream) => stream,
            None => {
                let plan = Plan::Train { seed: self.seed };
                self.settings.start(&self.images.train, self.batch.shape().width, plan, position)?
            }
        };
        let images = stream.take(count)?;
        self.batch.fill_images(images, images.iter().map(|image| image.label));
        // Not kept where it failed: its workers have stopped.
        self.stream = Some(stream);
        Ok(())
    }

    pub(super) fn input(&self) -> Input<'_> {
        self.batch.input()
    }

    pub(super) fn labels(&self) -> &[u32] {
        self.batch.labels()
    }

    pub(super) fn test(&mut self, network: &mut Network, isa: Isa) -> Result<Score, TrainError> {
        self.settings.score(&self.images.val, &mut self.batch, network, isa)
    }

    pub(super) fn broken_images(&self) -> Vec<String> {
        self.settings.broken_images()
    }
}
