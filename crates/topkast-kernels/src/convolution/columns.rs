//! Where columns of the weight find their numbers in maps that are laid out in planes.

use super::planes::{Direction, Layout};
use super::window::{Axis, Maps};
use crate::source::{Lines, Reach};

/// The pixels of the input that the same taps see.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    /// Numbers of taps, ascending.
    pub(super) taps: Vec<usize>,
    /// The first pixel, vertically and horizontally.
    pub(super) first: [usize; 2],
    /// How many there are.
    pub(super) size: [usize; 2],
    pub(super) reach: Reach,
}

/// How the input is laid out, and where the columns of inputs × taps then are for each output pixel.
pub(super) fn of_input(axes: [Axis; 2], [input, output]: [Maps; 2], inputs: usize) -> (Layout, Reach) {
    let direction = |axis: Axis| Direction {
        phases: axis.phases().collect(),
        stride: axis.stride,
        first: -(axis.padding as isize),
        length: axis.seen(),
    };
    let images = input.images;
    let layout = Layout { vertical: direction(axes[0]), horizontal: direction(axes[1]), images };
    let number = |direction: &Direction, phase| {
        direction.phases.iter().position(|&other| other == phase).expect("a phase that a tap sees")
    };
    let place = |tap: usize| {
        let taps = [tap / axes[1].size, tap % axes[1].size];
        let phases = [
            number(&layout.vertical, axes[0].phase(taps[0])),
            number(&layout.horizontal, axes[1].phase(taps[1])),
        ];
        layout.at(phases, [axes[0].shift(taps[0]), axes[1].shift(taps[1])])
    };
    let lines = lines(output.height, output.width * images, layout.row());
    let (pitch, taps) = (layout.pitch(), axes[0].size * axes[1].size);
    let columns = 0..inputs * taps;
    let mut reach = Reach::new(columns.len());
    reach.add(lines, 0, columns.map(|column| Some(column / taps * pitch + place(column % taps))));
    (layout, reach)
}

/// How the output's gradient is laid out, and where the columns of outputs × taps then are for the pixels of each phase of the input.
pub(super) fn of_gradient(axes: [Axis; 2], images: usize, outputs: usize) -> (Layout, Vec<Phase>) {
    // The output pixels that some input pixel is seen by, and those beyond the edge that would be.
    let direction = |axis: Axis| {
        let ends = axis.phases().map(|phase| {
            let shifts = || axis.taps(phase).map(|tap| axis.shift(tap) as isize);
            let own = axis.own(phase);
            let most = shifts().max().unwrap_or(0);
            (own.start as isize - most, own.end as isize - shifts().min().unwrap_or(0))
        });
        let (first, end) = ends.fold((0, 0), |(first, last), (from, to)| (first.min(from), last.max(to)));
        Direction { phases: vec![0], stride: 1, first, length: (end - first).unsigned_abs() }
    };
    let layout = Layout { vertical: direction(axes[0]), horizontal: direction(axes[1]), images };
    let (pitch, mut phases) = (layout.pitch(), Vec::new());
    for vertical in axes[0].phases() {
        for horizontal in axes[1].phases() {
            let owns = [axes[0].own(vertical), axes[1].own(horizontal)];
            let taps: Vec<usize> = axes[0]
                .taps(vertical)
                .flat_map(|y| axes[1].taps(horizontal).map(move |x| y * axes[1].size + x))
                .collect();
            let place = |tap: usize| {
                let y = owns[0].start as isize - axes[0].shift(tap / axes[1].size) as isize;
                let x = owns[1].start as isize - axes[1].shift(tap % axes[1].size) as isize;
                let at = [y - layout.vertical.first, x - layout.horizontal.first];
                layout.at([0; 2], at.map(isize::unsigned_abs))
            };
            let lines = lines(owns[0].len(), owns[1].len() * images, layout.row());
            let columns = 0..outputs * taps.len();
            let mut reach = Reach::new(columns.len());
            let start = |at: usize| at / taps.len() * pitch + place(taps[at % taps.len()]);
            reach.add(lines, 0, columns.map(|at| Some(start(at))));
            let coordinate =
                |axis: Axis, at: usize, phase: usize| (at * axis.stride + phase).saturating_sub(axis.padding);
            phases.push(Phase {
                first: [
                    coordinate(axes[0], owns[0].start, vertical),
                    coordinate(axes[1], owns[1].start, horizontal),
                ],
                size: [owns[0].len(), owns[1].len()],
                taps,
                reach,
            });
        }
    }
    (layout, phases)
}

/// Lines of planes, one of which follows the other in the output.
fn lines(count: usize, length: usize, pitch: usize) -> Lines {
    Lines { count, length, pitch, first: 0, step: length }
}
