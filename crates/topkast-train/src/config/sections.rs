//! The sections of the configuration, their defaults and what their values may be.

use serde::{Deserialize, Serialize};
use topkast::{Hyper, PenaltyKind, Scale, Schedule, Shape, Sparsity};
use topkast_kernels::{Bf16, Isa};

use super::{
    ConfigError, Distribution, ExploreKind, Method, OptimizerKind, PenaltyName, ProductsKind, ReservoirKind,
    ScaleKind, ScheduleKind, WeightGradientKind,
};

/// `[sparsity]`
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SparsityConfig {
    /// How A and B are decided.
    pub method: Method,
    /// Forward sparsity 1 − D.
    pub forward: f64,
    /// Backward sparsity 1 − D − M. Only top-kast has one of its own.
    pub backward: f64,
    /// How sparsity is spread over layers.
    pub distribution: Distribution,
    /// N: A and B are chosen again every so many steps; ΔT of set, rigl and pruning, whose paper found no difference from 100 to 1000
    /// (§3).
    pub refresh_every: u64,
    /// How B∖A is chosen.
    pub explore: ExploreKind,
    /// Fraction of the steps after which B∖A gets no more updates.
    pub explore_until: f64,
    /// α: set and rigl drop the fraction α/2 · (1 + cos(π·t/T_end)) of A at step t; 0.3 as in RigL's paper (§4).
    pub drop_fraction: f64,
    /// T_end as a fraction of all steps, from which on A of set and rigl stays, and at which that of pruning has come to its size;
    /// RigL's paper has 25,000 of 32,000 (§4).
    pub update_until: f64,
    /// Where C is kept.
    pub reservoir: ReservoirKind,
    /// How sparse layers compute.
    pub products: ProductsKind,
    /// What the initial variance of sparse layers is fitted to.
    pub init_scale: ScaleKind,
    /// Layers kept dense: `first`, `last`, or a layer name in which `*` stands for anything.
    pub keep_dense: Vec<String>,
    /// Sparsities of single layers; the first whose pattern matches counts. None with a global distribution.
    pub layers: Vec<LayerSparsity>,
}

/// `[[sparsity.layers]]`
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LayerSparsity {
    /// A layer name in which `*` stands for anything, or `first` or `last`.
    pub pattern: String,
    /// Forward sparsity there.
    pub forward: f64,
    /// Backward sparsity there.
    pub backward: f64,
}

/// `[optimizer]`
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// Update rule.
    pub kind: OptimizerKind,
    /// Highest learning rate.
    pub lr: f64,
    /// SGD's momentum.
    pub momentum: f64,
    /// Whether SGD looks ahead (Nesterov).
    pub nesterov: bool,
    /// Adam's decay of the first moment.
    pub beta1: f64,
    /// Adam's decay of the second moment.
    pub beta2: f64,
    /// Adam's ε.
    pub epsilon: f64,
    /// Exploration penalty λ: λ on A (and dense weights), λ/D on B∖A.
    pub penalty: f64,
    /// The penalty's form.
    pub penalty_kind: PenaltyName,
    /// How the learning rate goes after warm-up.
    pub schedule: ScheduleKind,
    /// Steps over which the learning rate first rises.
    pub warmup_steps: u64,
    /// The same in epochs, in place of `warmup_steps`.
    pub warmup_epochs: f64,
    /// From where it rises.
    pub warmup_from: f64,
    /// For `step`: the fractions of all steps at which the learning rate drops.
    pub milestones: Vec<f64>,
    /// For `step`: what it is multiplied by there.
    pub factor: f64,
    /// Bound on the norm of all gradients together; 0 is off.
    pub clip_norm: f64,
}

/// `[train]`
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Passes over the training data.
    pub epochs: u64,
    /// Steps in all, in place of `epochs`; 0 goes by epochs.
    pub steps: u64,
    /// Samples a batch; of text, streams side by side.
    pub batch: usize,
    /// Batches whose gradients are averaged for a step. (RigL grows by the last one's.)
    pub accumulate: u64,
    /// Threads; 0 takes all cores. Results do not depend on it.
    pub threads: usize,
    /// What the weight gradient of sparse layers is computed from. Dense layers, and layers that `sparsity.products` gives dense
    /// products, always compute theirs in f32.
    pub weight_gradient: WeightGradientKind,
    /// ε of label smoothing.
    pub label_smoothing: f64,
    /// Steps between scorings on validation or, without any, test data; 0 scores at the ends of epochs.
    pub evaluate_every: u64,
    /// Steps between logged metrics.
    pub log_every: u64,
    /// Steps between checkpoints, besides those at the ends of epochs; 0 makes none besides.
    pub checkpoint_every: u64,
    /// Steps in a row that are left out, without an update, where loss or gradients are not finite, before training stops; 0 stops at
    /// the first. Costs a pass over the gradients unless they are clipped.
    pub skip_nonfinite: u64,
    /// Checkpoints that are kept, the newest included; the best one is kept besides.
    pub keep_checkpoints: usize,
}

impl Default for SparsityConfig {
    fn default() -> Self {
        Self {
            method: Method::TopKast,
            forward: 0.9,
            backward: 0.8,
            distribution: Distribution::Uniform,
            refresh_every: 100,
            explore: ExploreKind::Magnitude,
            explore_until: 1.0,
            drop_fraction: 0.3,
            update_until: 0.75,
            reservoir: ReservoirKind::Implicit,
            products: ProductsKind::Sparse,
            init_scale: ScaleKind::Auto,
            keep_dense: vec!["last".to_owned()],
            layers: Vec::new(),
        }
    }
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::Sgd,
            lr: 0.05,
            momentum: 0.9,
            nesterov: false,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            penalty: 1e-5,
            penalty_kind: PenaltyName::L2,
            schedule: ScheduleKind::Cosine,
            warmup_steps: 0,
            warmup_epochs: 0.0,
            warmup_from: 0.0,
            milestones: vec![0.5, 0.75],
            factor: 0.1,
            clip_norm: 0.0,
        }
    }
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            epochs: 10,
            steps: 0,
            batch: 128,
            accumulate: 1,
            threads: 0,
            weight_gradient: WeightGradientKind::F32,
            label_smoothing: 0.0,
            evaluate_every: 0,
            log_every: 50,
            checkpoint_every: 0,
            skip_nonfinite: 0,
            keep_checkpoints: 2,
        }
    }
}

/// Largest width of a layer, batch and thread count: far above any use, low enough that no product overflows.
pub(super) const LARGEST: usize = 1 << 30;

impl SparsityConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.sparsity(self.forward, self.backward, "sparsity")?;
        for layer in &self.layers {
            self.sparsity(layer.forward, layer.backward, &format!("sparsity.layers `{}`", layer.pattern))?;
        }
        self.check_global()?;
        self.check_pruning()?;
        if self.refresh_every == 0 {
            return Err(ConfigError::value("sparsity.refresh_every", 0, "must be at least 1"));
        }
        up_to_one("sparsity.explore_until", self.explore_until)?;
        up_to_one("sparsity.drop_fraction", self.drop_fraction)?;
        up_to_one("sparsity.update_until", self.update_until)
    }

    /// The sparsity a layer would have under the configured method: only top-kast has B larger than A.
    pub(super) fn sparsity(&self, forward: f64, backward: f64, key: &str) -> Result<Sparsity, ConfigError> {
        let explores = self.method == Method::TopKast && self.explore != ExploreKind::None;
        let backward = if explores { backward } else { forward };
        Sparsity::new(forward, backward)
            .map_err(|error| ConfigError::value(key, format!("{forward} / {backward}"), error))
    }

    /// Whether A and B change in the course of training.
    pub fn refreshes(&self) -> bool {
        matches!(self.method, Method::TopKast | Method::Set | Method::Rigl | Method::Pruning)
    }

    /// How a network that is made without the file of weights keeps θ⁰.
    pub(super) fn reservoir(&self) -> topkast::ReservoirKind {
        match self.reservoir {
            ReservoirKind::Implicit => topkast::ReservoirKind::Implicit,
            ReservoirKind::Dense => topkast::ReservoirKind::Dense,
            ReservoirKind::Mmap => topkast::ReservoirKind::Absent,
        }
    }

    pub(super) fn scale(&self) -> Scale {
        match (self.init_scale, self.method) {
            (ScaleKind::Active, _) | (ScaleKind::Auto, Method::Static | Method::Set | Method::Rigl) => {
                Scale::Active
            }
            (ScaleKind::Full | ScaleKind::Auto, _) => Scale::Full,
        }
    }
}

impl OptimizerConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        at_least_zero("optimizer.lr", self.lr)?;
        at_least_zero("optimizer.warmup_from", self.warmup_from)?;
        at_least_zero("optimizer.penalty", self.penalty)?;
        at_least_zero("optimizer.clip_norm", self.clip_norm)?;
        at_least_zero("optimizer.factor", self.factor)?;
        at_least_zero("optimizer.warmup_epochs", self.warmup_epochs)?;
        if self.warmup_epochs > 0.0 && self.warmup_steps > 0 {
            let allowed = "must be 0 where optimizer.warmup_steps is not";
            return Err(ConfigError::value("optimizer.warmup_epochs", self.warmup_epochs, allowed));
        }
        below_one("optimizer.momentum", self.momentum)?;
        below_one("optimizer.beta1", self.beta1)?;
        below_one("optimizer.beta2", self.beta2)?;
        if self.nesterov && self.momentum == 0.0 {
            return Err(ConfigError::value("optimizer.nesterov", true, "needs optimizer.momentum above 0"));
        }
        if !(self.epsilon > 0.0 && (self.epsilon as f32).is_finite()) {
            return Err(ConfigError::value("optimizer.epsilon", self.epsilon, "must be above 0"));
        }
        let rising = self.milestones.windows(2).all(|pair| pair[0] < pair[1]);
        if !rising || self.milestones.iter().any(|milestone| !(0.0..1.0).contains(milestone)) {
            let value = format!("{:?}", self.milestones);
            return Err(ConfigError::value("optimizer.milestones", value, "must rise, from 0 to below 1"));
        }
        Ok(())
    }

    /// The update rule with its numbers.
    pub fn hyper(&self) -> Hyper {
        let Self { beta1, beta2, .. } = *self;
        let epsilon = self.epsilon as f32;
        match self.kind {
            OptimizerKind::Sgd => Hyper::Sgd { momentum: self.momentum as f32, nesterov: self.nesterov },
            OptimizerKind::Adam => Hyper::Adam { beta1, beta2, epsilon },
            OptimizerKind::AdamW => Hyper::AdamW { beta1, beta2, epsilon },
        }
    }

    /// The penalty's form.
    pub fn penalty_kind(&self) -> PenaltyKind {
        match self.penalty_kind {
            PenaltyName::L2 => PenaltyKind::L2,
            PenaltyName::L1 => PenaltyKind::L1,
        }
    }

    /// The learning rate of each of `total_steps` steps, of which there are so many in an epoch.
    pub fn schedule(&self, total_steps: u64, steps_per_epoch: u64) -> Schedule {
        let shape = match self.schedule {
            ScheduleKind::Constant => Shape::Constant,
            ScheduleKind::Step => Shape::Step { milestones: self.milestones.clone(), factor: self.factor },
            ScheduleKind::Cosine => Shape::Cosine,
        };
        Schedule {
            peak: self.lr,
            warmup_steps: match self.warmup_steps {
                0 => (self.warmup_epochs * steps_per_epoch as f64).round() as u64,
                steps => steps,
            },
            warmup_from: self.warmup_from,
            total_steps,
            shape,
        }
    }
}

impl TrainConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        within("train.batch", self.batch, 1, LARGEST)?;
        within("train.threads", self.threads, 0, 4096)?;
        if !(1..=1 << 20).contains(&self.accumulate) {
            let allowed = format!("must be from 1 to {}", 1 << 20);
            return Err(ConfigError::value("train.accumulate", self.accumulate, allowed));
        }
        within("train.keep_checkpoints", self.keep_checkpoints, 1, LARGEST)?;
        if self.log_every == 0 {
            return Err(ConfigError::value("train.log_every", 0, "must be at least 1"));
        }
        if self.epochs == 0 && self.steps == 0 {
            return Err(ConfigError::value("train.epochs", 0, "must be at least 1, or train.steps be given"));
        }
        below_one("train.label_smoothing", self.label_smoothing)
    }

    /// What `weight_gradient` needs of the machine that trains on `isa`, if anything.
    pub(crate) fn bf16(&self, isa: Isa) -> Result<Option<Bf16>, ConfigError> {
        if self.weight_gradient == WeightGradientKind::F32 {
            return Ok(None);
        }
        let missing = || {
            let allowed = format!(
                "needs the instructions AVX512-BF16, which this machine lacks or TOPKAST_ISA excludes (it runs on {isa:?}); \
                 use f32"
            );
            ConfigError::value("train.weight_gradient", "bf16", allowed)
        };
        isa.bf16().map(Some).ok_or_else(missing)
    }
}

fn up_to_one(key: &str, value: f64) -> Result<(), ConfigError> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::value(key, value, "must be from 0 to 1"))
}

pub(super) fn below_one(key: &str, value: f64) -> Result<(), ConfigError> {
    if (0.0..1.0).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::value(key, value, "must be at least 0 and below 1"))
}

fn at_least_zero(key: &str, value: f64) -> Result<(), ConfigError> {
    if value >= 0.0 && (value as f32).is_finite() {
        return Ok(());
    }
    Err(ConfigError::value(key, value, "must be a finite number of at least 0"))
}

pub(super) fn within(key: &str, value: usize, low: usize, high: usize) -> Result<(), ConfigError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::value(key, value, format!("must be from {low} to {high}")))
}
