//! The largest entries of a dense θ, leaving some out, in one pass.
//!
//! ```text
//! bound   a sample tells from which magnitude on there are a few more than wanted
//! list    parts of θ on all threads: what is at the bound or above
//! prune   where that is more than twice what is wanted (equal values, or larger ones further on), only the first by rank stay,
//!         and the bound rises to the last of them
//! ```
//! So whatever the values are, it is one pass and memory for twice what is wanted; only where the sample misled are there more.

use rayon::prelude::*;

use crate::Entry;
use crate::selection::{NO_MAGNITUDE, magnitude, select_largest};

/// How many values are looked at together.
const GROUP: usize = 16;

/// How many values tell how magnitudes are distributed: of the hundredth that is mostly looked for, some three hundred.
const SAMPLE: usize = 1 << 15;

/// How many values a thread looks through at a time, and how many times as many are looked through before the bound may rise.
const PART: usize = 1 << 14;
const PARTS: usize = 64;

/// Appends to `out`, in ascending order of index, the first by rank of those entries of `theta` that are outside: `count`, as many
/// as there must be, or more.
///
/// `outside(start)` gives what tells of indices from `start` on, asked in ascending order, whether they are; `sample` is scratch.
pub(super) fn list_first<P: FnMut(u64) -> bool>(
    theta: &[f32],
    count: usize,
    outside: impl Fn(u64) -> P + Sync,
    sample: &mut Vec<u32>,
    out: &mut Vec<Entry>,
) {
    if count == 0 {
        return;
    }
    list_from(likely_bound(theta, count, &outside, sample), theta, count, &outside, out);
    if out.len() < count {
        out.clear();
        let entries = || {
            let mut outside = outside(0);
            numbered(theta, 0).filter(move |entry| outside(entry.index))
        };
        select_largest(&entries, count, |entry| out.push(entry));
    }
}

/// A magnitude that at least `count` of what is outside most likely have, but not many more, to judge by some groups of values.
fn likely_bound<P: FnMut(u64) -> bool>(
    theta: &[f32],
    count: usize,
    outside: &impl Fn(u64) -> P,
    sample: &mut Vec<u32>,
) -> u32 {
    let every = (theta.len() / SAMPLE).max(1);
    sample.clear();
    for (values, first) in theta.chunks(GROUP).zip((0..).step_by(GROUP)).step_by(every) {
        let mut outside = outside(first as u64);
        let entries = numbered(values, first).filter(|entry| outside(entry.index));
        sample.extend(entries.map(|entry| magnitude(entry.value)));
    }
    let wanted = count / every;
    // Four deviations more than are expected.
    let wanted = wanted + 4 * wanted.isqrt() + 4;
    if wanted >= sample.len() {
        return 0;
    }
    *sample.select_nth_unstable_by(wanted, |a, b| b.cmp(a)).1
}

/// Appends what is outside and has at least the magnitude `bound`, in ascending order of index; of more than twice `count` that
/// have, the first by rank, at least `count`.
fn list_from<P: FnMut(u64) -> bool>(
    mut bound: u32,
    theta: &[f32],
    count: usize,
    outside: &(impl Fn(u64) -> P + Sync),
    out: &mut Vec<Entry>,
) {
    let mut pruned = false;
    for (values, start) in theta.chunks(PART * PARTS).zip((0..).step_by(PART * PARTS)) {
        let list = |(number, part)| list_part(bound, part, start + number * PART, outside);
        let parts: Vec<Vec<Entry>> = values.par_chunks(PART).enumerate().map(list).collect();
        parts.iter().for_each(|part| out.extend_from_slice(part));
        if out.len() > 2 * count {
            // Those to come are of a higher index, so that only larger ones are before the last that stays.
            let (_, last, _) = out.select_nth_unstable_by_key(count - 1, Entry::rank);
            bound = magnitude(last.value) + 1;
            out.truncate(count);
            pruned = true;
            if bound == NO_MAGNITUDE {
                break;
            }
        }
    }
    if pruned {
        out.par_sort_unstable_by_key(|entry| entry.index);
    }
}

fn list_part<P: FnMut(u64) -> bool>(
    bound: u32,
    values: &[f32],
    start: usize,
    outside: &impl Fn(u64) -> P,
) -> Vec<Entry> {
    let large = |value: f32| magnitude(value) as i32 >= bound as i32;
    let mut outside = outside(start as u64);
    let mut out = Vec::new();
    // Few are large, so most groups are passed over, by vectors.
    for (values, first) in values.chunks(GROUP).zip((start..).step_by(GROUP)) {
        if values.iter().fold(false, |any, &value| any | large(value)) {
            out.extend(numbered(values, first).filter(|entry| large(entry.value) && outside(entry.index)));
        }
    }
    out
}

fn numbered(values: &[f32], first: usize) -> impl Iterator<Item = Entry> {
    (first as u64..).zip(values).map(|(index, &value)| Entry { index, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;
    use rand::RngExt;

    /// What is listed, sorted by rank, after checking that it is in ascending order of index and little more than is wanted.
    fn listed(theta: &[f32], count: usize, without: &[u64]) -> Vec<Entry> {
        let mut out = Vec::new();
        let outside = |_| |index: u64| without.binary_search(&index).is_err();
        list_first(theta, count, outside, &mut vec![7], &mut out);
        assert!(out.len() >= count && out.len() <= 2 * count + 64, "{} of {count}", out.len());
        assert!(out.is_sorted_by_key(|entry| entry.index));
        out.sort_by_key(Entry::rank);
        out
    }

    fn by_sorting(theta: &[f32], without: &[u64]) -> Vec<Entry> {
        let mut all: Vec<Entry> =
            numbered(theta, 0).filter(|entry| without.binary_search(&entry.index).is_err()).collect();
        all.sort_by_key(Entry::rank);
        all
    }

    /// Longer than what is looked through before the bound may rise.
    const LONG: usize = 2 * PART * PARTS + PART + 7;

    /// Values drawn, few and mostly equal, ascending and descending: each hides from the sample, or comes, in its own way.
    #[test]
    fn the_first_are_found_however_values_are_distributed() {
        let mut generator = Seed::new(1).generator();
        let mut draws: Vec<f32> = (0..LONG).map(|_| generator.random::<f32>() - 0.5).collect();
        let few: Vec<f32> = draws.iter().map(|draw| (draw * 6.0).trunc()).collect();
        let ascending: Vec<f32> = (0..LONG).map(|index| index as f32).collect();
        let descending: Vec<f32> = (0..LONG).map(|index| -((LONG - index) as f32)).collect();
        let mut one = vec![0.0; LONG];
        one[LONG - 1] = -1.0;
        draws[5] = f32::MAX;
        let without: Vec<u64> = (0..LONG as u64).filter(|index| index % 7 == 0).collect();
        for theta in [&draws, &few, &ascending, &descending, &one] {
            let want = by_sorting(theta, &without);
            for count in [0, 1, 2, 1000, LONG / 3, LONG - without.len()] {
                let got = listed(theta, count, &without);
                assert_eq!(got, want[..got.len()], "{count}");
            }
        }
    }

    /// Where every sampled value is small, or every one is large.
    #[test]
    fn a_sample_that_misleads_changes_nothing() {
        let every = LONG / SAMPLE;
        for sampled in [0.0, 9.0] {
            let theta: Vec<f32> = (0..LONG)
                .map(|index| if (index / GROUP).is_multiple_of(every) { sampled } else { (index % 8) as f32 })
                .collect();
            let want = by_sorting(&theta, &[]);
            for count in [10, LONG / 50] {
                let got = listed(&theta, count, &[]);
                assert_eq!(got, want[..got.len()], "{sampled} {count}");
            }
        }
    }
}
