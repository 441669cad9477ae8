//! When set, rigl and pruning change A for the last time, and what pruning does not go with.

use super::{ConfigError, Method, ProductsKind, SparsityConfig};

impl SparsityConfig {
    /// Refuses what pruning leaves no place for.
    pub(super) fn check_pruning(&self) -> Result<(), ConfigError> {
        if self.method == Method::Pruning && self.products == ProductsKind::Auto {
            let allowed =
                "pruning goes from dense to sparse products by density, not by measured times; use sparse";
            return Err(ConfigError::value("sparsity.products", "auto", allowed));
        }
        Ok(())
    }

    /// T_end of set, rigl and pruning in a run of `total_steps` steps.
    pub(crate) fn last_update(&self, total_steps: u64) -> u64 {
        (self.update_until * total_steps as f64).round() as u64
    }
}
