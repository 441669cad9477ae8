//! From the layout of most frameworks, position after position, into ours, feature after feature, and back.
//!
//! There numbers lie as `[outer × features × inner]`: tokens × features (inner = 1), or images × channels × pixels. Here a row
//! holds a feature at position `inner number × outer + outer number`, as [`Maps`](crate::Maps) has it. So either is the other
//! one transposed, as a matrix of `outer` rows; eight by eight in registers, in blocks that fit the L1 cache with whole lines.

use crate::buffer::LINE;
use crate::chunks::for_each_chunk;
use crate::matrix::RowsMut;
use crate::simd::{GROUP, Simd};
use crate::{Isa, Kernel, Matrix};

/// Numbers in the side of a block: 16 KiB of either layout.
const BLOCK: usize = 64;

/// Numbers from which on an output in the other layout passes the caches by: 1 MiB.
const LARGE: usize = 1 << 18;

/// `to` takes the shape `[features × inner·outer]` and is overwritten with `from`, which is `[outer × features × inner]`.
///
/// # Panics
/// If `from` has not `outer × features × inner` numbers.
pub fn by_feature(isa: Isa, from: &[f32], [outer, features, inner]: [usize; 3], to: &mut Matrix) {
    assert_eq!(from.len(), outer * features * inner, "numbers must be outer × features × inner");
    to.ensure(features, inner * outer);
    if from.is_empty() {
        return;
    }
    // Enough for a task, and blocks are whole.
    let rows = (4 * BLOCK / inner).clamp(1, 4 * BLOCK);
    for_each_chunk(to.rows_mut(), rows, &|first, rows| {
        isa.run(ByFeature { from, first, shape: [outer, features, inner], to: rows });
    });
}

/// `to`, which is `[outer × features × inner]`, is overwritten with `from`, `[features × inner·outer]`.
///
/// # Panics
/// If `to` has not `outer × features × inner` numbers, or `from` not this shape.
pub fn by_position(isa: Isa, from: &Matrix, [outer, features, inner]: [usize; 3], to: &mut [f32]) {
    assert_eq!(to.len(), outer * features * inner, "numbers must be outer × features × inner");
    assert_eq!(
        (from.features(), from.positions()),
        (features, inner * outer),
        "the matrix must have the shape"
    );
    if to.is_empty() {
        return;
    }
    let length = features * inner;
    let lines = to.as_ptr().addr().is_multiple_of(size_of::<[f32; LINE]>()) && length.is_multiple_of(LINE);
    let streams = lines && to.len() >= LARGE;
    // Four tasks or more, of whole lines of the matrix.
    let rows = (outer / 4).max(1).next_multiple_of(LINE).min(BLOCK);
    for_each_chunk(to, rows * length, &|start, to| {
        isa.run(ByPosition { from, first: start / length, shape: [outer, features, inner], to, streams });
    });
}

/// A block of the layout in which rows may be a power of two apart, row by row. There whole pieces of rows are copied: eight by eight
/// numbers of such rows would share one set of the L1 cache.
struct Tile([[f32; BLOCK]; BLOCK]);

/// The blocks of a matrix of `rows` by `columns`: where each begins, and its size.
#[inline(always)]
fn for_each_block([rows, columns]: [usize; 2], mut visit: impl FnMut([usize; 2], [usize; 2])) {
    for column in (0..columns).step_by(BLOCK) {
        for row in (0..rows).step_by(BLOCK) {
            visit([row, column], [BLOCK.min(rows - row), BLOCK.min(columns - column)]);
        }
    }
}

/// Feature and inner number of a column; linear layers' are spared the division, which would cost as much as the copying.
#[inline(always)]
fn split(column: usize, inner: usize) -> [usize; 2] {
    if inner == 1 { [column, 0] } else { [column / inner, column % inner] }
}

/// Eight numbers from `at` on.
#[inline(always)]
fn eight(numbers: &[f32], at: usize) -> [f32; GROUP] {
    numbers[at..at + GROUP].try_into().expect("eight numbers")
}

/// Writes the first `count` of eight numbers.
#[inline(always)]
fn put(numbers: &[f32; GROUP], to: &mut [f32], count: usize) {
    if count == GROUP {
        to[..GROUP].copy_from_slice(numbers);
    } else {
        to[..count].copy_from_slice(&numbers[..count]);
    }
}

/// Transposes squares of eight lines: reads the eight numbers at `from(square, line)` and writes those at `to(square, column)`, for squares that
/// begin at 0, 8, … below `count`.
///
/// # Safety
/// Eight numbers there are valid for reading, or for writing.
#[inline(always)]
unsafe fn squares<S: Simd>(
    simd: S,
    count: usize,
    from: impl Fn(usize, usize) -> *const f32,
    to: impl Fn(usize, usize) -> *mut f32,
) {
    for first in (0..count).step_by(GROUP) {
        // SAFETY: as demanded. Gain: bounds checked for each eight numbers cost as much as all else.
        unsafe {
            let square =
                std::array::from_fn(|line| from(first, line).cast::<[f32; GROUP]>().read_unaligned());
            for (column, numbers) in simd.transpose(square).into_iter().enumerate() {
                to(first, column).cast::<[f32; GROUP]>().write_unaligned(numbers);
            }
        }
    }
}

struct ByFeature<'a> {
    from: &'a [f32],
    /// The first of the rows.
    first: usize,
    shape: [usize; 3],
    to: RowsMut<'a>,
}

impl Kernel for ByFeature<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let [outer, features, inner] = self.shape;
        let (length, skipped) = (features * inner, self.first * inner);
        let columns = self.to.features() * inner;
        let mut tile = Tile([[0.0; BLOCK]; BLOCK]);
        for_each_block([outer, columns], |[row, column], [height, width]| {
            for (down, numbers) in tile.0[..height].iter_mut().enumerate() {
                let from = (row + down) * length + skipped + column;
                // The same line of the next block, below or at the top of the next columns.
                let next =
                    if row + BLOCK < outer { from + BLOCK * length } else { from + BLOCK - row * length };
                let next = self.from.as_ptr().wrapping_add(next);
                (0..BLOCK).step_by(LINE).for_each(|at| simd.prefetch(next.wrapping_add(at)));
                numbers[..width].copy_from_slice(&self.from[from..from + width]);
            }
            for across in (0..width).step_by(GROUP) {
                let wide = GROUP.min(width - across);
                let place = |at: usize| {
                    let [feature, pixel] = split(column + across + at, inner);
                    (feature, pixel * outer + row)
                };
                let whole = if wide == GROUP { height / GROUP * GROUP } else { 0 };
                if whole > 0 {
                    let to = self.to.places::<GROUP>(std::array::from_fn(place), height);
                    // SAFETY: the tile has as many lines of eight numbers, and each of the features `height` positions there.
                    unsafe {
                        let from = tile.0.as_ptr().cast::<f32>().add(across);
                        squares(
                            simd,
                            whole,
                            |down, line| from.add((down + line) * BLOCK),
                            |down, at| to[at].add(down),
                        );
                    }
                }
                for down in (whole..height).step_by(GROUP) {
                    // Beyond the block's edge there is nothing, or what an earlier block had there: it is not written.
                    let square = std::array::from_fn(|at| eight(&tile.0[down + at], across));
                    let tall = GROUP.min(height - down);
                    for (at, numbers) in simd.transpose(square)[..wide].iter().enumerate() {
                        let (feature, position) = place(at);
                        put(numbers, &mut self.to.row_mut(feature)[position + down..], tall);
                    }
                }
            }
        });
    }
}

struct ByPosition<'a> {
    from: &'a Matrix,
    /// The first of the outer numbers.
    first: usize,
    shape: [usize; 3],
    to: &'a mut [f32],
    /// Whether what is written passes the caches by.
    streams: bool,
}

impl Kernel for ByPosition<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let [outer, features, inner] = self.shape;
        let length = features * inner;
        let (rows, stride, from) = (self.to.len() / length, self.from.stride(), self.from.padded());
        let start = |column: usize| {
            let [feature, pixel] = split(column, inner);
            feature * stride + pixel * outer + self.first
        };
        let mut tile = Tile([[0.0; BLOCK]; BLOCK]);
        for_each_block([rows, length], |[row, column], [height, width]| {
            for across in (0..width).step_by(GROUP) {
                let wide = GROUP.min(width - across);
                let from = |at: usize| &from[start(column + across + at) + row..][..height];
                let whole = if wide == GROUP { height / GROUP * GROUP } else { 0 };
                if whole > 0 {
                    let from: [*const f32; GROUP] = std::array::from_fn(|at| from(at).as_ptr());
                    let to = tile.0.as_mut_ptr().cast::<f32>();
                    // SAFETY: as above, the other way.
                    unsafe {
                        let to = to.add(across);
                        squares(
                            simd,
                            whole,
                            |down, at| from[at].add(down),
                            |down, line| to.add((down + line) * BLOCK),
                        );
                    }
                }
                for down in (whole..height).step_by(GROUP) {
                    let tall = GROUP.min(height - down);
                    let mut square = [[0.0; GROUP]; GROUP];
                    for (at, numbers) in square[..wide].iter_mut().enumerate() {
                        numbers[..tall].copy_from_slice(&from(at)[down..][..tall]);
                    }
                    for (at, numbers) in simd.transpose(square).iter().enumerate() {
                        put(numbers, &mut tile.0[down + at][across..], GROUP);
                    }
                }
            }
            for (down, numbers) in tile.0[..height].iter().enumerate() {
                let to = (row + down) * length + column;
                let to = &mut self.to[to..to + width];
                if self.streams && width == BLOCK {
                    for lane in (0..BLOCK).step_by(S::LANES) {
                        // SAFETY: both have BLOCK numbers, and rows of `to` begin with a line. Gain: lines are not read to be overwritten.
                        unsafe {
                            simd.stream(to.as_mut_ptr().add(lane), simd.load(numbers.as_ptr().add(lane)))
                        };
                    }
                } else {
                    to.copy_from_slice(&numbers[..width]);
                }
            }
        });
        if self.streams {
            simd.end_streams();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Buffer;
    use crate::testing::Random;
    use proptest::prelude::*;

    fn check(shape: [usize; 3], seed: u64) {
        let [outer, features, inner] = shape;
        let numbers = Random::new(seed).values(outer * features * inner);
        for isa in Isa::available() {
            // Wrong numbers everywhere, to see that all are overwritten.
            let mut matrix = Random::new(seed + 1).matrix(features, inner * outer);
            by_feature(isa, &numbers, shape, &mut matrix);
            for (at, &number) in numbers.iter().enumerate() {
                let (o, f, i) = (at / (features * inner), at / inner % features, at % inner);
                assert_eq!(matrix.get(f, i * outer + o), number, "{shape:?} at {at}");
            }
            let padding = |feature: usize| {
                &matrix.padded()[feature * matrix.stride()..][matrix.positions()..matrix.stride()]
            };
            assert!((0..features).all(|feature| padding(feature).iter().all(|&x| x == 0.0)));
            // Aligned to lines and not.
            for skipped in [0, 1] {
                let mut back = Buffer::from(&vec![f32::NAN; skipped + numbers.len()][..]);
                by_position(isa, &matrix, shape, &mut back[skipped..]);
                assert_eq!(back[skipped..], numbers, "{shape:?}");
            }
        }
    }

    #[test]
    fn odd_shapes() {
        for outer in [0, 1, 7, 8, 9, 16, 65, 130] {
            for features in [0, 1, 8, 15, 17, 70] {
                for inner in [0, 1, 3, 49, 300] {
                    check([outer, features, inner], 3);
                }
            }
        }
    }

    #[test]
    fn outputs_past_the_caches() {
        for [outer, features, inner] in [[130, 2064, 1], [300, 16, 63], [70, 4000, 1]] {
            assert!(outer * features * inner >= LARGE);
            check([outer, features, inner], 5);
        }
    }

    proptest! {
        #[test]
        fn any_shape(outer in 0usize..90, features in 0usize..90, inner in 0usize..40, seed: u64, threads in 1usize..4) {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| check([outer, features, inner], seed % 1000));
        }
    }
}
