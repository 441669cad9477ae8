//! `sparsity.distribution = "global"`: all sparse layers are chosen for together.

use topkast::{Counts, Global, Scale, Seed, random_counts};
use topkast_nn::{LayerPlan, NetworkShape};

use super::{Config, ConfigError, Distribution, Method, SparsityConfig};

impl SparsityConfig {
    /// Whether layers are chosen for together.
    pub(super) fn is_global(&self) -> bool {
        self.distribution == Distribution::Global && self.method != Method::Dense
    }

    /// Refuses what one selection over all layers leaves no place for.
    pub(super) fn check_global(&self) -> Result<(), ConfigError> {
        if !self.is_global() {
            return Ok(());
        }
        if let Some(layer) = self.layers.first() {
            let allowed = "no layer has a sparsity of its own where sparsity.distribution is global; \
                           remove it, or use uniform or erk";
            return Err(ConfigError::value("sparsity.layers", format!("`{}`", layer.pattern), allowed));
        }
        if matches!(self.method, Method::Set | Method::Rigl | Method::Pruning) {
            let allowed = "set, rigl and pruning drop within each layer; use uniform or erk, or method top-kast, static or snip";
            return Err(ConfigError::value("sparsity.distribution", "global", allowed));
        }
        // Of other methods the active part is known before values are scaled.
        if self.method == Method::TopKast && self.scale() == Scale::Active {
            let allowed = "must be full or auto where sparsity.distribution is global and method top-kast: \
                           which part is active depends on the scale of every layer";
            return Err(ConfigError::value("sparsity.init_scale", "active", allowed));
        }
        Ok(())
    }
}

impl Config {
    /// |A| and |B| over all sparse layers of `shape`, where they are chosen for together.
    ///
    /// # Errors
    /// If no entry would be active, or more than can be counted, or a pattern matches no layer.
    pub fn global_counts(&self, shape: &NetworkShape) -> Result<Option<Counts>, ConfigError> {
        let config = &self.sparsity;
        let sizes = sparse_sizes(shape, &self.plans(shape)?);
        if !config.is_global() || sizes.is_empty() {
            return Ok(None);
        }
        let total = self.total(sizes.into_iter())?;
        let counts = config.sparsity(config.forward, config.backward, "sparsity")?.counts(total);
        counts.map(Some).map_err(|error| {
            let allowed = format!("all sparse layers together: {error}");
            ConfigError::value("sparsity.forward", config.forward, allowed)
        })
    }

    /// What chooses for all sparse layers of `shape`, where their sets are chosen together again and again.
    pub(crate) fn global(&self, shape: &NetworkShape) -> Result<Option<Global>, ConfigError> {
        let counts = self.global_counts(shape)?.filter(|_| self.sparsity.method == Method::TopKast);
        Ok(counts.map(|counts| Global::new(counts, self.sparsity.explore.explore(), self.global_seed())))
    }

    /// `plans`, with its share of one random mask over all layers for each where masks are so drawn.
    pub(super) fn settled(
        &self,
        shape: &NetworkShape,
        mut plans: Vec<LayerPlan>,
    ) -> Result<Vec<LayerPlan>, ConfigError> {
        let all = self.global_counts(shape)?.filter(|_| self.sparsity.method == Method::Static);
        if let Some(all) = all {
            let seed = self.global_seed().named("mask");
            let shares = random_counts(&sparse_sizes(shape, &plans), all.active, seed);
            let counts = plans.iter_mut().filter_map(|plan| match plan {
                LayerPlan::Sparse { counts, .. } => Some(counts),
                LayerPlan::Dense { .. } => None,
            });
            counts.zip(shares).for_each(|(counts, active)| *counts = Counts { active, backward: active });
        }
        Ok(plans)
    }

    fn global_seed(&self) -> Seed {
        Seed::new(self.seed).named("global")
    }
}

/// The sizes of the sparse layers.
fn sparse_sizes(shape: &NetworkShape, plans: &[LayerPlan]) -> Vec<u64> {
    let layers =
        shape.layers().into_iter().zip(plans).filter(|(_, plan)| !matches!(plan, LayerPlan::Dense { .. }));
    layers.map(|((_, [rows, width]), _)| rows as u64 * width as u64).collect()
}
