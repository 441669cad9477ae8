//! All of θ in memory: for networks that start from given dense weights, and the oracle for other reservoirs.

use super::head::Head;
use super::search::list_first;
use super::{Reservoir, ReservoirState, SavedReservoir};
use crate::{Entry, WeightError};

/// θ written out, 4 bytes an entry, and two bits an entry: whether it is in B, and whether it has been and left. The slots
/// of entries in B mean nothing.
///
/// The largest entries of C are kept in order, so that a refresh does not look at θ. Only once exchanges have used them up
/// is it searched for as many again.
pub struct DenseReservoir {
    theta: Vec<f32>,
    in_backward: Bits,
    dormant: Bits,
    head: Head,
    spare: Vec<Entry>,
    sample: Vec<u32>,
}

/// A set of indices, with its size.
struct Bits {
    words: Vec<u64>,
    count: u64,
}

impl Bits {
    fn none(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)], count: 0 }
    }

    fn has(&self, index: u64) -> bool {
        self.words[(index / 64) as usize] >> (index % 64) & 1 == 1
    }

    fn set(&mut self, index: u64, value: bool) {
        if self.has(index) != value {
            self.words[(index / 64) as usize] ^= 1 << (index % 64);
            self.count = if value { self.count + 1 } else { self.count - 1 };
        }
    }
}

impl DenseReservoir {
    /// A reservoir that starts with all of θ.
    pub fn new(theta: Vec<f32>) -> Self {
        let (in_backward, dormant) = (Bits::none(theta.len()), Bits::none(theta.len()));
        Self { theta, in_backward, dormant, head: Head::unknown(), spare: Vec::new(), sample: Vec::new() }
    }

    /// Multiplies all of θ; for scaling an initialisation once its active set is known.
    pub(crate) fn scale(&mut self, factor: f32) {
        self.theta.iter_mut().for_each(|value| *value *= factor);
        self.head = Head::unknown();
    }

    /// How many entries of C are worth keeping in order: few beside θ, many beside what one refresh exchanges.
    fn usual(&self) -> usize {
        self.theta.len() / 128 + 64
    }

    /// Searches θ for at least the first `count` of C.
    fn search(&mut self, count: usize) {
        let all = self.theta.len() - self.in_backward.count as usize;
        // More than is wanted now, so that the next refreshes, which are likely to want as many, need no search.
        let count = (count + count.min(self.theta.len() / 32) + self.usual()).min(all);
        let Self { theta, in_backward, head, spare, sample, .. } = self;
        let in_backward = &*in_backward;
        head.fill(count, std::iter::empty(), spare, |out| {
            list_first(theta, count, |_| |index| !in_backward.has(index), sample, out);
            out.len() < all
        });
    }
}

impl Reservoir for DenseReservoir {
    fn head(&mut self, count: usize) -> &[Entry] {
        if !self.head.suffices(count) {
            self.search(count);
        }
        self.head.entries()
    }

    fn value(&self, index: u64) -> f32 {
        self.theta[index as usize]
    }

    fn exchange(&mut self, left: &[Entry], entered: &[u64]) {
        for entry in left {
            self.theta[entry.index as usize] = entry.value;
            self.in_backward.set(entry.index, false);
            self.dormant.set(entry.index, true);
        }
        for &index in entered {
            self.theta[index as usize] = 0.0;
            self.in_backward.set(index, true);
            self.dormant.set(index, false);
        }
        let in_backward = &self.in_backward;
        self.head.exchange(left, entered.len(), |index| in_backward.has(index), &mut self.spare);
        // Where more comes than goes, as when B∖A is drawn at random.
        if self.head.entries().len() > 4 * self.usual() {
            self.head.truncate(self.usual());
        }
    }

    fn entries(&self) -> u64 {
        self.theta.len() as u64
    }

    fn dormant(&self) -> u64 {
        self.dormant.count
    }

    fn bytes(&self) -> usize {
        let bits = size_of_val(&self.dormant.words[..]) + size_of_val(&self.in_backward.words[..]);
        // The head and its scratch as they usually are, so that the number does not change from step to step.
        let head = 2 * self.usual().min(self.theta.len()) * size_of::<Entry>();
        size_of_val(&self.theta[..]) + bits + head
    }

    fn state(&self) -> ReservoirState<'_> {
        ReservoirState::Dense { theta: &self.theta, dormant: &self.dormant.words }
    }

    fn restored(&self, saved: SavedReservoir, backward: &[u64]) -> Result<Box<dyn Reservoir>, WeightError> {
        let SavedReservoir::Dense { theta, dormant } = saved else {
            return Err(WeightError::OtherReservoir);
        };
        for (what, got, want) in [
            ("initial values", theta.len(), self.theta.len()),
            ("dormant bits", dormant.len(), self.dormant.words.len()),
        ] {
            if got != want {
                return Err(WeightError::Length { what, got, want });
            }
        }
        let mut restored = Self::new(theta);
        let count = dormant.iter().map(|word| u64::from(word.count_ones())).sum();
        restored.dormant = Bits { words: dormant, count };
        backward.iter().for_each(|&index| restored.in_backward.set(index, true));
        Ok(Box::new(restored))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn restored(theta: &[f32], words: usize, backward: &[u64]) -> Result<Box<dyn Reservoir>, WeightError> {
        let saved = SavedReservoir::Dense { theta: theta.to_vec(), dormant: vec![0; words] };
        DenseReservoir::new(vec![0.0; theta.len()]).restored(saved, backward)
    }

    #[test]
    fn those_that_leave_are_kept_and_found_in_order() {
        let mut reservoir = restored(&[5.0, 1.0, 2.0, 3.0], 1, &[0, 3]).unwrap();
        assert_eq!(reservoir.head(1)[0], Entry { index: 2, value: 2.0 });
        reservoir.exchange(&[Entry { index: 0, value: -1.0 }], &[2]);
        assert_eq!((reservoir.value(0), reservoir.dormant()), (-1.0, 1));
        let tied = [Entry { index: 0, value: -1.0 }, Entry { index: 1, value: 1.0 }];
        assert_eq!(reservoir.head(5), tied);
        reservoir.exchange(&[], &[0]);
        assert_eq!((reservoir.dormant(), reservoir.head(5)), (0, &tied[1..]));
    }

    #[test]
    fn the_state_must_fit() {
        let made = |words| restored(&[0.0; 65], words, &[60, 64]).is_ok();
        assert!(made(2) && !made(1));
        let other = SavedReservoir::Dormant { indices: vec![], values: vec![] };
        assert!(DenseReservoir::new(vec![1.0]).restored(other, &[]).is_err());
    }

    proptest! {
        #[test]
        fn the_head_is_the_first_of_c_by_rank(
            values in prop::collection::vec((-9i8..9).prop_map(f32::from), 1..400),
            rounds in prop::collection::vec((0usize..40, prop::collection::vec(any::<(u16, i8)>(), 0..80)), 1..12),
        ) {
            let mut reservoir = DenseReservoir::new(values.clone());
            let (mut theta, mut backward) = (values, BTreeSet::new());
            for (count, exchanged) in rounds {
                let (mut left, mut entered) = (Vec::new(), Vec::new());
                let exchanged: std::collections::BTreeMap<_, _> =
                    exchanged.into_iter().map(|(at, value)| (at as usize % theta.len(), value)).collect();
                for (index, value) in exchanged {
                    if backward.remove(&index) {
                        theta[index] = f32::from(value);
                        left.push(Entry { index: index as u64, value: theta[index] });
                    } else {
                        backward.insert(index);
                        entered.push(index as u64);
                    }
                }
                reservoir.exchange(&left, &entered);
                let mut rest: Vec<_> = (0..theta.len())
                    .filter(|index| !backward.contains(index))
                    .map(|index| Entry { index: index as u64, value: theta[index] })
                    .collect();
                rest.sort_by_key(Entry::rank);
                let head = reservoir.head(count);
                prop_assert!(head.len() >= count.min(rest.len()));
                prop_assert_eq!(head, &rest[..head.len()]);
            }
        }
    }
}
