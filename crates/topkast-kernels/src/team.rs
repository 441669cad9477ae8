//! Threads that someone else lends for the time of a call, in place of rayon's.
//!
//! A library within another one's process finds threads there already, which may spin in wait of work: threads of our own beside them get half of
//! the processors. So the leader runs the work, and the others help:
//!
//! ```text
//! join(a, b):  put b where helpers look for jobs; run a
//!              if b is still there, take it back and run it
//!              else do others' jobs until b is done
//! help():      do jobs until the leader's work is over
//! ```

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::{from_ref, null};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::yield_now;

use crate::awake::Event;

thread_local! {
    /// The team that this thread leads or helps just now.
    static TEAM: Cell<*const Team> = const { Cell::new(null()) };
}

/// Rounds without a job after which a thread lets others have the processor.
const PATIENCE: usize = 1 << 10;

/// Threads for one piece of work: one calls [`lead`](Self::lead), all others [`help`](Self::help), or none does.
#[derive(Debug)]
pub struct Team {
    threads: usize,
    jobs: Mutex<Vec<Job>>,
    /// How many jobs there are: to look without the lock.
    waiting: AtomicUsize,
    over: Event,
}

/// A [`Task`] of someone who waits for it.
#[derive(Debug)]
struct Job {
    task: *const (),
    run: unsafe fn(*const ()),
}

// SAFETY: a job is made of a task whose closure and result may go to another thread, see `join`.
unsafe impl Send for Job {}

impl Team {
    /// Of so many threads, as far as splitting work is concerned.
    pub fn new(threads: usize) -> Self {
        // Joins are nested as often as work is halved: nothing is allocated later.
        let jobs = Mutex::new(Vec::with_capacity(64));
        Self { threads: threads.max(1), jobs, waiting: AtomicUsize::new(0), over: Event::default() }
    }

    /// Runs `body` with kernels that split their work among the team.
    pub fn lead<R>(&self, body: impl FnOnce() -> R) -> R {
        self.over.after(|| self.within(body))
    }

    /// Takes part until the leader's work is over.
    pub fn help(&self) {
        self.within(|| self.work_until(&self.over));
    }

    fn within<R>(&self, body: impl FnOnce() -> R) -> R {
        struct Restore(*const Team);
        impl Drop for Restore {
            fn drop(&mut self) {
                TEAM.set(self.0);
            }
        }
        let _restore = Restore(TEAM.replace(self));
        body()
    }

    /// Does jobs until `done`.
    fn work_until(&self, done: &Event) {
        let mut idle = 0;
        while !done.happened() {
            // The first is the largest, where work is halved again and again.
            match self.take(|jobs| (!jobs.is_empty()).then(|| jobs.remove(0))) {
                Some(job) => {
                    // SAFETY: whoever put the job there waits for its end.
                    unsafe { (job.run)(job.task) };
                    idle = 0;
                }
                None if idle < PATIENCE => {
                    idle += 1;
                    std::hint::spin_loop();
                }
                None => yield_now(),
            }
        }
    }

    fn put(&self, job: Job) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.push(job);
        self.waiting.store(jobs.len(), Ordering::Release);
    }

    fn take(&self, choose: impl FnOnce(&mut Vec<Job>) -> Option<Job>) -> Option<Job> {
        if self.waiting.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let job = choose(&mut jobs);
        self.waiting.store(jobs.len(), Ordering::Release);
        job
    }

    /// Both, on two of the team's threads if one is free.
    fn join<A, B: Send>(&self, a: impl FnOnce() -> A, b: impl FnOnce() -> B + Send) -> (A, B) {
        let task = Task { body: Cell::new(Some(b)), result: UnsafeCell::new(None), done: Event::default() };
        let address = from_ref(&task).cast();
        self.put(Job { task: address, run: run_of(&task) });
        // The task is on this stack: nothing may leave before it has ended.
        let first = catch_unwind(AssertUnwindSafe(a));
        let find = |jobs: &mut Vec<Job>| jobs.iter().rposition(|job| job.task == address);
        let back = self.take(|jobs| find(jobs).map(|at| jobs.remove(at)));
        match back {
            Some(_) => task.run(),
            None => self.work_until(&task.done),
        }
        let second = task.result.into_inner().expect("the task has ended");
        match (first, second) {
            (Ok(first), Ok(second)) => (first, second),
            (Err(panic), _) | (_, Err(panic)) => resume_unwind(panic),
        }
    }
}

/// What another thread may do in one's place.
struct Task<F, R> {
    body: Cell<Option<F>>,
    result: UnsafeCell<Option<Result<R, Box<dyn Any + Send>>>>,
    done: Event,
}

impl<F: FnOnce() -> R, R> Task<F, R> {
    fn run(&self) {
        let body = self.body.take().expect("a task runs once");
        // The owner may be gone with the task once it is done: nothing of it is touched after that, and all of it is in cells.
        self.done.after(|| {
            let result = catch_unwind(AssertUnwindSafe(body));
            // SAFETY: only who runs the task writes, and nobody reads before it is done.
            unsafe { *self.result.get() = Some(result) };
        });
    }
}

/// Runs a task that is known by its address.
fn run_of<F: FnOnce() -> R + Send, R: Send>(_: &Task<F, R>) -> unsafe fn(*const ()) {
    /// # Safety
    /// The address is that of such a task, which nobody else runs and whose owner waits for its end.
    unsafe fn run<F: FnOnce() -> R, R>(task: *const ()) {
        // SAFETY: as demanded. Gain: a layer's step under PyTorch takes two thirds of the time it has with a pool beside PyTorch's.
        unsafe { &*task.cast::<Task<F, R>>() }.run();
    }
    run::<F, R>
}

/// Calls `body` with the team of this thread, if it is in one.
fn with_team<R>(body: impl FnOnce(Option<&Team>) -> R) -> R {
    // SAFETY: the pointer is set while the team is borrowed, by `within`.
    body(unsafe { TEAM.get().as_ref() })
}

/// How many threads this one's team has, or rayon's pool.
pub(crate) fn threads() -> usize {
    with_team(|team| team.map_or_else(rayon::current_num_threads, |team| team.threads))
}

/// Both, if this thread is in a team.
pub(crate) fn join<A, B: Send, F: FnOnce() -> A, G: FnOnce() -> B + Send>(
    a: F,
    b: G,
) -> Result<(A, B), (F, G)> {
    with_team(|team| match team {
        Some(team) => Ok(team.join(a, b)),
        None => Err((a, b)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunks::combine_chunks;
    use crate::share::join;
    use std::sync::atomic::AtomicBool;

    /// The work of a team of so many threads; of its helpers all come.
    fn on<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
        let team = Team::new(threads);
        std::thread::scope(|scope| {
            (1..threads).for_each(|_| drop(scope.spawn(|| team.help())));
            team.lead(work)
        })
    }

    #[test]
    fn sums_are_those_of_one_thread() {
        let numbers: Vec<u64> = (0..10_000).collect();
        let sum =
            || combine_chunks(&numbers[..], 7, 7, &|_, part: &[u64]| part.iter().sum::<u64>(), &|a, b| a + b);
        let want = sum();
        for threads in 1..6 {
            for _ in 0..20 {
                assert_eq!(on(threads, || (super::threads(), sum())), (threads, want));
            }
        }
    }

    #[test]
    fn another_thread_does_the_second_part() {
        let done = AtomicBool::new(false);
        on(2, || {
            // The first never ends if nobody else does the second.
            let first = || {
                while !done.load(Ordering::Acquire) {
                    yield_now();
                }
            };
            join(first, || done.store(true, Ordering::Release));
        });
    }

    #[test]
    fn a_team_without_helpers_does_all_itself() {
        let here = std::thread::current().id();
        let team = Team::new(4);
        let ids = team.lead(|| join(|| std::thread::current().id(), || std::thread::current().id()));
        assert_eq!(ids, (here, here));
        assert!(TEAM.get().is_null());
    }

    #[test]
    fn panics_pass_through_and_helpers_come_free() {
        for threads in 1..4 {
            let message = |work: &(dyn Fn() + Sync)| {
                let panic = catch_unwind(AssertUnwindSafe(|| on(threads, work))).unwrap_err();
                *panic.downcast_ref::<&str>().unwrap()
            };
            let both = || {
                let first = || panic!("in the first part");
                ((), ()) = join(first, || ());
            };
            assert_eq!(message(&both), "in the first part");
            let both = || {
                let second = || panic!("in the second part");
                ((), ()) = join(|| (), second);
            };
            assert_eq!(message(&both), "in the second part");
            assert_eq!(message(&|| panic!("in the work")), "in the work");
        }
    }
}
