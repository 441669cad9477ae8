//! Convolutions with sparse weights, in all three passes, as sparse products over shifted maps.
//!
//! The weight is `[outputs × (inputs·taps)]`, PyTorch's layout with the last three dimensions as one. Within the maps, the numbers that a
//! column of the weight multiplies are at the same place as the output's, shifted by a constant: line after line of output pixels, a
//! column is where its input channel starts plus its tap's shift. So the products of linear layers do the work, with columns that
//! start anywhere in place of rows (`source`), and nothing is copied for each tap. What is beyond the edge is told for regions of the output
//! (`in_place`); or, with strides and where few images lie side by side, maps are laid out in [`Planes`] first, padded and with their phases
//! apart.
//!
//! The input gradient is such a product, too: of the structure by input channel, over planes of the output's gradient. With a
//! stride each phase of the input is seen by taps of its own, and is a product of its own.

mod columns;
mod dense;
mod in_place;
mod planes;
mod window;

#[cfg(test)]
mod tests;

pub use planes::Planes;
pub use window::{Maps, Window};

use crate::chunks::for_each_chunk;
use crate::sddmm::{sampled, sampled_pair};
use crate::source::{Reach, Source};
use crate::spmm::{gather, product};
use crate::{Buffer, Csr, Epilogue, Isa, Matrix, add, gelu_gradient, relu_gradient};
use columns::Phase;
use planes::Layout;

/// A window on maps of one shape, and where everything then is.
#[derive(Clone, Debug)]
pub struct Convolution {
    window: Window,
    input: Maps,
    output: Maps,
    /// Channels: outputs, inputs.
    channels: [usize; 2],
    /// Whether maps are read where they are, although the window is more than a pixel.
    in_place: bool,
    layout: Layout,
    reach: Reach,
    gradient_layout: Layout,
    phases: Vec<Phase>,
}

/// A weight's structure by input channel, made by [`Convolution::turned`]: one for each phase of the input that is seen.
///
/// The fields are private: unchecked loads rest on `order` naming entries of a structure of so many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turned {
    phases: Vec<(Csr, Vec<u32>)>,
    entries: usize,
}

impl Turned {
    /// Bytes of storage held.
    pub fn bytes(&self) -> usize {
        self.phases.iter().map(|(csr, order)| csr.bytes() + size_of_val(&order[..])).sum()
    }
}

/// What [`Convolution::input_gradient`] works with.
#[derive(Clone, Debug, Default)]
pub struct GradientScratch {
    planes: Planes,
    gathered: Buffer,
    phase: Matrix,
}

impl Convolution {
    /// Of a weight `[outputs × (inputs·taps)]` on such maps; `None` if the window does not fit them.
    ///
    /// # Panics
    /// If the padded maps of all channels are 2³² numbers or more.
    pub fn new(window: Window, [outputs, inputs]: [usize; 2], input: Maps) -> Option<Self> {
        let axes = window.axes(input)?;
        let output = window.output(input)?;
        let channels = [outputs, inputs];
        let (layout, mut reach) = columns::of_input(axes, [input, output], inputs);
        let (gradient_layout, mut phases) = columns::of_gradient(axes, input.images, outputs);
        let mut in_place = false;
        if !window.is_pixel()
            && let Some(reaches) = in_place::reaches(axes, [input, output], channels)
        {
            in_place = true;
            [reach, phases[0].reach] = reaches;
        }
        Some(Self { window, input, output, channels, in_place, layout, reach, gradient_layout, phases })
    }

    /// The maps that go in.
    pub fn input(&self) -> Maps {
        self.input
    }

    /// The maps that come out.
    pub fn output(&self) -> Maps {
        self.output
    }

    /// Channels: outputs, inputs.
    pub fn channels(&self) -> [usize; 2] {
        self.channels
    }

    /// The window.
    pub fn window(&self) -> Window {
        self.window
    }

    /// The structure by input channel, for [`input_gradient`](Self::input_gradient).
    ///
    /// # Panics
    /// If the structure is not of such a weight.
    pub fn turned(&self, csr: &Csr) -> Turned {
        self.check(csr);
        let [outputs, inputs] = self.channels;
        let taps = self.window.taps();
        let by_phase = |phase: &Phase| {
            let mut numbers = vec![None; taps];
            phase.taps.iter().enumerate().for_each(|(number, &tap)| numbers[tap] = Some(number));
            let width = phase.taps.len();
            csr.rearranged([inputs, outputs * width], |row, column| {
                Some([column / taps, row * width + numbers[column % taps]?])
            })
        };
        Turned { phases: self.phases.iter().map(by_phase).collect(), entries: csr.entries() }
    }

    /// `y = W ∗ x`, then `epilogue`: `x` is `[inputs × input positions]`, `y` takes the shape `[outputs × output positions]` and is
    /// overwritten. `planes` receives x as the window slides over it, for [`weight_gradient`](Self::weight_gradient), unless it is
    /// [read in place](Self::reads_in_place).
    ///
    /// Each output is summed in an order that depends on the shapes and the structure alone, for any number of threads.
    ///
    /// # Panics
    /// If `values` has not one number for each entry, or structure, `x` or what the epilogue refers to not the shape.
    #[allow(clippy::too_many_arguments, reason = "what a product takes, and where x is laid out")]
    pub fn forward(
        &self,
        isa: Isa,
        csr: &Csr,
        values: &[f32],
        x: &Matrix,
        planes: &mut Planes,
        epilogue: Epilogue<'_>,
        y: &mut Matrix,
    ) {
        self.check(csr);
        self.lay_out(x, planes);
        product(isa, csr, values, self.source(x, planes), epilogue, y);
    }

    /// `dx = Wᵀ ∗ dy`, then `epilogue`, with the structure by input channel and the values in the order of the one it was made
    /// of: `dx` takes the shape `[inputs × input positions]` and is overwritten.
    ///
    /// # Panics
    /// If `values` has not one number for each entry, or the structure, `dy` or what the epilogue refers to not the shape.
    #[allow(clippy::too_many_arguments, reason = "what a product takes, and scratch")]
    pub fn input_gradient(
        &self,
        isa: Isa,
        turned: &Turned,
        values: &[f32],
        dy: &Matrix,
        epilogue: Epilogue<'_>,
        scratch: &mut GradientScratch,
        dx: &mut Matrix,
    ) {
        assert_eq!(turned.phases.len(), self.phases.len(), "there must be one structure for each phase");
        let [at_once, after] = match self.window.stride {
            [1, 1] => [epilogue, Epilogue::None],
            _ => [Epilogue::None, epilogue],
        };
        // The epilogue goes with the only phase there is then.
        let mut at_once = Some(at_once);
        self.each_phase(dy, scratch, dx, |number, source, gathered, dx| {
            let (csr, order) = &turned.phases[number];
            gather(order, turned.entries, values, gathered);
            product(isa, csr, gathered, source, at_once.take().unwrap_or(Epilogue::None), dx);
        });
        match after {
            Epilogue::None => {}
            Epilogue::ReluGradient(y) => relu_gradient(isa, y, dx),
            Epilogue::GeluGradient(pre) => gelu_gradient(isa, pre, dx),
            Epilogue::Add(others) => add(isa, others, dx),
            Epilogue::Bias(_) | Epilogue::BiasRelu(_) | Epilogue::BiasGelu { .. } => {
                panic!("a gradient takes no bias")
            }
        }
    }

    /// The gradient of the values of `csr`, overwriting it, for the `x` and `planes` of the forward pass: `dy` is `[outputs × output
    /// positions]`.
    ///
    /// # Panics
    /// If `gradient` has not one number for each entry, or the structure or `dy` not the shape.
    pub fn weight_gradient(
        &self,
        isa: Isa,
        csr: &Csr,
        dy: &Matrix,
        x: &Matrix,
        planes: &Planes,
        gradient: &mut [f32],
    ) {
        self.check(csr);
        sampled(isa, csr, dy, self.source(x, planes), gradient);
    }

    /// [`weight_gradient`](Self::weight_gradient) of two structures that share no entry, in less time than one after the other.
    ///
    /// # Panics
    /// As it, for either.
    pub fn weight_gradient_pair(
        &self,
        isa: Isa,
        structures: [&Csr; 2],
        dy: &Matrix,
        x: &Matrix,
        planes: &Planes,
        gradients: [&mut [f32]; 2],
    ) {
        structures.into_iter().for_each(|csr| self.check(csr));
        sampled_pair(isa, structures, dy, self.source(x, planes), gradients);
    }

    /// [`forward`](Self::forward) with all weights `w`, row by row, and no epilogue.
    ///
    /// # Panics
    /// If `w` or `x` has not the shape.
    pub fn dense_forward(
        &self,
        isa: Isa,
        w: &[f32],
        x: &Matrix,
        planes: &mut Planes,
        packed: &mut Buffer,
        y: &mut Matrix,
    ) {
        let [outputs, _] = self.channels;
        let columns = self.check_dense(w);
        self.lay_out(x, planes);
        dense::pack([outputs, columns], |row, column| w[row * columns + column], packed);
        dense::product(isa, outputs, packed, self.source(x, planes), y);
    }

    /// [`input_gradient`](Self::input_gradient) with all weights `w`, row by row, and no epilogue.
    ///
    /// # Panics
    /// If `w` or `dy` has not the shape.
    pub fn dense_input_gradient(
        &self,
        isa: Isa,
        w: &[f32],
        dy: &Matrix,
        scratch: &mut GradientScratch,
        dx: &mut Matrix,
    ) {
        let [outputs, inputs] = self.channels;
        let (columns, taps) = (self.check_dense(w), self.window.taps());
        self.each_phase(dy, scratch, dx, |number, source, packed, dx| {
            let phase = &self.phases[number];
            let width = phase.taps.len();
            let value = |row: usize, column: usize| {
                w[column / width * columns + row * taps + phase.taps[column % width]]
            };
            dense::pack([inputs, outputs * width], value, packed);
            dense::product(isa, inputs, packed, source, dx);
        });
    }

    /// [`weight_gradient`](Self::weight_gradient) of all weights, row by row; or of some rows, where `dy` is that of these alone.
    ///
    /// # Panics
    /// If `dw` or `dy` has not the shape.
    pub fn dense_weight_gradient(&self, isa: Isa, dy: &Matrix, x: &Matrix, planes: &Planes, dw: &mut [f32]) {
        let columns = self.channels[1] * self.window.taps();
        assert_eq!(
            dw.len(),
            dy.features() * columns,
            "there must be a row of the weight for each feature of dy"
        );
        dense::weight_gradient(isa, dy, self.source(x, planes), dw);
    }

    /// The weight's columns, if it has this shape.
    fn check_dense(&self, w: &[f32]) -> usize {
        let columns = self.channels[1] * self.window.taps();
        assert_eq!(w.len(), self.channels[0] * columns, "the weight must be of the convolution's shape");
        columns
    }

    /// Puts x where the window slides over it, as [`forward`](Self::forward) does: for a [`weight_gradient`](Self::weight_gradient) whose
    /// planes have served others since.
    ///
    /// # Panics
    /// If x has not the shape.
    pub fn lay_out(&self, x: &Matrix, planes: &mut Planes) {
        assert_eq!(x.features(), self.channels[1], "x must have one feature for each input channel");
        if !self.reads_in_place() {
            planes.fill(&self.layout, x, self.input);
        }
    }

    /// Whether x and dy are read where they are, and no planes needed.
    pub fn reads_in_place(&self) -> bool {
        self.window.is_pixel() || self.in_place
    }

    /// Has `product(phase, dy as it is seen, scratch, its part of dx)` compute the phases, and puts them together.
    fn each_phase(
        &self,
        dy: &Matrix,
        scratch: &mut GradientScratch,
        dx: &mut Matrix,
        mut product: impl FnMut(usize, Source<'_>, &mut Buffer, &mut Matrix),
    ) {
        assert_eq!(dy.features(), self.channels[0], "dy must have one feature for each output channel");
        assert_eq!(dy.positions(), self.output.positions(), "dy must be of the output's maps");
        let GradientScratch { planes, gathered, phase: part } = scratch;
        if self.window.is_pixel() {
            return product(0, dy.into(), gathered, dx);
        }
        if self.in_place {
            return product(0, Source::reaching(dy.padded(), &self.phases[0].reach), gathered, dx);
        }
        let of_dy = if self.window.thins() {
            None
        } else {
            planes.fill(&self.gradient_layout, dy, self.output);
            Some(&*planes)
        };
        let seen = |phase: usize| of_dy.map_or(dy.into(), |planes| planes.source(&self.phases[phase].reach));
        if self.window.stride == [1; 2] {
            return product(0, seen(0), gathered, dx);
        }
        dx.ensure(self.channels[1], self.input.positions());
        for (number, phase) in self.phases.iter().enumerate() {
            product(number, seen(number), gathered, part);
            self.spread(phase, part, number == 0, dx);
        }
    }

    fn source<'a>(&'a self, x: &'a Matrix, planes: &'a Planes) -> Source<'a> {
        match self.in_place {
            _ if self.window.is_pixel() => x.into(),
            true => {
                let shape = [self.channels[1], self.input.positions()];
                assert_eq!([x.features(), x.positions()], shape, "x must be of the input's maps");
                Source::reaching(x.padded(), &self.reach)
            }
            false if self.window.thins() => planes.rows(&self.layout, self.channels[1], self.output),
            false => planes.source(&self.reach),
        }
    }

    fn check(&self, csr: &Csr) {
        let [outputs, inputs] = self.channels;
        let shape = [outputs, inputs * self.window.taps()];
        assert_eq!([csr.rows(), csr.width()], shape, "the weight must be of the convolution's shape");
    }

    /// Puts the pixels of a phase where they belong; the `first` one's between zeros, as nobody may see the others.
    fn spread(&self, phase: &Phase, part: &Matrix, first: bool, dx: &mut Matrix) {
        let ([first_y, first_x], [height, width]) = (phase.first, phase.size);
        let (images, stride) = (self.input.images, self.window.stride);
        if height * width * images * self.channels[1] == 0 {
            if first {
                dx.reset(self.channels[1], self.input.positions());
            }
            return;
        }
        let row = self.input.width * images;
        let padded = dx.stride();
        for_each_chunk(dx.padded_mut(), padded, &|start, channel| {
            if first {
                channel.fill(0.0);
            }
            let part = part.row(start / padded);
            for (y, line) in part.chunks(width * images).enumerate() {
                let to = &mut channel[(first_y + y * stride[0]) * row..][..row];
                let pixels = to[first_x * images..].chunks_mut(images).step_by(stride[1]);
                pixels.zip(line.chunks(images)).for_each(|(to, pixel)| to.copy_from_slice(pixel));
            }
        });
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.reach.bytes() + self.phases.iter().map(|phase| phase.reach.bytes()).sum::<usize>()
    }
}
