//! `topkast bench step`

use clap::Args;
use serde_json::json;
use topkast_train::data::{Dataset, ImageShape, Images, Split};
use topkast_train::{Config, TrainError, Trainer};

use super::sides::{Report, Side};
use super::turns::{LARGEST_DENSE, Turns, size};
use super::{Machine, in_pool, random_bytes, twin};
use crate::failure::Failure;

/// Time whole training steps of a network, sparse and dense
///
/// Both networks train on random data and take turns, a turn of the sparse one lasting from one refresh to the next. A
/// network whose dense form would not fit is timed alone. The default is the built-in recipe's network.
#[derive(Args, Clone)]
#[command(
    after_help = "Example: topkast bench step --inputs 784 --hidden 2048,2048 --outputs 10 --forward 0.95"
)]
pub(crate) struct Arguments {
    /// Input features
    #[arg(long, default_value_t = 784, value_parser = size())]
    inputs: u32,
    /// Units of each hidden layer, with commas between
    #[arg(long, value_delimiter = ',', default_value = "1024,1024", value_parser = size())]
    hidden: Vec<u32>,
    /// Classes
    #[arg(long, default_value_t = 10, value_parser = size())]
    outputs: u32,
    /// Samples a step
    #[arg(long, default_value_t = 128, value_parser = size())]
    batch: u32,
    /// The last layer is sparse too; otherwise it stays dense, as in training by default
    #[arg(long)]
    all_sparse: bool,
    #[command(flatten)]
    turns: Turns,
}

/// Features of what is checked of a larger network.
const LARGEST_CHECKED: u32 = 1 << 11;
/// Steps before the first turn, in which every buffer gets its size.
const WARM_UP: u64 = 2;

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    arguments.check_sizes()?;
    in_pool(arguments.turns.threads, |isa| {
        let config = arguments.config("top-kast")?;
        let corner = arguments.corner();
        twin::check(&corner.config("top-kast")?, corner.checked_samples(), |samples, seed| {
            corner.data(samples, seed)
        })?;
        let machine = Machine::measure(isa);
        let data = arguments.data(arguments.samples(), 0)?;
        let side = |config, data| Side::new(Trainer::with_data(config, data), WARM_UP);
        let fits = arguments.weights() <= LARGEST_DENSE;
        let dense = if fits { Some(side(arguments.config("dense")?, data.clone())?) } else { None };
        let sparse = side(config, data)?;
        let sizes = json!({
            "inputs": arguments.inputs, "hidden": arguments.hidden, "outputs": arguments.outputs,
            "batch": arguments.batch,
        });
        Report::measure(arguments.turns, sparse, dense)?.show(&machine, &arguments.title(), sizes)
    })
}

impl Arguments {
    /// The sizes of all layers' weights, `[outputs, inputs]`.
    fn shapes(&self) -> impl Iterator<Item = [u64; 2]> + '_ {
        let inputs = std::iter::once(&self.inputs).chain(&self.hidden);
        let outputs = self.hidden.iter().chain([&self.outputs]);
        outputs.zip(inputs).map(|(&outputs, &inputs)| [outputs.into(), inputs.into()])
    }

    /// Entries of all dense weights.
    fn weights(&self) -> u64 {
        self.shapes().map(|[outputs, inputs]| outputs * inputs).sum()
    }

    fn check_sizes(&self) -> Result<(), Failure> {
        let features = u64::from(self.inputs) + self.shapes().map(|[outputs, _]| 2 * outputs).sum::<u64>();
        let activations = features as f64 * f64::from(self.batch);
        self.turns.check_memory(self.weights(), activations, "a smaller batch")
    }

    fn title(&self) -> String {
        let all = std::iter::once(&self.inputs).chain(&self.hidden).chain([&self.outputs]);
        let units: Vec<String> = all.map(u32::to_string).collect();
        format!("{}, batch {}", units.join("-"), self.batch)
    }

    /// This network or, of one too large for the naive twin, a corner, not as sparse, so that its layers have entries.
    fn corner(&self) -> Self {
        if self.weights() <= LARGEST_DENSE {
            return self.clone();
        }
        let cut = |size: u32| size.min(LARGEST_CHECKED);
        Self {
            inputs: cut(self.inputs),
            hidden: self.hidden.iter().copied().map(cut).collect(),
            outputs: cut(self.outputs),
            turns: Turns {
                forward: self.turns.forward.min(0.99),
                backward: self.turns.backward.min(0.98),
                ..self.turns
            },
            ..self.clone()
        }
    }

    /// The built-in recipe with these sizes.
    fn config(&self, method: &str) -> Result<Config, Failure> {
        let mut settings = self.turns.settings(method, WARM_UP);
        settings.extend([
            format!("model.hidden={:?}", self.hidden),
            format!("train.batch={}", self.batch),
            format!("sparsity.keep_dense={}", if self.all_sparse { "[]" } else { "[\"last\"]" }),
        ]);
        Ok(Config::load(None, &settings).map_err(TrainError::from)?)
    }

    /// As many samples as the largest known data set here has, where they fit into 48 MiB: gathering a batch is to find them
    /// in memory, not in the caches.
    fn samples(&self) -> usize {
        let fitting = (48 << 20) / self.inputs;
        fitting.clamp(self.batch, self.batch.max(60_000)) as usize
    }

    /// Samples that take the naive twin some tenths of a second.
    fn checked_samples(&self) -> usize {
        let dense = u64::from(self.outputs) * u64::from(self.hidden[self.hidden.len() - 1]);
        let all: u64 = self.shapes().map(|[outputs, inputs]| outputs * inputs).sum();
        let trained = (all - dense) as f64 * (1.0 - self.turns.backward) + dense as f64;
        ((2e7 / trained) as usize).clamp(1, self.batch as usize)
    }

    /// Random images with random labels.
    fn data(&self, samples: usize, seed: u64) -> Result<Split, Failure> {
        let mut random = random_bytes(seed);
        let classes = self.outputs.min(256);
        let mut part = |count: usize| {
            let pixels = random.by_ref().take(count * self.inputs as usize).collect();
            let labels = random.by_ref().take(count).map(|byte| u32::from(byte) % classes).collect();
            let shape = ImageShape::grey(1, self.inputs as usize);
            let images = Images { count, shape, pixels };
            Dataset::new(images, labels, self.outputs as usize)
        };
        Ok(Split { train: part(samples)?, test: part(1)? })
    }
}
