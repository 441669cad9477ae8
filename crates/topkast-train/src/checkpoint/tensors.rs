//! A network's tensors by name, out and in.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use bytemuck::Pod;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors};
use topkast::reservoir::{DenseReservoir, ReservoirState};
use topkast::{Moments, Parameter, Pattern, Reservoir, SparseWeight};
use topkast_kernels::{Buffer, Columns, Csr};
use topkast_nn::{Mlp, ParameterMut};

#[cfg(target_endian = "big")]
compile_error!("checkpoints are little-endian and read without conversion");

/// A tensor on its way out: a vector.
pub(super) struct Tensor<'a> {
    dtype: Dtype,
    len: usize,
    data: &'a [u8],
}

/// An element type and its name in the file.
trait Element: Pod {
    const DTYPE: Dtype;
}

impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;
}

impl Element for u16 {
    const DTYPE: Dtype = Dtype::U16;
}

impl Element for u32 {
    const DTYPE: Dtype = Dtype::U32;
}

impl Element for u64 {
    const DTYPE: Dtype = Dtype::U64;
}

pub(super) type Named<'a> = Vec<(String, Tensor<'a>)>;

/// Every tensor of a checkpoint of `network`.
pub(super) fn of(network: &mut Mlp) -> Named<'_> {
    let mut out = Vec::new();
    network.visit(&mut |name, parameter| match parameter {
        ParameterMut::Sparse(weight) => push_weight(&mut out, name, weight),
        ParameterMut::Weight { parameter, .. } | ParameterMut::Bias(parameter) => {
            push_parameter(&mut out, name, parameter);
        }
    });
    out
}

/// Writes a safetensors file to `path` itself: the library's own writer goes by way of a file of random name, which a
/// crash would leave behind for ever.
pub(super) fn write(
    mut tensors: Named<'_>,
    metadata: HashMap<String, String>,
    path: &Path,
) -> io::Result<()> {
    // Widest elements first keeps every tensor aligned.
    tensors.sort_by(|(a, left), (b, right)| right.dtype.cmp(&left.dtype).then(a.cmp(b)));
    let mut end = 0;
    let infos = tensors.iter().map(|(name, tensor)| {
        let start = end;
        end += tensor.data.len();
        let info = TensorInfo { dtype: tensor.dtype, shape: vec![tensor.len], data_offsets: (start, end) };
        (name.clone(), info)
    });
    let header = Metadata::new(Some(metadata), infos.collect()).expect("the offsets follow from the lengths");
    let mut header = serde_json::to_string(&header).expect("a header is plain data");
    let padding = header.len().next_multiple_of(8) - header.len();
    header.extend(std::iter::repeat_n(' ', padding));
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    for (_, tensor) in &tensors {
        file.write_all(tensor.data)?;
    }
    file.flush()
}

fn push<'a, T: Element>(out: &mut Named<'a>, name: &str, part: &str, data: &'a [T]) {
    let tensor = Tensor { dtype: T::DTYPE, len: data.len(), data: bytemuck::cast_slice(data) };
    out.push((format!("{name}.{part}"), tensor));
}

fn push_parameter<'a>(out: &mut Named<'a>, name: &str, parameter: &'a Parameter) {
    push(out, name, "values", &parameter.values);
    let Moments { first, second, age } = &parameter.moments;
    if !first.is_empty() {
        push(out, name, "first", first);
    }
    if !second.is_empty() {
        push(out, name, "second", second);
        push(out, name, "age", age);
    }
}

fn push_weight<'a>(out: &mut Named<'a>, name: &str, weight: &'a SparseWeight) {
    push_parameter(out, name, weight.parameter());
    for (set, csr) in [("active", weight.pattern().active()), ("explore", weight.pattern().explore())] {
        push(out, name, &format!("{set}.offsets"), csr.offsets());
        match csr.columns() {
            Columns::U16(columns) => push(out, name, &format!("{set}.columns"), columns),
            Columns::U32(columns) => push(out, name, &format!("{set}.columns"), columns),
        }
    }
    match weight.reservoir().map(Reservoir::state) {
        Some(ReservoirState::Dense { theta, dormant }) => {
            push(out, name, "theta", theta);
            push(out, name, "dormant", dormant);
        }
        None => {}
    }
}

/// Reads tensors by name and keeps count of those nobody asked for.
struct Source<'a> {
    tensors: &'a SafeTensors<'a>,
    used: HashSet<String>,
}

/// Gives every parameter of `network` its tensors.
pub(super) fn restore(tensors: &SafeTensors<'_>, network: &mut Mlp) -> Result<(), String> {
    let mut source = Source { tensors, used: HashSet::new() };
    let mut result = Ok(());
    network.visit(&mut |name, parameter| {
        if result.is_ok() {
            result = match parameter {
                ParameterMut::Sparse(weight) => source.weight(name, weight),
                ParameterMut::Weight { parameter, .. } | ParameterMut::Bias(parameter) => {
                    source.dense_parameter(name, parameter)
                }
            };
        }
    });
    result?;
    match tensors.names().into_iter().find(|name| !source.used.contains(*name)) {
        Some(name) => Err(format!("tensor `{name}` belongs to no parameter of the configured network")),
        None => Ok(()),
    }
}

impl Source<'_> {
    fn required<T: Element>(&mut self, name: &str, part: &str) -> Result<Vec<T>, String> {
        let full = format!("{name}.{part}");
        let view = self.tensors.tensor(&full).map_err(|_| format!("tensor `{full}` is missing"))?;
        if view.dtype() != T::DTYPE || view.shape().len() != 1 {
            return Err(format!("tensor `{full}` must be a vector of {:?}", T::DTYPE));
        }
        self.used.insert(full);
        Ok(bytemuck::pod_collect_to_vec(view.data()))
    }

    /// Trained numbers, none of which is infinite or NaN when it is saved.
    fn numbers(&mut self, name: &str, part: &str) -> Result<Vec<f32>, String> {
        let numbers: Vec<f32> = self.required(name, part)?;
        match numbers.iter().position(|number| !number.is_finite()) {
            Some(at) => Err(format!("tensor `{name}.{part}` holds {} at {at}", numbers[at])),
            None => Ok(numbers),
        }
    }

    /// A parameter with the moments that `like` has, as the optimizer goes on with just these.
    fn parameter(&mut self, name: &str, like: &Parameter) -> Result<Parameter, String> {
        let mut parameter = Parameter::new(Buffer::from(&self.numbers(name, "values")?[..]));
        if !like.moments.first.is_empty() {
            parameter.moments.first = Buffer::from(&self.numbers(name, "first")?[..]);
        }
        if !like.moments.second.is_empty() {
            parameter.moments.second = Buffer::from(&self.numbers(name, "second")?[..]);
            parameter.moments.age = self.required(name, "age")?;
        }
        Ok(parameter)
    }

    fn dense_parameter(&mut self, name: &str, parameter: &mut Parameter) -> Result<(), String> {
        let restored = self.parameter(name, parameter)?;
        let lengths = |Parameter { values, moments: Moments { first, second, age }, .. }: &Parameter| {
            [("values", values.len()), ("first", first.len()), ("second", second.len()), ("age", age.len())]
        };
        for ((part, got), (_, want)) in lengths(&restored).into_iter().zip(lengths(parameter)) {
            if got != want {
                return Err(format!(
                    "tensor `{name}.{part}` has {got} elements where the network has {want}"
                ));
            }
        }
        *parameter = restored;
        Ok(())
    }

    fn weight(&mut self, name: &str, weight: &mut SparseWeight) -> Result<(), String> {
        let width = weight.pattern().width();
        let active = self.csr(name, "active", width)?;
        let explore = self.csr(name, "explore", width)?;
        let pattern = Pattern::new(active, explore).map_err(|error| format!("`{name}`: {error}"))?;
        let parameter = self.parameter(name, weight.parameter())?;
        let reservoir = match weight.reservoir() {
            Some(_) => {
                let (theta, dormant) = (self.numbers(name, "theta")?, self.required(name, "dormant")?);
                let reservoir = DenseReservoir::from_state(theta, dormant);
                let reservoir = reservoir.map_err(|error| format!("`{name}`: {error}"))?;
                Some(Box::new(reservoir) as Box<dyn Reservoir>)
            }
            None => None,
        };
        weight.restore(pattern, parameter, reservoir).map_err(|error| format!("`{name}`: {error}"))
    }

    fn csr(&mut self, name: &str, set: &str, width: usize) -> Result<Csr, String> {
        let offsets = self.required(name, &format!("{set}.offsets"))?;
        let part = format!("{set}.columns");
        let columns = if width <= 1 << 16 {
            self.required::<u16>(name, &part)?.into_iter().map(u32::from).collect()
        } else {
            self.required::<u32>(name, &part)?
        };
        Csr::new(width, offsets, columns).map_err(|error| format!("`{name}.{set}`: {error}"))
    }
}
