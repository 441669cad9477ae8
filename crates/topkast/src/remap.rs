//! Where the entries of a new pattern come from.

use topkast_kernels::CsrEdit;

use crate::Entry;
use crate::changes::Changes;

/// What a refresh changed: which entries moved within A and within B∖A, from the one to the other, and into B.
///
/// Everything of length |B| goes through it; it is how values and optimizer state follow their entry. What stays in
/// its set moves in runs, so it costs what lies between the entries that changed, and nothing if none did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remap {
    pub(crate) active: CsrEdit,
    pub(crate) explore: CsrEdit,
    /// |A|.
    border: usize,
    /// The old entries that were inserted first into A, in order; entries of C follow.
    promoted: Vec<u32>,
    /// The old entries that were inserted first into B∖A, likewise.
    demoted: Vec<u32>,
    /// The values of the entries of C inserted into A.
    into_active: Vec<f32>,
    /// The same for B∖A.
    into_explore: Vec<f32>,
}

impl Remap {
    /// Becomes that of `changes` to sets of `active` and `explore` entries; the edits are still to be made.
    pub(crate) fn plan(&mut self, changes: &Changes, active: usize, explore: usize) {
        fn list<T, I>(list: &mut Vec<T>, items: impl Iterator<Item = I>, of: impl Fn(I) -> T) {
            list.clear();
            list.extend(items.map(of));
        }
        self.active.reset(active);
        self.explore.reset(explore);
        self.border = active;
        list(&mut self.promoted, changes.promoted(), |leaver| leaver.entry);
        list(&mut self.demoted, changes.demoted(), |leaver| leaver.entry);
        list(&mut self.into_active, changes.into_active.iter(), |entry: &Entry| entry.value);
        list(&mut self.into_explore, changes.into_explore.iter(), |entry: &Entry| entry.value);
    }

    /// How many entries came into B, and how many left it, for |B| stays.
    pub fn entered(&self) -> usize {
        self.into_active.len() + self.into_explore.len()
    }

    /// How many entries of A were not in A before.
    pub fn newly_active(&self) -> usize {
        self.active.len()
    }

    /// Whether every entry is where it was.
    pub fn is_identity(&self) -> bool {
        self.active.is_empty() && self.explore.is_empty()
    }

    /// Moves per-entry state to the new order; entries that entered start at zero (our choice: the paper leaves open
    /// what becomes of optimizer state). `spare` is scratch.
    ///
    /// # Panics
    /// If `state` does not have one element for each entry of B.
    pub fn apply<T: Copy + Default>(&self, state: &mut [T], spare: &mut Vec<T>) {
        let zeros = |count| std::iter::repeat_n(T::default(), count);
        self.exchange(state, spare, zeros(self.into_active.len()), zeros(self.into_explore.len()));
    }

    /// As [`apply`](Self::apply), for the values of θ, which entries that enter bring along.
    pub(crate) fn apply_values(&self, values: &mut [f32], spare: &mut Vec<f32>) {
        let (into_active, into_explore) = (self.into_active.iter(), self.into_explore.iter());
        self.exchange(values, spare, into_active.copied(), into_explore.copied());
    }

    fn exchange<T: Copy>(
        &self,
        state: &mut [T],
        spare: &mut Vec<T>,
        into_active: impl Iterator<Item = T>,
        into_explore: impl Iterator<Item = T>,
    ) {
        if self.is_identity() {
            return;
        }
        // Those that change sets are read before anything is overwritten.
        spare.clear();
        spare.extend(self.promoted.iter().map(|&entry| state[entry as usize]));
        spare.extend(into_active);
        spare.extend(self.demoted.iter().map(|&entry| state[entry as usize]));
        spare.extend(into_explore);
        let (active, explore) = state.split_at_mut(self.border);
        let (to_active, to_explore) = spare.split_at(self.active.len());
        self.active.apply(active, to_active);
        self.explore.apply(explore, to_explore);
    }
}
