//! `sparsity.distribution = "erk"`: layers with few inputs and outputs are the denser ones.

use topkast::{Counts, erk_counts};

use super::{Config, ConfigError, Distribution, Method};

impl Config {
    /// What the layers of these sizes and `names` have where ERK decides, for which `free` says of each whether it does: it
    /// has no sparsity of its own and is not dense. The totals over these layers are exact.
    ///
    /// # Errors
    /// If a layer would have no entries, or more than can be counted.
    pub(super) fn erk(
        &self,
        names: &[&str],
        sizes: &[[usize; 2]],
        free: impl Fn(usize) -> bool,
    ) -> Result<Vec<Option<Counts>>, ConfigError> {
        let config = &self.sparsity;
        let mut all = vec![None; sizes.len()];
        if config.distribution != Distribution::Erk || config.method == Method::Dense {
            return Ok(all);
        }
        let numbers: Vec<usize> = (0..sizes.len()).filter(|&number| free(number)).collect();
        let free: Vec<[usize; 2]> = numbers.iter().map(|&number| sizes[number]).collect();
        self.total(free.iter().map(|&[rows, width]| rows as u64 * width as u64))?;
        let sparsity = config.sparsity(config.forward, config.backward, "sparsity")?;
        for (number, counts) in numbers.into_iter().zip(erk_counts(sparsity, &free)) {
            all[number] = Some(counts.map_err(|error| self.misfit(names[number], config.forward, error))?);
        }
        Ok(all)
    }
}
