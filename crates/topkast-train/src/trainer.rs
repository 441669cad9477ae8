//! One training step after another: data, refresh, forward, backward, update.

use std::path::Path;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use topkast::{Optimizer, Schedule, Seed, clip_scale};
use topkast_kernels::{Isa, Matrix, softmax_cross_entropy, sum_of_squares};
use topkast_nn::{Mlp, Mode, ParameterMut};

use crate::TrainError;
use crate::checkpoint::{self, Checkpoint, State};
use crate::config::Config;
use crate::data::{self, Dataset, Normalizer, Order, fill_batch};
use crate::score::{Score, evaluate};

/// A network in training, with its data. All randomness follows from the seed and the step, so the state between two
/// steps is the parameters and the step number.
pub struct Trainer {
    config: Config,
    isa: Isa,
    seed: Seed,
    network: Mlp,
    optimizer: Optimizer,
    schedule: Schedule,
    data: TrainingData,
    order: Order,
    /// The epoch that `order` is of.
    shuffled: Option<u64>,
    step: u64,
    explore_steps: u64,
    x: Matrix,
    labels: Vec<u32>,
}

struct TrainingData {
    train: Dataset,
    held_out: Option<Dataset>,
    test: Dataset,
    normalizer: Normalizer,
}

/// What one step did.
#[derive(Clone, Copy, Debug)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: u64,
    /// Mean loss over the batch, before the update.
    pub loss: f64,
    /// Fraction of the batch classified right, before the update.
    pub accuracy: f64,
    /// Samples in the batch.
    pub samples: usize,
    /// Learning rate.
    pub lr: f64,
    /// What the refresh before this step changed, if there was one.
    pub refresh: Option<RefreshReport>,
}

/// What a refresh changed over all layers.
#[derive(Clone, Copy, Debug, Default)]
pub struct RefreshReport {
    /// How many entries of A were not in A before.
    pub newly_active: u64,
    /// |A| over all layers.
    pub active: u64,
    /// How many entries came into B.
    pub entered: u64,
    /// How long it took.
    pub time: Duration,
}

impl RefreshReport {
    /// What two layers' refreshes changed together.
    fn and(self, other: Self) -> Self {
        Self {
            newly_active: self.newly_active + other.newly_active,
            active: self.active + other.active,
            entered: self.entered + other.entered,
            time: self.time + other.time,
        }
    }
}

impl Trainer {
    /// Reads the data and makes the network.
    ///
    /// # Errors
    /// If the data cannot be read or the config does not fit it.
    pub fn new(config: Config) -> Result<Self, TrainError> {
        let split = data::load(config.data.kind, Path::new(&config.data.path))?;
        let (train, held_out) = match config.data.validation {
            0.0 => (split.train, None),
            fraction => {
                let count = (split.train.len() as f64 * fraction).round() as usize;
                let (train, held_out) = split.train.hold_out(count)?;
                (train, Some(held_out))
            }
        };
        let normalizer = Normalizer::fit(&train);
        let network = config.network(train.features(), train.classes())?;
        Self::with_parts(config, network, TrainingData { train, held_out, test: split.test, normalizer })
    }

    fn with_parts(config: Config, mut network: Mlp, data: TrainingData) -> Result<Self, TrainError> {
        let optimizer = prepare(&config, &mut network);
        let order = Order::in_sequence(data.train.len());
        let batches = order.batches(config.train.batch) as u64;
        let total_steps = match config.train.steps {
            0 => batches.saturating_mul(config.train.epochs),
            steps => steps,
        };
        Ok(Self {
            isa: Isa::current()?,
            seed: Seed::new(config.seed),
            schedule: config.optimizer.schedule(total_steps),
            explore_steps: (config.sparsity.explore_until * total_steps as f64).round() as u64,
            network,
            optimizer,
            data,
            order,
            shuffled: None,
            step: 0,
            x: Matrix::default(),
            labels: Vec::new(),
            config,
        })
    }

    /// Goes on from a checkpoint of the same config.
    ///
    /// # Errors
    /// If the checkpoint is from another config or does not fit the network.
    pub fn restore(&mut self, checkpoint: &Checkpoint, path: &Path) -> Result<(), TrainError> {
        let comparable = |config: &Config| {
            // The number of threads does not change results, so a run may go on with another.
            let mut config = config.clone();
            config.train.threads = 0;
            config.to_text()
        };
        let (theirs, ours) = (comparable(&checkpoint.config), comparable(&self.config));
        if let Some((theirs, ours)) = theirs.lines().zip(ours.lines()).find(|(theirs, ours)| theirs != ours) {
            let problem = format!("from another config: it has `{theirs}`, this run `{ours}`");
            return Err(TrainError::checkpoint(path, problem));
        }
        let shape = (checkpoint.state.input, checkpoint.state.classes);
        if shape != (self.data.train.shape(), self.data.train.classes())
            || checkpoint.state.normalizer != self.data.normalizer
        {
            return Err(TrainError::checkpoint(path, "made from other data than data.path now holds"));
        }
        if checkpoint.state.step > self.total_steps() {
            return Err(TrainError::checkpoint(path, "has more steps than the run"));
        }
        checkpoint.restore(&mut self.network)?;
        self.step = checkpoint.state.step;
        Ok(())
    }

    /// Writes a checkpoint, unless a value has stopped being finite: the former checkpoint is then the last good one.
    ///
    /// # Errors
    /// If a parameter is not finite or the file cannot be written.
    pub fn save(&mut self, path: &Path, seconds: f64) -> Result<(), TrainError> {
        let isa = self.isa;
        let mut broken = None;
        self.network.visit(&mut |name, parameter| {
            // A sum of squares of f32 in f64 cannot overflow: it is finite exactly if every value is.
            if !sum_of_squares(isa, &values_of(&parameter).values).is_finite() {
                broken.get_or_insert_with(|| name.to_owned());
            }
        });
        if let Some(name) = broken {
            return Err(self.diverged(name));
        }
        let train = &self.data.train;
        let state = State::new(
            &self.config,
            self.step,
            seconds,
            &self.data.normalizer,
            train.shape(),
            train.classes(),
        );
        checkpoint::save(path, &mut self.network, &state)
    }

    /// Trains on the next batch.
    ///
    /// # Errors
    /// If the loss is not finite; nothing is updated then.
    pub fn step(&mut self) -> Result<StepReport, TrainError> {
        self.load_batch();
        let refresh = self.refresh();
        let explore = self.step < self.explore_steps;
        let mode = Mode::Train(self.seed.named("dropout").numbered(self.step));
        self.network.forward(self.isa, &self.x, mode);
        let (logits, gradient) = self.network.logits_and_gradient();
        let smoothing = self.config.train.label_smoothing as f32;
        let sums = softmax_cross_entropy(self.isa, logits, &self.labels, smoothing, Some(gradient));
        let samples = self.labels.len();
        let loss = sums.loss / samples as f64;
        if !loss.is_finite() {
            return Err(self.diverged("the loss".to_owned()));
        }
        self.network.backward(self.isa, &self.x, explore);
        let lr = self.schedule.rate(self.step);
        self.update(lr as f32, explore);
        self.step += 1;
        Ok(StepReport {
            step: self.step,
            loss,
            accuracy: sums.correct as f64 / samples as f64,
            samples,
            lr,
            refresh,
        })
    }

    fn load_batch(&mut self) {
        let batches = self.batches_per_epoch();
        let epoch = self.step / batches;
        if self.shuffled != Some(epoch) {
            self.order.shuffle(self.config.seed, epoch);
            self.shuffled = Some(epoch);
        }
        let samples = self.order.batch((self.step % batches) as usize, self.config.train.batch);
        fill_batch(&self.data.train, &self.data.normalizer, samples, &mut self.x, &mut self.labels);
    }

    /// Chooses A and B again every N steps (paper §2.1); the first choice is the initialisation's.
    fn refresh(&mut self) -> Option<RefreshReport> {
        let due = self.step > 0 && self.step.is_multiple_of(self.config.sparsity.refresh_every);
        if !due || !self.config.sparsity.refreshes() {
            return None;
        }
        let (start, step) = (Instant::now(), self.step);
        let mut weights = Vec::new();
        self.network.visit(&mut |_, parameter| {
            if let ParameterMut::Sparse(weight) = parameter {
                weights.push(weight);
            }
        });
        // Layers do not know of each other, so each may be refreshed on a thread of its own.
        let mut report = weights
            .into_par_iter()
            .filter_map(|weight| {
                let active = weight.counts().active as u64;
                let remap = weight.refresh(step)?;
                Some(RefreshReport {
                    newly_active: remap.newly_active() as u64,
                    active,
                    entered: remap.entered() as u64,
                    time: Duration::ZERO,
                })
            })
            .reduce(RefreshReport::default, RefreshReport::and);
        report.time = start.elapsed();
        Some(report)
    }

    fn update(&mut self, lr: f32, explore: bool) {
        let (isa, optimizer) = (self.isa, &self.optimizer);
        let clip_norm = self.config.optimizer.clip_norm as f32;
        let mut squares = 0.0;
        if clip_norm > 0.0 {
            self.network.visit(&mut |_, parameter| {
                squares += sum_of_squares(isa, &values_of(&parameter).gradient);
            });
        }
        let scale = clip_scale(squares, clip_norm);
        self.network.visit(&mut |_, parameter| match parameter {
            ParameterMut::Sparse(weight) => weight.update(optimizer, isa, lr, scale, explore),
            ParameterMut::Weight { parameter, .. } => {
                let all = 0..parameter.values.len();
                optimizer.update(isa, lr, scale, parameter, all, optimizer.penalty());
            }
            ParameterMut::Bias(parameter) => {
                let all = 0..parameter.values.len();
                optimizer.update(isa, lr, scale, parameter, all, 0.0);
            }
        });
    }

    /// Scores the network, with A only, on the held-out part of the training data, if any.
    pub fn validate(&mut self) -> Option<Score> {
        let Self { network, isa, x, labels, data, config, .. } = self;
        let held_out = data.held_out.as_ref()?;
        Some(evaluate(network, *isa, held_out, &data.normalizer, config.train.batch, x, labels))
    }

    /// Scores the network, with A only, on the test data.
    pub fn test(&mut self) -> Score {
        let Self { network, isa, x, labels, data, config, .. } = self;
        evaluate(network, *isa, &data.test, &data.normalizer, config.train.batch, x, labels)
    }

    fn diverged(&self, what: String) -> TrainError {
        TrainError::Diverged { what, step: self.step, kept: "nothing was saved since".to_owned() }
    }

    /// The config it was made from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The instruction set it runs on.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Steps done.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// Steps in all.
    pub fn total_steps(&self) -> u64 {
        self.schedule.total_steps
    }

    /// Steps in an epoch.
    pub fn batches_per_epoch(&self) -> u64 {
        self.order.batches(self.config.train.batch) as u64
    }

    /// The network.
    pub fn network(&mut self) -> &mut Mlp {
        &mut self.network
    }
}

/// The optimizer of `config`, with room for its state in `network`.
pub(crate) fn prepare(config: &Config, network: &mut Mlp) -> Optimizer {
    let optimizer = Optimizer::new(
        config.optimizer.hyper(),
        config.optimizer.penalty_kind(),
        config.optimizer.penalty as f32,
    );
    network.visit(&mut |_, parameter| match parameter {
        ParameterMut::Sparse(weight) => optimizer.prepare(weight.parameter_mut()),
        ParameterMut::Weight { parameter, .. } | ParameterMut::Bias(parameter) => {
            optimizer.prepare(parameter)
        }
    });
    optimizer
}

fn values_of<'a>(parameter: &'a ParameterMut<'_>) -> &'a topkast::Parameter {
    match parameter {
        ParameterMut::Sparse(weight) => weight.parameter(),
        ParameterMut::Weight { parameter, .. } | ParameterMut::Bias(parameter) => parameter,
    }
}
