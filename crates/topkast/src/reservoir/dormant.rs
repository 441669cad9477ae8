//! Entries of C that have been in B: all that a reservoir has to store of C where θ⁰ can be looked up elsewhere.

use topkast_kernels::{Moves, gallop};

use crate::{Entry, WeightError};

/// Indices in ascending order, and the value each entry left B with: 12 bytes an entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Dormant {
    indices: Vec<u64>,
    values: Vec<f32>,
    /// Scratch of an exchange.
    moves: Moves,
    places: Vec<usize>,
}

impl Dormant {
    /// As a checkpoint stored them, for a weight of `n` entries of which `backward`, in ascending order, are in B.
    ///
    /// # Errors
    /// If indices and values are not equally many, or the indices do not ascend, are n or more, or are in B.
    pub(super) fn from_saved(
        indices: Vec<u64>,
        values: Vec<f32>,
        n: u64,
        backward: &[u64],
    ) -> Result<Self, WeightError> {
        let (got, want) = (values.len(), indices.len());
        if got != want {
            return Err(WeightError::Length { what: "values of dormant entries", got, want });
        }
        if let Some(pair) = indices.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(WeightError::Dormant { index: pair[1], problem: "does not ascend" });
        }
        if let Some(&index) = indices.last().filter(|&&last| last >= n) {
            return Err(WeightError::Dormant { index, problem: "is outside the weight" });
        }
        let mut others = backward.iter().peekable();
        for &index in &indices {
            while others.next_if(|&&other| other < index).is_some() {}
            if others.peek() == Some(&&index) {
                return Err(WeightError::Dormant { index, problem: "is in B" });
            }
        }
        Ok(Self { indices, values, ..Self::default() })
    }

    pub(super) fn len(&self) -> usize {
        self.indices.len()
    }

    pub(super) fn indices(&self) -> &[u64] {
        &self.indices
    }

    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        self.indices.iter().zip(&self.values).map(|(&index, &value)| Entry { index, value })
    }

    /// The value of an entry, if it is one of these.
    pub(super) fn value(&self, index: u64) -> Option<f32> {
        self.indices.binary_search(&index).ok().map(|at| self.values[at])
    }

    /// Follows an exchange: those of `entered`, in ascending order, leave, and those that `left` B, in any order, come in.
    /// In `entered` there remain those that were not among these; `spare` is scratch.
    pub(super) fn exchange(&mut self, left: &[Entry], entered: &mut Vec<u64>, spare: &mut Vec<Entry>) {
        spare.clear();
        spare.extend_from_slice(left);
        spare.sort_unstable_by_key(|entry| entry.index);
        let len = self.plan(spare, entered);
        let Self { indices, values, moves, .. } = self;
        let room = indices.len().max(len);
        indices.resize(room, 0);
        values.resize(room, 0.0);
        moves.apply(indices);
        moves.apply(values);
        for (entry, &at) in spare.iter().zip(&self.places) {
            (indices[at], values[at]) = (entry.index, entry.value);
        }
        indices.truncate(len);
        values.truncate(len);
    }

    /// Finds how what stays moves, in an order in which no move overwrites what another has yet to read, and where those
    /// that `left` go; returns how many there will be. Both lists ascend; what is not here is left in `entered`.
    fn plan(&mut self, left: &[Entry], entered: &mut Vec<u64>) -> usize {
        let Self { indices, moves, places, .. } = self;
        moves.clear();
        places.clear();
        // Up to where the old ones have been looked at, and the new ones placed.
        let (mut seen, mut len) = (0, 0);
        let mut keep = |seen: &mut usize, len: &mut usize, limit: Option<u64>| {
            let kept = gallop(&indices[*seen..], |&index| limit.is_none_or(|limit| index < limit));
            moves.push(*seen, *len, kept);
            *seen += kept;
            *len += kept;
        };
        let mut left = left.iter().map(|entry| entry.index).peekable();
        let mut insert_before = |limit: Option<u64>, seen: &mut usize, len: &mut usize| {
            while let Some(index) = left.next_if(|&index| limit.is_none_or(|limit| index < limit)) {
                keep(seen, len, Some(index));
                places.push(*len);
                *len += 1;
            }
            keep(seen, len, limit);
        };
        entered.retain(|&index| {
            insert_before(Some(index), &mut seen, &mut len);
            let found = indices.get(seen) == Some(&index);
            seen += usize::from(found);
            !found
        });
        insert_before(None, &mut seen, &mut len);
        moves.finish();
        len
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&self.indices[..]) + size_of_val(&self.values[..])
    }
}

/// Adds to `indices`, in ascending order, those of `new`, in ascending order and not among them.
pub(super) fn insert_ascending(indices: &mut Vec<u64>, new: &[u64]) {
    // From the back, so that each moves once.
    let mut end = indices.len();
    indices.resize(end + new.len(), 0);
    for (before, &index) in new.iter().enumerate().rev() {
        let at = indices[..end].partition_point(|&other| other < index);
        indices.copy_within(at..end, at + before + 1);
        end = at;
        indices[at + before] = index;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn what_cannot_be_dormant_is_refused() {
        let made = |indices: &[u64], values: usize| {
            Dormant::from_saved(indices.to_vec(), vec![1.0; values], 10, &[2, 5]).map(|dormant| dormant.len())
        };
        let refused = |index, problem| Err(WeightError::Dormant { index, problem });
        assert_eq!(made(&[1, 3, 9], 3), Ok(3));
        assert_eq!(made(&[], 0), Ok(0));
        assert!(matches!(made(&[1, 3], 3), Err(WeightError::Length { got: 3, want: 2, .. })));
        assert_eq!(made(&[3, 3], 2), refused(3, "does not ascend"));
        assert_eq!(made(&[3, 10], 2), refused(10, "is outside the weight"));
        assert_eq!(made(&[1, 5], 2), refused(5, "is in B"));
    }

    proptest! {
        #[test]
        fn holds_what_a_map_would(
            rounds in prop::collection::vec(prop::collection::btree_map(0u64..60, any::<i8>(), 0..30), 1..12),
        ) {
            let (mut dormant, mut map) = (Dormant::default(), BTreeMap::new());
            for round in rounds {
                // Of those named, the ones held go, some unknown ones too; the rest come.
                let mut entered: Vec<u64> =
                    round.keys().copied().filter(|index| map.contains_key(index) || index % 5 == 0).collect();
                let value = |(&index, &value): (&u64, &i8)| Entry { index, value: f32::from(value) };
                let left: Vec<Entry> =
                    round.iter().map(value).filter(|entry| !entered.contains(&entry.index)).collect();
                let unknown: Vec<u64> =
                    entered.iter().copied().filter(|index| !map.contains_key(index)).collect();
                entered.iter().for_each(|index| _ = map.remove(index));
                map.extend(left.iter().map(|entry| (entry.index, entry.value)));
                let mut others: Vec<u64> = dormant.indices().to_vec();
                others.retain(|index| !round.contains_key(index));
                insert_ascending(&mut others, &left.iter().map(|entry| entry.index).collect::<Vec<_>>());
                let reversed: Vec<Entry> = left.iter().rev().copied().collect();
                dormant.exchange(&reversed, &mut entered, &mut vec![Entry { index: 7, value: 7.0 }]);
                prop_assert_eq!(entered, unknown);
                prop_assert_eq!(dormant.indices(), &others[..]);
                let held: BTreeMap<u64, f32> = dormant.entries().map(|entry| (entry.index, entry.value)).collect();
                prop_assert!(dormant.indices().is_sorted());
                prop_assert_eq!((dormant.len(), &held), (map.len(), &map));
                prop_assert!((0..60).all(|index| dormant.value(index) == map.get(&index).copied()));
            }
        }
    }
}
