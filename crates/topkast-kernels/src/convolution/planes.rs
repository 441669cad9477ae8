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
        let whole = x.features() * pitch;
        // A line more, as vectors end beyond the last pixel.
        self.data.resize(whole + LINE);
        self.data[whole..].fill(0.0);
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

    /// The channels of a window that [thins](super::Window::thins) as rows, for maps `to`.
    pub(super) fn rows(&self, layout: &Layout, channels: usize, to: Maps) -> Source<'_> {
        Source::rows(&self.data, channels, layout.pitch(), to.positions())
    }

    /// Bytes of storage held.
    pub fn capacity_bytes(&self) -> usize {
        self.data.capacity_bytes()
    }
}

/// Writes every number of a channel: what is there may be of other maps.
fn fill_channel(layout: &Layout, x: &[f32], maps: Maps, channel: &mut [f32]) {
    let (row, images) = (maps.width * maps.images, maps.images);
    let phases = layout.vertical.phases.len() * layout.horizontal.phases.len();
    let (own, slack) = channel.split_at_mut(phases * layout.vertical.length * layout.row());
    slack.fill(0.0);
    let mut lines = own.chunks_exact_mut(layout.row().max(1));
    for &vertical in &layout.vertical.phases {
        let (ys, first_y) = layout.vertical.own(vertical, maps.height);
        for &horizontal in &layout.horizontal.phases {
            let (xs, first_x) = layout.horizontal.own(horizontal, maps.width);
            for (y, to) in lines.by_ref().take(layout.vertical.length).enumerate() {
                if !ys.contains(&y) || xs.is_empty() {
                    to.fill(0.0);
                    continue;
                }
                let from = &x[(first_y + (y - ys.start) * layout.vertical.stride) * row..][..row];
                let (before, to) = to.split_at_mut(xs.start * images);
                let (to, after) = to.split_at_mut(xs.len() * images);
                before.fill(0.0);
                copy_line(&from[first_x * images..], layout.horizontal.stride, images, to);
                after.fill(0.0);
            }
        }
    }
}

/// Every `stride`-th pixel of a line.
fn copy_line(from: &[f32], stride: usize, images: usize, to: &mut [f32]) {
    if stride == 1 {
        return to.copy_from_slice(&from[..to.len()]);
    }
    let seen = from.chunks(images.max(1)).step_by(stride);
    to.chunks_mut(images.max(1)).zip(seen).for_each(|(to, pixel)| to.copy_from_slice(pixel));
}
