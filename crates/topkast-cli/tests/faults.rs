//! What happens around a run goes wrong: it says so in one line, keeps what it has, and goes on from it.
#![cfg(target_os = "linux")]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use common::{Workplace, succeeds};
use safetensors::SafeTensors;

const SETTINGS: &str = "model.hidden=[64,48] train.batch=64 train.steps=60 train.checkpoint_every=4 sparsity.refresh_every=5 optimizer.kind=adamw";

/// The bytes of every tensor in a run's checkpoint.
fn weights(place: &Workplace, run: &str) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(place.join(run).join("checkpoint/state.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter().map(|(name, view)| (name.to_owned(), view.data().to_vec())).collect()
}

/// The line with which a command fails.
#[track_caller]
fn fails(mut command: Command) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{command:?}: {stderr}");
    assert!(stderr.starts_with("error: ") && stderr.lines().count() == 1, "{command:?}: {stderr}");
    stderr
}

/// Resumes `run`, and compares it with one that was left alone.
#[track_caller]
fn goes_on_to_the_same_end(place: &Workplace, run: &str) {
    succeeds(place.topkast(&format!("train --quiet --resume {run}")));
    succeeds(place.train("whole", SETTINGS));
    assert!(weights(place, run) == weights(place, "whole"), "the weights differ");
}

/// `command` as a shell runs it after `before`, with what `after` adds.
fn in_shell(before: &str, command: &Command, after: &str) -> Command {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{before}{} {after}", quoted.join(" "))]);
    shell.current_dir(command.get_current_dir().unwrap());
    shell
}

/// A file system of its own at `path` while this lives, where that is permitted.
struct Mount<'a>(&'a Path);

impl<'a> Mount<'a> {
    fn new(path: &'a Path, options: &str) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path).stderr(Stdio::null());
        let mounted = mount.status().is_ok_and(|status| status.success());
        if !mounted {
            eprintln!("skipped: mounting a file system is not permitted here");
        }
        mounted.then_some(Self(path))
    }

    fn remount(&self, options: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,{options}")]).arg(self.0);
        assert!(mount.status().unwrap().success());
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn a_full_disk() {
    let place = Workplace::new();
    let path = place.join("small");
    let Some(mount) = Mount::new(&path, "size=150k") else { return };
    let line = fails(place.train("small/run", &format!("{SETTINGS} train.keep_checkpoints=50")));
    assert!(line.contains("No space left on device") && line.contains("go on by --resume"), "{line}");
    assert!(line.contains("the checkpoint of step "), "{line}");
    let names: Vec<_> =
        fs::read_dir(path.join("run/checkpoint")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(names, ["state.safetensors"]);
    mount.remount("size=100m");
    goes_on_to_the_same_end(&place, "small/run");
}

/// Needs no rights: a limit on the size of files makes writing fail in its midst.
#[test]
fn a_write_that_fails_halfway() {
    let place = Workplace::new();
    // In blocks of 512 bytes: enough for everything but a checkpoint.
    let limit = "trap '' XFSZ; ulimit -f 30; ";
    let line = fails(in_shell(limit, &place.train("run", SETTINGS), ""));
    assert!(line.contains("checkpoint/state.safetensors: File too large"), "{line}");
    assert!(line.contains("there is no checkpoint yet"), "{line}");
    assert_eq!(fs::read_dir(place.join("run/checkpoint")).unwrap().count(), 0);
    goes_on_to_the_same_end(&place, "run");
}

#[test]
fn a_directory_that_cannot_be_written_to() {
    let place = Workplace::new();
    let path = place.join("sealed");
    let Some(mount) = Mount::new(&path, "size=10m") else { return };
    succeeds(place.train("sealed/run", &SETTINGS.replace("train.steps=60", "train.steps=8")));
    mount.remount("ro");
    let line = fails(place.train("sealed/new", SETTINGS));
    assert!(line.contains("sealed/new") && line.contains("Read-only file system"), "{line}");
    let line = fails(place.topkast("train --quiet --resume sealed/run"));
    assert!(line.contains("sealed/run") && line.contains("Read-only file system"), "{line}");
    // What only reads goes on.
    succeeds(place.topkast("eval sealed/run"));
    succeeds(place.topkast("inspect sealed/run"));
}

/// As [`a_directory_that_cannot_be_written_to`], by permissions, which do not bind root.
#[test]
fn a_directory_without_permission() {
    let place = Workplace::new();
    let path = place.join("mine");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o555)).unwrap();
    if File::create(path.join("probe")).is_ok() {
        eprintln!("skipped: permissions do not bind root");
        return;
    }
    let line = fails(place.train("mine/run", SETTINGS));
    assert!(line.contains("mine/run") && line.contains("Permission denied"), "{line}");
}

#[test]
fn being_asked_to_end() {
    let place = Workplace::new();
    let settings = SETTINGS.replace("train.steps=60", "train.steps=100000");
    let child = place.train("run", &settings).stderr(Stdio::piped()).spawn().unwrap();
    while !place.join("run/checkpoint/state.safetensors").exists() {
        sleep(Duration::from_millis(2));
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.starts_with("interrupted after step ") && stderr.lines().count() == 1, "{stderr}");
    succeeds(place.topkast("inspect run"));
}

#[test]
fn nobody_reads_what_it_prints() {
    let place = Workplace::new();
    let loud = |out: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_topkast"));
        command.args(place.train(out, SETTINGS).get_args().filter(|&word| word != "--quiet"));
        command.current_dir(place.join("."));
        command
    };
    for (number, redirection) in
        ["| head -1", "2>&1 | head -1", "2>&1 | true", ">&-", "2>&-", ">&- 2>&-", "> /dev/full"]
            .iter()
            .enumerate()
    {
        let run = format!("run-{number}");
        let output = in_shell("", &loud(&run), redirection).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("panicked"), "{redirection}: {stderr}");
        // All of it was done, whatever became of what it said.
        assert!(place.join(&run).join("summary.json").exists(), "{redirection}: {stderr}");
        assert!(weights(&place, &run) == weights(&place, "run-0"), "{redirection}");
    }
}

/// Nothing is decided by the time of files, or by what time it is.
#[test]
fn a_clock_that_is_set_back() {
    let place = Workplace::new();
    succeeds(place.train("run", SETTINGS));
    let older = place.join("run/checkpoint-older");
    let step = fs::read_dir(&older).unwrap().next().unwrap().unwrap().path();
    fs::rename(step, place.join("run/checkpoint/state.safetensors")).unwrap();
    fs::remove_file(place.join("run/summary.json")).unwrap();
    let decade = Duration::from_secs(10 * 365 * 86_400);
    let now = SystemTime::now();
    let mut future = true;
    for folder in ["run", "run/checkpoint", "run/checkpoint-best"] {
        for entry in fs::read_dir(place.join(folder)).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_file() {
                future = !future;
                let time = if future { now + decade } else { now - decade };
                File::options().append(true).open(&entry).unwrap().set_modified(time).unwrap();
            }
        }
    }
    goes_on_to_the_same_end(&place, "run");
    succeeds(place.topkast("report run"));
}
