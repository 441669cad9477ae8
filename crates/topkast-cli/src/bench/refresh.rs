//! `topkast bench refresh`

use std::time::Instant;

use clap::{Args, ValueEnum};
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
    /// Where C is kept
    #[arg(long, value_enum, default_value_t = Kept::Implicit)]
    reservoir: Kept,
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

#[derive(Clone, Copy, ValueEnum)]
enum Kept {
    /// Initial values follow from their rank; only those that have changed are stored
    Implicit,
    /// All of it is written out
    Dense,
}

/// Entries that the naive selection is given to sort: some tenths of a second. Of a larger weight it gets a corner, in which
/// no fewer than so many are trained.
const CHECKED: usize = 1 << 21;
const CHECKED_COLUMNS: usize = 1 << 11;
const CHECKED_BACKWARD: usize = 256;

/// Entries of B at most: some 16 GiB with all that is kept of each.
const LARGEST: usize = 1 << 28;
/// Entries of θ at most where all are written out.
const LARGEST_WRITTEN_OUT: u64 = 1 << 30;

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let total = u64::from(arguments.rows) * u64::from(arguments.cols);
    if matches!(arguments.reservoir, Kept::Dense) && total > LARGEST_WRITTEN_OUT {
        let message = "--reservoir dense: a weight of over 2^30 entries; choose smaller sizes or implicit";
        return Err(Failure::BadInput(message.to_owned()));
    }
    if !(0.0..=1.0).contains(&arguments.changed) {
        let message = format!("--changed {}: must be from 0 to 1", arguments.changed);
        return Err(Failure::BadInput(message));
    }
    let counts = Sparsity::new(arguments.forward, arguments.backward)
        .and_then(|sparsity| sparsity.counts(total))
        .map_err(|error| Failure::BadInput(error.to_string()))?;
    if counts.backward > LARGEST {
        let message = format!("{} entries in B, over 2^28; choose a higher --backward", counts.backward);
        return Err(Failure::BadInput(message));
    }
    in_pool(arguments.threads, |isa| {
        check(arguments, counts)?;
        let machine = Machine::measure(isa);
        let start = Instant::now();
        let mut weight = arguments.fresh(arguments.rows as usize, arguments.cols as usize, counts)?;
        let start_ms = start.elapsed().as_secs_f64() * 1e3;
        let (mut refreshes, mut transposes, mut shrunk) = (Vec::new(), Vec::new(), 0);
        for round in 1..=u64::from(arguments.rounds) {
            shrunk += shrink(&mut weight, arguments.changed, round);
            refreshes.push(timed(|| _ = weight.refresh(round)));
            transposes.push(timed(|| {
                weight.pattern().transposed();
            }));
        }
        let times = Times {
            start: start_ms,
            refresh: quartiles(refreshes),
            transpose: median(transposes),
            shrunk: shrunk as f64 / f64::from(arguments.rounds),
        };
        times.report(arguments, &machine, &weight)
    })
}

impl Arguments {
    fn fresh(&self, rows: usize, cols: usize, counts: Counts) -> Result<SparseWeight, Failure> {
        let topology = Topology::TopKast(Explore::Magnitude);
        let init = Init::kaiming_normal(Scale::Full);
        let kind = match self.reservoir {
            Kept::Implicit => ReservoirKind::Implicit,
            Kept::Dense => ReservoirKind::Dense,
        };
        SparseWeight::new(rows, cols, counts, topology, &init, kind, Seed::new(1))
            .map_err(|error| Failure::BadInput(error.to_string()))
    }
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
    let cols = cols.min(CHECKED_COLUMNS);
    let rows = rows.min(CHECKED / cols);
    let total = rows * cols;
    let share = total as f64 / (f64::from(arguments.rows) * f64::from(arguments.cols));
    let scaled = |count: usize| (count as f64 * share) as usize;
    let backward = scaled(counts.backward).max(CHECKED_BACKWARD.min(total));
    let counts = Counts { active: scaled(counts.active).clamp(1, backward), backward };
    let mut weight = arguments.fresh(rows, cols, counts)?;
    // A weight of the same seed with every entry in A shows θ as it begins.
    let all = arguments.fresh(rows, cols, Counts { active: total, backward: total })?;
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

/// What was measured, in milliseconds.
struct Times {
    /// Making the weight.
    start: f64,
    /// Quartiles of a refresh.
    refresh: [f64; 3],
    transpose: f64,
    /// Entries that shrank before each refresh.
    shrunk: f64,
}

impl Times {
    fn report(&self, arguments: &Arguments, machine: &Machine, weight: &SparseWeight) -> Result<(), Failure> {
        let Self { start, refresh: [low, refresh, high], transpose, shrunk } = *self;
        let Counts { active, backward } = weight.counts();
        let nanoseconds = refresh * 1e6 / backward as f64;
        let reservoir = weight.reservoir().expect("not static");
        let (dormant, frontier) = (reservoir.dormant(), reservoir.frontier());
        if arguments.json {
            let mut report = json!({
                "rows": arguments.rows, "cols": arguments.cols, "active": active, "backward": backward,
                "changed": arguments.changed, "changed_entries": shrunk, "rounds": arguments.rounds,
                "start_ms": start, "refresh_ms": refresh, "refresh_ms_spread": [low, high],
                "transpose_ms": transpose, "refresh_ns_per_entry": nanoseconds,
                "dormant": dormant, "frontier": frontier,
                "training_bytes": weight.training_bytes(), "reservoir_bytes": reservoir.bytes(),
            });
            machine.add_to(&mut report);
            return print_line(report);
        }
        print_line(format!("{}x{}, |A| {active}, |B| {backward}", arguments.rows, arguments.cols))?;
        print_line(machine)?;
        print_line(format!("start     {start:.1} ms, to choose A and B for the first time"))?;
        print_line(format!(
            "refresh   {refresh:.3} ms (quartiles {low:.3}-{high:.3}), {nanoseconds:.1} ns an entry of B, {shrunk:.0} of them changed"
        ))?;
        print_line(format!("transpose {transpose:.3} ms, in the first backward pass after it"))?;
        let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
        print_line(format!(
            "memory    {:.1} MiB, reservoir {:.1} MiB with {dormant} dormant entries",
            mib(weight.training_bytes()),
            mib(reservoir.bytes())
        ))
    }
}
