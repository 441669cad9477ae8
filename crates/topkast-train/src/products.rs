//! Whether a sparse layer's products are worth it on this machine: measured once, when training starts.

use serde::{Deserialize, Serialize};
use topkast::Topology;
use topkast_kernels::Isa;
use topkast_nn::{Linear, Network};

use crate::config::{ProductsKind, SparsityConfig};

/// How a layer computes.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Products {
    /// With its non-zeros.
    #[default]
    Sparse,
    /// With all entries, zeros too.
    Dense,
}

/// What was measured of a sparse layer's three products, and which it therefore uses. It is kept in checkpoints, as products
/// of the other kind round otherwise.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LayerProducts {
    /// The layer's name.
    pub name: String,
    /// Milliseconds a step of the sparse products.
    pub sparse_ms: f64,
    /// Milliseconds a step of those of a dense layer of its shape.
    pub dense_ms: f64,
    /// What it computes with.
    pub products: Products,
}

impl LayerProducts {
    /// Whether it computes with sparse products though dense ones are faster.
    pub fn is_slower_than_dense(&self) -> bool {
        self.products == Products::Sparse && self.sparse_ms > self.dense_ms
    }
}

/// Times every sparse layer of `network` at so many `positions` of it, and decides as `config` says. A convolution is timed as the product
/// that it is, of as many inputs as it has with all taps. Takes some hundredths of a
/// second a layer, more only where a step takes long; touches nothing that is trained.
pub(crate) fn measure(
    network: &mut Network,
    isa: Isa,
    positions: &[usize],
    config: &SparsityConfig,
) -> Vec<LayerProducts> {
    let explore = config.explore_until > 0.0;
    let layer = |(number, (name, linear)): (usize, (&str, &mut Linear))| {
        let Linear::Sparse(layer) = linear else { return None };
        if layer.weight.topology() == Topology::Pruning {
            // Its density falls, and with it what would be measured.
            return None;
        }
        let times = layer.time_products(isa, positions[number], number > 0, explore);
        let dense_wins = config.products == ProductsKind::Auto
            && layer.time_copies(explore).is_some_and(|copies| times.dense + copies < times.sparse);
        Some(LayerProducts {
            name: name.to_owned(),
            sparse_ms: to_tenths_of_microseconds(times.sparse),
            dense_ms: to_tenths_of_microseconds(times.dense),
            products: if dense_wins { Products::Dense } else { Products::Sparse },
        })
    };
    network.linears().enumerate().filter_map(layer).collect()
}

/// Few digits, which come through JSON unchanged.
fn to_tenths_of_microseconds(ms: f64) -> f64 {
    (ms * 1e4).round() / 1e4
}

/// Lets the layers of `network` compute as decided.
pub(crate) fn apply(network: &mut Network, products: &[LayerProducts]) -> Result<(), String> {
    for LayerProducts { name, .. } in products.iter().filter(|layer| layer.products == Products::Dense) {
        let found = network.linears().any(|(other, linear)| match linear {
            Linear::Sparse(layer) if other == name => layer.use_dense_products(),
            _ => false,
        });
        if !found {
            return Err(format!("layer `{name}` cannot have dense products"));
        }
    }
    Ok(())
}
