//! Sampled dense × dense: the gradient of the weights, for the entries there are and no others.
//!
//! For each row of W a panel of dy stays in registers. Its entries come in groups of [`GROUP`], each with a vector of
//! sums of its own, `sum[e] += dy[j] × x[column(e)][j]`, and one joint horizontal reduction then yields the group's
//! gradients. Every entry is reduced in the same tree, so its gradient does not depend on which others are in its group.
//!
//! A and B∖A are visited together, so that dy is read and X packed once for both: a twentieth to a tenth of the time.
//! Filling what is left of A's last group with entries of B∖A was tried and costs more than it saves.
//!
//! Threads take rows of W, each with all positions of X. Where the positions outweigh W by far, as in the convolutions of large maps, they
//! are cut into [`PORTIONS`] first, with gradients of their own that are added at the end: so every thread reads its share of X and dy alone.

use crate::blocks::{HUGE, POSITIONS, Strip, USES, Visit, Walk, copies_pay, fetch_distance, fetch_row};
use crate::epilogue::load_kept;
use crate::piece::{Column, Piece, Place};
use crate::share::{for_each_share, join, threads};
use crate::simd::{GROUP, Simd};
use crate::source::Source;
use crate::{Columns, Csr, Isa, Kernel, Matrix};
use std::marker::PhantomData;
use std::ops::Range;

/// `gradient[e] = Σₚ dy[row(e), p] × x[column(e), p]` for every entry `e` of `csr`, overwriting `gradient`; `dy` is
/// `[rows × positions]` and `x` `[width × positions]`.
///
/// Panels of positions are added in an order that depends on the shapes alone, for any number of threads.
///
/// # Panics
/// If `gradient` has not one number for each entry, `dy` not one feature for each row, `x` not one for each column, or
/// the two differ in positions.
pub fn sddmm(isa: Isa, csr: &Csr, dy: &Matrix, x: &Matrix, gradient: &mut [f32]) {
    sampled(isa, csr, dy, x.into(), gradient);
}

/// [`sddmm`] with an X that need not be a matrix.
///
/// # Panics
/// As [`sddmm`].
pub(crate) fn sampled(isa: Isa, csr: &Csr, dy: &Matrix, x: Source<'_>, gradient: &mut [f32]) {
    split(csr, dy, x, gradient, Onto::Nothing, &|share| share.walk(isa));
}

/// [`sddmm`] for two structures of one shape that share no entry, such as A and B∖A, in less time than one after the
/// other; the same gradients.
///
/// # Panics
/// As [`sddmm`], for either; and if the structures differ in shape.
pub fn sddmm_pair(isa: Isa, structures: [&Csr; 2], dy: &Matrix, x: &Matrix, gradients: [&mut [f32]; 2]) {
    sampled_pair(isa, structures, dy, x.into(), gradients);
}

/// [`sddmm_pair`] with an X that need not be a matrix.
///
/// # Panics
/// As [`sddmm_pair`].
pub(crate) fn sampled_pair(
    isa: Isa,
    structures: [&Csr; 2],
    dy: &Matrix,
    x: Source<'_>,
    gradients: [&mut [f32]; 2],
) {
    split_pair(structures, dy, x, gradients, Onto::Nothing, &|share| share.walk(isa));
}

/// [`sddmm_pair`] that adds to what is in the gradients: for positions that come in parts.
///
/// # Panics
/// As [`sddmm_pair`].
pub fn sddmm_pair_add(isa: Isa, structures: [&Csr; 2], dy: &Matrix, x: &Matrix, gradients: [&mut [f32]; 2]) {
    split_pair(structures, dy, x.into(), gradients, Onto::Gradients, &|share| share.walk(isa));
}

/// What a product is added to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Onto {
    /// The gradients are overwritten.
    Nothing,
    /// What is in the gradients.
    Gradients,
}

/// Has `compute` compute shares of the gradients of a structure in parallel.
pub(crate) fn split(
    csr: &Csr,
    dy: &Matrix,
    x: Source<'_>,
    gradient: &mut [f32],
    onto: Onto,
    compute: &(impl Fn(Share) + Sync),
) {
    check(csr, dy, x, gradient);
    if onto == Onto::Nothing && (x.positions() == 0 || csr.rows() == 0) {
        gradient.fill(0.0);
    }
    if x.positions() == 0 || csr.rows() == 0 {
        return;
    }
    let starts = csr.starts();
    let product = Product { structures: [csr, csr], count: 1, dy, x, onto };
    product.split(&|run| starts[run] as usize, [gradient, &mut []], compute);
}

/// [`split`] for two structures.
pub(crate) fn split_pair(
    structures: [&Csr; 2],
    dy: &Matrix,
    x: Source<'_>,
    gradients: [&mut [f32]; 2],
    onto: Onto,
    compute: &(impl Fn(Share) + Sync),
) {
    let [a, b] = structures;
    if a.block() != b.block() || x.positions() == 0 || a.rows() == 0 {
        for (csr, gradient) in structures.into_iter().zip(gradients) {
            split(csr, dy, x, gradient, onto, compute);
        }
        return;
    }
    check(a, dy, x, gradients[0]);
    check(b, dy, x, gradients[1]);
    let (a_starts, b_starts) = (a.starts(), b.starts());
    let product = Product { structures, count: 2, dy, x, onto };
    product.split(&|run| a_starts[run] as usize + b_starts[run] as usize, gradients, compute);
}

fn check(csr: &Csr, dy: &Matrix, x: Source<'_>, gradient: &[f32]) {
    assert_eq!(gradient.len(), csr.entries(), "there must be one gradient for each entry");
    assert_eq!(dy.features(), csr.rows(), "dy must have one feature for each row of the weight");
    assert_eq!(x.columns(), csr.width(), "x must have one feature for each column of the weight");
    assert_eq!(dy.positions(), x.positions(), "dy and x must have the same positions");
}

/// How many portions positions are cut into, and from how many on.
const PORTIONS: usize = 4;
const PORTIONED: usize = 8192;

/// How many times as many numbers x and dy must have as a dense weight: then what portions' gradients take is small beside them.
const OUTWEIGHED: usize = 64;

/// Positions up to which panels are wide.
const FEW: usize = 256;

/// [`USES`] where X comes from memory.
const FAR_USES: f64 = 3.0;

/// A product of one structure or two that is ready to run.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    structures: [&'a Csr; 2],
    /// How many of the structures there are.
    count: usize,
    dy: &'a Matrix,
    x: Source<'a>,
    onto: Onto,
}

impl Product<'_> {
    /// By the shapes alone: neither the structures nor the threads may show in a gradient.
    fn number_of_portions(&self) -> usize {
        let (rows, width, positions) = (self.dy.features(), self.x.columns(), self.x.positions());
        let numbers = positions.saturating_mul(rows + width);
        if positions >= PORTIONED && rows.saturating_mul(width) <= numbers / OUTWEIGHED {
            PORTIONS
        } else {
            1
        }
    }

    fn split(
        self,
        entries_before: &(impl Fn(usize) -> usize + Sync),
        gradients: [&mut [f32]; 2],
        compute: &(impl Fn(Share) + Sync),
    ) {
        let portions = 0..self.number_of_portions();
        self.portions(portions, threads(), entries_before, gradients, compute);
    }

    /// Computes the sum of some portions' gradients on so many threads.
    fn portions(
        self,
        portions: Range<usize>,
        threads: usize,
        entries_before: &(impl Fn(usize) -> usize + Sync),
        gradients: [&mut [f32]; 2],
        compute: &(impl Fn(Share) + Sync),
    ) {
        if portions.len() == 1 {
            return self.rows(portions.start, threads, entries_before, gradients, compute);
        }
        let middle = portions.start + portions.len() / 2;
        let mut others = [vec![0.0; gradients[0].len()], vec![0.0; gradients[1].len()]];
        let [a, b] = gradients;
        let [other_a, other_b] = &mut others;
        let half = |portions: Range<usize>, gradients: [&mut [f32]; 2]| {
            self.portions(portions, threads.div_ceil(2), entries_before, gradients, compute);
        };
        join(
            || half(portions.start..middle, [&mut *a, &mut *b]),
            || half(middle..portions.end, [other_a, other_b]),
        );
        for (gradient, others) in [a, b].into_iter().zip(others) {
            gradient.iter_mut().zip(others).for_each(|(gradient, other)| *gradient += other);
        }
    }

    /// Computes one portion's gradients on so many threads.
    fn rows(
        self,
        portion: usize,
        threads: usize,
        entries_before: &(impl Fn(usize) -> usize + Sync),
        gradients: [&mut [f32]; 2],
        compute: &(impl Fn(Share) + Sync),
    ) {
        let [a, b] = self.structures;
        let runs = a.blocks() * a.rows();
        let cut = |gradients, from: usize, at: usize| {
            let entries = |csr: &Csr| (csr.starts()[at] - csr.starts()[from]) as usize;
            split_both(gradients, [entries(a), if self.count == 2 { entries(b) } else { 0 }])
        };
        for_each_share(0..runs, threads, entries_before, gradients, &cut, &|runs, gradients| {
            compute(Share { product: &self, portion, runs, gradients });
        });
    }
}

fn split_both([a, b]: [&mut [f32]; 2], at: [usize; 2]) -> ([&mut [f32]; 2], [&mut [f32]; 2]) {
    let ((a_head, a_tail), (b_head, b_tail)) = (a.split_at_mut(at[0]), b.split_at_mut(at[1]));
    ([a_head, b_head], [a_tail, b_tail])
}

/// Consecutive runs of entries, and their gradients from a portion of the positions.
pub(crate) struct Share<'a> {
    product: &'a Product<'a>,
    portion: usize,
    /// Run `b × rows + r` is row `r` in block `b`.
    runs: Range<usize>,
    gradients: [&'a mut [f32]; 2],
}

impl Visit for Share<'_> {
    fn visit<const N: usize, P: Place>(&mut self, isa: Isa, piece: &Piece) {
        let mut piece = *piece;
        piece.first &= self.product.onto == Onto::Nothing;
        match self.columns() {
            Columns::U16(_) => self.sweep::<N, P, u16>(isa, piece),
            Columns::U32(_) => self.sweep::<N, P, u32>(isa, piece),
        }
    }
}

impl Share<'_> {
    fn walk(mut self, isa: Isa) {
        let walk = Walk::new(isa, self.structure(), self.copies(), self.product.x);
        // Half the registers for dy, and as many or more for the sums; in 32 registers there is room for twice as many. That halves the
        // reductions, and takes more of a row at once where maps come from memory. Where there are many more positions, wide pieces of X
        // fall out of L1 before they pay. By the shapes alone, as the width shows in the sums.
        let half = isa.panel() / 2;
        let x = self.product.x;
        let wide = x.positions() <= FEW || !x.is_rows() || self.product.number_of_portions() > 1;
        let widest = if wide && isa.lanes() == 16 { 2 * half } else { half.min(POSITIONS / isa.lanes()) };
        walk.run(widest, self.panels(walk.count(widest)), self.blocks(), &mut self);
    }

    /// Which of `count` panels of positions are the portion's.
    pub(crate) fn panels(&self, count: usize) -> Range<usize> {
        let portions = self.product.number_of_portions();
        self.portion * count / portions..(self.portion + 1) * count / portions
    }

    /// One of the structures, for what they have in common.
    pub(crate) fn structure(&self) -> &Csr {
        self.product.structures[0]
    }

    /// dy.
    pub(crate) fn dy(&self) -> &Matrix {
        self.product.dy
    }

    /// The columns, for how they are stored.
    pub(crate) fn columns(&self) -> &Columns {
        self.structure().columns()
    }

    /// The blocks of columns that the runs are in.
    pub(crate) fn blocks(&self) -> Range<usize> {
        let rows = self.structure().rows();
        self.runs.start / rows..self.runs.end.div_ceil(rows)
    }

    /// Whether to copy pieces of X. Where it comes from memory fewer uses are enough, as copying fetches ahead.
    pub(crate) fn copies(&self) -> bool {
        let entries: usize = self.gradients.iter().map(|gradient| gradient.len()).sum();
        let columns = self.blocks().len() * self.structure().block().min(self.structure().width());
        let x = self.product.x;
        let least = if x.columns() * x.positions() < HUGE { USES } else { FAR_USES };
        copies_pay(self.structure(), entries as f64 / columns as f64, least)
    }

    /// The share's runs in a block of columns.
    pub(crate) fn rows<C: Column>(&mut self, block: usize) -> Rows<'_, C> {
        let Product { structures, count, dy, .. } = *self.product;
        let of_block = block * structures[0].rows();
        let within = |run: usize| run.saturating_sub(of_block).min(structures[0].rows());
        let rows = within(self.runs.start)..within(self.runs.end);
        let first = structures.map(|csr| csr.starts()[self.runs.start] as usize);
        let [a, b] = structures.map(|csr| Strip::new(csr, block, &rows));
        let [in_a, in_b] = &mut self.gradients;
        Rows {
            a: Part { strip: a, first: first[0], gradient: in_a },
            b: Part { strip: b, first: first[1], gradient: in_b },
            both: count == 2,
            dy: &dy.padded()[rows.start * dy.stride()..rows.end * dy.stride()],
            stride: dy.stride(),
            distance: fetch_distance(dy.features(), dy.stride()),
        }
    }

    fn sweep<const N: usize, P: Place, C: Column>(&mut self, isa: Isa, piece: Piece) {
        isa.run(Sweep::<N, P, C> { place: PhantomData, rows: self.rows(piece.block), piece });
    }
}

/// One structure's runs in a piece, and the gradients of a share.
struct Part<'a, C> {
    strip: Strip<'a, C>,
    /// The entry that the first gradient belongs to.
    first: usize,
    gradient: &'a mut [f32],
}

impl<C: Column> Part<'_, C> {
    /// The columns of a row's entries, their gradients, and the columns to fetch ahead meanwhile.
    ///
    /// # Safety
    /// The strip has more than `i` rows.
    #[inline(always)]
    unsafe fn run(&mut self, i: usize) -> (&[C], &mut [f32], &[C]) {
        // SAFETY: as demanded.
        let (start, columns) = unsafe { self.strip.run(i) };
        let ahead = self.strip.ahead(start..start + columns.len());
        (columns, &mut self.gradient[start - self.first..][..columns.len()], ahead)
    }
}

/// The rows of a share that meet a block of columns.
pub(crate) struct Rows<'a, C> {
    a: Part<'a, C>,
    b: Part<'a, C>,
    both: bool,
    /// The rows of dy.
    dy: &'a [f32],
    stride: usize,
    /// How far ahead of its use a row of dy is fetched.
    distance: usize,
}

impl<C: Column> Rows<'_, C> {
    /// Adds what `panel` makes of each row of dy, from `position` on, to the gradients of the row's entries. `fetch` is told
    /// which columns are needed soon.
    ///
    /// # Safety
    /// `panel` may be called with a pointer to that position in any row of dy, and what it returns with any column in the block.
    #[inline(always)]
    pub(crate) unsafe fn add<P: Panel>(
        mut self,
        position: usize,
        panel: impl Fn(*const f32) -> P,
        fetch: impl Fn(&[C]),
    ) {
        let rows = self.a.strip.rows();
        assert!(rows * self.stride <= self.dy.len() && self.b.strip.rows() == rows);
        for i in 0..rows {
            let panel = panel(self.dy.as_ptr().wrapping_add(i * self.stride + position));
            // SAFETY: the strips have this row; the caller vouches for the columns. Gain: no bounds are checked for each
            // short run.
            unsafe {
                let (columns, out, ahead) = self.a.run(i);
                fetch(ahead);
                panel.entries(columns, out);
                if self.both {
                    let (columns, out, ahead) = self.b.run(i);
                    fetch(ahead);
                    panel.entries(columns, out);
                }
            }
        }
    }
}

/// The rows of a share in one piece of X.
struct Sweep<'a, const N: usize, P, C> {
    place: PhantomData<P>,
    rows: Rows<'a, C>,
    piece: Piece,
}

impl<const N: usize, P: Place, C: Column> Kernel for Sweep<'_, N, P, C> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { rows, piece, .. } = self;
        let distance = rows.distance;
        // SAFETY: as the walk vouches, dy has N vectors from the piece's position in each row, or what of them is in the line,
        // and the piece the block's columns. Gain: whole vectors without checks.
        unsafe {
            let panel = |dy: *const f32| {
                fetch_row::<S, N>(simd, dy, distance);
                let dy = std::array::from_fn(|j| load_kept::<S, P>(simd, dy, j, piece.kept));
                F32Panel::<S, N, P> { simd, dy, piece, place: PhantomData }
            };
            rows.add(piece.position, panel, |ahead| piece.fetch::<S, N, P>(simd, ahead));
        }
    }
}

/// A row of dy, as far as it meets a piece of X, in registers.
pub(crate) trait Panel {
    /// Adds the panel's share to the gradients `out` of the entries in `columns`, at most `SIZE`, or sets them to it if it
    /// is the portion's first. No gradient may depend on the other entries.
    ///
    /// # Safety
    /// `columns` are in the piece's block. There is at least one.
    unsafe fn group<const SIZE: usize, C: Column>(&self, columns: &[C], out: &mut [f32]);

    /// Adds the panel's share to the gradients `out` of the entries in `columns`.
    ///
    /// # Safety
    /// `columns` are in the piece's block.
    #[inline(always)]
    unsafe fn entries<C: Column>(&self, columns: &[C], out: &mut [f32]) {
        for (out, columns) in out.chunks_mut(GROUP).zip(columns.chunks(GROUP)) {
            // Half a group at the end of a run saves more than choosing it costs.
            // SAFETY: the caller vouches for these columns.
            unsafe {
                if columns.len() > GROUP / 2 {
                    self.group::<GROUP, C>(columns, out);
                } else {
                    self.group::<{ GROUP / 2 }, C>(columns, out);
                }
            }
        }
    }
}

/// [`Panel`] in f32.
struct F32Panel<S: Simd, const N: usize, P> {
    place: PhantomData<P>,
    simd: S,
    dy: [S::Vector; N],
    piece: Piece,
}

impl<S: Simd, const N: usize, P: Place> Panel for F32Panel<S, N, P> {
    /// # Safety
    /// Besides, `piece.column(…)` is valid for reading `N` vectors for each column in the block.
    #[inline(always)]
    unsafe fn group<const SIZE: usize, C: Column>(&self, columns: &[C], out: &mut [f32]) {
        let simd = self.simd;
        let last = columns.len() - 1;
        // A group that is not full repeats its last entry, whose panel is in the cache: one loop without branches.
        // SAFETY: in range. Gain: no check for each of a handful of multiply-adds.
        let x: [_; SIZE] = std::array::from_fn(|i| unsafe {
            self.piece.column::<S, N, P>(columns.get_unchecked(i.min(last)).index())
        });
        let mut sums = [simd.splat(0.0); GROUP];
        // Vector after vector of all entries: what follows one multiply-add does not wait for it.
        for (j, &dy) in self.dy.iter().enumerate() {
            for (sum, x) in sums.iter_mut().zip(x) {
                // SAFETY: the caller vouches for the columns' N vectors.
                let x = unsafe { simd.load(x.add(j * S::LANES)) };
                *sum = if j == 0 { simd.mul(dy, x) } else { simd.mul_add(dy, x, *sum) };
            }
        }
        simd.add_sums(sums, out, self.piece.first);
    }
}

#[cfg(test)]
mod tests;
