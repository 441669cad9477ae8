//! Splitting rows, or runs of entries, over threads by equal shares of non-zeros.

use std::ops::Range;

/// Calls `body(rows, part)` for consecutive ranges of the rows, or runs, that `offsets` describes, in parallel on the
/// current rayon pool, each range holding about the same number of entries; `part` is the piece of `out` between
/// `start(rows.start)` and `start(rows.end)`.
///
/// Joins are nested, never spawned: a task lives on the stack and nothing is allocated.
///
/// # Panics
/// If `start` does not ascend from 0 to `out.len()`.
pub(crate) fn for_each_share<T: Send>(
    offsets: &[u32],
    out: &mut [T],
    start: &(impl Fn(usize) -> usize + Sync),
    body: &(impl Fn(Range<usize>, &mut [T]) + Sync),
) {
    let rows = 0..offsets.len() - 1;
    assert_eq!(start(rows.end), out.len(), "output does not fit the structure");
    split(offsets, rows, rayon::current_num_threads(), out, start, body);
}

fn split<T: Send>(
    offsets: &[u32],
    rows: Range<usize>,
    shares: usize,
    out: &mut [T],
    start: &(impl Fn(usize) -> usize + Sync),
    body: &(impl Fn(Range<usize>, &mut [T]) + Sync),
) {
    if shares <= 1 || rows.len() <= 1 {
        return body(rows, out);
    }
    let left = shares / 2;
    let middle = row_at_share(offsets, &rows, left, shares);
    let (head, tail) = out.split_at_mut(start(middle) - start(rows.start));
    rayon::join(
        || split(offsets, rows.start..middle, left, head, start, body),
        || split(offsets, middle..rows.end, shares - left, tail, start, body),
    );
}

/// The row at which `part` of `whole` shares of the entries of `rows` are reached; a row counts as one entry more,
/// so that empty rows are spread too.
fn row_at_share(offsets: &[u32], rows: &Range<usize>, part: usize, whole: usize) -> usize {
    let weight = |row: usize| (offsets[row] - offsets[rows.start]) as usize + (row - rows.start);
    let target = (weight(rows.end) as u128 * part as u128 / whole as u128) as usize;
    let (mut low, mut high) = (rows.start, rows.end);
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
                for_each_share(&offsets, &mut visits, &|row| row, &|rows, part| {
                    assert_eq!(rows.len(), part.len());
                    part.iter_mut().for_each(|visit| *visit += 1);
                });
            });
            prop_assert!(visits.iter().all(|&visit| visit == 1));
        }
    }

    #[test]
    fn shares_hold_equal_entries() {
        let offsets: Vec<u32> = (0..=1000).map(|row| row * row / 100).collect();
        let middle = row_at_share(&offsets, &(0..1000), 1, 2);
        let half = offsets[middle] as f64 / *offsets.last().unwrap() as f64;
        assert!((half - 0.5).abs() < 0.02, "{half}");
    }
}
