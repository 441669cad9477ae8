//! Where the entries of a new pattern come from.

use topkast_kernels::Buffer;

/// What a refresh changed: for every entry of the new B its entry in the old B, or that it entered.
///
/// Everything of length |B| except the values themselves goes through [`Remap::apply`]; it is how optimizer state
/// follows its weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remap {
    from: Vec<u32>,
    entered: usize,
    left: usize,
    newly_active: usize,
}

/// Marks an entry that was not in B before. No real entry has this number: |B| is at most 2³² − 1.
const ENTERED: u32 = u32::MAX;

impl Remap {
    /// `sources` gives, for every entry of the new B, the entry of the old B it was; `len` and `old_len` are the new
    /// and the old |B|, `active` and `old_active` the new and the old |A|.
    pub(crate) fn new(
        sources: impl Iterator<Item = (usize, Option<u32>)>,
        len: usize,
        old_len: usize,
        active: usize,
        old_active: usize,
    ) -> Self {
        let mut from = vec![ENTERED; len];
        sources.for_each(|(entry, source)| from[entry] = source.unwrap_or(ENTERED));
        let entered = from.iter().filter(|&&source| source == ENTERED).count();
        let left = old_len - (from.len() - entered);
        let newly_active = from[..active].iter().filter(|&&source| source as usize >= old_active).count();
        Self { from, entered, left, newly_active }
    }

    /// How many entries came into B.
    pub fn entered(&self) -> usize {
        self.entered
    }

    /// How many entries left B.
    pub fn left(&self) -> usize {
        self.left
    }

    /// How many entries of A were not in A before.
    pub fn newly_active(&self) -> usize {
        self.newly_active
    }

    /// The old entry of each new one, `None` where it entered.
    pub fn sources(&self) -> impl ExactSizeIterator<Item = Option<usize>> + '_ {
        self.from.iter().map(|&source| (source != ENTERED).then_some(source as usize))
    }

    /// Moves per-entry state to the new order; entries that entered start at zero (our choice: the paper leaves open
    /// what becomes of optimizer state).
    pub fn apply(&self, state: &mut Buffer) {
        let old = std::mem::take(state);
        state.reset(self.from.len());
        self.gather(&old, state);
    }

    /// As [`apply`](Self::apply), for counts.
    pub fn apply_counts(&self, state: &mut Vec<u32>) {
        let old = std::mem::replace(state, vec![0; self.from.len()]);
        self.gather(&old, state);
    }

    fn gather<T: Copy>(&self, old: &[T], new: &mut [T]) {
        for (slot, source) in new.iter_mut().zip(self.sources()) {
            if let Some(source) = source {
                *slot = old[source];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_follows_and_newcomers_start_at_zero() {
        let remap = Remap::new([(1, None), (2, Some(0)), (0, Some(2))].into_iter(), 3, 4, 2, 1);
        assert_eq!((remap.entered(), remap.left(), remap.newly_active()), (1, 2, 2));
        let mut state = Buffer::from(&[10.0, 11.0, 12.0, 13.0][..]);
        remap.apply(&mut state);
        assert_eq!(&state[..], &[12.0, 0.0, 10.0]);
        let mut counts = vec![5, 6, 7, 8];
        remap.apply_counts(&mut counts);
        assert_eq!(counts, [7, 0, 5]);
    }
}
