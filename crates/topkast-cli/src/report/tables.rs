//! What runs came to, and what they were asked to do, in words.

use std::collections::BTreeMap;

use serde_json::Value;
use topkast_train::{Config, Summary};

use super::group::Group;
use super::html::table;
use super::metric::{self, metrics};
use super::run_data::RunData;
use super::scale::{number, percent};

/// One row for each group.
pub(super) fn results(groups: &[Group<'_>]) -> String {
    let judged_by = match metrics(groups.iter())[..] {
        [metric] => metric::name(metric),
        _ => "score",
    };
    let header = [
        "",
        "runs",
        judged_by,
        "loss",
        "steps",
        "seconds",
        "step",
        "FLOPs of dense",
        "|A|/n",
        "|B|/n",
        "training memory",
        "of dense",
        "reservoir",
        "peak memory",
    ];
    let rows: Vec<Vec<String>> = groups.iter().map(result).collect();
    let title = if groups.len() == 1 { "What it came to" } else { "What they came to" };
    table(title, &header.map(str::to_owned), &rows)
}

fn result(group: &Group<'_>) -> Vec<String> {
    let finished = group.runs.iter().filter(|run| run.summary.is_some()).count();
    let runs = match group.runs.len() - finished {
        0 => finished.to_string(),
        left => format!("{finished}, and {left} not finished"),
    };
    let told = |value: fn(&Summary) -> f64, tell: fn(f64) -> String| {
        group.mean(|run| run.summary.as_ref().map(value)).map_or("–".to_owned(), tell)
    };
    let loss = |run: &RunData| {
        let summary = run.summary.as_ref()?;
        Some(summary.validation_loss.unwrap_or(summary.test_loss))
    };
    let peak = |run: &RunData| run.summary.as_ref()?.peak_rss_bytes.map(|bytes| bytes as f64);
    vec![
        group.name.clone(),
        runs,
        score(group),
        group.mean(loss).map_or("–".to_owned(), |loss| format!("{loss:.4}")),
        group.mean(|run| Some(run.steps() as f64)).map_or("–".to_owned(), |steps| format!("{steps:.0}")),
        told(|summary| summary.seconds, |seconds| format!("{seconds:.1}")),
        told(|summary| summary.step_ms_median, |ms| format!("{ms:.2} ms")),
        told(|summary| summary.train_flops_ratio, percent),
        told(|summary| share(summary.active, summary.parameters), percent),
        told(|summary| share(summary.backward, summary.parameters), percent),
        told(|summary| summary.training_bytes as f64, mib),
        told(|summary| share(summary.training_bytes, summary.dense_training_bytes), percent),
        told(|summary| summary.reservoir_bytes as f64, mib),
        group.mean(peak).map_or("–".to_owned(), mib),
    ]
}

/// The mean, of several runs with its standard error.
fn score(group: &Group<'_>) -> String {
    let metric = group.runs[0].metric();
    let all: Vec<f64> = group.runs.iter().filter_map(|run| run.score()).collect();
    let count = all.len() as f64;
    let mean = all.iter().sum::<f64>() / count;
    match all.len() {
        0 => "–".to_owned(),
        1 => metric::tell(metric, mean),
        _ => {
            let squares: f64 = all.iter().map(|score| (score - mean).powi(2)).sum();
            let error = (squares / (count - 1.0) / count).sqrt();
            format!("{} ± {}", metric::tell(metric, mean), metric::tell(metric, error))
        }
    }
}

/// A part of a whole; of nothing, all.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

/// Bytes as they are told.
pub(super) fn mib(bytes: f64) -> String {
    format!("{} MiB", number(bytes / f64::from(1 << 20)))
}

/// Where the groups' configs differ; of a single group, where it differs from the built-in one. Seeds and threads, which decide
/// no result by themselves, are left out.
pub(super) fn settings(groups: &[Group<'_>]) -> String {
    let mut rows: Vec<(String, BTreeMap<String, String>)> =
        groups.iter().map(|group| (group.name.clone(), common(group))).collect();
    let mut title = "How their settings differ";
    if let [_] = rows[..] {
        title = "Settings that are not the default";
        rows.push(("default".to_owned(), flat(&Config::default())));
    }
    let value =
        |settings: &BTreeMap<String, String>, key: &str| settings.get(key).cloned().unwrap_or_default();
    let keys: Vec<String> = rows
        .iter()
        .flat_map(|(_, settings)| settings.keys().cloned())
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .filter(|key| rows.iter().any(|(_, settings)| value(settings, key) != value(&rows[0].1, key)))
        .collect();
    if keys.is_empty() {
        return String::new();
    }
    let header: Vec<String> = std::iter::once(String::new()).chain(keys.iter().cloned()).collect();
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(name, settings)| {
            std::iter::once(name).chain(keys.iter().map(|key| value(&settings, key))).collect()
        })
        .collect();
    table(title, &header, &rows)
}

/// The settings of a group, where its runs differ all of theirs.
fn common(group: &Group<'_>) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for run in &group.runs {
        for (key, value) in flat(&run.config) {
            let values = all.entry(key).or_default();
            if !values.contains(&value) {
                values.push(value);
            }
        }
    }
    all.into_iter().map(|(key, values)| (key, values.join(" or "))).collect()
}

fn flat(config: &Config) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    flatten("", &serde_json::to_value(config).expect("a config is plain data"), &mut out);
    out.remove("seed");
    out.remove("train.threads");
    out
}

fn flatten(key: &str, value: &Value, out: &mut BTreeMap<String, String>) {
    let Value::Object(inner) = value else {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        out.insert(key.to_owned(), text);
        return;
    };
    for (name, value) in inner {
        let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
        flatten(&key, value, out);
    }
}
