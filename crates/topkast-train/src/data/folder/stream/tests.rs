use std::fs;
use std::path::Path;

use image::RgbImage;
use tempfile::TempDir;

use super::*;

const SIZE: usize = 12;

/// A folder of 23 images in three classes, each of one shade that is its number, and of an odd size.
fn folder() -> (TempDir, Arc<FileList>) {
    let folder = tempfile::tempdir().unwrap();
    for image in 0..23_u32 {
        let class = folder.path().join(["a", "b", "c"][image as usize / 8]);
        fs::create_dir_all(&class).unwrap();
        let shade = image::Rgb([10 * image as u8, image as u8, 255 - image as u8]);
        RgbImage::from_pixel(9 + image, 31 - image, shade)
            .save(class.join(format!("{image:02}.png")))
            .unwrap();
    }
    let list = FileList::read(folder.path(), None).unwrap();
    (folder, Arc::new(list))
}

fn break_image(folder: &Path, image: usize) {
    fs::write(folder.join(["a", "b", "c"][image / 8]).join(format!("{image:02}.png")), b"no image").unwrap();
}

fn source(list: &Arc<FileList>, plan: Plan, limit: usize) -> (Source, Arc<Broken>) {
    let broken = Arc::new(Broken::new(limit));
    (Source { list: list.clone(), broken: broken.clone(), size: SIZE, plan }, broken)
}

const TRAIN: Plan = Plan::Train { seed: 5 };

/// Takes `counts` images one after the other and tells the number of each, which is its shade of green.
fn take(stream: &mut Stream, counts: &[usize]) -> Vec<Vec<u8>> {
    counts
        .iter()
        .map(|&count| {
            let images = stream.take(count).unwrap();
            for image in images {
                let green = image.planes[SIZE * SIZE];
                assert_eq!(image.planes.len(), 3 * SIZE * SIZE);
                assert_eq!(image.label, u32::from(green) / 8);
            }
            images.iter().map(|image| image.planes[SIZE * SIZE]).collect()
        })
        .collect()
}

#[test]
fn epochs_are_shuffled_and_have_each_image_once() {
    let (_folder, list) = folder();
    let mut stream = Stream::start(source(&list, TRAIN, 0).0, 0, 8, 2).unwrap();
    let epochs = take(&mut stream, &[23, 23]);
    for (number, epoch) in epochs.iter().enumerate() {
        let mut order = Order::in_sequence(23);
        order.shuffle(5, number as u64);
        assert_eq!(epoch.iter().map(|&image| u32::from(image)).collect::<Vec<_>>(), order.samples());
    }
}

/// All pixels of batches of 10 of three epochs and more, with some broken images.
fn batches(list: &Arc<FileList>, from: u64, workers: usize, ahead: usize) -> Vec<(Vec<u8>, u32)> {
    let mut stream = Stream::start(source(list, TRAIN, 5).0, from, ahead, workers).unwrap();
    let mut all = Vec::new();
    while stream.position() < 80 {
        all.extend(stream.take(10).unwrap().iter().map(|image| (image.planes.clone(), image.label)));
    }
    all
}

#[test]
fn workers_and_room_do_not_matter_and_any_position_is_a_start() {
    let (folder, list) = folder();
    [3, 4, 20].into_iter().for_each(|image| break_image(folder.path(), image));
    let want = batches(&list, 0, 1, 20);
    assert_eq!(want.len(), 80);
    for (workers, ahead) in [(4, 20), (3, 1), (8, 100), (0, 20)] {
        assert!(batches(&list, 0, workers, ahead) == want, "{workers} workers, {ahead} ahead");
    }
    assert!(batches(&list, 30, 2, 20) == want[30..], "from position 30 on");
}

#[test]
fn broken_images_are_replaced_by_the_next_good_ones_and_told_once() {
    let (folder, list) = folder();
    let (source_, broken) = source(&list, TRAIN, 2);
    let mut order = Order::in_sequence(23);
    order.shuffle(5, 0);
    let mut order: Vec<u8> = order.samples().iter().map(|&sample| sample as u8).collect();
    // The last one's next is the first.
    [order[6], order[22]].into_iter().for_each(|image| break_image(folder.path(), image.into()));
    order[6] = order[7];
    order[22] = order[0];
    let mut stream = Stream::start(source_, 0, 8, 3).unwrap();
    assert_eq!(take(&mut stream, &[23]), [order]);
    take(&mut stream, &[23, 23]);
    let messages = broken.take_messages();
    assert!(
        messages.len() == 2 && messages.iter().all(|m| m.contains(".png is neither a PNG nor a JPEG")),
        "{messages:?}"
    );
    assert!(broken.take_messages().is_empty());
}

#[test]
fn more_broken_images_than_the_limit_are_an_error() {
    let (folder, list) = folder();
    [1, 2, 3].into_iter().for_each(|image| break_image(folder.path(), image));
    for (limit, fails) in [(2, true), (3, false)] {
        let mut stream = Stream::start(source(&list, TRAIN, limit).0, 0, 8, 2).unwrap();
        let result = stream.take(23).map(<[Decoded]>::len);
        match result {
            Err(error) => {
                assert!(fails && error.to_string().contains("data.broken_limit = 2"), "{error}");
            }
            Ok(count) => assert!(!fails && count == 23),
        }
    }
}

#[test]
fn a_folder_of_broken_images_is_an_error() {
    let (folder, list) = folder();
    (0..23).for_each(|image| break_image(folder.path(), image));
    let mut stream = Stream::start(source(&list, TRAIN, 100).0, 0, 8, 2).unwrap();
    assert!(matches!(stream.take(1), Err(DataError::AllBroken { images: 23 })));
}

#[test]
fn evaluation_sees_every_good_image_once_in_order() {
    let (folder, list) = folder();
    [0, 9, 10, 22].into_iter().for_each(|image| break_image(folder.path(), image));
    let (source, broken) = source(&list, Plan::Evaluate, 10);
    let mut stream = Stream::start(source, 0, 6, 2).unwrap();
    let found = take(&mut stream, &[10, 10, 10]);
    let good: Vec<u8> = (0..23).filter(|image| ![0, 9, 10, 22].contains(image)).collect();
    assert_eq!(found, [&good[..8], &good[8..17], &good[17..]]);
    assert_eq!((stream.position(), broken.take_messages().len()), (23, 4));
}

#[test]
fn a_stream_may_be_dropped_at_any_time() {
    let (_folder, list) = folder();
    for taken in [0, 1, 7] {
        let mut stream = Stream::start(source(&list, TRAIN, 0).0, 0, 4, 3).unwrap();
        stream.take(taken).unwrap();
    }
}
