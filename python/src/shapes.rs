//! Small questions to the core: sizes of sets, names, the instruction set.

use pyo3::prelude::*;
use topkast::{DropSchedule, PruneSchedule, Sparsity, erk_counts};
use topkast_kernels::Isa;

use crate::wrong;

/// The instruction set that the kernels use: avx512, avx2 or portable.
#[pyfunction]
pub(crate) fn isa() -> PyResult<&'static str> {
    Ok(Isa::current().map_err(wrong)?.name())
}

/// Whether `name` matches `pattern`, in which `*` stands for any run of characters.
#[pyfunction]
pub(crate) fn name_matches(pattern: &str, name: &str) -> bool {
    topkast::name_matches(pattern, name)
}

/// |A| and |B| of weights of these shapes, each (rows, columns): `distribution` is "uniform" or "erk".
#[pyfunction]
pub(crate) fn counts(
    forward: f64,
    backward: f64,
    shapes: Vec<[usize; 2]>,
    distribution: &str,
) -> PyResult<Vec<(usize, usize)>> {
    let sparsity = Sparsity::new(forward, backward).map_err(wrong)?;
    let totals: Option<Vec<u64>> =
        shapes.iter().map(|[rows, width]| rows.checked_mul(*width).map(|total| total as u64)).collect();
    let totals = totals
        .filter(|totals| totals.iter().try_fold(0u64, |sum, &total| sum.checked_add(total)).is_some())
        .ok_or_else(|| wrong("the shapes have too many entries"))?;
    let counts = match distribution {
        "uniform" => totals.iter().map(|&total| sparsity.counts(total)).collect(),
        "erk" => erk_counts(sparsity, &shapes),
        other => return Err(wrong(format!("distribution must be \"uniform\" or \"erk\", not {other:?}"))),
    };
    counts.into_iter().map(|one| one.map(|one| (one.active, one.backward)).map_err(wrong)).collect()
}

/// The fraction of A that SET and RigL drop at `step`, if they do then: `alpha` at first, from step `end` on nothing.
#[pyfunction]
pub(crate) fn drop_fraction(alpha: f64, every: u64, end: u64, step: u64) -> PyResult<Option<f64>> {
    if every == 0 {
        return Err(wrong("at least one step must lie between two updates"));
    }
    Ok(DropSchedule { alpha, every, end }.fraction(step))
}

/// How many of `total` entries pruning keeps at `step`, which comes to `last` of them at step `end` or less than `every` before;
/// `None` where nothing is dropped then.
#[pyfunction]
pub(crate) fn pruned(every: u64, end: u64, step: u64, total: u64, last: u64) -> PyResult<Option<u64>> {
    let schedule = (every > 0).then(|| PruneSchedule::new(every, end)).flatten();
    let schedule =
        schedule.ok_or_else(|| wrong("pruning needs at least one update: lower every, or raise end"))?;
    if last > total {
        return Err(wrong("no more entries than there are can remain"));
    }
    Ok(schedule.is_due(step).then(|| schedule.kept(step, total, last)))
}
