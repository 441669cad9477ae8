//! What a step of the Transformer-XL takes from the allocator: nothing, once every buffer has its size.
//!
//! There is one test, so that nothing else runs while it counts.

#[path = "../../topkast-train/tests/common/counting.rs"]
mod counting;

use counting::allocated_by;
use topkast::{Counts, Explore, Init, ReservoirKind, Scale, Seed, Topology};
use topkast_kernels::Isa;
use topkast_nn::{
    Activation, Clusters, Gradients, LayerPlan, Linear, Mode, Tokens, TransformerXl, TransformerXlShape,
};

/// The output, tied to a dense embedding, is narrow: larger ones have `gemm` allocate what it packs operands in.
const SHAPE: TransformerXlShape = TransformerXlShape {
    vocabulary: 60,
    width: 96,
    layers: 2,
    heads: 4,
    feed_forward: 300,
    memory: 30,
    activation: Activation::Gelu,
    dropout: 0.1,
    adaptive: None,
};
const STREAMS: usize = 3;

fn network(shape: &TransformerXlShape) -> TransformerXl {
    let linears = shape.layers().into_iter().map(|(name, [outputs, inputs])| {
        let total = outputs * inputs;
        let plan = LayerPlan::Sparse {
            counts: Counts { active: total / 10, backward: total / 5 },
            topology: Topology::TopKast(Explore::Magnitude),
            init: Init::kaiming_normal(Scale::Active),
            reservoir: ReservoirKind::Implicit,
        };
        Linear::new(outputs, inputs, &plan, Seed::new(1).named(&name)).unwrap()
    });
    TransformerXl::from_layers(shape, linears.collect(), Seed::new(1))
}

#[test]
fn steps_allocate_nothing() {
    nothing_allocated(&SHAPE);
    // Narrower, as projections are dense, too.
    let adaptive = Some(Clusters { cutoffs: vec![9, 30], div_value: 2 });
    nothing_allocated(&TransformerXlShape { width: 48, adaptive, ..SHAPE });
}

fn nothing_allocated(shape: &TransformerXlShape) {
    let ids: Vec<u32> = (0..STREAMS as u32 * 40).map(|at| at * 7 % SHAPE.vocabulary as u32).collect();
    let tokens = Tokens { ids: &ids, streams: STREAMS };
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.broadcast(|_| ()); // Starting its threads allocates.
        pool.install(|| {
            for isa in Isa::available() {
                let mut network = network(shape);
                for step in 0..5 {
                    let ((), allocated) = allocated_by(|| {
                        network.forward(isa, tokens, Mode::Train(Seed::new(step)));
                        network.loss(isa, &ids, 0.0, true);
                        network.backward(isa, tokens, Gradients::All);
                    });
                    // The first sees no memory, the second as much as all that follow.
                    assert!(
                        step < 2 || allocated.count == 0,
                        "{shape:?}, {isa:?}, {threads} threads, step {step}: {allocated:?}"
                    );
                }
            }
        });
    }
}
