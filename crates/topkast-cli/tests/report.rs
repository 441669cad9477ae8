//! `topkast report`: what it takes, writes and refuses.

mod common;

use std::fs;
use std::path::Path;

use common::{Workplace, refuses, succeeds};

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// Nothing that a browser would fetch or run.
#[track_caller]
fn stands_alone(page: &str) {
    for needle in [
        "<script",
        "http:",
        "https:",
        "@import",
        "<img",
        "<link",
        "<iframe",
        "javascript:",
        "onerror",
        "NaN",
        "inf,",
    ] {
        assert!(!page.contains(needle), "{needle} in the page");
    }
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    assert_eq!(page.matches("<figure").count(), page.matches("</figure>").count());
}

#[test]
fn training_ends_with_a_report() {
    let place = Workplace::with_run();
    let page = text(&place.join("run/report.html"));
    stands_alone(&page);
    for what in
        ["Training loss", "Test accuracy", "Where the time went", "Share of A", "Share of C", "hidden.0"]
    {
        assert!(page.contains(what), "no {what}");
    }
    fs::remove_file(place.join("run/report.html")).unwrap();
    let told = succeeds(place.topkast("report run"));
    assert!(told.contains("run/report.html"), "{told}");
    assert_eq!(text(&place.join("run/report.html")), page);
}

#[test]
fn seeds_of_a_cell_are_one_line() {
    let place = Workplace::new();
    for seed in [1, 2] {
        let settings = format!("model.hidden=[8] train.steps=10 seed={seed}");
        succeeds(place.train(&format!("cell@80/seed-{seed}"), &settings));
    }
    succeeds(
        place.train("dense", "model.hidden=[8] train.steps=10 sparsity.method=dense data.validation=0.1"),
    );
    // Named twice, and by another path.
    succeeds(place.topkast("report cell@80/seed-1 cell@80/seed-2 dense ./dense dense/../cell@80/seed-1"));
    let page = text(&place.join("report.html"));
    stands_alone(&page);
    assert!(page.contains("<h1>3 runs of 2 kinds</h1>"));
    assert!(page.contains("class=\"band\"") && page.contains("±"));
    assert!(page.contains("How their settings differ") && page.contains("data.validation"));
    assert!(page.contains("Test or validation accuracy"));
}

#[test]
fn names_from_outside_are_text() {
    let place = Workplace::new();
    let hostile = "<script>x</script>&\"'@<b>";
    fs::create_dir(place.join("<script>x<")).unwrap();
    succeeds(place.train(hostile, "model.hidden=[8] train.steps=4"));
    let page = text(&place.join(hostile).join("report.html"));
    stands_alone(&page);
    assert!(page.contains("script&gt;&amp;&quot;&#39;@&lt;b&gt;"), "{page}");
}

#[test]
fn a_run_that_has_not_finished_is_shown_with_what_it_has() {
    let place = Workplace::with_run();
    fs::remove_file(place.join("run/summary.json")).unwrap();
    succeeds(place.topkast("report run --out half.html"));
    let half = text(&place.join("half.html"));
    stands_alone(&half);
    assert!(half.contains("0, and 1 not finished") && half.contains("Training loss"));
    // A loss that is no number, a line cut short, and nothing at all.
    let metrics = place.join("run/metrics.jsonl");
    let lines = "{\"step\":1,\"epoch\":0.1,\"loss\":null}\n{\"step\":2,\"epoch\":0.2,\"loss\":1e300}\n{\"st";
    for lines in [lines, ""] {
        fs::write(&metrics, lines).unwrap();
        succeeds(place.topkast("report run --out half.html"));
        stands_alone(&text(&place.join("half.html")));
    }
}

#[test]
fn what_is_broken_or_missing_is_refused_in_one_line() {
    let place = Workplace::with_run();
    assert!(refuses(place.topkast("report nowhere")).contains("nowhere: holds no run"));
    assert!(refuses(place.topkast("report")).contains("--help"));
    let summary = text(&place.join("run/summary.json"));
    fs::write(place.join("run/summary.json"), &summary[..summary.len() / 2]).unwrap();
    let line = refuses(place.topkast("report run"));
    assert!(line.contains("run/summary.json: ") && line.contains("train --resume run"), "{line}");
    fs::write(place.join("run/summary.json"), &summary).unwrap();
    fs::write(place.join("run/metrics.jsonl"), "nonsense\n{\"step\":1}\n").unwrap();
    assert!(refuses(place.topkast("report run")).contains("run/metrics.jsonl: line 1 is not"));
    fs::remove_file(place.join("run/metrics.jsonl")).unwrap();
    assert!(refuses(place.topkast("report run")).contains("run/metrics.jsonl: "));
    fs::write(place.join("run/config.toml"), "[sparsity]\nforward = 2\n").unwrap();
    assert!(refuses(place.topkast("report run")).contains("forward"));
}

/// As of a large sweep: each method at each level with several seeds.
#[test]
fn a_report_of_many_runs_stays_small() {
    let place = Workplace::with_run();
    let metrics = text(&place.join("run/metrics.jsonl"));
    // Ten times as long.
    let long: String = (0..10).map(|_| metrics.as_str()).collect();
    let mut runs = Vec::new();
    for method in 0..16 {
        for level in ["80-50", "90-80", "95-90", "98-95", "99-98"] {
            for seed in 1..=5 {
                let name = format!("m{method}@{level}/seed-{seed}");
                let run = place.join(&name);
                fs::create_dir_all(&run).unwrap();
                fs::copy(place.join("run/config.toml"), run.join("config.toml")).unwrap();
                fs::copy(place.join("run/summary.json"), run.join("summary.json")).unwrap();
                fs::write(run.join("metrics.jsonl"), &long).unwrap();
                runs.push(name);
            }
        }
    }
    succeeds(place.topkast(&format!("report {}", runs.join(" "))));
    let page = text(&place.join("report.html"));
    stands_alone(&page);
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
    assert!(
        page.contains("<h1>400 runs of 80 kinds</h1>") && page.contains("In the course of training, 98-95")
    );
    assert!(page.contains("4 more have no curve here"));
}
