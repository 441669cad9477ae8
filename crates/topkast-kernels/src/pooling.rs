//! Max and average pooling of feature maps.
//!
//! Images are innermost, so each tap of a window is a run of numbers, one for each image, and a pixel's output is combined from
//! such runs. Rows are worked on in parallel.

use crate::chunks::{chunk_rows, for_each_chunk};
use crate::simd::Simd;
use crate::{Isa, Kernel, Maps, Matrix, Window};

/// Images of a pixel that are worked on at once.
const IMAGES: usize = 64;

/// How the numbers under a window become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The largest; NaN if one is. Padding does not count.
    Max,
    /// The mean, padding counting as zeros.
    Average,
}

/// `y`, `[features × output positions]`, is what each window of the maps in `x` comes to. Where padding is so wide that a window sees
/// nothing else, its maximum is −∞.
///
/// # Panics
/// If the window does not fit the maps, or the rows of `x` are not of these.
pub fn pool(isa: Isa, pooling: Pooling, x: &Matrix, window: Window, maps: Maps, y: &mut Matrix) {
    let slide = Slide::new(window, maps, x);
    y.ensure(x.features(), slide.output.positions());
    if x.positions() == 0 || y.positions() == 0 {
        return;
    }
    for_each_chunk(y.rows_mut(), chunk_rows(x.stride()), &|first, mut y| {
        for row in 0..y.features() {
            isa.run(Forward { slide, pooling, x: x.row(first + row), y: y.row_mut(row) });
        }
    });
}

/// The gradient of [`pool`] with respect to `x`, which `dx` becomes: from `dy`, and for a maximum from `x` and `y`. Of equal maxima the
/// first, row by row, gets the gradient.
///
/// # Panics
/// If the window does not fit the maps, or a matrix is not of the shape that it had or led to.
#[allow(clippy::too_many_arguments)]
pub fn pool_gradient(
    isa: Isa,
    pooling: Pooling,
    dy: &Matrix,
    x: &Matrix,
    y: &Matrix,
    window: Window,
    maps: Maps,
    dx: &mut Matrix,
) {
    let slide = Slide::new(window, maps, x);
    for matrix in [dy, y] {
        let shape = (matrix.features(), matrix.positions());
        assert_eq!(shape, (x.features(), slide.output.positions()), "the shapes must be the same");
    }
    dx.reset(x.features(), x.positions());
    if x.positions() == 0 || y.positions() == 0 {
        return;
    }
    for_each_chunk(dx.rows_mut(), chunk_rows(x.stride()), &|first, mut dx| {
        for row in 0..dx.features() {
            let feature = first + row;
            let (dy, x, y) = (dy.row(feature), x.row(feature), y.row(feature));
            isa.run(Backward { slide, pooling, dy, x, y, dx: dx.row_mut(row) });
        }
    });
}

/// A window on maps.
#[derive(Clone, Copy)]
struct Slide {
    window: Window,
    maps: Maps,
    output: Maps,
}

impl Slide {
    fn new(window: Window, maps: Maps, x: &Matrix) -> Self {
        assert_eq!(x.positions(), maps.positions(), "each feature must hold the maps");
        Self { window, maps, output: window.output(maps).expect("a window that fits the maps") }
    }

    /// Calls `visit` with where the images of each output pixel are, and of each input pixel that it sees, in turn.
    #[inline(always)]
    fn each_tap(&self, mut visit: impl FnMut(usize, Option<usize>)) {
        let Self { window, maps, output } = self;
        let inside = |at: usize, tap: usize, axis: usize, size: usize| {
            let seen = at * window.stride[axis] + tap * window.dilation[axis];
            seen.checked_sub(window.padding[axis]).filter(|&seen| seen < size)
        };
        for y in 0..output.height {
            for x in 0..output.width {
                let to = (y * output.width + x) * maps.images;
                visit(to, None);
                for tap_y in 0..window.size[0] {
                    let Some(from_y) = inside(y, tap_y, 0, maps.height) else { continue };
                    for tap_x in 0..window.size[1] {
                        let Some(from_x) = inside(x, tap_x, 1, maps.width) else { continue };
                        visit(to, Some((from_y * maps.width + from_x) * maps.images));
                    }
                }
            }
        }
    }

    /// What a number counts in a mean.
    fn share(&self) -> f32 {
        1.0 / self.window.taps() as f32
    }
}

struct Forward<'a> {
    slide: Slide,
    pooling: Pooling,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { slide, pooling, x, y } = self;
        let images = slide.maps.images;
        match pooling {
            Pooling::Max => slide.each_tap(|to, from| {
                let y = &mut y[to..][..images];
                match from {
                    None => y.fill(f32::NEG_INFINITY),
                    Some(from) => {
                        for (y, &x) in y.iter_mut().zip(&x[from..][..images]) {
                            *y = if x > *y || x.is_nan() { x } else { *y };
                        }
                    }
                }
            }),
            Pooling::Average => {
                slide.each_tap(|to, from| {
                    let y = &mut y[to..][..images];
                    match from {
                        None => y.fill(0.0),
                        Some(from) => y.iter_mut().zip(&x[from..][..images]).for_each(|(y, &x)| *y += x),
                    }
                });
                y.iter_mut().for_each(|y| *y *= slide.share());
            }
        }
    }
}

struct Backward<'a> {
    slide: Slide,
    pooling: Pooling,
    dy: &'a [f32],
    x: &'a [f32],
    y: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { slide, pooling, dy, x, y, dx } = self;
        let images = slide.maps.images;
        match pooling {
            Pooling::Max => {
                for first in (0..images).step_by(IMAGES) {
                    let count = IMAGES.min(images - first);
                    // What of an output's gradient no tap has taken yet.
                    let mut left = [0.0; IMAGES];
                    slide.each_tap(|to, from| {
                        let to = to + first;
                        let Some(from) = from else {
                            return left[..count].copy_from_slice(&dy[to..][..count]);
                        };
                        let from = from + first;
                        let (x, y) = (&x[from..][..count], &y[to..][..count]);
                        let dx = &mut dx[from..][..count];
                        for (((dx, left), x), y) in dx.iter_mut().zip(&mut left).zip(x).zip(y) {
                            let taken = if x == y { *left } else { 0.0 };
                            *dx += taken;
                            *left = if x == y { 0.0 } else { *left };
                        }
                    });
                }
            }
            Pooling::Average => slide.each_tap(|to, from| {
                let Some(from) = from else { return };
                let dx = &mut dx[from..][..images];
                dx.iter_mut().zip(&dy[to..][..images]).for_each(|(dx, dy)| *dx += dy * slide.share());
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    /// Output by output, image by image: the result, and which inputs it comes from with which weights.
    fn twin(pooling: Pooling, x: &[f32], window: Window, maps: Maps) -> Vec<(f64, Vec<(usize, f64)>)> {
        let output = window.output(maps).unwrap();
        let mut all = Vec::new();
        for at in 0..output.positions() {
            let (pixel, image) = (at / maps.images, at % maps.images);
            let (y, x_at) = (pixel / output.width, pixel % output.width);
            let mut seen = Vec::new();
            for tap in 0..window.taps() {
                let place = |axis: usize, at: usize, tap: usize| {
                    (at * window.stride[axis] + tap * window.dilation[axis]) as isize
                        - window.padding[axis] as isize
                };
                let (from_y, from_x) =
                    (place(0, y, tap / window.size[1]), place(1, x_at, tap % window.size[1]));
                if (0..maps.height as isize).contains(&from_y) && (0..maps.width as isize).contains(&from_x) {
                    seen.push((from_y as usize * maps.width + from_x as usize) * maps.images + image);
                }
            }
            all.push(match pooling {
                Pooling::Average => {
                    let share = 1.0 / window.taps() as f64;
                    (
                        seen.iter().map(|&at| f64::from(x[at]) * share).sum(),
                        seen.into_iter().map(|at| (at, share)).collect(),
                    )
                }
                Pooling::Max => {
                    let largest = seen.iter().map(|&at| x[at]).fold(f32::NEG_INFINITY, f32::max);
                    let first = seen.into_iter().find(|&at| x[at] == largest);
                    (f64::from(largest), first.map(|at| (at, 1.0)).into_iter().collect())
                }
            });
        }
        all
    }

    fn check(pooling: Pooling, window: Window, maps: Maps, seed: u64) {
        let Some(output) = window.output(maps) else { return };
        let mut random = Random::new(seed);
        // Few different numbers, so that there are equal maxima.
        let rough: Vec<f32> = random.values(3 * maps.positions()).iter().map(|x| (x * 4.0).round()).collect();
        let x = Matrix::from_rows(3, maps.positions(), &rough);
        let dy = random.matrix(3, output.positions());
        for isa in Isa::available() {
            let (mut y, mut dx) = (random.matrix(3, output.positions()), random.matrix(3, maps.positions()));
            pool(isa, pooling, &x, window, maps, &mut y);
            pool_gradient(isa, pooling, &dy, &x, &y, window, maps, &mut dx);
            for feature in 0..3 {
                let mut gradient = vec![0.0; maps.positions()];
                for (at, (want, from)) in twin(pooling, x.row(feature), window, maps).into_iter().enumerate()
                {
                    let got = f64::from(y.get(feature, at));
                    assert!(got == want || (got - want).abs() < 1e-5, "{got} against {want}");
                    from.into_iter()
                        .for_each(|(from, weight)| gradient[from] += weight * f64::from(dy.get(feature, at)));
                }
                for (at, want) in gradient.into_iter().enumerate() {
                    let got = f64::from(dx.get(feature, at));
                    assert!((got - want).abs() < 1e-5, "{got} against {want}");
                }
            }
        }
    }

    #[test]
    fn resnets_windows() {
        for images in [0, 1, 15, 16, 17, 100] {
            let maps = Maps { height: 9, width: 7, images };
            let window = Window { stride: [2; 2], ..Window::square(3) };
            check(Pooling::Max, window, maps, 1);
            let whole = Window { size: [9, 7], stride: [1; 2], padding: [0; 2], dilation: [1; 2] };
            check(Pooling::Average, whole, maps, 2);
        }
    }

    #[test]
    fn nan_is_the_maximum() {
        let maps = Maps { height: 1, width: 3, images: 1 };
        let x = Matrix::from_rows(1, 3, &[f32::NAN, 2.0, 1.0]);
        let mut y = Matrix::default();
        for isa in Isa::available() {
            pool(
                isa,
                Pooling::Max,
                &x,
                Window { size: [1, 3], padding: [0; 2], ..Window::square(1) },
                maps,
                &mut y,
            );
            assert!(y.get(0, 0).is_nan());
        }
    }

    proptest! {
        #[test]
        fn any_window(
            size in prop::array::uniform2(1usize..5),
            stride in prop::array::uniform2(1usize..4),
            padding in prop::array::uniform2(0usize..4),
            dilation in prop::array::uniform2(1usize..3),
            (height, width, images) in (1usize..9, 1usize..9, 1usize..20),
            seed: u64,
        ) {
            let (window, maps) = (Window { size, stride, padding, dilation }, Maps { height, width, images });
            check(Pooling::Max, window, maps, seed);
            check(Pooling::Average, window, maps, seed);
        }
    }
}
