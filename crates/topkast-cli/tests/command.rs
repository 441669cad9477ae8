//! What each verb of the command takes, prints and writes, and how it refuses.

mod common;

use std::fs;
use std::path::Path;

use common::{SIDE, Workplace, has_fields, json_lines, refuses, succeeds};
use serde_json::Value;

const SUMMARY: &str = "task_metric test_accuracy test_loss steps seconds step_ms_median peak_rss_bytes parameters \
    active backward training_bytes dense_training_bytes train_flops_ratio flops phase_seconds layers";
const LAYER: &str = "name shape n active backward touched dormant products";

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn train_writes_a_run_directory() {
    let place = Workplace::with_run();
    let summary = json(&place.join("run/summary.json"));
    has_fields(&summary, SUMMARY);
    assert_eq!(summary["task_metric"], "test_accuracy");
    assert_eq!(summary["steps"], 40);
    assert!(summary["test_accuracy"].as_f64().unwrap() > 0.9, "{summary}");
    let layers = summary["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 2);
    layers.iter().for_each(|layer| has_fields(layer, LAYER));
    assert_eq!(layers[0]["shape"], serde_json::json!([24, 64]));
    has_fields(&layers[0], "sparse_ms dense_ms");
    assert_eq!((&layers[0]["products"], &layers[1]["products"]), (&"sparse".into(), &"dense".into()));
    assert_eq!(summary["parameters"], 24 * 64);
    let metrics = json_lines(&fs::read_to_string(place.join("run/metrics.jsonl")).unwrap());
    let steps: Vec<_> = metrics.iter().filter(|record| record["loss"].is_f64()).map(|r| &r["step"]).collect();
    assert_eq!(steps, (1..=40).collect::<Vec<_>>());
    assert_eq!(metrics.iter().filter(|record| record["mask_change"].is_f64()).count(), 7);
    assert!(place.join("run/checkpoint/state.safetensors").exists());
    let config = fs::read_to_string(place.join("run/config.toml")).unwrap();
    assert!(config.contains("forward = 0.8") && config.contains("momentum = 0.9"), "{config}");
    let names = fs::read_dir(place.join("run")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.filter(|name| name.to_string_lossy().contains("tfevents")).count(), 1);
}

#[test]
fn train_takes_a_config_file_and_prints_what_came_of_it() {
    let place = Workplace::new();
    let config = "[data]\nkind = \"idx\"\npath = \"data\"\n[model]\nhidden = [24]\n[train]\nsteps = 9\n";
    fs::write(place.join("small.toml"), config).unwrap();
    let printed = succeeds(place.topkast("train small.toml --seed 7 --set sparsity.method=static"));
    assert!(printed.contains("test accuracy") && printed.contains("runs/static-1"), "{printed}");
    let written = fs::read_to_string(place.join("runs/static-1/config.toml")).unwrap();
    assert!(written.contains("seed = 7") && written.contains("steps = 9"), "{written}");
}

#[test]
fn eval_scores_as_training_did() {
    let place = Workplace::with_run();
    let summary = json(&place.join("run/summary.json"));
    let score = &json_lines(&succeeds(place.topkast("eval run --json")))[0];
    for name in ["test_accuracy", "test_loss"] {
        assert_eq!(score[name], summary[name]);
    }
    assert_eq!((&score["samples"], &score["step"]), (&60.into(), &40.into()));
    let line = succeeds(place.topkast("eval run/checkpoint/state.safetensors --data data"));
    assert!(line.starts_with("test accuracy ") && line.contains("60 samples, after step 40"), "{line}");
}

#[test]
fn predict_classifies_idx_files() {
    let place = Workplace::with_run();
    let printed = succeeds(place.topkast("predict run data/t10k-images-idx3-ubyte --json"));
    let records = json_lines(&printed);
    assert_eq!(records.len(), 60);
    assert_eq!(records[3]["input"], "data/t10k-images-idx3-ubyte[3]");
    for record in &records {
        let probabilities: Vec<f64> = serde_json::from_value(record["probabilities"].clone()).unwrap();
        assert!(probabilities.len() == 4 && (probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }
    let right = records.iter().enumerate().filter(|(sample, record)| record["class"] == sample % 4).count();
    let summary = json(&place.join("run/summary.json"));
    assert_eq!(right as f64 / 60.0, summary["test_accuracy"].as_f64().unwrap());
}

/// A picture whose lower right quadrant is bright: class 3.
fn png(place: &Workplace, name: &str, side: u32) {
    let bright = |x, y| image::Luma([if x >= side / 2 && y >= side / 2 { 160 } else { 60u8 }]);
    image::GrayImage::from_fn(side, side, bright).save(place.join(name)).unwrap();
}

#[test]
fn predict_classifies_pictures() {
    let place = Workplace::with_run();
    png(&place, "right.png", SIDE);
    let line = succeeds(place.topkast("predict run right.png"));
    assert!(line.starts_with("right.png: 3, probability "), "{line}");
}

#[test]
fn predict_refuses_pictures_of_another_size_and_other_files() {
    let place = Workplace::with_run();
    png(&place, "wrong.png", SIDE + 1);
    let line = refuses(place.topkast("predict run wrong.png"));
    assert!(line.contains("wrong.png") && line.contains("9") && line.contains("8"), "{line}");
    fs::write(place.join("notes.txt"), "not a picture").unwrap();
    assert!(refuses(place.topkast("predict run notes.txt")).contains("notes.txt"));
    assert!(refuses(place.topkast("predict run nowhere.png")).contains("nowhere.png"));
}

/// Writes 20 pictures a class in colour to train on and 4 to measure on, and one broken of each.
fn picture_folder(place: &Workplace) {
    for (part, count) in [("train", 20), ("val", 4)] {
        for (class, name) in ["amber", "blue", "cyan", "dusk", "earth", "fire"].into_iter().enumerate() {
            let within = place.join("pictures").join(part).join(name);
            fs::create_dir_all(&within).unwrap();
            for number in 0..count {
                let pixel =
                    |x: u32, y: u32| {
                        image::Rgb([0, 1, 2].map(|c| {
                            (x * 3 + y + number) as u8 % 60 + if class >> c & 1 == 1 { 150 } else { 0 }
                        }))
                    };
                let picture = image::RgbImage::from_fn(20 + number, 30 - number / 2, pixel);
                picture.save(within.join(format!("{number:02}.png"))).unwrap();
            }
            if class == 2 {
                fs::write(within.join("broken.jpg"), "no picture").unwrap();
            }
        }
    }
}

#[test]
fn folders_of_pictures_train_and_are_told_apart_by_name() {
    let place = Workplace::new();
    picture_folder(&place);
    let train = "train --set data.kind=image-folder --set data.path=pictures --set data.size=16 --set model.hidden=[24] \
        --set train.batch=24 --set train.steps=50 --set optimizer.lr=0.02 --out run";
    let output = place.topkast(train).output().unwrap();
    let (printed, told) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && printed.contains("waiting for data"), "{printed}{told}");
    assert_eq!(told.matches("broken.jpg is neither a PNG nor a JPEG").count(), 2, "{told}");
    assert_eq!(json(&place.join("run/summary.json"))["test_accuracy"], 1.0);
    fs::rename(place.join("pictures/val/blue/00.png"), place.join("photo.png")).unwrap();
    fs::remove_dir_all(place.join("pictures/train")).unwrap();
    let lines = succeeds(place.topkast("predict run photo.png"));
    assert!(lines.starts_with("photo.png: 1 (blue), probability ") && lines.lines().count() == 5, "{lines}");
    let record = &json_lines(&succeeds(place.topkast("predict run photo.png --json")))[0];
    let top = record["top"].as_array().unwrap();
    assert_eq!((&record["name"], &top[0]["name"], top.len()), (&"blue".into(), &"blue".into(), 5));
    assert!(top.windows(2).all(|pair| pair[0]["probability"].as_f64() >= pair[1]["probability"].as_f64()));
    let output = place.topkast("eval run --data pictures --json").output().unwrap();
    let score: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&score["samples"], &score["test_accuracy"]), (&23.into(), &1.0.into()));
    assert!(String::from_utf8(output.stderr).unwrap().contains("broken.jpg"));
    fs::write(place.join("notes.txt"), "not a picture").unwrap();
    assert!(refuses(place.topkast("predict run notes.txt")).contains("notes.txt"));
}

#[test]
fn inspect_shows_every_layer() {
    let place = Workplace::with_run();
    let report = &json_lines(&succeeds(place.topkast("inspect run --json")))[0];
    assert_eq!(report["step"], 40);
    assert_eq!(report["layers"], json(&place.join("run/summary.json"))["layers"]);
    assert!(report["mask_change"].is_f64(), "{report}");
    has_fields(report, "mask_change_min mask_change_mean mask_change_max reservoir_used");
    let table = succeeds(place.topkast("inspect run"));
    for part in [
        "hidden.0",
        "24x64",
        "output",
        "4x24",
        "touched",
        "of A",
        "last epoch",
        "outside B",
        "sparse ms",
        "products",
    ] {
        assert!(table.contains(part), "no {part} in {table}");
    }
}

/// Whatever is measured, it is told alike before training, in the summary and by inspect.
#[test]
fn layers_slower_than_dense_are_told() {
    let place = Workplace::new();
    for products in ["sparse", "auto"] {
        let mut command =
            place.topkast(&format!("train --threads 1 --out {products} --set sparsity.products={products}"));
        for setting in "data.kind=idx data.path=data train.steps=3 sparsity.forward=0 sparsity.backward=0 \
                        model.hidden=[300] train.batch=64"
            .split_whitespace()
        {
            command.args(["--set", setting]);
        }
        let output = command.output().unwrap();
        let (stdout, stderr) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{stderr}");
        let layer = &json(&place.join(&format!("{products}/summary.json")))["layers"][0];
        let dense = layer["products"] == "dense";
        let slower = !dense && layer["sparse_ms"].as_f64() > layer["dense_ms"].as_f64();
        assert!(!dense || products == "auto");
        assert_eq!(stderr.contains("hidden.0 is slower than dense here"), slower, "{stderr}");
        assert_eq!(stdout.contains("slower than dense hidden.0"), slower, "{stdout}");
        assert_eq!(stderr.contains("hidden.0 computes with dense products"), dense, "{stderr}");
        let report = &json_lines(&succeeds(place.topkast(&format!("inspect {products} --json"))))[0];
        assert_eq!(&report["layers"][0], layer);
    }
}

#[test]
fn bench_layer_reports_every_time() {
    let place = Workplace::new();
    let sizes = "--rows 64 --cols 48 --forward 0.9 --backward 0.8 --threads 1";
    let report =
        &json_lines(&succeeds(place.topkast(&format!("bench layer {sizes} --positions 16 --json"))))[0];
    has_fields(report, "isa break_even_sparsity rows cols positions threads");
    for product in ["forward", "input_gradient", "weight_gradient", "total"] {
        for side in ["", "dense_"] {
            let number =
                |name: String| report[&name].as_f64().unwrap_or_else(|| panic!("{name} in {report}"));
            let ms = number(format!("{side}{product}_ms"));
            let spread: [f64; 2] =
                serde_json::from_value(report[format!("{side}{product}_ms_spread")].clone()).unwrap();
            assert!(0.0 < spread[0] && spread[0] <= ms && ms <= spread[1], "{report}");
            let share = number(format!("gflops_{side}{product}")) / number("fma_peak_gflops".to_owned());
            let told = number(format!("fma_share_{side}{product}"));
            assert!((told / share - 1.0).abs() < 1e-9 && told > 0.0, "{report}");
        }
    }
    for name in ["fma_peak_gflops", "bandwidth_gbs", "l2_bandwidth_gbs"] {
        assert!(report[name].as_f64().unwrap() > 0.0);
    }
    assert!((0.0..=1.0).contains(&report["break_even_sparsity"].as_f64().unwrap()));
    let table = succeeds(place.topkast(&format!("bench layer {sizes} --positions 1 --rounds 3")));
    assert!(table.contains("input gradient") && table.contains("as fast as dense"), "{table}");
    let line = refuses(place.topkast("bench layer --rows 64 --cols 64 --forward 0.8 --backward 0.9"));
    assert!(line.contains("must not exceed"), "{line}");
}

#[test]
fn bench_step_reports_every_time() {
    let place = Workplace::new();
    // The second hidden layer has units without any active input.
    let sizes =
        "--inputs 30 --hidden 40,9,50 --outputs 3 --batch 17 --forward 0.8 --backward 0.6 --threads 1";
    let report = &json_lines(&succeeds(
        place.topkast(&format!("bench step {sizes} --refresh-every 4 --rounds 2 --json")),
    ))[0];
    has_fields(report, "isa threads inputs hidden outputs batch forward backward refresh_every");
    for name in
        "step_ms dense_step_ms load_ms refresh_ms training_bytes dense_training_bytes reservoir_bytes \
                 fma_peak_gflops bandwidth_gbs l2_bandwidth_gbs"
            .split_whitespace()
    {
        assert!(report[name].as_f64().is_some_and(|number| number > 0.0), "{name} in {report}");
    }
    assert_eq!((&report["steps"], &report["dense_steps"]), (&20.into(), &20.into()));
    for side in ["", "dense_"] {
        let spread: [f64; 2] =
            serde_json::from_value(report[format!("{side}step_ms_spread")].clone()).unwrap();
        let median = report[format!("{side}step_ms")].as_f64().unwrap();
        assert!(spread[0] <= median && median <= spread[1], "{report}");
        let phases = &report[format!("{side}phases_ms")];
        has_fields(phases, "load forward loss input_gradient weight_gradient update refresh");
        assert_eq!(phases["refresh"].as_f64().unwrap() > 0.0, side.is_empty());
    }
    let table = succeeds(place.topkast(&format!("bench step {sizes} --refresh-every 1 --rounds 1")));
    assert!(table.contains("30-40-9-50-3, batch 17") && table.contains("a refresh takes"), "{table}");
    let huge = "--inputs 30 --hidden 20000,20000 --outputs 3 --batch 2 --forward 0.9999 --backward 0.999 \
                --all-sparse --refresh-every 1 --rounds 1";
    let alone = succeeds(place.topkast(&format!("bench step {huge}")));
    assert!(alone.contains("so it was not timed"), "{alone}");
    let alone = &json_lines(&succeeds(place.topkast(&format!("bench step {huge} --json"))))[0];
    assert!(alone["dense_step_ms"].is_null() && alone["step_ms"].as_f64() > Some(0.0), "{alone}");
    let all = format!("bench step {sizes} --all-sparse --refresh-every 1 --rounds 1 --json");
    let all = &json_lines(&succeeds(place.topkast(&all)))[0];
    assert!(all["training_bytes"].as_u64() < report["training_bytes"].as_u64(), "{all}");
}

#[test]
fn bench_block_reports_every_time() {
    let place = Workplace::new();
    let sizes = "--width 24 --feed-forward 40 --heads 3 --streams 2 --segment 10 --memory 13 --forward 0.9 \
                 --backward 0.8 --threads 1";
    let report = &json_lines(&succeeds(
        place.topkast(&format!("bench block {sizes} --refresh-every 4 --rounds 2 --json")),
    ))[0];
    has_fields(report, "isa threads width feed_forward heads streams segment memory forward refresh_every");
    assert_eq!((&report["steps"], &report["dense_steps"]), (&20.into(), &20.into()));
    for side in ["", "dense_"] {
        for part in ["step", "linear", "attention", "other"] {
            let ms = &report[format!("{side}{part}_ms")];
            assert!(ms.as_f64().is_some_and(|ms| ms > 0.0), "{side}{part}_ms in {report}");
        }
        has_fields(
            &report[format!("{side}phases_ms")],
            "load forward loss input_gradient weight_gradient update",
        );
    }
    assert!(report["training_bytes"].as_u64() < report["dense_training_bytes"].as_u64(), "{report}");
    let table = succeeds(place.topkast(&format!("bench block {sizes} --refresh-every 1 --rounds 1")));
    assert!(table.contains("width 24") && table.contains("ms: linear "), "{table}");
    let huge = "--width 8192 --feed-forward 2 --streams 1 --segment 2 --forward 0.9999 --backward 0.999 \
                --refresh-every 1 --rounds 1 --json";
    let alone = &json_lines(&succeeds(place.topkast(&format!("bench block {huge}"))))[0];
    assert!(alone["dense_step_ms"].is_null() && alone["linear_ms"].as_f64() > Some(0.0), "{alone}");
}

#[test]
fn bench_block_refuses_what_it_cannot_time() {
    let place = Workplace::new();
    for (arguments, expected) in [
        ("--forward 0.8 --backward 0.9", "must not exceed"),
        ("--width 1048576", "choose smaller sizes"),
        ("--streams 1048576 --segment 1048576 --memory 1048576", "fewer or shorter streams"),
        ("--heads 7", "model.heads = 7: must divide model.width"),
        ("--width 15 --heads 3", "must be even"),
        ("--segment 0", "--segment"),
        ("--width 2 --heads 1", "leaves no active entry"),
    ] {
        let line = refuses(place.topkast(&format!("bench block {arguments}")));
        assert!(line.contains(expected), "{arguments}: {line}");
    }
}

#[test]
fn bench_refresh_reports_every_time() {
    let place = Workplace::new();
    let sizes = "--rows 70 --cols 600 --forward 0.9 --backward 0.8 --threads 1 --rounds 4 --changed 0.1";
    let report = &json_lines(&succeeds(place.topkast(&format!("bench refresh {sizes} --json"))))[0];
    has_fields(report, "isa threads rows cols changed rounds fma_peak_gflops bandwidth_gbs");
    assert_eq!((&report["active"], &report["backward"]), (&4200.into(), &8400.into()));
    let changed = report["changed_entries"].as_f64().unwrap();
    assert!((700.0..1000.0).contains(&changed), "{report}");
    for name in ["refresh_ms", "transpose_ms", "refresh_ns_per_entry"] {
        assert!(report[name].as_f64().unwrap() > 0.0, "{report}");
    }
    let written_out = format!("bench refresh {sizes} --reservoir dense --json");
    let written_out = &json_lines(&succeeds(place.topkast(&written_out)))[0];
    assert!(written_out["frontier"].is_null() && report["frontier"].as_u64() >= Some(8400), "{report}");
    // 2^36 entries.
    let huge = "--rows 262144 --cols 262144 --forward 0.9999999 --backward 0.999999 --rounds 1 --changed 1";
    let huge = &json_lines(&succeeds(place.topkast(&format!("bench refresh {huge} --json"))))[0];
    assert!(huge["dormant"].as_u64() > Some(0) && huge["training_bytes"].as_u64() < Some(1 << 23), "{huge}");
    let table = succeeds(place.topkast(&format!("bench refresh {sizes}")));
    assert!(table.contains("70x600, |A| 4200, |B| 8400") && table.contains("refresh"), "{table}");
    for (arguments, expected) in [
        ("--changed 2", "--changed 2"),
        ("--rows 1048576 --cols 1048576", "at most 2^32"),
        ("--rows 65536 --cols 65536", "a higher --backward"),
        ("--rows 1048576 --cols 1048576 --reservoir dense", "smaller"),
        ("--rounds 0", "--rounds"),
    ] {
        assert!(refuses(place.topkast(&format!("bench refresh {arguments}"))).contains(expected));
    }
}

#[test]
fn bench_step_refuses_what_it_cannot_time() {
    let place = Workplace::new();
    for (arguments, expected) in [
        ("--forward 0.8 --backward 0.9", "must not exceed"),
        ("--hidden 1048576,1048576", "choose smaller sizes"),
        ("--batch 1048576", "a smaller batch"),
        ("--hidden 10,,10", "--hidden"),
        ("--refresh-every 0", "--refresh-every"),
        ("--forward nan", "sparsity.forward"),
    ] {
        let line = refuses(place.topkast(&format!("bench step {arguments}")));
        assert!(line.contains(expected), "{arguments}: {line}");
    }
}

#[test]
fn bad_settings_are_refused_in_one_line() {
    let place = Workplace::new();
    for (setting, expected) in [
        ("sparsity.forwrd=0.9", "forwrd"),
        ("optimizer.lr=fast", "lr"),
        ("sparsity.forward", "--set sparsity.forward: write it as key.path=value"),
        ("=3", "write it as key.path=value"),
        ("sparsity.backward=0.9", "backward sparsity 0.9 must not exceed forward sparsity 0.8"),
        ("train.batch=0", "train.batch = 0: must be from 1"),
        ("sparsity.keep_dense=[\"middle\"]", "sparsity.keep_dense = middle: matches no layer"),
        ("data.path=nowhere", "nowhere/train-images-idx3-ubyte"),
    ] {
        let line = refuses(place.train("run", setting));
        assert!(line.contains(expected), "{setting}: {line}");
    }
    fs::write(place.join("broken.toml"), "[sparsity]\nforwrd = 0.9\n").unwrap();
    let line = refuses(place.topkast("train broken.toml"));
    assert!(line.contains("broken.toml: line 2: ") && line.contains("forwrd"), "{line}");
}

#[test]
fn arguments_that_do_not_parse_are_refused_in_one_line() {
    let place = Workplace::new();
    for (arguments, expected) in [
        ("train --resume run --set a=b", "--resume"),
        ("train --threads many", "--threads"),
        ("eval", "<RUN>"),
        ("bench layer --rows 0", "--rows"),
        ("nonsense", "nonsense"),
    ] {
        let line = refuses(place.topkast(arguments));
        assert!(line.contains(expected) && line.contains("see --help"), "{arguments}: {line}");
    }
    assert!(succeeds(place.topkast("--version")).starts_with("topkast "));
    assert!(succeeds(place.topkast("train --help")).contains("Example: topkast train"));
}

#[test]
fn a_label_out_of_range_is_refused() {
    let place = Workplace::new();
    let path = place.join("data/t10k-labels-idx1-ubyte");
    let mut labels = fs::read(&path).unwrap();
    labels[8 + 5] = 9;
    fs::write(&path, labels).unwrap();
    let line = refuses(place.train("run", ""));
    assert!(line.contains("t10k-labels-idx1-ubyte") && line.contains("sample 5"), "{line}");
}

#[test]
fn runs_that_are_not_there_or_there_already_are_refused() {
    let place = Workplace::with_run();
    for verb in ["eval nowhere", "inspect nowhere", "train --resume nowhere", "predict nowhere a.png"] {
        assert!(refuses(place.topkast(verb)).contains("nowhere: holds no run"));
    }
    assert!(refuses(place.train("run", "")).contains("run: already holds a run"));
    fs::write(place.join("run/checkpoint/state.safetensors"), "cut").unwrap();
    for verb in ["eval run", "inspect run", "train --resume run"] {
        assert!(refuses(place.topkast(verb)).contains("not a whole Topkast checkpoint"));
    }
}

#[test]
fn the_instruction_set_can_be_chosen() {
    let place = Workplace::new();
    let mut portable = place.train("run", "train.steps=3 model.hidden=[8]");
    portable.env("TOPKAST_ISA", "portable");
    succeeds(portable);
    assert_eq!(json(&place.join("run/summary.json"))["isa"], "portable");
    let mut nonsense = place.train("other", "");
    nonsense.env("TOPKAST_ISA", "nonsense");
    let line = refuses(nonsense);
    assert!(line.contains("TOPKAST_ISA is `nonsense`") && line.contains("portable"), "{line}");
}

#[test]
fn bf16_needs_its_instructions() {
    let place = Workplace::new();
    let mut portable = place.train("run", "train.weight_gradient=bf16");
    portable.env("TOPKAST_ISA", "portable");
    let line = refuses(portable);
    assert!(line.contains("train.weight_gradient = bf16") && line.contains("use f32"), "{line}");
    assert!(!place.join("run/config.toml").exists());
}

#[test]
fn every_verb_has_help_with_an_example() {
    let place = Workplace::new();
    for verb in [
        "train",
        "eval",
        "predict",
        "inspect",
        "report",
        "bench layer",
        "bench step",
        "bench block",
        "bench refresh",
    ] {
        let help = succeeds(place.topkast(&format!("{verb} --help")));
        assert!(help.contains(&format!("Example: topkast {verb}")), "{help}");
    }
}
