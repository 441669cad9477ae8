//! Training on a folder of pictures in ImageNet's layout, some of them broken.

mod common;

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use common::{advance, assert_same, finish, restored, tensors};
use image::{DynamicImage, GrayImage, Luma, Rgb, RgbImage};
use tempfile::TempDir;
use topkast_train::checkpoint::Checkpoint;
use topkast_train::data::check_folder;
use topkast_train::{Config, Event, Purpose, RunDir, Trainer, load_trained, run};

/// What is bright: red, green or blue; grey pictures are their shade.
const CLASSES: [&str; 4] = ["blue", "green", "grey", "red"];

/// Writes 60 pictures to train on and 12 to measure on, of odd sizes, as JPEG and PNG, one of them CMYK; and of each part as many broken ones as
/// said.
fn folder(broken: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (part, count) in [("train", 60), ("val", 12)] {
        for (number, class) in (0..count).zip(CLASSES.iter().cycle()) {
            let within = folder.path().join(part).join(class);
            fs::create_dir_all(&within).unwrap();
            let extension = if number % 5 == 0 { "png" } else { "JPEG" };
            picture(class, number).save(within.join(format!("{number:02}.{extension}"))).unwrap();
        }
        fs::copy(
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/cmyk.jpg"),
            folder.path().join(part).join("red/cmyk.jpg"),
        )
        .unwrap();
        break_some(&folder.path().join(part), broken);
    }
    folder
}

fn picture(class: &str, number: u32) -> DynamicImage {
    let (width, height) = (20 + number * 7 % 31, 17 + number * 11 % 29);
    let shade = |x: u32, y: u32| (x * 3 + y * 5 + number * 13) as u8 % 90;
    if class == "grey" {
        return GrayImage::from_fn(width, height, |x, y| Luma([120 + shade(x, y)])).into();
    }
    let bright = ["red", "green", "blue"].iter().position(|name| *name == class).unwrap();
    let pixel = |x, y| Rgb([0, 1, 2].map(|channel| shade(x, y) + if channel == bright { 160 } else { 0 }));
    RgbImage::from_fn(width, height, pixel).into()
}

/// Empty files, text and files cut off, named so that they are the first of their class.
fn break_some(part: &Path, count: usize) {
    for number in 0..count {
        let within = part.join(CLASSES[number % CLASSES.len()]);
        let whole = fs::read(part.join("green/01.JPEG")).unwrap_or_default();
        let content = match number % 3 {
            0 => Vec::new(),
            1 => b"no picture".to_vec(),
            _ => whole[..whole.len() * 2 / 3].to_vec(),
        };
        fs::write(within.join(format!("0{number}-broken.jpg")), content).unwrap();
    }
}

fn config(folder: &TempDir, overrides: &[&str]) -> Config {
    let path = format!("data.path={}", folder.path().display());
    let base = [
        "data.kind=image-folder",
        &path,
        "data.size=12",
        "model.hidden=[24]",
        "sparsity.refresh_every=3",
        "optimizer.lr=0.02",
        "train.steps=40",
        "train.batch=16",
    ];
    let all: Vec<String> = base.iter().chain(overrides).map(|&setting| setting.to_owned()).collect();
    Config::load(None, &all).unwrap()
}

#[test]
fn a_network_learns_from_pictures_that_decode() {
    let folder = folder(5);
    let mut trainer = Trainer::new(config(&folder, &[])).unwrap();
    finish(&mut trainer);
    let score = trainer.test().unwrap();
    assert_eq!(score.samples, 13);
    assert!(score.value() > 0.9, "{score}");
    let mut told = trainer.broken_images();
    told.sort();
    assert!(told.len() == 10 && told.iter().all(|problem| problem.contains("-broken.jpg")), "{told:?}");
    assert!(trainer.test().is_ok() && trainer.broken_images().is_empty(), "each is told once");
}

#[test]
fn workers_do_not_matter_and_resuming_goes_on_in_the_epoch() {
    let folder = folder(4);
    let (middle, end, other) =
        (folder.path().join("middle"), folder.path().join("end"), folder.path().join("other"));
    let mut trainer = Trainer::new(config(&folder, &["data.workers=1"])).unwrap();
    advance(&mut trainer, 7);
    trainer.save(&middle, 0.0).unwrap();
    let losses = finish(&mut trainer);
    trainer.save(&end, 0.0).unwrap();
    for workers in ["data.workers=4", "data.workers=0"] {
        let mut resumed = restored(config(&folder, &[workers]), &middle);
        // Scoring in between takes nothing from the stream.
        resumed.test().unwrap();
        assert_eq!(finish(&mut resumed), losses, "{workers}");
        resumed.save(&other, 0.0).unwrap();
        assert_same(&tensors(&other), &tensors(&end), workers);
    }
}

#[test]
fn a_checkpoint_names_classes_and_needs_no_folder_to_classify() {
    let place = folder(0);
    let path = place.path().join("checkpoint");
    let mut trainer = Trainer::new(config(&place, &[])).unwrap();
    finish(&mut trainer);
    trainer.save(&path, 0.0).unwrap();
    let pictures = folder(0);
    let want = trainer.test().unwrap();
    fs::remove_dir_all(place.path().join("train")).unwrap();
    let mut trained = load_trained(&path).unwrap();
    assert_eq!(trained.score(pictures.path()).unwrap(), (want, vec![]));
    let Purpose::Classifier(mut network) = trained.purpose() else { panic!("it tells images apart") };
    for (file, class) in
        [("val/blue/04.JPEG", "blue"), ("val/grey/06.JPEG", "grey"), ("val/red/cmyk.jpg", "red")]
    {
        let pixels = network.read_image(&pictures.path().join(file)).unwrap();
        let probabilities = network.probabilities(&pixels);
        let likeliest = (0..4).max_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b])).unwrap();
        assert_eq!(network.class_name(likeliest), Some(class), "{probabilities:?}");
    }
    fs::create_dir(pictures.path().join("val/yellow")).unwrap();
    let error = load_trained(&path).unwrap().score(pictures.path()).unwrap_err().to_string();
    assert!(error.contains("yellow"), "{error}");
}

#[test]
fn a_run_does_not_go_on_with_other_files() {
    let place = folder(0);
    let path = place.path().join("checkpoint");
    let mut trainer = Trainer::new(config(&place, &[])).unwrap();
    advance(&mut trainer, 2);
    trainer.save(&path, 0.0).unwrap();
    fs::rename(place.path().join("train/red/03.JPEG"), place.path().join("train/blue/03.JPEG")).unwrap();
    let resumed = Trainer::resumed(config(&place, &[]), &Checkpoint::read(&path).unwrap(), &path);
    let error = resumed.err().expect("it is refused").to_string();
    assert!(error.contains("other data"), "{error}");
}

#[test]
fn a_run_tells_of_broken_pictures_and_ends_at_the_limit() {
    for (limit, ends) in [("data.broken_limit=10", false), ("data.broken_limit=4", true)] {
        let place = folder(5);
        let dir = RunDir::create(&place.path().join("run")).unwrap();
        let mut told = 0;
        let mut watch = |event: Event| told += usize::from(matches!(event, Event::BrokenImage(_)));
        let result = run(config(&place, &[limit]), &dir, &AtomicBool::new(false), &mut watch);
        match result {
            Ok(_) => assert!(!ends && told == 10, "{told} told"),
            Err(error) => {
                let message = error.to_string();
                assert!(
                    ends && message.contains("broken_limit = 4") && message.contains("-broken.jpg"),
                    "{message}"
                );
                assert!(told == 4 && error.is_bad_input(), "{told} told");
            }
        }
    }
}

#[test]
fn a_check_decodes_every_picture() {
    let place = folder(3);
    let found = check_folder(place.path()).unwrap();
    assert_eq!((found.images, found.classes, found.broken.len()), ([64, 16], 4, 6));
    assert!(found.broken.iter().all(|problem| problem.contains("-broken.jpg")), "{:?}", found.broken);
    assert!(check_folder(&place.path().join("val")).is_err());
}

#[test]
fn settings_of_other_data_are_refused() {
    let place = folder(0);
    let path = format!("data.path={}", place.path().display());
    for (setting, key) in [
        ("data.augment=crop-flip", "data.augment"),
        ("data.validation=0.1", "data.validation"),
        ("data.size=0", "data.size"),
    ] {
        let all = ["data.kind=image-folder", &path, setting].map(str::to_owned);
        let error = Config::load(None, &all).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
}
