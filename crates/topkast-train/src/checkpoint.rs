//! Checkpoints: one safetensors file with everything a run needs to go on.
//!
//! Tensors, for a sparse weight `NAME`: `NAME.active.offsets`, `NAME.active.columns` and the same of `NAME.explore` (the
//! rows of A and B∖A), `NAME.values`, its optimizer state `NAME.first`, `NAME.second`, `NAME.age` where it has any, and
//! the reservoir: where θ is written out `NAME.theta` and a bit an entry, `NAME.dormant`; else, of those entries of C that have
//! been in B, `NAME.dormant.indices` (u64, ascending) and `NAME.dormant.values`. Where A is not what it was at the end of the last
//! epoch, that one is `NAME.epoch.offsets` and `NAME.epoch.columns`. A dense weight or bias has `NAME.values` and its optimizer state. What a
//! Transformer-XL remembers of the text is `memory.L`, the inputs of layer L, feature by feature, and of each stream by stream. The rest
//! ([`State`]) is JSON in the file's metadata under `topkast`. One file, so that replacing it is one rename.

mod tensors;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use topkast::{Counts, Topology};
use topkast_kernels::Csr;
use topkast_nn::{LayerPlan, Linear, Memory, Network, NetworkShape};

use crate::TrainError;
use crate::config::{Config, ReservoirKind};
use crate::files;
use crate::products::{self, LayerProducts};
use crate::task::DataState;
use crate::weights::Fingerprint;

/// The version of the layout; another one is refused.
const FORMAT: u32 = 2;
const METADATA_KEY: &str = "topkast";

/// What every version says of a checkpoint, whatever else it does.
#[derive(Deserialize)]
struct Written {
    format: u32,
}

/// What a checkpoint holds besides tensors.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    format: u32,
    /// The run's config, as TOML.
    pub config: String,
    /// Steps done.
    pub step: u64,
    /// Seconds spent training so far.
    pub seconds: f64,
    /// What the network was trained on.
    pub data: DataState,
    /// What the layers compute with, where that has been decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub products: Vec<LayerProducts>,
    /// Which file of weights the run began with, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Fingerprint>,
}

impl State {
    /// The state of a run after `step` steps.
    pub fn new(
        config: &Config,
        step: u64,
        seconds: f64,
        data: DataState,
        products: &[LayerProducts],
    ) -> Self {
        Self {
            format: FORMAT,
            config: config.to_text(),
            step,
            seconds,
            data,
            products: products.to_vec(),
            weights: None,
        }
    }
}

/// A checkpoint read from a file, its header checked.
pub struct Checkpoint {
    path: std::path::PathBuf,
    bytes: Vec<u8>,
    /// What it holds besides tensors.
    pub state: State,
    /// The run's config.
    pub config: Config,
}

/// Writes a checkpoint, with A of every sparse layer at the end of the last epoch in `masks`; the one that was there survives until this one is whole and on disk.
///
/// # Errors
/// If the file cannot be written.
pub fn save(path: &Path, network: &mut Network, masks: &[Csr], state: &State) -> Result<(), TrainError> {
    let json = serde_json::to_string(state).expect("a state is plain data");
    let metadata = HashMap::from([(METADATA_KEY.to_owned(), json)]);
    let tensors = tensors::of(network, masks);
    files::replace(path, |temporary| tensors::write(tensors, metadata, temporary))
        .map_err(TrainError::write(path))
}

/// Layers chosen for together have |A| and |B| from the file, but not in total.
fn check_total(network: &mut Network, all: Counts) -> Result<(), String> {
    let weights = network.sparse_weights();
    let sum = |of: fn(Counts) -> usize| weights.iter().map(|weight| of(weight.counts())).sum::<usize>();
    for (what, got, want) in [
        ("active", sum(|counts| counts.active), all.active),
        ("backward", sum(|counts| counts.backward), all.backward),
    ] {
        if got != want {
            return Err(format!("all sparse layers together: {got} {what} entries, {want} expected"));
        }
    }
    Ok(())
}

/// Layers that snip or pruning decide have any |A| from the file, but the first can be of one size only, and the others have no
/// fewer than at the end.
fn check_sizes(network: &mut Network, plans: &[LayerPlan]) -> Result<(), String> {
    for ((name, linear), plan) in network.linears().zip(plans) {
        let (Linear::Sparse(layer), LayerPlan::Sparse { counts, topology, .. }) = (linear, plan) else {
            continue;
        };
        let (got, want) = (layer.weight.counts().active, counts.active);
        match topology {
            Topology::Snip if got != want => {
                return Err(format!("`{name}`: {got} active entries, {want} expected"));
            }
            Topology::Pruning if got < want => {
                return Err(format!("`{name}`: {got} active entries, at least {want} expected"));
            }
            _ => layer.settle_products(),
        }
    }
    Ok(())
}

impl Checkpoint {
    /// Reads the checkpoint at `path`.
    ///
    /// # Errors
    /// If it cannot be read, is cut off or damaged, or was written by another version.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let bytes = fs::read(path).map_err(|error| TrainError::checkpoint(path, error))?;
        let broken = |problem: &dyn std::fmt::Display| {
            TrainError::checkpoint(path, format!("not a whole Topkast checkpoint: {problem}"))
        };
        // Checks that the tensors described fill the file exactly, so a file cut anywhere is found out here.
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| broken(&error))?;
        SafeTensors::deserialize(&bytes).map_err(|error| broken(&error))?;
        let json = header.metadata().as_ref().and_then(|metadata| metadata.get(METADATA_KEY));
        let json = json.ok_or_else(|| broken(&"its metadata has no `topkast` entry"))?;
        let Written { format } = serde_json::from_str(json).map_err(|error| broken(&error))?;
        if format != FORMAT {
            let problem = format!("written in format {format}, this version reads {FORMAT}");
            return Err(TrainError::checkpoint(path, problem));
        }
        let state: State = serde_json::from_str(json).map_err(|error| broken(&error))?;
        if !(state.seconds.is_finite() && state.seconds >= 0.0) {
            return Err(broken(&"its running time is not a time"));
        }
        let config = Config::from_text(&state.config, &path.display().to_string())?;
        if !state.data.fits(config.data.kind) {
            return Err(broken(&"its data are not of the kind that its config says"));
        }
        Ok(Self { path: path.to_owned(), bytes, state, config })
    }

    /// Checks that the file is long enough for the network its config describes, so that a damaged config does not
    /// decide how much memory making that network takes.
    ///
    /// # Errors
    /// If it is not, or the config describes no network.
    pub(crate) fn check_length(&self, inputs: usize, classes: usize) -> Result<(), TrainError> {
        let shape = self.config.shape(inputs, classes);
        let plans = self.config.plans(&shape)?;
        let embedding = (size_of::<f32>() as u64).saturating_mul(self.config.model.embedding(classes)?);
        // Of layers chosen for together the plans say nothing.
        let mut least =
            self.config.global_counts(&shape)?.map_or(0, |all| size_of::<f32>() as u64 * all.backward as u64);
        least = least.saturating_add(embedding);
        for ((_, [rows, width]), plan) in shape.layers().into_iter().zip(plans) {
            let (rows, all) = (rows as u64, rows as u64 * width as u64);
            let numbers = match plan {
                LayerPlan::Sparse { topology, counts, .. } if !topology.has_reservoir() => {
                    counts.active as u64
                }
                LayerPlan::Sparse { counts, .. } => match self.config.sparsity.reservoir {
                    ReservoirKind::Implicit | ReservoirKind::Mmap => counts.backward as u64,
                    ReservoirKind::Dense => all,
                },
                LayerPlan::Dense { .. } => all,
            };
            least = least.saturating_add(size_of::<f32>() as u64 * (numbers + rows));
        }
        if (self.bytes.len() as u64) < least {
            let problem = "too short for the network that its config describes";
            return Err(TrainError::checkpoint(&self.path, problem));
        }
        Ok(())
    }

    /// Gives a network that reads text what it remembers.
    fn restore_memory(
        &self,
        tensors: &SafeTensors<'_>,
        shape: &NetworkShape,
        network: &mut Network,
    ) -> Result<(), String> {
        let (NetworkShape::TransformerXl(shape), Network::TransformerXl(network)) = (shape, network) else {
            return Ok(());
        };
        let layers = tensors::memory(tensors, shape)?;
        let streams = self.config.train.batch;
        let memory = Memory::from_layers(shape, shape.memory, usize::MAX, streams, layers);
        network.replace_memory(memory.map_err(|error| error.to_string())?);
        Ok(())
    }

    /// Gives `network`, made from the same config and with room for its optimizer state, the checkpoint's contents. Returns A of
    /// every sparse layer as it was at the end of the last epoch.
    ///
    /// # Errors
    /// If a tensor is missing, too many, of another type or size, or describes no valid pattern.
    pub fn restore(&self, network: &mut Network) -> Result<Vec<Csr>, TrainError> {
        let tensors = SafeTensors::deserialize(&self.bytes).expect("checked when it was read");
        let shape = self.config.shape(network.inputs(), network.outputs());
        let (all, plans) = (self.config.global_counts(&shape)?, self.config.plans(&shape)?);
        tensors::restore(&tensors, network, self.config.optimizer.hyper().moments())
            .and_then(|masks| products::apply(network, &self.state.products).map(|()| masks))
            .and_then(|masks| {
                let checked = match all {
                    Some(all) => check_total(network, all),
                    None => check_sizes(network, &plans),
                };
                checked.map(|()| masks)
            })
            .and_then(|masks| self.restore_memory(&tensors, &shape, network).map(|()| masks))
            .map_err(|problem| TrainError::checkpoint(&self.path, problem))
    }
}
