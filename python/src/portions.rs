//! Cutting positions into shares for threads and parts for caches, and adding up the gradients of shares.

use std::ops::Range;

use topkast_kernels::for_each_alone;

/// Numbers of what is laid out by feature at a time: 2 MiB, which the L2 cache holds until the product after the layout has used them.
const NUMBERS: usize = 512 << 10;

/// Positions in a panel of the kernels: parts of whole panels add up as all positions at once would.
pub(crate) const PANEL: usize = 64;

/// Shares with gradients of their own, which are added at the end: at most so many.
const PORTIONS: usize = 16;

/// How positions are cut: by the shapes alone, as it shows in the rounding of sums.
#[derive(Clone, Copy)]
pub(crate) struct Cuts {
    positions: usize,
    /// A share's positions are a multiple of it.
    unit: usize,
    part: usize,
    count: usize,
}

impl Cuts {
    /// For positions of which so many belong `together`, if any, with so many `features` each that are laid out. Shares have gradients of
    /// `gradient` numbers of their own, and are as many as keep these together below half of what is laid out for one of them.
    pub(crate) fn new(positions: usize, together: Option<usize>, features: usize, gradient: usize) -> Self {
        let unit = together.unwrap_or(PANEL);
        let part = (NUMBERS / features.max(1)).next_multiple_of(unit).max(unit);
        let numbers = positions.saturating_mul(features);
        let small = |count: usize| (count - 1).saturating_mul(gradient) <= numbers / count / 2;
        let fits = |&count: &usize| count == 1 || unit.saturating_mul(count) <= positions && small(count);
        let count = std::iter::successors(Some(PORTIONS), |count| Some(count / 2)).find(fits).unwrap_or(1);
        Self { positions, unit, part, count }
    }

    /// Cut for other reasons than gradients: into so many shares.
    pub(crate) fn into_shares(self, count: usize) -> Self {
        Self { count, ..self }
    }

    pub(crate) fn positions(self) -> usize {
        self.positions
    }

    /// Positions in a part, at most.
    pub(crate) fn part(self) -> usize {
        self.part
    }

    /// The shares, of which the last ones may be empty.
    pub(crate) fn shares(self) -> Vec<Range<usize>> {
        let len = self.positions.div_ceil(self.count).next_multiple_of(self.unit);
        let at = |share: usize| self.positions.min(share * len);
        (0..self.count).map(|share| at(share)..at(share + 1)).collect()
    }

    /// The parts of a share.
    pub(crate) fn parts(self, share: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let end = share.end;
        share.clone().step_by(self.part).map(move |start| start..end.min(start + self.part))
    }
}

/// What there is of a tensor `[positions × features]` for these positions.
pub(crate) fn of<'a>(numbers: &'a [f32], positions: &Range<usize>, features: usize) -> &'a [f32] {
    &numbers[positions.start * features..positions.end * features]
}

/// The same to write, of a tensor that begins with those of `share`.
pub(crate) fn of_mut<'a>(
    numbers: &'a mut [f32],
    share: &Range<usize>,
    positions: &Range<usize>,
    features: usize,
) -> &'a mut [f32] {
    &mut numbers[(positions.start - share.start) * features..][..positions.len() * features]
}

/// Cuts a tensor `[positions × features]` into shares, which follow one another.
pub(crate) fn cut<'a>(
    mut numbers: &'a mut [f32],
    shares: &[Range<usize>],
    features: usize,
) -> Vec<&'a mut [f32]> {
    let mut head = |share: &Range<usize>| {
        let (head, tail) = std::mem::take(&mut numbers).split_at_mut(share.len() * features);
        numbers = tail;
        head
    };
    shares.iter().map(&mut head).collect()
}

/// The same for what may be left out.
pub(crate) fn cut_some<'a>(
    numbers: Option<&'a mut [f32]>,
    shares: &[Range<usize>],
    features: usize,
) -> Vec<Option<&'a mut [f32]>> {
    match numbers {
        Some(numbers) => cut(numbers, shares, features).into_iter().map(Some).collect(),
        None => shares.iter().map(|_| None).collect(),
    }
}

/// Share beside share, each on one thread, if there are enough for the threads; else one after the other, each on all of them.
pub(crate) fn each<T: Send>(shares: impl Iterator<Item = T>, compute: impl Fn(T) + Sync) {
    let mut shares: Vec<_> = shares.map(Some).collect();
    for_each_alone(&mut shares, &|share| compute(share.take().expect("a share is computed once")));
}

/// Has `compute` add to the gradients, which are zero before, for each share with what belongs to it: each has gradients of its own, which are
/// then added up in their order.
pub(crate) fn add_up<T: Send, const N: usize>(
    shares: Vec<Range<usize>>,
    own: Vec<T>,
    mut gradients: [Option<&mut [f32]>; N],
    compute: impl Fn(Range<usize>, T, [Option<&mut [f32]>; N]) + Sync,
) {
    gradients.iter_mut().flatten().for_each(|gradient| gradient.fill(0.0));
    let zeros =
        || gradients.each_ref().map(|gradient| gradient.as_ref().map(|gradient| vec![0.0; gradient.len()]));
    let mut others: Vec<_> = shares[1..].iter().map(|_| zeros()).collect();
    let first = gradients.each_mut().map(|gradient| gradient.as_deref_mut());
    let rest = others.iter_mut().map(|all| all.each_mut().map(|gradient| gradient.as_deref_mut()));
    let tasks = shares.into_iter().zip(own).zip(std::iter::once(first).chain(rest));
    each(tasks, |((share, own), gradients)| compute(share, own, gradients));
    for other in others {
        for (gradient, other) in gradients.iter_mut().flatten().zip(other.into_iter().flatten()) {
            gradient.iter_mut().zip(other).for_each(|(sum, other)| *sum += other);
        }
    }
}
