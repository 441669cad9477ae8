//! Splitting rows, or runs of entries, over threads by equal shares of non-zeros.

use crate::awake::Event;
use crate::chunks::for_each_chunk;
use crate::team;
use std::cell::Cell;
use std::ops::Range;

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `body` with kernels that do not split their work: for callers that have split it themselves.
pub fn alone<R>(body: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ALONE.set(self.0);
        }
    }
    let _restore = Restore(ALONE.replace(true));
    body()
}

/// Calls `body` with each of the items: item beside item, each on one thread, if there are enough for all threads; else one after the other, each
/// on all of them.
pub fn for_each_alone<T: Send>(items: &mut [T], body: &(impl Fn(&mut T) + Sync)) {
    if threads() > 1 && items.len() >= threads() {
        for_each_chunk(items, 1, &|_, items: &mut [T]| alone(|| items.iter_mut().for_each(body)));
    } else {
        items.iter_mut().for_each(body);
    }
}

/// How many threads a kernel has.
pub(crate) fn threads() -> usize {
    if ALONE.get() { 1 } else { team::threads() }
}

/// Both, in parallel if a kernel has more than one thread.
pub(crate) fn join<A: Send, B: Send>(a: impl FnOnce() -> A + Send, b: impl FnOnce() -> B + Send) -> (A, B) {
    if threads() == 1 {
        return (a(), b());
    }
    let (a, b) = match team::join(a, b) {
        Ok(both) => return both,
        Err(parts) => parts,
    };
    let end = Event::default();
    let first = || {
        let a = a();
        // Two parts of about equal work end so close together that sleeping would only delay the next product.
        end.linger();
        a
    };
    rayon::join(first, || end.after(b))
}

/// Calls `body(range, part)` for consecutive ranges of `runs` (rows, or runs of entries), in parallel on the current rayon
/// pool, each of about the same weight; `weight(run)` is the weight of the runs before `run`, such as their entries.
/// `part` is what `cut` leaves of `out`: `cut(out, from, at)` splits what belongs to the runs from `from` on at run `at`.
///
/// Joins are nested, never spawned: a task lives on the stack and nothing is allocated.
pub(crate) fn for_each_share<O: Send>(
    runs: Range<usize>,
    shares: usize,
    weight: &(impl Fn(usize) -> usize + Sync),
    out: O,
    cut: &(impl Fn(O, usize, usize) -> (O, O) + Sync),
    body: &(impl Fn(Range<usize>, O) + Sync),
) {
    if shares <= 1 || runs.len() <= 1 {
        return body(runs, out);
    }
    let left = shares / 2;
    let middle = run_at_share(weight, &runs, left, shares);
    let (head, tail) = cut(out, runs.start, middle);
    join(
        || for_each_share(runs.start..middle, left, weight, head, cut, body),
        || for_each_share(middle..runs.end, shares - left, weight, tail, cut, body),
    );
}

/// The run at which `part` of `whole` shares of the weight of `runs` are reached; a run counts as one more, so that
/// empty ones are spread too.
fn run_at_share(weight: &impl Fn(usize) -> usize, runs: &Range<usize>, part: usize, whole: usize) -> usize {
    let weight = |run: usize| weight(run) - weight(runs.start) + (run - runs.start);
    let target = (weight(runs.end) as u128 * part as u128 / whole as u128) as usize;
    let (mut low, mut high) = (runs.start, runs.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if weight(middle) < target { low = middle + 1 } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn alone_is_one_thread_until_it_ends() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        pool.install(|| {
            let here = std::thread::current().id();
            assert_eq!(threads(), 2);
            alone(|| {
                assert_eq!(threads(), 1);
                let (left, right) = join(|| std::thread::current().id(), || std::thread::current().id());
                assert!(left == here && right == here);
                alone(|| ());
                assert_eq!(threads(), 1);
            });
            assert_eq!(threads(), 2);
            assert!(std::panic::catch_unwind(|| alone(|| panic!("in a kernel"))).is_err());
            assert_eq!(threads(), 2);
        });
    }

    #[test]
    fn items_are_computed_side_by_side_or_one_after_the_other() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        pool.install(|| {
            for (count, each) in [(0, 1), (2, 3), (3, 1), (40, 1)] {
                let mut items = vec![0; count];
                for_each_alone(&mut items, &|item| *item += threads());
                assert_eq!(items, vec![each; count]);
            }
        });
    }

    proptest! {
        #[test]
        fn every_row_is_visited_once_by_any_number_of_threads(
            sizes in prop::collection::vec(0u32..50, 0..40),
            threads in 1usize..6,
        ) {
            let mut offsets = vec![0u32];
            for size in &sizes {
                offsets.push(offsets.last().unwrap() + size);
            }
            let mut visits = vec![0u8; sizes.len()];
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let cut = |part, from: usize, at: usize| <[u8]>::split_at_mut(part, at - from);
                let weight = |run: usize| offsets[run] as usize;
                for_each_share(0..sizes.len(), threads, &weight, &mut visits[..], &cut, &|runs, part| {
                    assert_eq!(runs.len(), part.len());
                    part.iter_mut().for_each(|visit| *visit += 1);
                });
            });
            prop_assert!(visits.iter().all(|&visit| visit == 1));
        }
    }

    #[test]
    fn shares_hold_equal_entries() {
        let weight = |run: usize| run * run / 100;
        let middle = run_at_share(&weight, &(0..1000), 1, 2);
        let half = weight(middle) as f64 / weight(1000) as f64;
        assert!((half - 0.5).abs() < 0.02, "{half}");
    }
}
