use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use super::super::normalize::Normalizer;
use super::*;

fn idx(sizes: &[u32], elements: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    bytes.extend(elements);
    bytes
}

fn write_part(folder: &TempDir, prefix: &str, (height, width): (u32, u32), labels: &[u8]) {
    let count = labels.len() as u32;
    let pixels = vec![7; (count * height * width) as usize];
    let path = |name: &str| folder.path().join(format!("{prefix}-{name}"));
    fs::write(path("images-idx3-ubyte"), idx(&[count, height, width], &pixels)).unwrap();
    fs::write(path("labels-idx1-ubyte"), idx(&[count], labels)).unwrap();
}

fn folder(train: &[u8], test: &[u8], shape: (u32, u32)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_part(&folder, "train", shape, train);
    write_part(&folder, "t10k", shape, test);
    folder
}

fn message(kind: Kind, folder: &TempDir) -> String {
    load(kind, folder.path()).unwrap_err().to_string()
}

#[test]
fn fashion_mnist_of_the_repository() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/fashion-mnist");
    let Split { train, test } = load(Kind::FashionMnist, Path::new(path)).unwrap();
    assert_eq!(
        (train.len(), test.len(), train.shape(), train.classes()),
        (60_000, 10_000, ImageShape::grey(28, 28), 10)
    );
    for label in 0..10 {
        assert_eq!(train.labels().iter().filter(|&&l| l == label).count(), 6_000);
        assert_eq!(test.labels().iter().filter(|&&l| l == label).count(), 1_000);
    }
    assert_eq!(class_names(Kind::FashionMnist).unwrap()[train.labels()[0] as usize], "Ankle boot");
    let normalizer = Normalizer::fit(&train);
    assert!((normalizer.mean(0) - 0.2860).abs() < 1e-4 && (normalizer.deviation(0) - 0.3530).abs() < 1e-4);
}

#[test]
fn idx_takes_any_shape_and_counts_the_classes() {
    let folder = folder(&[0, 4, 2], &[1, 4], (3, 5));
    let Split { train, test } = load(Kind::Idx, folder.path()).unwrap();
    assert_eq!((train.len(), train.shape(), train.classes()), (3, ImageShape::grey(3, 5), 5));
    assert_eq!((test.len(), test.shape(), test.classes()), (2, ImageShape::grey(3, 5), 5));
}

#[test]
fn a_file_may_be_compressed() {
    let folder = folder(&[0, 1], &[1], (2, 2));
    let plain = folder.path().join("train-images-idx3-ubyte");
    let expected = load(Kind::Idx, folder.path()).unwrap();
    let file = fs::File::create(folder.path().join("train-images-idx3-ubyte.gz")).unwrap();
    let mut encoder = GzEncoder::new(file, Compression::default());
    encoder.write_all(&fs::read(&plain).unwrap()).unwrap();
    encoder.finish().unwrap();
    fs::remove_file(plain).unwrap();
    assert_eq!(load(Kind::Idx, folder.path()).unwrap(), expected);
}

#[test]
fn missing_files_are_named_with_a_mend() {
    let folder = folder(&[0], &[0], (28, 28));
    fs::remove_file(folder.path().join("t10k-labels-idx1-ubyte")).unwrap();
    for kind in [Kind::FashionMnist, Kind::Mnist, Kind::Idx] {
        let message = message(kind, &folder);
        assert!(message.contains("t10k-labels-idx1-ubyte"), "{message}");
        assert!(message.contains("data.path"), "{message}");
    }
    assert!(message(Kind::FashionMnist, &folder).contains("data/fashion-mnist"));
}

#[test]
fn a_missing_folder_is_a_missing_file() {
    assert!(matches!(load(Kind::Mnist, Path::new("no/such/folder")), Err(DataError::Missing { .. })));
}

#[test]
fn mnist_must_be_28_by_28() {
    let message = message(Kind::Mnist, &folder(&[0], &[0], (28, 27)));
    assert!(
        message.contains("train-images") && message.contains("28×27") && message.contains("28×28"),
        "{message}"
    );
}

#[test]
fn mnist_has_ten_classes_even_where_some_are_absent() {
    assert_eq!(load(Kind::Mnist, folder(&[0], &[9], (28, 28)).path()).unwrap().train.classes(), 10);
    let message = message(Kind::Mnist, &folder(&[0, 10], &[0], (28, 28)));
    assert!(message.contains("train-labels") && message.contains("label 10"), "{message}");
}

#[test]
fn test_labels_must_be_known_from_training() {
    let message = message(Kind::Idx, &folder(&[0, 1], &[0, 1, 2], (2, 2)));
    assert!(message.contains("t10k-labels") && message.contains("sample 2") && message.contains("below 2"));
}

#[test]
fn training_and_test_shapes_must_agree() {
    let folder = folder(&[0], &[0], (2, 3));
    write_part(&folder, "t10k", (3, 2), &[0]);
    let message = message(Kind::Idx, &folder);
    assert!(
        message.contains("t10k-images") && message.contains("3×2") && message.contains("2×3"),
        "{message}"
    );
}

#[test]
fn an_empty_part_is_an_error() {
    let message = message(Kind::Idx, &folder(&[], &[], (2, 3)));
    assert!(message.contains("train-images") && message.contains("no samples"), "{message}");
}

#[test]
fn known_classes_have_names_of_their_own() {
    for (kind, classes) in
        [(Kind::FashionMnist, 10), (Kind::Mnist, 10), (Kind::Cifar10, 10), (Kind::Cifar100, 100)]
    {
        let mut names = class_names(kind).unwrap().to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), classes);
    }
}

#[test]
fn kinds_are_configured_by_name() {
    for kind in Kind::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        assert_eq!(serde_json::from_value::<Kind>(kind.name().into()).unwrap(), kind);
    }
}
