//! Language models by the command alone: trained, scored, shown, and texts gone on with.

mod common;

use std::fs;

use common::{Workplace, refuses, succeeds};
use serde_json::Value;

/// In bytes.
#[test]
fn a_language_model() {
    let place = Workplace::new();
    let text: String = (0..400).map(|number| format!("{} and {}.\n", number % 7, number % 5)).collect();
    fs::write(place.join("text"), text).unwrap();
    let settings = "data.kind=bytes data.path=text model.kind=transformer-xl model.hidden=[3]";
    let refused = refuses(place.train("other", settings));
    assert!(refused.contains("unknown field `hidden`"), "{refused}");
    let settings = "data.kind=bytes data.path=text model.kind=transformer-xl model.layers=1 model.width=16 model.heads=2 \
                    model.feed_forward=32 model.segment=8 model.memory=8 model.evaluation_memory=16 train.batch=4 train.steps=60 \
                    optimizer.kind=adam optimizer.lr=0.01 sparsity.refresh_every=1 train.evaluate_every=20";
    let printed = succeeds(place.train("run", settings));
    assert!(printed.contains("test BPC") && printed.contains("validation"), "{printed}");
    let summary: Value =
        serde_json::from_str(&fs::read_to_string(place.join("run/summary.json")).unwrap()).unwrap();
    assert_eq!(summary["task_metric"], "test_bpc");
    let bpc = summary["test_bpc"].as_f64().unwrap();
    assert!((bpc * std::f64::consts::LN_2 - summary["test_loss"].as_f64().unwrap()).abs() < 1e-9);
    let metrics = fs::read_to_string(place.join("run/metrics.jsonl")).unwrap();
    assert_eq!(metrics.matches("validation_bpc").count(), 3);
    let scored: Value = serde_json::from_str(&succeeds(place.topkast("eval run --json"))).unwrap();
    assert_eq!(scored["test_bpc"].as_f64().unwrap(), bpc);
    let generate =
        |more: &str| succeeds(place.topkast(&format!("generate run --prompt 3 --length 30 {more}")));
    let once = generate("--seed 4 --top-k 5 --top-p 0.9 --temperature 0.7");
    assert_eq!(once, generate("--seed 4 --top-k 5 --top-p 0.9 --temperature 0.7"));
    assert!(once.starts_with('3') && once.len() == "3".len() + 30 + "\n".len(), "{once}");
    let json: Value = serde_json::from_str(&generate("--json --temperature 0")).unwrap();
    assert_eq!(json["step"], 60);
    assert_eq!(from_export(&place, "--prompt 3 --length 30 --temperature 0"), generate("--temperature 0"));
    assert!(refuses(place.topkast("generate run --prompt 3 --top-p 0")).contains("top-p 0"));
    assert!(refuses(place.topkast("predict run text")).contains("topkast generate run"));
    let network = "Transformer-XL, 1 layer of 16, 2 heads, feed-forward 32";
    let inspected = succeeds(place.topkast("inspect run"));
    assert!(inspected.contains("layers.0.attention.position") && inspected.contains(network), "{inspected}");
    let page = fs::read_to_string(place.join("run/report.html")).unwrap();
    for what in [network, "Validation bits per character", "Validation bits per character against time"] {
        assert!(page.contains(what), "no {what}");
    }
    assert!(!page.contains("accuracy"), "{page}");
    // What cannot be compared has charts of its own.
    succeeds(place.train("images", "model.hidden=[8] train.steps=10"));
    succeeds(place.topkast("report run images"));
    let page = fs::read_to_string(place.join("report.html")).unwrap();
    for what in ["Validation bits per character against training time", "Test accuracy against training time"]
    {
        assert!(page.contains(what), "no {what}");
    }
}

/// What a sparse export of the run goes on with.
fn from_export(place: &Workplace, arguments: &str) -> String {
    succeeds(place.topkast("export run --format sparse network"));
    succeeds(place.topkast(&format!("generate network {arguments}")))
}

/// In words, of which some are rare and known by narrower embeddings.
#[test]
fn a_language_model_with_an_adaptive_table() {
    let place = Workplace::new();
    fs::create_dir(place.join("text")).unwrap();
    let words: String = (0..400).map(|number| format!("{} and {} .\n", number % 7, number % 23)).collect();
    ["train", "valid", "test"]
        .iter()
        .for_each(|part| fs::write(place.join(&format!("text/{part}.txt")), &words).unwrap());
    let settings = "data.kind=words data.path=text model.kind=transformer-xl model.layers=1 model.width=16 model.heads=2 \
                    model.feed_forward=32 model.segment=8 model.memory=8 model.evaluation_memory=16 train.batch=4 train.steps=60 \
                    model.adaptive_cutoffs=[4,12] model.adaptive_div_value=2 optimizer.kind=adam optimizer.lr=0.01";
    let printed = succeeds(place.train("run", settings));
    assert!(printed.contains("test perplexity") && !printed.contains("predicted"), "{printed}");
    let scored: Value = serde_json::from_str(&succeeds(place.topkast("eval run --json"))).unwrap();
    assert!(scored["test_perplexity"].is_f64() && scored.get("test_accuracy").is_none(), "{scored}");
    let inspected = succeeds(place.topkast("inspect run"));
    assert!(
        inspected.contains("adaptive embedding") && inspected.contains("embedding.2.projection"),
        "{inspected}"
    );
    let made = succeeds(place.topkast("generate run --prompt . --length 5 --temperature 0"));
    // A line ends after a full stop, always.
    assert!(made.starts_with(".\n"), "{made:?}");
    assert_eq!(from_export(&place, "--prompt . --length 5 --temperature 0"), made);
    let page = fs::read_to_string(place.join("run/report.html")).unwrap();
    assert!(page.contains("perplexity") && !page.contains("accuracy"));
}
