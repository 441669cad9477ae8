//! `topkast data`, but for downloads, whose tests are beside their code.

mod common;

use common::{Workplace, json_lines, refuses, succeeds};

#[test]
fn known_data_sets_are_listed() {
    let place = Workplace::new();
    let text = succeeds(place.topkast("data list"));
    let records = json_lines(&succeeds(place.topkast("data list --json")));
    let names: Vec<_> = records.iter().map(|record| record["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["fashion-mnist", "mnist", "cifar10", "cifar100", "enwik8"]);
    for record in &records {
        assert!(record["home"].as_str().unwrap().starts_with("https://"), "{record}");
        for file in record["files"].as_array().unwrap() {
            assert!(text.contains(file["name"].as_str().unwrap()), "{file}");
            assert!(
                file["checksum"].as_str().unwrap().starts_with("MD5 ") || file["bytes"].is_u64(),
                "{file}"
            );
        }
    }
}

#[test]
fn what_is_there_is_read_to_its_end() {
    let place = Workplace::new();
    let told = succeeds(place.topkast("data check idx data"));
    assert_eq!(told, "data: whole; 300 training and 60 test images of 1x8x8 in 4 classes\n");
    let record = &json_lines(&succeeds(place.topkast("data check idx data --json")))[0];
    assert_eq!((&record["train"], &record["classes"]), (&300.into(), &4.into()));
    std::fs::write(place.join("text"), "a text of more than forty bytes, it does not matter which").unwrap();
    let told = succeeds(place.topkast("data check bytes text"));
    assert!(told.starts_with("text: whole; 51 training, 2 validation and 4 test tokens"), "{told}");
    let file = place.join("data/t10k-images-idx3-ubyte");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    assert!(refuses(place.topkast("data check idx data")).contains("is cut off"));
    assert!(refuses(place.topkast("data check nonsense data")).contains("unknown variant `nonsense`"));
    assert!(
        refuses(place.topkast("data fetch nonsense")).contains("there are fashion-mnist, mnist, cifar10")
    );
}
