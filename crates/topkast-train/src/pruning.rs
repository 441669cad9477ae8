//! Gradual magnitude pruning in a run: when layers drop how much, what |A| has to be after so many steps, and what that costs.

use rayon::prelude::*;
use topkast::PruneSchedule;
use topkast_nn::{LayerPlan, Linear, Network, SparseLinear, prunes_densely};

use crate::config::{Config, ConfigError, Method};
use crate::report::RefreshReport;

/// The schedule, and |A| of each sparse layer at its end.
#[derive(Clone, Debug)]
pub(crate) struct Pruning {
    schedule: PruneSchedule,
    last: Vec<u64>,
}

impl Pruning {
    /// That of `config`, if it prunes, for a run of `total_steps` steps. It ends at `update_until`, and before the run does.
    ///
    /// # Errors
    /// If there is no step for an update until then.
    pub(crate) fn new(
        config: &Config,
        network: &Network,
        total_steps: u64,
    ) -> Result<Option<Self>, ConfigError> {
        let sparsity = &config.sparsity;
        if sparsity.method != Method::Pruning {
            return Ok(None);
        }
        let last = sparsity.last_update(total_steps).min(total_steps.saturating_sub(1));
        let schedule = PruneSchedule::new(sparsity.refresh_every, last).ok_or_else(|| {
            let allowed = format!(
                "leaves pruning no step to drop weights at: of this run's {total_steps} steps it may use the first {last} \
                 (sparsity.update_until = {}); lower it, or train longer",
                sparsity.update_until
            );
            ConfigError::value("sparsity.refresh_every", sparsity.refresh_every, allowed)
        })?;
        let plans = config.plans(&config.shape(network.input(), network.outputs()))?;
        let last = plans.into_iter().filter_map(|plan| match plan {
            LayerPlan::Sparse { counts, .. } => Some(counts.active as u64),
            LayerPlan::Dense { .. } => None,
        });
        Ok(Some(Self { schedule, last: last.collect() }))
    }

    /// The step of the last update.
    pub(crate) fn end(&self) -> u64 {
        self.schedule.end()
    }

    /// |A| of all layers from then on.
    pub(crate) fn remaining(&self) -> u64 {
        self.last.iter().sum()
    }

    /// |A| that a layer of `total` entries, of which `last` remain, has in `step`, by the schedule.
    fn kept(&self, step: u64, total: u64, last: u64) -> usize {
        self.schedule.kept(step, total, last) as usize
    }

    /// Starts every sparse layer with all its weights.
    pub(crate) fn start(network: &mut Network) {
        for layer in layers(network) {
            layer.weight.start_full();
            layer.settle_products();
        }
    }

    /// Drops before `step` what is due.
    pub(crate) fn before_step(&self, network: &mut Network, step: u64) -> Option<RefreshReport> {
        if !self.schedule.is_due(step) {
            return None;
        }
        let layers: Vec<(&mut SparseLinear, u64)> = layers(network).zip(self.last.iter().copied()).collect();
        let active = layers.into_par_iter().map(|(layer, last)| {
            layer.weight.prune(self.kept(step, layer.weight.pattern().total(), last));
            layer.settle_products();
            layer.weight.counts().active as u64
        });
        Some(RefreshReport { active: active.sum(), ..RefreshReport::default() })
    }

    /// Whether every layer has as many entries as after `done` steps.
    ///
    /// # Errors
    /// Which has not.
    pub(crate) fn check(&self, network: &mut Network, done: u64) -> Result<(), String> {
        for ((name, layer), &last) in named_layers(network).zip(&self.last) {
            let (got, total) = (layer.weight.counts().active, layer.weight.pattern().total());
            // The last of these steps was the one before.
            let want = self.kept(done.saturating_sub(1), total, last);
            if got != want {
                return Err(format!(
                    "`{name}`: {got} active entries, where pruning has {want} after {done} steps"
                ));
            }
        }
        Ok(())
    }

    /// The mean over `steps` steps of the entries that the products of a layer visit, which has `total` of which `last` remain.
    pub(crate) fn mean_computed(&self, steps: u64, total: u64, last: u64) -> f64 {
        let computed = |active| if prunes_densely(active, total) { total } else { active };
        self.schedule.mean(steps, total, last, |active| computed(active) as f64)
    }
}

fn layers(network: &mut Network) -> impl Iterator<Item = &mut SparseLinear> {
    named_layers(network).map(|(_, layer)| layer)
}

fn named_layers(network: &mut Network) -> impl Iterator<Item = (&str, &mut SparseLinear)> {
    network.linears().filter_map(|(name, linear)| match linear {
        Linear::Sparse(layer) => Some((name, layer)),
        Linear::Dense(_) => None,
    })
}
