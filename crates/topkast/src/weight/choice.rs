//! Choosing A and B: which entries, with which values, and where each was before.

use std::collections::HashSet;

use rand::RngExt;
use topkast_kernels::Buffer;

use super::*;

/// All of B before a refresh, in ascending order of flat index.
#[derive(Default)]
pub(super) struct Held {
    entries: Vec<Entry>,
    /// The entry number of each in the old pattern.
    numbers: Vec<u32>,
}

impl Held {
    pub(super) fn of(pattern: &Pattern, values: &[f32]) -> Self {
        let mut held = Self {
            entries: Vec::with_capacity(pattern.backward_len()),
            numbers: Vec::with_capacity(pattern.backward_len()),
        };
        pattern.for_each_by_index(|index, number| {
            held.entries.push(Entry { index, value: values[number] });
            held.numbers.push(number as u32);
        });
        held
    }

    fn value(&self, index: u64) -> Option<f32> {
        let at = self.entries.binary_search_by_key(&index, |entry| entry.index).ok()?;
        Some(self.entries[at].value)
    }
}

/// A and B∖A, each in ascending order of flat index.
pub(super) struct Choice {
    active: Vec<Entry>,
    explore: Vec<Entry>,
}

impl Choice {
    /// A is the largest of θ; B∖A the next largest, or drawn at random.
    pub(super) fn top_kast(
        reservoir: &mut dyn Reservoir,
        held: &Held,
        total: u64,
        counts: Counts,
        explore: Explore,
        seed: Seed,
    ) -> Self {
        let Counts { active, backward } = counts;
        match explore {
            Explore::Magnitude | Explore::None => {
                let mut chosen = Vec::with_capacity(backward);
                reservoir.largest(&held.entries, backward, &mut chosen);
                Self::split(chosen, active)
            }
            Explore::Random => {
                let mut chosen = Vec::with_capacity(active);
                reservoir.largest(&held.entries, active, &mut chosen);
                let others = outside(&chosen, total, backward - active, seed.named("explore"));
                let value = |index| held.value(index).unwrap_or_else(|| reservoir.value(index));
                let explore = others.into_iter().map(|index| Entry { index, value: value(index) }).collect();
                Self { active: chosen, explore }
            }
        }
    }

    /// A is drawn at random with values of Kaiming variance, B∖A is empty.
    pub(super) fn random(total: u64, counts: Counts, scale: Scale, rows: usize, seed: Seed) -> Self {
        let width = total as f64 / rows as f64;
        let fan_in = match scale {
            Scale::Active => counts.active as f64 / rows as f64,
            Scale::Full => width,
        };
        let indices = outside(&[], total, counts.active, seed.named("mask"));
        let values = kaiming_normal(seed.named("theta"), counts.active, fan_in);
        let active = indices.into_iter().zip(values).map(|(index, value)| Entry { index, value }).collect();
        Self { active, explore: Vec::new() }
    }

    fn split(chosen: Vec<Entry>, active_len: usize) -> Self {
        let mut active = Vec::with_capacity(active_len);
        let mut explore = Vec::with_capacity(chosen.len() - active_len);
        let mut next = 0;
        select_largest(&|| chosen.iter().map(|entry| entry.value), active_len, |position, _| {
            explore.extend_from_slice(&chosen[next..position]);
            active.push(chosen[position]);
            next = position + 1;
        });
        explore.extend_from_slice(&chosen[next..]);
        Self { active, explore }
    }

    /// The chosen entries: A, then B∖A.
    fn entries(&self) -> impl Iterator<Item = &Entry> {
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

    /// For each chosen entry its entry in the old pattern.
    pub(super) fn sources(&self, held: &Held) -> Vec<Option<u32>> {
        let mut sources = Vec::with_capacity(self.active.len() + self.explore.len());
        for part in [&self.active, &self.explore] {
            let mut at = 0;
            sources.extend(part.iter().map(|entry| {
                while held.entries.get(at).is_some_and(|old| old.index < entry.index) {
                    at += 1;
                }
                let same = held.entries.get(at).is_some_and(|old| old.index == entry.index);
                same.then(|| held.numbers[at])
            }));
        }
        sources
    }

    /// The entries that left B, with their values, and the indices of those that entered, each in index order.
    pub(super) fn moved(&self, held: &Held, sources: &[Option<u32>]) -> (Vec<Entry>, Vec<u64>) {
        let mut stays = vec![false; held.entries.len()];
        let mut entered = Vec::new();
        for (entry, source) in self.entries().zip(sources) {
            match source {
                Some(old) => stays[*old as usize] = true,
                None => entered.push(entry.index),
            }
        }
        entered.sort_unstable();
        let left = held.entries.iter().zip(&held.numbers).filter(|(_, number)| !stays[**number as usize]);
        (left.map(|(entry, _)| *entry).collect(), entered)
    }
}

/// `count` distinct indices below `total`, none of them in `taken`, uniformly at random, ascending.
///
/// Floyd's sampling (Bentley and Floyd 1987) of ranks among the free indices, which a walk along `taken` then turns
/// into indices: no memory beyond the sample, however large `total` is.
fn outside(taken: &[Entry], total: u64, count: usize, seed: Seed) -> Vec<u64> {
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
        while taken.get(skipped).is_some_and(|entry| entry.index <= *index + skipped as u64) {
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
        let taken: Vec<Entry> = [0, 3, 4, 9].map(|index| Entry { index, value: 1.0 }).into();
        let mut hits = [0u32; 10];
        for number in 0..6000 {
            let sample = outside(&taken, 10, 2, Seed::new(number));
            assert!(sample.len() == 2 && sample[0] < sample[1]);
            sample.iter().for_each(|&index| hits[index as usize] += 1);
        }
        assert!(taken.iter().all(|entry| hits[entry.index as usize] == 0));
        let free: Vec<u32> = [1, 2, 5, 6, 7, 8].map(|index| hits[index]).into();
        assert!(free.iter().all(|&count| (1850..2150).contains(&count)), "{free:?}");
        assert_eq!(outside(&taken, 10, 6, Seed::new(1)), [1, 2, 5, 6, 7, 8]);
    }
}
