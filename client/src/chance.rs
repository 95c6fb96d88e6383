//! The client's randomness: keys, jitter, and which endpoint is asked first.
//!
//! It comes from the operating system; after [`seed`], everything drawn on this thread follows from the seed.

use std::cell::RefCell;

use rand::{
    RngExt, SeedableRng,
    distr::{Distribution, StandardUniform},
    rngs::SmallRng,
};

thread_local! {
    static RANDOM: RefCell<SmallRng> = RefCell::new(rand::make_rng());
}

/// Makes everything clients draw on this thread from now on repeatable. For simulations.
pub fn seed(seed: u64) {
    RANDOM.with(|random| *random.borrow_mut() = SmallRng::seed_from_u64(seed));
}

/// Something drawn; also for those who build on the client, and are simulated with it.
pub fn random<T>() -> T
where
    StandardUniform: Distribution<T>,
{
    RANDOM.with(|chance| chance.borrow_mut().random())
}

/// A number below `end`.
///
/// # Panics
/// `end` is zero.
pub fn below(end: u64) -> u64 {
    RANDOM.with(|chance| chance.borrow_mut().random_range(0..end))
}
