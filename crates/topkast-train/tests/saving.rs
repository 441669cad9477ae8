//! Saving that fails, and training that diverges, leave the former checkpoint as it was.

mod common;

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use common::{Workplace, advance, assert_same, finish, restored, tensors};
use topkast::{Moments, Parameter};
use topkast_nn::ParameterMut;
use topkast_train::checkpoint::Checkpoint;
use topkast_train::{Event, Outcome, RunDir, TrainError, load_trained, read_metrics, run};

/// Saves after 4 steps, lets `obstruct` put something in the way of the temporary file, and tries again after 6.
fn failing_save(obstruct: impl Fn(&Path), expected: &str) {
    let place = Workplace::new();
    let (path, temporary) = (place.join("state.safetensors"), place.join("state.safetensors.tmp"));
    let mut trainer = place.trainer(&[]);
    advance(&mut trainer, 4);
    trainer.save(&path, 0.0).unwrap();
    let before = fs::read(&path).unwrap();
    advance(&mut trainer, 2);
    obstruct(&temporary);
    let error = trainer.save(&path, 0.0).unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with(&format!("cannot write {}: ", path.display())), "{message}");
    assert!(message.contains(expected) && !message.contains('\n') && !error.is_bad_input(), "{message}");
    assert_eq!(fs::read(&path).unwrap(), before);
    // The former checkpoint goes on to where this run ends.
    finish(&mut trainer);
    trainer.save(&place.join("want"), 0.0).unwrap();
    let mut resumed = restored(place.config(&[]), &path);
    assert_eq!(resumed.steps_done(), 4);
    finish(&mut resumed);
    resumed.save(&place.join("got"), 0.0).unwrap();
    assert_same(&tensors(&place.join("got")), &tensors(&place.join("want")), "resumed");
}

#[test]
fn a_directory_in_the_way_of_the_temporary_file() {
    failing_save(|temporary| fs::create_dir(temporary).unwrap(), "directory");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk() {
    let full = |temporary: &Path| std::os::unix::fs::symlink("/dev/full", temporary).unwrap();
    failing_save(full, "No space left");
}

#[test]
fn what_a_crash_left_of_a_temporary_file_is_overwritten() {
    let place = Workplace::new();
    let dir = place.join("checkpoint");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("state.safetensors.tmp"), vec![7; 1 << 20]).unwrap();
    place.trainer(&[]).save(&dir.join("state.safetensors"), 0.0).unwrap();
    let names: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["state.safetensors"]);
    Checkpoint::read(&dir.join("state.safetensors")).unwrap();
}

#[test]
fn the_folder_of_checkpoints_is_gone() {
    let place = Workplace::new();
    let path = place.join("gone").join("state.safetensors");
    let message = place.trainer(&[]).save(&path, 0.0).unwrap_err().to_string();
    assert!(message.starts_with(&format!("cannot write {}: ", path.display())), "{message}");
}

#[test]
fn a_file_in_the_way_of_the_run_directory() {
    let place = Workplace::new();
    let path = place.join("run");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("checkpoint"), "").unwrap();
    let dir = RunDir::create(&path).unwrap();
    let message = run_to_the_end(&place, &dir, &[]).unwrap_err().to_string();
    assert!(message.contains(&path.display().to_string()), "{message}");
}

fn run_to_the_end(place: &Workplace, dir: &RunDir, overrides: &[&str]) -> Result<Outcome, TrainError> {
    run(place.config(overrides), dir, &AtomicBool::new(false), &mut |_| {})
}

/// Trains at a learning rate that leaps to `leap` after the sixth of 12 steps.
fn diverged(leap: &str, what: &str) {
    let place = Workplace::new();
    let dir = RunDir::create(&place.join("run")).unwrap();
    let factor = format!("optimizer.factor={leap}");
    let overrides = [
        "train.checkpoint_every=1",
        "optimizer.lr=1",
        "optimizer.schedule=step",
        "optimizer.milestones=[0.5]",
        "sparsity.reservoir=dense",
        &factor,
    ];
    let error = run_to_the_end(&place, &dir, &overrides).unwrap_err();
    assert!(matches!(error, TrainError::Diverged { .. }) && !error.is_bad_input(), "{error}");
    let message = error.to_string();
    let trained = load_trained(&dir.checkpoint()).unwrap();
    let kept =
        format!("the checkpoint of step {} is kept in {}", trained.state.step, dir.checkpoint().display());
    assert!(message.contains(what) && message.contains(&kept), "{message}");
    assert!(message.contains("Lower optimizer.lr") && !message.contains('\n'), "{message}");
    assert_eq!(restored(place.config(&overrides), &dir.checkpoint()).steps_done(), trained.state.step);
}

#[test]
fn a_loss_that_is_not_a_number_ends_the_run_and_keeps_the_checkpoint() {
    diverged(
        "1e25",
        "the loss, from the output of hidden.1 on, is not a finite number at step 8; the checkpoint of step 7",
    );
}

#[test]
fn weights_that_overflow_are_not_saved() {
    diverged("3e38", "weight is not a finite number at step 7; the checkpoint of step 6");
}

#[test]
fn divergence_before_the_first_checkpoint_says_so() {
    let place = Workplace::new();
    let dir = RunDir::create(&place.join("run")).unwrap();
    let message = run_to_the_end(&place, &dir, &["optimizer.lr=1e25"]).unwrap_err().to_string();
    assert!(message.contains("there is no checkpoint yet"), "{message}");
    assert!(!dir.checkpoint().exists());
}

#[test]
fn a_directory_that_holds_a_run_is_refused() {
    let place = Workplace::new();
    let dir = RunDir::create(&place.join("run")).unwrap();
    run_to_the_end(&place, &dir, &[]).unwrap();
    let before = fs::read(dir.checkpoint()).unwrap();
    let error = RunDir::create(dir.path()).unwrap_err();
    let message = format!("{}: already holds a run; go on with it by --resume", dir.path().display());
    assert!(error.to_string().starts_with(&message) && error.is_bad_input(), "{error}");
    assert_eq!(fs::read(dir.checkpoint()).unwrap(), before);
}

/// Entries are in another order in memory, where rows are cut into blocks of columns.
#[test]
fn a_wide_weight_is_stored_row_by_row() {
    let place = Workplace::new();
    let mut trainer = place.trainer(&["model.hidden=[700]", "sparsity.keep_dense=[]", "optimizer.kind=adam"]);
    finish(&mut trainer);
    let path = place.join("wide");
    trainer.save(&path, 0.0).unwrap();
    let stored = tensors(&path);
    trainer.network().visit(&mut |name, parameter| {
        let ParameterMut::Sparse(weight) = parameter else { return };
        let pattern = weight.pattern();
        assert_eq!(pattern.active().flat_indices().is_sorted(), pattern.width() < 700);
        let mut cells = Vec::new();
        for set in ["active", "explore"] {
            let numbers = |part: &str| &stored[&format!("{name}.{set}.{part}")].2;
            let offsets: Vec<u32> = bytemuck::pod_collect_to_vec(numbers("offsets"));
            let columns: Vec<u16> = bytemuck::pod_collect_to_vec(numbers("columns"));
            for (row, ends) in offsets.windows(2).enumerate() {
                let columns = &columns[ends[0] as usize..ends[1] as usize];
                assert!(columns.is_sorted());
                cells
                    .extend(columns.iter().map(|&column| (row * pattern.width()) as u64 + u64::from(column)));
            }
        }
        let Parameter { values, moments: Moments { first, second, age }, .. } = weight.parameter();
        let bits = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
        for (part, held) in
            [("values", bits(values)), ("first", bits(first)), ("second", bits(second)), ("age", age.clone())]
        {
            let stored: Vec<u32> = bytemuck::pod_collect_to_vec(&stored[&format!("{name}.{part}")].2);
            let mut at = std::collections::HashMap::new();
            cells.iter().zip(stored).for_each(|(&index, bits)| assert!(at.insert(index, bits).is_none()));
            pattern.for_each_by_index(|index, entry| assert_eq!(at[&index], held[entry], "{name}.{part}"));
        }
    });
}

/// The steps in the names of the older checkpoints of a run, each of which is the checkpoint of that step.
fn older(dir: &RunDir) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(dir.path().join("checkpoint-older")) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut steps: Vec<u64> = paths
        .map(|path| {
            let step = Checkpoint::read(&path).unwrap().state.step;
            assert_eq!(path.file_name().unwrap().to_str().unwrap(), format!("step-{step}.safetensors"));
            step
        })
        .collect();
    steps.sort_unstable();
    steps
}

#[test]
fn the_last_checkpoints_and_the_best_are_kept() {
    for (keep, reservoir) in [(1, "implicit"), (2, "implicit"), (2, "dense"), (4, "implicit"), (100, "dense")]
    {
        let place = Workplace::new();
        let dir = RunDir::create(&place.join("run")).unwrap();
        let (keep_setting, reservoir) =
            (format!("train.keep_checkpoints={keep}"), format!("sparsity.reservoir={reservoir}"));
        let overrides = [
            &*keep_setting,
            &*reservoir,
            "train.checkpoint_every=2",
            "train.evaluate_every=3",
            "optimizer.lr=0.3",
        ];
        run_to_the_end(&place, &dir, &overrides).unwrap();
        // Checkpoints at multiples of 2, 3 and 5, the length of an epoch.
        let all = [2, 3, 4, 5, 6, 8, 9, 10, 12];
        let count = all.len().min(keep) - 1;
        assert_eq!(older(&dir), all[all.len() - 1 - count..all.len() - 1], "{keep}");
        let accuracies: Vec<(u64, f64)> = read_metrics(&dir.metrics())
            .unwrap()
            .iter()
            .filter_map(|record| Some((record["step"].as_u64()?, record.get("test_accuracy")?.as_f64()?)))
            .collect();
        assert_eq!(accuracies.iter().map(|&(step, _)| step).collect::<Vec<_>>(), [3, 6, 9, 12]);
        // The first of equally good ones.
        let best = accuracies.iter().rev().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        let state = Checkpoint::read(&dir.best_checkpoint()).unwrap().state;
        assert_eq!((state.step, state.best.map(|it| (it.step, it.value))), (best.0, Some(*best)));
        let newest = Checkpoint::read(&dir.checkpoint()).unwrap().state;
        assert_eq!((newest.step, newest.best), (12, state.best));
    }
}

/// What a run that was stopped again and again keeps is what one that never was does, whatever was lost in between.
#[test]
fn a_resumed_run_keeps_the_same_checkpoints() {
    let place = Workplace::new();
    let overrides = [
        "train.keep_checkpoints=3",
        "train.checkpoint_every=1",
        "train.evaluate_every=2",
        "optimizer.lr=0.3",
    ];
    let whole = RunDir::create(&place.join("whole")).unwrap();
    run_to_the_end(&place, &whole, &overrides).unwrap();
    let dir = RunDir::create(&place.join("stopped")).unwrap();
    loop {
        let stop = AtomicBool::new(false);
        let mut steps = 0;
        let outcome = run(place.config(&overrides), &dir, &stop, &mut |event| {
            if let Event::Step { .. } = event {
                steps += 1;
                stop.store(steps == 2, std::sync::atomic::Ordering::Relaxed);
            }
        });
        if matches!(outcome.unwrap(), Outcome::Finished(_)) {
            break;
        }
        // As if it had been killed before the newest checkpoint was called the best.
        let best = Checkpoint::read(&dir.checkpoint()).unwrap().state;
        if best.best.is_some_and(|it| it.step == best.step) {
            fs::remove_file(dir.best_checkpoint()).unwrap();
        }
    }
    assert_eq!(older(&dir), older(&whole));
    assert_same(&tensors(&dir.best_checkpoint()), &tensors(&whole.best_checkpoint()), "best");
}

#[test]
fn a_checkpoint_that_somebody_went_back_to_leaves_later_ones_alone() {
    let place = Workplace::new();
    let dir = RunDir::create(&place.join("run")).unwrap();
    let overrides = ["train.checkpoint_every=4", "train.keep_checkpoints=3"];
    run_to_the_end(&place, &dir, &overrides).unwrap();
    assert_eq!(older(&dir), [8, 10]);
    let want = tensors(&dir.checkpoint());
    fs::copy(dir.path().join("checkpoint-older/step-8.safetensors"), dir.checkpoint()).unwrap();
    run_to_the_end(&place, &dir, &overrides).unwrap();
    assert_same(&tensors(&dir.checkpoint()), &want, "gone back");
    assert_eq!(older(&dir), [8, 10]);
}

/// A run ends where a checkpoint cannot be written, says which one is kept, and goes on from it.
#[test]
fn a_run_that_cannot_be_saved_says_what_is_kept() {
    let place = Workplace::new();
    let dir = RunDir::create(&place.join("run")).unwrap();
    let in_the_way = dir.path().join("checkpoint/state.safetensors.tmp");
    let overrides = ["train.checkpoint_every=4"];
    let error = run(place.config(&overrides), &dir, &AtomicBool::new(false), &mut |event| {
        if let Event::Step { report, .. } = event
            && report.step == 5
        {
            // By now that of step 4 is on disk, or else about to be.
            while !dir.checkpoint().exists() || fs::create_dir(&in_the_way).is_err() {}
        }
    });
    let message = error.unwrap_err().to_string();
    assert!(message.starts_with(&format!("cannot write {}: ", dir.checkpoint().display())), "{message}");
    let kept = format!("; the checkpoint of step 4 is kept in {}", dir.checkpoint().display());
    assert!(message.contains(&kept) && message.ends_with("go on by --resume"), "{message}");
    fs::remove_dir(&in_the_way).unwrap();
    assert!(matches!(run_to_the_end(&place, &dir, &overrides).unwrap(), Outcome::Finished(_)));
}
