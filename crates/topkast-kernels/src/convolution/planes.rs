//! Maps with zeros around them and their phases apart: what windows of any stride then slide over pixel by pixel.

use crate::buffer::LINE;
use crate::chunks::for_each_chunk;
use crate::source::{Reach, Source};
use crate::{Buffer, Matrix};

use super::window::Maps;

/// Maps laid out for a window, channel after channel; of one channel phase after phase.
#[derive(Clone, Debug, Default)]
pub struct Planes {
    data: Buffer,
    layout: Layout,
    channels: usize,
}

/// How planes of one channel are laid out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) vertical: Direction,
    pub(super) horizontal: Direction,
    pub(super) images: usize,
}

/// How planes are laid out in one direction: the pixel `at` of a phase is pixel `at × stride + phase + first` of the maps, or zero
/// where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Direction {
    pub(super) phases: Vec<usize>,
    pub(super) stride: usize,
    pub(super) first: isize,
    /// Pixels of a phase.
    pub(super) length: usize,
}

impl Direction {
    /// The pixels of a phase that are among the maps' `size`, and the first one's there.
    fn own(&self, phase: usize, size: usize) -> (std::ops::Range<usize>, usize) {
        let first = self.first + phase as isize;
        let before = |end: isize| (end - first).max(0).unsigned_abs().div_ceil(self.stride).min(self.length);
        let own = before(0)..before(size as isize);
        let from = (own.start * self.stride) as isize + first;
        (own, from.max(0).unsigned_abs())
    }
}

impl Layout {
    /// Floats of one channel. Distances that are a multiple of 256 share a few cache sets, as in [`Matrix`].
    pub(super) fn pitch(&self) -> usize {
        let phases = self.vertical.phases.len() * self.horizontal.phases.len();
        let pitch = (phases * self.vertical.length * self.row()).next_multiple_of(LINE);
        if pitch > 0 && pitch.is_multiple_of(256) { pitch + LINE } else { pitch }
    }

    /// Floats of a row of pixels.
    pub(super) fn row(&self) -> usize {
        self.horizontal.length * self.images
    }

    /// Where in a channel's floats a pixel of a pair of phases, given by their numbers, is.
    pub(super) fn at(&self, [vertical, horizontal]: [usize; 2], [y, x]: [usize; 2]) -> usize {
        let phase = vertical * self.horizontal.phases.len() + horizontal;
        (phase * self.vertical.length + y) * self.row() + x * self.images
    }
}

impl Planes {
    /// Lays out the maps of every row of `x`.
    ///
    /// # Panics
    /// If the rows are not of these maps.
    pub(super) fn fill(&mut self, layout: &Layout, x: &Matrix, maps: Maps) {
        assert_eq!(x.positions(), maps.positions(), "each feature must hold the maps");
        let pitch = layout.pitch();
        if self.layout != *layout || self.channels != x.features() {
            self.layout.clone_from(layout);
            self.channels = x.features();
            // Zeros between the maps stay as they are from now on. A line more, as vectors end beyond the last pixel.
            self.data.reset(x.features() * pitch + LINE);
        }
        let whole = x.features() * pitch;
        if whole == 0 {
            return;
        }
        for_each_chunk(&mut self.data[..whole], pitch, &|start, channel| {
            fill_channel(layout, x.row(start / pitch), maps, channel);
        });
    }

    /// The columns that `reach` tells of.
    pub(super) fn source<'a>(&'a self, reach: &'a Reach) -> Source<'a> {
        Source::reaching(&self.data, reach)
    }

    /// Bytes of storage held.
    pub fn capacity_bytes(&self) -> usize {
        self.data.capacity_bytes()
    }
}

fn fill_channel(layout: &Layout, x: &[f32], maps: Maps, channel: &mut [f32]) {
    let (row, images) = (maps.width * maps.images, maps.images);
    for (vertical, &phase) in layout.vertical.phases.iter().enumerate() {
        let (ys, first) = layout.vertical.own(phase, maps.height);
        for (number, y) in ys.enumerate() {
            let from = &x[(first + number * layout.vertical.stride) * row..][..row];
            for (horizontal, &phase) in layout.horizontal.phases.iter().enumerate() {
                let (xs, first) = layout.horizontal.own(phase, maps.width);
                if xs.is_empty() {
                    continue;
                }
                let to =
                    &mut channel[layout.at([vertical, horizontal], [y, xs.start])..][..xs.len() * images];
                if layout.horizontal.stride == 1 {
                    to.copy_from_slice(&from[first * images..][..to.len()]);
                } else {
                    let pixels = from[first * images..].chunks(images.max(1));
                    let seen = pixels.step_by(layout.horizontal.stride);
                    to.chunks_mut(images.max(1)).zip(seen).for_each(|(to, pixel)| to.copy_from_slice(pixel));
                }
            }
        }
    }
}
