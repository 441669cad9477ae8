//! What the sparse products could reach at most: `cargo bench -p topkast-kernels --bench roofline`, one thread.
//!
//! A weight of one block of columns and one panel of 64 positions, so that nothing is computed in parts: every row has a run
//! of as many entries as the column says, in a piece of X as wide as the row says. Shown are shares of the peak in the
//! fastest of many rounds. From left to right what is spent once a run (moving y or dy, reducing sums, a mispredicted end of a
//! loop) is shared by more entries; from top to bottom the piece of X outgrows the L1 cache. Whole layers lie in
//! between, at their own width of blocks and length of runs, and pay for copying X and for adding up blocks besides.
//!
//! Above them is what the machine gives to a loop of multiply-adds that each load a vector from rows at random, without runs, outputs or
//! reductions, eight vectors of a row at a time.

#![allow(clippy::print_stdout)]

use std::time::Instant;
use topkast_kernels::*;

const ROUNDS: usize = 201;
const ROWS: usize = 1024;
const POSITIONS: usize = 64;
const RUNS: [usize; 7] = [5, 10, 13, 19, 26, 51, 64];

fn main() {
    let isa = Isa::current().expect("TOPKAST_ISA names an instruction set of this machine");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    pool.install(|| {
        let peak = fma_peak_gflops(isa);
        println!(
            "{isa:?}, 1 thread, peak {peak:.0} GF/s; shares of it by columns of X (KiB) and entries a run\n"
        );
        let limit = |kib: usize| format!("{:>8.0}%", 100.0 * sparse_peak_gflops(isa, kib * 1024) / peak);
        const KIB: [usize; 6] = [16, 32, 48, 64, 128, 512];
        println!("KiB of X       {}", KIB.map(|kib| format!("{kib:>9}")).concat());
        println!("a load for each{}\n", KIB.map(limit).concat());
        table("spmm", peak, |case| case.time_forward(isa));
        table("sddmm", peak, |case| case.time_gradient(isa));
    });
}

fn table(name: &str, peak: f64, time: impl Fn(&mut Case) -> f64) {
    let header: String = RUNS.iter().map(|run| format!("{run:>5}")).collect();
    println!("{name:14}{header}");
    for width in [64, 128, 192, 256, 512] {
        let share = |&run: &usize| {
            let mut case = Case::new(width, run);
            let fastest = (0..ROUNDS).map(|_| time(&mut case)).fold(f64::INFINITY, f64::min);
            let rate = 2e-9 * (case.csr.entries() * POSITIONS) as f64 / fastest;
            format!("{:>4.0}%", 100.0 * rate / peak)
        };
        let cells: String = RUNS.iter().map(share).collect();
        println!("{width:>5} ({:>3} KiB){cells}", width * POSITIONS * size_of::<f32>() / 1024);
    }
    println!();
}

struct Case {
    csr: Csr,
    values: Vec<f32>,
    x: Matrix,
    y: Matrix,
    dy: Matrix,
    gradient: Vec<f32>,
}

impl Case {
    /// Of `width` columns and `run` entries in each row, at random places.
    fn new(width: usize, run: usize) -> Self {
        let mut random = 0x9E37_79B9_7F4A_7C15u64;
        let mut below = |end: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 33) as usize % end
        };
        let (mut offsets, mut columns) = (vec![0], Vec::new());
        for _ in 0..ROWS {
            // The first of a shuffle.
            let mut all: Vec<u32> = (0..width as u32).collect();
            (0..run).for_each(|at| all.swap(at, at + below(width - at)));
            all[..run].sort_unstable();
            columns.extend_from_slice(&all[..run]);
            offsets.push(columns.len() as u32);
        }
        let csr = Csr::new(width, offsets, columns).expect("ascending columns");
        let mut numbers = |count: usize| (0..count).map(|_| below(1 << 16) as f32 / 65536.0 - 0.5).collect();
        let (values, x, dy): (Vec<f32>, Vec<f32>, Vec<f32>) =
            (numbers(csr.entries()), numbers(width * POSITIONS), numbers(ROWS * POSITIONS));
        Self {
            gradient: vec![0.0; csr.entries()],
            csr,
            values,
            x: Matrix::from_rows(width, POSITIONS, &x),
            y: Matrix::default(),
            dy: Matrix::from_rows(ROWS, POSITIONS, &dy),
        }
    }

    fn time_forward(&mut self, isa: Isa) -> f64 {
        let start = Instant::now();
        spmm(isa, &self.csr, &self.values, &self.x, Epilogue::None, &mut self.y);
        start.elapsed().as_secs_f64()
    }

    fn time_gradient(&mut self, isa: Isa) -> f64 {
        let start = Instant::now();
        sddmm(isa, &self.csr, &self.dy, &self.x, &mut self.gradient);
        start.elapsed().as_secs_f64()
    }
}
