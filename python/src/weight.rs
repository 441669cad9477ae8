//! Where a weight's entries are and what becomes of them: everything but the values, which PyTorch has.
//!
//! Everything of length |B| lists A's entries, then those of B∖A, each in ascending order of flat index, as a checkpoint of ours
//! does. The kernels' own order depends on how dense a weight is, and is theirs alone.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyCapsule, PyDict};
use topkast::reservoir::{DenseReservoir, ReservoirState, SavedReservoir};
use topkast::{
    Counts, Distribution, Explore, Init, Parameter, Pattern, Remap, ReservoirKind, Scale, Seed, SparseWeight,
    Topology, Variance,
};
use topkast_kernels::{Buffer, Csr, Isa, Matrix, sddmm_pair_add};

use crate::convolution::Convolutions;
use crate::tensor::{Claims, Tensor};
use crate::wrong;

/// A weight's sets A and B, their structure for the kernels, and where C is kept.
#[pyclass(module = "topkast._topkast")]
pub(crate) struct Weight {
    /// Without values or optimizer state, but while something changes.
    sparse: SparseWeight,
    /// For values or gradients in the kernels' order, and for values by column.
    scratch: Mutex<[Buffer; 2]>,
    pub(crate) convolutions: Convolutions,
}

impl Weight {
    fn of(sparse: SparseWeight) -> Self {
        Self { sparse, scratch: Mutex::default(), convolutions: Convolutions::default() }
    }

    pub(crate) fn pattern(&self) -> &Pattern {
        self.sparse.pattern()
    }

    /// Lends `body` two buffers, which it finds as the last one left them, unless someone else has them just now. No lock is held
    /// meanwhile: a thread that waits for others in a product may be handed another pass through this weight.
    pub(crate) fn with_scratch<R>(&self, body: impl FnOnce(&mut Buffer, &mut Buffer) -> R) -> R {
        let both = || self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let [mut values, mut gathered] = std::mem::take(&mut *both());
        let result = body(&mut values, &mut gathered);
        *both() = [values, gathered];
        result
    }

    /// α in the kernels' order, from all of B's values.
    pub(crate) fn active_values<'a>(&self, values: &'a [f32], scratch: &'a mut Buffer) -> &'a [f32] {
        let active = self.pattern().active();
        let values = &values[..active.entries()];
        if active.is_row_major() {
            return values;
        }
        resize(scratch, values.len());
        active.by_entry(values, scratch);
        scratch
    }

    /// α in the order of the structure by column, from all of B's values.
    pub(crate) fn transposed_values(&self, values: &[f32], scratch: &mut Buffer, gathered: &mut Buffer) {
        let active = self.active_values(values, scratch);
        self.pattern().transposed().gather(active, gathered);
    }

    /// Has `compute` compute the gradients of A and then B∖A in the kernels' order, and lists them row by row; where they are asked for.
    pub(crate) fn values_gradient<R>(
        &self,
        gradient: Option<&mut [f32]>,
        scratch: &mut Buffer,
        compute: impl FnOnce(Option<&mut [f32]>) -> R,
    ) -> R {
        let pattern = self.pattern();
        let sorted = [pattern.active(), pattern.explore()].into_iter().all(Csr::is_row_major);
        let Some(gradient) = gradient else { return compute(None) };
        if sorted {
            return compute(Some(gradient));
        }
        resize(scratch, gradient.len());
        let result = compute(Some(scratch));
        pattern.by_row(scratch, gradient);
        result
    }

    /// Adds the gradients of A and then B∖A, in the kernels' order, for some positions.
    pub(crate) fn add_gradient(&self, isa: Isa, dy: &Matrix, x: &Matrix, gradient: &mut [f32]) {
        let structures = [self.pattern().active(), self.pattern().explore()];
        let gradients = gradient.split_at_mut(structures[0].entries()).into();
        sddmm_pair_add(isa, structures, dy, x, gradients);
    }

    /// Lends the values to `change`, which changes the sets; tells where every entry comes from.
    fn changing(
        &mut self,
        values: &[f32],
        change: impl FnOnce(&mut SparseWeight) -> Option<&Remap>,
    ) -> PyResult<Option<Sources>> {
        let len = values.len();
        // From 1 on, as 0 is what `Remap` gives those that entered.
        let numbers: Vec<u32> = (1..=len as u32).collect();
        let mut sources = vec![0; len];
        self.pattern().by_entry(&numbers, &mut sources);
        self.lend(values);
        let Some(remap) = change(&mut self.sparse) else {
            self.take_back();
            return Err(wrong("the weight was made for another method"));
        };
        if remap.is_identity() {
            self.take_back();
            return Ok(None);
        }
        remap.apply(&mut sources, &mut Vec::new());
        self.convolutions.forget();
        let mut by_row = numbers;
        self.pattern().by_row(&sources, &mut by_row);
        Ok(Some(Sources(by_row.into_iter().map(|source| i64::from(source) - 1).collect())))
    }

    fn lend(&mut self, values: &[f32]) {
        let mut own = Buffer::zeros(values.len());
        self.pattern().by_entry(values, &mut own);
        self.sparse.parameter_mut().values = own;
    }

    fn take_back(&mut self) -> Buffer {
        self.sparse.parameter_mut().gradient = Buffer::default();
        std::mem::take(&mut self.sparse.parameter_mut().values)
    }

    fn checked_values<'a>(&self, values: &'a Bound<'_, PyCapsule>) -> PyResult<&'a [f32]> {
        Ok(Tensor::shaped(values, &[self.pattern().backward_len()], "values")?.numbers())
    }
}

/// Numbers that become a `bytearray` of int64, which PyTorch takes as it is.
pub(crate) struct Sources(Vec<i64>);

impl<'py> IntoPyObject<'py> for Sources {
    type Target = PyByteArray;
    type Output = Bound<'py, PyByteArray>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|number| number.to_ne_bytes()).collect();
        Ok(PyByteArray::new(py, &bytes))
    }
}

fn resize(buffer: &mut Buffer, len: usize) {
    if buffer.len() != len {
        buffer.reset(len);
    }
}

/// What θ⁰ that is not given is drawn from.
fn init(deviation: f64, distribution: &str) -> PyResult<Init> {
    if !(deviation.is_finite() && deviation >= 0.0) {
        return Err(wrong(format!("deviation must be a finite number of at least 0, not {deviation}")));
    }
    let distribution = match distribution {
        "normal" => Distribution::Normal,
        "truncated_normal" => Distribution::TruncatedNormal,
        "uniform" => Distribution::Uniform,
        other => {
            let allowed = "\"normal\", \"truncated_normal\" or \"uniform\"";
            return Err(wrong(format!("distribution must be {allowed}, not {other:?}")));
        }
    };
    Ok(Init { distribution, variance: Variance::Of(deviation * deviation), scale: Scale::Full })
}

fn topology(method: &str) -> PyResult<Topology> {
    Ok(match method {
        "magnitude" => Topology::TopKast(Explore::Magnitude),
        "random" => Topology::TopKast(Explore::Random),
        "mixed" => Topology::TopKast(Explore::Mixed),
        "static" => Topology::Static,
        "set" => Topology::Set,
        "rigl" => Topology::Rigl,
        "pruning" => Topology::Pruning,
        other => return Err(wrong(format!("there is no method {other:?}"))),
    })
}

#[pymethods]
impl Weight {
    /// A weight whose θ⁰ is known by rank and never stored, of this standard deviation.
    #[staticmethod]
    #[allow(clippy::too_many_arguments, reason = "a weight's numbers, each by its name")]
    fn fresh(
        py: Python<'_>,
        rows: usize,
        width: usize,
        active: usize,
        backward: usize,
        method: &str,
        seed: u64,
        deviation: f64,
        distribution: &str,
    ) -> PyResult<Self> {
        let (init, topology) = (init(deviation, distribution)?, topology(method)?);
        let (counts, kind, seed) = (Counts { active, backward }, ReservoirKind::Implicit, Seed::new(seed));
        py.detach(|| SparseWeight::new(rows, width, counts, topology, &init, kind, seed))
            .map(Self::of)
            .map_err(wrong)
    }

    /// A weight of a given θ, `[rows × width]`; under methods with a reservoir all of it is copied.
    #[staticmethod]
    fn from_theta(
        py: Python<'_>,
        theta: &Bound<'_, PyCapsule>,
        active: usize,
        backward: usize,
        method: &str,
        seed: u64,
    ) -> PyResult<Self> {
        let theta = Tensor::<f32>::of(theta, "theta")?;
        let &[rows, width] = theta.shape() else { return Err(wrong("theta must have two dimensions")) };
        let (topology, numbers) = (topology(method)?, theta.numbers());
        if topology.starts_later() {
            return Err(wrong("a weight that is pruned is restored with all its entries"));
        }
        let (counts, seed) = (Counts { active, backward }, Seed::new(seed));
        py.detach(|| {
            let reservoir = Box::new(DenseReservoir::new(numbers.to_vec()));
            SparseWeight::from_theta(rows, width, counts, topology, reservoir, seed)
        })
        .map(Self::of)
        .map_err(wrong)
    }

    /// A weight as it was: `indices` are those of B, A's first, either part ascending. Methods with a reservoir need what
    /// `reservoir()` told, as tensors, and for an implicit one how θ⁰ was drawn.
    #[staticmethod]
    #[pyo3(signature = (rows, width, active, method, seed, indices, reservoir=None, initial=None))]
    #[allow(clippy::too_many_arguments, reason = "a weight's numbers, each by its name")]
    fn restored(
        py: Python<'_>,
        rows: usize,
        width: usize,
        active: usize,
        method: &str,
        seed: u64,
        indices: &Bound<'_, PyCapsule>,
        reservoir: Option<[Bound<'_, PyCapsule>; 2]>,
        initial: Option<(f64, String)>,
    ) -> PyResult<Self> {
        let indices = Tensor::<i64>::of(indices, "indices")?.numbers();
        let topology = topology(method)?;
        if active > indices.len() {
            return Err(wrong(format!("{active} entries cannot be active of {}", indices.len())));
        }
        if indices.iter().any(|&index| index < 0) {
            return Err(wrong("indices must not be negative"));
        }
        let given = match (&reservoir, topology.has_reservoir()) {
            (Some(saved), true) => Some(saved_reservoir(saved, initial.is_none())?),
            (None, false) => None,
            (Some(_), false) => return Err(wrong("this method has no reservoir")),
            (None, true) => return Err(wrong("this method needs to know C, but its values are not known")),
        };
        let implicit = initial.map(|(deviation, distribution)| init(deviation, &distribution)).transpose()?;
        let (counts, seed) = (Counts { active, backward: indices.len() }, Seed::new(seed));
        py.detach(|| {
            let [a, b] = <[&[i64]; 2]>::from(indices.split_at(active))
                .map(|part| part.iter().map(|&index| index as u64));
            let pattern = Pattern::from_indices(rows, width, a, b).map_err(wrong)?;
            let mut sparse = match &given {
                Some(SavedReservoir::Dense { theta, .. }) => {
                    let theta = Box::new(DenseReservoir::new(theta.clone()));
                    SparseWeight::from_theta(rows, width, counts, topology, theta, seed)
                }
                _ => {
                    let init = implicit.unwrap_or(Init::kaiming_normal(Scale::Full));
                    SparseWeight::new(rows, width, counts, topology, &init, ReservoirKind::Implicit, seed)
                }
            }
            .map_err(wrong)?;
            let parameter = Parameter::new(Buffer::zeros(indices.len()));
            sparse.restore(pattern, parameter, given).map_err(wrong)?;
            let mut weight = Self::of(sparse);
            weight.take_back();
            Ok(weight)
        })
    }

    /// Writes the values of a weight just made or changed, all of B, and forgets them.
    fn take_values(&mut self, to: &Bound<'_, PyCapsule>) -> PyResult<()> {
        let to = Tensor::shaped(to, &[self.pattern().backward_len()], "values")?;
        let to = to.numbers_mut(&mut Claims::reading::<f32>(&[]))?;
        if self.sparse.parameter().values.len() != to.len() {
            return Err(wrong("the values have been taken"));
        }
        let values = self.take_back();
        self.pattern().by_row(&values, to);
        Ok(())
    }

    /// Writes the flat indices of B.
    fn indices(&self, to: &Bound<'_, PyCapsule>) -> PyResult<()> {
        let to = Tensor::<i64>::shaped(to, &[self.pattern().backward_len()], "indices")?;
        let to = to.numbers_mut(&mut Claims::reading::<i64>(&[]))?;
        let (active, explore) = to.split_at_mut(self.pattern().active().entries());
        let (mut active, mut explore) = (active.iter_mut(), explore.iter_mut());
        let border = self.pattern().active().entries();
        self.pattern().for_each_by_index(|index, entry| {
            let slot = if entry < border { active.next() } else { explore.next() };
            *slot.expect("as many as there are entries") = index as i64;
        });
        Ok(())
    }

    /// Chooses A and B again from θ. Returns, for every entry, where it was, or -1 if it was not in B; `None` if nothing changed.
    /// Otherwise `take_values` has the new values.
    fn refresh(
        &mut self,
        py: Python<'_>,
        values: &Bound<'_, PyCapsule>,
        step: u64,
    ) -> PyResult<Option<Sources>> {
        let values = self.checked_values(values)?;
        py.detach(|| self.changing(values, |sparse| sparse.refresh(step)))
    }

    /// SET: drops the fraction of A and grows as many at random; returns as `refresh`.
    fn set(
        &mut self,
        py: Python<'_>,
        values: &Bound<'_, PyCapsule>,
        fraction: f64,
        step: u64,
    ) -> PyResult<Option<Sources>> {
        let values = self.checked_values(values)?;
        let fraction = checked_fraction(fraction)?;
        py.detach(|| self.changing(values, |sparse| sparse.set(fraction, step)))
    }

    /// RigL: the indices of A that stay where this fraction is dropped.
    fn remaining(&mut self, values: &Bound<'_, PyCapsule>, fraction: f64) -> PyResult<Sources> {
        let values = self.checked_values(values)?;
        let fraction = checked_fraction(fraction)?;
        self.lend(values);
        let remaining = self.sparse.remaining(fraction);
        self.take_back();
        let indices =
            |remaining: Vec<u64>| Sources(remaining.into_iter().map(|index| index as i64).collect());
        remaining.map(indices).ok_or_else(|| wrong("the weight was made for another method"))
    }

    /// RigL: drops the fraction and grows these, in ascending order and none of the remaining; returns as `refresh`.
    fn rigl(
        &mut self,
        py: Python<'_>,
        values: &Bound<'_, PyCapsule>,
        fraction: f64,
        grown: &Bound<'_, PyCapsule>,
    ) -> PyResult<Option<Sources>> {
        let Sources(remaining) = self.remaining(values, fraction)?;
        let grown = Tensor::<i64>::of(grown, "grown")?.numbers();
        let fits = grown.len() + remaining.len() == self.pattern().active().entries()
            && grown.is_sorted_by(|a, b| a < b)
            && grown.first().is_none_or(|&first| first >= 0)
            && grown.last().is_none_or(|&last| (last as u64) < self.pattern().total())
            && grown.iter().all(|index| remaining.binary_search(index).is_err());
        if !fits {
            return Err(wrong(
                "what grows must ascend, be as many as are dropped, and be outside what remains",
            ));
        }
        let values = self.checked_values(values)?;
        let grown = grown.iter().map(|&index| index as u64).collect();
        py.detach(|| self.changing(values, |sparse| sparse.rigl_to(fraction, grown)))
    }

    /// Pruning: drops the smallest, so that `keep` remain; returns as `refresh`.
    fn prune(
        &mut self,
        py: Python<'_>,
        values: &Bound<'_, PyCapsule>,
        keep: usize,
    ) -> PyResult<Option<Sources>> {
        let values = self.checked_values(values)?;
        py.detach(|| {
            let mut before = Vec::with_capacity(values.len());
            self.pattern().for_each_by_index(|index, _| before.push(index));
            self.lend(values);
            let dropped = self.sparse.prune(keep);
            let Some(dropped) = dropped.filter(|&dropped| dropped > 0) else {
                self.take_back();
                return dropped.map(|_| None).ok_or_else(|| wrong("the weight was made for another method"));
            };
            self.convolutions.forget();
            let mut sources = Vec::with_capacity(before.len() - dropped);
            let mut old = (0..).zip(before);
            self.pattern().for_each_by_index(|index, _| {
                sources.extend(old.find(|&(_, other)| other == index).map(|(source, _)| source));
            });
            Ok(Some(Sources(sources)))
        })
    }

    /// What a checkpoint keeps of C: `{"theta", "dormant"}` or `{"indices", "values"}`, as lists; `None` if there is no C.
    fn reservoir<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(reservoir) = self.sparse.reservoir() else { return Ok(None) };
        let dict = PyDict::new(py);
        let bytes = |numbers: Vec<u8>| PyByteArray::new(py, &numbers);
        match reservoir.state() {
            ReservoirState::Dense { theta, dormant } => {
                dict.set_item("theta", bytes(theta.iter().flat_map(|x| x.to_ne_bytes()).collect()))?;
                dict.set_item("dormant", bytes(dormant.iter().flat_map(|x| x.to_ne_bytes()).collect()))?;
            }
            ReservoirState::Dormant { indices, values } => {
                dict.set_item("indices", bytes(indices.iter().flat_map(|x| x.to_ne_bytes()).collect()))?;
                dict.set_item("values", bytes(values.iter().flat_map(|x| x.to_ne_bytes()).collect()))?;
            }
        }
        Ok(Some(dict))
    }

    /// The value of an entry of C.
    fn reserved(&self, index: u64) -> PyResult<f32> {
        let pattern = self.pattern();
        let known = self.sparse.reservoir().filter(|_| index < pattern.total());
        Ok(known.ok_or_else(|| wrong("there is no such entry of C"))?.value(index))
    }

    /// Rows and columns.
    #[getter]
    fn shape(&self) -> (usize, usize) {
        (self.pattern().rows(), self.pattern().width())
    }

    /// |A|.
    #[getter]
    fn active(&self) -> usize {
        self.pattern().active().entries()
    }

    /// |B|.
    #[getter]
    fn backward(&self) -> usize {
        self.pattern().backward_len()
    }

    /// Entries of C that have been in B.
    #[getter]
    fn dormant(&self) -> u64 {
        self.sparse.reservoir().map_or(0, |reservoir| reservoir.dormant())
    }

    /// Bytes of structure, of the reservoir, and of what is kept for convolutions.
    #[getter]
    fn nbytes(&self) -> [usize; 3] {
        let reservoir = self.sparse.reservoir().map_or(0, |reservoir| reservoir.bytes());
        [self.pattern().bytes(), reservoir, self.convolutions.bytes()]
    }

    fn __repr__(&self) -> String {
        format!("{:?}", self.sparse)
    }
}

fn checked_fraction(fraction: f64) -> PyResult<f64> {
    if (0.0..=1.0).contains(&fraction) { Ok(fraction) } else { Err(wrong("the fraction must be 0 to 1")) }
}

fn saved_reservoir([first, second]: &[Bound<'_, PyCapsule>; 2], dense: bool) -> PyResult<SavedReservoir> {
    let unsigned = |numbers: &[i64]| numbers.iter().map(|&number| number as u64).collect();
    Ok(if dense {
        let theta = Tensor::of(first, "theta")?.numbers().to_vec();
        SavedReservoir::Dense { theta, dormant: unsigned(Tensor::of(second, "dormant")?.numbers()) }
    } else {
        let indices = unsigned(Tensor::of(first, "dormant indices")?.numbers());
        SavedReservoir::Dormant { indices, values: Tensor::of(second, "dormant values")?.numbers().to_vec() }
    })
}
