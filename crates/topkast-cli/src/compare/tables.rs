//! The tables of a sweep, as rows of cells.

use serde_json::{Map, Value, json};
use topkast_train::Metric;

use super::claims::{Tested, test};
use super::plan::Plan;
use super::results::CellResults;
use super::sweep::Cell;

/// What the scores are.
pub(super) fn metric(plan: &Plan) -> &'static str {
    match plan.metric {
        Metric::Accuracy if plan.validation => "validation accuracy",
        Metric::Accuracy => "test accuracy",
        Metric::BitsPerCharacter => "test bits per character",
        Metric::Perplexity => "test perplexity",
    }
}

/// A score or a difference of scores with as many digits as say something.
pub(super) fn shown(metric: Metric, score: f64) -> String {
    match metric {
        Metric::BitsPerCharacter => format!("{score:.3}"),
        Metric::Accuracy | Metric::Perplexity => format!("{score:.2}"),
    }
}

/// What the numbers of [`scores`] are, in a sentence.
pub(super) fn legend(plan: &Plan) -> String {
    let of = if plan.validation { " (held-out training data; the test data do not count here)" } else { "" };
    let seeds = plan.sweep.seeds.len();
    let unit = if plan.metric == Metric::Accuracy { " in %" } else { "" };
    format!("{}{unit}{of}, mean ± standard error of {seeds} seed(s); n where fewer are done", metric(plan))
}

/// Methods as rows, levels as columns.
fn matrix(plan: &Plan, results: &[CellResults], show: impl Fn(&CellResults) -> String) -> Vec<Vec<String>> {
    let has = |level| plan.cells.iter().any(|cell| cell.level == level);
    let every = std::iter::once(None).chain((0..plan.sweep.levels.len()).map(Some));
    let columns: Vec<Option<usize>> = every.filter(|&level| has(level)).collect();
    let name = |level: &Option<usize>| match level {
        Some(level) => plan.sweep.levels[*level].name.clone(),
        None => "–".to_owned(),
    };
    let mut rows =
        vec![["method".to_owned()].into_iter().chain(columns.iter().map(name)).collect::<Vec<_>>()];
    for (method, about) in plan.sweep.methods.iter().enumerate() {
        let shown = |&level: &Option<usize>| {
            let cell = plan.cells.iter().position(|&cell| cell == Cell { method, level });
            cell.map_or(String::new(), |cell| show(&results[cell]))
        };
        rows.push([about.name.clone()].into_iter().chain(columns.iter().map(shown)).collect());
    }
    rows
}

/// The mean score and its standard error of every cell, and of how many runs where not of all.
pub(super) fn scores(plan: &Plan, results: &[CellResults]) -> Vec<Vec<String>> {
    matrix(plan, results, |cell| {
        let Some(mean) = cell.scores.mean() else { return "–".to_owned() };
        let error = cell.scores.standard_error().map(|error| format!(" ± {}", shown(plan.metric, error)));
        let (mean, error) = (shown(plan.metric, mean), error.unwrap_or_default());
        let n = cell.scores.n();
        let n = if n < plan.sweep.seeds.len() { format!(" (n = {n})") } else { String::new() };
        format!("{mean}{error}{n}")
    })
}

/// FLOPs, step time and bytes of every cell, each relative to dense training.
pub(super) fn costs(plan: &Plan, results: &[CellResults]) -> Vec<Vec<String>> {
    let dense_ms = plan.dense.and_then(|dense| results[dense].step_ms());
    let told = |ratio: Option<f64>| ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.3}"));
    matrix(plan, results, |cell| {
        let step = cell.step_ms().zip(dense_ms).map(|(own, dense)| own / dense);
        let bytes =
            cell.median(|summary| Some(summary.training_bytes as f64 / summary.dense_training_bytes as f64));
        [cell.flops_ratio(), step, bytes].map(told).join(" / ")
    })
}

/// Every comparison that the claims ask for, in one table.
pub(super) fn comparisons(plan: &Plan, results: &[CellResults]) -> Vec<Vec<String>> {
    let header = ["claim", "level", "difference", "95% interval", "p", "p (Holm)", "verdict"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for (number, (claim, tested)) in plan.sweep.claims.iter().zip(tests(plan, results)).enumerate() {
        for tested in tested {
            let level = tested.level.map_or("–".to_owned(), |level| plan.sweep.levels[level].name.clone());
            let [difference, interval, p] = match &tested.test {
                Some(test) => {
                    let (low, high) = test.interval();
                    let signed = |score: f64| {
                        let sign = if score < 0.0 { '-' } else { '+' };
                        format!("{sign}{}", shown(plan.metric, score.abs()))
                    };
                    let error = shown(plan.metric, test.standard_error);
                    let difference = format!("{} ± {error}", signed(test.difference));
                    [difference, format!("{} to {}", signed(low), signed(high)), probability(test.p)]
                }
                None => ["–"; 3].map(str::to_owned),
            };
            let corrected = tested.corrected.map_or("–".to_owned(), probability);
            let verdict = tested.verdict.name(claim.kind).to_owned();
            rows.push(vec![(number + 1).to_string(), level, difference, interval, p, corrected, verdict]);
        }
    }
    rows
}

/// What came of each claim at each level.
pub(super) fn tests(plan: &Plan, results: &[CellResults]) -> Vec<Vec<Tested>> {
    test(&plan.sweep, &plan.comparisons, results, plan.metric)
}

fn probability(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { format!("{p:.3}") }
}

/// One row a cell, with every seed's score; timings are medians of runs.
pub(super) fn full(plan: &Plan, results: &[CellResults]) -> Vec<Vec<String>> {
    let seeds = &plan.sweep.seeds;
    let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
    let mut header: Vec<String> =
        ["method", "level", "n", "mean", "standard_error"].map(str::to_owned).to_vec();
    header.extend(seeds.iter().map(|seed| format!("seed_{seed}")));
    let costs = ["step_ms_median", "training_bytes", "train_flops_ratio", "seconds", "peak_rss_bytes"];
    header.extend(costs.map(str::to_owned));
    let mut rows = vec![header];
    for cell in results {
        let level = cell.cell.level.map_or("", |level| &plan.sweep.levels[level].name);
        let mut row = vec![plan.sweep.methods[cell.cell.method].name.clone(), level.to_owned()];
        row.push(cell.scores.n().to_string());
        row.extend([cell.scores.mean(), cell.scores.standard_error()].map(number));
        row.extend(seeds.iter().map(|&seed| number(cell.of_seed(seed))));
        let seconds = cell.median(|summary| Some(summary.seconds));
        let costs =
            [cell.step_ms(), cell.training_bytes(), cell.flops_ratio(), seconds, cell.peak_rss_bytes()];
        row.extend(costs.map(number));
        rows.push(row);
    }
    rows
}

/// All of it for programs.
pub(super) fn json(plan: &Plan, results: &[CellResults]) -> Value {
    let sweep = &plan.sweep;
    let level_name = |level: Option<usize>| level.map(|level| sweep.levels[level].name.as_str());
    let cells = results.iter().map(|cell| {
        let seeds: Map<String, Value> = cell
            .runs
            .iter()
            .map(|run| {
                (
                    run.seed.to_string(),
                    json!({ (plan.metric.name()): cell.of_seed(run.seed), "run": run.path }),
                )
            })
            .collect();
        json!({
            "method": sweep.methods[cell.cell.method].name,
            "level": level_name(cell.cell.level),
            "n": cell.scores.n(),
            "mean": cell.scores.mean(),
            "standard_error": cell.scores.standard_error(),
            "seeds": seeds,
            "step_ms_median": cell.step_ms(),
            "training_bytes": cell.training_bytes(),
            "train_flops_ratio": cell.flops_ratio(),
            "seconds": cell.median(|summary| Some(summary.seconds)),
            "peak_rss_bytes": cell.peak_rss_bytes(),
        })
    });
    let claims = sweep.claims.iter().zip(tests(plan, results)).map(|(claim, tested)| {
        let places = tested.iter().map(|tested| {
            json!({
                "level": level_name(tested.level),
                "verdict": tested.verdict.name(claim.kind),
                "difference": tested.test.map(|test| test.difference),
                "standard_error": tested.test.map(|test| test.standard_error),
                "interval": tested.test.map(|test| test.interval()),
                "p": tested.test.map(|test| test.p),
                "p_holm": tested.corrected,
            })
        });
        json!({
            "text": claim.text,
            "source": claim.source,
            "better": claim.better,
            "worse": claim.worse,
            "comparisons": places.collect::<Vec<_>>(),
        })
    });
    json!({
        "title": sweep.title,
        "metric": metric(plan),
        "cells": cells.collect::<Vec<_>>(),
        "claims": claims.collect::<Vec<_>>(),
    })
}
