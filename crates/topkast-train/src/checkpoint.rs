//! Checkpoints: one safetensors file with everything a run needs to go on. `docs/checkpoint.md` in the repository describes it.
//!
//! One file, so that replacing it is one rename. What a run needs besides tensors ([`State`]) is JSON in the file's metadata under `topkast`.

mod container;
mod kept;
mod saver;
mod tensors;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Cursor, Seek, Write};
use std::path::Path;

use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use topkast::reservoir::ReservoirState;
use topkast::{Counts, Reservoir, SparseWeight, Topology};
use topkast_kernels::Csr;
use topkast_nn::{LayerPlan, Linear, Memory, Network, NetworkShape};

use crate::TrainError;
use crate::config::{Config, ReservoirKind};
use crate::files;
use crate::products::{self, LayerProducts};
use crate::task::DataState;
use crate::weights::Fingerprint;

pub use container::seal;
pub(crate) use saver::Saver;

/// The version of the layout that is written.
const FORMAT: u32 = 3;
/// The first version that is still read; the same without a checksum.
const OLDEST: u32 = 2;
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
    /// The best score so far, if there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
    /// Steps in a row that were left out, the last one included, because something was not finite.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The best score of a run, by the task's metric, on validation or, without any, test data.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// After so many steps.
    pub step: u64,
    /// The metric's value.
    pub value: f64,
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
            best: None,
            left_out: 0,
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
    let file = |temporary: &Path| {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(temporary)?);
        write(network, masks, state, &mut file)?;
        file.flush()
    };
    files::replace(path, file).map_err(TrainError::write(path))
}

/// As [`save`], into memory: the file's bytes. What is in `image` gives way to them, and its room is used again.
pub(crate) fn save_into(image: &mut Vec<u8>, network: &mut Network, masks: &[Csr], state: &State) {
    let (tensors, metadata) = contents(network, masks, state);
    image.clear();
    // Exactly, for doubling would set aside twice as much.
    image.reserve_exact(
        container::size(&tensors) + 2 * metadata.values().map(String::len).sum::<usize>() + 256,
    );
    container::write(tensors, metadata, &mut Cursor::new(image))
        .expect("there is no error in writing to memory");
}

/// Whether some layer's θ is written out in memory: then a checkpoint is no smaller than a dense weight.
pub(crate) fn is_dense(network: &mut Network) -> bool {
    let theta = |weight: &mut SparseWeight| {
        matches!(weight.reservoir().map(Reservoir::state), Some(ReservoirState::Dense { .. }))
    };
    network.sparse_weights().into_iter().any(theta)
}

fn write(
    network: &mut Network,
    masks: &[Csr],
    state: &State,
    sink: &mut (impl Write + Seek),
) -> io::Result<()> {
    let (tensors, metadata) = contents(network, masks, state);
    container::write(tensors, metadata, sink)
}

fn contents<'a>(
    network: &'a mut Network,
    masks: &'a [Csr],
    state: &State,
) -> (container::Named<'a>, HashMap<String, String>) {
    let json = serde_json::to_string(state).expect("a state is plain data");
    (tensors::of(network, masks), HashMap::from([(METADATA_KEY.to_owned(), json)]))
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
        let (header_len, header) = SafeTensors::read_metadata(&bytes).map_err(|error| broken(&error))?;
        SafeTensors::deserialize(&bytes).map_err(|error| broken(&error))?;
        let json = header.metadata().as_ref().and_then(|metadata| metadata.get(METADATA_KEY));
        let json = json.ok_or_else(|| broken(&"its metadata has no `topkast` entry"))?;
        let Written { format } = serde_json::from_str(json).map_err(|error| broken(&error))?;
        if !(OLDEST..=FORMAT).contains(&format) {
            let version = env!("CARGO_PKG_VERSION");
            let problem = format!(
                "written in format {format}; this version of Topkast ({version}) reads {OLDEST} to {FORMAT}: use the one that wrote it"
            );
            return Err(TrainError::checkpoint(path, problem));
        }
        let summed = container::check(&bytes, header_len).map_err(|problem| broken(&problem))?;
        if !summed && format > OLDEST {
            return Err(broken(&"its metadata has no `crc32c` entry"));
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
    pub(crate) fn check_length(&self, input: [usize; 3], classes: usize) -> Result<(), TrainError> {
        let shape = self.config.shape(input, classes);
        let plans = self.config.plans(&shape)?;
        let embedding = (size_of::<f32>() as u64).saturating_mul(self.config.model.embedding(classes)?);
        // Of layers chosen for together the plans say nothing.
        let mut least =
            self.config.global_counts(&shape)?.map_or(0, |all| size_of::<f32>() as u64 * all.backward as u64);
        least = least.saturating_add(embedding);
        let last = plans.len() - 1;
        for (number, ((_, [rows, width]), plan)) in shape.layers().into_iter().zip(plans).enumerate() {
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
            // A bias, or a norm's gain and bias, mean and variance.
            let vectors = if matches!(shape, NetworkShape::ResNet(_)) && number < last { 4 } else { 1 };
            least = least.saturating_add(size_of::<f32>() as u64 * (numbers + vectors * rows));
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
        let shape = self.config.shape(network.input(), network.outputs());
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
