use tempfile::TempDir;

use super::*;

fn folder(files: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if !name.ends_with('/') {
            fs::write(path, b"").unwrap();
        }
    }
    folder
}

fn message(folder: &TempDir, classes: Option<&[&str]>) -> String {
    let classes = classes.map(|names| names.iter().map(|&name| name.to_owned()).collect());
    let error = FileList::read(folder.path(), classes).err().expect("it is refused").to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

#[test]
fn classes_and_files_are_sorted_by_name() {
    let folder = folder(&[
        "cat/2.JPEG",
        "cat/1.png",
        "ant/z.jpg",
        "cat/notes.txt",
        "ant/.hidden.jpg",
        "readme",
        ".git/x.jpg",
    ]);
    let list = FileList::read(folder.path(), None).unwrap();
    assert_eq!(list.classes(), ["ant", "cat"]);
    let images: Vec<_> = (0..list.len()).map(|image| (list.label(image), list.path(image))).collect();
    let want = [(0, "ant/z.jpg"), (1, "cat/1.png"), (1, "cat/2.JPEG")];
    assert_eq!(images, want.map(|(label, name)| (label, folder.path().join(name))));
}

#[test]
fn classes_without_images_to_measure_on_keep_their_label() {
    let folder = folder(&["c/1.jpg", "b/"]);
    let classes = ["a", "b", "c"].map(str::to_owned).to_vec();
    let list = FileList::read(folder.path(), Some(classes)).unwrap();
    assert_eq!((list.len(), list.label(0), list.classes().len()), (1, 2, 3));
}

#[test]
fn a_missing_folder_is_named_with_a_mend() {
    let folder = folder(&["file"]);
    for name in ["train", "file"] {
        let error = FileList::read(&folder.path().join(name), None).err().unwrap().to_string();
        assert!(error.contains(name) && error.contains("train/CLASS"), "{error}");
    }
}

#[test]
fn a_class_without_images_is_named() {
    let error = message(&folder(&["a/1.jpg", "empty/1.txt"]), None);
    assert!(error.contains("empty"), "{error}");
}

#[test]
fn folders_without_classes_are_refused() {
    assert!(message(&folder(&["1.jpg"]), None).contains("at least one image"));
    assert!(message(&folder(&["a/1.txt"]), Some(&["a"])).contains("at least one image"));
}

#[test]
fn an_unknown_class_is_named() {
    let error = message(&folder(&["a/1.jpg", "b/1.jpg"]), Some(&["a"]));
    assert!(error.contains("/b") && error.contains("train"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_class_that_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let folder = folder(&["a/1.jpg"]);
    fs::create_dir(folder.path().join(OsStr::from_bytes(b"b\xff"))).unwrap();
    assert!(message(&folder, None).contains("UTF-8"));
}

#[test]
fn checksums_tell_names_and_classes() {
    let checksum = |files: &[&str]| FileList::read(folder(files).path(), None).unwrap().checksum();
    let all = [
        checksum(&["a/1.jpg", "b/2.jpg"]),
        checksum(&["a/1.jpg", "b/3.jpg"]),
        checksum(&["a/1.jpg", "c/2.jpg"]),
        checksum(&["a/1.jpg", "a/2.jpg", "b/3.jpg"]),
        checksum(&["a/1.jpg", "b/2.jpg", "b/3.jpg"]),
    ];
    assert!((1..all.len()).all(|at| !all[..at].contains(&all[at])), "{all:?}");
    assert_eq!(all[0], checksum(&["b/2.jpg", "a/1.jpg"]));
}
