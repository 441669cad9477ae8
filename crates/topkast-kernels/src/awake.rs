//! Keeping threads awake between the products of a step.
//!
//! A thread of rayon's without work goes to sleep after some microseconds, and waking it takes tens: as long as a small product. A step has
//! products one after the other with little between, so that its threads better look for work a while longer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::yield_now;
use std::time::{Duration, Instant};

/// How long a thread that has nothing to do looks for work before it may sleep. A bound, so that threads that wait for one another
/// come free.
const LINGER: Duration = Duration::from_micros(200);

/// Whether something that other threads wait for has happened.
#[derive(Debug, Default)]
pub(crate) struct Event(AtomicBool);

impl Event {
    /// Runs `body`; the event is its end, by a panic too.
    pub(crate) fn after<R>(&self, body: impl FnOnce() -> R) -> R {
        struct Set<'a>(&'a AtomicBool);
        impl Drop for Set<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Release);
            }
        }
        let _set = Set(&self.0);
        body()
    }

    pub(crate) fn happened(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Does other threads' work until it has happened, or there has been none for a while.
    pub(crate) fn linger(&self) {
        let mut idle: Option<Instant> = None;
        while !self.happened() {
            match rayon::yield_now() {
                Some(rayon::Yield::Executed) => idle = None,
                _ if idle.get_or_insert_with(Instant::now).elapsed() > LINGER => return,
                // Where there are more threads than cores, those with work come first.
                _ => yield_now(),
            }
        }
    }
}

/// Runs `body`, a step or a pass through a network, and keeps the pool's other threads awake meanwhile.
///
/// Nothing is allocated.
pub fn awake<R: Send>(body: impl FnOnce() -> R + Send) -> R {
    let others = rayon::current_num_threads() - 1;
    if others == 0 {
        return body();
    }
    let end = Event::default();
    rayon::join(|| end.after(body), || keep(others, &end)).0
}

/// Has so many threads, this one among them, linger until the `end`.
fn keep(threads: usize, end: &Event) {
    if threads == 1 {
        return end.linger();
    }
    let taken = AtomicBool::new(false);
    let linger = || {
        // First the others' part is left for another thread: this one would run it while it lingers.
        let start = Instant::now();
        while !taken.load(Ordering::Relaxed) && !end.happened() && start.elapsed() < LINGER {
            yield_now();
        }
        end.linger();
    };
    let others = || {
        taken.store(true, Ordering::Relaxed);
        keep(threads - 1, end);
    };
    rayon::join(linger, others);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::{for_each_share, join};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::AtomicUsize;

    fn in_pools(body: impl Fn(usize) + Sync) {
        for threads in 1..6 {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| body(threads));
        }
    }

    #[test]
    fn work_is_done_once_and_the_result_comes_back() {
        in_pools(|threads| {
            for _ in 0..200 {
                let runs = AtomicUsize::new(0);
                let sum = awake(|| {
                    let count = |range: std::ops::Range<usize>, ()| {
                        runs.fetch_add(range.len(), Ordering::Relaxed);
                    };
                    for _ in 0..5 {
                        for_each_share(0..64, threads, &|run| run, (), &|(), _, _| ((), ()), &count);
                    }
                    awake(|| join(|| 1, || 2))
                });
                assert_eq!((sum, runs.into_inner()), ((1, 2), 5 * 64));
            }
        });
    }

    #[test]
    fn another_thread_takes_part_at_once_and_after_a_long_stretch_without_work() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let work = || {
            let done = AtomicBool::new(false);
            let waits = || {
                while !done.load(Ordering::Acquire) {
                    std::hint::spin_loop();
                }
            };
            // The first part never looks for work: it ends only if another thread does the second.
            join(waits, || done.store(true, Ordering::Release));
        };
        pool.install(|| {
            awake(|| {
                work();
                std::thread::sleep(5 * LINGER);
                work();
            });
        });
    }

    #[test]
    fn panics_pass_through() {
        in_pools(|_| {
            let message = |body: &(dyn Fn() + Sync)| {
                let panic = catch_unwind(AssertUnwindSafe(|| awake(body))).unwrap_err();
                *panic.downcast_ref::<&str>().unwrap()
            };
            let first = || panic!("in the first part");
            let second = || panic!("in the second part");
            assert_eq!(message(&|| panic!("in the body")), "in the body");
            assert_eq!(message(&|| ((), ()) = join(first, || ())), "in the first part");
            assert_eq!(message(&|| ((), ()) = join(|| (), second)), "in the second part");
            assert_eq!(awake(|| 3), 3);
        });
    }
}
