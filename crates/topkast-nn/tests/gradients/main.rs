//! Forward and backward passes against f64: the forward written naively, the gradients by central differences of it,
//! on every instruction set.

mod adaptive;
mod layers;
mod networks;
mod numbers;
mod tiled;
mod twin;

use topkast::{Counts, Explore, Init, ReservoirKind, Scale, Topology};
use topkast_nn::{Activation, LayerPlan};

const INIT: Init = Init::kaiming_normal(Scale::Active);
const ACTIVATIONS: [Activation; 3] = [Activation::Identity, Activation::Relu, Activation::Gelu];

/// About a third of the weights in A and a third in B∖A.
fn sparse_plan(outputs: usize, inputs: usize, explore: Explore) -> LayerPlan {
    let total = outputs * inputs;
    let counts = Counts { active: total.div_ceil(3), backward: (2 * total).div_ceil(3) };
    LayerPlan::Sparse {
        counts,
        topology: Topology::TopKast(explore),
        init: INIT,
        reservoir: ReservoirKind::Implicit,
    }
}
