//! What `topkast compare` reads, refuses, runs and writes.

mod common;

use std::fs;

use common::{Workplace, json_lines, refuses, succeeds};
use serde_json::Value;

/// The settings of every run here: three sparse methods learn the data's four classes in 40 steps.
const SET: &str =
    r#"set = ["data.kind=idx", "data.path=data", "model.hidden=[24]", "train.batch=64", "train.steps=40"]"#;

const GRID: &str = r#"
seeds = [1, 2]
[[level]]
name = "80/60"
set = ["sparsity.forward=0.8", "sparsity.backward=0.6"]
[[level]]
name = "90/80"
set = ["sparsity.forward=0.9", "sparsity.backward=0.8"]
[[method]]
name = "dense"
set = ["sparsity.method=dense"]
levels = []
[[method]]
name = "static"
set = ["sparsity.method=static"]
about = "a note"
[[method]]
name = "top-kast"
set = []
levels = ["90/80"]
"#;

fn sweep(place: &Workplace, text: &str) {
    fs::write(place.join("s.toml"), format!("title = \"Tiny\"\n{SET}\n{text}")).unwrap();
}

fn read(place: &Workplace, path: &str) -> String {
    fs::read_to_string(place.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn what_is_wrong_with_a_sweep_is_named() {
    let place = Workplace::new();
    let method = "[[method]]\nname = \"static\"\nset = []\n";
    let level = "[[level]]\nname = \"90/80\"\nset = []\n";
    let claim = |rest: &str| {
        let two = "[[method]]\nname = \"a\"\nset = []\nlevels = []\n";
        format!("seeds = [1]\n{level}{method}{two}[[claim]]\ntext = \"T\"\n{rest}\n")
    };
    let named = |name: &str| format!("seeds = [1]\n[[method]]\nname = {name}\nset = []\n");
    for (text, parts) in [
        (method.to_owned(), vec!["missing field `seeds`"]),
        ("seeds = [1]".to_owned(), vec!["missing field `method`"]),
        (format!("seeds = []\n{method}"), vec!["seeds = []", "at least one"]),
        (format!("seeds = [1, 2, 1]\n{method}"), vec!["seeds = 1", "twice"]),
        (format!("seeds = [-1]\n{method}"), vec!["line 3", "-1"]),
        (format!("seeds = [1]\nsedes = 2\n{method}"), vec!["sedes", "seeds", "line 4"]),
        (format!("seeds = [1]\n{method}levles = []\n"), vec!["levles", "levels"]),
        (format!("seeds = [1]\n{method}levels = [\"90/80\"]\n"), vec!["static", "90/80", "add [[level]]"]),
        (format!("seeds = [1]\n{level}{method}levels = [\"9\"]\n"), vec!["static", "= 9", "there are 90/80"]),
        (format!("seeds = [1]\n{level}{method}levels = [\"90/80\", \"90/80\"]\n"), vec!["twice"]),
        (format!("seeds = [1]\n{method}{method}"), vec!["method.name = static", "twice"]),
        (format!("seeds = [1]\n{level}{level}{method}"), vec!["level.name = 90/80", "twice"]),
        (named("\"\""), vec!["method.name", "empty"]),
        (named("\"a @ b\""), vec!["method.name", "@"]),
        (named("\"a|b\""), vec!["method.name", "|"]),
        (named("\"A/b\"") + "[[method]]\nname = \"a b\"\nset = []\n", vec!["a b", "A/b", "rename"]),
        (
            format!("seeds = [1]\n{}", method.replace("[]", "[\"seed=3\"]")),
            vec!["seed=3", "list them in seeds"],
        ),
        (
            format!("seeds = [1]\n{}", method.replace("[]", "[\"train.threads=3\"]")),
            vec!["train.threads=3", "--threads"],
        ),
        (
            format!("seeds = [1]\n{}", method.replace("[]", "[\"sparsity.fward=3\"]")),
            vec!["static, seed 1", "sparsity.fward=3", "forward"],
        ),
        (
            format!("seeds = [1]\n{}", method.replace("[]", "[\"sparsity.keep_dense=[\\\"no\\\"]\"]")),
            vec!["static, seed 1", "sparsity.keep_dense = no", "hidden.0, output"],
        ),
        (
            format!("seeds = [1]\n{method}[[method]]\nname = \"v\"\nset = [\"data.validation=0.1\"]\n"),
            vec!["data.validation = 0.1", "for all runs"],
        ),
        (claim("better = \"b\"\nworse = \"a\""), vec!["better", "T", "= b", "there are static, a"]),
        (claim("better = \"a\"\nworse = \"static @ 9\""), vec!["worse", "static @ 9", "no level"]),
        (claim("better = \"a\"\nworse = \"a\""), vec!["worse", "= a", "same"]),
        (claim("better = \"a\"\nworse = \"static\"\nlevels = [\"9\"]"), vec!["levels", "= 9", "90/80"]),
        (claim("better = \"a\"\nworse = \"static\"\nlevels = []"), vec!["levels", "= []", "no level"]),
        (
            claim("better = \"a\"\nworse = \"static @ 90/80\"\nlevels = [\"90/80\"]"),
            vec!["levels", "leave it out"],
        ),
        (claim("better = \"a\"\nworse = \"static\"\nkind = \"less\""), vec!["less", "better", "equal"]),
    ] {
        sweep(&place, &text);
        let line = refuses(place.topkast("compare s.toml"));
        for part in [vec!["s.toml"], parts].concat() {
            assert!(line.contains(part), "`{line}` does not mention `{part}` for\n{text}");
        }
    }
    sweep(&place, &format!("config = \"none.toml\"\nseeds = [1]\n{method}"));
    assert!(refuses(place.topkast("compare s.toml")).contains("none.toml"));
    assert!(refuses(place.topkast("compare no.toml")).contains("cannot read the sweep no.toml"));
    assert!(refuses(place.topkast("compare")).contains("SWEEP"));
    assert!(!place.join("runs").exists(), "nothing is made before all is checked");
}

#[test]
fn a_sweep_makes_its_table() {
    let place = Workplace::new();
    let claims = "[[claim]]\ntext = \"ahead\"\nsource = \"a book\"\nbetter = \"dense\"\nworse = \"static\"\n\
        [[claim]]\ntext = \"alike\"\nbetter = \"top-kast @ 90/80\"\nworse = \"dense\"\nkind = \"equal\"\n";
    sweep(&place, &format!("about = \"prose\"\n{GRID}{claims}"));
    let listed = succeeds(place.topkast("compare s.toml --dry-run"));
    assert_eq!(listed.lines().count(), 8);
    assert!(listed.lines().next().unwrap().starts_with("to do  runs/s/dense/seed-1"), "{listed}");
    assert!(listed.lines().nth(3).unwrap().ends_with("top-kast@90-80/seed-1"), "{listed}");
    assert!(!place.join("runs").exists());

    let printed = succeeds(place.topkast("compare s.toml --quiet --jobs 2 --markdown docs/all.md"));
    let table: Vec<Vec<&str>> = printed
        .lines()
        .filter(|line| ["method", "dense", "static", "top-kast"].iter().any(|name| line.starts_with(name)))
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(table[0], ["method", "–", "80/60", "90/80"]);
    assert_eq!([table[1].len(), table[2].len(), table[3].len()], [2, 3, 2]);
    assert!(printed.contains("test accuracy in %, mean ± standard error of 2 seed(s)"), "{printed}");
    assert!(
        succeeds(place.topkast("compare s.toml --dry-run")).lines().all(|line| line.starts_with("done   "))
    );

    // Every number follows from the runs' own summaries.
    let accuracy = |run: &str| {
        let summary: Value =
            serde_json::from_str(&read(&place, &format!("runs/s/{run}/summary.json"))).unwrap();
        summary["test_accuracy"].as_f64().unwrap() * 100.0
    };
    let (one, two) = (accuracy("static@80-60/seed-1"), accuracy("static@80-60/seed-2"));
    let (mean, error) = ((one + two) / 2.0, (one - two).abs() / 2.0);
    assert_eq!(table[2][1], format!("{mean:.2} ± {error:.2}"));
    let csv = read(&place, "runs/s/table.csv");
    let row = csv.lines().find(|line| line.starts_with("static,80/60,2,")).expect("a row of the cell");
    let numbers: Vec<f64> = row.split(',').skip(2).map(|number| number.parse().unwrap()).collect();
    assert_eq!((numbers[1], &numbers[3..5]), (mean, &[one, two][..]));
    assert!((numbers[2] - error).abs() < 1e-9, "{row}");
    assert_eq!(csv.lines().next().unwrap().split(',').count(), row.split(',').count());
    assert_eq!(csv.lines().count(), 5);

    let json = &json_lines(&succeeds(place.topkast("compare s.toml --json")))[0];
    assert_eq!(json["cells"][1]["seeds"]["2"]["accuracy"], two);
    assert_eq!(json["cells"][1]["seeds"]["2"]["run"], "runs/s/static@80-60/seed-2");
    assert_eq!(json["claims"][0]["comparisons"].as_array().unwrap().len(), 2);
    assert_eq!(json["claims"][1]["comparisons"][0]["level"], Value::Null);

    let document = read(&place, "docs/all.md");
    for part in
        ["compare s.toml --jobs 2 --markdown docs/all.md", "## Tiny", "prose", "- static: a note", "a book"]
    {
        assert!(document.contains(part), "no {part} in {document}");
    }
    assert!(document.contains("Computing time: ") && document.contains("for 8 of 8 runs"), "{document}");
    let table = read(&place, "runs/s/table.md");
    assert!(
        table.lines().filter(|line| line.starts_with('|')).all(|line| document.contains(line)),
        "{table}"
    );
}

#[test]
fn finished_runs_are_kept_and_foreign_ones_refused() {
    let place = Workplace::new();
    sweep(&place, GRID);
    succeeds(place.topkast("compare s.toml --quiet --out o"));
    let log = read(&place, "o/static@90-80/seed-1/train.log");
    assert!(log.contains("test accuracy"), "{log}");
    succeeds(place.topkast("compare s.toml --quiet --out o --threads 1"));
    assert_eq!(read(&place, "o/static@90-80/seed-1/train.log"), log);
    sweep(&place, &GRID.replace("sparsity.backward=0.8", "sparsity.backward=0.7"));
    let line = refuses(place.topkast("compare s.toml --quiet --out o"));
    assert!(
        line.contains("o/static@90-80/seed-1 holds another run: sparsity.backward is 0.8 there and 0.7 here")
    );
}

#[test]
fn a_run_that_fails_leaves_the_others() {
    let place = Workplace::new();
    sweep(&place, &GRID.replace("sparsity.method=dense\"", "sparsity.method=dense\", \"optimizer.lr=1e30\""));
    let output = place.topkast("compare s.toml --quiet").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("dense, seed 2: failed: ") && stderr.contains("is not a finite number"),
        "{stderr}"
    );
    assert!(stderr.ends_with("makes only those\n") && stderr.contains("2 of 8 runs failed"), "{stderr}");
    let table = read(&place, "runs/s/table.md");
    assert!(table.contains("| dense | – |") && table.contains("| static |  | "), "{table}");
}

#[test]
fn validation_accuracies_stand_in_for_test_accuracies() {
    let place = Workplace::new();
    let methods = "seeds = [3]\n[[method]]\nname = \"static\"\nset = [\"data.validation=0.2\"]\n";
    sweep(&place, methods);
    let json = &json_lines(&succeeds(place.topkast("compare s.toml --quiet --json")))[0];
    assert_eq!(json["metric"], "validation accuracy");
    let summary: Value = serde_json::from_str(&read(&place, "runs/s/static/seed-3/summary.json")).unwrap();
    assert_eq!(json["cells"][0]["mean"], summary["validation_accuracy"].as_f64().unwrap() * 100.0);
    assert!(read(&place, "runs/s/table.md").contains("the test data do not count here"));
}

/// The example in the repository is read and checked, without making its runs.

#[test]
fn the_sweeps_of_the_repository_can_be_made() {
    for (sweep, runs) in [("quick", 10), ("fashion-mnist", 450)] {
        let place = Workplace::new();
        let mut command = place.topkast(&format!("compare sweeps/{sweep}.toml --dry-run"));
        command.arg("--out").arg(place.join("out"));
        command.current_dir(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
        assert_eq!(succeeds(command).lines().count(), runs);
    }
}
