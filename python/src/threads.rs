//! Whose threads compute: PyTorch's, or those of pools of ours, one for each number of threads asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use topkast_kernels::alone;

use crate::lent::Lent;
use crate::wrong;

/// More than any machine has: a bound on what a wrong number could start.
const MOST: usize = 4096;

/// The pools, and the process that started them: in a fork their threads do not exist.
struct Pools {
    process: u32,
    pools: BTreeMap<usize, Arc<ThreadPool>>,
}

static POOLS: Mutex<Option<Pools>> = Mutex::new(None);

/// A pool of so many threads.
fn pool(threads: usize) -> PyResult<Arc<ThreadPool>> {
    if !(1..=MOST).contains(&threads) {
        return Err(wrong(format!("threads must be 1 to {MOST}, not {threads}")));
    }
    let process = std::process::id();
    let mut all = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    if all.as_ref().is_none_or(|all| all.process != process) {
        // Those of the parent cannot be ended from here.
        std::mem::forget(all.replace(Pools { process, pools: BTreeMap::new() }));
    }
    let all = all.as_mut().expect("just made");
    if let Some(pool) = all.pools.get(&threads) {
        return Ok(pool.clone());
    }
    let name = |number| format!("topkast-{number}");
    let pool = ThreadPoolBuilder::new().num_threads(threads).thread_name(name).build().map_err(wrong)?;
    Ok(all.pools.entry(threads).or_insert(Arc::new(pool)).clone())
}

/// Runs `body` without the GIL, in a pool of so many threads.
pub(crate) fn run<R: Send>(py: Python<'_>, threads: usize, body: impl FnOnce() -> R + Send) -> PyResult<R> {
    let pool = pool(threads)?;
    Ok(py.detach(|| pool.install(body)))
}

/// Runs `body`, which has so many shares for [`Team::each`], without the GIL: on PyTorch's threads if there is a share for each.
pub(crate) fn run_shares<R: Send>(
    py: Python<'_>,
    threads: usize,
    shares: usize,
    body: impl FnOnce(Team) -> R + Send,
) -> PyResult<R> {
    match Lent::find() {
        Some(lent) if (2..=shares.min(MOST)).contains(&threads) => {
            Ok(py.detach(|| alone(|| body(Team { threads, lent: Some(lent) }))))
        }
        _ => run(py, threads, || body(Team { threads, lent: None })),
    }
}

/// The threads of a call.
#[derive(Clone, Copy)]
pub(crate) struct Team {
    threads: usize,
    lent: Option<Lent>,
}

impl Team {
    /// Share beside share, each on one thread, if there are enough for the threads; else one after the other, each on all of them.
    pub(crate) fn each<T: Send>(self, shares: Vec<T>, compute: impl Fn(T) + Sync) {
        match self.lent {
            _ if shares.len() < self.threads.max(2) => shares.into_iter().for_each(compute),
            Some(lent) => lent.each(self.threads, shares, compute),
            None => shares.into_par_iter().for_each(|share| alone(|| compute(share))),
        }
    }
}
