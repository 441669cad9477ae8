//! `topkast bench resnet`

use clap::Args;
use serde_json::json;
use topkast_nn::NetworkShape;
use topkast_train::data::{Dataset, ImageShape, Images, Split};
use topkast_train::{Config, TrainError, Trainer};

use super::sides::{Report, Side};
use super::turns::{LARGEST_DENSE, Turns, size};
use super::{Machine, in_pool, random_bytes};
use crate::failure::Failure;

/// Time whole training steps of a residual network, sparse and dense
///
/// All convolutions but the first are sparse, the output layer is dense; SGD with momentum. Both networks train on random images and take
/// turns, a turn of the sparse one lasting from one refresh to the next. The time is also told by part of the network: convolutions
/// and the output layer, all else.
#[derive(Args, Clone)]
#[command(after_help = "Example: topkast bench resnet --depth 50 --size 224 --batch 16 --refresh-every 10")]
pub(crate) struct Arguments {
    /// Layers, as model.depth has them
    #[arg(long, default_value_t = 20, value_parser = size())]
    depth: u32,
    /// Height and width of the images, of three channels
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1 << 12))]
    size: u32,
    /// Images a step
    #[arg(long, default_value_t = 128, value_parser = size())]
    batch: u32,
    /// Classes
    #[arg(long, default_value_t = 10, value_parser = size())]
    classes: u32,
    #[command(flatten)]
    turns: Turns,
}

/// Steps before the first turn: every buffer gets its size.
const WARM_UP: u64 = 2;
/// Steps on one batch in which the loss must have fallen, and its images at most.
const CHECKED: (u32, u32) = (5, 4);
/// Images to train on, at least: a few batches.
const BATCHES: u32 = 4;

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let weights = arguments.check_sizes()?;
    in_pool(arguments.turns.threads, |isa| {
        let fits = weights <= LARGEST_DENSE;
        let checked = Arguments { batch: arguments.batch.min(CHECKED.1), ..arguments.clone() };
        for method in if fits { &["top-kast", "dense"][..] } else { &["top-kast"] } {
            checked.check_learning(method)?;
        }
        let machine = Machine::measure(isa);
        let side = |method: &str| {
            let data = arguments.images(BATCHES * arguments.batch).map_err(TrainError::from)?;
            Side::new(Trainer::with_data(arguments.config(method)?, data), WARM_UP)
        };
        let dense = if fits { Some(side("dense")?) } else { None };
        let Arguments { depth, size, batch, classes, turns } = *arguments;
        let sizes = json!({ "depth": depth, "size": size, "batch": batch, "classes": classes });
        let title = format!("ResNet-{depth}, {batch} images of {size}x{size}, {classes} classes");
        Report::measure(turns, side("top-kast")?, dense)?.show(&machine, &title, sizes)
    })
}

impl Arguments {
    /// How many weights the network has, where it would fit.
    fn check_sizes(&self) -> Result<u64, Failure> {
        let size = self.size as usize;
        let NetworkShape::ResNet(shape) =
            self.config("top-kast")?.shape([3, size, size], self.classes as usize)
        else {
            unreachable!("the config is of a residual network")
        };
        let layers = shape.layers();
        let weights = layers.iter().map(|(_, [rows, width])| *rows as u64 * *width as u64).sum();
        // Each convolution's outputs, before and after its norm.
        let outputs = layers.iter().zip(shape.pixels()).map(|((_, [rows, _]), pixels)| 2 * rows * pixels);
        let activations = outputs.sum::<usize>() as f64 * f64::from(self.batch);
        self.turns.check_memory(weights, activations, "fewer images")?;
        Ok(weights)
    }

    /// Fails where the loss of one batch does not fall.
    fn check_learning(&self, method: &str) -> Result<(), Failure> {
        let data = self.images(self.batch).map_err(TrainError::from)?;
        let mut trainer = Trainer::with_data(self.config(method)?, data)?;
        let first = trainer.step()?.loss;
        let mut last = first;
        for _ in 1..CHECKED.0 {
            last = trainer.step()?.loss;
        }
        if last < first {
            return Ok(());
        }
        let steps = CHECKED.0;
        let message = format!(
            "{method}: {steps} steps on one batch take the loss from {first} to {last}; nothing was timed"
        );
        Err(Failure::Failed(message))
    }

    fn config(&self, method: &str) -> Result<Config, Failure> {
        let mut settings = self.turns.settings(method, WARM_UP);
        let fixed = [
            "data.kind=cifar10",
            "model.kind=resnet",
            "sparsity.keep_dense=[\"first\", \"last\"]",
            "optimizer.lr=0.002",
            "optimizer.schedule=constant",
        ];
        settings.extend(fixed.map(str::to_owned));
        settings.push(format!("model.depth={}", self.depth));
        settings.push(format!("train.batch={}", self.batch));
        Ok(Config::load(None, &settings).map_err(TrainError::from)?)
    }

    /// So many random images.
    fn images(&self, count: u32) -> Result<Split, topkast_train::data::DataError> {
        let shape = ImageShape::rgb(self.size as usize, self.size as usize);
        let part = |seed, count: usize| {
            let pixels = random_bytes(seed).take(count * shape.features()).collect();
            let labels = (0..count as u32).map(|image| image % self.classes).collect();
            Dataset::new(Images { count, shape, pixels }, labels, self.classes as usize)
        };
        Ok(Split { train: part(0, count as usize)?, test: part(1, 1)? })
    }
}
