//! `topkast export`, and the verbs that take an export in place of a run.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{Workplace, json_lines, refuses, succeeds};
use serde_json::Value;

#[test]
fn an_export_stands_in_for_its_run() {
    let place = Workplace::with_run();
    let said = succeeds(place.topkast("export run --format sparse network"));
    let bytes = fs::metadata(place.join("network")).unwrap().len();
    assert_eq!(said, format!("network: {bytes} bytes, the network after step 40\n"));
    let both = |verb: &str, rest: &str| {
        ["run", "network"].map(|from| succeeds(place.topkast(&format!("{verb} {from} {rest}"))))
    };
    let [run, export] = both("eval", "--data data --json");
    assert_eq!(run, export);
    let [run, export] = both("predict", "data/t10k-images-idx3-ubyte --json");
    let [run, export] = [run, export].map(|lines| json_lines(&lines));
    assert_eq!((run.len(), export.len()), (60, 60));
    for (run, export) in run.iter().zip(&export) {
        assert_eq!((&run["input"], &run["class"]), (&export["input"], &export["class"]));
        assert_close(&run["probabilities"], &export["probabilities"]);
    }
    let layers: Value = serde_json::from_str(&succeeds(place.topkast("inspect network --json"))).unwrap();
    let run: Value = serde_json::from_str(&succeeds(place.topkast("inspect run --json"))).unwrap();
    for (layer, of_run) in layers["layers"].as_array().unwrap().iter().zip(run["layers"].as_array().unwrap())
    {
        for key in ["name", "shape", "n", "active"] {
            assert_eq!(layer[key], of_run[key]);
        }
    }
    let table = succeeds(place.topkast("inspect network"));
    assert!(table.starts_with("export after step 40: MLP of 64-24-4 units\n"), "{table}");
    // Exported once more it is the same file.
    succeeds(place.topkast("export network --format sparse again"));
    assert_eq!(fs::read(place.join("again")).unwrap(), fs::read(place.join("network")).unwrap());
}

fn assert_close(got: &Value, want: &Value) {
    let numbers =
        |list: &Value| list.as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect::<Vec<_>>();
    let (got, want) = (numbers(got), numbers(want));
    assert!(
        got.len() == want.len() && got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-5),
        "{got:?} {want:?}"
    );
}

#[test]
fn wrong_use_is_told() {
    let place = Workplace::with_run();
    let checkpoint = "run/checkpoint/state.safetensors";
    let before = fs::read(place.join(checkpoint)).unwrap();
    let own = refuses(place.topkast(&format!("export run --format sparse {checkpoint}")));
    assert!(own.contains("is what the network is read from; name another file"), "{own}");
    assert_eq!(fs::read(place.join(checkpoint)).unwrap(), before);
    let format = refuses(place.topkast("export run --format gguf network"));
    assert!(format.contains("sparse, dense, onnx"), "{format}");
    let none = refuses(place.topkast("export nowhere --format onnx network"));
    assert!(none.contains("nowhere"), "{none}");
    succeeds(place.topkast("export run --format sparse network"));
    let data = refuses(place.topkast("eval network"));
    assert!(data.contains("add --data DIR"), "{data}");
    succeeds(place.topkast("export run --format dense dense"));
    let dense = refuses(place.topkast("predict dense data/t10k-images-idx3-ubyte"));
    assert!(dense.contains("export the run again with --format sparse"), "{dense}");
}

#[test]
fn inference_is_timed() {
    let place = Workplace::with_run();
    succeeds(place.topkast("export run --format sparse network"));
    for from in ["run", "network"] {
        let told =
            succeeds(place.topkast(&format!("bench inference {from} --threads 1 --answers 20 --json")));
        let told: Value = serde_json::from_str(&told).unwrap();
        common::has_fields(
            &told,
            "file_bytes isa threads latency_ms_median latency_ms_p95 batch answers_per_second",
        );
        assert!(told["latency_ms_median"].as_f64() <= told["latency_ms_p95"].as_f64());
    }
}

/// The page's own reader gives the network's numbers: computing with them in numpy tells what `predict` tells. `TOPKAST_PYTHON` names a
/// Python with numpy; without numpy there is nothing to test.
#[test]
fn the_documented_reader_reads_the_sparse_format() {
    let python = std::env::var("TOPKAST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_numpy = Command::new(&python).args(["-c", "import numpy"]).output();
    if !has_numpy.is_ok_and(|done| done.status.success()) {
        eprintln!("skipped: {python} has no numpy (TOPKAST_PYTHON names another)");
        return;
    }
    let place = Workplace::with_run();
    succeeds(place.topkast("export run --format sparse network"));
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/export.md")).unwrap();
    let reader = page.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let rest = r#"
about, tensors = read("network")
normalizer = about["data"]["normalizer"]
raw = open("data/t10k-images-idx3-ubyte", "rb").read()
x = numpy.frombuffer(raw[16:], "u1").reshape(60, -1)
x = (x / 255 - normalizer["mean"]) / normalizer["deviation"]
x = numpy.maximum(x @ tensors["hidden.0.weight"].T + tensors["hidden.0.bias"], 0)
x = numpy.exp(x @ tensors["output.weight"].T + tensors["output.bias"])
print(json.dumps((x / x.sum(1, keepdims=True)).tolist()))
"#;
    fs::write(place.join("read.py"), format!("{reader}{rest}")).unwrap();
    let mut command = Command::new(&python);
    command.arg("read.py").current_dir(place.join(""));
    let got: Value = serde_json::from_str(&succeeds(command)).unwrap();
    let want = json_lines(&succeeds(place.topkast("predict network data/t10k-images-idx3-ubyte --json")));
    assert_eq!(got.as_array().unwrap().len(), want.len());
    for (got, want) in got.as_array().unwrap().iter().zip(&want) {
        assert_close(got, &want["probabilities"]);
    }
}
