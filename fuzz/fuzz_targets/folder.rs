//! Folders of images: files one after the other, each a line with its path, two bytes with its length (little endian), and the bytes.
#![no_main]

use std::fs;
use std::path::{Component, Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use topkast_fuzz::{check_message, empty_folder};
use topkast_train::data::check_folder;
use topkast_train::{Config, Trainer};

fuzz_target!(|bytes: &[u8]| {
    let folder = empty_folder();
    let mut rest = bytes;
    while let Some((path, content, after)) = file(rest) {
        rest = after;
        let path = folder.join(path);
        // What cannot be written, as a file that is a folder already, is not there.
        let _ = fs::create_dir_all(path.parent().unwrap_or(&folder)).and_then(|()| fs::write(&path, content));
    }
    if let Err(error) = check_folder(&folder) {
        check_message(&error);
    }
    let overrides = [
        "data.kind=image-folder".to_owned(),
        format!("data.path={}", folder.display()),
        "data.size=5".to_owned(),
        "data.workers=1".to_owned(),
        "model.hidden=[6]".to_owned(),
        "train.batch=2".to_owned(),
        "train.steps=2".to_owned(),
    ];
    match Trainer::new(Config::load(None, &overrides).expect("a valid config")) {
        Ok(mut trainer) => {
            while trainer.steps_done() < 2 {
                if let Err(error) = trainer.step() {
                    return check_message(&error);
                }
            }
            if let Err(error) = trainer.test() {
                check_message(&error);
            }
        }
        Err(error) => check_message(&error),
    }
});

/// The first file, its path without what would lead out of the folder, and what follows it.
fn file(bytes: &[u8]) -> Option<(PathBuf, &[u8], &[u8])> {
    let line = bytes.iter().position(|&byte| byte == b'\n')?;
    let path = String::from_utf8_lossy(&bytes[..line]);
    let plain = |part: &Component| matches!(part, Component::Normal(_));
    let path = Path::new(path.as_ref()).components().filter(plain).collect();
    let (length, rest) = bytes[line + 1..].split_first_chunk()?;
    let (content, rest) = rest.split_at(rest.len().min(u16::from_le_bytes(*length).into()));
    Some((path, content, rest))
}
