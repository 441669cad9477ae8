//! One training step after another: data, refresh, forward, backward, update.

use std::path::Path;
use std::time::{Duration, Instant};

use topkast::{Optimizer, Schedule, Seed, clip_scale};
use topkast_kernels::{Isa, Matrix, softmax_cross_entropy, sum_of_squares};
use topkast_nn::{Mlp, Mode, ParameterMut};

use crate::TrainError;
use crate::checkpoint::{self, Checkpoint, State};
use crate::config::Config;
use crate::data::{self, Dataset, Normalizer, Order, fill_batch};

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

/// How well a network does on a data set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Mean cross-entropy, without label smoothing.
    pub loss: f64,
    /// Fraction classified right.
    pub accuracy: f64,
    /// Number of samples.
    pub samples: usize,
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
        let mut report = RefreshReport::default();
        self.network.visit(&mut |_, parameter| {
            if let ParameterMut::Sparse(weight) = parameter
                && let Some(remap) = weight.refresh(step)
            {
                report.active += weight.counts().active as u64;
                report.newly_active += remap.newly_active() as u64;
                report.entered += remap.entered() as u64;
            }
        });
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
fn prepare(config: &Config, network: &mut Mlp) -> Optimizer {
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

fn evaluate(
    network: &mut Mlp,
    isa: Isa,
    dataset: &Dataset,
    normalizer: &Normalizer,
    batch: usize,
    x: &mut Matrix,
    labels: &mut Vec<u32>,
) -> Score {
    let order = Order::in_sequence(dataset.len());
    let (mut loss, mut correct) = (0.0, 0);
    for number in 0..order.batches(batch) {
        fill_batch(dataset, normalizer, order.batch(number, batch), x, labels);
        let logits = network.forward(isa, x, Mode::Evaluate);
        let sums = softmax_cross_entropy(isa, logits, labels, 0.0, None);
        loss += sums.loss;
        correct += sums.correct;
    }
    let samples = dataset.len();
    Score { loss: loss / samples as f64, accuracy: correct as f64 / samples as f64, samples }
}

/// A trained network from a checkpoint, for scoring and prediction.
pub struct Trained {
    /// The network.
    pub network: Mlp,
    /// What else the checkpoint held.
    pub state: State,
    /// The run's config.
    pub config: Config,
    isa: Isa,
}

/// Reads the network in the checkpoint at `path`.
///
/// # Errors
/// If the checkpoint cannot be read or is damaged.
pub fn load_trained(path: &Path) -> Result<Trained, TrainError> {
    let checkpoint = Checkpoint::read(path)?;
    let (height, width) = checkpoint.state.input;
    let inputs = height.checked_mul(width).filter(|&inputs| (1..=1 << 30).contains(&inputs));
    let inputs = inputs.ok_or_else(|| TrainError::checkpoint(path, "its input size is impossible"))?;
    if !(1..=1 << 30).contains(&checkpoint.state.classes) {
        return Err(TrainError::checkpoint(path, "its number of classes is impossible"));
    }
    checkpoint.check_length(inputs, checkpoint.state.classes)?;
    let mut network = checkpoint.config.network(inputs, checkpoint.state.classes)?;
    prepare(&checkpoint.config, &mut network);
    checkpoint.restore(&mut network)?;
    Ok(Trained { network, state: checkpoint.state, config: checkpoint.config, isa: Isa::current()? })
}

impl Trained {
    /// Scores the network, with A only.
    ///
    /// # Errors
    /// If the images are not of the network's size.
    pub fn score(&mut self, dataset: &Dataset) -> Result<Score, TrainError> {
        let (expected, found) = (self.state.input, dataset.shape());
        if expected != found {
            let mend = "give data like that the network was trained on";
            return Err(data::DataError::Shape { expected, found, mend }.into());
        }
        let batch = self.config.train.batch;
        let (mut x, mut labels) = (Matrix::default(), Vec::new());
        Ok(evaluate(&mut self.network, self.isa, dataset, &self.state.normalizer, batch, &mut x, &mut labels))
    }

    /// The probability of each class for one image of the network's size, given as its pixels row by row.
    ///
    /// # Panics
    /// If there are not as many pixels as the network has inputs.
    pub fn probabilities(&mut self, pixels: &[u8]) -> Vec<f64> {
        assert_eq!(pixels.len(), self.network.inputs(), "one pixel per input");
        let table = self.state.normalizer.table();
        let values: Vec<f32> = pixels.iter().map(|&pixel| table[pixel as usize]).collect();
        let x = Matrix::from_rows(values.len(), 1, &values);
        let logits = self.network.forward(self.isa, &x, Mode::Evaluate);
        let logits: Vec<f64> = (0..logits.features()).map(|class| f64::from(logits.get(class, 0))).collect();
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let exponentials: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
        let sum: f64 = exponentials.iter().sum();
        exponentials.iter().map(|exponential| exponential / sum).collect()
    }
}
