//! Weights that a network starts from: a safetensors file with a tensor for each layer's weight, and one for each bias that does
//! not start at zero.
//!
//! The file is mapped into memory. So what is only looked up stays in it (`sparsity.reservoir = "mmap"`), and nothing is allocated
//! that its size does not justify. Advice to the kernel (sequential, will need, huge pages) made no pass over it faster.

mod fingerprint;
mod layer;

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors};
use thiserror::Error;
use topkast_nn::{Network, NetworkShape};

pub use fingerprint::Fingerprint;
use layer::GivenLayer;

use crate::message::one_line;
use crate::{Config, TrainError};

/// What is wrong with a file of weights, and what to do about it: one line each.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum WeightsError {
    #[error("cannot read {}, which model.weights names (to resume needs it, too): {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: not a whole safetensors file: {problem}", path.display())]
    Format { path: PathBuf, problem: String },
    #[error("{}: there is no tensor `{name}`; the network needs one of shape {shape:?}", path.display())]
    Missing { path: PathBuf, name: String, shape: Vec<usize> },
    #[error("{}: tensor `{name}` has type {found}; convert it to F32", path.display())]
    Type { path: PathBuf, name: String, found: String },
    #[error("{}: tensor `{name}` has shape {found:?} where the network has {expected:?}", path.display())]
    Shape { path: PathBuf, name: String, found: Vec<usize>, expected: Vec<usize> },
    #[error("{}: tensor `{name}` holds {value} at element {at}; weights must be finite", path.display())]
    Value { path: PathBuf, name: String, value: f32, at: usize },
    #[error(
        "{}: tensor `{name}` belongs to no layer; there are {layers}, each with .weight and perhaps .bias: rename it, or leave it \
         out of the file", path.display()
    )]
    Unknown { path: PathBuf, name: String, layers: String },
    #[error(
        "{}: tensor `{name}` is not at a multiple of 4 bytes; save the file again with safetensors 0.3.1 or later, which aligns \
         tensors", path.display()
    )]
    Alignment { path: PathBuf, name: String },
}

/// A file of weights, its header checked.
struct WeightsFile {
    path: PathBuf,
    map: Arc<Mmap>,
    header: Metadata,
    /// Where the tensors begin.
    start: usize,
}

/// A tensor of F32 in a file, aligned.
#[derive(Clone)]
struct MappedTensor {
    map: Arc<Mmap>,
    bytes: Range<usize>,
}

impl AsRef<[f32]> for MappedTensor {
    fn as_ref(&self) -> &[f32] {
        bytemuck::cast_slice(&self.map[self.bytes.clone()])
    }
}

impl WeightsFile {
    /// Maps the file at `path` and reads its header.
    ///
    /// Nobody may change or cut off the file as long as it is mapped. What is read of changed bytes is what they are then, so that
    /// training is no longer reproducible; to read what has been cut off ends the process (SIGBUS).
    ///
    /// # Errors
    /// If it is no file that can be read, or its header does not describe exactly the bytes that it has.
    fn open(path: &Path) -> Result<Self, WeightsError> {
        let map = map(path).map_err(|source| WeightsError::Read { path: path.to_owned(), source })?;
        let (header_len, header) = SafeTensors::read_metadata(&map)
            .map_err(|error| WeightsError::Format { path: path.to_owned(), problem: one_line(&error) })?;
        Ok(Self { path: path.to_owned(), map: Arc::new(map), header, start: size_of::<u64>() + header_len })
    }

    /// What tells this file from others.
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.map, self.start)
    }

    /// What the file has for each layer of `shape`, all of it read once and checked.
    ///
    /// # Errors
    /// If a weight is missing, a tensor belongs to no layer, is not F32 or not of its layer's shape, or holds a value that is not
    /// finite.
    fn layers(&self, shape: &NetworkShape) -> Result<Vec<GivenLayer>, WeightsError> {
        let sizes = shape.layers();
        let mut known = 0;
        let mut layers = Vec::with_capacity(sizes.len());
        for (name, [outputs, inputs]) in &sizes {
            let (weight_name, shape) = (format!("{name}.weight"), [*outputs, *inputs]);
            let weight = self.tensor(&weight_name, &shape)?.ok_or_else(|| WeightsError::Missing {
                path: self.path.clone(),
                name: weight_name,
                shape: shape.into(),
            })?;
            let bias = self.tensor(&format!("{name}.bias"), &[*outputs])?;
            known += 1 + usize::from(bias.is_some());
            layers.push(GivenLayer { weight, bias });
        }
        if known < self.header.tensors().len() {
            return Err(self.unknown(&sizes));
        }
        for ((name, _), GivenLayer { weight, bias }) in sizes.iter().zip(&layers) {
            self.check_finite(&format!("{name}.weight"), weight)?;
            bias.iter().try_for_each(|bias| self.check_finite(&format!("{name}.bias"), bias))?;
        }
        Ok(layers)
    }

    /// The tensor of this name, which must be F32 and of this shape, if there is one.
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Option<MappedTensor>, WeightsError> {
        let Some(TensorInfo { dtype, shape: found, data_offsets }) = self.header.info(name) else {
            return Ok(None);
        };
        let (path, name) = (self.path.clone(), name.to_owned());
        if *dtype != Dtype::F32 {
            return Err(WeightsError::Type { path, name, found: dtype.to_string() });
        }
        if found != shape {
            return Err(WeightsError::Shape { path, name, found: found.clone(), expected: shape.into() });
        }
        let bytes = self.start + data_offsets.0..self.start + data_offsets.1;
        if bytemuck::try_cast_slice::<u8, f32>(&self.map[bytes.clone()]).is_err() {
            return Err(WeightsError::Alignment { path, name });
        }
        Ok(Some(MappedTensor { map: self.map.clone(), bytes }))
    }

    fn unknown(&self, sizes: &[(String, [usize; 2])]) -> WeightsError {
        let layers: Vec<&str> = sizes.iter().map(|(name, _)| &name[..]).collect();
        let belongs = |tensor: &str| {
            let layer = tensor.strip_suffix(".weight").or_else(|| tensor.strip_suffix(".bias"));
            layer.is_some_and(|layer| layers.contains(&layer))
        };
        let tensors = self.header.tensors();
        let name = tensors.into_keys().filter(|name| !belongs(name)).min();
        let name = name.expect("asked only if there is one");
        WeightsError::Unknown { path: self.path.clone(), name, layers: layers.join(", ") }
    }

    fn check_finite(&self, name: &str, tensor: &MappedTensor) -> Result<(), WeightsError> {
        let values = tensor.as_ref();
        first_not_finite(values).map_or(Ok(()), |at| {
            let (path, name) = (self.path.clone(), name.to_owned());
            Err(WeightsError::Value { path, name, value: values[at], at })
        })
    }
}

fn first_not_finite(values: &[f32]) -> Option<usize> {
    const PART: usize = 1 << 14;
    // Without a branch, for vectors.
    let broken = |part: &[f32]| part.iter().fold(false, |any, value| any | !value.is_finite());
    let before = PART * values.par_chunks(PART).position_first(broken)?;
    values[before..].iter().position(|value| !value.is_finite()).map(|at| before + at)
}

/// The network with which a run of `config` begins, and which file its weights are from, if any.
///
/// # Errors
/// If that file cannot be used, or the config does not fit the data.
pub(crate) fn begin(
    config: &Config,
    input: [usize; 3],
    classes: usize,
) -> Result<(Network, Option<Fingerprint>), TrainError> {
    if config.model.weights().is_empty() {
        return Ok((config.network(input, classes)?, None));
    }
    let file = WeightsFile::open(Path::new(config.model.weights()))?;
    let layers = file.layers(&config.shape(input, classes))?;
    let network = config
        .network_of(input, classes, |number, size, plan, seed| layers[number].linear(size, plan, seed))?;
    Ok((network, Some(file.fingerprint())))
}

/// Whether a run began with the weights that the file at `path` holds now, as what was never touched of C is there only.
///
/// # Errors
/// What is not the same.
pub(crate) fn check_same(
    began: Option<&Fingerprint>,
    now: Option<&Fingerprint>,
    path: &str,
) -> Result<(), String> {
    match (began, now) {
        (_, None) => Ok(()),
        (None, Some(_)) => Err(format!("does not tell which weights it began with, and {path} are given")),
        (Some(began), Some(now)) => now.difference(began).map_or(Ok(()), |what| {
            Err(format!("began with other weights than {path} now holds: they differ in their {what}"))
        }),
    }
}

fn map(path: &Path) -> io::Result<Mmap> {
    // Asked first, as opening a pipe waits for somebody who writes to it.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let file = File::open(path)?;
    // SAFETY: the bytes must stay as they are while they are mapped. We never write to them, and users are told not to; should
    // somebody do so nevertheless, every bit pattern is an f32, and no index or length is taken from the map after its header was
    // copied out of it. Reading what has been cut off is no read of other memory: the system ends the process.
    unsafe { Mmap::map(&file) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_several_values_that_are_not_finite_is_found() {
        let mut values = vec![f32::MAX; 100_000];
        assert_eq!((first_not_finite(&values), first_not_finite(&[])), (None, None));
        for at in [99_999, 70_000, 16_384, 16_383, 0] {
            values[at] = if at % 2 == 0 { f32::NAN } else { f32::INFINITY };
            assert_eq!(first_not_finite(&values), Some(at));
        }
    }
}
