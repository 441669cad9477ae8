//! Shifting what lies between elements that go and elements that come, in place, and finding where that is.

/// How runs of consecutive elements go to other places of the same array: planned from left to right, then made in an order in
/// which none overwrites what another has yet to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moves(Vec<Move>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Move {
    from: usize,
    to: usize,
    len: usize,
}

impl Moves {
    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Plans that the `len` elements from `from` on go to `to`, after those planned before, both ways. What is nothing or stays where it
    /// is costs nothing.
    pub fn push(&mut self, from: usize, to: usize, len: usize) {
        if len > 0 && from != to {
            self.0.push(Move { from, to, len });
        }
    }

    /// Ends the plan.
    pub fn finish(&mut self) {
        // What goes to the right makes way first.
        self.0.chunk_by_mut(|a, b| (a.to > a.from) == (b.to > b.from)).for_each(|moves| {
            if moves[0].to > moves[0].from {
                moves.reverse();
            }
        });
    }

    /// Makes the moves of a plan that is finished.
    ///
    /// # Panics
    /// If one is beyond the elements.
    pub fn apply<T: Copy>(&self, elements: &mut [T]) {
        for (from, to, len) in self.iter() {
            elements.copy_within(from..from + len, to);
        }
    }

    /// From where to where, and how many, in the order in which they are made.
    pub fn iter(&self) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
        self.0.iter().map(|&Move { from, to, len }| (from, to, len))
    }
}

/// How many of the first elements satisfy `before`, in time logarithmic in that.
pub fn gallop<T>(elements: &[T], before: impl Fn(&T) -> bool) -> usize {
    let mut end = 1;
    while end <= elements.len() && before(&elements[end - 1]) {
        end *= 2;
    }
    let start = end / 2;
    start + elements[start..elements.len().min(end)].partition_point(before)
}
