//! `topkast bench step`

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use topkast_train::data::{Dataset, Images, Split};
use topkast_train::{Config, Phases, StepReport, TrainError, Trainer, layer_summaries};

use super::{Machine, in_pool, median, quartiles, twin};
use crate::failure::{Failure, print_line};

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
    /// Forward sparsity
    #[arg(long, default_value_t = 0.9)]
    forward: f64,
    /// Backward sparsity
    #[arg(long, default_value_t = 0.8)]
    backward: f64,
    /// The last layer is sparse too; otherwise it stays dense, as in training by default
    #[arg(long)]
    all_sparse: bool,
    /// Steps from refresh to refresh
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    refresh_every: u32,
    /// Threads; 0 takes all cores
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=4096))]
    threads: u32,
    /// Turns of each network
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn size() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=1 << 20)
}

/// Steps of a turn that count, at least; a step before them finds the caches full of the other network and does not.
const TURN: u64 = 10;
/// Weights of the largest network that is timed dense: 4 GiB with gradients and optimizer state.
const LARGEST_DENSE: u64 = 1 << 28;
/// Entries of B at most: as much memory with their indices.
const LARGEST_SPARSE: f64 = 1.6e8;
/// Features of what is checked of a larger network.
const LARGEST_CHECKED: u32 = 1 << 11;
/// Steps before the first turn, in which every buffer gets its size.
const WARM_UP: u64 = 2;

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    arguments.check_sizes()?;
    in_pool(arguments.threads, |isa| {
        let config = arguments.config("top-kast")?;
        let corner = arguments.corner();
        twin::check(&corner.config("top-kast")?, corner.checked_samples(), |samples, seed| {
            corner.data(samples, seed)
        })?;
        let machine = Machine::measure(isa);
        let data = arguments.data(arguments.samples(), 0)?;
        let fits = arguments.weights() <= LARGEST_DENSE;
        let mut dense = if fits { Some(Side::new(arguments.config("dense")?, data.clone())?) } else { None };
        let mut sparse = Side::new(config, data)?;
        for _ in 0..arguments.rounds {
            sparse.turn(arguments.turn())?;
            dense.as_mut().map_or(Ok(()), |dense| dense.turn(TURN))?;
        }
        let refresh_every = f64::from(arguments.refresh_every);
        let report = Report {
            bytes: sparse.bytes(),
            sparse: sparse.times(refresh_every),
            dense: dense.map(|dense| dense.times(refresh_every)),
        };
        if arguments.json {
            return print_line(report.json(arguments, &machine));
        }
        report.print(arguments, &machine)
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
        let trained = self.weights() as f64 * (1.0 - self.backward.clamp(0.0, 1.0));
        if trained > LARGEST_SPARSE || features * u64::from(self.batch) > 1 << 29 {
            let message = "the network would need more than 4 GiB for its weights and optimizer state or 2 GiB for its \
                           activations; choose smaller sizes, a higher --backward or a smaller batch";
            return Err(Failure::BadInput(message.to_owned()));
        }
        Ok(())
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
            forward: self.forward.min(0.99),
            backward: self.backward.min(0.98),
            ..self.clone()
        }
    }

    /// The built-in recipe with these sizes.
    fn config(&self, method: &str) -> Result<Config, Failure> {
        let settings = [
            format!("model.hidden={:?}", self.hidden),
            format!("train.batch={}", self.batch),
            format!("train.steps={}", WARM_UP + u64::from(self.rounds) * (1 + self.turn())),
            format!("sparsity.method={method}"),
            format!("sparsity.forward={:?}", self.forward),
            format!("sparsity.backward={:?}", self.backward),
            format!("sparsity.refresh_every={}", self.refresh_every),
            // λ/D of at most 1e-3: the recipe's λ would empty B∖A of layers far sparser than its own.
            format!("optimizer.penalty={:e}", 1e-5f64.min(1e-3 * (1.0 - self.forward).max(0.0))),
            format!("sparsity.keep_dense={}", if self.all_sparse { "[]" } else { "[\"last\"]" }),
        ];
        Ok(Config::load(None, &settings).map_err(TrainError::from)?)
    }

    /// Steps of a sparse turn that count: there is a refresh among them.
    fn turn(&self) -> u64 {
        TURN.max(self.refresh_every.into())
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
        let trained = (all - dense) as f64 * (1.0 - self.backward) + dense as f64;
        ((2e7 / trained) as usize).clamp(1, self.batch as usize)
    }

    /// Random images with random labels.
    fn data(&self, samples: usize, seed: u64) -> Result<Split, Failure> {
        let mut noise = seed as u32;
        let mut random = || {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24) as u8
        };
        let classes = self.outputs.min(256);
        let mut part = |count: usize| {
            let pixels = (0..count * self.inputs as usize).map(|_| random()).collect();
            let labels = (0..count).map(|_| (u32::from(random()) % classes) as u8).collect();
            let images = Images { count, height: 1, width: self.inputs as usize, pixels };
            Dataset::new(images, labels, self.outputs as usize)
        };
        Ok(Split { train: part(samples)?, test: part(1)? })
    }
}

/// One of the two networks in training, and the steps it has made that count.
struct Side {
    trainer: Trainer,
    steps: Vec<(f64, StepReport)>,
}

impl Side {
    fn new(config: Config, data: Split) -> Result<Self, Failure> {
        let mut trainer = Trainer::with_data(config, data)?;
        for _ in 0..WARM_UP {
            trainer.step()?;
        }
        Ok(Self { trainer, steps: Vec::new() })
    }

    fn turn(&mut self, steps: u64) -> Result<(), Failure> {
        self.trainer.step()?;
        for _ in 0..steps {
            let start = Instant::now();
            let report = self.trainer.step()?;
            self.steps.push((milliseconds(start.elapsed()), report));
        }
        Ok(())
    }

    fn bytes(&mut self) -> Bytes {
        let config = self.trainer.config().clone();
        let layers = layer_summaries(self.trainer.network(), &config, &[]);
        Bytes {
            sparse: layers.iter().map(|layer| layer.training_bytes).sum(),
            dense: layers.iter().map(|layer| layer.dense_training_bytes).sum(),
            reservoir: layers.iter().map(|layer| layer.reservoir_bytes).sum(),
        }
    }

    /// The steps' times. A refresh costs its step more than its own time, as what is made of a pattern when first asked
    /// for is made in that step: so its cost is what steps with a refresh take longer than others.
    fn times(&self, refresh_every: f64) -> Times {
        let of =
            |refreshed: bool| self.steps.iter().filter(move |(_, step)| step.refresh.is_some() == refreshed);
        let plain = quartiles(of(false).map(|(ms, _)| *ms));
        let refreshing = quartiles(of(true).map(|(ms, _)| *ms));
        let phase = |read: fn(&Phases) -> Duration| {
            // Where every step refreshes there are no others.
            let steps = of(of(false).next().is_none());
            median(steps.map(|(_, step)| milliseconds(read(&step.phases))))
        };
        let step = match (of(true).next(), of(false).next()) {
            (None, _) => plain,
            (Some(_), None) => refreshing,
            (Some(_), Some(_)) => plain.map(|ms| ms + (refreshing[1] - plain[1]) / refresh_every),
        };
        let refresh = median(of(true).map(|(_, report)| milliseconds(report.phases.refresh)));
        let phases = [
            ("load", phase(|phases| phases.load)),
            ("forward", phase(|phases| phases.forward)),
            ("loss", phase(|phases| phases.loss)),
            ("input_gradient", phase(|phases| phases.input_gradient)),
            ("weight_gradient", phase(|phases| phases.weight_gradient)),
            ("update", phase(|phases| phases.update)),
            ("refresh", refresh / refresh_every),
        ];
        Times { step, refresh, phases, steps: self.steps.len() }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Milliseconds of a side's steps.
struct Times {
    /// Quartiles of a step, with its share of a refresh.
    step: [f64; 3],
    /// A refresh.
    refresh: f64,
    /// What a step spends its time on: medians, for the refresh a step's share.
    phases: [(&'static str, f64); 7],
    steps: usize,
}

struct Report {
    sparse: Times,
    /// None where the network would not fit.
    dense: Option<Times>,
    bytes: Bytes,
}

/// What training takes.
struct Bytes {
    sparse: u64,
    dense: u64,
    reservoir: u64,
}

impl Report {
    fn json(&self, arguments: &Arguments, machine: &Machine) -> Value {
        let phases = |times: &Times| -> Value {
            times.phases.iter().map(|&(name, ms)| (name.to_owned(), json!(ms))).collect()
        };
        let dense = self.dense.as_ref();
        let mut report = json!({
            "inputs": arguments.inputs, "hidden": arguments.hidden, "outputs": arguments.outputs,
            "batch": arguments.batch, "forward": arguments.forward, "backward": arguments.backward,
            "refresh_every": arguments.refresh_every,
            "steps": self.sparse.steps, "dense_steps": dense.map(|dense| dense.steps),
            "step_ms": self.sparse.step[1], "step_ms_spread": [self.sparse.step[0], self.sparse.step[2]],
            "dense_step_ms": dense.map(|dense| dense.step[1]),
            "dense_step_ms_spread": dense.map(|dense| [dense.step[0], dense.step[2]]),
            "load_ms": self.sparse.phases[0].1, "refresh_ms": self.sparse.refresh,
            "phases_ms": phases(&self.sparse), "dense_phases_ms": dense.map(phases),
            "training_bytes": self.bytes.sparse, "dense_training_bytes": self.bytes.dense,
            "reservoir_bytes": self.bytes.reservoir,
        });
        machine.add_to(&mut report);
        report
    }

    fn print(&self, arguments: &Arguments, machine: &Machine) -> Result<(), Failure> {
        let units: Vec<String> = std::iter::once(arguments.inputs)
            .chain(arguments.hidden.iter().copied())
            .chain([arguments.outputs])
            .map(|units| units.to_string())
            .collect();
        let (forward, backward) = (arguments.forward * 100.0, arguments.backward * 100.0);
        print_line(format!(
            "{}, batch {}, {forward}% forward, {backward}% backward",
            units.join("-"),
            arguments.batch
        ))?;
        print_line(machine)?;
        print_line(format!("{:<16} {:>10} {:>10} {:>8}", "", "sparse ms", "dense ms", "faster"))?;
        let line = |name: &str, sparse: f64, dense: Option<f64>, faster: &str| {
            let dense = dense.map_or("-".to_owned(), |ms| format!("{ms:.3}"));
            print_line(format!("{:<16} {sparse:>10.3} {dense:>10} {faster:>8}", name.replace('_', " ")))
        };
        for (number, &(name, sparse)) in self.sparse.phases.iter().enumerate() {
            line(name, sparse, self.dense.as_ref().map(|dense| dense.phases[number].1), "")?;
        }
        let [low, step, high] = self.sparse.step;
        let spread = |[low, _, high]: [f64; 3]| format!("{low:.2} to {high:.2} ms");
        match &self.dense {
            Some(dense) => {
                line("step", step, Some(dense.step[1]), &format!("{:.1}x", dense.step[1] / step))?;
                let (sparse, dense) = (spread([low, step, high]), spread(dense.step));
                print_line(format!("half of all steps take {sparse} sparse, {dense} dense"))?;
            }
            None => {
                line("step", step, None, "")?;
                print_line(format!("half of all steps take {}", spread([low, step, high])))?;
                print_line(
                    "dense it would need more than 4 GiB for weights and optimizer state, so it was not timed",
                )?;
            }
        }
        print_line(format!(
            "a refresh takes {:.2} ms, every {} step(s)",
            self.sparse.refresh, arguments.refresh_every
        ))?;
        if self.dense.as_ref().is_some_and(|dense| step > dense.step[1]) {
            print_line(
                "sparse is slower than dense here: choose higher --forward and --backward sparsities",
            )?;
        }
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        print_line(format!(
            "training memory {:.1} MiB against {:.1} MiB dense, reservoir {:.1} MiB",
            mib(self.bytes.sparse),
            mib(self.bytes.dense),
            mib(self.bytes.reservoir)
        ))
    }
}
