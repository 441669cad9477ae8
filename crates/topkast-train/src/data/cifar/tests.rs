use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::super::tar::tests::tar;
use super::super::unpack::tests::gzip;
use super::*;

/// A row: its labels, and planes that are the fine label and its neighbours.
fn row(labels: &[u8]) -> Vec<u8> {
    let label = labels[labels.len() - 1];
    let planes = [label, label + 1, label + 2].map(|value| vec![value; 32 * 32]);
    [labels, &planes.concat()].concat()
}

fn rows(labels: &[&[u8]]) -> Vec<u8> {
    labels.iter().flat_map(|labels| row(labels)).collect()
}

fn folder(files: &[(&str, Vec<u8>)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

/// The six files of CIFAR-10, with labels 0 to 4 to train on and 9, 8 to test on.
fn ten(within: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> =
        (0..5).map(|label| (format!("{within}data_batch_{}.bin", label + 1), rows(&[&[label]]))).collect();
    files.push((format!("{within}test_batch.bin"), rows(&[&[9], &[8]])));
    files
}

fn named(files: &[(String, Vec<u8>)]) -> Vec<(&str, Vec<u8>)> {
    files.iter().map(|(name, content)| (name.as_str(), content.clone())).collect()
}

fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
    gzip(&tar(&files))
}

fn is_the_example(split: &Split) {
    assert_eq!((split.train.labels(), split.test.labels()), (&[0, 1, 2, 3, 4][..], &[9, 8][..]));
    assert_eq!((split.train.shape(), split.train.classes(), split.test.classes()), (Cifar::SHAPE, 10, 10));
    let planes = [split.train.image(3)[0], split.train.image(3)[1024], split.train.image(3)[3071]];
    assert_eq!(planes, [3, 4, 5]);
}

fn message(cifar: Cifar, path: &Path) -> String {
    let message = cifar.load(path).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn files_in_the_folder_or_in_their_own() {
    is_the_example(&Cifar::Ten.load(folder(&named(&ten(""))).path()).unwrap());
    is_the_example(&Cifar::Ten.load(folder(&named(&ten("cifar-10-batches-bin/"))).path()).unwrap());
}

#[test]
fn the_archive_or_its_folder() {
    let mut files = ten("cifar-10-batches-bin/");
    // In another order, as archives may have them, with what else is in the original.
    files.reverse();
    files.push(("cifar-10-batches-bin/readme.html".to_owned(), b"hello".to_vec()));
    let folder = folder(&[("cifar-10-binary.tar.gz", archive(&files))]);
    is_the_example(&Cifar::Ten.load(folder.path()).unwrap());
    is_the_example(&Cifar::Ten.load(&folder.path().join("cifar-10-binary.tar.gz")).unwrap());
}

#[test]
fn two_files_packed_or_not() {
    let (train, test) = (rows(&[&[0], &[1], &[2], &[3], &[4]]), rows(&[&[9], &[8]]));
    for names in [["train.bin", "test.bin"], ["cifar10_train.bin", "cifar10_test.bin"]] {
        is_the_example(
            &Cifar::Ten.load(folder(&[(names[0], gzip(&train)), (names[1], test.clone())]).path()).unwrap(),
        );
    }
}

#[test]
fn cifar_100_learns_fine_labels() {
    let files = [("train.bin", rows(&[&[19, 99], &[0, 3]])), ("test.bin", rows(&[&[1, 2]]))];
    let split = Cifar::Hundred.load(folder(&files).path()).unwrap();
    assert_eq!(
        (split.train.labels(), split.test.labels(), split.train.classes()),
        (&[99, 3][..], &[2][..], 100)
    );
    assert_eq!(split.train.image(1)[..2], [3, 3]);
}

#[test]
fn a_missing_file_is_named_with_a_mend() {
    let mut files = ten("");
    files.remove(2);
    let message_of_files = message(Cifar::Ten, folder(&named(&files)).path());
    assert!(
        message_of_files.contains("data_batch_3.bin") && message_of_files.contains("data.path"),
        "{message_of_files}"
    );
    let packed = folder(&[("c.tar.gz", archive(&files))]);
    let message_of_archive = message(Cifar::Ten, &packed.path().join("c.tar.gz"));
    assert!(message_of_archive.contains("data_batch_3.bin"), "{message_of_archive}");
    for cifar in [Cifar::Ten, Cifar::Hundred] {
        assert!(message(cifar, Path::new("no/such")).contains("binary.tar.gz"));
        assert!(
            message(cifar, folder(&[("c.tar", tar(&[]))]).path().join("c.tar").as_path()).contains("test")
        );
    }
}

#[test]
fn a_cut_row_is_named() {
    let mut files = ten("");
    files[1].1.extend([1, 2, 3]);
    let message = message(Cifar::Ten, folder(&named(&files)).path());
    assert!(
        message.contains("data_batch_2.bin") && message.contains("6146") && message.contains("3076"),
        "{message}"
    );
}

#[test]
fn an_empty_file_is_named() {
    let mut files = ten("");
    files[4].1.clear();
    let message = message(Cifar::Ten, folder(&named(&files)).path());
    assert!(message.contains("data_batch_5.bin") && message.contains("no samples"), "{message}");
}

#[test]
fn labels_out_of_range_are_named() {
    let mut files = ten("");
    files[5].1 = rows(&[&[9], &[10]]);
    let fine = message(Cifar::Ten, folder(&named(&files)).path());
    assert!(
        fine.contains("test_batch.bin") && fine.contains("sample 1") && fine.contains("below 10"),
        "{fine}"
    );
    let files = [("train.bin", rows(&[&[20, 0]])), ("test.bin", rows(&[&[0, 0]]))];
    let coarse = message(Cifar::Hundred, folder(&files).path());
    assert!(
        coarse.contains("train.bin") && coarse.contains("label 20") && coarse.contains("below 20"),
        "{coarse}"
    );
    let files = [("train.bin", rows(&[&[0, 100]])), ("test.bin", rows(&[&[0, 0]]))];
    assert!(message(Cifar::Hundred, folder(&files).path()).contains("below 100"));
}

#[test]
fn damaged_archives_are_errors() {
    let whole = archive(&ten("x/"));
    for end in [0, 1, 20, whole.len() / 2, whole.len() - 4] {
        let folder = folder(&[("c.tar.gz", whole[..end].to_vec())]);
        let message = message(Cifar::Ten, &folder.path().join("c.tar.gz"));
        assert!(message.contains("c.tar.gz"), "{message}");
    }
    let text = folder(&[("c.tar.gz", vec![b'x'; 2000])]);
    assert!(message(Cifar::Ten, &text.path().join("c.tar.gz")).contains("no tar archive"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn flipped_bits_of_archives_never_panic(at: prop::sample::Index, bit in 0u32..8, packed: bool) {
        let files: Vec<(&str, &[u8])> = vec![("test.bin", &[0; 3073]), ("train.bin", &[1; 6146])];
        let mut bytes = if packed { gzip(&tar(&files)) } else { tar(&files) };
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let folder = folder(&[("c.tar", bytes)]);
        let _ = Cifar::Ten.load(&folder.path().join("c.tar"));
    }
}
