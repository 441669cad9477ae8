use proptest::prelude::*;

use super::super::augment::{Augment, PADDING};
use super::super::dataset::Images;
use super::super::order::Order;
use super::*;

fn dataset(count: usize, shape: ImageShape) -> Dataset {
    let pixels = (0..count * shape.features()).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 7) as u8).collect();
    let labels = (0..count as u32).map(|sample| sample % 7).collect();
    Dataset::new(Images { count, shape, pixels }, labels, 7).unwrap()
}

/// A pixel of an image as padded, cropped and mirrored, written down as it is described.
fn naive_pixel(
    image: &[u8],
    shape: ImageShape,
    view: View,
    table: &[f32; 256],
    row: usize,
    column: usize,
) -> f32 {
    let View { down, right, mirrored } = view;
    let column = if mirrored { shape.width - 1 - column } else { column };
    let (row, column) = ((row + down).checked_sub(PADDING), (column + right).checked_sub(PADDING));
    match (row.filter(|&row| row < shape.height), column.filter(|&column| column < shape.width)) {
        (Some(row), Some(column)) => table[usize::from(image[row * shape.width + column])],
        _ => 0.0,
    }
}

fn naive(
    dataset: &Dataset,
    normalizer: &Normalizer,
    layout: Layout,
    views: Views,
    samples: &[u32],
) -> (Matrix, Vec<u32>) {
    let shape = dataset.shape();
    let mut x = Matrix::zeros(layout.inputs(shape), layout.positions(shape, samples.len()));
    for (position, &sample) in samples.iter().enumerate() {
        let view = views.of_sample(sample);
        for channel in 0..shape.channels {
            let plane = &dataset.image(sample as usize)[channel * shape.plane()..][..shape.plane()];
            for (row, column) in
                (0..shape.height).flat_map(|row| (0..shape.width).map(move |column| (row, column)))
            {
                let value = naive_pixel(plane, shape, view, normalizer.table(channel), row, column);
                let pixel = row * shape.width + column;
                match layout {
                    Layout::Features => x.row_mut(channel * shape.plane() + pixel)[position] = value,
                    Layout::Maps => x.row_mut(channel)[pixel * samples.len() + position] = value,
                }
            }
        }
    }
    (x, samples.iter().map(|&sample| dataset.labels()[sample as usize]).collect())
}

fn filled(
    dataset: &Dataset,
    normalizer: &Normalizer,
    layout: Layout,
    views: Views,
    samples: &[u32],
) -> (Matrix, Vec<u32>) {
    let (mut x, mut labels) = (Matrix::default(), Vec::new());
    fill_batch(dataset, normalizer, layout, views, samples, &mut x, &mut labels);
    (x, labels)
}

const LAYOUTS: [Layout; 2] = [Layout::Features, Layout::Maps];

#[test]
fn any_number_of_threads_gives_the_same() {
    let dataset = dataset(300, ImageShape::rgb(11, 29));
    let normalizer = Normalizer::fit(&dataset);
    let mut order = Order::in_sequence(300);
    order.shuffle(1, 2);
    let views = Views::of_epoch(Augment::CropFlip, 1, 2);
    for (threads, layout) in
        [1, 2, 3, 8].into_iter().flat_map(|threads| LAYOUTS.map(|layout| (threads, layout)))
    {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let samples = order.batch(1, 130);
        let got = pool.install(|| filled(&dataset, &normalizer, layout, views, samples));
        assert_eq!(got, naive(&dataset, &normalizer, layout, views, samples));
    }
}

#[test]
fn storage_is_reused() {
    let dataset = dataset(100, ImageShape::rgb(9, 9));
    let normalizer = Normalizer::fit(&dataset);
    let order = Order::in_sequence(100);
    for layout in LAYOUTS {
        let (mut x, mut labels) = (Matrix::default(), Vec::new());
        let mut fill = |batch| {
            let samples = order.batch(batch, 40);
            fill_batch(&dataset, &normalizer, layout, Views::PLAIN, samples, &mut x, &mut labels);
            (x.capacity_bytes(), x.padded().as_ptr(), labels.capacity(), labels.as_ptr())
        };
        let before = fill(0);
        assert_eq!([1, 2, 0].map(fill), [before; 3]);
    }
}

#[test]
fn images_fill_as_samples_do() {
    let dataset = dataset(20, ImageShape::rgb(5, 4));
    let normalizer = Normalizer::fit(&dataset);
    let images: Vec<&[u8]> = [3, 1, 19].map(|sample| dataset.image(sample)).to_vec();
    for layout in LAYOUTS {
        let mut x = Matrix::default();
        fill_images(&images, dataset.shape(), &normalizer, layout, &mut x);
        assert_eq!(x, naive(&dataset, &normalizer, layout, Views::PLAIN, &[3, 1, 19]).0);
    }
}

#[test]
#[should_panic(expected = "index out of bounds")]
fn samples_must_exist() {
    let dataset = dataset(3, ImageShape::grey(2, 2));
    filled(&dataset, &Normalizer::fit(&dataset), Layout::Features, Views::PLAIN, &[3]);
}

proptest! {
    #[test]
    fn it_equals_its_naive_twin(
        channels in 1usize..4,
        height in 1usize..20,
        width in 1usize..20,
        wide: bool,
        augmented: bool,
        maps: bool,
        batches in prop::collection::vec(prop::collection::vec(0u32..50, 0..70), 1..4),
    ) {
        let width = if wide { 5 * width } else { width };
        let dataset = dataset(50, ImageShape { channels, height, width });
        let normalizer = Normalizer::fit(&dataset);
        let (layout, augment) = (LAYOUTS[usize::from(maps)], if augmented { Augment::CropFlip } else { Augment::None });
        let (mut x, mut labels) = (Matrix::default(), Vec::new());
        for (epoch, samples) in (0..).zip(batches) {
            let views = Views::of_epoch(augment, 1, epoch);
            fill_batch(&dataset, &normalizer, layout, views, &samples, &mut x, &mut labels);
            prop_assert_eq!((x.clone(), labels.clone()), naive(&dataset, &normalizer, layout, views, &samples));
        }
    }
}
