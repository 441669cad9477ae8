//! Safe loads, stores and maps of vectors over slices: the bounds are checked here, and the checks vanish where the
//! slice comes from a chunk iterator.

use crate::simd::Simd;

/// The first `LANES` floats of `from`.
#[inline(always)]
pub(crate) fn read<S: Simd>(s: S, from: &[f32]) -> S::Vector {
    assert!(from.len() >= S::LANES);
    // SAFETY: `from` holds at least LANES floats. Gain: one vector load.
    unsafe { s.load(from.as_ptr()) }
}

/// Overwrites the first `LANES` floats of `to`.
#[inline(always)]
pub(crate) fn write<S: Simd>(s: S, to: &mut [f32], v: S::Vector) {
    assert!(to.len() >= S::LANES);
    // SAFETY: `to` holds at least LANES floats. Gain: one vector store.
    unsafe { s.store(to.as_mut_ptr(), v) }
}

/// `to = f(from, to)`, a vector at a time, for slices of one length that is a multiple of `LANES`.
#[inline(always)]
pub(crate) fn update<S: Simd>(
    s: S,
    from: &[f32],
    to: &mut [f32],
    f: impl Fn(S::Vector, S::Vector) -> S::Vector,
) {
    debug_assert!(from.len() == to.len() && to.len().is_multiple_of(S::LANES));
    for (from, to) in from.chunks_exact(S::LANES).zip(to.chunks_exact_mut(S::LANES)) {
        let v = f(read(s, from), read(s, to));
        write(s, to, v);
    }
}
