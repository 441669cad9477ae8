//! Tests of the three passes against their twins.

use super::*;
use crate::naive;
use crate::testing::*;
use proptest::prelude::*;

/// Checks all passes of a random weight on every instruction set; windows that do not fit are passed over.
fn check(window: Window, [outputs, inputs]: [usize; 2], maps: Maps, density: f32, seed: u64) {
    let Some(convolution) = Convolution::new(window, [outputs, inputs], maps) else { return };
    let mut random = Random::new(seed);
    let csr = random.csr(outputs, inputs * window.taps(), density);
    let other = random.csr(outputs, inputs * window.taps(), density);
    let values = random.values(csr.entries());
    let x = random.matrix(inputs, maps.positions());
    let dy = random.matrix(outputs, convolution.output().positions());
    let (of_values, of_x, of_dy) = (magnitudes(&values), matrix_magnitudes(&x), matrix_magnitudes(&dy));
    let forward = |values: &[f32], x: &Matrix| naive::convolution(&csr, values, x, window, maps).unwrap();
    let backward = |values: &[f32], dy: &Matrix| {
        naive::convolution_input_gradient(&csr, values, dy, inputs, window, maps).unwrap()
    };
    let sampled =
        |dy: &Matrix, x: &Matrix| naive::convolution_weight_gradient(&csr, dy, x, window, maps).unwrap();
    let (want_y, sizes_y) = (forward(&values, &x), forward(&of_values, &of_x));
    let (want_dx, sizes_dx) = (backward(&values, &dy), backward(&of_values, &of_dy));
    let (want, sizes) = (sampled(&dy, &x), sampled(&of_dy, &of_x));
    let turned = convolution.turned(&csr);

    let (mut planes, mut scratch) = (Planes::default(), GradientScratch::default());
    // Wrong numbers everywhere, to see that all are overwritten.
    let (mut y, mut dx) = (random.matrix(outputs, dy.positions()), random.matrix(inputs, maps.positions()));
    let (mut gradient, mut others) = (random.values(csr.entries()), random.values(other.entries()));
    for isa in Isa::available() {
        convolution.forward(isa, &csr, &values, &x, &mut planes, Epilogue::None, &mut y);
        assert_matrix_close(&y, &want_y, &sizes_y, csr.width());

        convolution.weight_gradient(isa, &csr, &dy, &x, &planes, &mut gradient);
        assert_close(&gradient, &want, &sizes, dy.positions());
        let alone = gradient.clone();
        gradient.fill(f32::NAN);
        let both = [&mut gradient[..], &mut others[..]];
        convolution.weight_gradient_pair(isa, [&csr, &other], &dy, &x, &planes, both);
        assert_eq!(gradient, alone);

        convolution.input_gradient(isa, &turned, &values, &dy, Epilogue::None, &mut scratch, &mut dx);
        assert_matrix_close(&dx, &want_dx, &sizes_dx, outputs * window.taps());
        // The same bits as the product and then a pass over it.
        let mut want = dx.clone();
        relu_gradient(isa, &x, &mut want);
        convolution.input_gradient(
            isa,
            &turned,
            &values,
            &dy,
            Epilogue::ReluGradient(&x),
            &mut scratch,
            &mut dx,
        );
        assert_eq!(dx, want);
    }
}

/// Checks the passes of a dense weight, as a structure that has every cell.
fn check_dense(window: Window, [outputs, inputs]: [usize; 2], maps: Maps, seed: u64) {
    let Some(convolution) = Convolution::new(window, [outputs, inputs], maps) else { return };
    let mut random = Random::new(seed);
    let columns = inputs * window.taps();
    let offsets = (0..=outputs).map(|row| (row * columns) as u32).collect();
    let full = Csr::new(columns, offsets, (0..outputs).flat_map(|_| 0..columns as u32).collect()).unwrap();
    let by_row = |numbers: &[f32]| full.entries_by_row().map(|entry| numbers[entry]).collect::<Vec<_>>();
    let values = random.values(full.entries());
    let w = by_row(&values);
    let x = random.matrix(inputs, maps.positions());
    let dy = random.matrix(outputs, convolution.output().positions());
    let forward = |values: &[f32], x: &Matrix| naive::convolution(&full, values, x, window, maps).unwrap();
    let backward = |values: &[f32], dy: &Matrix| {
        naive::convolution_input_gradient(&full, values, dy, inputs, window, maps).unwrap()
    };
    let sampled = |dy: &Matrix, x: &Matrix| {
        by_row(&naive::convolution_weight_gradient(&full, dy, x, window, maps).unwrap())
    };
    let (of_values, of_x, of_dy) = (magnitudes(&values), matrix_magnitudes(&x), matrix_magnitudes(&dy));
    let (want_y, sizes_y) = (forward(&values, &x), forward(&of_values, &of_x));
    let (want_dx, sizes_dx) = (backward(&values, &dy), backward(&of_values, &of_dy));
    let (want, sizes) = (sampled(&dy, &x), sampled(&of_dy, &of_x));
    let (mut planes, mut packed, mut scratch) = Default::default();
    let (mut y, mut dx) = (random.matrix(outputs, dy.positions()), random.matrix(inputs, maps.positions()));
    let mut gradient = random.values(w.len());
    for isa in Isa::available() {
        convolution.dense_forward(isa, &w, &x, &mut planes, &mut packed, &mut y);
        assert_matrix_close(&y, &want_y, &sizes_y, columns);
        convolution.dense_input_gradient(isa, &w, &dy, &mut scratch, &mut dx);
        assert_matrix_close(&dx, &want_dx, &sizes_dx, outputs * window.taps());
        convolution.dense_weight_gradient(isa, &dy, &x, &planes, &mut gradient);
        assert_close(&gradient, &want, &sizes, dy.positions());
    }
}

#[test]
fn dense_weights() {
    let strided = Window { stride: [2; 2], ..Window::square(3) };
    for images in [0, 1, 15, 16, 17, 33] {
        for window in
            [Window::square(1), Window::square(3), strided, Window { stride: [2; 2], ..Window::square(1) }]
        {
            check_dense(window, [7, 5], maps(5, 4, images), 13);
        }
    }
    for channels in [[0, 0], [0, 3], [3, 0], [1, 1], [13, 30]] {
        check_dense(Window::square(3), channels, maps(4, 5, 4), 14);
    }
    // Longer than a stretch, and rows.
    check_dense(Window::square(3), [4, 2], maps(2, 9, 70), 15);
    check_dense(Window::square(1), [4, 250], maps(2, 9, 70), 16);
}

fn maps(height: usize, width: usize, images: usize) -> Maps {
    Maps { height, width, images }
}

#[test]
fn every_stride_padding_and_dilation() {
    for size in [[1, 1], [2, 3], [3, 3], [5, 1]] {
        for stride in [[1, 1], [2, 2], [3, 1], [4, 2]] {
            for padding in [[0, 0], [1, 1], [2, 0], [0, 3]] {
                for dilation in [[1, 1], [2, 2], [1, 3]] {
                    let window = Window { size, stride, padding, dilation };
                    check(window, [4, 3], maps(6, 5, 3), 0.4, 1);
                    check(window, [2, 2], maps(1, 9, 16), 0.4, 2);
                }
            }
        }
    }
}

#[test]
fn odd_numbers_of_images_and_pixels() {
    for images in [0, 1, 15, 16, 17, 33] {
        for (height, width) in [(0, 4), (1, 1), (3, 7), (7, 3), (2, 16), (5, 17)] {
            check(Window::square(3), [9, 5], maps(height, width, images), 0.3, 3);
            check(
                Window { stride: [2; 2], ..Window::square(3) },
                [5, 9],
                maps(height, width, images),
                0.3,
                4,
            );
            check(Window::square(1), [3, 4], maps(height, width, images), 0.3, 5);
            check(
                Window { stride: [2; 2], ..Window::square(1) },
                [3, 4],
                maps(height, width, images),
                0.3,
                6,
            );
        }
    }
    for channels in [[0, 0], [0, 3], [3, 0], [1, 1]] {
        check(Window::square(3), channels, maps(4, 4, 4), 0.5, 7);
    }
}

/// Several stretches of a line, portions of the positions, windows larger than the maps.
#[test]
fn maps_in_place() {
    let loose = Window { padding: [2, 0], ..Window::square(3) };
    for (window, maps) in [
        (Window::square(3), maps(3, 40, 32)),
        (Window::square(3), maps(12, 24, 32)),
        (Window::square(5), maps(2, 3, 128)),
        (Window { dilation: [2; 2], padding: [2; 2], ..Window::square(3) }, maps(5, 4, 128)),
        (loose, maps(1, 6, 128)),
        (Window { padding: [1; 2], ..Window::square(1) }, maps(2, 2, 128)),
    ] {
        assert!(Convolution::new(window, [5, 3], maps).unwrap().reads_in_place());
        check(window, [5, 3], maps, 0.4, 17);
        check_dense(window, [5, 3], maps, 18);
    }
    // Blocks of columns.
    check(Window::square(3), [40, 200], maps(4, 3, 128), 0.06, 19);
}

#[test]
fn blocks_of_columns() {
    for (channels, density) in [([300, 70], 0.1), ([40, 200], 0.06), ([170, 33], 0.3)] {
        check(Window::square(3), channels, maps(4, 3, 9), density, 8);
        check(Window { stride: [2; 2], ..Window::square(3) }, channels, maps(5, 4, 6), density, 9);
    }
}

#[test]
fn epilogues_of_the_forward_pass_stay_within_lines() {
    let (window, maps) = (Window::square(3), maps(5, 3, 7));
    let convolution = Convolution::new(window, [6, 4], maps).unwrap();
    let mut random = Random::new(10);
    let csr = random.csr(6, 36, 0.4);
    let (values, bias) = (random.values(csr.entries()), random.values(6));
    let (x, others) = (random.matrix(4, maps.positions()), random.matrix(6, maps.positions()));
    let mut planes = Planes::default();
    for isa in Isa::available() {
        let mut run = |epilogue| {
            let mut y = Matrix::default();
            convolution.forward(isa, &csr, &values, &x, &mut planes, epilogue, &mut y);
            y
        };
        let plain = run(Epilogue::None);
        let (biased, relu, added) =
            (run(Epilogue::Bias(&bias)), run(Epilogue::BiasRelu(&bias)), run(Epilogue::Add(&others)));
        let mut pre = Matrix::default();
        let gelu = run(Epilogue::BiasGelu { bias: &bias, pre: &mut pre });
        let mut want_gelu = plain.clone();
        crate::gelu(isa, &biased, &mut want_gelu);
        assert_eq!((&pre, &gelu), (&biased, &want_gelu));
        for (row, &bias) in bias.iter().enumerate() {
            for (position, &y) in plain.row(row).iter().enumerate() {
                assert_eq!(biased.get(row, position), y + bias);
                assert_eq!(relu.get(row, position), (y + bias).max(0.0));
                assert_eq!(added.get(row, position), y + others.get(row, position));
            }
        }
    }
}

#[test]
fn threads_do_not_show() {
    let strided = Window { stride: [2; 2], ..Window::square(3) };
    for (window, images) in [(Window::square(3), 20), (Window::square(3), 128), (strided, 20)] {
        let (maps, channels) = (maps(7, 6, images), [60, 40]);
        let convolution = Convolution::new(window, channels, maps).unwrap();
        let mut random = Random::new(11);
        let csr = random.csr(60, 360, 0.1);
        let values = random.values(csr.entries());
        let x = random.matrix(40, maps.positions());
        let dy = random.matrix(60, convolution.output().positions());
        let turned = convolution.turned(&csr);
        assert_same_on_any_threads(|isa| {
            let (mut planes, mut scratch, mut y, mut dx) = Default::default();
            let mut gradient = vec![0.0; csr.entries()];
            convolution.forward(isa, &csr, &values, &x, &mut planes, Epilogue::None, &mut y);
            convolution.weight_gradient(isa, &csr, &dy, &x, &planes, &mut gradient);
            convolution.input_gradient(isa, &turned, &values, &dy, Epilogue::None, &mut scratch, &mut dx);
            [y.padded(), dx.padded(), &gradient].concat()
        });
    }
}

#[test]
fn planes_of_another_shape_have_zeros_where_these_have_maps() {
    let mut random = Random::new(12);
    let (mut planes, mut scratch) = (Planes::default(), GradientScratch::default());
    for maps in [maps(6, 6, 4), maps(4, 9, 4), maps(6, 6, 3)] {
        let convolution = Convolution::new(Window::square(3), [3, 2], maps).unwrap();
        let csr = random.csr(3, 18, 0.8);
        let values = random.values(csr.entries());
        let (x, dy) = (random.matrix(2, maps.positions()), random.matrix(3, maps.positions()));
        let (isa, turned) = (Isa::available()[0], convolution.turned(&csr));
        let (mut y, mut dx) = (Matrix::default(), Matrix::default());
        convolution.forward(isa, &csr, &values, &x, &mut planes, Epilogue::None, &mut y);
        convolution.input_gradient(isa, &turned, &values, &dy, Epilogue::None, &mut scratch, &mut dx);
        let (mut fresh, mut fresh_scratch) = (Planes::default(), GradientScratch::default());
        let (mut want, mut want_dx) = (Matrix::default(), Matrix::default());
        convolution.forward(isa, &csr, &values, &x, &mut fresh, Epilogue::None, &mut want);
        convolution.input_gradient(
            isa,
            &turned,
            &values,
            &dy,
            Epilogue::None,
            &mut fresh_scratch,
            &mut want_dx,
        );
        assert_eq!((y, dx), (want, want_dx));
    }
}

prop_compose! {
    fn any_window()(
        size in prop::array::uniform2(1usize..5),
        stride in prop::array::uniform2(1usize..4),
        padding in prop::array::uniform2(0usize..4),
        dilation in prop::array::uniform2(1usize..4),
    ) -> Window {
        Window { size, stride, padding, dilation }
    }
}

proptest! {
    #[test]
    fn any_shape(
        window in any_window(),
        channels in prop::array::uniform2(0usize..12),
        (height, width, images) in (1usize..12, 1usize..12, prop_oneof![1usize..20, (1usize..4).prop_map(|lines| 16 * lines)]),
        density in 0.0f32..1.0,
        seed: u64,
    ) {
        check(window, channels, maps(height, width, images), density, seed);
        check_dense(window, channels, maps(height, width, images), seed);
    }
}
