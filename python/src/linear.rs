//! The three products of a linear layer, on tensors `[positions × features]`.

use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use topkast_kernels::{
    Epilogue, Isa, by_feature, by_position, row_sums, sddmm, sddmm_pair, spmm, spmm_transposed,
};

use crate::activation::Activation;
use crate::tensor::{Claims, Tensor, output};
use crate::weight::Weight;
use crate::{spare, threads, wrong};

/// `y = x·Wᵀ + bias` with A alone: x is `[positions × inputs]`, y `[positions × outputs]`, values are of B. With `keep`
/// returns what `linear_backward` takes for x.
#[pyfunction]
#[pyo3(signature = (weight, values, x, bias, y, keep, threads))]
#[allow(clippy::too_many_arguments, reason = "what a product takes")]
pub(crate) fn linear_forward(
    py: Python<'_>,
    weight: &Weight,
    values: &Bound<'_, PyCapsule>,
    x: &Bound<'_, PyCapsule>,
    bias: Option<&Bound<'_, PyCapsule>>,
    y: &Bound<'_, PyCapsule>,
    keep: bool,
    threads: usize,
) -> PyResult<Option<Activation>> {
    let pattern = weight.pattern();
    let (rows, width) = (pattern.rows(), pattern.width());
    let values = Tensor::<f32>::shaped(values, &[pattern.backward_len()], "values")?.numbers();
    let x = Tensor::<f32>::of(x, "x")?;
    let &[positions, features] = x.shape() else { return Err(wrong("x must have two dimensions")) };
    if features != width {
        return Err(wrong(format!("x has {features} features, the weight {width} columns")));
    }
    let x = x.numbers();
    let bias = bias.map(|bias| Tensor::<f32>::shaped(bias, &[rows], "bias")).transpose()?;
    let bias = bias.map(|bias| bias.numbers());
    let y = Tensor::<f32>::shaped(y, &[positions, rows], "y")?;
    let y = y.numbers_mut(&mut Claims::reading(&[values, x, bias.unwrap_or(&[])]))?;
    let isa = Isa::current().map_err(wrong)?;
    threads::run(py, threads, || {
        let mut by_features = spare::take(width, positions);
        let mut out = spare::take(rows, positions);
        by_feature(isa, x, [positions, width, 1], &mut by_features);
        weight.with_scratch(|scratch, _| {
            let active = weight.active_values(values, scratch);
            let epilogue = bias.map_or(Epilogue::None, Epilogue::Bias);
            spmm(isa, pattern.active(), active, &by_features, epilogue, &mut out);
        });
        by_position(isa, &out, [positions, rows, 1], y);
        spare::give(out);
        let activation = Activation::new(by_features);
        keep.then_some(activation)
    })
}

/// The gradients that are asked for, overwriting them: of x, of the values (all of B) and of the bias. `x` is what the forward
/// pass kept, or the tensor it was given; only the values' gradient needs it.
#[pyfunction]
#[pyo3(signature = (weight, values, x, dy, dx, dvalues, dbias, threads))]
#[allow(clippy::too_many_arguments, reason = "what the products take")]
pub(crate) fn linear_backward(
    py: Python<'_>,
    weight: &Weight,
    values: &Bound<'_, PyCapsule>,
    x: &Bound<'_, PyAny>,
    dy: &Bound<'_, PyCapsule>,
    dx: Option<&Bound<'_, PyCapsule>>,
    dvalues: Option<&Bound<'_, PyCapsule>>,
    dbias: Option<&Bound<'_, PyCapsule>>,
    threads: usize,
) -> PyResult<()> {
    let pattern = weight.pattern();
    let (rows, width, len) = (pattern.rows(), pattern.width(), pattern.backward_len());
    let values = Tensor::<f32>::shaped(values, &[len], "values")?.numbers();
    let dy = Tensor::<f32>::of(dy, "dy")?;
    let &[positions, features] = dy.shape() else { return Err(wrong("dy must have two dimensions")) };
    if features != rows {
        return Err(wrong(format!("dy has {features} features, the weight {rows} rows")));
    }
    let dy = dy.numbers();
    let kept = x.cast::<Activation>().ok().map(|kept| kept.get());
    let plain = match kept {
        Some(kept) if (kept.x.features(), kept.x.positions()) != (width, positions) => {
            return Err(wrong("x was kept by a forward pass of another shape"));
        }
        Some(_) => &[],
        None => Tensor::<f32>::shaped(x.cast::<PyCapsule>()?, &[positions, width], "x")?.numbers(),
    };
    let claims = &mut Claims::reading(&[values, dy, plain]);
    let dx = output(dx, &[positions, width], "dx", claims)?;
    let dvalues = output(dvalues, &[len], "dvalues", claims)?;
    let dbias = output(dbias, &[rows], "dbias", claims)?;
    let isa = Isa::current().map_err(wrong)?;
    threads::run(py, threads, || {
        let mut dy_by_features = spare::take(rows, positions);
        by_feature(isa, dy, [positions, rows, 1], &mut dy_by_features);
        if let Some(dbias) = dbias {
            row_sums(isa, &dy_by_features, dbias);
        }
        weight.with_scratch(|scratch, gathered| {
            if let Some(dvalues) = dvalues {
                let own = (kept.is_none()).then(|| {
                    let mut x = spare::take(width, positions);
                    by_feature(isa, plain, [positions, width, 1], &mut x);
                    x
                });
                let x = kept.map(|kept| &kept.x).or(own.as_ref()).expect("one of the two");
                weight.values_gradient(dvalues, scratch, |structures, gradients| match structures {
                    [active, explore] if explore.entries() == 0 => {
                        let [gradient, _] = gradients;
                        sddmm(isa, active, &dy_by_features, x, gradient);
                    }
                    structures => sddmm_pair(isa, structures, &dy_by_features, x, gradients),
                });
                own.into_iter().for_each(spare::give);
            }
            if let Some(dx) = dx {
                let mut by_features = spare::take(width, positions);
                let active = weight.active_values(values, scratch);
                let transposed = pattern.transposed();
                spmm_transposed(
                    isa,
                    transposed,
                    active,
                    &dy_by_features,
                    Epilogue::None,
                    gathered,
                    &mut by_features,
                );
                by_position(isa, &by_features, [positions, width, 1], dx);
                spare::give(by_features);
            }
        });
        spare::give(dy_by_features);
    })
}
