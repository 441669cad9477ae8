//! Sparse × dense with a single position: a weight times a vector.
//!
//! Such a product has nothing to stream: every entry wants another number of x, and fetching each by itself takes longer than all
//! else. So the weight is laid out anew. Lanes are rows, and a *tile* is some entries of each of a vector's worth of rows, all of whose
//! columns lie in one window of x. The window is in registers, where one permutation picks a number for every lane. Rows do
//! not keep step, so a tile has slots without an entry, which hold a zero: half as many as there are entries, at 90% sparsity.

use crate::simd::{Simd, WINDOW};
use crate::{Buffer, Csr, Isa, Kernel, Matrix};

/// Entries of a row in a tile. Measured at 90% sparsity: with one, windows are loaded more often; with four, more slots are empty.
const STEPS: usize = 2;
/// Slots for each entry from which on the layout is given up: rows of so few entries share no windows.
const MOST_SLOTS: usize = 4;

/// A sparse weight with its values, for products with a single position.
///
/// The fields are private: every window begins in the weight's columns and every pick is below [`WINDOW`], and unchecked loads
/// rest on that.
#[derive(Clone, Debug)]
pub struct Single {
    isa: Isa,
    width: usize,
    /// The rows, those with most entries first, so that the rows of a group have about as many.
    order: Vec<u32>,
    /// Where each group of rows has its tiles; last their number.
    tiles: Vec<u32>,
    /// The first column of each tile's window.
    windows: Vec<u32>,
    /// Which float of its window each slot is multiplied with.
    picks: Vec<u8>,
    /// The slots' values.
    values: Buffer,
}

impl Single {
    /// `csr` with its `values`, in the order of its entries; none where its rows are so different that the layout would be mostly
    /// empty.
    ///
    /// # Panics
    /// If there is not one value for each entry.
    pub fn new(isa: Isa, csr: &Csr, values: &[f32]) -> Option<Self> {
        assert_eq!(values.len(), csr.entries(), "there must be one value for each entry");
        let (lanes, most) = (isa.lanes(), MOST_SLOTS * csr.entries());
        let (mut tiles, mut windows, mut picks, mut slots) = (vec![0], Vec::new(), Vec::new(), Vec::new());
        let mut order: Vec<u32> = (0..csr.rows() as u32).collect();
        let entries = |row: usize| csr.offsets()[row + 1] - csr.offsets()[row];
        order.sort_by_key(|&row| std::cmp::Reverse(entries(row as usize)));
        for rows in order.chunks(lanes) {
            let mut left: Vec<_> = rows.iter().map(|&row| csr.row_entries(row as usize).peekable()).collect();
            // The window begins where the row that is furthest behind goes on.
            while let Some(start) =
                left.iter_mut().filter_map(|row| row.peek().map(|&entry| csr.column(entry))).min()
            {
                windows.push(start as u32);
                let end = slots.len();
                slots.resize(end + STEPS * lanes, 0.0);
                picks.resize(end + STEPS * lanes, 0);
                for (lane, row) in left.iter_mut().enumerate() {
                    for step in 0..STEPS {
                        let within = |&entry: &usize| csr.column(entry) < start + WINDOW;
                        let Some(entry) = row.next_if(within) else { break };
                        slots[end + step * lanes + lane] = values[entry];
                        picks[end + step * lanes + lane] = (csr.column(entry) - start) as u8;
                    }
                }
                if slots.len() > most.max(STEPS * lanes) {
                    return None;
                }
            }
            tiles.push(windows.len() as u32);
        }
        let values = Buffer::from(&slots[..]);
        Some(Self { isa, width: csr.width(), order, tiles, windows, picks, values })
    }

    /// `y = W·x + bias`, of which with `relu` what is negative becomes 0; `x` and `y` have one position, `y` is overwritten, `packed` is
    /// scratch. On the calling thread alone. Where a number of x is not finite, any number of y may not be.
    ///
    /// # Panics
    /// If `x` is not `[width × 1]`, or `bias` has not one number for each row.
    pub fn product(&self, x: &Matrix, bias: &[f32], relu: bool, packed: &mut Buffer, y: &mut Matrix) {
        assert_eq!((x.features(), x.positions()), (self.width, 1), "x must be width × 1");
        assert_eq!(bias.len(), self.order.len(), "one bias per output");
        let room = self.width + WINDOW;
        if packed.len() != room {
            packed.reset(room);
        }
        let from = x.padded().iter().step_by(x.stride());
        packed.iter_mut().zip(from).for_each(|(packed, &x)| *packed = x);
        y.ensure(bias.len(), 1);
        let stride = y.stride();
        let least = if relu { 0.0 } else { f32::NEG_INFINITY };
        self.isa.run(Product { single: self, x: packed, bias, least, y: y.padded_mut(), stride });
    }
}

struct Product<'a> {
    single: &'a Single,
    /// The columns, and behind them a window of anything.
    x: &'a [f32],
    bias: &'a [f32],
    least: f32,
    y: &'a mut [f32],
    stride: usize,
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Single { order, tiles, windows, picks, values, .. } = self.single;
        for (rows, ends) in order.chunks(S::LANES).zip(tiles.windows(2)) {
            let mut sums = [simd.splat(0.0); STEPS];
            for tile in ends[0] as usize..ends[1] as usize {
                // SAFETY: there are as many windows as tiles, each in the columns, behind which there is one more; each tile has STEPS
                // vectors of picks, all below WINDOW, and of values. Gain: no bounds are checked in the innermost loop.
                unsafe {
                    let window = simd.window(self.x.as_ptr().add(*windows.get_unchecked(tile) as usize));
                    for (step, sum) in sums.iter_mut().enumerate() {
                        let slot = (tile * STEPS + step) * S::LANES;
                        let x = simd.pick(window, picks.as_ptr().add(slot));
                        *sum = simd.mul_add(simd.load(values.as_ptr().add(slot)), x, *sum);
                    }
                }
            }
            let [mut sum, others @ ..] = sums;
            others.into_iter().for_each(|other| sum = simd.add(sum, other));
            let mut lanes = [0.0_f32; 16];
            // SAFETY: LANES is at most 16.
            unsafe { simd.store(lanes.as_mut_ptr(), sum) };
            for (sum, &row) in lanes.iter().zip(rows) {
                let row = row as usize;
                self.y[row * self.stride] = (sum + self.bias[row]).max(self.least);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive;
    use crate::testing::*;
    use proptest::prelude::*;

    /// Checks the product on every instruction set; `always` is whether there must be a layout.
    fn check(csr: &Csr, seed: u64, always: bool) {
        let mut random = Random::new(seed);
        let (values, bias) = (random.values(csr.entries()), random.values(csr.rows()));
        let x = random.matrix(csr.width(), 1);
        let mut want = naive::spmm(csr, &values, &x);
        let mut sizes = naive::spmm(csr, &magnitudes(&values), &matrix_magnitudes(&x));
        for (row, bias) in bias.iter().enumerate() {
            want.row_mut(row)[0] += bias;
            sizes.row_mut(row)[0] += bias.abs();
        }
        let mut relu = want.clone();
        (0..csr.rows()).for_each(|row| relu.row_mut(row)[0] = relu.get(row, 0).max(0.0));
        for isa in Isa::available() {
            let Some(single) = Single::new(isa, csr, &values) else {
                assert!(!always, "no layout on {isa:?}");
                continue;
            };
            // Wrong shapes and numbers, to see that all are overwritten.
            let (mut packed, mut y) = (Buffer::zeros(3), random.matrix(csr.rows(), 1));
            single.product(&x, &bias, false, &mut packed, &mut y);
            assert_matrix_close(&y, &want, &sizes, csr.width());
            packed.fill(f32::NAN);
            packed[csr.width()..].fill(0.0);
            single.product(&x, &bias, true, &mut packed, &mut y);
            assert_matrix_close(&y, &relu, &sizes, csr.width());
        }
    }

    #[test]
    fn odd_shapes() {
        for (rows, width) in
            [(0, 0), (0, 5), (5, 0), (1, 1), (7, 16), (15, 31), (16, 32), (17, 33), (40, 129)]
        {
            for density in [0.3, 1.0] {
                check(&Random::new(4).csr(rows, width, density), 5, density == 1.0);
            }
        }
    }

    #[test]
    fn several_blocks_of_columns() {
        // Where entries are not in row-major order.
        check(&Random::new(6).csr(300, 1100, 0.1), 7, true);
        check(&Random::new(6).csr(70, 70_000, 0.05), 8, true);
    }

    #[test]
    fn rows_without_common_windows_have_no_layout() {
        let columns: Vec<u32> = (0..64).map(|row| row * 1000).collect();
        let csr = Csr::new(64_000, (0..=64).collect(), columns).unwrap();
        assert!(Isa::available().into_iter().all(|isa| Single::new(isa, &csr, &[1.0; 64]).is_none()));
    }

    proptest! {
        #[test]
        fn any_structures((csr, _, seed) in any_structure()) {
            check(&csr, seed, false);
        }
    }
}
