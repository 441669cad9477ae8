//! Choosing A and B again in the course of training: which method does so when.

use std::time::{Duration, Instant};

use rayon::prelude::*;
use topkast::{Changed, DropSchedule, Global, Remap, SparseWeight};
use topkast_kernels::Isa;
use topkast_nn::{Input, Network};

use crate::config::{Config, ConfigError, Method};
use crate::pruning::Pruning;
use crate::report::RefreshReport;

/// What chooses A and B again.
pub(crate) struct Refresh {
    method: Method,
    /// N.
    every: u64,
    /// When set and rigl do so instead.
    drops: DropSchedule,
    /// When pruning does.
    pruning: Option<Pruning>,
    /// Where A and B are chosen for all sparse layers together.
    global: Option<Global>,
}

impl Refresh {
    /// As `config` says, for a run of `total_steps` steps.
    pub(crate) fn new(config: &Config, network: &Network, total_steps: u64) -> Result<Self, ConfigError> {
        let global = config.global(&config.shape(network.input(), network.outputs()))?;
        let every = config.sparsity.refresh_every;
        let drops = DropSchedule {
            alpha: config.sparsity.drop_fraction,
            every,
            end: config.sparsity.last_update(total_steps),
        };
        let pruning = Pruning::new(config, network, total_steps)?;
        Ok(Self { method: config.sparsity.method, every, drops, pruning, global })
    }

    /// What pruning drops when.
    pub(crate) fn pruning(&self) -> Option<&Pruning> {
        self.pruning.as_ref()
    }

    /// How many of all steps compute dense gradients.
    pub(crate) fn dense_gradients(&self) -> u64 {
        if self.method == Method::Rigl { self.drops.updates() } else { 0 }
    }

    /// Before `step`: top-kast every N steps (paper §2.1; the first choice is the initialisation's), set, and pruning.
    pub(crate) fn before_step(&mut self, network: &mut Network, step: u64) -> Option<RefreshReport> {
        let start = Instant::now();
        let report = match self.method {
            Method::TopKast if step > 0 && step.is_multiple_of(self.every) => {
                let mut weights = network.sparse_weights();
                match &mut self.global {
                    Some(global) => together(global, &mut weights, step),
                    None => each(weights, |weight| weight.refresh(step)),
                }
            }
            Method::Set => {
                let fraction = self.drops.fraction(step)?;
                each(network.sparse_weights(), |weight| weight.set(fraction, step))
            }
            Method::Pruning => self.pruning.as_ref()?.before_step(network, step)?,
            _ => return None,
        };
        Some(RefreshReport { time: start.elapsed(), ..report })
    }

    /// Whether `step` is one without an update of the weights, for which no gradients of them are needed.
    pub(crate) fn replaces_update(&self, step: u64) -> bool {
        self.method == Method::Rigl && self.drops.fraction(step).is_some()
    }

    /// After the backward pass of `step` for this input: rigl, which takes the place of that step's update of the weights (Evci
    /// et al. 2020, algorithm 1).
    pub(crate) fn in_place_of_update(
        &self,
        network: &mut Network,
        isa: Isa,
        input: Input<'_>,
        step: u64,
    ) -> Option<RefreshReport> {
        let fraction = self.drops.fraction(step).filter(|_| self.method == Method::Rigl)?;
        let start = Instant::now();
        let mut report = RefreshReport::default();
        // One after the other, as each is cut up for all threads.
        network.for_each_gradient(input, |weight, gradient| {
            let of_one = changed(weight, |weight| weight.rigl(fraction, isa, gradient));
            report = of_one.map_or(report, |of_one| report.and(of_one));
        });
        Some(RefreshReport { time: start.elapsed(), ..report })
    }
}

/// Layers do not know of each other, so each may be refreshed on a thread of its own.
fn each(
    weights: Vec<&mut SparseWeight>,
    refresh: impl for<'a> Fn(&'a mut SparseWeight) -> Option<&'a Remap> + Sync,
) -> RefreshReport {
    let refreshed = weights.into_par_iter().filter_map(|weight| changed(weight, &refresh));
    refreshed.reduce(RefreshReport::default, RefreshReport::and)
}

/// What `refresh` changes of a weight.
fn changed(
    weight: &mut SparseWeight,
    refresh: impl for<'a> FnOnce(&'a mut SparseWeight) -> Option<&'a Remap>,
) -> Option<RefreshReport> {
    let active = weight.counts().active as u64;
    let remap = refresh(weight)?;
    let (newly_active, entered) = (remap.newly_active() as u64, remap.entered() as u64);
    Some(RefreshReport { newly_active, active, entered, dormant: dormant(weight), time: Duration::ZERO })
}

fn together(global: &mut Global, weights: &mut [&mut SparseWeight], step: u64) -> RefreshReport {
    let Changed { newly_active, entered } = global.refresh(weights, step);
    let active = weights.iter().map(|weight| weight.counts().active as u64).sum();
    let dormant = weights.iter().map(|weight| dormant(weight)).sum();
    RefreshReport { newly_active, active, entered, dormant, time: Duration::ZERO }
}

fn dormant(weight: &SparseWeight) -> u64 {
    weight.reservoir().map_or(0, |reservoir| reservoir.dormant())
}
