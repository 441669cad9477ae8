//! PyTorch's own threads, for work that is cut into shares.
//!
//! PyTorch computes on a team of GNU OpenMP's, whose threads spin for milliseconds after an operation in wait of the next. Threads of ours would have
//! to share the processors with them: with two of each on two cores, sparse layers took 1.4 times as long. So shares are handed to that team,
//! which is there already. Where there is none, they go to a pool of ours ([`threads`](crate::threads)).

use std::any::Any;
use std::ffi::{c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, OnceLock, PoisonError};

use topkast_kernels::alone;

/// `GOMP_parallel(work, data, threads, flags)`: calls `work(data)` on each thread of a team of at most so many, the caller's among them, and returns
/// when all have. Part of the interface between compilers and libgomp, which LLVM's and Intel's OpenMP have, too.
type Parallel = unsafe extern "C" fn(extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint);

/// OpenMP's threads, in the process that first asked for them: in a fork they do not exist.
#[derive(Clone, Copy)]
pub(crate) struct Lent {
    parallel: Parallel,
    process: u32,
}

impl Lent {
    /// What PyTorch has loaded into this process, if it has.
    pub(crate) fn find() -> Option<Self> {
        static FOUND: OnceLock<Option<Lent>> = OnceLock::new();
        let process = std::process::id();
        (*FOUND.get_or_init(|| Some(Self { parallel: symbol()?, process })))
            .filter(|lent| lent.process == process)
    }

    /// Computes every share, each on one thread of a team of at most so many.
    ///
    /// # Panics
    /// With what `compute` panics with, when all threads are done.
    pub(crate) fn each<T: Send, F: Fn(T) + Sync>(self, threads: usize, shares: Vec<T>, compute: F) {
        let mut job = Job { shares: Mutex::new(shares.into_iter()), compute, panic: Mutex::new(None) };
        let threads = c_uint::try_from(threads).unwrap_or(c_uint::MAX);
        // SAFETY: the symbol is of that signature wherever it is defined; `work` gets the job that it is made for, which outlives the call. Our
        // pool beside that team costs a third of a layer's time.
        unsafe { (self.parallel)(work::<T, F>, (&raw mut job).cast(), threads, 0) };
        if let Some(panic) = job.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(panic);
        }
    }
}

/// Shares that threads take until there are none.
struct Job<T, F> {
    shares: Mutex<std::vec::IntoIter<T>>,
    compute: F,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl<T: Send, F: Fn(T) + Sync> Job<T, F> {
    fn next(&self) -> Option<T> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner).next()
    }

    fn work(&self) {
        while let Some(share) = self.next() {
            alone(|| (self.compute)(share));
        }
    }
}

/// What each thread of the team does. A panic must not unwind into OpenMP.
extern "C" fn work<T: Send, F: Fn(T) + Sync>(job: *mut c_void) {
    // SAFETY: `Lent::each` passes a job of these types, which threads share: its fields are behind locks, or `Sync`.
    let job = unsafe { &*job.cast::<Job<T, F>>() };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job.work())) {
        *job.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
    }
}

/// `GOMP_parallel` among what is loaded for everyone, as PyTorch loads it.
#[cfg(target_os = "linux")]
fn symbol() -> Option<Parallel> {
    unsafe extern "C" {
        fn dlsym(handle: *mut c_void, name: *const std::ffi::c_char) -> *mut c_void;
    }
    // SAFETY: a null handle is `RTLD_DEFAULT` on Linux, and the name ends with a zero.
    let found = unsafe { dlsym(std::ptr::null_mut(), c"GOMP_parallel".as_ptr()) };
    // SAFETY: a function of that name has that signature.
    (!found.is_null()).then(|| unsafe { std::mem::transmute::<*mut c_void, Parallel>(found) })
}

/// PyTorch's wheels have another OpenMP elsewhere, whose threads sleep.
#[cfg(not(target_os = "linux"))]
fn symbol() -> Option<Parallel> {
    None
}
