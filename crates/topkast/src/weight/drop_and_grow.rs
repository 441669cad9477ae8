//! What SET, RigL and pruning share: the smallest of A are dropped; under the first two as many others grow in their place, with
//! value 0 and no optimizer state. A = B, and what is dropped is forgotten: there is no reservoir.

use super::*;
use crate::changes::Leaver;
use crate::selection::{Cut, NO_MAGNITUDE, magnitude};

impl SparseWeight {
    /// How many entries of A the `fraction` is; rounded down, as in RigL's code.
    pub(super) fn share(&self, fraction: f64) -> usize {
        ((self.counts.active as f64 * fraction) as usize).min(self.counts.active)
    }

    /// The cut that keeps all of A but the `count` smallest; ties go to the lower flat index.
    pub(super) fn all_but(&mut self, count: usize) -> Cut {
        let Self { pattern, parameter, refresher, .. } = self;
        let (magnitudes, indices) = refresher.scratch();
        magnitudes.clear();
        magnitudes.extend(parameter.values.iter().map(|&value| magnitude(value)));
        if count == magnitudes.len() {
            return Cut::from(NO_MAGNITUDE);
        }
        let keep = magnitudes.len() - count;
        Cut::of(magnitudes, keep, indices, |tied, indices| {
            let entries = entries_where(&parameter.values, move |magnitude| magnitude == tied);
            indices.extend(pattern.cells(entries).map(|cell| pattern.index(cell)));
        })
    }

    /// The entries of A that `kept` does not take, ascending by flat index.
    pub(super) fn dropped(&self, kept: Cut) -> Vec<(u64, Leaver)> {
        let Self { pattern, parameter, .. } = self;
        let values = &parameter.values;
        let unsure = entries_where(values, move |magnitude| kept.decides(magnitude) != Some(true));
        let cells = pattern.cells(unsure.clone());
        let mut dropped: Vec<(u64, Leaver)> = unsure
            .zip(cells)
            .map(|(entry, cell)| (pattern.index(cell), Leaver { entry: entry as u32, cell, stays: false }))
            .filter(|(index, leaver)| !kept.takes(magnitude(values[leaver.entry as usize]), || *index))
            .collect();
        dropped.sort_unstable_by_key(|&(index, _)| index);
        dropped
    }

    /// Drops the entries of A that `kept` does not take, and grows those of the indices in `grown`, which ascend, are as many,
    /// and none of the ones kept. What is dropped and grown stays as it is.
    pub(super) fn exchange_active(&mut self, kept: Cut, mut grown: Vec<u64>) -> &Remap {
        let mut dropped = self.dropped(kept);
        debug_assert_eq!(dropped.len(), grown.len());
        let Self { pattern, parameter, refresher, .. } = self;
        let all_grown = grown.clone();
        grown.retain(|index| dropped.binary_search_by_key(index, |&(index, _)| index).is_err());
        dropped.retain(|(index, _)| all_grown.binary_search(index).is_err());
        let changes = &mut refresher.changes;
        changes.clear();
        changes.from_active.extend(dropped.into_iter().map(|(_, leaver)| leaver));
        changes.into_active.extend(grown.into_iter().map(|index| Entry { index, value: 0.0 }));
        refresher.apply(pattern, parameter, None)
    }
}

/// The entries whose magnitudes are such as asked for, ascending.
fn entries_where<'a>(
    values: &'a [f32],
    wanted: impl Fn(u32) -> bool + Clone + 'a,
) -> impl Iterator<Item = usize> + Clone + 'a {
    let entries = values.iter().enumerate();
    entries.filter(move |&(_, &value)| wanted(magnitude(value))).map(|(entry, _)| entry)
}
