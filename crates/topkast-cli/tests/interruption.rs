//! A run that is interrupted or killed, and then resumed, ends with the weights of one that never was.
#![cfg(unix)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{Workplace, json_lines, refuses, succeeds};
use safetensors::SafeTensors;

const STEPS: u64 = 400;

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

#[test]
fn a_directory_is_trained_in_by_one_process_at_a_time() {
    let place = Workplace::new();
    let mut child = under_way(&place);
    let line = refuses(place.topkast("train --quiet --resume run"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.contains("run: another process trains in it now"), "{line}");
    goes_on_to_the_same_end(&place);
}

/// Checkpoints of every released format are read, and gone on from as by the version that wrote them.
#[test]
fn checkpoints_of_earlier_formats_go_on() {
    let settings = "model.hidden=[12] train.batch=64 train.steps=40 train.checkpoint_every=1 sparsity.refresh_every=5 optimizer.kind=adamw";
    let place = Workplace::new();
    let portable = |mut command: Command| {
        command.env("TOPKAST_ISA", "portable");
        succeeds(command)
    };
    portable(place.train("whole", settings));
    for fixture in ["checkpoint-2", "checkpoint-3"] {
        let file = format!("{}/tests/fixtures/{fixture}.safetensors", env!("CARGO_MANIFEST_DIR"));
        let run = place.join(fixture);
        fs::create_dir_all(run.join("checkpoint")).unwrap();
        fs::copy(place.join("whole/config.toml"), run.join("config.toml")).unwrap();
        fs::copy(file, run.join("checkpoint/state.safetensors")).unwrap();
        let before = succeeds(place.topkast(&format!("inspect {fixture}")));
        assert!(!before.starts_with("after step 40"), "{before}");
        portable(place.topkast(&format!("train --quiet --resume {fixture}")));
        assert!(weights(&place, fixture) == weights(&place, "whole"), "{fixture}: the weights differ");
    }
}

/// Steps of a sweep's runs: enough for one of them to be in its midst when another has ended.
const SWEEP_STEPS: u64 = 600;

/// A sweep of four runs like the others here.
fn sweep(place: &Workplace) {
    let set = "data.kind=idx data.path=data model.hidden=[400,400] train.batch=64 sparsity.refresh_every=10 train.checkpoint_every=7";
    let set: Vec<String> =
        set.split(' ').chain([&*format!("train.steps={SWEEP_STEPS}")]).map(|s| format!("{s:?}")).collect();
    let methods = ["static", "top-kast"]
        .map(|name| format!("[[method]]\nname = \"{name}\"\nset = [\"sparsity.method={name}\"]\n"));
    let claim = "[[claim]]\ntext = \"ahead\"\nbetter = \"top-kast\"\nworse = \"static\"\n";
    let text =
        format!("title = \"T\"\nseeds = [1, 2]\nset = [{}]\n{}{claim}", set.join(","), methods.concat());
    fs::write(place.join("sweep.toml"), text).unwrap();
}

/// Starts the sweep, waits until some run is done and another has a checkpoint, and sends it a signal.
fn sweep_ended_by(place: &Workplace, name: &str, children_too: bool) -> std::process::Output {
    sweep(place);
    let child = place
        .topkast("compare sweep.toml --quiet --jobs 2 --threads 1 --out out")
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let runs = || {
        let methods = ["static", "top-kast"].into_iter();
        methods.flat_map(|method| [1, 2].map(|seed| place.join(&format!("out/{method}/seed-{seed}"))))
    };
    let done = || runs().any(|run| run.join("summary.json").exists());
    // In its first half, so that it is not over before the signal comes.
    let in_its_midst = || {
        runs().any(|run| {
            let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
            let early = (10..SWEEP_STEPS / 2).contains(&(metrics.lines().count() as u64));
            early && run.join("checkpoint/state.safetensors").exists()
        })
    };
    let start = Instant::now();
    while !(done() && in_its_midst()) {
        assert!(start.elapsed() < Duration::from_secs(120), "the sweep does not get half-way");
        sleep(Duration::from_millis(2));
    }
    let children = if children_too { children_of(child.id()) } else { Vec::new() };
    signal(&child, name);
    children.iter().for_each(|id| {
        // One may have ended by itself.
        let _ = Command::new("kill").args(["-KILL", id]).stderr(Stdio::null()).status().unwrap();
    });
    child.wait_with_output().unwrap()
}

fn children_of(id: u32) -> Vec<String> {
    let output = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let pairs = text.lines().filter_map(|line| line.trim().split_once(' '));
    pairs.filter(|(_, parent)| parent.trim() == id.to_string()).map(|(child, _)| child.to_owned()).collect()
}

/// Goes on with the sweep, and compares its table with that of one that goes through.
fn sweep_goes_on_to_the_same_table(place: &Workplace) {
    let states = succeeds(place.topkast("compare sweep.toml --dry-run --out out"));
    assert!(states.contains("done ") && states.lines().any(|line| !line.starts_with("done ")), "{states}");
    succeeds(place.topkast("compare sweep.toml --quiet --jobs 2 --out out"));
    succeeds(place.topkast("compare sweep.toml --quiet --out whole"));
    let table = |out: &str| fs::read_to_string(place.join(&format!("{out}/table.md"))).unwrap();
    assert_eq!(table("out"), table("whole"));
    assert!(table("out").contains("| top-kast | "), "{}", table("out"));
}

#[test]
fn a_sweep_killed_with_its_runs_goes_on_to_the_same_table() {
    let place = Workplace::new();
    sweep_ended_by(&place, "-KILL", true);
    sweep_goes_on_to_the_same_table(&place);
}

#[test]
fn a_sweep_waits_for_runs_that_a_killed_one_left_behind() {
    let place = Workplace::new();
    sweep_ended_by(&place, "-KILL", false);
    sweep_goes_on_to_the_same_table(&place);
}

#[test]
fn an_interrupted_sweep_has_its_runs_write_checkpoints() {
    let place = Workplace::new();
    let output = sweep_ended_by(&place, "-INT", false);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("interrupted, checkpoints written"), "{stderr}");
    let logs = ["static", "top-kast"].iter().flat_map(|method| {
        [1, 2].map(|seed| fs::read_to_string(place.join(&format!("out/{method}/seed-{seed}/train.log"))))
    });
    assert!(logs.flatten().any(|log| log.contains("interrupted after step ")));
    sweep_goes_on_to_the_same_table(&place);
}
