//! SET, sparse evolutionary training (Mocanu et al., *Scalable training of artificial neural networks with adaptive sparse
//! connectivity inspired by network science*, Nature Communications 2018, <https://doi.org/10.1038/s41467-018-04316-3>), as RigL's paper
//! runs it: at a falling rate, by magnitude whatever the sign.

use super::choice::outside;
use super::*;

impl SparseWeight {
    /// Drops the `fraction` of A smallest in magnitude, and grows as many entries drawn at random outside A as it was, so that none
    /// of those just dropped returns; fewer where there are fewer.
    ///
    /// `step` tells draws of different updates apart. Under another topology the weight is left as it is and returns `None`.
    pub fn set(&mut self, fraction: f64, step: u64) -> Option<&Remap> {
        if self.topology != Topology::Set {
            return None;
        }
        let total = self.pattern.total();
        let mut active = Vec::with_capacity(self.counts.active);
        self.pattern.for_each_by_index(|index, _| active.push(index));
        let count = self.share(fraction).min((total - active.len() as u64) as usize);
        let grown = outside(&active, total, count, self.seed.numbered(step).named("grow"));
        let kept = self.all_but(count);
        Some(self.exchange_active(kept, grown))
    }
}
