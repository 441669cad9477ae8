//! All of θ in memory: for networks that start from given dense weights, and the oracle for other reservoirs.

use super::head::Head;
use super::{Reservoir, ReservoirState};
use crate::selection::{magnitude, select_largest, threshold};
use crate::{Entry, WeightError};

/// θ written out, 4 bytes an entry, and two bits an entry: whether it is in B, and whether it has been and left. The slots
/// of entries in B are stale.
///
/// The largest entries of C are kept in order, so that a refresh does not look at θ. Only once exchanges have used them up
/// is it searched for as many again.
pub struct DenseReservoir {
    theta: Vec<f32>,
    in_backward: Bits,
    dormant: Bits,
    head: Head,
    spare: Vec<Entry>,
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
        Self { theta, in_backward, dormant, head: Head::unknown(), spare: Vec::new() }
    }

    /// A reservoir as a checkpoint stored it, of a weight with the given entries in B.
    ///
    /// # Errors
    /// If `dormant` does not have one bit per entry of `theta`, or there is no such entry as `backward` names.
    pub fn from_state(
        theta: Vec<f32>,
        dormant: Vec<u64>,
        backward: impl Iterator<Item = u64>,
    ) -> Result<Self, WeightError> {
        let mut reservoir = Self::new(theta);
        let (got, want) = (dormant.len(), reservoir.dormant.words.len());
        if got != want {
            return Err(WeightError::Length { what: "dormant bits", got, want });
        }
        let count = dormant.iter().map(|word| u64::from(word.count_ones())).sum();
        reservoir.dormant = Bits { words: dormant, count };
        for index in backward {
            if index >= reservoir.entries() {
                return Err(WeightError::Reservoir { got: reservoir.entries() });
            }
            reservoir.in_backward.set(index, true);
        }
        Ok(reservoir)
    }

    /// Multiplies all of θ; for scaling an initialisation once its active set is known.
    pub(crate) fn scale(&mut self, factor: f32) {
        self.theta.iter_mut().for_each(|value| *value *= factor);
        self.head = Head::unknown();
    }

    /// How many entries of C are worth keeping in order: few beside θ, many beside what one refresh exchanges.
    fn usual(&self) -> usize {
        self.theta.len() / 256 + 64
    }

    /// Searches θ for at least the first `count` of C.
    fn search(&mut self, count: usize) {
        let all = self.theta.len() - self.in_backward.count as usize;
        // More than is wanted now, so that the next refreshes need no search.
        let count = (count + (3 * count).min(self.theta.len() / 32)).max(self.usual()).min(all);
        let Self { theta, in_backward, head, .. } = self;
        let chunks = || theta.chunks(64).zip(&in_backward.words).zip((0..).step_by(64));
        let least = likely_bound(|| chunks().step_by(SAMPLED), count as f64 / all as f64);
        head.fill(count, all, |out| {
            chunks().for_each(|chunk| list_from(least, chunk, out));
            if out.len() < count {
                out.clear();
                let entries = || chunks().flat_map(outside_backward);
                select_largest(&entries, count, |entry| out.push(entry));
            }
        });
    }
}

/// 64 entries of θ, which of them are in B, and the index of the first.
type Chunk<'a> = ((&'a [f32], &'a u64), u64);

/// One in how many chunks tells of all where something is to be expected only.
const SAMPLED: usize = 16;

fn outside_backward(((values, &in_backward), first): Chunk<'_>) -> impl Iterator<Item = Entry> {
    let entries = (0..).zip(values).filter(move |&(bit, _)| in_backward >> bit & 1 == 0);
    entries.map(move |(bit, &value)| Entry { index: first + bit, value })
}

/// A magnitude that somewhat more than this share of C has at least, to judge by some chunks.
fn likely_bound<'a, I>(chunks: impl Fn() -> I, share: f64) -> u32
where
    I: Iterator<Item = Chunk<'a>>,
{
    let values = || chunks().flat_map(outside_backward).map(|entry| entry.value);
    let sampled = values().count();
    // Three standard deviations of how many of the sample may be among them.
    let expected = share * sampled as f64;
    let wanted = (expected + 3.0 * expected.sqrt() + 1.0).ceil() as usize;
    if wanted < sampled { threshold(&values, wanted).magnitude } else { 0 }
}

/// Appends what is not in B and has at least the magnitude `least`: the one pass over all of θ.
fn list_from(least: u32, ((values, &in_backward), first): Chunk<'_>, out: &mut Vec<Entry>) {
    for (bit, &value) in (0..).zip(values) {
        if (magnitude(value) >= least) & (in_backward >> bit & 1 == 0) {
            out.push(Entry { index: first + bit, value });
        }
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
            self.in_backward.set(index, true);
            self.dormant.set(index, false);
        }
        let in_backward = &self.in_backward;
        self.head.exchange(left, |index| in_backward.has(index), &mut self.spare);
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
        let spare = self.spare.capacity() * size_of::<Entry>();
        size_of_val(&self.theta[..]) + bits + self.head.bytes() + spare
    }

    fn state(&self) -> ReservoirState<'_> {
        ReservoirState::Dense { theta: &self.theta, dormant: &self.dormant.words }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn those_that_leave_are_kept_and_found_in_order() {
        let backward = [0, 3].into_iter();
        let mut reservoir = DenseReservoir::from_state(vec![5.0, 1.0, 2.0, 3.0], vec![0], backward).unwrap();
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
        let made = |words, index| {
            DenseReservoir::from_state(vec![0.0; 65], vec![0; words], [index].into_iter()).is_ok()
        };
        assert!(made(2, 64) && !made(1, 64) && !made(2, 65));
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
