//! An allocator that counts: how many allocations there were, and how large the largest was, on all threads together.

#![allow(dead_code, reason = "each test file uses its part")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

#[global_allocator]
static COUNTING: Counting = Counting { count: AtomicUsize::new(0), largest: AtomicUsize::new(0) };

struct Counting {
    count: AtomicUsize,
    largest: AtomicUsize,
}

impl Counting {
    fn note(&self, size: usize) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.largest.fetch_max(size, Ordering::Relaxed);
    }
}

// SAFETY: every request goes to the system's allocator as it is, and noting it does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.note(layout.size());
        // SAFETY: the caller's promises are those that the system's allocator wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.note(size);
        // SAFETY: as above; `old` came from the system's allocator.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

/// What `work` allocated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allocated {
    /// How many allocations, growing ones included.
    pub(crate) count: usize,
    /// Bytes of the largest.
    pub(crate) largest: usize,
}

/// Runs `work` and tells what was allocated meanwhile, on whatever thread.
pub(crate) fn allocated_by<T>(work: impl FnOnce() -> T) -> (T, Allocated) {
    let before = COUNTING.count.load(Ordering::SeqCst);
    COUNTING.largest.store(0, Ordering::SeqCst);
    let result = work();
    let count = COUNTING.count.load(Ordering::SeqCst) - before;
    (result, Allocated { count, largest: COUNTING.largest.load(Ordering::SeqCst) })
}
