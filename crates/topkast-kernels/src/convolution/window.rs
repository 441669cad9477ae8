//! Feature maps, and the windows that convolutions slide over them.

/// The shape of the maps that each feature of a matrix holds: position `(y × width + x) × images + image`.
///
/// Images are innermost, so that vectors are full on maps however small, and moving by a pixel is the same for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maps {
    /// Rows of pixels.
    pub height: usize,
    /// Pixels in a row.
    pub width: usize,
    /// Images side by side.
    pub images: usize,
}

impl Maps {
    /// Numbers that a feature holds.
    pub fn positions(&self) -> usize {
        self.height * self.width * self.images
    }
}

/// What a convolution sees of its input for one output pixel, `[vertically, horizontally]`, as PyTorch's `Conv2d` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Pixels seen: at least 1.
    pub size: [usize; 2],
    /// Input pixels from one output pixel to the next: at least 1.
    pub stride: [usize; 2],
    /// Zeros on each side of the input.
    pub padding: [usize; 2],
    /// Input pixels from one seen to the next: at least 1.
    pub dilation: [usize; 2],
}

impl Window {
    /// A square window with stride 1 that leaves maps as large as they are, if `size` is odd.
    pub fn square(size: usize) -> Self {
        Self { size: [size; 2], stride: [1; 2], padding: [(size - 1) / 2; 2], dilation: [1; 2] }
    }

    /// Pixels seen, or *taps*: columns of the weight for each input channel.
    pub fn taps(&self) -> usize {
        self.size[0] * self.size[1]
    }

    /// The maps it makes of such; `None` if the window is larger than the padded maps, or not a window.
    pub fn output(&self, input: Maps) -> Option<Maps> {
        let [vertical, horizontal] = self.axes(input)?;
        Some(Maps { height: vertical.output, width: horizontal.output, images: input.images })
    }

    /// Whether it sees just the pixel that it makes.
    pub fn is_pixel(&self) -> bool {
        *self == Self::square(1)
    }

    /// Whether it sees one pixel for each that it makes, and never an edge: what it does not leave out is a matrix.
    pub(super) fn thins(&self) -> bool {
        (self.size, self.padding) == ([1; 2], [0; 2])
    }

    pub(super) fn axes(&self, input: Maps) -> Option<[Axis; 2]> {
        let axis = |at: usize, input| {
            Axis::new(self.size[at], self.stride[at], self.padding[at], self.dilation[at], input)
        };
        Some([axis(0, input.height)?, axis(1, input.width)?])
    }
}

/// A window along one direction.
///
/// The padded input is told apart by *phase*, its coordinate modulo the stride: from output to output, a tap then moves by one
/// pixel of its phase.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub(super) size: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
    dilation: usize,
    pub(super) input: usize,
    pub(super) output: usize,
}

impl Axis {
    fn new(size: usize, stride: usize, padding: usize, dilation: usize, input: usize) -> Option<Self> {
        let reach = size.checked_sub(1)?.checked_mul(dilation)?;
        let room = padding.checked_mul(2)?.checked_add(input)?.checked_sub(reach.checked_add(1)?)?;
        let output = room.checked_div(stride)? + 1;
        (dilation > 0).then_some(Self { size, stride, padding, dilation, input, output })
    }

    /// The phase that a tap sees.
    pub(super) fn phase(&self, tap: usize) -> usize {
        tap * self.dilation % self.stride
    }

    /// How many pixels of its phase after the output's a tap is.
    pub(super) fn shift(&self, tap: usize) -> usize {
        tap * self.dilation / self.stride
    }

    /// The phases that are seen, ascending.
    pub(super) fn phases(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.stride).filter(|&phase| self.taps(phase).next().is_some())
    }

    /// The taps that see a phase, ascending.
    pub(super) fn taps(&self, phase: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.size).filter(move |&tap| self.phase(tap) == phase)
    }

    /// The pixels of a phase that outputs see.
    pub(super) fn seen(&self) -> usize {
        self.output + self.shift(self.size - 1)
    }

    /// The pixels of a phase that are the input's own and not padding.
    pub(super) fn own(&self, phase: usize) -> std::ops::Range<usize> {
        let before = |end: usize| end.saturating_sub(phase).div_ceil(self.stride);
        before(self.padding)..before(self.padding + self.input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_as_many_as_pytorch_says() {
        // torch.nn.Conv2d(1, 1, size, stride, padding, dilation)(torch.zeros(1, 1, input, input)).shape[-1]
        for (size, stride, padding, dilation, input, output) in [
            (3, 1, 1, 1, 32, 32),
            (7, 2, 3, 1, 224, 112),
            (3, 2, 1, 1, 56, 28),
            (1, 2, 0, 1, 56, 28),
            (1, 2, 0, 1, 7, 4),
            (3, 1, 2, 2, 14, 14),
            (3, 3, 0, 2, 20, 6),
            (5, 1, 0, 1, 5, 1),
        ] {
            let window = Window {
                size: [size; 2],
                stride: [stride; 2],
                padding: [padding; 2],
                dilation: [dilation; 2],
            };
            let maps = |side| Maps { height: side, width: side, images: 3 };
            assert_eq!(window.output(maps(input)), Some(maps(output)), "{window:?} of {input}");
        }
    }

    #[test]
    fn what_is_no_window_makes_no_maps() {
        let maps = Maps { height: 4, width: 4, images: 1 };
        let window = Window { size: [5, 1], ..Window::square(1) };
        assert_eq!(window.output(maps), None);
        for (size, stride, dilation) in [(0, 1, 1), (1, 0, 1), (1, 1, 0), (usize::MAX, 1, 2)] {
            let window =
                Window { size: [size; 2], stride: [stride; 2], padding: [0; 2], dilation: [dilation; 2] };
            assert_eq!(window.output(maps), None, "{window:?}");
        }
    }
}
