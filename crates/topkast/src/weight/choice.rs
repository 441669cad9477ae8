//! Choosing A and B for the first time.

use std::collections::HashSet;

use rand::RngExt;
use topkast_kernels::Buffer;

use super::*;

/// A and B∖A, each in ascending order of flat index.
pub(super) struct Choice {
    active: Vec<Entry>,
    explore: Vec<Entry>,
}

impl Choice {
    /// A is the largest of θ, which is all in the reservoir; B∖A the next largest, or drawn at random, or both.
    pub(super) fn top_kast(
        reservoir: &mut dyn Reservoir,
        total: u64,
        counts: Counts,
        explore: Explore,
        seed: Seed,
    ) -> Self {
        let Counts { active, backward } = counts;
        let by_index = |entries: &[Entry]| {
            let mut entries = entries.to_vec();
            entries.sort_unstable_by_key(|entry| entry.index);
            entries
        };
        let near = active + explore.nearest(backward - active);
        let head = &reservoir.head(near)[..near];
        let (chosen, mut explored) = (by_index(&head[..active]), head[active..].to_vec());
        if explore != Explore::None {
            let mut taken: Vec<u64> = head.iter().map(|entry| entry.index).collect();
            taken.sort_unstable();
            let drawn = outside(&taken, total, backward - near, seed.named("explore"));
            explored.extend(drawn.into_iter().map(|index| Entry { index, value: reservoir.value(index) }));
        }
        Self { active: chosen, explore: by_index(&explored) }
    }

    /// A is drawn at random, with the values that `values` gives for its indices; B∖A is empty.
    pub(super) fn random(
        total: u64,
        active: usize,
        seed: Seed,
        values: impl FnOnce(&[u64]) -> Vec<f32>,
    ) -> Self {
        let indices = outside(&[], total, active, seed.named("mask"));
        let values = values(&indices);
        let entries = indices.into_iter().zip(values).map(|(index, value)| Entry { index, value });
        Self::of(entries.collect())
    }

    /// A is these entries, in ascending order of flat index; B∖A is empty.
    pub(super) fn of(active: Vec<Entry>) -> Self {
        Self { active, explore: Vec::new() }
    }

    /// The chosen entries: A, then B∖A.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.active.iter().chain(&self.explore)
    }

    /// The values in the order of `pattern`, the one of this choice.
    pub(super) fn values(&self, pattern: &Pattern) -> Buffer {
        let mut values = Buffer::zeros(pattern.backward_len());
        pattern.entries_by_row().zip(self.entries()).for_each(|(slot, entry)| values[slot] = entry.value);
        values
    }

    pub(super) fn pattern(&self, rows: usize, width: usize) -> Result<Pattern, PatternError> {
        let build = |entries: &[Entry]| {
            let mut builder = CsrBuilder::new(rows, width, entries.len());
            entries.iter().for_each(|entry| builder.push(entry.index));
            builder.finish()
        };
        let active = build(&self.active).map_err(PatternError::Active)?;
        let explore = build(&self.explore).map_err(PatternError::Explore)?;
        Pattern::new(active, explore)
    }
}

/// The ascending indices in `taken` and as many drawn at random outside them as it takes for `count` in all; ascending.
pub(super) fn with_drawn(taken: Vec<u64>, total: u64, count: usize, seed: Seed) -> Vec<u64> {
    let drawn = outside(&taken, total, count - taken.len(), seed);
    let mut all = [taken, drawn].concat();
    all.sort();
    all
}

/// `count` distinct indices below `total`, none of them in `taken`, uniformly at random, ascending.
///
/// Floyd's sampling (Bentley and Floyd 1987) of ranks among the free indices, which a walk along `taken` then turns
/// into indices: no memory beyond the sample, however large `total` is.
pub(super) fn outside(taken: &[u64], total: u64, count: usize, seed: Seed) -> Vec<u64> {
    let mut generator = seed.generator();
    let free = total - taken.len() as u64;
    let mut ranks = HashSet::with_capacity(count);
    for last in free - count as u64..free {
        let rank = generator.random_range(0..=last);
        if !ranks.insert(rank) {
            ranks.insert(last);
        }
    }
    let mut indices: Vec<u64> = ranks.into_iter().collect();
    indices.sort_unstable();
    let mut skipped = 0;
    for index in &mut indices {
        while taken.get(skipped).is_some_and(|&other| other <= *index + skipped as u64) {
            skipped += 1;
        }
        *index += skipped as u64;
    }
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_avoid_what_is_taken_and_cover_the_rest_evenly() {
        let taken = [0, 3, 4, 9];
        let mut hits = [0u32; 10];
        for number in 0..6000 {
            let sample = outside(&taken, 10, 2, Seed::new(number));
            assert!(sample.len() == 2 && sample[0] < sample[1]);
            sample.iter().for_each(|&index| hits[index as usize] += 1);
        }
        assert!(taken.iter().all(|&index| hits[index as usize] == 0));
        let free: Vec<u32> = [1, 2, 5, 6, 7, 8].map(|index| hits[index]).into();
        assert!(free.iter().all(|&count| (1850..2150).contains(&count)), "{free:?}");
        assert_eq!(outside(&taken, 10, 6, Seed::new(1)), [1, 2, 5, 6, 7, 8]);
    }
}
