//! [`sddmm`](crate::sddmm) with inputs rounded to bf16 and sums in `f32`.
//!
//! The walk and the groups of entries are those of `sddmm`; but a vector holds 32 positions, so a panel of as many
//! registers takes twice as many, and one joint reduction serves them all. X is rounded as it is packed, dy in registers.

use crate::blocks::{AHEAD, Panels, is_far};
use crate::csr::WIDE;
use crate::piece::Column;
use crate::sddmm::{Onto, Panel, Rows, Share, split, split_pair};
use crate::simd::{Avx512Bf16, Bf16Kernel, GROUP, Simd};
use crate::{Columns, Csr, Matrix};
use std::arch::x86_64::__m512bh;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Vectors in the widest panel, 128 positions: dy takes as many registers as in `f32`.
const WIDEST: usize = 4;

/// A packed piece of X; 128 KiB, on the stack.
type Packed = [MaybeUninit<__m512bh>; WIDE * WIDEST];

pub(crate) fn sddmm_bf16(simd: Avx512Bf16, csr: &Csr, dy: &Matrix, x: &Matrix, gradient: &mut [f32]) {
    split(csr, dy, x.into(), gradient, Onto::Nothing, &|share| walk(simd, x, share));
}

pub(crate) fn sddmm_bf16_pair(
    simd: Avx512Bf16,
    structures: [&Csr; 2],
    dy: &Matrix,
    x: &Matrix,
    gradients: [&mut [f32]; 2],
) {
    split_pair(structures, dy, x.into(), gradients, Onto::Nothing, &|share| walk(simd, x, share));
}

/// Computes a share, panel after panel of positions and in each block after block of columns.
fn walk(simd: Avx512Bf16, x: &Matrix, mut share: Share) {
    let panels = Panels::of_vectors(Avx512Bf16::LANES, x.positions(), WIDEST);
    let mut packed: Packed = [const { MaybeUninit::uninit() }; WIDE * WIDEST];
    let numbers = share.panels(panels.count);
    for number in numbers.clone() {
        let panel = panels.start(number)..panels.start(number + 1);
        // Fixed widths, so that a row of dy stays in registers.
        let run = match panel.len() {
            1 => run_panel::<1>,
            2 => run_panel::<2>,
            3 => run_panel::<3>,
            4 => run_panel::<4>,
            width => panic!("a panel of {width} vectors"),
        };
        let place = (panel.start * Avx512Bf16::LANES, number == numbers.start);
        run(simd, x, &mut share, place, &mut packed);
    }
}

fn run_panel<const N: usize>(
    simd: Avx512Bf16,
    x: &Matrix,
    share: &mut Share,
    (position, first): (usize, bool),
    packed: &mut Packed,
) {
    assert_eq!((x.features(), x.stride()), (share.structure().width(), share.dy().stride()));
    if x.features() == 0 {
        return;
    }
    // Rows are whole vectors of 16 floats, so the last one of 32 may be half there.
    let (whole, end) = (x.stride() - position >= N * Avx512Bf16::LANES, x.stride() - position);
    assert!(position < x.stride() && end + 16 >= N * Avx512Bf16::LANES);
    let block = share.structure().block();
    let copies = share.copies();
    for number in share.blocks() {
        let from = number * block;
        let columns = from..x.features().min(from.saturating_add(block));
        let origin = x.padded().as_ptr().wrapping_add(position);
        let far = !copies && is_far(size_of::<f32>() * N * Avx512Bf16::LANES * columns.len());
        let mut piece =
            Piece { x: origin, stride: x.stride(), packed: std::ptr::null(), position, first, whole, far };
        if copies {
            simd.run(Pack::<N> { columns, piece: &mut piece, packed });
        }
        match (share.columns(), copies) {
            (Columns::U16(_), true) => simd.run(Sweep::<N, true, u16> { rows: share.rows(number), piece }),
            (Columns::U16(_), false) => simd.run(Sweep::<N, false, u16> { rows: share.rows(number), piece }),
            (Columns::U32(_), true) => simd.run(Sweep::<N, true, u32> { rows: share.rows(number), piece }),
            (Columns::U32(_), false) => simd.run(Sweep::<N, false, u32> { rows: share.rows(number), piece }),
        }
    }
}

/// A piece of X: a block of its rows (columns of W) and a panel of positions.
#[derive(Clone, Copy)]
struct Piece {
    /// The panel's first position in row 0 of X.
    x: *const f32,
    stride: usize,
    /// Where column 0 would be in a rounded copy: not to be read, as only the block's columns are there.
    packed: *const __m512bh,
    position: usize,
    /// Whether it is in the first panel that is walked.
    first: bool,
    /// Whether the last vector's second half is there.
    whole: bool,
    /// Whether X is read from beyond the caches near the core.
    far: bool,
}

impl Piece {
    /// Fetches the panels of these columns, if the piece is far.
    #[inline(always)]
    fn fetch<const N: usize, const PACKED: bool>(&self, simd: Avx512Bf16, columns: &[impl Column]) {
        if !PACKED && self.far {
            for column in columns {
                let x = self.x.wrapping_add(column.index() * self.stride);
                (0..2 * N).for_each(|line| simd.f32s().prefetch(x.wrapping_add(line * 16)));
            }
        }
    }
}

/// `N` vectors of positions from `from` on, rounded.
///
/// # Safety
/// `from` is valid for reading `32 N` floats if `whole`, otherwise 16 fewer.
#[inline(always)]
unsafe fn rounded<const N: usize>(simd: Avx512Bf16, from: *const f32, whole: bool) -> [__m512bh; N] {
    // SAFETY: as demanded.
    std::array::from_fn(|j| unsafe { simd.load_rounded(from.add(j * Avx512Bf16::LANES), j + 1 < N || whole) })
}

/// Copies a piece, rounded, and makes it the copy.
struct Pack<'a, const N: usize> {
    columns: Range<usize>,
    piece: &'a mut Piece,
    packed: &'a mut Packed,
}

impl<const N: usize> Bf16Kernel for Pack<'_, N> {
    #[inline(always)]
    fn run(self, simd: Avx512Bf16) {
        let Self { columns, piece, packed } = self;
        let places = packed[..columns.len() * N].chunks_exact_mut(N);
        for (column, places) in columns.clone().zip(places) {
            for line in (0..N * Avx512Bf16::LANES).step_by(16) {
                simd.f32s().prefetch(piece.x.wrapping_add((column + AHEAD) * piece.stride + line));
            }
            let from = piece.x.wrapping_add(column * piece.stride);
            // SAFETY: the column is a row of X, of which the piece has N vectors as `run_panel` asserts. Gain: whole vectors
            // without checks.
            let vectors = unsafe { rounded::<N>(simd, from, piece.whole) };
            places.iter_mut().zip(vectors).for_each(|(place, vector)| _ = place.write(vector));
        }
        piece.packed = packed.as_ptr().cast::<__m512bh>().wrapping_sub(columns.start * N);
    }
}

/// The rows of a share in one piece of X.
struct Sweep<'a, const N: usize, const PACKED: bool, C> {
    rows: Rows<'a, C>,
    piece: Piece,
}

impl<const N: usize, const PACKED: bool, C: Column> Bf16Kernel for Sweep<'_, N, PACKED, C> {
    #[inline(always)]
    fn run(self, simd: Avx512Bf16) {
        let Self { rows, piece } = self;
        // SAFETY: dy has X's stride, and so N vectors from the piece's position in each row; the piece has the block's
        // columns. Gain: whole vectors without checks.
        unsafe {
            let panel =
                |dy: *const f32| Bf16Panel::<N, PACKED> { simd, dy: rounded(simd, dy, piece.whole), piece };
            rows.add(piece.position, panel, |ahead| piece.fetch::<N, PACKED>(simd, ahead));
        }
    }
}

/// [`Panel`] in bf16.
struct Bf16Panel<const N: usize, const PACKED: bool> {
    simd: Avx512Bf16,
    dy: [__m512bh; N],
    piece: Piece,
}

impl<const N: usize, const PACKED: bool> Bf16Panel<N, PACKED> {
    /// The panel of one column.
    ///
    /// # Safety
    /// The column is in the piece's block.
    #[inline(always)]
    unsafe fn x(&self, column: usize) -> [__m512bh; N] {
        let Self { simd, piece, .. } = *self;
        // SAFETY: the piece has N vectors of the block's columns, in the copy if there is one. Gain: no checks in the
        // innermost loop.
        unsafe {
            if PACKED {
                piece.packed.wrapping_add(column * N).cast::<[__m512bh; N]>().read()
            } else {
                rounded(simd, piece.x.wrapping_add(column * piece.stride), piece.whole)
            }
        }
    }
}

impl<const N: usize, const PACKED: bool> Panel for Bf16Panel<N, PACKED> {
    #[inline(always)]
    unsafe fn group<const SIZE: usize, C: Column>(&self, columns: &[C], out: &mut [f32]) {
        let f32s = self.simd.f32s();
        let last = columns.len() - 1;
        let mut sums = [f32s.splat(0.0); GROUP];
        for (i, sum) in sums.iter_mut().enumerate().take(SIZE) {
            // As in `f32`, a group that is not full repeats its last entry.
            // SAFETY: in range, and the caller vouches for the column. Gain: no check for each of a handful of products.
            let x = unsafe { self.x(columns.get_unchecked(i.min(last)).index()) };
            for (&dy, x) in self.dy.iter().zip(x) {
                *sum = self.simd.add_products(*sum, dy, x);
            }
        }
        f32s.add_sums(sums, out, self.piece.first);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use crate::{Bf16, Columns, Csr, Isa, Matrix, naive, sddmm_bf16, sddmm_bf16_pair};
    use proptest::prelude::*;

    /// None, said aloud, where the machine cannot run these tests.
    fn bf16() -> Option<Bf16> {
        let bf16 = Isa::available()[0].bf16();
        if bf16.is_none() {
            use std::io::Write;
            // Past the capture of the test's output, so that it is seen.
            let _ = writeln!(std::io::stderr(), "skipped: this machine has no AVX512-BF16");
        }
        bf16
    }

    fn check(csr: &Csr, positions: usize, seed: u64) {
        let Some(bf16) = bf16() else { return };
        let mut random = Random::new(seed);
        let (dy, x) = (random.matrix(csr.rows(), positions), random.matrix(csr.width(), positions));
        let [rounded_dy, rounded_x] = [&dy, &x].map(naive::rounded_to_bf16);
        let want = naive::sddmm(csr, &rounded_dy, &rounded_x);
        let sizes = naive::sddmm(csr, &matrix_magnitudes(&rounded_dy), &matrix_magnitudes(&rounded_x));
        let mut gradient = random.values(csr.entries());
        sddmm_bf16(bf16, csr, &dy, &x, &mut gradient);
        assert_close(&gradient, &want, &sizes, positions);
        let one = |csr: &Csr, gradient: &mut [f32]| sddmm_bf16(bf16, csr, &dy, &x, gradient);
        let both = |structures: [&Csr; 2], gradients: [&mut [f32]; 2]| {
            sddmm_bf16_pair(bf16, structures, &dy, &x, gradients);
        };
        assert_two_at_once_are_each_alone(csr, &mut random, one, both);
    }

    #[test]
    fn odd_shapes() {
        for_odd_shapes(|csr, positions| check(csr, positions, 2));
        for rows in [0, 1, 15, 16, 17, 31, 32, 33, 100, 128, 129] {
            for (width, positions) in [(33, 31), (100, 32), (300, 160), (129, 256)] {
                check(&Random::new(7).csr(rows, width, 0.2), positions, 3);
            }
        }
    }

    #[test]
    fn blocks_of_columns_and_chunks_of_rows() {
        for_blocked_shapes(|csr, positions| check(csr, positions, 4));
    }

    #[test]
    fn portions_of_positions() {
        for (rows, width, positions) in [(64, 17, 8192), (15, 300, 9001)] {
            check(&Random::new(11).csr(rows, width, 0.1), positions, 12);
        }
    }

    #[test]
    fn wide_columns() {
        for (rows, density, positions) in [(7, 0.001, 17), (7, 0.001, 32), (20, 0.02, 144)] {
            let csr = Random::new(5).csr(rows, 70_000, density);
            assert!(matches!(csr.columns(), Columns::U32(_)));
            check(&csr, positions, 6);
        }
    }

    #[test]
    fn threads_do_not_show() {
        let Some(bf16) = bf16() else { return };
        let mut random = Random::new(8);
        for (rows, width, positions) in [(2, 300, 100), (700, 600, 100), (700, 600, 300), (31, 70, 9000)] {
            let [csr, other] = [0.05, 0.06].map(|density| random.csr(rows, width, density));
            let (dy, x) = (random.matrix(rows, positions), random.matrix(width, positions));
            assert_same_on_any_threads(|_| {
                let (mut gradient, mut others) = (vec![0.0; csr.entries()], vec![0.0; other.entries()]);
                sddmm_bf16(bf16, &csr, &dy, &x, &mut gradient);
                sddmm_bf16_pair(bf16, [&csr, &other], &dy, &x, [&mut gradient, &mut others]);
                [gradient, others].concat()
            });
        }
    }

    #[test]
    fn rounds_its_inputs_as_the_naive_twin_does() {
        let Some(bf16) = bf16() else { return };
        // One product an entry, exact in f32: every bit pattern's rounding shows.
        let mut random = Random::new(10);
        let bits = (0..20_000).map(|_| (random.unit() * 16_777_216.0) as u32 * 251);
        let values: Vec<f32> = bits.map(f32::from_bits).filter(|x| x.is_finite()).collect();
        let ties = (0..512).map(|i| f32::from_bits(0x3F80_8000 + (i << 15)));
        let values: Vec<f32> = values.into_iter().chain(ties).collect();
        let csr = Csr::new(values.len(), vec![0, values.len() as u32], (0..values.len() as u32).collect());
        let x = Matrix::from_rows(values.len(), 1, &values);
        let mut gradient = vec![0.0; values.len()];
        sddmm_bf16(bf16, &csr.unwrap(), &Matrix::from_rows(1, 1, &[1.0]), &x, &mut gradient);
        let rounded = naive::rounded_to_bf16(&x);
        for (column, (value, got)) in values.iter().zip(gradient).enumerate() {
            assert_eq!(got, rounded.get(column, 0), "{value:e}");
        }
    }

    #[test]
    fn a_number_that_is_not_finite_stays_in_its_entries() {
        let Some(bf16) = bf16() else { return };
        let mut x = Matrix::from_rows(2, 40, &[1.0; 80]);
        x.row_mut(1)[39] = f32::NAN;
        let csr = Csr::new(2, vec![0, 2], vec![0, 1]).unwrap();
        let mut gradient = [0.0; 2];
        sddmm_bf16(bf16, &csr, &Matrix::from_rows(1, 40, &[1.0; 40]), &x, &mut gradient);
        assert!(gradient[0] == 40.0 && gradient[1].is_nan(), "{gradient:?}");
    }

    proptest! {
        #[test]
        fn any_shape((csr, positions, seed) in any_structure()) {
            check(&csr, positions, seed);
        }

        #[test]
        fn any_number_of_blocks((csr, positions, seed) in any_blocked_structure(), threads in 1usize..4) {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| check(&csr, positions, seed));
        }
    }
}
