//! Exact top-k by magnitude in linear time: find the k-th magnitude by counting, then take in the order given.
//!
//! ```text
//! threshold:  histogram the magnitudes by their 11 leading bits; in the bucket that holds the k-th largest, by the
//!             next 10; then by the last 10. Three counting passes give the k-th magnitude exactly.
//! take:       in ascending index order, everything above the threshold, and of those equal to it the first few
//!             that make up k: ties go to the lower flat index.
//! ```
//! Nothing is sorted, and nothing of the input's size is allocated. A refresh, which need only decide about the few
//! entries near a threshold, does so by a [`Cut`].

use std::cmp::Reverse;

/// One weight: its flat index `row × width + column` in the dense matrix, and its value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// Flat index.
    pub index: u64,
    /// Value of θ there.
    pub value: f32,
}

impl Entry {
    /// Ascends as entries are chosen: by descending magnitude, ties by ascending index.
    pub(crate) fn rank(&self) -> (Reverse<u32>, u64) {
        (Reverse(magnitude(self.value)), self.index)
    }
}

/// Bit pattern of |value|: ordered as magnitudes are (NaN above infinity, so that the order is total).
#[inline]
pub(crate) fn magnitude(value: f32) -> u32 {
    value.to_bits() & 0x7fff_ffff
}

/// Above every [`magnitude`].
pub(crate) const NO_MAGNITUDE: u32 = 1 << 31;

/// The last that a selection takes: everything above `magnitude`, and of what has exactly that magnitude the entries of
/// an index below `before`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) magnitude: u32,
    before: u64,
}

impl Cut {
    /// Takes everything.
    pub(crate) const ALL: Self = Self { magnitude: 0, before: u64::MAX };

    /// Takes what has at least this magnitude.
    pub(crate) fn from(magnitude: u32) -> Self {
        Self { magnitude, before: u64::MAX }
    }

    /// The same where indices count from `start`: those before are none of it.
    pub(crate) fn counted_from(self, start: u64) -> Self {
        match self.before {
            u64::MAX => self,
            before => Self { before: before.saturating_sub(start), ..self },
        }
    }

    /// The one that takes `k` of `magnitudes`, which lose their order. Where only some of those tied for the last place
    /// are taken, `tied` has to list the indices of all of them.
    ///
    /// # Panics
    /// If there are fewer than `k`, or `k` is 0.
    pub(crate) fn of(
        magnitudes: &mut [u32],
        k: usize,
        indices: &mut Vec<u64>,
        tied: impl FnOnce(u32, &mut Vec<u64>),
    ) -> Self {
        let (above, &mut magnitude, rest) = magnitudes.select_nth_unstable_by(k - 1, |a, b| b.cmp(a));
        let wanted = 1 + above.iter().filter(|&&other| other == magnitude).count();
        if !rest.contains(&magnitude) {
            return Self::from(magnitude);
        }
        indices.clear();
        tied(magnitude, indices);
        let (_, &mut last, _) = indices.select_nth_unstable(wanted - 1);
        Self { magnitude, before: last + 1 }
    }

    /// Whether an entry is taken; `index` is asked only where it decides.
    #[inline]
    pub(crate) fn takes(&self, magnitude: u32, index: impl FnOnce() -> u64) -> bool {
        self.decides(magnitude).unwrap_or_else(|| index() < self.before)
    }

    /// Whether an entry of this magnitude is taken, unless its index decides.
    #[inline]
    pub(crate) fn decides(&self, magnitude: u32) -> Option<bool> {
        if magnitude != self.magnitude || self.before == u64::MAX {
            Some(magnitude >= self.magnitude)
        } else {
            None
        }
    }
}

/// The k-th largest magnitude, and how many entries of exactly that magnitude belong to the k largest.
pub(crate) struct Threshold {
    pub(crate) magnitude: u32,
    ties: usize,
}

/// Shift and width in bits of the digit that each counting pass looks at: together the 31 bits of a magnitude.
const DIGITS: [(u32, u32); 3] = [(20, 11), (10, 10), (0, 10)];

/// Calls `values` three times; it must yield the same, and at least `k`.
pub(crate) fn threshold<I>(values: &(impl Fn() -> I + ?Sized), k: usize) -> Threshold
where
    I: Iterator<Item = f32>,
{
    let mut wanted = k;
    let mut prefix = 0;
    for (shift, width) in DIGITS {
        let mut histogram = [0usize; 1 << 11];
        let above = shift + width;
        for bits in values().map(magnitude) {
            if above == 31 || bits >> above == prefix >> above {
                histogram[(bits >> shift) as usize & ((1 << width) - 1)] += 1;
            }
        }
        let mut digit = (1 << width) - 1;
        while histogram[digit] < wanted {
            wanted -= histogram[digit];
            digit -= 1;
        }
        prefix |= (digit as u32) << shift;
    }
    Threshold { magnitude: prefix, ties: wanted }
}

/// Calls `take` for the `k` entries largest in magnitude of those that `entries` yields in ascending order of index, in
/// that order. `entries` is called four times and must yield the same.
///
/// # Panics
/// If `entries` yields fewer than `k`.
pub(crate) fn select_largest<I>(entries: &(impl Fn() -> I + ?Sized), k: usize, mut take: impl FnMut(Entry))
where
    I: Iterator<Item = Entry>,
{
    if k == 0 {
        return;
    }
    let values = || entries().map(|entry| entry.value);
    let Threshold { magnitude: lowest, mut ties } = threshold(&values, k);
    for entry in entries() {
        let bits = magnitude(entry.value);
        if bits > lowest {
            take(entry);
        } else if bits == lowest && ties > 0 {
            ties -= 1;
            take(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn selected(values: &[f32], k: usize) -> Vec<usize> {
        let mut out = Vec::new();
        let entries = || (0..).zip(values).map(|(index, &value)| Entry { index, value });
        select_largest(&entries, k, |entry| {
            assert_eq!(values[entry.index as usize].to_bits(), entry.value.to_bits());
            out.push(entry.index as usize);
        });
        out
    }

    fn cut(values: &[f32], k: usize) -> Vec<usize> {
        let mut magnitudes: Vec<u32> = values.iter().copied().map(magnitude).collect();
        let indices = |tied| (0..values.len()).filter(move |&i| magnitude(values[i]) == tied);
        let list = |tied, out: &mut Vec<u64>| out.extend(indices(tied).map(|i| i as u64));
        let cut = Cut::of(&mut magnitudes, k, &mut vec![7], list);
        (0..values.len()).filter(|&i| cut.takes(magnitude(values[i]), || i as u64)).collect()
    }

    fn by_sorting(values: &[f32], k: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(magnitude(values[i])), i));
        order.truncate(k);
        order.sort_unstable();
        order
    }

    #[test]
    fn ties_go_to_the_lower_index() {
        assert_eq!(selected(&[1.0, -2.0, 2.0, -1.0, 2.0], 2), [1, 2]);
        assert_eq!(selected(&[0.0, -0.0, 0.0], 2), [0, 1]);
        assert_eq!(selected(&[1.0; 40], 17), (0..17).collect::<Vec<_>>());
    }

    #[test]
    fn extremes_are_ordered() {
        let values = [f32::MIN_POSITIVE, 1e-45, f32::INFINITY, f32::MAX, 0.0, f32::NEG_INFINITY];
        for k in 0..=values.len() {
            assert_eq!(selected(&values, k), by_sorting(&values, k));
        }
    }

    proptest! {
        #[test]
        fn equals_sorting(
            values in prop::collection::vec(prop_oneof![
                any::<f32>(),
                (-4i8..4).prop_map(|x| f32::from(x) * 0.25),
                (0u32..64).prop_map(|low| f32::from_bits(0x3f80_0000 + low)),
            ], 0..300),
            share in 0.0f64..=1.0,
        ) {
            let k = (values.len() as f64 * share) as usize;
            prop_assert_eq!(selected(&values, k), by_sorting(&values, k));
            if k > 0 {
                prop_assert_eq!(cut(&values, k), by_sorting(&values, k));
            }
        }
    }
}
