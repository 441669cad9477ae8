//! PyTorch's own threads.
//!
//! PyTorch computes on a team of GNU OpenMP's, whose threads spin for milliseconds after an operation in wait of the next. Threads of ours would have
//! to share the processors with them: with two of each on two cores, sparse layers took 1.4 times as long. So that team computes, which is there
//! already; where there is none, a pool of ours does ([`threads`](crate::threads)).

use std::any::Any;
use std::ffi::{c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use topkast_kernels::Team;

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
        let found = FOUND.get_or_init(|| Some(Self { parallel: symbol()?, process }));
        found.filter(|lent| lent.process == process)
    }

    /// Runs `body` with kernels that split their work among a team of at most so many threads.
    ///
    /// # Panics
    /// With what `body` panics with.
    pub(crate) fn run<R: Send>(self, threads: usize, body: impl FnOnce() -> R + Send) -> R {
        let mut call =
            Call { team: Team::new(threads), led: AtomicBool::new(false), body: Some(body), result: None };
        let threads = c_uint::try_from(threads).unwrap_or(c_uint::MAX);
        let (work, call_address) = (work_of(&call), (&raw mut call).cast());
        // SAFETY: the symbol is of that signature wherever it is defined; `work` gets the call that it is made for, which outlives it. Gain: our pool
        // beside that team costs a third of a layer's time.
        unsafe { (self.parallel)(work, call_address, threads, 0) };
        match call.result.expect("one thread leads") {
            Ok(result) => result,
            Err(panic) => resume_unwind(panic),
        }
    }
}

/// What a team is for; body and result are the leader's alone.
struct Call<F, R> {
    team: Team,
    led: AtomicBool,
    body: Option<F>,
    result: Option<Result<R, Box<dyn Any + Send>>>,
}

/// What each thread does for a call like this.
fn work_of<F: FnOnce() -> R + Send, R: Send>(_: &Call<F, R>) -> extern "C" fn(*mut c_void) {
    extern "C" fn work<F: FnOnce() -> R, R>(call: *mut c_void) {
        let call = call.cast::<Call<F, R>>();
        // SAFETY: `Lent::run` passes a call of these types, whose team and flag threads share.
        let (team, led) = unsafe { (&(*call).team, &(*call).led) };
        if led.swap(true, Ordering::AcqRel) {
            return team.help();
        }
        // SAFETY: one thread comes here, the first.
        let (body, result) = unsafe { (&mut (*call).body, &mut (*call).result) };
        let body = body.take().expect("it is led once");
        // A panic must not unwind into OpenMP.
        *result = Some(catch_unwind(AssertUnwindSafe(|| team.lead(body))));
    }
    work::<F, R>
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
