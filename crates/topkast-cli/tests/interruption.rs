//! A run that is interrupted or killed, and then resumed, ends with the weights of one that never was.
#![cfg(unix)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{Workplace, json_lines, succeeds};
use safetensors::SafeTensors;

const STEPS: u64 = 150;

/// A run of about a second, long enough to be interrupted.
fn long_run(place: &Workplace, out: &str) -> Command {
    let settings = "model.hidden=[400,400] train.batch=64 sparsity.refresh_every=10 train.checkpoint_every=7";
    place.train(out, &format!("{settings} train.steps={STEPS}"))
}

/// Starts a run and waits until it has a checkpoint and some steps after it.
fn under_way(place: &Workplace) -> Child {
    let mut child = long_run(place, "run").stderr(Stdio::piped()).spawn().unwrap();
    let ready = || {
        let metrics = fs::read_to_string(place.join("run/metrics.jsonl")).unwrap_or_default();
        metrics.lines().count() >= 20 && place.join("run/checkpoint/state.safetensors").exists()
    };
    let start = Instant::now();
    while !ready() {
        if start.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("the run does not get under way: {:?}", child.wait());
        }
        sleep(Duration::from_millis(2));
    }
    child
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// The bytes of every tensor in a run's checkpoint, without the metadata, which has times.
fn weights(place: &Workplace, run: &str) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(place.join(run).join("checkpoint/state.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter().map(|(name, view)| (name.to_owned(), view.data().to_vec())).collect()
}

/// Resumes the run, and compares it with one that goes through.
fn goes_on_to_the_same_end(place: &Workplace) {
    assert!(!place.join("run/summary.json").exists(), "the run was over before it could be interrupted");
    succeeds(place.topkast("train --quiet --resume run"));
    succeeds(long_run(place, "whole"));
    assert!(weights(place, "run") == weights(place, "whole"), "the weights differ");
    let metrics = json_lines(&fs::read_to_string(place.join("run/metrics.jsonl")).unwrap());
    let logged: Vec<_> =
        metrics.iter().filter(|record| record["loss"].is_f64()).map(|r| &r["step"]).collect();
    assert_eq!(logged, (1..=STEPS).collect::<Vec<_>>());
}

#[test]
fn an_interrupt_writes_a_checkpoint_and_says_how_to_go_on() {
    let place = Workplace::new();
    let child = under_way(&place);
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.starts_with("interrupted after step ") && stderr.lines().count() == 1, "{stderr}");
    assert!(stderr.contains("topkast train --resume run"), "{stderr}");
    let step = stderr.split_whitespace().nth(3).unwrap().trim_end_matches(',');
    let table = succeeds(place.topkast("inspect run"));
    assert!(table.starts_with(&format!("after step {step}, ")), "{stderr}{table}");
    let report = &json_lines(&succeeds(place.topkast("inspect run --json")))[0];
    assert!(report["layers"][0]["sparse_ms"].is_f64(), "{report}");
    goes_on_to_the_same_end(&place);
}

#[test]
fn a_killed_run_goes_on_from_its_last_checkpoint() {
    let place = Workplace::new();
    let mut child = under_way(&place);
    signal(&child, "-KILL");
    assert_eq!(child.wait().unwrap().code(), None);
    goes_on_to_the_same_end(&place);
    let names: Vec<_> =
        fs::read_dir(place.join("run/checkpoint")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["state.safetensors"]);
}
