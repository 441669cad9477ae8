//! One training step after another: data, refresh, forward, backward, update.

mod start;

use std::path::Path;

use topkast::{Optimizer, Schedule, Seed, clip_scale};
use topkast_kernels::{Isa, sum_of_squares};
use topkast_nn::{Gradients, Linear, Loss, Mode, Network, ParameterMut, PartTimes};

use crate::TrainError;
use crate::accumulate::Accumulated;
use crate::checkpoint::{self, Checkpoint, State};
use crate::config::{Config, Method};
use crate::dynamics::{MaskDynamics, Masks};
use crate::flops::{Flops, Shares};
use crate::products::{self, LayerProducts};
use crate::pull::{self, Pull};
use crate::refresh::Refresh;
use crate::report::{Clock, Phases, StepReport};
use crate::score::{Score, means};
use crate::summary::LayerSummary;
use crate::task::Task;
use crate::weights::{self, Fingerprint};

/// A network in training, with its data. All randomness follows from the seed and the step, so the state between two
/// steps is the parameters and the step number.
pub struct Trainer {
    config: Config,
    isa: Isa,
    seed: Seed,
    network: Network,
    /// At the end of the last epoch.
    masks: Masks,
    refresh: Refresh,
    optimizer: Optimizer,
    schedule: Schedule,
    task: Task,
    accumulated: Accumulated,
    step: u64,
    explore_steps: u64,
    products: Vec<LayerProducts>,
    /// Which file of weights the network began with, if any.
    weights: Option<Fingerprint>,
}

/// What the batches of a step came to.
struct Pass {
    loss: Loss,
    samples: usize,
    phases: Phases,
    parts: PartTimes,
}

impl Trainer {
    /// A trainer whose layers may have no entries yet.
    fn before_start(config: Config, task: Task) -> Result<Self, TrainError> {
        let (inputs, classes) = task.sizes();
        let (network, weights) = weights::begin(&config, inputs, classes)?;
        Ok(Self { weights, ..Self::with_parts(config, network, task)? })
    }

    fn with_parts(config: Config, mut network: Network, task: Task) -> Result<Self, TrainError> {
        let isa = Isa::current()?;
        if let Some(bf16) = config.train.bf16(isa)? {
            for (_, linear) in network.linears() {
                if let Linear::Sparse(layer) = linear {
                    layer.use_bf16_weight_gradient(bf16);
                }
            }
        }
        let optimizer = prepare(&config, &mut network);
        let total_steps = match config.train.steps {
            0 => task.batches().saturating_mul(config.train.epochs).div_ceil(config.train.accumulate),
            steps => steps,
        };
        Ok(Self {
            isa,
            seed: Seed::new(config.seed),
            schedule: config.optimizer.schedule(total_steps),
            explore_steps: (config.sparsity.explore_until * total_steps as f64).round() as u64,
            refresh: Refresh::new(&config, &network, total_steps)?,
            masks: Masks::of(&mut network),
            network,
            optimizer,
            task,
            accumulated: Accumulated::default(),
            step: 0,
            products: Vec::new(),
            weights: None,
            config,
        })
    }

    /// Goes on from a checkpoint of the same config.
    ///
    /// # Errors
    /// If the checkpoint is from another config or does not fit the network.
    pub fn restore(&mut self, checkpoint: &Checkpoint, path: &Path) -> Result<(), TrainError> {
        if let Some(difference) = checkpoint.config.difference(&self.config) {
            return Err(TrainError::checkpoint(path, format!("from another config: {difference}")));
        }
        if checkpoint.state.data != self.task.state() {
            return Err(TrainError::checkpoint(path, "made from other data than data.path now holds"));
        }
        let (theirs, ours) = (checkpoint.state.weights.as_ref(), self.weights.as_ref());
        weights::check_same(theirs, ours, self.config.model.weights())
            .map_err(|problem| TrainError::checkpoint(path, problem))?;
        if checkpoint.state.step > self.total_steps() {
            return Err(TrainError::checkpoint(path, "has more steps than the run"));
        }
        let masks = Masks::earlier(checkpoint.restore(&mut self.network)?);
        if let Some(pruning) = self.refresh.pruning() {
            let checked = pruning.check(&mut self.network, checkpoint.state.step);
            checked.map_err(|problem| TrainError::checkpoint(path, problem))?;
        }
        self.masks = masks;
        self.step = checkpoint.state.step;
        self.products = checkpoint.state.products.clone();
        Ok(())
    }

    /// Times the products of each sparse layer beside dense ones, and lets it compute with either as `sparsity.products` says;
    /// but a trainer restored from a checkpoint goes on as that run began.
    pub fn measure_products(&mut self) {
        if self.products.is_empty() {
            let positions = self.task.positions();
            let measured = products::measure(&mut self.network, self.isa, positions, &self.config.sparsity);
            self.use_products(measured);
        }
    }

    /// Lets layers compute as decided elsewhere.
    ///
    /// # Panics
    /// If dense products are decided for what is no sparse layer, or one whose dense weight is over 256 MiB.
    pub fn use_products(&mut self, products: Vec<LayerProducts>) {
        products::apply(&mut self.network, &products).unwrap_or_else(|problem| panic!("{problem}"));
        self.products = products;
    }

    /// What was measured of each sparse layer, and what it computes with.
    pub fn products(&self) -> &[LayerProducts] {
        &self.products
    }

    /// The layers in which the exploration penalty empties B∖A between two refreshes.
    pub fn strong_pulls(&mut self) -> Vec<Pull> {
        pull::too_strong(&mut self.network, &self.config)
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
        let mut state = State::new(&self.config, self.step, seconds, self.task.state(), &self.products);
        state.weights.clone_from(&self.weights);
        checkpoint::save(path, &mut self.network, self.masks.layers(), &state)
    }

    /// Trains on the next batch.
    ///
    /// # Errors
    /// If the loss is not finite; nothing is updated then.
    pub fn step(&mut self) -> Result<StepReport, TrainError> {
        let mut pass =
            Pass { loss: Loss::ZERO, samples: 0, phases: Phases::default(), parts: PartTimes::default() };
        let mut clock = Clock::start();
        let refresh = self.refresh.before_step(&mut self.network, self.step);
        pass.phases.refresh = clock.lap();
        let explore = self.step < self.explore_steps;
        let wanted = match explore {
            _ if self.refresh.replaces_update(self.step) => Gradients::Activations,
            true => Gradients::All,
            false => Gradients::Active,
        };
        let batches = self.config.train.accumulate;
        for part in 0..batches {
            self.pass(self.step * batches + part, wanted, &mut pass)?;
            if batches > 1 && wanted != Gradients::Activations {
                self.accumulated.add(&mut self.network, part, batches);
            }
        }
        let Pass { loss, samples, mut phases, parts } = pass;
        clock.lap();
        let lr = self.schedule.rate(self.step);
        let input = self.task.input();
        let instead = self.refresh.in_place_of_update(&mut self.network, self.isa, input, self.step);
        phases.refresh += clock.lap();
        if instead.is_none() {
            self.update(lr as f32, explore);
        }
        phases.update = clock.lap();
        self.step += 1;
        let (loss, accuracy) = means(loss, samples);
        let refresh = refresh.or(instead);
        Ok(StepReport { step: self.step, loss, accuracy, samples, lr, refresh, phases, parts })
    }

    /// The gradients that are `wanted` of a batch.
    fn pass(&mut self, number: u64, wanted: Gradients, pass: &mut Pass) -> Result<(), TrainError> {
        let Pass { loss, samples, phases, parts } = pass;
        let mut clock = Clock::start();
        self.task.load(number, &mut self.network);
        phases.load += clock.lap();
        let mode = Mode::Train(self.seed.named("dropout").numbered(number));
        self.network.forward(self.isa, self.task.input(), mode);
        phases.forward += clock.lap();
        let smoothing = self.config.train.label_smoothing as f32;
        let of_batch = self.network.loss(self.isa, self.task.labels(), smoothing, true);
        phases.loss += clock.lap();
        if !of_batch.sum.is_finite() {
            return Err(self.diverged("the loss".to_owned()));
        }
        *loss += of_batch;
        *samples += self.task.labels().len();
        let backward = self.network.backward(self.isa, self.task.input(), wanted);
        phases.input_gradient += backward.input_gradient;
        phases.weight_gradient += backward.weight_gradient;
        *parts += self.network.part_times();
        Ok(())
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

    /// What has become of A and C, to be asked at the end of every epoch: A is compared with what it was when last asked, also before a
    /// checkpoint that this trainer was restored from, or at the start. None without sparse layers.
    pub fn end_epoch(&mut self) -> Option<MaskDynamics> {
        self.masks.advance(&mut self.network)
    }

    /// Scores the network, with A only, on the held-out part of the training data, if any.
    pub fn validate(&mut self) -> Option<Score> {
        self.task.validate(&mut self.network, self.isa)
    }

    /// Scores the network, with A only, on the test data.
    pub fn test(&mut self) -> Score {
        self.task.test(&mut self.network, self.isa)
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

    /// The share of all steps that compute dense gradients of sparse layers, as RigL's updates of A do.
    pub fn dense_gradient_share(&self) -> f64 {
        self.refresh.dense_gradients() as f64 / self.total_steps().max(1) as f64
    }

    /// Where weights are still to be pruned, how many sparse ones remain at last, and the step at which they come to that.
    pub fn pruning_ahead(&self) -> Option<(u64, u64)> {
        let pruning = self.refresh.pruning().filter(|pruning| self.step <= pruning.end())?;
        Some((pruning.remaining(), pruning.end()))
    }

    /// Floating-point operations of the whole run, as a fraction of the dense network's; `layers` are as they are at its end.
    pub(crate) fn flops(&self, layers: &[LayerSummary]) -> Flops {
        let steps = self.total_steps();
        let pruned = |layer: &LayerSummary| {
            self.refresh.pruning().map(|pruning| pruning.mean_computed(steps, layer.n, layer.active))
        };
        let snip = self.config.sparsity.method == Method::Snip;
        let shares = Shares {
            explore: self.config.sparsity.explore_until,
            dense_gradients: self.dense_gradient_share(),
            dense_passes: if snip { 1.0 / steps.max(1) as f64 } else { 0.0 },
        };
        Flops::of(layers, &shares, pruned, |layer| self.task.share_of_positions(&layer.name))
    }

    /// Steps in an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.task.batches().div_ceil(self.config.train.accumulate)
    }

    /// The network.
    pub fn network(&mut self) -> &mut Network {
        &mut self.network
    }
}

/// The optimizer of `config`, with room for its state in `network`.
pub(crate) fn prepare(config: &Config, network: &mut Network) -> Optimizer {
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
