//! Exports: what a trained network computes with, for use elsewhere. See `docs/export.md`.

mod container;
mod dense;
mod gaps;
mod held;
mod onnx;
mod read;
mod sparse;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use topkast_nn::NetworkShape;

use crate::config::{DataKind, ModelConfig};
use crate::task::DataState;
use crate::{TrainError, Trained};

pub(crate) use read::read;

/// The version of the sparse format; another one is refused.
const VERSION: u32 = 1;
/// Where files say what they are, in the container's metadata.
const METADATA_KEY: &str = "topkast-export";

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Safetensors with the non-zeros: what Topkast reads back.
    Sparse,
    /// Safetensors with PyTorch's names and shapes, zeros written out.
    Dense,
    /// A graph, zeros written out.
    Onnx,
}

/// What a safetensors file says of itself.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct About {
    format: String,
    version: u32,
    step: u64,
    model: ModelConfig,
    data_kind: DataKind,
    data: DataState,
    /// The shapes of sparse weights.
    sparse: BTreeMap<String, Vec<usize>>,
}

impl About {
    fn of(trained: &Trained, format: &str) -> Self {
        let mut model = trained.config.model.clone();
        // Where it began is no part of what it became.
        if let ModelConfig::Mlp(model) = &mut model {
            model.weights.clear();
        }
        Self {
            format: format.to_owned(),
            version: VERSION,
            step: trained.state.step,
            model,
            data_kind: trained.config.data.kind,
            data: trained.state.data.clone(),
            sparse: BTreeMap::new(),
        }
    }
}

impl Trained {
    /// Writes what the network computes with to `path`; returns the bytes of the file. Of a format with zeros written out no more than
    /// `largest` bytes.
    ///
    /// # Errors
    /// If it would be larger, the format cannot express the network, or the file cannot be written.
    pub fn export(&mut self, format: Format, path: &Path, largest: u64) -> Result<u64, TrainError> {
        match format {
            Format::Sparse => sparse::write(self, path),
            Format::Dense => dense::write(self, path, largest),
            Format::Onnx => onnx::write(self, path, largest),
        }?;
        let metadata = std::fs::metadata(path).map_err(TrainError::write(path))?;
        Ok(metadata.len())
    }
}

impl Trained {
    /// The network's sizes.
    fn shape(&self) -> NetworkShape {
        self.config.shape(self.network.input(), self.network.outputs())
    }
}

/// Refuses a file of `bytes` if that is more than `largest`.
fn check_size(path: &Path, bytes: u64, largest: u64) -> Result<(), TrainError> {
    if bytes <= largest {
        return Ok(());
    }
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let problem = format!(
        "with its zeros written out the network takes {:.1} GiB, more than {:.1} GiB; --largest {} allows it, --format sparse \
         leaves the zeros out",
        gib(bytes),
        gib(largest),
        gib(bytes).ceil(),
    );
    Err(TrainError::export(path, problem))
}
