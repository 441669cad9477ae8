//! A training step must not allocate: sparse products, attention, layer normalization and embedding never do once their outputs have
//! their size, and dense products only what `gemm` packs operands in.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use topkast_kernels::*;

struct Counting;

static CALLS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: passes everything on to the system's allocator, which keeps its contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Relaxed);
        BYTES.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations and their bytes in one call of `compute`, after two that warm up: the fewest of some, as a thread of the pool may come to steal
/// for the first time, for which it allocates, in any of them.
fn allocated(mut compute: impl FnMut()) -> (usize, usize) {
    compute();
    compute();
    let mut once = || {
        let before = (CALLS.load(Relaxed), BYTES.load(Relaxed));
        compute();
        (CALLS.load(Relaxed) - before.0, BYTES.load(Relaxed) - before.1)
    };
    (0..4).map(|_| once()).min().expect("some")
}

/// One test, as what others allocate would be counted too.
#[test]
fn kernels_allocate_nothing_but_what_gemm_packs() {
    sparse_products_allocate_nothing_and_dense_ones_little();
    attention_allocates_nothing();
}

fn sparse_products_allocate_nothing_and_dense_ones_little() {
    let (rows, width) = (600, 700);
    let mut columns = Vec::new();
    let mut offsets = vec![0];
    for row in 0..rows {
        columns.extend((0..width as u32).filter(|column| (column * 7 + row * 13) % 10 == 0));
        offsets.push(columns.len() as u32);
    }
    let csr = Csr::new(width, offsets, columns).unwrap();
    let transposed = csr.transposed();
    let values = vec![0.5; csr.entries()];
    let w = vec![0.5; rows as usize * width];
    let bias = vec![0.5; rows as usize];
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.broadcast(|_| ()); // Starting its threads allocates.
        for positions in [100, 130] {
            let x = Matrix::from_rows(width, positions, &vec![0.5; width * positions]);
            let dy = Matrix::from_rows(rows as usize, positions, &vec![0.5; rows as usize * positions]);
            let narrow_dy = Matrix::from_rows(10, positions, &vec![0.5; 10 * positions]);
            let mut narrow_y = Matrix::default();
            let (mut y, mut dx, mut gathered) = (Matrix::default(), Matrix::default(), Buffer::default());
            let mut gradient = vec![0.0; csr.entries()];
            let mut dw = vec![0.0; w.len()];
            pool.install(|| {
                for isa in Isa::available() {
                    let sparse = allocated(|| {
                        spmm(isa, &csr, &values, &x, Epilogue::BiasRelu(&bias), &mut y);
                        spmm_transposed(
                            isa,
                            &transposed,
                            &values,
                            &dy,
                            Epilogue::None,
                            &mut gathered,
                            &mut dx,
                        );
                        sddmm(isa, &csr, &dy, &x, &mut gradient);
                    });
                    if let Some(bf16) = isa.bf16() {
                        let rounded = allocated(|| sddmm_bf16(bf16, &csr, &dy, &x, &mut gradient));
                        assert_eq!(rounded, (0, 0), "bf16: {threads} threads, {positions} positions");
                    }
                    assert_eq!(sparse, (0, 0), "{isa:?}, {threads} threads, {positions} positions");
                    let narrow = allocated(|| {
                        dense_forward(isa, 10, &w[..10 * width], &x, &mut narrow_y);
                        dense_input_gradient(isa, width, &w[..10 * width], &narrow_dy, &mut dx);
                        dense_weight_gradient(isa, &narrow_dy, &x, &mut dw[..10 * width]);
                    });
                    assert_eq!(narrow, (0, 0), "narrow: {isa:?}, {threads} threads, {positions} positions");
                }
                let tokens: Vec<u32> = (0..positions as u32).map(|p| p * 7 % rows).collect();
                let between = |isa| {
                    let mut scale = Vec::new();
                    let [mut x, mut y, mut normalized, mut dx, mut d_x] = [(); 5].map(|()| Matrix::default());
                    let (mut d_gain, mut d_bias, mut table) = (vec![0.0; width], vec![0.0; width], w.clone());
                    let (gain, drop) = (&w[..width], Some((1, 0.1)));
                    allocated(|| {
                        embed(isa, &w, width, &tokens, 2.0, &mut x);
                        layer_norm(isa, &x, &x, drop, gain, gain, &mut normalized, &mut scale, &mut y);
                        let (dx, d_x, d_gain, d_bias) = (&mut dx, &mut d_x, &mut d_gain, &mut d_bias);
                        let (n, scale) = (&normalized, &scale);
                        layer_norm_gradient(isa, &y, n, scale, gain, drop, dx, d_x, d_gain, d_bias);
                        embed_gradient(isa, width, &tokens, 2.0, dx, &mut table);
                    })
                };
                for isa in Isa::available() {
                    assert_eq!(between(isa), (0, 0), "{isa:?}, {threads} threads, {positions} positions");
                }
                if threads > 1 {
                    return; // Each new thread also gets gemm's buffer for it, whenever it first has a block to do.
                }
                let isa = Isa::available()[0];
                let (_, forward) = allocated(|| dense_forward(isa, rows as usize, &w, &x, &mut y));
                assert!(forward <= 64, "{forward} bytes in the forward product: more than flags");
                let (_, input) = allocated(|| dense_input_gradient(isa, width, &w, &dy, &mut dx));
                assert!(input <= 2 * size_of_val(&w[..]), "{input} bytes: more than packing W");
                let (_, weight) = allocated(|| dense_weight_gradient(isa, &dy, &x, &mut dw));
                let packed = 2 * size_of_val(x.padded());
                assert!(weight <= 2 * packed, "{weight} bytes: more than packing x for either block");
            });
        }
    }
}

fn attention_allocates_nothing() {
    let (width, streams, queries, memory) = (60, 2, 70, 100);
    let matrix = |columns: usize| Matrix::from_rows(width, columns, &vec![0.5; width * columns]);
    let (query, key) = (matrix(streams * queries), matrix(streams * (memory + queries)));
    let (position, bias) = (matrix(memory + queries), vec![0.5; width]);
    let shape = AttentionShape { heads: 5, streams, queries, memory, span: 150, causal: true, dropout: None };
    let relative = Relative { position: &position, content_bias: &bias, position_bias: &bias };
    let inputs = AttentionInputs {
        query: (&query).into(),
        key: (&key).into(),
        value: (&key).into(),
        relative: Some(relative),
    };
    let d_output = query.clone();
    let mut output = Matrix::default();
    let mut gradients = [&query, &key, &key, &position].map(Matrix::clone);
    let (mut d_content_bias, mut d_position_bias) = (bias.clone(), bias.clone());
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.broadcast(|_| ()); // Starting its threads allocates.
        let (mut state, mut scratch) = (AttentionState::default(), AttentionScratch::default());
        pool.install(|| {
            for isa in Isa::available() {
                let both = allocated(|| {
                    attention(isa, shape, inputs, &mut state, &mut scratch, &mut output);
                    let [query, key, value, position] = gradients.each_mut().map(Matrix::rows_mut);
                    let (content_bias, position_bias) = (&mut d_content_bias[..], &mut d_position_bias[..]);
                    let relative = Some(RelativeGradients { position, content_bias, position_bias });
                    let gradients = AttentionGradients { query, key, value, relative };
                    attention_gradient(
                        isa,
                        shape,
                        inputs,
                        &state,
                        &mut scratch,
                        &output,
                        &d_output,
                        gradients,
                    );
                });
                assert_eq!(both, (0, 0), "{isa:?}, {threads} threads");
            }
        });
    }
}
