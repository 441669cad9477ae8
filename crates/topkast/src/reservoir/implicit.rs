//! C without storing it: for fresh weights, of any size.
//!
//! ```text
//! θ⁰       any entry from its rank or its index                                                     Initial
//! touched  entries that have been in B: all ranks below the frontier, and some ahead of it (where a tie at the frontier was
//!          decided by index, or B∖A is drawn at random)
//! dormant  those of them in C, with the values they left B with                                     Dormant
//! C        dormant and, in order, the ranks from the frontier on that are not ahead
//! ```
//! Nothing here grows with n. What a refresh costs follows from the entries exchanged and, when the list of C's first
//! entries has been used up, from |dormant|.

use rayon::prelude::*;

use super::dormant::{Dormant, insert_ascending};
use super::head::Head;
use super::initial::Initial;
use super::{Reservoir, ReservoirState, SavedReservoir};
use crate::{Entry, Init, Seed, WeightError};

/// Initial values by rank, never written out, and those that differ from them by now.
pub struct ImplicitReservoir {
    initial: Initial,
    /// |B|.
    backward: u64,
    /// Every rank below has been in B.
    frontier: u64,
    /// The others that have, in ascending order.
    ahead: Vec<u64>,
    dormant: Dormant,
    head: Head,
    /// Of the ranks below, those that have not been in B are in the head.
    listed: u64,
    spare: Vec<Entry>,
    entered: Vec<u64>,
    ranks: Vec<u64>,
}

impl ImplicitReservoir {
    /// All of θ⁰ of a weight `[rows × width]` of which the `active` largest entries are to be in A.
    ///
    /// # Errors
    /// If the weight is empty or has more than 2⁴⁸ entries.
    pub fn new(
        rows: usize,
        width: usize,
        init: &Init,
        active: usize,
        seed: Seed,
    ) -> Result<Self, WeightError> {
        Ok(Self::of(Initial::new(rows, width, init, active, seed)?))
    }

    fn of(initial: Initial) -> Self {
        Self {
            initial,
            backward: 0,
            frontier: 0,
            ahead: Vec::new(),
            dormant: Dormant::default(),
            head: Head::unknown(),
            listed: 0,
            spare: Vec::new(),
            entered: Vec::new(),
            ranks: Vec::new(),
        }
    }

    /// θ⁰ in flat order: for weights small enough, to start a [`DenseReservoir`](super::DenseReservoir) with.
    pub fn written_out(&self) -> Vec<f32> {
        (0..self.initial.n()).into_par_iter().map(|index| self.initial.value(index)).collect()
    }

    /// How many entries of C are worth keeping in order, beside those asked for: many beside what one refresh exchanges.
    fn usual(&self) -> usize {
        (self.backward / 64 + 64) as usize
    }

    /// Lists at least the first `count` of C: what is listed of them, and as many untouched entries as are missing.
    fn search(&mut self, count: usize) {
        let wanted = count.saturating_add(self.usual()).min((self.initial.n() - self.backward) as usize);
        let Self { initial, frontier, ahead, dormant, head, listed, spare, .. } = self;
        let missing = wanted.saturating_sub(head.entries().len());
        *listed = (*listed).max(*frontier);
        head.extend(dormant.entries(), spare, |out| {
            *listed = list_untouched(initial, *listed, ahead, missing, out);
            *listed < initial.n()
        });
    }

    /// Adds to the ranks that have been in B, those of `entered`, which had not.
    fn touch(&mut self) {
        let Self { initial, frontier, ahead, entered, ranks, .. } = self;
        ranks.resize(entered.len(), 0);
        ranks.par_chunks_mut(PART).zip(entered.par_chunks(PART)).for_each(|(ranks, indices)| {
            ranks.iter_mut().zip(indices).for_each(|(rank, &index)| *rank = initial.rank(index));
        });
        ranks.par_sort_unstable();
        insert_ascending(ahead, ranks);
        let passed = ahead.iter().zip(*frontier..).take_while(|(rank, next)| **rank == *next).count();
        ahead.drain(..passed);
        *frontier += passed as u64;
    }
}

/// Entries that one thread computes together.
const PART: usize = 1 << 10;

/// Lists at least `count` untouched entries from rank `from` on, and all that are tied with the last, or all there are;
/// returns the first rank after them.
fn list_untouched(initial: &Initial, from: u64, ahead: &[u64], count: usize, out: &mut Vec<Entry>) -> u64 {
    let n = initial.n();
    let ahead = &ahead[ahead.partition_point(|&rank| rank < from)..];
    let mut end = from;
    loop {
        let touched = ahead.partition_point(|&rank| rank < end) as u64;
        let next = n.min(from + touched + count as u64);
        if next == end {
            break;
        }
        end = next;
    }
    if end > from {
        end = initial.end_of_ties(end - 1);
    }
    let before = out.len();
    out.resize(before + (end - from) as usize, Entry { index: 0, value: 0.0 });
    out[before..].par_chunks_mut(PART).enumerate().for_each(|(number, part)| {
        let first = from + (number * PART) as u64;
        part.iter_mut().zip(first..).for_each(|(slot, rank)| *slot = initial.entry(rank));
    });
    remove_touched(out, before, from, ahead);
    for tied in out[before..].chunk_by_mut(|a, b| a.value.abs() == b.value.abs()) {
        tied.sort_unstable_by_key(|entry| entry.index);
    }
    end
}

/// Removes, of the entries from `start` on, which have the ranks from `from` on, those whose rank is in `ahead`.
fn remove_touched(entries: &mut Vec<Entry>, start: usize, from: u64, ahead: &[u64]) {
    let mut kept = start;
    let mut touched = ahead.iter().peekable();
    for (at, rank) in (start..entries.len()).zip(from..) {
        if touched.next_if_eq(&&rank).is_none() {
            entries[kept] = entries[at];
            kept += 1;
        }
    }
    entries.truncate(kept);
}

impl Reservoir for ImplicitReservoir {
    fn head(&mut self, count: usize) -> &[Entry] {
        if !self.head.suffices(count) {
            self.search(count);
        }
        self.head.entries()
    }

    fn value(&self, index: u64) -> f32 {
        self.dormant.value(index).unwrap_or_else(|| self.initial.value(index))
    }

    fn exchange(&mut self, left: &[Entry], entered: &[u64]) {
        self.backward = self.backward + entered.len() as u64 - left.len() as u64;
        self.entered.clear();
        self.entered.extend_from_slice(entered);
        self.entered.sort_unstable();
        let many = entered.len() > 2 * self.usual();
        if many {
            // As at the start, or where B∖A is drawn at random: cheaper to list again than to look up one by one.
            (self.head, self.listed) = (Head::unknown(), 0);
        } else {
            let went = |index| self.entered.binary_search(&index).is_ok();
            self.head.exchange(left, entered.len(), went, &mut self.spare);
        }
        self.dormant.exchange(left, &mut self.entered, &mut self.spare);
        self.touch();
        if many {
            // There was room for all of B.
            (self.spare, self.entered, self.ranks) = (Vec::new(), Vec::new(), Vec::new());
            self.ahead.shrink_to_fit();
        }
    }

    fn entries(&self) -> u64 {
        self.initial.n()
    }

    fn dormant(&self) -> u64 {
        self.dormant.len() as u64
    }

    fn frontier(&self) -> Option<u64> {
        Some(self.frontier)
    }

    fn bytes(&self) -> usize {
        // The head and its scratch as they usually are, so that the number does not change from step to step.
        let head = 2 * self.usual() * size_of::<Entry>();
        self.dormant.bytes() + size_of_val(&self.ahead[..]) + head
    }

    fn state(&self) -> ReservoirState<'_> {
        ReservoirState::Dormant { indices: self.dormant.indices(), values: self.dormant.values() }
    }

    fn restored(&self, saved: SavedReservoir, backward: &[u64]) -> Result<Box<dyn Reservoir>, WeightError> {
        let SavedReservoir::Dormant { indices, values } = saved else {
            return Err(WeightError::OtherReservoir);
        };
        let mut restored = Self::of(self.initial.clone());
        restored.dormant = Dormant::from_saved(indices, values, self.initial.n(), backward)?;
        restored.backward = backward.len() as u64;
        restored.entered.extend(backward.iter().chain(restored.dormant.indices()));
        restored.touch();
        restored.entered = Vec::new();
        Ok(Box::new(restored))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scale;
    use crate::reservoir::twin;
    use proptest::prelude::*;

    fn reservoir(n: usize, deviation: f64, seed: u64) -> ImplicitReservoir {
        let init = Init::kaiming_normal(Scale::Full);
        let mut reservoir = ImplicitReservoir::new(1, n, &init, 0, Seed::new(seed)).unwrap();
        reservoir.initial.set_deviation(deviation);
        reservoir
    }

    #[test]
    fn entries_below_the_frontier_are_never_listed_again() {
        let mut reservoir = reservoir(1000, 1.0, 1);
        let first: Vec<Entry> = reservoir.head(10)[..10].to_vec();
        let indices: Vec<u64> = first.iter().map(|entry| entry.index).collect();
        reservoir.exchange(&[], &indices);
        assert_eq!((reservoir.frontier(), reservoir.dormant()), (Some(10), 0));
        // One leaves, too small to be next, and one comes from far behind.
        let left = Entry { index: indices[3], value: 1e-9 };
        let far = reservoir.initial.entry(500).index;
        reservoir.exchange(&[left], &[far]);
        assert_eq!(
            (reservoir.frontier(), reservoir.dormant(), &reservoir.ahead[..]),
            (Some(10), 1, &[500][..])
        );
        let all = reservoir.head(usize::MAX);
        assert_eq!((all.len(), all.last()), (990, Some(&left)));
        assert!(all.iter().all(|entry| entry.index != far));
        assert_eq!(reservoir.value(indices[3]), 1e-9);
    }

    /// The last of those listed marks how far the list goes, also while it is in B.
    #[test]
    fn the_last_listed_is_found_again_when_it_comes_back_as_it_went() {
        let mut reservoir = reservoir(1000, 1.0, 1);
        let all: Vec<Entry> = reservoir.head(10).to_vec();
        assert!(all.len() < 1000);
        let indices: Vec<u64> = all.iter().map(|entry| entry.index).collect();
        reservoir.exchange(&[], &indices);
        let last = all[all.len() - 1];
        reservoir.exchange(&[last], &[]);
        assert_eq!(reservoir.head(1)[0], last);
        assert_eq!(reservoir.head(usize::MAX).len(), 1000 - indices.len() + 1);
    }

    #[test]
    fn what_is_saved_must_be_of_this_kind() {
        let reservoir = reservoir(10, 1.0, 1);
        let saved = SavedReservoir::Dense { theta: vec![0.0; 10], dormant: vec![0] };
        assert_eq!(reservoir.restored(saved, &[]).err(), Some(WeightError::OtherReservoir));
        let saved = SavedReservoir::Dormant { indices: vec![3], values: vec![0.0] };
        assert!(reservoir.restored(saved.clone(), &[3]).is_err());
        assert!(reservoir.restored(saved, &[4]).is_ok());
    }

    proptest! {
        /// With a deviation near the smallest number there are few magnitudes, and nearly all entries are tied.
        #[test]
        fn is_a_dense_reservoir_of_the_same_values(
            n in 1usize..1500,
            deviation in prop::sample::select(vec![1.0, 1e-43, 4e-45, 1e-47]),
            seed: u64,
            rounds in twin::rounds(),
        ) {
            let theta = reservoir(n, deviation, seed).written_out();
            twin::check(Box::new(reservoir(n, deviation, seed)), theta, rounds, |value| {
                f32::from(value) * deviation as f32
            });
        }
    }
}
