//! Images in order, decoded by worker threads ahead of whoever takes them.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use topkast::Seed;

use super::super::error::DataError;
use super::super::image_file::read_rgb_image;
use super::super::order::Order;
use super::{Broken, FileList, Resampler, Window, evaluation_side};

/// Which images come in which order, and which part of each is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Plan {
    /// Epoch after epoch, shuffled, random parts; a broken image is replaced by the next good one of the epoch's order.
    Train { seed: u64 },
    /// Each once, in the order of the list, its centre; broken ones are left out.
    Evaluate,
}

/// An image of the size that the network takes.
#[derive(Default)]
pub(crate) struct Decoded {
    /// Red, green and blue planes.
    pub(crate) planes: Vec<u8>,
    /// Its class.
    pub(crate) label: u32,
}

impl AsRef<[u8]> for Decoded {
    fn as_ref(&self) -> &[u8] {
        &self.planes
    }
}

/// A stream of images from some position on. Positions count samples from the start of training. What comes at a position
/// follows from the position, not from the number of workers.
pub(crate) struct Stream {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// The position taken next.
    position: u64,
    taken: Vec<Decoded>,
}

/// What the images are made from.
pub(crate) struct Source {
    pub(crate) list: Arc<FileList>,
    pub(crate) broken: Arc<Broken>,
    pub(crate) size: usize,
    pub(crate) plan: Plan,
}

struct Shared {
    source: Source,
    orders: Mutex<VecDeque<(u64, Arc<Order>)>>,
    queue: Mutex<Queue>,
    /// There is room for more, or nothing more to do.
    room: Condvar,
    /// The image that is waited for is there, or never will be.
    ready: Condvar,
}

struct Queue {
    /// The position decoded next.
    next: u64,
    /// No more positions from here on.
    end: u64,
    /// The position taken next.
    taken: u64,
    /// A ring of those decoded but not taken.
    slots: Vec<Slot>,
    failure: Option<DataError>,
    /// Whether a worker did.
    panicked: bool,
    stop: bool,
}

#[derive(Default)]
struct Slot {
    state: State,
    image: Decoded,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum State {
    #[default]
    Empty,
    Full,
    /// Its image is broken and has no replacement.
    LeftOut,
}

impl Stream {
    /// Starts `workers` threads (0: as many as there are cores), which decode up to `ahead` images from `position` on.
    ///
    /// # Errors
    /// If there can be no such threads.
    pub(crate) fn start(
        source: Source,
        position: u64,
        ahead: usize,
        workers: usize,
    ) -> Result<Self, DataError> {
        let end = match source.plan {
            Plan::Train { .. } => u64::MAX,
            Plan::Evaluate => source.list.len() as u64,
        };
        let slots = (0..ahead.max(1)).map(|_| Slot::default()).collect();
        let queue = Queue {
            next: position,
            end,
            taken: position,
            slots,
            failure: None,
            panicked: false,
            stop: false,
        };
        let shared = Arc::new(Shared {
            source,
            orders: Mutex::default(),
            queue: Mutex::new(queue),
            room: Condvar::new(),
            ready: Condvar::new(),
        });
        let count =
            if workers > 0 { workers } else { thread::available_parallelism().map_or(1, usize::from) };
        let mut stream = Self { shared, workers: Vec::with_capacity(count), position, taken: Vec::new() };
        for _ in 0..count {
            let shared = stream.shared.clone();
            let worker = thread::Builder::new().name("decoder".to_owned()).spawn(move || shared.work());
            stream.workers.push(worker.map_err(|cause| DataError::Worker { cause })?);
        }
        Ok(stream)
    }

    /// The position that is taken next.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next `count` images, or what is left of them: fewer where some are left out or the stream ends.
    ///
    /// # Errors
    /// If too many images are broken.
    ///
    /// # Panics
    /// If a worker did, which would else be waited for without end.
    pub(crate) fn take(&mut self, count: usize) -> Result<&[Decoded], DataError> {
        let mut good = 0;
        let mut queue = self.shared.queue();
        let last = queue.end.min(self.position.saturating_add(count as u64));
        while self.position < last {
            let slot = (self.position % queue.slots.len() as u64) as usize;
            match queue.slots[slot].state {
                State::Empty => {
                    assert!(!queue.panicked, "a thread that decodes images panicked");
                    if let Some(failure) = queue.failure.take() {
                        queue.stop = true;
                        return Err(failure);
                    }
                    queue = wait(&self.shared.ready, queue);
                    continue;
                }
                State::Full => {
                    if self.taken.len() == good {
                        self.taken.push(Decoded::default());
                    }
                    std::mem::swap(&mut self.taken[good], &mut queue.slots[slot].image);
                    good += 1;
                }
                State::LeftOut => {}
            }
            queue.slots[slot].state = State::Empty;
            self.position += 1;
            queue.taken = self.position;
            self.shared.room.notify_one();
        }
        Ok(&self.taken[..good])
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.queue().stop = true;
        self.shared.room.notify_all();
        for worker in self.workers.drain(..) {
            // A worker that panicked has said so.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nobody panics while holding it.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decodes position after position until there are no more.
    fn work(&self) {
        let _alarm = Alarm(self);
        let mut resampler = Resampler::new(self.source.size);
        let mut image = Decoded::default();
        while let Some(position) = self.next_position() {
            let decoded = self.decode(position, &mut resampler, &mut image);
            let mut queue = self.queue();
            let slot = (position % queue.slots.len() as u64) as usize;
            match decoded {
                Ok(true) => {
                    std::mem::swap(&mut image, &mut queue.slots[slot].image);
                    queue.slots[slot].state = State::Full;
                }
                Ok(false) => queue.slots[slot].state = State::LeftOut,
                Err(failure) => {
                    queue.failure.get_or_insert(failure);
                    queue.stop = true;
                    self.room.notify_all();
                }
            }
            self.ready.notify_one();
        }
    }

    /// The next position for which there is room; none when there is nothing more to do.
    fn next_position(&self) -> Option<u64> {
        let mut queue = self.queue();
        loop {
            if queue.stop || queue.next >= queue.end {
                return None;
            }
            if queue.next - queue.taken < queue.slots.len() as u64 {
                queue.next += 1;
                return Some(queue.next - 1);
            }
            queue = wait(&self.room, queue);
        }
    }

    /// Makes `image` what comes at `position`. Tells whether there is such an image.
    fn decode(
        &self,
        position: u64,
        resampler: &mut Resampler,
        image: &mut Decoded,
    ) -> Result<bool, DataError> {
        let Source { list, size, plan, .. } = &self.source;
        let count = list.len() as u64;
        let (epoch, place) = (position / count, (position % count) as usize);
        let seed = match *plan {
            Plan::Evaluate => {
                let side = evaluation_side(*size);
                let centre = |width, height| Window::centre(width, height, *size, side);
                return self.try_decode(place, centre, resampler, image);
            }
            Plan::Train { seed } => seed,
        };
        let order = self.order(seed, epoch);
        let samples = order.samples();
        let draw = Seed::new(seed).named("resized crop").numbered(epoch).numbered(samples[place].into());
        for &sample in samples[place..].iter().chain(&samples[..place]) {
            let random = |width, height| Window::random(width, height, draw);
            if self.try_decode(sample as usize, random, resampler, image)? {
                return Ok(true);
            }
        }
        Err(DataError::AllBroken { images: samples.len() })
    }

    /// Makes `image` what a window shows of an image of the list. Tells whether that decodes.
    fn try_decode(
        &self,
        sample: usize,
        window: impl FnOnce(usize, usize) -> Window,
        resampler: &mut Resampler,
        image: &mut Decoded,
    ) -> Result<bool, DataError> {
        let Source { list, broken, .. } = &self.source;
        let path = list.path(sample);
        if broken.contains(&path) {
            return Ok(false);
        }
        match read_rgb_image(&path) {
            Ok((width, pixels)) => {
                let height = pixels.len() / (3 * width);
                resampler.scale(&pixels, width, window(width, height), &mut image.planes);
                image.label = list.label(sample);
                Ok(true)
            }
            Err(problem) => broken.add(path, problem).map(|()| false),
        }
    }

    /// The order of an epoch. At most those of two epochs are kept: no more are in the queue at once, but where epochs are shorter than it.
    fn order(&self, seed: u64, epoch: u64) -> Arc<Order> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, order)) = orders.iter().find(|(of, _)| *of == epoch) {
            return order.clone();
        }
        let mut order = Order::in_sequence(self.source.list.len());
        order.shuffle(seed, epoch);
        let order = Arc::new(order);
        orders.push_back((epoch, order.clone()));
        if orders.len() > 2 {
            orders.pop_front();
        }
        order
    }
}

/// Tells whoever waits for a worker that it panicked.
struct Alarm<'a>(&'a Shared);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.queue().panicked = true;
            self.0.ready.notify_one();
        }
    }
}

fn wait<'a>(condition: &Condvar, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
    condition.wait(queue).unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
