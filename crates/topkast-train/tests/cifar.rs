//! Training on images in colour, cropped and mirrored at random.

mod common;

use std::fs;
use std::path::Path;

use common::{advance, assert_same, finish, restored, tensors};
use topkast_train::{Config, DataState, Purpose, Trainer, load_trained};

/// Writes a CIFAR-10 of 300 training and 60 test images: the class says which channel is bright and in which half.
fn write_cifar(folder: &Path) {
    let mut noise = 1_u32;
    for (name, count) in [("train.bin", 300), ("test.bin", 60)] {
        let mut bytes = Vec::new();
        for sample in 0..count {
            let class = sample % 6;
            bytes.push(class as u8);
            for pixel in 0..3 * 1024 {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let bright = pixel / 1024 == class % 3 && (pixel % 1024 / 512 == class / 3);
                bytes.push((noise >> 24) as u8 / 2 + if bright { 100 } else { 0 });
            }
        }
        fs::write(folder.join(name), bytes).unwrap();
    }
}

fn config(folder: &Path, overrides: &[&str]) -> Config {
    let path = format!("data.path={}", folder.display());
    let base = [
        "data.kind=cifar10",
        &path,
        "data.augment=crop-flip",
        "model.hidden=[24]",
        "sparsity.refresh_every=3",
        "train.steps=24",
        "train.batch=64",
    ];
    let all: Vec<String> = base.iter().chain(overrides).map(|&setting| setting.to_owned()).collect();
    Config::load(None, &all).unwrap()
}

/// The halves survive a crop by four pixels, and a mirror.
#[test]
fn a_network_learns_from_crops() {
    let dir = tempfile::tempdir().unwrap();
    write_cifar(dir.path());
    let mut trainer = Trainer::new(config(dir.path(), &["data.validation=0.1"])).unwrap();
    finish(&mut trainer);
    assert!(trainer.test().unwrap().value() > 0.9, "{}", trainer.test().unwrap());
    assert_eq!(trainer.validate().unwrap().samples, 30);
}

#[test]
fn resuming_within_an_epoch_sees_the_same_crops() {
    let dir = tempfile::tempdir().unwrap();
    write_cifar(dir.path());
    let (middle, end, other) = (dir.path().join("middle"), dir.path().join("end"), dir.path().join("other"));
    let mut trainer = Trainer::new(config(dir.path(), &[])).unwrap();
    advance(&mut trainer, 7);
    trainer.save(&middle, 0.0).unwrap();
    let losses = finish(&mut trainer);
    trainer.save(&end, 0.0).unwrap();
    let mut resumed = restored(config(dir.path(), &[]), &middle);
    assert_eq!(finish(&mut resumed), losses);
    resumed.save(&other, 0.0).unwrap();
    assert_same(&tensors(&other), &tensors(&end), "resumed");
    let mut plain = Trainer::new(config(dir.path(), &["data.augment=none"])).unwrap();
    assert!(finish(&mut plain)[7..] != losses[..], "crops make a difference");
}

#[test]
fn a_checkpoint_knows_the_channels() {
    let dir = tempfile::tempdir().unwrap();
    write_cifar(dir.path());
    let path = dir.path().join("checkpoint");
    let mut trainer = Trainer::new(config(dir.path(), &[])).unwrap();
    finish(&mut trainer);
    trainer.save(&path, 0.0).unwrap();
    let mut trained = load_trained(&path).unwrap();
    assert_eq!(trained.state.data.image_shape().unwrap().to_string(), "32×32 in 3 channels");
    let DataState::Images { classes, .. } = trained.state.data else { panic!("they are images") };
    assert_eq!(classes, 10);
    assert_eq!(trained.score(dir.path()).unwrap().0, trainer.test().unwrap());
    let Purpose::Classifier(mut network) = trained.purpose() else { panic!("it tells images apart") };
    let row = fs::read(dir.path().join("test.bin")).unwrap()[3073..2 * 3073].to_vec();
    let probabilities = network.probabilities(&row[1..]);
    assert!(probabilities[usize::from(row[0])] > 0.5, "{probabilities:?}");
}
