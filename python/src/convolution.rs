//! The three passes of a convolution, on tensors `[images × channels × height × width]`.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use topkast_kernels::{
    Convolution, Epilogue, GradientScratch, Isa, Maps, Matrix, Planes, Turned, Window, by_feature,
    by_position, row_sums,
};

use crate::activation::Activation;
use crate::tensor::{Claims, Tensor, output};
use crate::weight::Weight;
use crate::{spare, threads, wrong};

/// Shapes of maps that a layer keeps its tables for: those of training, of a last batch, and of evaluation.
const KEPT: usize = 4;

/// A convolution on maps of one shape, with what it has made of the weight's structure.
pub(crate) struct Laid {
    convolution: Convolution,
    channels: [usize; 2],
    turned: OnceLock<Turned>,
    planes: Mutex<Vec<Planes>>,
    scratch: Mutex<GradientScratch>,
}

pub(crate) type Shared = Arc<Laid>;

impl Laid {
    fn is(&self, window: Window, channels: [usize; 2], input: Maps) -> bool {
        (self.convolution.window(), self.channels, self.convolution.input()) == (window, channels, input)
    }

    /// Hands planes back for the next pass.
    pub(crate) fn give(&self, planes: Planes) {
        locked(&self.planes).push(planes);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a weight knows of maps seen lately, the last first.
#[derive(Default)]
pub(crate) struct Convolutions(Mutex<Vec<Shared>>);

impl Convolutions {
    /// Forgets what follows from the structure.
    pub(crate) fn forget(&mut self) {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn bytes(&self) -> usize {
        let of_one = |one: &Shared| {
            let planes: usize = locked(&one.planes).iter().map(Planes::capacity_bytes).sum();
            one.convolution.bytes() + one.turned.get().map_or(0, Turned::bytes) + planes
        };
        locked(&self.0).iter().map(of_one).sum()
    }

    fn find(&self, window: Window, channels: [usize; 2], input: Maps) -> PyResult<Shared> {
        let mut all = locked(&self.0);
        if let Some(at) = all.iter().position(|one| one.is(window, channels, input)) {
            let found = all.remove(at);
            all.insert(0, found.clone());
            return Ok(found);
        }
        checked_output(window, channels, input)?;
        let convolution = Convolution::new(window, channels, input)
            .ok_or_else(|| wrong("the window is larger than the padded maps"))?;
        let (turned, planes, scratch) = Default::default();
        let made = Arc::new(Laid { convolution, channels, turned, planes, scratch });
        all.insert(0, made.clone());
        all.truncate(KEPT);
        Ok(made)
    }
}

/// The maps that come out, where everything is small enough for the kernels.
fn checked_output(window: Window, channels: [usize; 2], input: Maps) -> PyResult<Maps> {
    let Window { size, stride, padding, dilation } = window;
    let most = 1 << 24;
    let numbers = [size, stride, padding, dilation, [input.height, input.width]].concat();
    if numbers.iter().chain(&[input.images]).any(|&number| number > most) {
        return Err(wrong("windows and maps must have less than 2^24 pixels in a direction"));
    }
    let output = window.output(input).ok_or_else(|| {
        wrong(format!(
            "a window of {size:?} with padding {padding:?} does not fit maps of {}x{}",
            input.height, input.width
        ))
    })?;
    // Padded maps of either side, with what the window reaches beyond them.
    let padded = |maps: Maps, channels: usize| {
        let side = |pixels: usize, at: usize| pixels + 2 * padding[at] + size[at] * dilation[at] + stride[at];
        let factors = [side(maps.height, 0), side(maps.width, 1), maps.images.max(1), channels];
        factors.into_iter().try_fold(1usize, |product, factor| product.checked_mul(factor))
    };
    let [outputs, inputs] = channels;
    let fits = |numbers: Option<usize>| numbers.is_some_and(|numbers| numbers < 1 << 31);
    if fits(padded(input, inputs)) && fits(padded(output, outputs)) {
        Ok(output)
    } else {
        Err(wrong("the padded maps of a batch are too large: use a smaller batch"))
    }
}

fn window(numbers: [[usize; 2]; 4]) -> Window {
    let [size, stride, padding, dilation] = numbers;
    Window { size, stride, padding, dilation }
}

/// Height and width of what a convolution makes of such maps. The window is `[size, stride, padding, dilation]`.
#[pyfunction]
pub(crate) fn convolution_output(
    numbers: [[usize; 2]; 4],
    height: usize,
    width: usize,
) -> PyResult<[usize; 2]> {
    let output = checked_output(window(numbers), [1, 1], Maps { height, width, images: 1 })?;
    Ok([output.height, output.width])
}

/// Channels of a weight whose columns are inputs × taps.
fn channels(weight: &Weight, window: Window) -> PyResult<[usize; 2]> {
    let (rows, width) = (weight.pattern().rows(), weight.pattern().width());
    match window.size[0].checked_mul(window.size[1]) {
        Some(taps) if taps > 0 && width.is_multiple_of(taps) => Ok([rows, width / taps]),
        _ => Err(wrong("the weight is not of this window")),
    }
}

/// `y = W ∗ x + bias` with A alone: x is `[images × inputs × height × width]`. With `keep` returns what `convolution_backward` takes
/// for x.
#[pyfunction]
#[pyo3(signature = (weight, numbers, values, x, bias, y, keep, threads))]
#[allow(clippy::too_many_arguments, reason = "what a product takes")]
pub(crate) fn convolution_forward(
    py: Python<'_>,
    weight: &Weight,
    numbers: [[usize; 2]; 4],
    values: &Bound<'_, PyCapsule>,
    x: &Bound<'_, PyCapsule>,
    bias: Option<&Bound<'_, PyCapsule>>,
    y: &Bound<'_, PyCapsule>,
    keep: bool,
    threads: usize,
) -> PyResult<Option<Activation>> {
    let (window, pattern) = (window(numbers), weight.pattern());
    let channels = channels(weight, window)?;
    let [outputs, inputs] = channels;
    let values = Tensor::<f32>::shaped(values, &[pattern.backward_len()], "values")?.numbers();
    let x = Tensor::<f32>::of(x, "x")?;
    let &[images, of_x, height, width] = x.shape() else { return Err(wrong("x must have four dimensions")) };
    if of_x != inputs {
        return Err(wrong(format!("x has {of_x} channels, the weight {inputs}")));
    }
    let x = x.numbers();
    let bias = bias.map(|bias| Tensor::<f32>::shaped(bias, &[outputs], "bias")).transpose()?;
    let bias = bias.map(|bias| bias.numbers());
    let laid = weight.convolutions.find(window, channels, Maps { height, width, images })?;
    let to = laid.convolution.output();
    let y = Tensor::<f32>::shaped(y, &[images, outputs, to.height, to.width], "y")?;
    let y = y.numbers_mut(&mut Claims::reading(&[values, x, bias.unwrap_or(&[])]))?;
    let isa = Isa::current().map_err(wrong)?;
    threads::run(py, threads, || {
        let mut maps = spare::take(inputs, height * width * images);
        let mut out = spare::take(outputs, to.positions());
        by_feature(isa, x, [images, inputs, height * width], &mut maps);
        let mut planes = locked(&laid.planes).pop().unwrap_or_default();
        weight.with_scratch(|scratch, _| {
            let active = weight.active_values(values, scratch);
            let epilogue = bias.map_or(Epilogue::None, Epilogue::Bias);
            laid.convolution.forward(isa, pattern.active(), active, &maps, &mut planes, epilogue, &mut out);
        });
        by_position(isa, &out, [images, outputs, to.height * to.width], y);
        spare::give(out);
        keep_input(maps, planes, laid, keep)
    })
}

/// Keeps what the weight gradient looks at, and hands the rest back.
fn keep_input(maps: Matrix, planes: Planes, laid: Shared, keep: bool) -> Option<Activation> {
    if laid.convolution.reads_in_place() {
        laid.give(planes);
        let activation = Activation::new(maps);
        return keep.then_some(activation);
    }
    spare::give(maps);
    if keep {
        return Some(Activation { x: Matrix::default(), planes: Some((planes, laid)) });
    }
    laid.give(planes);
    None
}

/// The gradients that are asked for, overwriting them: of x, of the values (all of B) and of the bias. `x` is what the forward
/// pass kept, or the tensor it was given; `size` is x's shape.
#[pyfunction]
#[pyo3(signature = (weight, numbers, values, x, size, dy, dx, dvalues, dbias, threads))]
#[allow(clippy::too_many_arguments, reason = "what the products take")]
pub(crate) fn convolution_backward(
    py: Python<'_>,
    weight: &Weight,
    numbers: [[usize; 2]; 4],
    values: &Bound<'_, PyCapsule>,
    x: &Bound<'_, PyAny>,
    size: [usize; 4],
    dy: &Bound<'_, PyCapsule>,
    dx: Option<&Bound<'_, PyCapsule>>,
    dvalues: Option<&Bound<'_, PyCapsule>>,
    dbias: Option<&Bound<'_, PyCapsule>>,
    threads: usize,
) -> PyResult<()> {
    let (window, pattern) = (window(numbers), weight.pattern());
    let (channels, len) = (channels(weight, window)?, pattern.backward_len());
    let ([outputs, inputs], [images, of_x, height, width]) = (channels, size);
    if of_x != inputs {
        return Err(wrong(format!("x has {of_x} channels, the weight {inputs}")));
    }
    let laid = weight.convolutions.find(window, channels, Maps { height, width, images })?;
    let to = laid.convolution.output();
    let values = Tensor::<f32>::shaped(values, &[len], "values")?.numbers();
    let dy = Tensor::<f32>::shaped(dy, &[images, outputs, to.height, to.width], "dy")?.numbers();
    let kept = x.cast::<Activation>().ok().map(|kept| kept.get());
    let plain = match kept {
        Some(kept) => {
            let fits = match &kept.planes {
                Some((_, other)) => other.is(window, channels, laid.convolution.input()),
                None => {
                    (kept.x.features(), kept.x.positions()) == (inputs, height * width * images)
                        && laid.convolution.reads_in_place()
                }
            };
            if !fits {
                return Err(wrong("x was kept by a forward pass of another shape"));
            }
            &[]
        }
        None => Tensor::<f32>::shaped(x.cast::<PyCapsule>()?, &size, "x")?.numbers(),
    };
    let claims = &mut Claims::reading(&[values, dy, plain]);
    let dx = output(dx, &size, "dx", claims)?;
    let dvalues = output(dvalues, &[len], "dvalues", claims)?;
    let dbias = output(dbias, &[outputs], "dbias", claims)?;
    let isa = Isa::current().map_err(wrong)?;
    threads::run(py, threads, || {
        let mut gradient = spare::take(outputs, to.positions());
        by_feature(isa, dy, [images, outputs, to.height * to.width], &mut gradient);
        if let Some(dbias) = dbias {
            row_sums(isa, &gradient, dbias);
        }
        let convolution = &laid.convolution;
        weight.with_scratch(|scratch, _| {
            weight.values_gradient(dvalues, scratch, |gradients| {
                let Some(gradients) = gradients else { return };
                let made = kept.is_none().then(|| lay_out(isa, &laid, plain, inputs));
                let kept = kept.or(made.as_ref()).expect("one of the two");
                let unused = Planes::default();
                let planes = kept.planes.as_ref().map_or(&unused, |(planes, _)| planes);
                let [active, explore] = [weight.pattern().active(), weight.pattern().explore()];
                if explore.entries() == 0 {
                    convolution.weight_gradient(isa, active, &gradient, &kept.x, planes, gradients);
                } else {
                    let gradients = gradients.split_at_mut(active.entries()).into();
                    let structures = [active, explore];
                    convolution.weight_gradient_pair(isa, structures, &gradient, &kept.x, planes, gradients);
                }
            });
            if let Some(dx) = dx {
                let mut maps = spare::take(inputs, height * width * images);
                let active = weight.active_values(values, scratch);
                let turned = laid.turned.get_or_init(|| convolution.turned(pattern.active()));
                // No lock is held in a product, see `Weight::with_scratch`.
                let mut own = std::mem::take(&mut *locked(&laid.scratch));
                convolution.input_gradient(
                    isa,
                    turned,
                    active,
                    &gradient,
                    Epilogue::None,
                    &mut own,
                    &mut maps,
                );
                *locked(&laid.scratch) = own;
                by_position(isa, &maps, [images, inputs, height * width], dx);
                spare::give(maps);
            }
        });
        spare::give(gradient);
    })
}

/// What a forward pass would have kept of `x`.
fn lay_out(isa: Isa, laid: &Shared, x: &[f32], inputs: usize) -> Activation {
    let maps = laid.convolution.input();
    let mut by_channel = spare::take(inputs, maps.positions());
    by_feature(isa, x, [maps.images, inputs, maps.height * maps.width], &mut by_channel);
    let mut planes = locked(&laid.planes).pop().unwrap_or_default();
    laid.convolution.lay_out(&by_channel, &mut planes);
    keep_input(by_channel, planes, laid.clone(), true).expect("it is kept")
}
