//! What runs are judged by, as charts and tables tell it.

use topkast_train::Metric;

use super::chart::Axis;
use super::group::Group;
use super::run_data::RunData;
use super::scale::Unit;

/// Those of the groups' runs, each once.
pub(super) fn metrics<'a>(groups: impl Iterator<Item = &'a Group<'a>>) -> Vec<Metric> {
    let mut metrics = Vec::new();
    for metric in groups.flat_map(|group| &group.runs).map(|run| run.metric()) {
        if !metrics.contains(&metric) {
            metrics.push(metric);
        }
    }
    metrics
}

/// Its name.
pub(super) fn name(metric: Metric) -> &'static str {
    match metric {
        Metric::Accuracy => "accuracy",
        Metric::BitsPerCharacter => "bits per character",
        Metric::Perplexity => "perplexity",
    }
}

/// Its name and what its scores are of, as in a title.
pub(super) fn title<'a>(metric: Metric, groups: impl Iterator<Item = &'a Group<'a>>) -> String {
    let runs = groups.flat_map(|group| &group.runs).filter(|run| run.metric() == metric);
    let mut on: Vec<&str> = runs.map(|run| run.scored_on()).collect();
    on.dedup();
    let on = match on[..] {
        ["test"] => "Test",
        ["validation"] => "Validation",
        _ => "Test or validation",
    };
    format!("{on} {}", name(metric))
}

/// The axis of its scores.
pub(super) fn axis(metric: Metric) -> Axis {
    let unit = if metric == Metric::Accuracy { Unit::Percent } else { Unit::Number("") };
    Axis::linear(name(metric), unit)
}

/// A score, or how far scores are apart.
pub(super) fn tell(metric: Metric, score: f64) -> String {
    match metric {
        Metric::Accuracy => format!("{:.2}%", score * 100.0),
        Metric::BitsPerCharacter => format!("{score:.4}"),
        Metric::Perplexity => format!("{score:.2}"),
    }
}

/// A run's scores in the course of training against what is logged as `x`, if it is judged by this.
pub(super) fn scores(metric: Metric, run: &RunData, x: &str) -> Vec<(f64, f64)> {
    if run.metric() == metric { run.series(x, &run.score_name()) } else { Vec::new() }
}
