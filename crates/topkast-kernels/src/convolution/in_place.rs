//! Maps that a window without strides slides over where they are.
//!
//! Images are innermost, so a panel of positions that stays within a pixel of the output, or within neighbours that see the edge alike,
//! finds each tap's numbers side by side. The output is cut into regions of such pixels:
//!
//! ```text
//! corner   edge      corner       3x3 with padding 1: in corners 4 taps of 9 see the maps, at edges 6, inside all;
//! edge     inside    edge         the others are zero there
//! corner   edge      corner
//! ```

use std::ops::Range;

use super::window::{Axis, Maps};
use crate::Matrix;
use crate::buffer::LINE;
use crate::source::{Lines, Reach};

/// Regions at most: those of a window of 5x5. Each has a table of the columns.
const REGIONS: usize = 25;

/// Positions of a panel that edges are counted in: the widest.
const PANEL: usize = 128;

/// Where the output's pixels find the columns of inputs × taps in x, and the input's those of outputs × taps in the output's gradient; `None`
/// where maps have to be laid out.
///
/// # Panics
/// If the rows of all channels are 2³² − 1 numbers or more.
pub(super) fn reaches(
    axes: [Axis; 2],
    [input, output]: [Maps; 2],
    [outputs, inputs]: [usize; 2],
) -> Option<[Reach; 2]> {
    if axes.iter().any(|axis| axis.stride > 1) {
        return None;
    }
    let shift = |axis: Axis, tap| axis.shift(tap) as isize - axis.padding as isize;
    let seen = axes.map(|axis| (0..axis.size).map(|tap| shift(axis, tap)).collect::<Vec<_>>());
    let seen_by = axes.map(|axis| (0..axis.size).map(|tap| -shift(axis, tap)).collect());
    Some([reach([input, output], inputs, &seen)?, reach([output, input], outputs, &seen_by)?])
}

/// Where each pixel of the maps `to` finds the columns of channels × taps in the rows of a matrix of maps `from`; `shifts` are the distances of
/// what taps see from the pixel, vertically and horizontally. `None` where vectors would be cut at each pixel, the regions are many, or their
/// lines are cut into half as many panels again as whole ones: on small maps of few images narrow panels cost more than laying out.
fn reach([from, to]: [Maps; 2], channels: usize, shifts: &[Vec<isize>; 2]) -> Option<Reach> {
    let images = from.images;
    let rows = stretches(from.height, to.height, &shifts[0]);
    let columns = stretches(from.width, to.width, &shifts[1]);
    if images == 0 || !images.is_multiple_of(LINE) || rows.len() * columns.len() > REGIONS {
        return None;
    }
    let panels = |pixels: usize| (pixels * images).div_ceil(PANEL);
    let cut: usize = columns.iter().map(|x| panels(x.len())).sum();
    if 2 * cut > 3 * panels(to.width) {
        return None;
    }
    let stride = Matrix::stride_of(from.positions());
    let [up, left] = [0, 1].map(|axis| shifts[axis].iter().copied().min().unwrap_or(0));
    let mut reach = Reach::new(channels * shifts[0].len() * shifts[1].len());
    for y in &rows {
        for x in &columns {
            let lines = Lines {
                count: y.len(),
                length: x.len() * images,
                pitch: from.width * images,
                first: (y.start * to.width + x.start) * images,
                step: to.width * images,
            };
            let row = (y.start as isize + up) * from.width as isize;
            let base = (row + x.start as isize + left) * images as isize;
            let there =
                |at: usize, shift: isize, size: usize| (0..size as isize).contains(&(at as isize + shift));
            let starts = (0..channels).flat_map(|channel| {
                shifts[0]
                    .iter()
                    .flat_map(move |&down| shifts[1].iter().map(move |&right| (channel, down, right)))
            });
            reach.add(
                lines,
                base,
                starts.map(|(channel, down, right)| {
                    let sees = there(y.start, down, from.height) && there(x.start, right, from.width);
                    let pixel = (down - up) as usize * from.width + (right - left) as usize;
                    sees.then_some(channel * stride + pixel * images)
                }),
            );
        }
    }
    Some(reach)
}

/// Cuts `0..to` where a shift begins or ends to see one of `from` pixels.
fn stretches(from: usize, to: usize, shifts: &[isize]) -> Vec<Range<usize>> {
    let ends = shifts.iter().flat_map(|shift| [-shift, from as isize - shift]);
    let mut cuts: Vec<usize> = ends.map(|end| end.clamp(0, to as isize) as usize).chain([0, to]).collect();
    cuts.sort_unstable();
    cuts.dedup();
    cuts.windows(2).map(|cut| cut[0]..cut[1]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_cut_where_taps_leave_the_maps() {
        let ends = |from, to, shifts: &[isize]| {
            stretches(from, to, shifts).into_iter().map(|stretch| stretch.end).collect::<Vec<_>>()
        };
        assert_eq!(ends(32, 32, &[-1, 0, 1]), [1, 31, 32]);
        assert_eq!(ends(1, 1, &[-1, 0, 1]), [1]);
        assert_eq!(ends(2, 2, &[-1, 0, 1]), [1, 2]);
        assert_eq!(ends(5, 3, &[0, 1, 2]), [3]);
        assert_eq!(ends(3, 5, &[-2, -1, 0]), [1, 2, 3, 4, 5]);
        assert_eq!(ends(0, 2, &[-1, 0]), [1, 2]);
        assert!(ends(4, 0, &[0]).is_empty());
    }

    #[test]
    fn maps_are_laid_out_where_vectors_would_be_cut_or_regions_are_many() {
        let shifts = |size: isize| [(0..size).map(|tap| tap - size / 2).collect(), vec![0]];
        let maps = |images| Maps { height: 40, width: 40, images };
        let regions = |size, images| reach([maps(images); 2], 2, &shifts(size)).map(|reach| reach.regions());
        assert_eq!(
            [0, 1, 15, 16, 17, 32].map(|images| regions(3, images)),
            [None, None, None, Some(3), None, Some(3)]
        );
        assert_eq!([25, 27].map(|size| regions(size, 16)), [Some(25), None]);
    }
}
