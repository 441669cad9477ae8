//! How A and B are chosen again: exactly, by looking twice only at what is near a boundary.
//!
//! ```text
//! C      its largest magnitude bounds who may have to leave B; of those and as many from C the larger are in B
//! A      the boundary is close to where it was, so only entries in a window around there are selected among; where
//!        it turns out to be outside, counting over all of B finds it
//! ```

use super::choice::with_drawn;
use super::rebuild::rebuilt;
use super::window::{Candidate, Guess, Window, collect};
use super::*;
use crate::changes::{Changes, Leaver};
use crate::selection::{Cut, NO_MAGNITUDE, magnitude, threshold};
use crate::{parameter, pattern};

/// What a refresh keeps for the next one: where the boundary was, and its scratch. Nothing of it changes a result.
#[derive(Default)]
pub(super) struct Refresher {
    guess: Option<Guess>,
    candidates: Vec<Candidate>,
    found: Vec<u32>,
    magnitudes: Vec<u32>,
    indices: Vec<u64>,
    pub(super) changes: Changes,
    left: Vec<Entry>,
    entered: Vec<u64>,
    of_pattern: pattern::Spare,
    of_parameter: parameter::Spare,
    remap: Remap,
}

/// What a refresh looks at.
pub(super) struct State<'a> {
    pub(super) pattern: &'a Pattern,
    pub(super) values: &'a [f32],
    pub(super) reservoir: &'a mut dyn Reservoir,
}

/// Which entries are in B, and which in A.
#[derive(Clone, Copy)]
pub(super) struct Cuts {
    pub(super) backward: Cut,
    pub(super) active: Cut,
}

impl Cuts {
    /// See [`Cut::counted_from`].
    pub(super) fn counted_from(self, start: u64) -> Self {
        Self { backward: self.backward.counted_from(start), active: self.active.counted_from(start) }
    }
}

impl State<'_> {
    /// |A|.
    fn active(&self) -> usize {
        self.pattern.active().entries()
    }

    /// The indices of what `cut` takes, of C among its first `most`; ascending.
    pub(super) fn taken(&mut self, cut: Cut, most: usize) -> Vec<u64> {
        let takes = |index: u64, value| cut.takes(magnitude(value), || index);
        let head = first(self.reservoir.head(most), most);
        let mut taken: Vec<u64> =
            head.iter().filter(|entry| takes(entry.index, entry.value)).map(|entry| entry.index).collect();
        self.pattern.for_each_by_index(|index, entry| {
            if takes(index, self.values[entry]) {
                taken.push(index);
            }
        });
        taken.sort();
        taken
    }

    /// How many of the first `most` of C have at least this magnitude.
    fn reserve(&mut self, lowest: u32, most: usize) -> usize {
        let mut count = 1;
        loop {
            let head = self.reservoir.head(count.min(most));
            let large = head.partition_point(|entry| magnitude(entry.value) >= lowest);
            if large < count || count >= most {
                return large.min(most);
            }
            count *= 4;
        }
    }
}

impl Refresher {
    /// Chooses A and B again.
    pub(super) fn choose(&mut self, state: &mut State<'_>, explore: Explore, seed: Seed) {
        self.changes.clear();
        let window = self.guess.map_or(Window::CLOSED, |guess| guess.window());
        if matches!(explore, Explore::Random | Explore::Mixed) {
            self.collect(state, 0, window);
            let active = self.cut_active(state, 0, usize::MAX);
            let near = match explore.nearest(state.pattern.explore().entries()) {
                0 => active,
                count => self.cut_all(state, state.active() + count),
            };
            self.list_random(state, active, near, seed.named("explore"));
            return;
        }
        // Entries below the largest of C may have to leave B, and no others.
        let floor = state.reservoir.head(1).first().map_or(0, |entry| magnitude(entry.value) + 1);
        self.collect(state, floor, window);
        let (backward, most) = self.cut_backward(state, floor);
        let active = match explore {
            Explore::None => backward,
            _ => self.cut_active(state, floor, most).0,
        };
        self.list(state, Cuts { backward, active }, most);
    }

    /// Collects the entries of B that are below `floor`, those of A that are not above the window, and those of B∖A that
    /// are not below it.
    fn collect(&mut self, state: &State<'_>, floor: u32, window: Window) {
        let (active, explore) = state.values.split_at(state.active());
        let surely_active = window.high.max(floor).min(NO_MAGNITUDE)..NO_MAGNITUDE;
        let surely_explore = floor..window.low.max(floor);
        self.candidates.clear();
        collect(active, 0, surely_active, &mut self.found, &mut self.candidates);
        collect(explore, active.len(), surely_explore, &mut self.found, &mut self.candidates);
    }

    /// Which entries are in B, and how many first of C may be, after [`collect`](Self::collect).
    fn cut_backward(&mut self, state: &mut State<'_>, floor: u32) -> (Cut, usize) {
        let low = self.candidates.iter().filter(|one| one.magnitude < floor).count();
        if low == 0 { (Cut::ALL, 0) } else { self.cut_below(state, floor, low) }
    }

    /// Which are the `count` largest entries of B and C, and how many first of C may be.
    fn cut_all(&mut self, state: &mut State<'_>, count: usize) -> (Cut, usize) {
        self.collect(state, NO_MAGNITUDE, Window::CLOSED);
        self.cut_below(state, NO_MAGNITUDE, count)
    }

    /// Which are the `count` largest of C and of the entries collected below `floor`, and how many first of C may be.
    fn cut_below(&mut self, state: &mut State<'_>, floor: u32, count: usize) -> (Cut, usize) {
        let Self { candidates, magnitudes, indices, .. } = self;
        let low = candidates.iter().map(|one| one.magnitude).filter(|&magnitude| magnitude < floor);
        // Far fewer come than may: as many as go.
        let mut asked = count.div_ceil(8);
        loop {
            let head = first(state.reservoir.head(asked), count);
            magnitudes.clear();
            magnitudes.extend(low.clone().chain(head.iter().map(|entry| magnitude(entry.value))));
            let cut = (magnitudes.len() >= count).then(|| {
                Cut::of(magnitudes, count, indices, |tied, indices| {
                    list_tied(tied, state.pattern, candidates, head, indices);
                })
            });
            let lowest = cut.map_or(0, |cut| cut.magnitude);
            let beyond = head.last().is_some_and(|entry| magnitude(entry.value) < lowest);
            if beyond || asked >= count {
                return (cut.expect("B and C have as many entries"), head.len());
            }
            asked = (2 * asked).min(count);
        }
    }

    /// Which entries are in A, and how many of C may be, of which the first `most` are in B.
    fn cut_active(&mut self, state: &mut State<'_>, floor: u32, most: usize) -> (Cut, usize) {
        if state.active() == 0 {
            return (Cut::from(NO_MAGNITUDE), 0);
        }
        if let Some(guess) = self.guess
            && let Some(found) = self.cut_within(state, guess.window(), most)
        {
            return found;
        }
        let window = Window::at(boundary(state, most));
        self.collect(state, floor, window);
        self.cut_within(state, window, most).expect("the window is where the boundary is")
    }

    /// The same if the boundary is in `window`, after [`collect`](Self::collect) for it.
    fn cut_within(&mut self, state: &mut State<'_>, window: Window, most: usize) -> Option<(Cut, usize)> {
        let Self { guess, candidates, magnitudes, indices, .. } = self;
        let Window { low, high } = window;
        let enough = state.reserve(low, most);
        let head = first(state.reservoir.head(enough), enough);
        let border =
            candidates.partition_point(|one| (one.entry as usize) < state.pattern.active().entries());
        let (active, explore) = candidates.split_at(border);
        magnitudes.clear();
        magnitudes.extend(active.iter().map(|one| one.magnitude).filter(|&magnitude| magnitude < high));
        // As many of all these are in A as were of them.
        let wanted = magnitudes.len();
        magnitudes.extend(explore.iter().map(|one| one.magnitude).filter(|&magnitude| magnitude >= low));
        magnitudes.extend(head.iter().map(|entry| magnitude(entry.value)));
        if wanted == 0 {
            // All of A is above the window.
            return magnitudes.iter().all(|&magnitude| magnitude < high).then_some((Cut::from(high), enough));
        }
        let cut = Cut::of(magnitudes, wanted, indices, |tied, indices| {
            list_tied(tied, state.pattern, candidates, head, indices);
        });
        let found = (low..high).contains(&cut.magnitude);
        if found {
            *guess =
                Some(guess.map_or_else(|| Guess::first(cut.magnitude), |guess| guess.next(cut.magnitude)));
        }
        found.then_some((cut, enough))
    }

    /// Lists what changes by cuts found elsewhere, where C is within them only with its first `most`.
    pub(super) fn list_by(&mut self, state: &mut State<'_>, cuts: Cuts, most: usize) {
        // At the magnitude of a cut the index decides.
        let floor = (cuts.backward.magnitude + 1).min(NO_MAGNITUDE);
        self.collect(state, floor, Window::at(cuts.active.magnitude));
        self.list(state, cuts, most);
    }

    /// Lists what changes, by magnitude.
    fn list(&mut self, state: &mut State<'_>, cuts: Cuts, most: usize) {
        let Self { candidates, changes, .. } = self;
        let (pattern, border) = (state.pattern, state.active() as u32);
        let unsure = candidates.iter().filter(|one| {
            let [active, backward] = [cuts.active, cuts.backward].map(|cut| cut.decides(one.magnitude));
            if one.entry < border {
                active != Some(true)
            } else {
                active != Some(false) || backward != Some(true)
            }
        });
        let cells = pattern.cells(unsure.clone().map(|one| one.entry as usize));
        for (&Candidate { entry, magnitude }, cell) in unsure.zip(cells) {
            let index = || pattern.index(cell);
            let active = cuts.active.takes(magnitude, index);
            let stays = cuts.backward.takes(magnitude, index);
            if entry < border && !active {
                changes.from_active.push(Leaver { entry, cell, stays });
            } else if entry >= border && (active || !stays) {
                changes.from_explore.push(Leaver { entry, cell, stays });
            }
        }
        for entry in first(state.reservoir.head(most), most) {
            let (magnitude, index) = (magnitude(entry.value), || entry.index);
            if cuts.active.takes(magnitude, index) {
                changes.into_active.push(*entry);
            } else if cuts.backward.takes(magnitude, index) {
                changes.into_explore.push(*entry);
            }
        }
    }

    /// Lists what changes where B∖A, but for what `near` takes, is drawn at random: nearly all of it. With each cut comes how
    /// many first of C it may take.
    fn list_random(&mut self, state: &mut State<'_>, active: (Cut, usize), near: (Cut, usize), seed: Seed) {
        let pattern = state.pattern;
        let backward = with_drawn(state.taken(near.0, near.1), pattern.total(), pattern.backward_len(), seed);
        self.list_backward(state, active.0, active.1, backward.into_iter());
    }

    /// Lists what changes where B becomes these indices, ascending, and A what `active` takes, of C among its first `most`.
    pub(super) fn list_backward(
        &mut self,
        state: &mut State<'_>,
        active: Cut,
        most: usize,
        backward: impl Iterator<Item = u64>,
    ) {
        let Changes { from_active, from_explore, into_active, into_explore, .. } = &mut self.changes;
        let State { pattern, values, reservoir } = state;
        let head = first(reservoir.head(most), most);
        into_active.extend(head.iter().filter(|one| active.takes(magnitude(one.value), || one.index)));
        into_active.sort_unstable_by_key(|entry| entry.index);
        let mut enter = |index| {
            // Not by the cut, which may not have seen all of C that is tied with its last.
            if into_active.binary_search_by_key(&index, |entry| entry.index).is_err() {
                into_explore.push(Entry { index, value: reservoir.value(index) });
            }
        };
        let mut backward = backward.peekable();
        pattern.for_each_by_index(|index, entry| {
            while let Some(other) = backward.next_if(|&other| other < index) {
                enter(other);
            }
            let stays = backward.next_if_eq(&index).is_some();
            let active = stays && active.takes(magnitude(values[entry]), || index);
            let leaver = || Leaver { entry: entry as u32, cell: pattern.cell(index), stays };
            if entry < pattern.active().entries() && !active {
                from_active.push(leaver());
            } else if entry >= pattern.active().entries() && (active || !stays) {
                from_explore.push(leaver());
            }
        });
        backward.for_each(enter);
    }

    /// Lists of magnitudes and of indices to select in.
    pub(super) fn scratch(&mut self) -> (&mut Vec<u32>, &mut Vec<u64>) {
        (&mut self.magnitudes, &mut self.indices)
    }

    /// Makes the changes listed, where they leave sizes as they are. Where there is no reservoir, what leaves is forgotten.
    pub(super) fn apply(
        &mut self,
        pattern: &mut Arc<Pattern>,
        parameter: &mut Parameter,
        reservoir: Option<&mut dyn Reservoir>,
    ) -> &Remap {
        let Self { changes, remap, left, entered, of_pattern, of_parameter, .. } = self;
        remap.plan(changes, pattern.active().entries(), pattern.explore().entries());
        if changes.are_none() {
            return remap;
        }
        if reservoir.is_some() {
            list_exchanged(changes, pattern, &parameter.values, left, entered);
        }
        let mut exchange = || {
            // Copied first where someone else still looks at it.
            let pattern = Arc::make_mut(pattern);
            pattern.exchange(changes, remap);
            rayon::join(
                || pattern.exchange_transposed(changes, remap, of_pattern),
                || parameter.remap(remap, of_parameter),
            );
        };
        match reservoir {
            Some(reservoir) => {
                rayon::join(exchange, || reservoir.exchange(left, entered));
            }
            None => exchange(),
        }
        remap
    }

    /// The same, whatever sizes they lead to: what does not fit in place is made anew.
    pub(super) fn apply_any(
        &mut self,
        pattern: &mut Arc<Pattern>,
        parameter: &mut Parameter,
        reservoir: Option<&mut dyn Reservoir>,
    ) {
        if self.changes.keep_sizes() {
            self.apply(pattern, parameter, reservoir);
            return;
        }
        let Self { changes, left, entered, .. } = self;
        if reservoir.is_some() {
            list_exchanged(changes, pattern, &parameter.values, left, entered);
        }
        let mut rebuild = || {
            let (new, of_new) = rebuilt(pattern, parameter, changes);
            (*pattern, *parameter) = (Arc::new(new), of_new);
        };
        match reservoir {
            Some(reservoir) => {
                rayon::join(rebuild, || reservoir.exchange(left, entered));
            }
            None => rebuild(),
        }
    }
}

/// Lists what C gets, and what it gives.
fn list_exchanged(
    changes: &Changes,
    pattern: &Pattern,
    values: &[f32],
    left: &mut Vec<Entry>,
    entered: &mut Vec<u64>,
) {
    left.clear();
    left.extend(
        changes
            .left()
            .map(|leaver| Entry { index: pattern.index(leaver.cell), value: values[leaver.entry as usize] }),
    );
    entered.clear();
    entered.extend(changes.entered().map(|entry| entry.index));
}

/// The first `count` of what [`Reservoir::head`] gives, which may be more or, where C has fewer, fewer.
pub(super) fn first(head: &[Entry], count: usize) -> &[Entry] {
    &head[..count.min(head.len())]
}

/// The |A|-th largest magnitude of B and the first `most` of C, by counting.
fn boundary(state: &mut State<'_>, most: usize) -> u32 {
    let (values, active) = (state.values, state.active());
    let of_backward = threshold(&|| values.iter().copied(), active).magnitude;
    // With entries of C it can only be larger.
    let enough = state.reserve(of_backward, most);
    if enough == 0 {
        return of_backward;
    }
    let head = first(state.reservoir.head(enough), enough);
    threshold(&|| values.iter().copied().chain(head.iter().map(|entry| entry.value)), active).magnitude
}

/// Appends the indices of the candidates and of those entries of C whose magnitude is `tied`.
fn list_tied(tied: u32, pattern: &Pattern, candidates: &[Candidate], head: &[Entry], indices: &mut Vec<u64>) {
    let entries = candidates.iter().filter(|one| one.magnitude == tied).map(|one| one.entry as usize);
    indices.extend(pattern.cells(entries).map(|cell| pattern.index(cell)));
    indices.extend(head.iter().filter(|entry| magnitude(entry.value) == tied).map(|entry| entry.index));
}
