//! One layer of the oracle: all of θ, with A and B as masks.

use crate::rule::Memory;
use crate::seen::Seen;

pub(crate) struct Layer {
    pub(crate) theta: Vec<f64>,
    pub(crate) active: Vec<bool>,
    pub(crate) backward: Vec<bool>,
    pub(crate) memory: Vec<Memory>,
    pub(crate) bias: Vec<f64>,
    pub(crate) bias_memory: Vec<Memory>,
    /// |A| and |B| where they are chosen by magnitude, `None` where the sets stay as they are.
    sizes: Option<[usize; 2]>,
    /// The forward density of all layers where they are chosen for together.
    pub(crate) together: Option<f64>,
}

impl Layer {
    /// A layer with the product's values; it takes the product's sets unless `sizes` says how large they must be.
    pub(crate) fn new(seen: &Seen, sizes: Option<[usize; 2]>) -> Self {
        let total = seen.theta.len();
        let active = mask(total, &seen.active);
        Self {
            theta: seen.theta.clone(),
            backward: active.clone(),
            active,
            memory: vec![Memory::default(); total],
            bias: seen.bias.clone(),
            bias_memory: vec![Memory::default(); seen.bias.len()],
            sizes,
            together: None,
        }
    }

    /// Chooses A, the largest of θ, and B∖A: what follows, or, where given, what was `drawn`.
    pub(crate) fn choose(&mut self, drawn: Option<&[usize]>) {
        let Some([active, backward]) = self.sizes else { return };
        let mut order: Vec<usize> = (0..self.theta.len()).collect();
        order.sort_by(|&a, &b| self.theta[b].abs().total_cmp(&self.theta[a].abs()).then(a.cmp(&b)));
        let explore = drawn.unwrap_or(&order[active..backward]);
        assert_eq!(explore.len(), backward - active, "|B\\A|");
        self.take(&order[..active], explore);
    }

    /// Takes these as A and B∖A.
    pub(crate) fn take(&mut self, active: &[usize], explore: &[usize]) {
        let total = self.theta.len();
        self.active = mask(total, active);
        assert!(explore.iter().all(|&entry| !self.active[entry]), "A and B\\A overlap");
        self.backward = mask(total, explore);
        assert_eq!(count(&self.backward), explore.len(), "B\\A names an entry twice");
        for entry in 0..total {
            self.backward[entry] |= self.active[entry];
            if !self.backward[entry] {
                self.memory[entry] = Memory::default();
            }
        }
    }

    /// D, the forward density, of all layers where they are chosen for together.
    pub(crate) fn density(&self) -> f64 {
        self.together.unwrap_or(count(&self.active) as f64 / self.theta.len() as f64)
    }

    /// α: what the network computes with.
    pub(crate) fn alpha(&self) -> Vec<f64> {
        self.theta
            .iter()
            .zip(&self.active)
            .map(|(&value, &active)| if active { value } else { 0.0 })
            .collect()
    }
}

fn mask(total: usize, entries: &[usize]) -> Vec<bool> {
    let mut mask = vec![false; total];
    entries.iter().for_each(|&entry| mask[entry] = true);
    mask
}

fn count(mask: &[bool]) -> usize {
    mask.iter().filter(|&&is_in| is_in).count()
}
