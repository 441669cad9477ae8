//! One training step after another: data, refresh, forward, backward, update.

mod finite;
mod saving;
mod start;

use std::path::Path;

use topkast::{Optimizer, Schedule, Seed};
use topkast_kernels::{Isa, awake};
use topkast_nn::{Gradients, Linear, Loss, Mode, Network, ParameterMut, PartTimes};

use crate::TrainError;
use crate::accumulate::Accumulated;
use crate::checkpoint::{Best, Checkpoint};
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
    best: Option<Best>,
    /// Steps in a row that were left out, the last one included.
    left_out: u64,
    /// Statistics as they were before the step, where it may be left out.
    statistics: Vec<f32>,
    /// What was not finite in the last step that was left out.
    why_left_out: String,
}

/// What the batches of a step came to.
struct Pass {
    loss: Loss,
    samples: usize,
    phases: Phases,
    parts: PartTimes,
}

impl Pass {
    fn report(self, lr: f64) -> StepReport {
        let Self { loss, samples, phases, parts } = self;
        let (loss, accuracy) = means(loss, samples);
        StepReport { step: 0, loss, accuracy, samples, lr, refresh: None, phases, parts, left_out: false }
    }
}

impl Trainer {
    /// A trainer whose layers may have no entries yet.
    fn before_start(config: Config, task: Task) -> Result<Self, TrainError> {
        let (input, classes) = task.sizes();
        let (network, weights) = weights::begin(&config, input, classes)?;
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
            schedule: config
                .optimizer
                .schedule(total_steps, task.batches().div_ceil(config.train.accumulate)),
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
            best: None,
            left_out: 0,
            statistics: Vec::new(),
            why_left_out: String::new(),
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
        self.best = checkpoint.state.best;
        self.left_out = checkpoint.state.left_out;
        Ok(())
    }

    /// Times the products of each sparse layer beside dense ones, and lets it compute with either as `sparsity.products` says;
    /// but a trainer restored from a checkpoint goes on as that run began.
    pub fn measure_products(&mut self) {
        if self.products.is_empty() {
            let batch = self.task.positions();
            let positions: Vec<usize> = self.pixels().into_iter().map(|pixels| pixels * batch).collect();
            let measured = products::measure(&mut self.network, self.isa, &positions, &self.config.sparsity);
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

    /// Trains on the next batch.
    ///
    /// # Errors
    /// If the loss, a gradient or what an update wrote is not finite; parameters are then as before, but in the last case. With
    /// `train.skip_nonfinite` the step is left out instead, unless as many before it were. Or if too many images are broken.
    pub fn step(&mut self) -> Result<StepReport, TrainError> {
        awake(|| self.next())
    }

    fn next(&mut self) -> Result<StepReport, TrainError> {
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
        self.keep_statistics();
        let scale = self.passes(wanted, &mut pass)?.and_then(|()| self.gradient_scale(wanted));
        let lr = self.schedule.rate(self.step);
        let mut report = pass.report(lr);
        report.refresh = refresh;
        clock.lap();
        match scale {
            Ok(scale) => {
                let input = self.task.input();
                let instead = self.refresh.in_place_of_update(&mut self.network, self.isa, input, self.step);
                report.phases.refresh += clock.lap();
                if instead.is_none() {
                    self.update(lr as f32, scale, explore)?;
                }
                report.phases.update = clock.lap();
                report.refresh = refresh.or(instead);
                self.left_out = 0;
            }
            Err(what) => {
                self.leave_out(what)?;
                report.left_out = true;
            }
        }
        self.step += 1;
        report.step = self.step;
        Ok(report)
    }

    /// The gradients that are `wanted` of all batches of a step, or what is not finite.
    fn passes(&mut self, wanted: Gradients, pass: &mut Pass) -> Result<Result<(), String>, TrainError> {
        let batches = self.config.train.accumulate;
        for part in 0..batches {
            if let Err(what) = self.pass(self.step * batches + part, wanted, pass)? {
                return Ok(Err(what));
            }
            if batches > 1 && wanted != Gradients::Activations {
                self.accumulated.add(&mut self.network, part, batches);
            }
        }
        Ok(Ok(()))
    }

    /// The gradients that are `wanted` of a batch, or what is not finite.
    fn pass(
        &mut self,
        number: u64,
        wanted: Gradients,
        pass: &mut Pass,
    ) -> Result<Result<(), String>, TrainError> {
        let Pass { loss, samples, phases, parts } = pass;
        let mut clock = Clock::start();
        self.task.load(number, &mut self.network)?;
        phases.load += clock.lap();
        let mode = Mode::Train(self.seed.named("dropout").numbered(number));
        self.network.forward(self.isa, self.task.input(), mode);
        phases.forward += clock.lap();
        let smoothing = self.config.train.label_smoothing as f32;
        let of_batch = self.network.loss(self.isa, self.task.labels(), smoothing, true);
        phases.loss += clock.lap();
        *loss += of_batch;
        *samples += self.task.labels().len();
        if !of_batch.sum.is_finite() {
            return Ok(Err(self.what_of_loss()));
        }
        let backward = self.network.backward(self.isa, self.task.input(), wanted);
        phases.input_gradient += backward.input_gradient;
        phases.weight_gradient += backward.weight_gradient;
        *parts += self.network.part_times();
        Ok(Ok(()))
    }

    /// Updates all parameters with their gradients times `scale`.
    fn update(&mut self, lr: f32, scale: f32, explore: bool) -> Result<(), TrainError> {
        let (isa, optimizer) = (self.isa, &self.optimizer);
        let mut finite = true;
        self.network.visit(&mut |_, parameter| {
            finite &= match parameter {
                ParameterMut::Sparse(weight) => weight.update(optimizer, isa, lr, scale, explore),
                ParameterMut::Weight { parameter, .. } => {
                    let all = 0..parameter.values.len();
                    optimizer.update(isa, lr, scale, parameter, all, optimizer.penalty())
                }
                ParameterMut::Bias(parameter) => {
                    let all = 0..parameter.values.len();
                    optimizer.update(isa, lr, scale, parameter, all, 0.0)
                }
                ParameterMut::Statistic(_) => true,
            };
        });
        if finite {
            return Ok(());
        }
        let what = self.what_of_update();
        Err(self.diverged_in_step(what))
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
    ///
    /// # Errors
    /// If too many images are broken.
    pub fn test(&mut self) -> Result<Score, TrainError> {
        self.task.test(&mut self.network, self.isa)
    }

    /// What is wrong with the images of a folder that were found broken, and replaced or left out, since this was last asked.
    pub fn broken_images(&self) -> Vec<String> {
        self.task.broken_images()
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
        let pixels = self.pixels();
        // An embedding comes before the linear layers.
        let first = layers.len() - pixels.len();
        let positions = |number: usize, layer: &LayerSummary| {
            let pixels = number.checked_sub(first).map_or(1, |number| pixels[number]);
            pixels as f64 * self.task.share_of_positions(&layer.name)
        };
        Flops::of(layers, &shares, pruned, positions)
    }

    /// For how many positions each linear layer computes for one of the network's.
    fn pixels(&self) -> Vec<usize> {
        self.config.shape(self.network.input(), self.network.outputs()).pixels()
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
    network.visit(&mut |_, parameter| {
        if let Some(trained) = parameter.trained() {
            optimizer.prepare(trained);
        }
    });
    optimizer
}
