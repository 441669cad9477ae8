//! Reading the sparse format. Such files come from strangers: nothing is allocated that the file's length does not justify.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use bytemuck::pod_collect_to_vec;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use topkast::{Parameter, Seed, SparseWeight};
use topkast_kernels::{Buffer, Csr, Isa};
use topkast_nn::{DenseLinear, Linear, Network, NetworkShape, ParameterMut, SparseLinear};

use super::{About, METADATA_KEY, VERSION, gaps};
use crate::checkpoint::State;
use crate::config::{Config, DataConfig};
use crate::{TrainError, Trained};

/// The longest header that the library reads.
const LONGEST_HEADER: u64 = 100_000_000;

/// Numbers of a batch of images at most, where that is more than one.
const LARGEST_BATCH: usize = 1 << 22;

/// What every version says of an export, whatever else it does.
#[derive(Deserialize)]
struct Written {
    format: String,
    version: u32,
}

/// The network in the export at `path`; none if the file is something else.
///
/// # Errors
/// If it cannot be read, is cut off or damaged, or was written in another format or by another version.
pub(crate) fn read(path: &Path) -> Result<Option<Trained>, TrainError> {
    let failed = |problem: &dyn std::fmt::Display| TrainError::export(path, problem);
    if !is_export(path).map_err(|error| failed(&error))? {
        return Ok(None);
    }
    let bytes = fs::read(path).map_err(|error| failed(&error))?;
    let broken = |problem: &dyn std::fmt::Display| failed(&format!("not a whole Topkast export: {problem}"));
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| broken(&error))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| broken(&error))?;
    let about = header.metadata().as_ref().and_then(|metadata| metadata.get(METADATA_KEY));
    let about = self::about(about.ok_or_else(|| broken(&"it does not say what it is"))?)
        .map_err(|problem| broken(&problem))?;
    let data = DataConfig { kind: about.data_kind, path: String::new(), ..DataConfig::default() };
    let mut config = Config { data, model: about.model.clone(), ..Config::default() };
    // Images are scored so many at a time, of which the largest leave room for fewer.
    config.train.batch = about.data.image_shape().map_or(config.train.batch, |shape| {
        let pixels = shape.checked_features().unwrap_or(usize::MAX).max(1);
        (LARGEST_BATCH / pixels).clamp(1, config.train.batch)
    });
    config.check().map_err(|error| broken(&error))?;
    let network = network(&tensors, &about, &config).map_err(|problem| broken(&problem))?;
    let state = State::new(&config, about.step, 0.0, about.data, &[]);
    Ok(Some(Trained { network, state, config, exported: true, isa: Isa::current()? }))
}

/// Whether the file says that it is an export; no more is read than its header.
fn is_export(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let mut length = [0; 8];
    if file.read_exact(&mut length).is_err() || u64::from_le_bytes(length) > LONGEST_HEADER {
        return Ok(false);
    }
    let mut header = Vec::new();
    file.take(u64::from_le_bytes(length)).read_to_end(&mut header)?;
    let key = METADATA_KEY.as_bytes();
    Ok(header.windows(key.len()).any(|part| part == key))
}

fn about(json: &str) -> Result<About, String> {
    let Written { format, version } = serde_json::from_str(json).map_err(|error| error.to_string())?;
    if format != "sparse" {
        let mend = "export the run again with --format sparse";
        return Err(format!("its format is `{format}`, which Topkast does not read back; {mend}"));
    }
    if version != VERSION {
        return Err(format!("written in version {version}, this one reads {VERSION}"));
    }
    serde_json::from_str(json).map_err(|error| error.to_string())
}

/// The network that the file describes, with what the file holds.
fn network(tensors: &SafeTensors<'_>, about: &About, config: &Config) -> Result<Network, String> {
    if !about.data.fits(about.data_kind) {
        return Err("its data are not of the kind that it says".to_owned());
    }
    let (input, outputs) = about.data.sizes()?;
    let shape = config.shape(input, outputs);
    if let NetworkShape::ResNet(shape) = &shape
        && !shape.fits(config.train.batch)
    {
        return Err("its images are too large for its network".to_owned());
    }
    let embedding = config.model.embedding(outputs).map_err(|error| error.to_string())?;
    let mut source = Source { tensors, used: HashSet::new() };
    source.check_length(&shape, about, embedding)?;
    let layer = |(name, size): (String, [usize; 2])| source.layer(&name, size, about);
    let linears = shape.layers().into_iter().map(layer).collect::<Result<_, _>>()?;
    let mut network = Network::from_layers(&shape, linears, Seed::new(0));
    source.fill(&mut network)?;
    source.check_all_used()?;
    Ok(network)
}

/// Reads tensors by name and keeps count of those nobody asked for.
struct Source<'a> {
    tensors: &'a SafeTensors<'a>,
    used: HashSet<String>,
}

impl<'a> Source<'a> {
    /// Checks that the file is long enough for the network that it describes, whose table of tokens has so many numbers, and that
    /// its sparse weights are that network's.
    fn check_length(&self, shape: &NetworkShape, about: &About, embedding: u64) -> Result<(), String> {
        let mut unknown: BTreeSet<&str> = about.sparse.keys().map(String::as_str).collect();
        let mut numbers = embedding;
        let layers = shape.layers();
        let last = layers.len() - 1;
        for (number, (name, [rows, width])) in layers.into_iter().enumerate() {
            let weight = format!("{name}.weight");
            let found = about.sparse.get(&weight);
            if let Some(found) = found
                && *found != [rows, width]
            {
                return Err(format!("`{weight}` is {found:?} where the network has [{rows}, {width}]"));
            }
            unknown.remove(weight.as_str());
            let weights = if found.is_some() { 0 } else { (rows as u64).saturating_mul(width as u64) };
            // A bias, or a norm's gain and bias, mean and variance.
            let vectors = if matches!(shape, NetworkShape::ResNet(_)) && number < last { 4 } else { 1 };
            numbers = numbers.saturating_add(weights).saturating_add(vectors * rows as u64);
        }
        if let Some(name) = unknown.first() {
            return Err(format!("the network has no weight `{name}` that could be sparse"));
        }
        let held = self.tensors.tensors().iter().map(|(_, tensor)| tensor.data().len() as u64).sum::<u64>();
        if numbers.saturating_mul(4) > held {
            return Err("too short for the network that it describes".to_owned());
        }
        Ok(())
    }

    fn tensor(&mut self, name: &str) -> Result<TensorView<'a>, String> {
        let tensor = self.tensors.tensor(name).map_err(|_| format!("tensor `{name}` is missing"))?;
        self.used.insert(name.to_owned());
        Ok(tensor)
    }

    /// Finite numbers.
    fn numbers(&mut self, name: &str) -> Result<(Vec<usize>, Vec<f32>), String> {
        let tensor = self.tensor(name)?;
        if tensor.dtype() != Dtype::F32 {
            return Err(format!("tensor `{name}` must be F32, not {}", tensor.dtype()));
        }
        let numbers: Vec<f32> = pod_collect_to_vec(tensor.data());
        match numbers.iter().position(|number| !number.is_finite()) {
            Some(at) => Err(format!("tensor `{name}` holds {} at {at}", numbers[at])),
            None => Ok((tensor.shape().to_vec(), numbers)),
        }
    }

    /// Finite numbers in this shape.
    fn shaped(&mut self, name: &str, want: &[usize]) -> Result<Buffer, String> {
        let (shape, numbers) = self.numbers(name)?;
        if shape != want {
            return Err(format!("tensor `{name}` is {shape:?} where the network has {want:?}"));
        }
        Ok(Buffer::from(&numbers[..]))
    }

    /// A layer with its weight, if that is sparse; what is dense is filled in later.
    fn layer(&mut self, name: &str, [rows, width]: [usize; 2], about: &About) -> Result<Linear, String> {
        let weight = format!("{name}.weight");
        let bias = Buffer::zeros(rows);
        Ok(if about.sparse.contains_key(&weight) {
            Linear::Sparse(SparseLinear::new(self.sparse(&weight, [rows, width])?, bias))
        } else {
            Linear::Dense(DenseLinear::new(Buffer::zeros(rows * width), bias))
        })
    }

    fn sparse(&mut self, name: &str, [rows, width]: [usize; 2]) -> Result<SparseWeight, String> {
        let (shape, by_row) = self.numbers(&format!("{name}.values"))?;
        if shape.len() != 1 {
            return Err(format!("tensor `{name}.values` must be a vector, not {shape:?}"));
        }
        let gaps = self.tensor(&format!("{name}.gaps"))?;
        let of_gaps = |problem| format!("tensor `{name}.gaps` {problem}");
        let (offsets, columns) =
            gaps::read(gaps.dtype(), gaps.data(), by_row.len(), [rows, width]).map_err(of_gaps)?;
        let csr = Csr::new(width, offsets, columns).map_err(|error| format!("`{name}`: {error}"))?;
        let mut values = Buffer::zeros(by_row.len());
        csr.entries_by_row().zip(by_row).for_each(|(entry, value)| values[entry] = value);
        SparseWeight::fixed(csr, values).map_err(|error| format!("`{name}`: {error}"))
    }

    /// Gives the network what is dense, without room for gradients.
    fn fill(&mut self, network: &mut Network) -> Result<(), String> {
        let mut result = Ok(());
        network.visit(&mut |name, parameter| {
            if result.is_err() {
                return;
            }
            let length = parameter.values().len();
            result = match parameter {
                ParameterMut::Sparse(_) => Ok(()),
                ParameterMut::Weight { parameter, shape } => self.shaped(name, &shape).map(|values| {
                    *parameter = Parameter { values, ..Parameter::default() };
                }),
                ParameterMut::Bias(parameter) => self.shaped(name, &[length]).map(|values| {
                    *parameter = Parameter { values, ..Parameter::default() };
                }),
                ParameterMut::Statistic(values) => self.shaped(name, &[length]).map(|read| *values = read),
            };
        });
        result
    }

    fn check_all_used(&self) -> Result<(), String> {
        let names = self.tensors.names().into_iter();
        match names.filter(|name| !self.used.contains(*name)).min() {
            Some(name) => Err(format!("tensor `{name}` belongs to no parameter of the network")),
            None => Ok(()),
        }
    }
}
