//! The largest of a stream of numbers that is never stored: memory for twice as many as are wanted.

use crate::Entry;
use crate::selection::{NO_MAGNITUDE, magnitude};

/// The entries with the largest magnitudes of what has been offered, ties by lower index, and until they are asked for some more.
#[derive(Debug)]
pub struct Largest {
    count: usize,
    /// Magnitude and index of an entry that is not before the last of the largest: whatever comes after it is none of them.
    bound: (u32, u64),
    entries: Vec<Entry>,
}

impl Largest {
    /// The `count` largest of nothing yet.
    pub fn new(count: usize) -> Self {
        let all = (0, u64::MAX);
        let none = (NO_MAGNITUDE, 0);
        let bound = if count == 0 { none } else { all };
        Self { count, bound, entries: Vec::with_capacity(2 * count) }
    }

    /// Takes in the values of neighbours from index `first` on; no index may be offered twice.
    pub fn offer(&mut self, first: u64, values: &[f32]) {
        for (index, &value) in (first..).zip(values) {
            let (lowest, before) = self.bound;
            let magnitude = magnitude(value);
            if magnitude > lowest || magnitude == lowest && index < before {
                self.entries.push(Entry { index, value });
                if self.entries.len() == 2 * self.count {
                    self.cut();
                }
            }
        }
    }

    /// Takes in what another was offered.
    pub(super) fn absorb(&mut self, other: Self) {
        self.entries.extend(other.entries);
    }

    /// The indices of the largest, ascending; of all that were offered, where there are fewer.
    pub fn into_indices(mut self) -> Vec<u64> {
        self.cut();
        let mut indices: Vec<u64> = self.entries.iter().map(|entry| entry.index).collect();
        indices.sort_unstable();
        indices
    }

    /// Keeps the largest.
    fn cut(&mut self) {
        if self.count > 0 && self.entries.len() >= self.count {
            let (_, last, _) = self.entries.select_nth_unstable_by_key(self.count - 1, Entry::rank);
            self.bound = (magnitude(last.value), last.index);
            self.entries.truncate(self.count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Many are equal or next to each other, and they come in pieces, in any order.
        #[test]
        fn the_largest_are_those_of_sorting(
            values in prop::collection::vec((0u32..6).prop_map(|low| f32::from_bits(0xbf80_0000 + low)), 1..60),
            count in 0usize..12,
            piece in 1usize..9,
            seed: u64,
        ) {
            let mut pieces: Vec<(u64, &[f32])> = Vec::new();
            for values in values.chunks(piece) {
                pieces.push(((pieces.len() * piece) as u64, values));
            }
            pieces.sort_by_key(|&(first, _)| crate::seed::mix(seed ^ first));
            let mut largest = Largest::new(count);
            let mut other = Largest::new(count);
            for (number, &(first, values)) in pieces.iter().enumerate() {
                if number % 3 == 2 { &mut other } else { &mut largest }.offer(first, values);
            }
            largest.absorb(other);
            let mut want: Vec<Entry> = (0..).zip(&values).map(|(index, &value)| Entry { index, value }).collect();
            want.sort_by_key(Entry::rank);
            let mut want: Vec<u64> = want.into_iter().take(count).map(|entry| entry.index).collect();
            want.sort();
            prop_assert_eq!(largest.into_indices(), want);
        }
    }
}
