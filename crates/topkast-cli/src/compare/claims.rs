//! Claims about orderings: what each compares, and what the runs say to it.

use topkast_train::Metric;

use super::results::CellResults;
use super::statistics::{Sample, Welch, holm};
use super::sweep::{Cell, Claim, ClaimKind, Sweep};
use crate::failure::Failure;

/// Differences less probable than this by chance count.
const SIGNIFICANT: f64 = 0.05;

/// Two cells that a claim is about, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Comparison {
    /// Where; `None` where neither side has a level to choose.
    pub(super) level: Option<usize>,
    better: usize,
    worse: usize,
}

/// What the runs say to a comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// As claimed: a significant difference in the claimed direction, or no significant one.
    Confirmed,
    /// A significant difference the other way, or where none was claimed.
    Reversed,
    NotConfirmed,
    /// Too few runs, or none that differ.
    Untested,
}

/// A comparison made.
#[derive(Debug)]
pub(super) struct Tested {
    pub(super) level: Option<usize>,
    pub(super) verdict: Verdict,
    pub(super) test: Option<Welch>,
    /// Its p value corrected for all comparisons of the sweep that were tested.
    pub(super) corrected: Option<f64>,
}

/// One side of a claim.
struct Side {
    method: usize,
    /// Its only level (or that it has none), where it does not have several.
    fixed: Option<Option<usize>>,
}

/// What every claim of the sweep compares.
pub(super) fn comparisons(sweep: &Sweep, cells: &[Cell]) -> Result<Vec<Vec<Comparison>>, Failure> {
    sweep.claims.iter().map(|claim| of_claim(sweep, cells, claim)).collect()
}

fn of_claim(sweep: &Sweep, cells: &[Cell], claim: &Claim) -> Result<Vec<Comparison>, Failure> {
    let key = |part: &str| format!("{part} of claim {:?}", claim.text);
    let better = side(sweep, &key("better"), &claim.better)?;
    let worse = side(sweep, &key("worse"), &claim.worse)?;
    let mut shared: Vec<usize> = (0..sweep.levels.len()).collect();
    for side in [&better, &worse].into_iter().filter(|side| side.fixed.is_none()) {
        let own = sweep.levels_of(side.method);
        shared.retain(|&level| own.contains(&Some(level)));
    }
    let places: Vec<Option<usize>> = match (&claim.levels, better.fixed.is_some() && worse.fixed.is_some()) {
        (None, true) => vec![None],
        (Some(names), true) => {
            let allowed = "has no levels to choose, as neither side has several; leave it out";
            return Err(sweep.refused(&key("levels"), format!("{names:?}"), allowed));
        }
        (None, false) => shared.iter().copied().map(Some).collect(),
        (Some(names), false) => {
            sweep.known_levels(&key("levels"), names)?;
            let missing = names.iter().find(|name| !sweep.level(name).is_some_and(|at| shared.contains(&at)));
            if let Some(name) = missing {
                return Err(sweep.refused(&key("levels"), name, "is not a level of both sides"));
            }
            names.iter().map(|name| sweep.level(name)).collect()
        }
    };
    if places.is_empty() {
        let allowed = "names no level that both sides have";
        return Err(sweep.refused(
            &key("levels"),
            format!("{:?}", claim.levels.as_deref().unwrap_or(&[])),
            allowed,
        ));
    }
    let number = |side: &Side, level: Option<usize>| {
        let cell = Cell { method: side.method, level: side.fixed.unwrap_or(level) };
        cells.iter().position(|&other| other == cell).expect("a level of the method")
    };
    let compared: Vec<Comparison> = places
        .into_iter()
        .map(|level| Comparison { level, better: number(&better, level), worse: number(&worse, level) })
        .collect();
    if compared.iter().any(|comparison| comparison.better == comparison.worse) {
        return Err(sweep.refused(
            &key("worse"),
            &claim.worse,
            "is the same as better; compare it with another",
        ));
    }
    Ok(compared)
}

/// `METHOD` or `METHOD @ LEVEL`.
fn side(sweep: &Sweep, key: &str, text: &str) -> Result<Side, Failure> {
    let (name, level) = match text.split_once('@') {
        Some((name, level)) => (name.trim(), Some(level.trim())),
        None => (text.trim(), None),
    };
    let Some(method) = sweep.methods.iter().position(|method| method.name == name) else {
        let known = sweep.methods.iter().map(|method| method.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(sweep.refused(key, text, &format!("names no method; there are {known}")));
    };
    let own = sweep.levels_of(method);
    let fixed = match level {
        None if own == [None] => Some(None),
        None => None,
        Some(level) => {
            let number = sweep.level(level).filter(|&number| own.contains(&Some(number)));
            let Some(number) = number else {
                return Err(sweep.refused(key, text, "names no level of that method"));
            };
            Some(Some(number))
        }
    };
    Ok(Side { method, fixed })
}

/// Tests every comparison, claim by claim.
pub(super) fn test(
    sweep: &Sweep,
    comparisons: &[Vec<Comparison>],
    results: &[CellResults],
    metric: Metric,
) -> Vec<Vec<Tested>> {
    let sample = |cell: usize| -> &Sample { &results[cell].scores };
    let mut tested: Vec<Vec<Tested>> = sweep
        .claims
        .iter()
        .zip(comparisons)
        .map(|(claim, places)| {
            let test = |place: &Comparison| {
                let test = Welch::test(sample(place.better), sample(place.worse));
                let verdict = test.map_or(Verdict::Untested, |test| verdict(claim.kind, &test, metric));
                Tested { level: place.level, verdict, test, corrected: None }
            };
            places.iter().map(test).collect()
        })
        .collect();
    let p: Vec<f64> = tested.iter().flatten().filter_map(|tested| tested.test.map(|test| test.p)).collect();
    let with_p = tested.iter_mut().flatten().filter(|tested| tested.test.is_some());
    with_p.zip(holm(&p)).for_each(|(tested, corrected)| tested.corrected = Some(corrected));
    tested
}

fn verdict(kind: ClaimKind, test: &Welch, metric: Metric) -> Verdict {
    match (kind, test.p < SIGNIFICANT) {
        (ClaimKind::Better, true) if (test.difference > 0.0) == metric.rises() => Verdict::Confirmed,
        (ClaimKind::Equal, false) => Verdict::Confirmed,
        (ClaimKind::Better, false) => Verdict::NotConfirmed,
        (_, true) => Verdict::Reversed,
    }
}

impl Verdict {
    /// In words.
    pub(super) fn name(self, kind: ClaimKind) -> &'static str {
        match (self, kind) {
            (Self::Confirmed, ClaimKind::Better) => "confirmed",
            (Self::Confirmed, ClaimKind::Equal) => "no difference seen",
            (Self::Reversed, ClaimKind::Better) => "reversed",
            (Self::Reversed, ClaimKind::Equal) => "differ",
            (Self::NotConfirmed, _) => "not confirmed",
            (Self::Untested, _) => "not tested",
        }
    }
}

/// How often each verdict was given, in words.
pub(super) fn tally(kind: ClaimKind, tested: &[Tested]) -> String {
    let count = |verdict| tested.iter().filter(|tested| tested.verdict == verdict).count();
    let of = tested.len();
    let mut parts = vec![
        format!("{} of {of} {}", count(Verdict::Confirmed), Verdict::Confirmed.name(kind)),
        format!("{} {}", count(Verdict::Reversed), Verdict::Reversed.name(kind)),
    ];
    for verdict in [Verdict::NotConfirmed, Verdict::Untested] {
        if count(verdict) > 0 {
            parts.push(format!("{} {}", count(verdict), verdict.name(kind)));
        }
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let test = |difference, p| Welch { difference, standard_error: 1.0, freedom: 8.0, p };
        for (kind, difference, p, expected) in [
            (ClaimKind::Better, 1.0, 0.049, Verdict::Confirmed),
            (ClaimKind::Better, -1.0, 0.049, Verdict::Reversed),
            (ClaimKind::Better, 1.0, 0.05, Verdict::NotConfirmed),
            (ClaimKind::Better, -1.0, 0.5, Verdict::NotConfirmed),
            (ClaimKind::Equal, 1.0, 0.05, Verdict::Confirmed),
            (ClaimKind::Equal, 1.0, 0.01, Verdict::Reversed),
            (ClaimKind::Equal, -1.0, 0.01, Verdict::Reversed),
        ] {
            let verdict = |difference, metric| verdict(kind, &test(difference, p), metric);
            assert_eq!(verdict(difference, Metric::Accuracy), expected, "{kind:?} {difference} {p}");
            // Where less is better.
            assert_eq!(verdict(-difference, Metric::BitsPerCharacter), expected, "{kind:?} {difference} {p}");
        }
    }

    #[test]
    fn tallies_say_what_there_is() {
        let tested = |verdict| Tested { level: None, verdict, test: None, corrected: None };
        let all = [Verdict::Confirmed, Verdict::NotConfirmed, Verdict::Confirmed].map(tested);
        assert_eq!(tally(ClaimKind::Better, &all), "2 of 3 confirmed, 0 reversed, 1 not confirmed");
        let none = [tested(Verdict::Untested)];
        assert_eq!(tally(ClaimKind::Equal, &none), "0 of 1 no difference seen, 0 differ, 1 not tested");
    }
}
