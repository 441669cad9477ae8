//! The largest entries of C in order, kept while entries come and go.

use std::cmp::Reverse;

use crate::Entry;
use crate::selection::magnitude;

/// The first entries of C by [`Entry::rank`], as many as were asked for last, more or fewer as exchanges left them.
pub(super) struct Head {
    entries: Vec<Entry>,
    /// Everything of C up to this rank is in `entries`; `None` where that is all of C.
    end: Option<(Reverse<u32>, u64)>,
}

impl Head {
    /// That of a C of which nothing is known yet.
    pub(super) fn unknown() -> Self {
        // Before every rank.
        Self { entries: Vec::new(), end: Some((Reverse(u32::MAX), 0)) }
    }

    /// Whether the `count` first of C are known.
    pub(super) fn suffices(&self, count: usize) -> bool {
        self.entries.len() >= count || self.end.is_none()
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Continues with what `list` appends, in order of rank, and with those of `others` that come after all there was and
    /// before the last of these. `list` returns whether more follow.
    pub(super) fn extend(
        &mut self,
        others: impl Iterator<Item = Entry>,
        spare: &mut Vec<Entry>,
        list: impl FnOnce(&mut Vec<Entry>) -> bool,
    ) {
        let Some(old_end) = self.end else { return };
        let more = list(&mut self.entries);
        self.end = self.entries.last().filter(|_| more).map(Entry::rank);
        self.insert(others.filter(|entry| entry.rank() > old_end), spare);
    }

    /// Starts over with what `list` pushes, in ascending order of index, and those of `others` that come before the last of
    /// them by rank: the first of C, about `len`. `list` returns whether more follow.
    pub(super) fn fill(
        &mut self,
        len: usize,
        others: impl Iterator<Item = Entry>,
        spare: &mut Vec<Entry>,
        list: impl FnOnce(&mut Vec<Entry>) -> bool,
    ) {
        for entries in [&mut self.entries, &mut *spare] {
            entries.clear();
            entries.shrink_to(2 * len);
        }
        let more = list(&mut self.entries);
        sort(&mut self.entries, spare);
        self.end = self.entries.last().filter(|_| more).map(Entry::rank);
        self.insert(others, spare);
    }

    /// Follows an exchange: those that `went`, `count` of them in C, leave, and those of `came` that belong to the head
    /// come in.
    pub(super) fn exchange(
        &mut self,
        came: &[Entry],
        count: usize,
        went: impl Fn(u64) -> bool,
        spare: &mut Vec<Entry>,
    ) {
        // Chosen by magnitude they are the first.
        let first = self.entries.iter().take_while(|entry| went(entry.index)).count();
        self.entries.drain(..first);
        if first < count {
            self.entries.retain(|entry| !went(entry.index));
        }
        self.insert(came.iter().copied(), spare);
    }

    /// Adds those of `came` that belong to the head.
    fn insert(&mut self, came: impl Iterator<Item = Entry>, spare: &mut Vec<Entry>) {
        spare.clear();
        spare.extend(came.filter(|entry| self.end.is_none_or(|end| entry.rank() <= end)));
        spare.sort_unstable_by_key(Entry::rank);
        // Merged from the back, so that each entry moves once.
        let mut rest = self.entries.len();
        self.entries.extend_from_slice(spare);
        for (before, entry) in spare.iter().enumerate().rev() {
            let rank = entry.rank();
            while rest > 0 && self.entries[rest - 1].rank() > rank {
                self.entries[rest + before] = self.entries[rest - 1];
                rest -= 1;
            }
            self.entries[rest + before] = *entry;
        }
    }

    /// Gives back memory that is not needed for what there is.
    pub(super) fn shrink(&mut self) {
        self.entries.shrink_to_fit();
    }

    /// Forgets all beyond the first `len`.
    pub(super) fn truncate(&mut self, len: usize) {
        if len < self.entries.len() {
            self.entries.truncate(len);
            self.end = self.entries.last().map(Entry::rank);
        }
    }
}

/// Sorts by rank what is in ascending order of index: by counting one digit of the magnitudes after the other, the lowest
/// first, each of which keeps the order of those it does not tell apart.
fn sort(entries: &mut Vec<Entry>, spare: &mut Vec<Entry>) {
    const DIGIT: u32 = 11;
    let magnitudes = || entries.iter().map(|entry| magnitude(entry.value));
    let (Some(least), Some(most)) = (magnitudes().min(), magnitudes().max()) else { return };
    spare.clear();
    spare.extend_from_slice(entries);
    for shift in (0..u32::BITS).step_by(DIGIT as usize).take_while(|shift| (most - least) >> shift != 0) {
        let digit = |entry: &Entry| (most - magnitude(entry.value)) as usize >> shift & ((1 << DIGIT) - 1);
        let mut ends = [0; 1 << DIGIT];
        entries.iter().for_each(|entry| ends[digit(entry)] += 1);
        let mut sum = 0;
        for end in &mut ends {
            sum += *end;
            *end = sum;
        }
        for entry in entries.iter().rev() {
            let end = &mut ends[digit(entry)];
            *end -= 1;
            spare[*end] = *entry;
        }
        std::mem::swap(entries, spare);
    }
}
