//! openraft's runtime: tokio, with a random source that a simulation can seed.
//!
//! Election timeouts are the only randomness that raft draws. In production they come from the
//! operating system; after [`seed`], everything drawn on this thread follows from the seed. Beside it the settings of
//! tokio itself, for processes that serve ([`serving`]).

use std::{cell::RefCell, convert::Infallible, future::Future, time::Duration};

use openraft::{OptionalSend, async_runtime::AsyncRuntime, impls::TokioRuntime};
use rand::{SeedableRng, rngs::SmallRng};
use tokio::runtime::Builder;

/// A builder of the tokio runtime that servers run on: nodes, doors, whatever answers many at once.
///
/// A task that another one wakes waits for its turn like any other. By default tokio runs it next, so that the first
/// frame to arrive wakes the batcher and leaves alone, while those behind it are not even read: without that, entries
/// of 32 clients with one call each held 8.6 claims instead of 2.9, and 19,600 claims a second went through, not 14,200.
pub fn serving(threads: usize) -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(threads).disable_lifo_slot();
    builder
}

thread_local! {
    static RANDOM: RefCell<SmallRng> = RefCell::new(rand::make_rng());
}

/// Makes everything drawn on this thread from now on repeatable. For simulations.
pub fn seed(seed: u64) {
    RANDOM.with(|random| *random.borrow_mut() = SmallRng::seed_from_u64(seed));
}

/// A random number from this thread's source: unpredictable in production, repeatable in simulation.
pub fn random_u64() -> u64 {
    RANDOM.with(|random| rand::Rng::next_u64(&mut *random.borrow_mut()))
}

/// The handle that openraft draws from: this thread's source.
#[derive(Debug)]
pub struct ThreadRandom;

impl rand::TryRng for ThreadRandom {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        RANDOM.with(|random| random.borrow_mut().try_next_u32())
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        RANDOM.with(|random| random.borrow_mut().try_next_u64())
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        RANDOM.with(|random| random.borrow_mut().try_fill_bytes(bytes))
    }
}

/// tokio, but for the random source.
#[derive(Debug)]
pub struct Runtime(TokioRuntime);

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = ThreadRandom;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }
    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }
    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }
    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }
    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }
    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }
    fn thread_rng() -> Self::ThreadLocalRng {
        ThreadRandom
    }
    fn new(threads: usize) -> Self {
        Runtime(TokioRuntime::new(threads))
    }
    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}
