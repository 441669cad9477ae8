//! The whole page.

use topkast_train::{Flops, LayerSummary, Metric, Summary};

use super::bars::{Bars, Row};
use super::chart::{Axis, Chart, Line};
use super::group::{Group, Panel, panels};
use super::html::escape;
use super::metric::{self, metrics};
use super::run_data::RunData;
use super::scale::{Unit, number, percent};
use super::series::{Point, smoothed, together};
use super::style::definitions;
use super::tables::{self, mib};
use crate::network::describe;

/// Nothing is loaded and nothing runs, whatever names and settings say.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// Points in all curves of a kind, which bounds the size of the file; and in one at most.
const POINTS: usize = 6000;
const POINTS_OF_CURVE: usize = 200;

const NUMBER: Unit = Unit::Number("");
const SECONDS: Unit = Unit::Number(" s");

/// The page as HTML.
pub(super) fn page(groups: &[Group<'_>]) -> String {
    let title = title(groups);
    let panels = panels(groups);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\
         <title>{title} – Topkast</title><style>{}</style></head><body>{}\
         <header><h1>{title}</h1><p>{}</p></header><main>",
        include_str!("style.css"),
        definitions(),
        escape(&about(groups)),
    );
    out.push_str(&tables::results(groups));
    out.push_str(&section("What it cost", &costs(groups, panels.len() > 1)));
    let curves: usize = panels.iter().map(|panel| panel.groups.len()).sum();
    let most = (POINTS / curves.max(1)).clamp(20, POINTS_OF_CURVE);
    for panel in &panels {
        out.push_str(&section(&heading(panel), &(curves_of(panel, most) + &left_out(panel))));
    }
    if groups.len() <= panels[0].groups.len() {
        out.push_str(&section("Layers", &layers(groups)));
    }
    out.push_str(&tables::settings(groups));
    let version = env!("CARGO_PKG_VERSION");
    out + &format!("</main><footer><p>Written by topkast {version}.</p></footer></body></html>\n")
}

fn title(groups: &[Group<'_>]) -> String {
    let runs: usize = groups.iter().map(|group| group.runs.len()).sum();
    match groups {
        [group] => escape(&group.name),
        _ if runs == groups.len() => format!("{runs} runs"),
        _ => format!("{runs} runs of {} kinds", groups.len()),
    }
}

/// What a single run, or the first of several, is.
fn about(groups: &[Group<'_>]) -> String {
    let run = groups[0].runs[0];
    let layers = run.summary.as_ref().map_or(&[][..], |summary| &summary.layers);
    let name = |value: serde_json::Result<serde_json::Value>| {
        value.ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    };
    let data = name(serde_json::to_value(run.config.data.kind));
    let network = format!("{data}, {}", describe(&run.config.model, layers));
    let sparsity = &run.config.sparsity;
    match groups {
        [_] => format!(
            "{}, forward sparsity {}, backward sparsity {}; {network}.",
            name(serde_json::to_value(sparsity.method)),
            percent(sparsity.forward),
            percent(sparsity.backward)
        ),
        _ => format!("{network}. Runs that differ by seed only are shown by their mean, least and largest."),
    }
}

fn heading(panel: &Panel<'_, '_>) -> String {
    panel
        .level
        .map_or("In the course of training".to_owned(), |level| format!("In the course of training, {level}"))
}

fn section(title: &str, figures: &str) -> String {
    match figures {
        "" => String::new(),
        _ => format!("<section><h2>{}</h2><div class=\"figures\">{figures}</div></section>", escape(title)),
    }
}

fn left_out(panel: &Panel<'_, '_>) -> String {
    match panel.left_out {
        0 => String::new(),
        more => format!(
            "<p class=\"wide\">{more} more have no curve here; the table and the charts of costs have all.</p>"
        ),
    }
}

/// A line for each group, of what all of its runs have.
fn lines<'b>(
    groups: &[&'b Group<'_>],
    most: usize,
    series: impl Fn(&RunData) -> Vec<(f64, f64)>,
) -> Vec<Line<'b>> {
    let line = |group: &&'b Group<'_>| {
        let runs: Vec<_> = group.runs.iter().map(|run| series(run)).collect();
        Line { name: &group.name, label: group.label(), style: group.style, points: together(&runs, most) }
    };
    groups.iter().map(line).collect()
}

fn curves_of(panel: &Panel<'_, '_>, most: usize) -> String {
    let groups = &panel.groups;
    let of =
        |title: &str, x, y, lines| Chart { title: title.to_owned(), x, y, lines, connected: true }.html();
    let epoch = || Axis::from_zero("epoch", NUMBER);
    let changes = lines(groups, most, |run| run.series("epoch", "mask_change_mean"));
    let scores = |metric| {
        let title = metric::title(metric, groups.iter().copied());
        // Few epochs of a text may be all of a training.
        let (at, x) = match metric {
            Metric::Accuracy => ("epoch", epoch()),
            Metric::BitsPerCharacter | Metric::Perplexity => ("step", Axis::from_zero("step", NUMBER)),
        };
        let seconds = Axis::from_zero("seconds", SECONDS);
        let scores = |x: &'static str| lines(groups, most, move |run| metric::scores(metric, run, x));
        of(&title, x, metric::axis(metric), scores(at))
            + &of(&format!("{title} against time"), seconds, metric::axis(metric), scores("seconds"))
    };
    [
        of(
            "Training loss, smoothed",
            epoch(),
            Axis::logarithmic("loss", NUMBER),
            lines(groups, most, |run| smoothed(&run.series("epoch", "loss"))),
        ),
        metrics(groups.iter().copied()).into_iter().map(scores).collect(),
        of(
            "Share of A that an epoch changed: mean of layers, and least to largest",
            epoch(),
            Axis::from_zero("changed", Unit::Percent),
            with_layers(groups, changes, most),
        ),
        of(
            "Share of C that has been in B so far",
            epoch(),
            Axis::from_zero("used", Unit::Percent),
            lines(groups, most, |run| run.series("epoch", "reservoir_used")),
        ),
    ]
    .concat()
}

/// The lines of mean changes with bands over layers, too, not runs alone.
fn with_layers<'b>(groups: &[&'b Group<'_>], means: Vec<Line<'b>>, most: usize) -> Vec<Line<'b>> {
    let least = lines(groups, most, |run| run.series("epoch", "mask_change_min"));
    let largest = lines(groups, most, |run| run.series("epoch", "mask_change_max"));
    let band = |((mean, least), largest): ((Line<'b>, Line<'b>), Line<'b>)| {
        let points = mean.points.iter().zip(&least.points).zip(&largest.points);
        let points =
            points.map(|((mean, least), largest)| Point { low: least.low, high: largest.high, ..*mean });
        Line { points: points.collect(), ..mean }
    };
    means.into_iter().zip(least).zip(largest).map(band).collect()
}

/// What each group came to, against what it took.
fn costs(groups: &[Group<'_>], many: bool) -> String {
    let mut out = String::new();
    if groups.len() > 1 {
        for metric in metrics(groups.iter()) {
            let (flops, seconds) =
                (Axis::from_zero("FLOPs", Unit::Percent), Axis::from_zero("seconds", SECONDS));
            let of_dense = "training FLOPs, relative to dense";
            out += &against(metric, of_dense, flops, groups, |summary| summary.train_flops_ratio);
            out += &against(metric, "training time", seconds, groups, |summary| summary.seconds);
        }
    }
    if !many {
        out += &split("Training FLOPs, relative to dense", Unit::Percent, groups, flops_parts);
        out += &split("Where the time went", SECONDS, groups, phase_parts);
    }
    out
}

/// A mark for each group with finished runs, by what they cost.
fn against(metric: Metric, what: &str, x: Axis, groups: &[Group<'_>], cost: fn(&Summary) -> f64) -> String {
    let title = format!("{} against {what}", metric::title(metric, groups.iter()));
    let mut lines = Vec::new();
    for group in groups {
        let score = |run: &RunData| run.score().filter(|_| run.metric() == metric);
        let point = group.point(|run| run.summary.as_ref().map(cost), score);
        let points = point.into_iter().collect();
        lines.push(Line { name: &group.name, label: group.label(), style: group.style, points });
    }
    Chart { title, x, y: metric::axis(metric), lines, connected: false }.html()
}

fn flops_parts(summary: &Summary) -> Vec<(&'static str, f64)> {
    let Flops { forward, input_gradient, weight_gradient, refresh } = summary.flops;
    vec![
        ("forward", forward),
        ("input gradient", input_gradient),
        ("weight gradient", weight_gradient),
        ("dense gradients", refresh),
    ]
}

fn phase_parts(summary: &Summary) -> Vec<(&'static str, f64)> {
    let phases = summary.phase_seconds;
    vec![
        ("load", phases.load),
        ("refresh", phases.refresh),
        ("forward", phases.forward),
        ("loss", phases.loss),
        ("input gradient", phases.input_gradient),
        ("weight gradient", phases.weight_gradient),
        ("update", phases.update),
        ("evaluation", phases.evaluation),
    ]
}

/// Bars of the parts that something has, a bar for each group with finished runs: the means of these.
fn split(
    title: &str,
    unit: Unit,
    groups: &[Group<'_>],
    parts: fn(&Summary) -> Vec<(&'static str, f64)>,
) -> String {
    let mut names = Vec::new();
    let row = |group: &Group<'_>| {
        let first = group.runs.iter().find_map(|run| run.summary.as_ref())?;
        names = parts(first).into_iter().map(|(name, _)| name).collect();
        let mean = |part: usize| {
            group.mean(|run| run.summary.as_ref().map(|summary| parts(summary)[part].1)).unwrap_or(0.0)
        };
        let bar: Vec<(usize, f64)> = (0..names.len()).map(|part| (part, mean(part))).collect();
        let note = unit.tell(bar.iter().map(|(_, length)| length).sum());
        Some(Row { name: group.name.clone(), note, bars: vec![bar] })
    };
    let rows = groups.iter().filter_map(row).collect();
    Bars { title: title.to_owned(), unit, parts: names, rows }.html()
}

/// What the layers of a finished run of each group hold.
fn layers(groups: &[Group<'_>]) -> String {
    let all = || {
        groups.iter().flat_map(|group| {
            let summary = group.runs.iter().find_map(|run| run.summary.as_ref());
            let layers = summary.map_or(&[][..], |summary| &summary.layers);
            layers.iter().map(move |layer| match groups.len() {
                1 => (layer.name.clone(), layer),
                _ => (format!("{}: {}", group.name, layer.name), layer),
            })
        })
    };
    let densities = Bars {
        title: "What is computed with and what is trained, of each layer".to_owned(),
        unit: Unit::Percent,
        parts: vec!["A", "B∖A"],
        rows: all().map(|(name, layer)| density(name, layer)).collect(),
    };
    let memory = Bars {
        title: "Memory of each layer: weights, gradients, optimizer state, indices".to_owned(),
        unit: Unit::Number(" MiB"),
        parts: vec!["sparse", "reservoir", "dense"],
        rows: all().map(|(name, layer)| bytes(name, layer)).collect(),
    };
    densities.html() + &memory.html()
}

fn density(name: String, layer: &LayerSummary) -> Row {
    let of_n = |entries: u64| entries as f64 / layer.n.max(1) as f64;
    let (active, backward) = (of_n(layer.active), of_n(layer.backward));
    let note = match layer.sparse {
        true => format!("A {}, B {}", percent(active), percent(backward)),
        false => "dense".to_owned(),
    };
    Row { name, note, bars: vec![vec![(0, active), (1, backward - active)]] }
}

fn bytes(name: String, layer: &LayerSummary) -> Row {
    let in_mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let held = in_mib(layer.training_bytes);
    let (reservoir, dense) = (in_mib(layer.reservoir_bytes), in_mib(layer.dense_training_bytes));
    if !layer.sparse {
        return Row { name, note: mib(layer.training_bytes as f64), bars: vec![vec![(2, dense)]] };
    }
    let note = format!("{} of {}", number(held + reservoir), mib(layer.dense_training_bytes as f64));
    Row { name, note, bars: vec![vec![(0, held), (1, reservoir)], vec![(2, dense)]] }
}
