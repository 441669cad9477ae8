//! Gradual magnitude pruning (Zhu and Gupta, *To prune, or not to prune: exploring the efficacy of pruning for model compression*,
//! ICLR 2018 workshop, <https://arxiv.org/abs/1710.01878>): A is everything at first, and its smallest are dropped for good, again
//! and again, as [`PruneSchedule`](crate::PruneSchedule) says.

use super::*;

impl SparseWeight {
    /// [`training_bytes`](Self::training_bytes) at their most: of a weight that is being pruned those with all its entries, but for
    /// what cuts a structure into blocks.
    pub fn most_training_bytes(&self) -> usize {
        if self.topology != Topology::Pruning || self.counts.active == 0 {
            return self.training_bytes();
        }
        let pattern = &self.pattern;
        let of_column = if pattern.width() <= 1 << 16 { size_of::<u16>() } else { size_of::<u32>() };
        let of_entry = self.parameter.bytes() / self.counts.active + of_column;
        of_entry * pattern.total() as usize + size_of::<u32>() * (pattern.rows() + 1)
    }

    /// Drops the smallest of A in magnitude, so that `keep` remain, or all where there are no more; ties stay by lower flat index.
    /// Values and optimizer state stay with their entries. Returns how many were dropped.
    ///
    /// Under another topology the weight is left as it is and returns `None`.
    pub fn prune(&mut self, keep: usize) -> Option<usize> {
        if self.topology != Topology::Pruning {
            return None;
        }
        let count = self.counts.active.saturating_sub(keep);
        let kept = self.all_but(count);
        let dropped = self.dropped(kept);
        let Self { pattern, parameter, refresher, .. } = self;
        refresher.changes.clear();
        refresher.changes.from_active.extend(dropped.into_iter().map(|(_, leaver)| leaver));
        refresher.apply_any(pattern, parameter, None);
        self.counts = counts_of(&self.pattern);
        Some(count)
    }
}
