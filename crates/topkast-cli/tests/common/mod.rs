//! A folder with small data to call the command in.

#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// Height and width of the images.
pub(crate) const SIDE: u32 = 8;

/// A folder with four IDX files in `data`: 300 images to train on, 60 to test on, 4 classes.
pub(crate) struct Workplace(TempDir);

impl Workplace {
    pub(crate) fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.join("data")).unwrap();
        for (prefix, count) in [("train", 300), ("t10k", 60)] {
            let (images, labels) = idx_files(count);
            fs::write(place.join(&format!("data/{prefix}-images-idx3-ubyte")), images).unwrap();
            fs::write(place.join(&format!("data/{prefix}-labels-idx1-ubyte")), labels).unwrap();
        }
        place
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The command with these arguments, one word each, in this folder.
    pub(crate) fn topkast(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_topkast"));
        command.args(arguments.split_whitespace()).current_dir(self.0.path()).env_remove("TOPKAST_ISA");
        command
    }

    /// `topkast train` on the data here, in the run directory `out`, with more settings.
    pub(crate) fn train(&self, out: &str, settings: &str) -> Command {
        let mut command = self.topkast(&format!("train --quiet --out {out} --threads 2"));
        let base =
            "data.kind=idx data.path=data sparsity.forward=0.8 sparsity.backward=0.6 train.log_every=1";
        for setting in base.split_whitespace().chain(settings.split_whitespace()) {
            command.args(["--set", setting]);
        }
        command
    }

    /// A finished run of 40 steps with 8 refreshes in the directory `run`.
    pub(crate) fn with_run() -> Self {
        let place = Self::new();
        let settings = "model.hidden=[24] train.batch=64 train.steps=40 sparsity.refresh_every=5";
        succeeds(place.train("run", settings));
        place
    }
}

/// Images whose bright quadrant is their class, under noise, and their labels.
fn idx_files(count: u32) -> (Vec<u8>, Vec<u8>) {
    let mut images = vec![0, 0, 8, 3];
    [count, SIDE, SIDE].iter().for_each(|size| images.extend(size.to_be_bytes()));
    let mut labels = vec![0, 0, 8, 1];
    labels.extend(count.to_be_bytes());
    let mut noise = count;
    for sample in 0..count {
        labels.push((sample % 4) as u8);
        for pixel in 0..SIDE * SIDE {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (row, column) = (pixel / SIDE, pixel % SIDE);
            let bright = row / (SIDE / 2) * 2 + column / (SIDE / 2) == sample % 4;
            images.push((noise >> 24) as u8 / 2 + if bright { 100 } else { 0 });
        }
    }
    (images, labels)
}

/// What a command that succeeds prints on stdout.
#[track_caller]
pub(crate) fn succeeds(mut command: Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert_eq!(status.code(), Some(0), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// The line on stderr with which a command refuses wrong use or bad input.
#[track_caller]
pub(crate) fn refuses(mut command: Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{command:?}: {stderr}");
    assert!(stderr.ends_with('\n') && stderr.lines().count() == 1, "{command:?}: {stderr}");
    assert!(stderr.starts_with("error: ") && stdout.is_empty(), "{command:?}: {stderr}");
    stderr
}

/// Fails unless `object` has all of these fields, and none of them null.
#[track_caller]
pub(crate) fn has_fields(object: &Value, names: &str) {
    for name in names.split_whitespace() {
        assert!(object.get(name).is_some_and(|value| !value.is_null()), "no {name} in {object}");
    }
}

/// The JSON object of every line.
pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
