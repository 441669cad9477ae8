//! A network's tensors by name, out and in.
//!
//! In the file, structures are plain compressed rows and everything of length |B| lists A's entries, then those of B∖A,
//! each in row-major order: how entries are ordered in memory follows from how the products work and may change.

use std::collections::HashSet;
use std::io::Write;

use bytemuck::Pod;
use safetensors::{Dtype, SafeTensors};
use topkast::reservoir::{ReservoirState, SavedReservoir};
use topkast::{Moments, Parameter, Pattern, Reservoir, SparseWeight};
use topkast_kernels::{Buffer, Columns, Csr, Matrix};
use topkast_nn::{Network, ParameterMut, TransformerXlShape};

use super::container::{Named, Tensor};

#[cfg(target_endian = "big")]
compile_error!("checkpoints are little-endian and read without conversion");

/// Elements that are gathered before they are written.
const GATHERED: usize = 1024;

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

/// Every tensor of a checkpoint of `network`, whose sparse layers' A was `masks` at the end of the last epoch.
pub(super) fn of<'a>(network: &'a mut Network, masks: &'a [Csr]) -> Named<'a> {
    let (mut out, mut masks) = (remembered(network), masks.iter());
    network.visit(&mut |name, parameter| match parameter {
        ParameterMut::Sparse(weight) => {
            push_weight(&mut out, name, weight);
            let mask = masks.next().expect("one for each sparse layer");
            if mask != weight.pattern().active() {
                push_csr(&mut out, name, "epoch", mask);
            }
        }
        ParameterMut::Weight { parameter, .. } | ParameterMut::Bias(parameter) => {
            push_parameter(&mut out, name, parameter, None);
        }
        ParameterMut::Statistic(values) => push(&mut out, name, "values", values),
    });
    out
}

/// The name of what a layer remembers.
fn memory_name(layer: usize) -> String {
    format!("memory.{layer}")
}

/// What a network that reads text remembers, copied.
fn remembered(network: &Network) -> Named<'static> {
    let Network::TransformerXl(network) = network else { return Vec::new() };
    let tensor = |matrix: &Matrix| {
        let mut values = Vec::with_capacity(matrix.features() * matrix.positions());
        (0..matrix.features()).for_each(|row| values.extend_from_slice(matrix.row(row)));
        let len = values.len();
        let write = Box::new(move |sink: &mut dyn Write| sink.write_all(bytemuck::cast_slice(&values)));
        Tensor { dtype: f32::DTYPE, len, write }
    };
    let layers = network.memory().layers().iter().enumerate();
    layers.map(|(layer, matrix)| (memory_name(layer), tensor(matrix))).collect()
}

/// What [`remembered`] told of a network of this shape, for each layer; nothing where there was no text yet.
pub(super) fn memory(tensors: &SafeTensors<'_>, shape: &TransformerXlShape) -> Result<Vec<Matrix>, String> {
    if tensors.tensor(&memory_name(0)).is_err() {
        return Ok(Vec::new());
    }
    let mut source = Source { tensors, used: HashSet::new(), moments: [false; 2] };
    let layer = |layer: usize| {
        let values = source.numbers("memory", &layer.to_string())?;
        if !values.len().is_multiple_of(shape.width) {
            return Err(format!("tensor `{}` does not have {} features", memory_name(layer), shape.width));
        }
        Ok(Matrix::from_rows(shape.width, values.len() / shape.width, &values))
    };
    (0..shape.layers).map(layer).collect()
}

fn push<'a, T: Element>(out: &mut Named<'a>, name: &str, part: &str, data: &'a [T]) {
    let write = Box::new(|sink: &mut dyn Write| sink.write_all(bytemuck::cast_slice(data)));
    out.push((format!("{name}.{part}"), Tensor { dtype: T::DTYPE, len: data.len(), write }));
}

/// As [`push`], of the elements of `data` that `order` names, one after the other.
fn push_ordered<'a, T: Element, O: Iterator<Item = usize>>(
    out: &mut Named<'a>,
    name: &str,
    part: &str,
    data: &'a [T],
    order: impl Fn() -> O + 'a,
) {
    let write = Box::new(move |sink: &mut dyn Write| {
        let (mut order, mut gathered) = (order(), [T::zeroed(); GATHERED]);
        loop {
            let mut count = 0;
            for (slot, entry) in gathered.iter_mut().zip(&mut order) {
                *slot = data[entry];
                count += 1;
            }
            sink.write_all(bytemuck::cast_slice(&gathered[..count]))?;
            if count < GATHERED {
                return Ok(());
            }
        }
    });
    out.push((format!("{name}.{part}"), Tensor { dtype: T::DTYPE, len: data.len(), write }));
}

/// Pushes what belongs to a parameter, that of a sparse weight in the row-major order of `pattern`.
fn push_parameter<'a>(
    out: &mut Named<'a>,
    name: &str,
    parameter: &'a Parameter,
    pattern: Option<&'a Pattern>,
) {
    fn elements<'a, T: Element>(
        out: &mut Named<'a>,
        name: &str,
        part: &str,
        data: &'a [T],
        pattern: Option<&'a Pattern>,
    ) {
        match pattern {
            Some(pattern) => push_ordered(out, name, part, data, || pattern.entries_by_row()),
            None => push(out, name, part, data),
        }
    }
    elements(out, name, "values", &parameter.values, pattern);
    let Moments { first, second, age } = &parameter.moments;
    if !first.is_empty() {
        elements(out, name, "first", first, pattern);
    }
    if !second.is_empty() {
        elements(out, name, "second", second, pattern);
        elements(out, name, "age", age, pattern);
    }
}

fn push_weight<'a>(out: &mut Named<'a>, name: &str, weight: &'a SparseWeight) {
    push_parameter(out, name, weight.parameter(), Some(weight.pattern()));
    for (set, csr) in [("active", weight.pattern().active()), ("explore", weight.pattern().explore())] {
        push_csr(out, name, set, csr);
    }
    match weight.reservoir().map(Reservoir::state) {
        Some(ReservoirState::Dense { theta, dormant }) => {
            push(out, name, "theta", theta);
            push(out, name, "dormant", dormant);
        }
        Some(ReservoirState::Dormant { indices, values }) => {
            push(out, name, "dormant.indices", indices);
            push(out, name, "dormant.values", values);
        }
        None => {}
    }
}

fn push_csr<'a>(out: &mut Named<'a>, name: &str, set: &str, csr: &'a Csr) {
    push(out, name, &format!("{set}.offsets"), csr.offsets());
    let part = format!("{set}.columns");
    match csr.columns() {
        Columns::U16(columns) => push_ordered(out, name, &part, columns, || csr.entries_by_row()),
        Columns::U32(columns) => push_ordered(out, name, &part, columns, || csr.entries_by_row()),
    }
}

/// Reads tensors by name and keeps count of those nobody asked for.
struct Source<'a> {
    tensors: &'a SafeTensors<'a>,
    used: HashSet<String>,
    /// Which moments the optimizer keeps.
    moments: [bool; 2],
}

/// Gives every parameter of `network` its tensors, among them those of the `moments` that the optimizer keeps. Returns A of every sparse
/// layer at the end of the last epoch.
pub(super) fn restore(
    tensors: &SafeTensors<'_>,
    network: &mut Network,
    moments: [bool; 2],
) -> Result<Vec<Csr>, String> {
    let mut source = Source { tensors, used: HashSet::new(), moments };
    let (mut result, mut masks) = (Ok(()), Vec::new());
    network.visit(&mut |name, parameter| {
        if result.is_ok() {
            result = match parameter {
                ParameterMut::Sparse(weight) => source
                    .weight(name, weight)
                    .and_then(|()| source.mask(name, weight.pattern()))
                    .map(|mask| masks.push(mask)),
                ParameterMut::Weight { parameter, .. } | ParameterMut::Bias(parameter) => {
                    source.dense_parameter(name, parameter)
                }
                ParameterMut::Statistic(values) => source.statistic(name, values),
            };
        }
    });
    result?;
    let layers = match network {
        Network::Mlp(_) | Network::ResNet(_) => 0,
        Network::TransformerXl(network) => network.depth(),
    };
    source.used.extend((0..layers).map(memory_name));
    match tensors.names().into_iter().find(|name| !source.used.contains(*name)) {
        Some(name) => Err(format!("tensor `{name}` belongs to no parameter of the configured network")),
        None => Ok(masks),
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

    /// A parameter with the optimizer's moments, of which one without values has none.
    fn parameter(&mut self, name: &str) -> Result<Parameter, String> {
        let mut parameter = Parameter::new(Buffer::from(&self.numbers(name, "values")?[..]));
        let [first, second] = self.moments.map(|kept| kept && !parameter.values.is_empty());
        if first {
            parameter.moments.first = Buffer::from(&self.numbers(name, "first")?[..]);
        }
        if second {
            parameter.moments.second = Buffer::from(&self.numbers(name, "second")?[..]);
            parameter.moments.age = self.required(name, "age")?;
        }
        Ok(parameter)
    }

    fn dense_parameter(&mut self, name: &str, parameter: &mut Parameter) -> Result<(), String> {
        let restored = self.parameter(name)?;
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

    fn statistic(&mut self, name: &str, values: &mut [f32]) -> Result<(), String> {
        let restored = self.numbers(name, "values")?;
        if restored.len() != values.len() {
            let (got, want) = (restored.len(), values.len());
            return Err(format!("tensor `{name}.values` has {got} elements where the network has {want}"));
        }
        values.copy_from_slice(&restored);
        Ok(())
    }

    fn weight(&mut self, name: &str, weight: &mut SparseWeight) -> Result<(), String> {
        let width = weight.pattern().width();
        let active = self.csr(name, "active", width)?;
        let explore = self.csr(name, "explore", width)?;
        let pattern = Pattern::new(active, explore).map_err(|error| format!("`{name}`: {error}"))?;
        let mut parameter = self.parameter(name)?;
        let Parameter { values, moments: Moments { first, second, age }, .. } = &mut parameter;
        for numbers in [values, first, second] {
            order(numbers, &pattern);
        }
        order(age, &pattern);
        let reservoir = match weight.reservoir().map(Reservoir::state) {
            Some(ReservoirState::Dense { .. }) => {
                let (theta, dormant) = (self.numbers(name, "theta")?, self.required(name, "dormant")?);
                Some(SavedReservoir::Dense { theta, dormant })
            }
            Some(ReservoirState::Dormant { .. }) => {
                let indices = self.required(name, "dormant.indices")?;
                let values = self.numbers(name, "dormant.values")?;
                Some(SavedReservoir::Dormant { indices, values })
            }
            None => None,
        };
        weight.restore(pattern, parameter, reservoir).map_err(|error| format!("`{name}`: {error}"))
    }

    /// A at the end of the last epoch: what it is now where nothing else is said.
    fn mask(&mut self, name: &str, pattern: &Pattern) -> Result<Csr, String> {
        let told = |part| self.tensors.tensor(&format!("{name}.epoch.{part}")).is_ok();
        if !told("offsets") && !told("columns") {
            return Ok(pattern.active().clone());
        }
        let mask = self.csr(name, "epoch", pattern.width())?;
        if mask.rows() != pattern.rows() {
            return Err(format!("`{name}.epoch` has {} rows, {} expected", mask.rows(), pattern.rows()));
        }
        Ok(mask)
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

/// Puts what the file lists row by row into the order of the pattern's entries; what has not one element for each is left
/// for [`SparseWeight::restore`] to refuse.
fn order<T: Copy>(elements: &mut [T], pattern: &Pattern) {
    if elements.len() == pattern.backward_len() {
        let by_row = elements.to_vec();
        pattern.entries_by_row().zip(by_row).for_each(|(entry, element)| elements[entry] = element);
    }
}
