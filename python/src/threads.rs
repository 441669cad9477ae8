//! Whose threads compute: PyTorch's, or those of pools of ours, one for each number of threads asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
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

/// Runs `body` without the GIL, on so many threads: PyTorch's where it has any, else those of a pool; on the caller's where that is one.
pub(crate) fn run<R: Send>(py: Python<'_>, threads: usize, body: impl FnOnce() -> R + Send) -> PyResult<R> {
    if !(1..=MOST).contains(&threads) {
        return Err(wrong(format!("threads must be 1 to {MOST}, not {threads}")));
    }
    match Lent::find() {
        _ if threads == 1 => Ok(py.detach(|| alone(body))),
        Some(lent) => Ok(py.detach(|| lent.run(threads, body))),
        None => {
            let pool = pool(threads)?;
            Ok(py.detach(|| pool.install(body)))
        }
    }
}
