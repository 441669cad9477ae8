//! Splitting heads over threads.

use crate::share::{for_each_share, threads};

/// Results whose first `sizes` numbers belong to the first head, the next ones to the next.
pub(super) struct Results<'a, const N: usize> {
    pub(super) parts: [&'a mut [f32]; N],
    pub(super) sizes: [usize; N],
}

impl<const N: usize> Results<'_, N> {
    /// Those of some heads, and those of the heads after them.
    fn split_at(self, heads: usize) -> (Self, Self) {
        let Self { mut parts, sizes } = self;
        let tails = std::array::from_fn(|i| {
            let (head, tail) = std::mem::take(&mut parts[i]).split_at_mut(heads * sizes[i]);
            parts[i] = head;
            tail
        });
        (Self { parts, sizes }, Self { parts: tails, sizes })
    }
}

/// Calls `compute(head, scratch, results)` for every head, with its part of the results, in parallel on the current rayon
/// pool. There is scratch for each head, of which a thread uses that of the first of its heads.
pub(super) fn for_each_head<T: Send, const N: usize>(
    scratch: &mut [T],
    results: Results<'_, N>,
    compute: &(impl Fn(usize, &mut T, [&mut [f32]; N]) + Sync),
) {
    let heads = 0..scratch.len();
    let shares = threads();
    for_each_share(heads, shares, &|head| head, (scratch, results), &cut, &|heads, (scratch, results)| {
        let mut rest = results;
        for head in heads {
            let own;
            (own, rest) = rest.split_at(1);
            compute(head, &mut scratch[0], own.parts);
        }
    });
}

type Share<'a, T, const N: usize> = (&'a mut [T], Results<'a, N>);

fn cut<'a, T, const N: usize>(
    (scratch, results): Share<'a, T, N>,
    from: usize,
    at: usize,
) -> (Share<'a, T, N>, Share<'a, T, N>) {
    let (scratch, other_scratch) = scratch.split_at_mut(at - from);
    let (results, others) = results.split_at(at - from);
    ((scratch, results), (other_scratch, others))
}
