//! Splitting slices into chunks of a fixed size over threads.
//!
//! The chunks, and the tree in which their results are combined, depend on the lengths alone, so that sums are the
//! same bits for any number of threads. Joins are nested, never spawned: nothing is allocated.

use crate::share::join;

/// Elements in a chunk of an elementwise kernel: work enough (some microseconds) to be worth a task, and it fits L2
/// even where five slices are walked at once.
pub(crate) const CHUNK: usize = 16_384;

/// Slices that are cut at the same place; a pair is as long as its first.
pub(crate) trait Split: Send + Sized {
    fn len(&self) -> usize;
    fn split_at(self, at: usize) -> (Self, Self);
}

impl<T: Sync> Split for &[T] {
    fn len(&self) -> usize {
        <[T]>::len(self)
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        <[T]>::split_at(self, at)
    }
}

impl<T: Send> Split for &mut [T] {
    fn len(&self) -> usize {
        <[T]>::len(self)
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        self.split_at_mut(at)
    }
}

impl<A: Split, B: Split> Split for (A, B) {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let (a, c) = self.0.split_at(at);
        let (b, d) = self.1.split_at(at);
        ((a, b), (c, d))
    }
}

/// What there may not be goes along as the second of a pair.
impl<T: Split> Split for Option<T> {
    fn len(&self) -> usize {
        self.as_ref().map_or(0, T::len)
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        self.map(|part| part.split_at(at)).unzip()
    }
}

/// Calls `map(start, part)` for consecutive parts of `data`, each `chunk` elements long but the last, which begin at
/// element `start`; combines what they return with `add`, in a tree that depends on the number of chunks alone.
/// Parallel on the current rayon pool while a part is longer than `grain`, which the result does not depend on.
pub(crate) fn combine_chunks<T: Split, R: Send>(
    data: T,
    chunk: usize,
    grain: usize,
    map: &(impl Fn(usize, T) -> R + Sync),
    add: &(impl Fn(R, R) -> R + Sync),
) -> R {
    split(0, data, chunk, grain, map, add)
}

/// [`combine_chunks`] for work that returns nothing.
pub(crate) fn for_each_chunk<T: Split>(data: T, chunk: usize, body: &(impl Fn(usize, T) + Sync)) {
    combine_chunks(data, chunk, chunk, body, &|(), ()| ());
}

/// As many rows of `stride` elements as make about one [`CHUNK`].
pub(crate) fn chunk_rows(stride: usize) -> usize {
    (CHUNK / stride.max(1)).max(1)
}

fn split<T: Split, R: Send>(
    start: usize,
    data: T,
    chunk: usize,
    grain: usize,
    map: &(impl Fn(usize, T) -> R + Sync),
    add: &(impl Fn(R, R) -> R + Sync),
) -> R {
    let chunks = data.len().div_ceil(chunk);
    if chunks <= 1 {
        return map(start, data);
    }
    let (parallel, middle) = (data.len() > grain, chunks / 2 * chunk);
    let (head, tail) = data.split_at(middle);
    let left = || split(start, head, chunk, grain, map, add);
    let right = || split(start + middle, tail, chunk, grain, map, add);
    let (left, right) = if parallel { join(left, right) } else { (left(), right()) };
    add(left, right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_element_is_visited_once_in_its_chunk(len in 0usize..200, chunk in 1usize..40) {
            let names: Vec<usize> = (0..len).collect();
            let mut visits = vec![0u8; len];
            for_each_chunk((&mut visits[..], &names[..]), chunk, &|start, (visits, names)| {
                assert!(start % chunk == 0 && visits.len() <= chunk);
                for (offset, (visit, &name)) in visits.iter_mut().zip(names).enumerate() {
                    assert_eq!(name, start + offset);
                    *visit += 1;
                }
            });
            prop_assert!(visits.iter().all(|&visit| visit == 1));
        }

        #[test]
        fn sums_are_the_same_bits_on_any_number_of_threads(
            len in 0usize..3000,
            grain in 0usize..1000,
            threads in 1usize..6,
        ) {
            let values: Vec<f32> = (0..len).map(|i| (i as f32 * 1.7).sin()).collect();
            let part = |_, part: &[f32]| part.iter().sum::<f32>();
            let sum = |grain| combine_chunks(&values[..], 64, grain, &part, &|a, b| a + b);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            prop_assert_eq!(pool.install(|| sum(grain)).to_bits(), sum(0).to_bits());
        }
    }
}
