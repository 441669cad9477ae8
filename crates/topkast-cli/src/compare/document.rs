//! Sweeps as Markdown.

use std::collections::BTreeSet;
use std::time::SystemTime;

use topkast_train::{Metric, cpu_model};

use super::claims::tally;
use super::plan::Plan;
use super::progress::duration;
use super::results::CellResults;
use super::tables::{comparisons, costs, legend, scores, tests};
use crate::table::markdown;

/// A sweep in a document.
pub(super) struct Chapter {
    pub(super) plan: Plan,
    pub(super) results: Vec<CellResults>,
    /// Its drawing's file, beside the document, if it has one.
    pub(super) figure: Option<String>,
}

/// What a section says besides scores and what follows from them.
#[derive(Clone, Copy)]
pub(super) enum Besides<'a> {
    /// Nothing: the same runs give the same text, whatever else the machine does.
    Nothing,
    /// Times and bytes, and a drawing.
    Costs { figure: Option<&'a str> },
}

/// One document of several sweeps, made by `command`.
pub(super) fn document(command: &str, chapters: &[Chapter]) -> String {
    let summaries = || chapters.iter().flat_map(|chapter| &chapter.results).flat_map(|cell| &cell.runs);
    let isa: BTreeSet<&str> = summaries().map(|run| run.summary.isa.as_str()).collect();
    let threads: BTreeSet<usize> = summaries().map(|run| run.summary.threads).collect();
    let listed = |values: Vec<String>| values.join(", ");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut text = format!(
        "# Results\n\nMade by\n\n```sh\n{command}\n```\n\non {}, {} ({cores} cores; {}; {} thread(s) a run). \
         Scores are the same on every call; times are not.\n",
        date(SystemTime::now()),
        cpu_model().unwrap_or_else(|| "an unnamed processor".to_owned()),
        listed(isa.into_iter().map(str::to_owned).collect()),
        listed(threads.iter().map(usize::to_string).collect()),
    );
    for Chapter { plan, results, figure } in chapters {
        text += "\n";
        text += &section(plan, results, Besides::Costs { figure: figure.as_deref() });
    }
    text
}

/// A sweep under a heading.
pub(super) fn section(plan: &Plan, results: &[CellResults], besides: Besides) -> String {
    let sweep = &plan.sweep;
    let mut text = format!("## {}\n", sweep.title);
    if let Some(about) = &sweep.about {
        text += &format!("\n{}\n", about.trim());
    }
    text += &format!("\n{}:\n\n{}", legend(plan), markdown(&scores(plan, results)));
    if let Besides::Costs { figure } = besides {
        if let Some(figure) = figure {
            text += &format!("\n![{}]({figure})\n", legend(plan));
        }
        text += &format!("\n{}:\n\n{}", dense_costs(plan, results), markdown(&costs(plan, results)));
    }
    let notes: Vec<String> = sweep
        .methods
        .iter()
        .filter_map(|method| Some(format!("- {}: {}\n", method.name, method.about.as_ref()?.trim())))
        .collect();
    if !notes.is_empty() {
        text += &format!("\n{}", notes.concat());
    }
    if !sweep.claims.is_empty() {
        text += &format!("\n{}", claims(plan, results));
    }
    if let Besides::Costs { .. } = besides {
        let seconds: f64 = results.iter().map(CellResults::seconds).sum();
        let runs: usize = results.iter().map(|cell| cell.runs.len()).sum();
        text += &format!("\nComputing time: {} for {runs} of {} runs.\n", duration(seconds), plan.runs.len());
    }
    text
}

/// What the costs are relative to.
fn dense_costs(plan: &Plan, results: &[CellResults]) -> String {
    let dense = plan.dense.map(|dense| &results[dense]);
    let absolute = dense.and_then(|dense| Some((dense.step_ms()?, dense.training_bytes()?)));
    let absolute = absolute
        .map_or(String::new(), |(ms, bytes)| format!(" ({ms:.2} ms, {:.1} MiB)", bytes / f64::from(1 << 20)));
    format!(
        "Training FLOPs / median step time / training memory (weights, gradients, optimizer state, indices), relative to \
         dense{absolute}"
    )
}

/// What came of the claims.
fn claims(plan: &Plan, results: &[CellResults]) -> String {
    let tests = tests(plan, results);
    let mut text = "Claims:\n\n".to_owned();
    for (number, (claim, tested)) in plan.sweep.claims.iter().zip(&tests).enumerate() {
        let source = claim.source.as_ref().map(|source| format!(" ({source})")).unwrap_or_default();
        text += &format!("{}. {}{source}: **{}**\n", number + 1, claim.text, tally(claim.kind, tested));
    }
    let tested = tests.iter().flatten().filter(|tested| tested.test.is_some()).count();
    let by_chance = tested as f64 * 0.05;
    let (what, unit) = match plan.metric {
        Metric::Accuracy => ("accuracies", "percentage points"),
        Metric::BitsPerCharacter => ("scores", "bits per character"),
        Metric::Perplexity => ("perplexities", "words"),
    };
    text += &format!(
        "\nEach comparison is Welch's two-sided t-test between the seeds' {what}, not paired, in {unit} ± \
         standard error of the difference; it counts if p < 0.05. {tested} were made: were there no differences at all, some \
         {by_chance:.1} of them would count nevertheless. Holm's p is corrected for that. Where no difference is claimed, what \
         the interval leaves out is excluded, and no more.\n\n"
    );
    text + &markdown(&comparisons(plan, results))
}

/// The day, in universal time, as YYYY-MM-DD.
fn date(time: SystemTime) -> String {
    let days = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400);
    let (mut year, mut left) = (1970, days);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while left >= months[month] {
        left -= months[month];
        month += 1;
    }
    format!("{year}-{:02}-{:02}", month + 1, left + 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Against `date -u -d @SECONDS +%F`.
    #[test]
    fn dates() {
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (86_399, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_709_164_800, "2024-02-29"),
            (1_735_689_599, "2024-12-31"),
            (1_735_689_600, "2025-01-01"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }
}
