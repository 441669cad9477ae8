//! `topkast bench refresh`

use clap::Args;
use serde_json::json;
use topkast::{Counts, Explore, Init, ReservoirKind, Scale, Seed, SparseWeight, Sparsity, Topology};

use super::{Machine, in_pool, median, quartiles, timed};
use crate::failure::{Failure, print_line};

/// Time the refresh of one layer: choosing A and B again from θ
///
/// Before each refresh the given share of B, drawn at random, shrinks to a thousandth, so that it leaves B.
#[derive(Args)]
#[command(after_help = "Example: topkast bench refresh --rows 4096 --cols 1024 --changed 0.01")]
pub(crate) struct Arguments {
    /// Outputs
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    rows: u32,
    /// Inputs
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    cols: u32,
    /// Forward sparsity
    #[arg(long, default_value_t = 0.9)]
    forward: f64,
    /// Backward sparsity
    #[arg(long, default_value_t = 0.8)]
    backward: f64,
    /// Share of B that shrinks between refreshes
    #[arg(long, default_value_t = 0.001)]
    changed: f64,
    /// Threads; 0 takes all cores
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=4096))]
    threads: u32,
    /// Refreshes
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Entries that the naive selection is given to sort: some tenths of a second. Of a larger weight it gets some rows.
const CHECKED: usize = 1 << 21;

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let total = u64::from(arguments.rows) * u64::from(arguments.cols);
    if total > 1 << 30 {
        return Err(Failure::BadInput("a weight of over 2^30 entries; choose smaller sizes".to_owned()));
    }
    if !(0.0..=1.0).contains(&arguments.changed) {
        let message = format!("--changed {}: must be from 0 to 1", arguments.changed);
        return Err(Failure::BadInput(message));
    }
    let counts = Sparsity::new(arguments.forward, arguments.backward)
        .and_then(|sparsity| sparsity.counts(total))
        .map_err(|error| Failure::BadInput(error.to_string()))?;
    in_pool(arguments.threads, |isa| {
        check(arguments, counts)?;
        let machine = Machine::measure(isa);
        let mut weight = fresh(arguments.rows as usize, arguments.cols as usize, counts)?;
        let (mut refreshes, mut transposes, mut shrunk) = (Vec::new(), Vec::new(), 0);
        for round in 1..=u64::from(arguments.rounds) {
            shrunk += shrink(&mut weight, arguments.changed, round);
            refreshes.push(timed(|| _ = weight.refresh(round)));
            transposes.push(timed(|| {
                weight.pattern().transposed();
            }));
        }
        let shrunk = shrunk as f64 / f64::from(arguments.rounds);
        report(arguments, &machine, counts, quartiles(refreshes), median(transposes), shrunk)
    })
}

fn fresh(rows: usize, cols: usize, counts: Counts) -> Result<SparseWeight, Failure> {
    let topology = Topology::TopKast(Explore::Magnitude);
    SparseWeight::new(
        rows,
        cols,
        counts,
        topology,
        &Init::kaiming_normal(Scale::Full),
        ReservoirKind::Implicit,
        Seed::new(1),
    )
    .map_err(|error| Failure::BadInput(error.to_string()))
}

/// Shrinks a share of B, drawn at random, and returns how many entries that were.
fn shrink(weight: &mut SparseWeight, share: f64, round: u64) -> usize {
    let (seed, limit) = (Seed::new(round), share * 2f64.powi(64));
    let values = weight.parameter_mut().values.iter_mut().enumerate();
    let drawn = values.filter(|(entry, _)| (seed.numbered(*entry as u64).key() as f64) < limit);
    drawn.map(|(_, value)| *value *= 1e-3).count()
}

/// Compares a few refreshes with the selection of θ sorted as a whole.
fn check(arguments: &Arguments, counts: Counts) -> Result<(), Failure> {
    let (rows, cols) = (arguments.rows as usize, arguments.cols as usize);
    let checked = (CHECKED / cols).clamp(1, rows);
    let scaled = |count: usize| (count as u64 * checked as u64 / rows as u64).max(1) as usize;
    let counts = Counts { active: scaled(counts.active), backward: scaled(counts.backward) };
    let mut weight = fresh(checked, cols, counts)?;
    // A weight of the same seed with every entry in A shows θ as it begins.
    let total = checked * cols;
    let all = fresh(checked, cols, Counts { active: total, backward: total })?;
    let mut theta = vec![0.0; total];
    held(&all).for_each(|(index, value)| theta[index] = value);
    for round in 1..=3 {
        shrink(&mut weight, arguments.changed.max(0.01), round);
        held(&weight).for_each(|(index, value)| theta[index] = value);
        weight.refresh(round);
        let mut order: Vec<u32> = (0..total as u32).collect();
        // Stable: ties go to the lower index.
        order.sort_by(|&a, &b| theta[b as usize].abs().total_cmp(&theta[a as usize].abs()));
        let (active, explore) = order[..counts.backward].split_at(counts.active);
        let pattern = weight.pattern();
        for (set, got, want) in [("A", pattern.active(), active), ("B\\A", pattern.explore(), explore)] {
            let (mut got, mut want): (Vec<u64>, Vec<u64>) =
                (got.flat_indices().collect(), want.iter().map(|&index| index.into()).collect());
            got.sort_unstable();
            want.sort_unstable();
            if got != want {
                return Err(differs(set));
            }
        }
        if held(&weight).any(|(index, value)| theta[index] != value) {
            return Err(differs("values"));
        }
    }
    Ok(())
}

fn differs(what: &str) -> Failure {
    Failure::Failed(format!("after a refresh {what} differs from the naive selection; nothing was timed"))
}

/// Flat index and value of all of B.
fn held(weight: &SparseWeight) -> impl Iterator<Item = (usize, f32)> + '_ {
    let pattern = weight.pattern();
    let indices = pattern.active().flat_indices().chain(pattern.explore().flat_indices());
    indices.map(|index| index as usize).zip(weight.parameter().values.iter().copied())
}

fn report(
    arguments: &Arguments,
    machine: &Machine,
    Counts { active, backward }: Counts,
    [low, refresh, high]: [f64; 3],
    transpose: f64,
    shrunk: f64,
) -> Result<(), Failure> {
    let nanoseconds = refresh * 1e6 / backward as f64;
    if arguments.json {
        let mut report = json!({
            "rows": arguments.rows, "cols": arguments.cols, "active": active, "backward": backward,
            "changed": arguments.changed, "changed_entries": shrunk, "rounds": arguments.rounds,
            "refresh_ms": refresh, "refresh_ms_spread": [low, high], "transpose_ms": transpose,
            "refresh_ns_per_entry": nanoseconds,
        });
        machine.add_to(&mut report);
        return print_line(report);
    }
    print_line(format!("{}x{}, |A| {active}, |B| {backward}", arguments.rows, arguments.cols))?;
    print_line(machine)?;
    print_line(format!(
        "refresh   {refresh:.3} ms (quartiles {low:.3}-{high:.3}), {nanoseconds:.1} ns an entry of B, {shrunk:.0} of them changed"
    ))?;
    print_line(format!("transpose {transpose:.3} ms, in the first backward pass after it"))
}
